"use strict";
// A video's page: the state that all panels share, the filters, the table, the export.

class Page {
  constructor(rows) {
    this.rows = rows;
    this.view = [0, rows.duration];
    this.filters = { people: new Set(), regions: new Set(), emotions: new Set(), aus: new Set(), confidence: 0 };
    this.inView = true;
    this.selected = -1;
    this.groups = GROUPS_AT_ONCE;
    this.cache = new Map();
    this.panels = [];
  }

  // --- what the panels ask ---

  seriesOf(person) {
    if (!this.cache.has(person)) this.cache.set(person, this.rows.series(person, this.filters));
    return this.cache.get(person);
  }

  shownPeople() {
    const { people } = this.filters;
    return this.rows.order.filter((one) => !people.size || people.has(one.number));
  }

  setView(from, to) {
    const whole = this.rows.duration, span = Math.min(whole, Math.max(Math.min(SHORTEST_VIEW_S, whole), to - from));
    if (!(to > from)) return;
    const start = Math.max(0, Math.min(whole - span, from));
    if (Math.abs(start - this.view[0]) < 1e-6 && Math.abs(start + span - this.view[1]) < 1e-6) return;
    this.view = [start, start + span];
    this.later(() => this.moved());
  }

  zoom(factor, centre = this.selected >= 0 ? this.rows.time(this.selected) : (this.view[0] + this.view[1]) / 2) {
    const [from, to] = this.view, middle = Math.max(from, Math.min(to, centre));
    this.setView(middle - (middle - from) * factor, middle + (to - middle) * factor);
  }

  select(row, { table = true } = {}) {
    if (row < 0 || row === undefined) return;
    this.selected = row;
    const time = this.rows.time(row), [from, to] = this.view;
    if (this.rows.end(row) <= from || this.rows.start(row) >= to) this.setView(time - (to - from) / 2, time + (to - from) / 2);
    this.moment.show(row);
    if (table) this.table.choose(row);
    this.panels.forEach((panel) => panel.mark());
    this.say(`${this.rows.person(row).name}, ${clock(this.rows.time(row), 1)}, ${words(this.rows.region(row))}: ${this.rows.sentence(row)}`);
  }

  selectPicture(number) {
    const picture = this.rows.pictures[number];
    const person = this.rows.people.find((one) => one.id === picture.track);
    const rows = this.rows.byPerson[person.number].filter((row) => this.rows.columns.frame[row] === picture.frame);
    this.select(rows.find((row) => this.rows.columns.region[row] === this.rows.wholeFace) ?? rows[0]);
  }

  step(side) {
    const series = this.seriesOf(this.rows.columns.person[this.selected]);
    const at = windowAt(series, this.rows.start(this.selected)) + side;
    if (at >= 0 && at < series.n) this.select(series.row[at]);
  }

  /** Take the keyboard to the moment; Escape there brings it back to `from`. */
  focusMoment(from) { this.cameFrom = from; this.moment.node.focus(); this.moment.node.scrollIntoView({ block: "nearest" }); }

  say(text) { this.voice.textContent = text; }

  later(act) {
    this.pending = act;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.pending(); });
  }

  // --- what follows a change ---

  moved() {
    this.overview.update();
    this.panels.forEach((panel) => panel.update());
    this.stretch.textContent = `${clock(this.view[0], 1)} to ${clock(this.view[1], 1)}`;
    this.fillTable();
  }

  filtered() {
    const heard = `${[...this.filters.regions]}/${this.filters.confidence}`; // what the series depend on
    if (heard !== this.heard) this.cache.clear();
    this.heard = heard;
    this.buildPanels();
    this.fillTable();
    this.showFilters();
  }

  fillTable() {
    this.passing = this.rows.passing(this.sorted, this.filters, this.inView ? this.view : null);
    this.table.show(this.passing);
    this.table.choose(this.selected, false);
    this.count.textContent = `${this.passing.length.toLocaleString("en")} of ${plural(this.rows.count, "row")}`;
    this.nothing.hidden = this.passing.length > 0;
  }

  buildPanels() {
    this.panels.forEach((panel) => panel.destroy());
    const people = this.shownPeople(), shown = people.slice(0, this.groups);
    this.panels = shown.map((person) => new PersonPanels(this.rows, this, person));
    const more = people.length - shown.length;
    this.groupBox.replaceChildren(...this.panels.map((panel) => panel.node), ...(more > 0 ? [el("button", { type: "button", class: "more",
      onclick: () => { this.groups += 2 * GROUPS_AT_ONCE; this.buildPanels(); } }, `Show more people (${more})`)] : []));
    this.panels.forEach((panel) => panel.build());
    this.overview.paint();
    this.overview.update();
  }

  themed() {
    repaintSwatches();
    this.panels.forEach((panel) => panel.build());
    this.overview?.paint();
  }

  // --- the page ---

  build(root) {
    const { rows } = this, { header } = rows, video = header.video, name = fileName(video.path);
    this.voice = el("p", { class: "unseen", "aria-live": "polite" });
    const facts = [clock(rows.duration, rows.duration < 60 ? 1 : 0), video.width && `${video.width}×${video.height}`, video.fps && `${video.fps.toFixed(2)} fps`,
      plural(rows.people.length, "person", "people"), plural(video.windows ?? 0, "window"), plural(rows.count, "description"), header.models.filter(Boolean).join(", ")];
    const top = el("header", { class: "top" },
      el("div", { class: "crumbs" }, el("a", { href: "../index.html" }, "← All videos"), themeButton(() => this.themed())),
      el("h1", {}, name), el("p", { class: "facts" }, facts.filter(Boolean).join(" · ")),
      video.error ? el("p", { class: "warning" }, `⚠ ${video.error.replace(`${video.path}: `, "")}`) : null,
      header.note ? el("p", { class: "warning quiet" }, header.note) : null);
    if (!rows.count && !rows.people.length) {
      root.replaceChildren(top, el("section", { class: "card nothing" }, el("h2", {}, "No face was found in this video"),
        el("p", {}, `${plural(video.sampled_frames ?? 0, "frame")} of it ${video.sampled_frames === 1 ? "was" : "were"} looked at. Faces smaller than the run's --min-face are not sought.`)));
      return;
    }
    this.overview = new Overview(rows, this);
    this.moment = new Moment(rows, this);
    this.groupBox = el("div", { class: "groups" });
    this.stretch = el("output", { class: "stretch", "aria-label": "Stretch in view" });
    const tool = (label, sign, act) => el("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick: act }, sign);
    const span = () => (this.view[1] - this.view[0]) / 2;
    const tools = el("div", { class: "tools", role: "toolbar", "aria-label": "Stretch in view" }, this.stretch,
      tool("Earlier", "◀", () => this.setView(this.view[0] - span(), this.view[1] - span())), tool("Later", "▶", () => this.setView(this.view[0] + span(), this.view[1] + span())),
      tool("Zoom in", "+", () => this.zoom(0.5)), tool("Zoom out", "−", () => this.zoom(2)), tool("Show all", "All", () => this.setView(0, rows.duration)));
    const timeline = el("section", { class: "timeline", "aria-label": "Timeline" }, el("div", { class: "head" }, el("h2", {}, "Timeline"), tools),
      el("p", { class: "faint hint" }, "Drag over a panel or the strip to zoom; click for the moment. Action units: darker is likelier, a dot is active."), this.overview.node, this.groupBox);
    root.replaceChildren(top, this.buildFilters(), el("div", { class: "columns" }, timeline, this.moment.node), this.buildTable(), this.voice);
    this.buildPanels();
    this.showFilters();
    this.table.sortBy("time", false);
    this.moved();
    const first = this.seriesOf(rows.order[0].number);
    const telling = this.mostTelling();
    if (telling >= 0) this.select(telling, { table: false }); else if (first.n) this.select(first.row[0], { table: false }); else this.moment.show(-1);
    this.table.choose(this.selected, false);
  }

  /** The row that opens the page: a whole face on a kept picture, in a window that much is said of. */
  mostTelling() {
    let best = -1, most = -1;
    const said = new Map(), key = (row) => `${this.rows.columns.person[row]}/${this.rows.columns.start_ms[row]}`;
    for (let row = 0; row < this.rows.count; row++) said.set(key(row), (said.get(key(row)) || 0) + 2);
    for (let row = 0; row < this.rows.count; row++) {
      if (this.rows.columns.region[row] !== this.rows.wholeFace) continue;
      const kept = this.rows.pictureOf.has(`${this.rows.person(row).id}/${this.rows.columns.frame[row]}`);
      const worth = this.rows.activeAus(row).length + said.get(key(row)) + (kept ? 100 : 0);
      if (worth > most) [best, most] = [row, worth];
    }
    return best;
  }

  buildFilters() {
    const { rows, filters } = this;
    const toggle = (set, value) => () => { if (set.has(value)) set.delete(value); else set.add(value); this.filtered(); };
    const chip = (set, value, label, ...content) => el("button", { type: "button", class: "chip", "aria-pressed": "false", "data-value": label,
      onclick: toggle(set, value), "aria-label": label }, ...content);
    const people = rows.order.map((one) => {
      const picture = rows.pictures[one.picture];
      const node = chip(filters.people, one.number, one.name, picture ? el("img", { src: `data:image/jpeg;base64,${picture.jpeg}`, alt: "", loading: "lazy" }) : el("span", { class: "noface", "aria-hidden": "true" }, String(one.id)),
        el("span", {}, one.name, el("small", {}, `${clock(one.seconds)}${one.emotion ? ` · ${one.emotion}` : ""}`)));
      node.classList.add("personchip");
      return node;
    });
    const count = (test) => { let n = 0; for (let row = 0; row < rows.count; row++) if (test(row)) n++; return n; };
    const emotions = rows.emotions.map((name, i) => chip(filters.emotions, name, name, swatch(name), name, el("small", {}, String(count((row) => rows.columns.emotion[row] === i)))));
    const regions = rows.header.regions.map((name, i) => chip(filters.regions, i, words(name), words(name), el("small", {}, String(count((row) => rows.columns.region[row] === i)))));
    const units = rows.aus.map((au) => chip(filters.aus, au, au, el("b", {}, au), ` ${rows.header.auNames[au]} `, el("small", {}, String(count((row) => rows.isActive(row, au))))));
    const slider = el("input", { type: "range", id: "confidence", min: 0, max: 1, step: 0.05, value: 0, "aria-describedby": "confidence-means",
      oninput: () => { filters.confidence = Number(slider.value); value.textContent = filters.confidence.toFixed(2); this.later(() => { this.filtered(); this.moved(); }); } });
    const value = el("output", { for: "confidence" }, "0.00");
    const reset = el("button", { type: "button", class: "quiet reset", onclick: () => {
      for (const set of [filters.people, filters.regions, filters.emotions, filters.aus]) set.clear();
      filters.confidence = slider.value = 0;
      value.textContent = "0.00";
      this.filtered();
    } }, "Clear filters");
    this.reset = reset;
    const field = (label, name, chips) => el("div", { class: `field ${name}`, role: "group", "aria-label": label }, el("span", { class: "label" }, label), el("div", { class: "chips" }, ...chips));
    this.auSummary = el("summary", {}, "");
    return el("section", { class: "filters card", "aria-label": "Filters" },
      field("People", "people", people), field("Emotion", "emotions", emotions), field("Region", "regions", regions),
      el("div", { class: "field units" }, el("details", {}, this.auSummary, el("div", { class: "chips", role: "group", "aria-label": "Action units" }, ...units)),
        el("div", { class: "confidence" }, el("label", { for: "confidence" }, "Confidence at least"), slider, value,
          el("span", { class: "faint", id: "confidence-means" }, "of the emotion, or of the chosen action units")), reset));
  }

  showFilters() {
    const { people, regions, emotions, aus, confidence } = this.filters;
    const mark = (selector, set, values) => document.querySelectorAll(`${selector} .chip`).forEach((node, i) => node.setAttribute("aria-pressed", String(set.has(values[i]))));
    mark(".people", people, this.rows.order.map((one) => one.number));
    mark(".emotions", emotions, this.rows.emotions);
    mark(".regions", regions, this.rows.header.regions.map((_, i) => i));
    mark(".units", aus, this.rows.aus);
    this.auSummary.textContent = aus.size ? `Action units: ${[...aus].sort().join(", ")}` : "Action units: any";
    this.reset.disabled = !(people.size || regions.size || emotions.size || aus.size || confidence);
  }

  buildTable() {
    const { rows } = this;
    const emotion = (row) => el("span", { class: "feel" }, swatch(rows.emotion(row)), rows.emotion(row));
    const columns = [
      { key: "time", label: "Time", class: "time", sort: (row) => rows.columns.time_ms[row], cell: (row) => clock(rows.time(row), 1) },
      { key: "person", label: "Person", class: "who", sort: (row) => rows.person(row).id, cell: (row) => rows.person(row).name },
      { key: "region", label: "Region", class: "where", sort: (row) => rows.region(row), cell: (row) => words(rows.region(row)) },
      { key: "emotion", label: "Emotion", class: "what", sort: (row) => rows.emotion(row), cell: emotion },
      { key: "sure", label: "Sure", class: "sure number", sort: (row) => rows.emotionScore(row), cell: (row) => rows.emotionScore(row)?.toFixed(2) ?? "" },
      { key: "aus", label: "Action units", class: "units", sort: (row) => rows.activeAus(row).length, cell: (row) => rows.activeAus(row).map((au) => au.slice(2)).join(" ") },
      { key: "age", label: "Age", class: "age number", sort: (row) => rows.tenth("age", row), cell: (row) => { const age = rows.tenth("age", row); return age === null ? "" : String(Math.round(age)); } },
      { key: "activity", label: "Activity", class: "activity number", sort: (row) => rows.activity(row), cell: (row) => rows.activity(row)?.toFixed(1) ?? "" },
      { key: "text", label: "Description", class: "text", sort: (row) => rows.sentence(row), cell: (row) => rows.sentence(row) },
    ];
    this.table = new LongTable("Descriptions", columns, {
      open: (row, how) => {
        this.select(row, { table: false });
        this.table.choose(row);
        if (how === "enter") this.focusMoment(this.table.view);
        else if (how === "click" && coarse()) this.moment.node.scrollIntoView();
      },
      sorted: () => { this.sorted = this.table.ordered(Array.from({ length: rows.count }, (_, row) => row)); this.fillTable(); },
    });
    this.count = el("output", { class: "count", "aria-live": "polite" });
    this.nothing = el("p", { class: "faint", hidden: true }, "Nothing passes these filters.");
    const follow = el("input", { type: "checkbox", id: "inview", checked: true, onchange: () => { this.inView = follow.checked; this.fillTable(); } });
    return el("section", { class: "table", "aria-label": "Descriptions" },
      el("div", { class: "head" }, el("h2", {}, "Descriptions"), this.count,
        el("label", { class: "check" }, follow, "only the stretch in view"),
        el("button", { type: "button", class: "export", onclick: () => download(`${fileName(rows.header.video.path).replace(/\.[^.]*$/, "")}.csv`, this.csv()) }, "↓ CSV of these rows")),
      this.table.node, this.nothing);
  }

  /** The rows of the table, in its order, with all scores. */
  csv() {
    const { rows } = this, names = rows.emotions.map((name) => `emotion_${name}`);
    const head = ["video_id", "track_id", "start_s", "end_s", "time_s", "frame_index", "region", "x0", "y0", "x1", "y1", "activity", "aus", "emotion", ...names, "age", "age_low", "age_high", ...rows.aus, "description", "model"];
    const c = rows.columns;
    return csv([head, ...this.passing.map((row) => [rows.header.video.video_id, rows.person(row).id, rows.start(row), rows.end(row), rows.time(row), c.frame[row], rows.region(row),
      c.x0[row], c.y0[row], c.x1[row], c.y1[row], rows.activity(row), rows.activeAus(row).join(" "), rows.emotion(row), ...rows.emotions.map((name) => rows.score(`p_${name}`, row)),
      rows.tenth("age", row), rows.tenth("age_low", row), rows.tenth("age_high", row), ...rows.aus.map((au) => rows.score(au, row)), rows.sentence(row), rows.header.models[c.model[row]]])]);
  }
}

(async () => {
  const root = document.getElementById("app");
  try {
    const rows = new Rows(await openPayload("payload"), JSON.parse(document.getElementById("pictures").textContent));
    new Page(rows).build(root);
    document.body.dataset.ready = "yes";
  } catch (error) {
    root.prepend(el("p", { class: "warning" }, `This page cannot be shown (${error.message}). It needs a browser of 2024 or later.`));
    throw error;
  }
})();
