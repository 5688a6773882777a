"use strict";
// A video's page: the state that its panels share, the filters, the table, the export.

class Page {
  constructor(rows) {
    this.rows = rows;
    this.view = [0, rows.duration];
    this.filters = { tracks: new Set(), regions: new Set(), emotions: new Set(), aus: new Set(), score: 0 };
    this.inView = true;
    this.selected = -1;
    this.tracksShown = TRACKS_AT_ONCE;
    this.cache = new Map();
    this.panels = [];
  }

  // --- asked by the panels ---

  seriesOf(track) {
    if (!this.cache.has(track)) this.cache.set(track, this.rows.series(track, this.filters));
    return this.cache.get(track);
  }

  shownTracks() {
    const { tracks } = this.filters;
    return this.rows.order.filter((one) => !tracks.size || tracks.has(one.number));
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
    this.say(`${this.rows.track(row).name}, ${clock(this.rows.time(row), 1)}, ${words(this.rows.region(row))}: ${this.rows.sentence(row)}`);
  }

  selectPicture(number) {
    const picture = this.rows.pictures[number];
    const track = this.rows.tracks.find((one) => one.id === picture.track);
    const rows = this.rows.byTrack[track.number].filter((row) => this.rows.frame(row) === picture.frame);
    this.select(rows.find((row) => this.rows.columns.region[row] === this.rows.wholeFace) ?? rows[0]);
  }

  /** Choose the window of a track that holds a time, or the nearest one. */
  selectTime(track, time) {
    const at = this.rows.windowAt(track.number, time);
    if (at >= 0) this.select(this.rows.leadingRow(this.rows.windowsByTrack[track.number][at]));
  }

  /** Choose the next (1) or previous (-1) window of the chosen track. */
  step(side) {
    const windows = this.rows.windowsByTrack[this.rows.columns.track[this.selected]];
    const at = windows.indexOf(this.rows.window(this.selected)) + side;
    if (at >= 0 && at < windows.length) this.select(this.rows.leadingRow(windows[at]));
  }

  /** Move the keyboard focus to the moment; Escape there moves it back to `from`. */
  focusMoment(from) { this.cameFrom = from; this.moment.node.focus(); this.moment.node.scrollIntoView({ block: "nearest" }); }

  say(text) { this.voice.textContent = text; }

  later(act) {
    this.pending = act;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.pending(); });
  }

  // --- after a change ---

  moved() {
    this.overview.update();
    this.panels.forEach((panel) => panel.update());
    this.stretch.textContent = `${clock(this.view[0], 1)} to ${clock(this.view[1], 1)}`;
    this.fillTable();
  }

  filtered() {
    const dependsOn = `${[...this.filters.regions]}/${this.filters.score}`;
    if (dependsOn !== this.seriesDependOn) this.cache.clear();
    this.seriesDependOn = dependsOn;
    this.buildPanels();
    this.fillTable();
    this.showFilters();
  }

  fillTable() {
    this.passing = this.rows.passing(this.sorted, this.filters, this.inView ? this.view : null);
    this.table.show(this.passing);
    this.table.choose(this.selected, false);
    this.count.textContent = `${this.passing.length.toLocaleString("en")} of ${plural(this.rows.count, "description")}`;
    this.nothing.hidden = this.passing.length > 0;
  }

  buildPanels() {
    this.panels.forEach((panel) => panel.destroy());
    const tracks = this.shownTracks(), shown = tracks.slice(0, this.tracksShown);
    this.panels = shown.map((track) => new TrackPanels(this.rows, this, track));
    const more = tracks.length - shown.length;
    this.panelBox.replaceChildren(...this.panels.map((panel) => panel.node), ...(more > 0 ? [el("button", { type: "button", class: "more",
      onclick: () => { this.tracksShown += 2 * TRACKS_AT_ONCE; this.buildPanels(); } }, `Show more tracks (${more})`)] : []));
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
      rows.who(rows.tracks.length), plural(header.tables.windows.count, "window"), plural(rows.count, "description"), header.models.filter(Boolean).join(", ")];
    const top = el("header", { class: "top" },
      el("div", { class: "crumbs" }, el("a", { href: "../index.html" }, "← All videos"), themeButton(() => this.themed())),
      el("h1", {}, name), el("p", { class: "facts" }, facts.filter(Boolean).join(" · ")),
      video.error ? el("p", { class: "warning" }, `⚠ ${video.error.replace(`${video.path}: `, "")}`) : null,
      ...header.notes.map((note) => el("p", { class: "warning quiet" }, note.text)),
      header.pictureNote ? el("p", { class: "warning quiet" }, header.pictureNote) : null);
    if (!rows.count && !rows.tracks.length) {
      root.replaceChildren(top, el("section", { class: "card nothing" }, el("h2", {}, "No face was found in this video"),
        el("p", {}, `${plural(video.sampled_frames ?? 0, "frame")} of it ${video.sampled_frames === 1 ? "was" : "were"} searched. Faces smaller than the run's --min-face are left out.`)));
      return;
    }
    this.overview = new Overview(rows, this);
    this.moment = new Moment(rows, this);
    this.panelBox = el("div", { class: "groups" });
    this.stretch = el("output", { class: "stretch", "aria-label": "Time in view" });
    const tool = (label, sign, act) => el("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick: act }, sign);
    const span = () => (this.view[1] - this.view[0]) / 2;
    const tools = el("div", { class: "tools", role: "toolbar", "aria-label": "Time in view" }, this.stretch,
      tool("Earlier", "◀", () => this.setView(this.view[0] - span(), this.view[1] - span())), tool("Later", "▶", () => this.setView(this.view[0] + span(), this.view[1] + span())),
      tool("Zoom in", "+", () => this.zoom(0.5)), tool("Zoom out", "−", () => this.zoom(2)), tool("Show all", "All", () => this.setView(0, rows.duration)));
    const timeline = el("section", { class: "timeline", "aria-label": "Timeline" }, el("div", { class: "head" }, el("h2", {}, "Timeline"), tools),
      el("p", { class: "faint hint" }, `Drag over a panel or the strip to zoom; click to see a moment. Action units: the darker, the more probable; underlined where active.${rows.samples ? "" : " One value per window."}`), this.overview.node, this.panelBox);
    root.replaceChildren(top, this.buildFilters(), el("div", { class: "columns" }, timeline, this.moment.node), this.buildTable(), this.voice);
    this.buildPanels();
    this.showFilters();
    this.table.sortBy("time", false);
    this.moved();
    const opening = this.mostDescribed();
    if (opening >= 0) this.select(opening, { table: false }); else this.moment.show(rows.count ? 0 : -1);
    this.table.choose(this.selected, false);
  }

  /** The row that is chosen first: a whole face with a picture, in a window with many descriptions and active units. */
  mostDescribed() {
    let best = this.rows.count ? 0 : -1, most = -1;
    for (let row = 0; row < this.rows.count; row++) {
      if (row !== this.rows.leadingRow(this.rows.window(row))) continue;
      const kept = this.rows.pictureOf.has(`${this.rows.track(row).id}/${this.rows.frame(row)}`);
      const worth = this.rows.activeAus(row).length + 2 * this.rows.rowsByWindow.get(this.rows.window(row)).length + (kept ? 100 : 0);
      if (worth > most) [best, most] = [row, worth];
    }
    return best;
  }

  buildFilters() {
    const { rows, filters } = this;
    const toggle = (set, value) => () => { if (set.has(value)) set.delete(value); else set.add(value); this.filtered(); };
    const chip = (set, value, label, ...content) => el("button", { type: "button", class: "chip", "aria-pressed": "false", "data-value": label,
      onclick: toggle(set, value), "aria-label": label }, ...content);
    const tracks = rows.order.map((one) => {
      const picture = rows.pictures[one.picture];
      const node = chip(filters.tracks, one.number, one.name, picture ? el("img", { src: `data:image/jpeg;base64,${picture.jpeg}`, alt: "", loading: "lazy" }) : el("span", { class: "noface", "aria-hidden": "true" }, String(one.id)),
        el("span", {}, one.name, el("small", {}, `${clock(one.seconds)}${one.emotion ? ` · mostly ${one.emotion}` : ""}`)));
      node.classList.add("trackchip");
      return node;
    });
    const count = (number, test) => { let n = 0; for (let i = 0; i < number; i++) if (test(i)) n++; return n; };
    const windows = rows.header.tables.windows.count;
    const emotions = rows.emotions.map((name, i) => chip(filters.emotions, name, name, swatch(name), name, el("small", {}, String(count(windows, (window) => rows.windows.emotion[window] === i)))));
    const regions = rows.header.regions.map((name, i) => chip(filters.regions, i, words(name), words(name), el("small", {}, String(count(rows.count, (row) => rows.columns.region[row] === i)))));
    const units = rows.aus.map((au) => chip(filters.aus, au, au, el("b", {}, au), ` ${rows.header.auNames[au]} `, el("small", {}, String(count(windows, (window) => (rows.rowsByWindow.get(window) || []).some((row) => rows.isActive(row, au)))))));
    const slider = el("input", { type: "range", id: "score", min: 0, max: 1, step: 0.05, value: 0, "aria-describedby": "score-means",
      oninput: () => { filters.score = Number(slider.value); value.textContent = filters.score.toFixed(2); this.later(() => { this.filtered(); this.moved(); }); } });
    const value = el("output", { for: "score" }, "0.00");
    const reset = el("button", { type: "button", class: "quiet reset", onclick: () => {
      for (const set of [filters.tracks, filters.regions, filters.emotions, filters.aus]) set.clear();
      filters.score = slider.value = 0;
      value.textContent = "0.00";
      this.filtered();
    } }, "Clear filters");
    this.reset = reset;
    const field = (label, name, chips, title) => el("div", { class: `field ${name}`, role: "group", "aria-label": label, title }, el("span", { class: "label" }, label), el("div", { class: "chips" }, ...chips));
    this.auSummary = el("summary", {}, "");
    return el("section", { class: "filters card", "aria-label": "Filters" },
      field(rows.isLinked ? "People" : "Tracks", "tracks", tracks, rows.isLinked ? "People whose tracks are linked, and tracks that are not." : "A track follows one face until it leaves or the picture cuts; one person may have several."),
      field("Emotion", "emotions", emotions, "Of the face, by the number of windows"), field("Region", "regions", regions, "By the number of descriptions"),
      el("div", { class: "field units" }, el("details", {}, this.auSummary, el("div", { class: "chips", role: "group", "aria-label": "Action units" }, ...units)),
        el("div", { class: "score" }, el("label", { for: "score" }, "Probability at least"), slider, value,
          el("span", { class: "faint", id: "score-means" }, "of the face's emotion, or of the chosen action units")), reset));
  }

  showFilters() {
    const { tracks, regions, emotions, aus, score } = this.filters;
    const mark = (selector, set, values) => document.querySelectorAll(`${selector} .chip`).forEach((node, i) => node.setAttribute("aria-pressed", String(set.has(values[i]))));
    mark(".tracks", tracks, this.rows.order.map((one) => one.number));
    mark(".emotions", emotions, this.rows.emotions);
    mark(".regions", regions, this.rows.header.regions.map((_, i) => i));
    mark(".units", aus, this.rows.aus);
    this.auSummary.textContent = aus.size ? `Action units: ${[...aus].sort().join(", ")}` : "Action units: any";
    this.reset.disabled = !(tracks.size || regions.size || emotions.size || aus.size || score);
  }

  buildTable() {
    const { rows } = this;
    const emotion = (row) => el("span", { class: "feel" }, swatch(rows.emotion(row)), rows.emotion(row));
    const columns = [
      { key: "time", label: "Time", class: "time", title: "Of the described frame", sort: (row) => rows.columns.time_ms[row], cell: (row) => clock(rows.time(row), 1) },
      { key: "track", label: "Track", class: "who", sort: (row) => rows.track(row).id, cell: (row) => rows.track(row).name },
      { key: "region", label: "Region", class: "where", sort: (row) => rows.region(row), cell: (row) => words(rows.region(row)) },
      { key: "emotion", label: "Emotion", class: "what", title: "Emotion of the whole face in this window", sort: (row) => rows.emotion(row), cell: emotion },
      { key: "score", label: "Probability", class: "sure number", title: "Probability of that emotion", sort: (row) => rows.emotionScore(row), cell: (row) => rows.emotionScore(row)?.toFixed(2) ?? "" },
      { key: "aus", label: "Active action units", class: "units", title: "Of this region", sort: (row) => rows.activeAus(row).length, cell: (row) => rows.activeAus(row).join(" ") },
      { key: "age", label: "Age", class: "age number", title: "Apparent age of the face in this window, in years", sort: (row) => rows.age(row), cell: (row) => { const age = rows.age(row); return age === null ? "" : String(Math.round(age)); } },
      { key: "activity", label: "Movement", class: "activity number", title: "How much the region moved, as a multiple of what it usually does on this face", sort: (row) => rows.activity(row), cell: (row) => rows.activity(row) === null ? "" : `${rows.activity(row).toFixed(1)}×` },
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
    this.nothing = el("p", { class: "faint", hidden: true }, "No description passes these filters.");
    const follow = el("input", { type: "checkbox", id: "inview", checked: true, onchange: () => { this.inView = follow.checked; this.fillTable(); } });
    return el("section", { class: "table", "aria-label": "Descriptions" },
      el("div", { class: "head" }, el("h2", {}, "Descriptions"), this.count,
        el("label", { class: "check" }, follow, "only the time in view"),
        el("button", { type: "button", class: "export", onclick: () => download(`${fileName(rows.header.video.path).replace(/\.[^.]*$/, "")}.csv`, this.csv()) }, "↓ CSV of these descriptions")),
      this.table.node, this.nothing);
  }

  /** The rows of the table, in its order, with all scores; emotion and age are the face's in the row's window. */
  csv() {
    const { rows } = this, { path, video_id: id } = rows.header.video, names = rows.emotions.map((name) => `emotion_${name}`);
    const head = ["path", "video_id", "track_id", "person_id", "start_s", "end_s", "time_s", "frame_index", "region", "x0", "y0", "x1", "y1", "activity", "aus", "emotion", ...names, "age", "age_low", "age_high", ...rows.aus, "description", "model"];
    const c = rows.columns;
    return csv([head, ...this.passing.map((row) => [path, id, rows.track(row).id, rows.track(row).person, rows.start(row), rows.end(row), rows.time(row), c.frame[row], rows.region(row),
      c.x0[row], c.y0[row], c.x1[row], c.y1[row], rows.activity(row), rows.activeAus(row).join(" "), rows.emotion(row), ...rows.emotions.map((name) => rows.emotionShare(name, rows.window(row))),
      rows.age(row), rows.age(row, "age_low"), rows.age(row, "age_high"), ...rows.aus.map((au) => rows.score(au, row)), rows.sentence(row), rows.header.models[c.model[row]]])]);
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
