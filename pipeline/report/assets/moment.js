"use strict";
// The chosen moment: its picture with the regions drawn on it, and what each region shows in words and figures.

const REGION_COLOURS = 7;
const PICTURE_HEIGHT = 400; // pixels at most; more leaves less room for the words

class Moment {
  constructor(rows, state) {
    Object.assign(this, { rows, state });
    this.node = el("aside", { class: "moment card", tabindex: -1, "aria-label": "The chosen moment", onkeydown: (event) => this.key(event) });
  }

  key(event) {
    const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (side && this.state.selected >= 0) this.state.step(side);
    else if (event.key === "Escape") this.state.cameFrom?.focus();
    else return;
    event.preventDefault();
  }

  /** The picture for a row: its own, else the person's nearest in time; {picture, exact} or null. */
  pictureFor(row) {
    const track = this.rows.person(row).id, frame = this.rows.columns.frame[row];
    const own = this.rows.pictureOf.get(`${track}/${frame}`);
    if (own !== undefined) return { picture: this.rows.pictures[own], exact: true };
    const time = this.rows.columns.time_ms[row];
    let best = null;
    for (const i of this.rows.picturesByTrack.get(track) || []) {
      const picture = this.rows.pictures[i];
      if (!best || Math.abs(picture.ms - time) < Math.abs(best.ms - time)) best = picture;
    }
    return best && { picture: best, exact: false };
  }

  rowsOn(person, frame) {
    return this.rows.byPerson[person.number].filter((row) => this.rows.columns.frame[row] === frame);
  }

  show(row) {
    if (row < 0) {
      const empty = this.rows.count ? "Click a moment of the timeline, a picture or a row of the table." : "Nothing was described in this video.";
      this.node.replaceChildren(el("p", { class: "faint" }, empty));
      return;
    }
    const { rows, state } = this, person = rows.person(row);
    const held = this.node.contains(document.activeElement) ? document.activeElement : null;
    const again = held?.matches(".region") ? '.region[aria-pressed="true"]' : held?.matches(".steps button") ? `.steps [aria-label="${held.ariaLabel}"]` : null;
    const mine = rows.byPerson[person.number].filter((other) => rows.columns.start_ms[other] === rows.columns.start_ms[row]);
    const step = (side, label, sign) => el("button", { type: "button", class: "quiet", "aria-label": label, onclick: () => state.step(side) }, sign);
    const title = el("header", {}, el("div", {},
      el("h2", {}, `${person.name} at ${clock(rows.time(row), 2)}`),
      el("p", { class: "faint" }, `frame ${rows.columns.frame[row]} · window ${clock(rows.start(row), 1)} to ${clock(rows.end(row), 1)}`)),
      el("div", { class: "steps" }, step(-1, "Previous window of this person", "‹"), step(1, "Next window of this person", "›")));
    const cards = mine.map((other) => this.card(other, other === row));
    this.node.replaceChildren(title, this.figure(row, person), el("div", { class: "regions", role: "group", "aria-label": "Regions described" }, ...cards));
    if (held) (again ? this.node.querySelector(again) : this.node).focus(); // what had the keyboard was drawn anew
  }

  figure(row, person) {
    const { rows } = this, found = this.pictureFor(row);
    const frame = found ? found.picture.frame : rows.columns.frame[row];
    const drawn = this.rowsOn(person, frame);
    const view = found ? found.picture.view : this.blankView(drawn);
    const wide = view[2] - view[0], high = view[3] - view[1];
    const place = (value, from, size) => `${((value - from) / size) * 100}%`;
    const box = el("div", { class: "picture", style: { "aspect-ratio": `${wide} / ${high}`, width: `min(100%, ${(PICTURE_HEIGHT * wide) / high}px)` } });
    if (found) box.append(el("img", { src: `data:image/jpeg;base64,${found.picture.jpeg}`, alt: `${person.name} at ${clock(found.picture.ms / 1000, 2)}` }));
    const same = rows.region(row);
    // The chosen region is drawn last, on top.
    for (const other of [...drawn].sort((a, b) => (rows.region(a) === same) - (rows.region(b) === same))) {
      const c = rows.columns, chosen = found && !found.exact ? rows.region(other) === same : other === row;
      box.append(el("button", { type: "button", tabindex: -1, class: `outline ${chosen ? "chosen" : ""}`, "data-region": rows.region(other),
        "data-colour": rows.columns.region[other] % REGION_COLOURS, "aria-label": `Region ${words(rows.region(other))}`,
        style: { left: place(c.x0[other], view[0], wide), top: place(c.y0[other], view[1], high),
          width: `${((c.x1[other] - c.x0[other]) / wide) * 100}%`, height: `${((c.y1[other] - c.y0[other]) / high) * 100}%` },
        onclick: () => this.state.select(other) }, el("span", {}, words(rows.region(other)))));
    }
    const notes = [];
    if (found && !found.exact) notes.push(`This frame's own picture is not kept; the nearest is at ${clock(found.picture.ms / 1000, 2)}.`);
    if (!found) notes.push(rows.header.note || "No picture of this person is kept.");
    if (rows.header.faces === "blur") notes.push("Blurred on request (--blur).");
    return el("figure", {}, box, notes.length ? el("figcaption", { class: "faint" }, notes.join(" ")) : null);
  }

  /** Where there is no picture: the boxes alone, on a ground as large as they need. */
  blankView(drawn) {
    const c = this.rows.columns, side = (name, pick) => pick(...drawn.map((row) => c[name][row]));
    const [x0, y0, x1, y1] = [side("x0", Math.min), side("y0", Math.min), side("x1", Math.max), side("y1", Math.max)];
    const pad = 0.15 * Math.max(x1 - x0, y1 - y0, 1);
    return [x0 - pad, y0 - pad, x1 + pad, y1 + pad];
  }

  card(row, chosen) {
    const { rows, state } = this, name = rows.region(row), emotion = rows.emotion(row), sure = rows.emotionScore(row);
    const units = rows.activeAus(row);
    const button = el("button", { type: "button", class: "region", "aria-pressed": chosen ? "true" : "false", "data-row": row, onclick: () => state.select(row) },
      el("span", { class: "name" }, el("i", { class: "key", "data-colour": rows.columns.region[row] % REGION_COLOURS }), words(name),
        el("span", { class: "feel" }, swatch(emotion), `${emotion}${sure === null ? "" : ` ${percent(sure)}`}`)),
      el("span", { class: "sentence" }, rows.sentence(row)));
    return el("div", { class: `regioncard ${chosen ? "chosen" : ""}` }, button, chosen ? this.figures(row, units) : null);
  }

  figures(row, units) {
    const { rows } = this;
    const bar = (label, value, strong, title) => el("div", { class: `bar ${strong ? "strong" : ""}`, title },
      el("span", {}, label), el("meter", { min: 0, max: 1, value, "aria-label": `${label} ${value.toFixed(2)}` }), el("b", {}, value.toFixed(2)));
    const known = rows.aus.filter((au) => rows.score(au, row) !== null).sort((a, b) => rows.score(b, row) - rows.score(a, row));
    const strong = known.filter((au, i) => units.includes(au) || i < 4);
    const auBars = strong.map((au) => bar(`${units.includes(au) ? "● " : ""}${au} ${rows.header.auNames[au]}`, rows.score(au, row), units.includes(au)));
    const emotionBars = rows.emotions.map((name) => [name, rows.score(`p_${name}`, row) ?? 0]).sort((a, b) => b[1] - a[1]).slice(0, 3)
      .map(([name, value]) => bar(name, value, name === rows.emotion(row)));
    const age = rows.tenth("age", row);
    const years = age === null ? null : el("p", {}, `Looks about ${Math.round(age)} years (four chances in five: ${Math.round(rows.tenth("age_low", row) ?? age)} to ${Math.round(rows.tenth("age_high", row) ?? age)})`);
    const activity = rows.activity(row);
    return el("div", { class: "figures" }, ...auBars, ...emotionBars, years,
      el("p", { class: "faint" }, `${activity === null ? "" : `activity ${activity.toFixed(1)} of the usual · `}${rows.header.models[rows.columns.model[row]]}`));
  }
}
