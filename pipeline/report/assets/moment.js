"use strict";
// The chosen window of a track: its picture with the regions drawn on it, and what the face and each region show.

const REGION_COLOURS = 7;
const PICTURE_HEIGHT = 400; // pixels at most; more leaves less room for the text
const EMOTIONS_SHOWN = 3;

class Moment {
  constructor(rows, state) {
    Object.assign(this, { rows, state });
    this.node = el("aside", { class: "moment card", tabindex: -1, "aria-label": "The chosen moment", onkeydown: (event) => this.key(event) });
    new ResizeObserver(() => this.placeLabels()).observe(this.node);
  }

  key(event) {
    const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (side && this.state.selected >= 0) this.state.step(side);
    else if (event.key === "Escape") this.state.cameFrom?.focus();
    else return;
    event.preventDefault();
  }

  /** The picture of a row's frame, else the track's nearest one in time; {picture, exact} or null. */
  pictureFor(row) {
    const track = this.rows.track(row).id;
    const own = this.rows.pictureOf.get(`${track}/${this.rows.frame(row)}`);
    if (own !== undefined) return { picture: this.rows.pictures[own], exact: true };
    const time = this.rows.columns.time_ms[row];
    let best = null;
    for (const i of this.rows.picturesByTrack.get(track) || []) {
      const picture = this.rows.pictures[i];
      if (!best || Math.abs(picture.ms - time) < Math.abs(best.ms - time)) best = picture;
    }
    return best && { picture: best, exact: false };
  }

  rowsOn(track, frame) { return this.rows.byTrack[track.number].filter((row) => this.rows.frame(row) === frame); }

  show(row) {
    if (row < 0) {
      const empty = this.rows.count ? "Click the timeline, a picture or a row of the table." : "Nothing was described in this video.";
      this.node.replaceChildren(el("p", { class: "faint" }, empty));
      return;
    }
    const { rows, state } = this, track = rows.track(row);
    const held = this.node.contains(document.activeElement) ? document.activeElement : null;
    const again = held?.matches(".region") ? '.region[aria-pressed="true"]' : held?.matches(".steps button") ? `.steps [aria-label="${held.ariaLabel}"]` : null;
    const mine = rows.rowsByWindow.get(rows.window(row));
    const step = (side, label, sign) => el("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick: () => state.step(side) }, sign);
    const title = el("header", {}, el("div", {},
      el("h2", {}, `${track.name} at ${clock(rows.time(row), 2)}`),
      el("p", { class: "faint" }, `window from ${clock(rows.start(row), 1)} to ${clock(rows.end(row), 1)}`)),
      el("div", { class: "steps" }, step(-1, "Previous window of this track", "‹"), step(1, "Next window of this track", "›")));
    const cards = mine.map((other) => this.card(other, other === row));
    this.node.replaceChildren(title, this.figure(row, track), this.face(row), el("div", { class: "regions", role: "group", "aria-label": "Regions described" }, ...cards));
    this.placeLabels();
    if (held) (again ? this.node.querySelector(again) : this.node).focus(); // the element with the keyboard was replaced
  }

  figure(row, track) {
    const { rows } = this, found = this.pictureFor(row);
    const frame = found ? found.picture.frame : rows.frame(row);
    const drawn = this.rowsOn(track, frame);
    const view = found ? found.picture.view : this.blankView(drawn);
    const wide = view[2] - view[0], high = view[3] - view[1];
    const place = (value, from, size) => `${((value - from) / size) * 100}%`;
    const box = el("div", { class: "picture", style: { "aspect-ratio": `${wide} / ${high}`, width: `min(100%, ${(PICTURE_HEIGHT * wide) / high}px)` } });
    if (found) box.append(el("img", { src: `data:image/jpeg;base64,${found.picture.jpeg}`, alt: `${track.name} at ${clock(found.picture.ms / 1000, 2)}` }));
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
    if (found && !found.exact) notes.push(`The picture of this frame is not kept; this is the nearest one, at ${clock(found.picture.ms / 1000, 2)}.`);
    if (!found) notes.push(rows.header.pictureNote || "No picture of this track is kept.");
    if (rows.header.faces === "blur") notes.push("Blurred on request (--blur).");
    return el("figure", {}, box, notes.length ? el("figcaption", { class: "faint" }, notes.join(" ")) : null);
  }

  /** Put each region's name at its outline where it covers no other name, the chosen one first; the others show when pointed at. */
  placeLabels() {
    const picture = this.node.querySelector(".picture");
    if (!picture) return;
    const frame = picture.getBoundingClientRect(), taken = [];
    const outlines = [...picture.querySelectorAll(".outline")].reverse(); // the chosen one is last in the document
    for (const outline of outlines) {
      const label = outline.firstChild, box = outline.getBoundingClientRect();
      label.hidden = false;
      const { width, height } = label.getBoundingClientRect();
      const corners = [[box.left, box.top - height], [box.left, box.bottom], [box.right - width, box.top - height], [box.right - width, box.bottom], [box.left, box.top]];
      const free = corners.find(([x, y]) => x >= frame.left - 1 && y >= frame.top - 1 && x + width <= frame.right + 1 && y + height <= frame.bottom + 1
        && !taken.some((other) => x < other.x + other.width && other.x < x + width && y < other.y + other.height && other.y < y + height));
      label.classList.toggle("covered", !free);
      const [x, y] = free || corners[4];
      if (free) taken.push({ x, y, width, height });
      label.style.left = `${x - box.left - outline.clientLeft}px`;
      label.style.top = `${y - box.top - outline.clientTop}px`;
    }
  }

  /** Where there is no picture: the boxes alone, on a ground as large as they need. */
  blankView(drawn) {
    const c = this.rows.columns, side = (name, pick) => pick(...drawn.map((row) => c[name][row]));
    const [x0, y0, x1, y1] = [side("x0", Math.min), side("y0", Math.min), side("x1", Math.max), side("y1", Math.max)];
    const pad = 0.15 * Math.max(x1 - x0, y1 - y0, 1);
    return [x0 - pad, y0 - pad, x1 + pad, y1 + pad];
  }

  /** Emotion and age, which belong to the face as a whole. */
  face(row) {
    const { rows } = this, window = rows.window(row);
    const shares = rows.emotions.map((name) => [name, rows.emotionShare(name, window)]).filter(([, share]) => share !== null).sort((a, b) => b[1] - a[1]);
    const age = rows.age(row), low = rows.age(row, "age_low") ?? age, high = rows.age(row, "age_high") ?? age;
    const years = age === null ? "" : `about ${Math.round(age)} years (80 % between ${Math.round(low)} and ${Math.round(high)})`;
    const [first, ...others] = shares.slice(0, EMOTIONS_SHOWN);
    return el("div", { class: "facecard" }, el("h3", {}, "The face in this window"),
      el("p", {}, el("span", { class: "feel" }, swatch(rows.emotion(row)), first ? `${first[0]} ${percent(first[1])}` : rows.emotion(row)),
        others.length ? el("span", { class: "faint" }, ` · ${others.map(([name, share]) => `${name} ${percent(share)}`).join(" · ")}`) : null),
      years ? el("p", {}, years) : null);
  }

  card(row, chosen) {
    const { rows, state } = this, units = rows.activeAus(row);
    const button = el("button", { type: "button", class: "region", "aria-pressed": chosen ? "true" : "false", "data-row": row, onclick: () => state.select(row) },
      el("span", { class: "name" }, el("i", { class: "key", "data-colour": rows.columns.region[row] % REGION_COLOURS }), words(rows.region(row)),
        el("span", { class: "when" }, `frame ${rows.frame(row)} at ${clock(rows.time(row), 2)}`)),
      el("span", { class: "sentence" }, rows.sentence(row)),
      units.length ? el("span", { class: "units" }, ...units.map((au) => el("span", { class: "unit", title: rows.header.auNames[au] }, au))) : null);
    return el("div", { class: `regioncard ${chosen ? "chosen" : ""}` }, button, chosen ? this.figures(row, units) : null);
  }

  /** The scores of the chosen region. */
  figures(row, units) {
    const { rows } = this;
    const bar = (label, value, strong) => el("div", { class: `bar ${strong ? "strong" : ""}` },
      el("span", {}, label), el("meter", { min: 0, max: 1, value, "aria-label": `${label} ${value.toFixed(2)}` }), el("b", {}, value.toFixed(2)));
    const known = rows.aus.filter((au) => rows.score(au, row) !== null).sort((a, b) => rows.score(b, row) - rows.score(a, row));
    const shown = known.filter((au, i) => units.includes(au) || i < 4);
    const bars = shown.map((au) => bar(`${au} ${rows.header.auNames[au]}`, rows.score(au, row), units.includes(au)));
    const activity = rows.activity(row), model = rows.header.models[rows.columns.model[row]];
    const movement = activity === null ? [] : [`moved ${activity.toFixed(1)} times as much as this region usually does on this face`];
    return el("div", { class: "figures" }, bars.length ? el("p", { class: "faint" }, "Probability that each action unit is active; bold: counted as active") : null, ...bars,
      el("p", { class: "faint" }, [...movement, `model: ${model}`].join(" · ")));
  }
}
