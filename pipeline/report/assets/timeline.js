"use strict";
// The timeline: an overview with a brush, and for each track pictures, emotions and action units over the same stretch of time.

const TRACKS_AT_ONCE = 4; // tracks drawn before "show more"; more make long pages
const BIN_PIXELS = 2; // least width of a bin; more smooths long videos more
const SHORTEST_VIEW_S = 1; // the closest zoom
const RIGHT_PIXELS = 20; // room for the label of the last time
const TICKS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200];

const coarse = () => matchMedia("(max-width: 700px)").matches;

/** Emotions as shares of 1 over time, by colour, texture and place. */
function paintEmotions(u, bins, names, chosen) {
  const { ctx } = u, ratio = devicePixelRatio || 1;
  const fills = names.map((name) => !chosen.size || chosen.has(name) ? ctx.createPattern(emotionTile(name, ratio), "repeat") : colour("muted"));
  ctx.save();
  clip(u);
  for (const bin of bins) {
    if (!bin.weight) continue;
    const x0 = Math.round(u.valToPos(bin.start, "x", true)), x1 = Math.max(x0 + 1, Math.round(u.valToPos(bin.end, "x", true)));
    let below = 0;
    bin.emotions.forEach((share, i) => {
      if (share * u.bbox.height < 0.5) { below += share; return; }
      const y0 = u.valToPos(Math.min(1, below + share), "y", true), y1 = u.valToPos(below, "y", true);
      ctx.fillStyle = fills[i];
      ctx.fillRect(x0, y0, x1 - x0, y1 - y0);
      below += share;
    });
  }
  ctx.restore();
}

/** Action units, a row each: the darker the more probable; a line below where the unit is active. */
function paintUnits(u, bins, units, ramp) {
  const { ctx } = u, ratio = devicePixelRatio || 1, n = units.length;
  const mark = colour("active");
  ctx.save();
  clip(u);
  for (const bin of bins) {
    const x0 = Math.round(u.valToPos(bin.start, "x", true)), x1 = Math.max(x0 + 1, Math.round(u.valToPos(bin.end, "x", true)));
    units.forEach((unit, row) => {
      const score = bin.aus[unit];
      if (Number.isNaN(score)) return;
      const y0 = u.valToPos(n - row, "y", true), y1 = u.valToPos(n - row - 1, "y", true);
      ctx.fillStyle = ramp[Math.min(20, Math.round(score * 20))];
      ctx.fillRect(x0, Math.round(y0) + ratio, x1 - x0 - (x1 - x0 > 6 ? ratio : 0), Math.round(y1 - y0) - ratio);
      if (bin.active[unit]) {
        ctx.fillStyle = mark;
        ctx.fillRect(x0, Math.round(y1) - 3 * ratio, x1 - x0, 3 * ratio);
      }
    });
  }
  ctx.restore();
}

/** Hatching where the face was found and could not be read. */
function paintUnreadable(u, spans) {
  const { ctx } = u, ratio = devicePixelRatio || 1, step = 7 * ratio;
  ctx.save();
  clip(u);
  ctx.strokeStyle = colour("muted");
  ctx.lineWidth = ratio;
  for (const [start, end] of spans) {
    const x0 = u.valToPos(start / 1000, "x", true), x1 = Math.max(x0 + 2 * ratio, u.valToPos(end / 1000, "x", true));
    ctx.save();
    ctx.beginPath();
    ctx.rect(x0, u.bbox.top, x1 - x0, u.bbox.height);
    ctx.clip();
    ctx.beginPath();
    for (let x = x0 - u.bbox.height; x < x1; x += step) { ctx.moveTo(x, u.bbox.top + u.bbox.height); ctx.lineTo(x + u.bbox.height, u.bbox.top); }
    ctx.stroke();
    ctx.restore();
  }
  ctx.restore();
}

function clip(u) {
  u.ctx.beginPath();
  u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  u.ctx.clip();
}

/** 21 colours from the ramp's lightest to its darkest. */
function unitRamp() {
  const parse = (text) => text.match(/[\d.]+/g).slice(0, 3).map(Number);
  const from = parse(colour("ramp-0")), to = parse(colour("ramp-1"));
  return Array.from({ length: 21 }, (_, i) => `rgb(${from.map((c, k) => Math.round(c + (to[k] - c) * (i / 20))).join(",")})`);
}

/** The whole video in small: the emotions of each track, and the stretch in view, which is moved and resized by mouse, touch or keys. */
class Overview {
  constructor(rows, state) {
    Object.assign(this, { rows, state });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    const handle = (name, label) => el("div", { class: `handle ${name}`, tabindex: 0, role: "slider", "aria-label": label, "aria-orientation": "horizontal",
      "aria-valuemin": 0, "aria-valuemax": rows.duration, onkeydown: (event) => this.key(event, name) });
    this.left = handle("from", "Start of the time in view");
    this.right = handle("to", "End of the time in view");
    this.brush = el("div", { class: "brush" }, this.left, this.right);
    this.node = el("div", { class: "overview", onpointerdown: (event) => this.down(event) }, this.canvas, this.brush);
    new ResizeObserver(() => this.paint()).observe(this.node);
  }

  timeAt(event) {
    const box = this.node.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * this.rows.duration;
  }

  down(event) {
    if (event.button) return;
    event.preventDefault();
    const [from, to] = this.state.view, grip = this.timeAt(event);
    const part = event.target === this.left ? "from" : event.target === this.right ? "to"
      : this.brush.contains(event.target) && to - from < this.rows.duration ? "whole" : "new";
    this.node.setPointerCapture(event.pointerId);
    const move = (next) => {
      const time = this.timeAt(next);
      if (part === "from") this.state.setView(Math.min(time, to - SHORTEST_VIEW_S), to);
      else if (part === "to") this.state.setView(from, Math.max(time, from + SHORTEST_VIEW_S));
      else if (part === "whole") this.state.setView(from + time - grip, to + time - grip);
      else if (Math.abs(time - grip) > this.rows.duration / 200) this.state.setView(Math.min(grip, time), Math.max(grip, time));
    };
    const up = () => { this.node.removeEventListener("pointermove", move); };
    this.node.addEventListener("pointermove", move);
    this.node.addEventListener("pointerup", up, { once: true });
    this.node.addEventListener("pointercancel", up, { once: true });
    if (part === "from" || part === "to") event.target.focus();
  }

  key(event, name) {
    const [from, to] = this.state.view, step = (to - from) / (event.shiftKey ? 4 : 20);
    const by = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step }[event.key];
    if (event.key === "Home" || event.key === "End") this.state.setView(0, this.rows.duration);
    else if (by && name === "from") this.state.setView(Math.min(from + by, to - SHORTEST_VIEW_S), to);
    else if (by) this.state.setView(from, Math.max(to + by, from + SHORTEST_VIEW_S));
    else return;
    event.preventDefault();
  }

  update() {
    const [from, to] = this.state.view, whole = this.rows.duration;
    this.brush.style.left = `${(from / whole) * 100}%`;
    this.brush.style.width = `${((to - from) / whole) * 100}%`;
    for (const [node, value] of [[this.left, from], [this.right, to]]) {
      node.setAttribute("aria-valuenow", value.toFixed(2));
      node.setAttribute("aria-valuetext", clock(value, 1));
    }
  }

  paint() {
    const tracks = this.state.shownTracks().slice(0, 6), ratio = devicePixelRatio || 1;
    const width = this.node.clientWidth, height = this.node.clientHeight;
    if (!width) return;
    Object.assign(this.canvas, { width: width * ratio, height: height * ratio });
    const context = this.canvas.getContext("2d");
    const band = (this.canvas.height - 8 * ratio) / Math.max(1, tracks.length);
    tracks.forEach((one, i) => {
      const series = this.state.seriesOf(one.number), y = 4 * ratio + i * band;
      const x = (time) => (time / this.rows.duration) * this.canvas.width;
      context.fillStyle = colour("line");
      for (const [a, b] of one.spans) context.fillRect(x(a / 1000), y + band / 2 - ratio / 2, x((b - a) / 1000), ratio);
      for (const bin of visible(series, 0, this.rows.duration, width / BIN_PIXELS)) {
        if (!bin.weight) continue;
        const name = this.rows.emotions[bin.emotions.indexOf(Math.max(...bin.emotions))];
        context.fillStyle = colour(`emotion-${name}`);
        const left = Math.round(x(bin.start));
        context.fillRect(left, y + ratio, Math.max(ratio, Math.round(x(bin.end)) - left), band - 2 * ratio);
      }
    });
  }
}

/** One track's part of the timeline. */
class TrackPanels {
  constructor(rows, state, track) {
    Object.assign(this, { rows, state, track, plots: [] });
    const windows = plural(rows.windowsByTrack[track.number].length, "window") + " described";
    const scored = track.read === track.faces ? plural(track.faces, "frame") : `${track.read} of ${plural(track.faces, "frame")}`;
    this.summary = rows.samples ? `${scored} scored, ${windows}` : windows;
    this.readout = el("p", { class: "readout" }, this.summary);
    this.film = el("div", { class: "film" });
    this.emotionBox = el("div", { class: "plot" });
    this.unitBox = el("div", { class: "plot" });
    const about = [clock(track.seconds, track.seconds < 60 ? 1 : 0) + " on screen"];
    if (track.age) about.push(`about ${Math.round(track.age[0])} years (${Math.round(track.age[1])} to ${Math.round(track.age[2])})`);
    if (track.emotion) about.push(`mostly ${track.emotion} (${percent(track.share)} of ${track.lead ? "readable time" : "windows"})`);
    this.focus = el("div", { class: "panels", tabindex: 0, role: "group", "data-track": track.id,
      "aria-label": `Timeline of ${track.name}. Arrow keys go from window to window, plus and minus zoom, shift and arrows move the view, 0 shows all.`,
      onkeydown: (event) => this.key(event) }, this.film, this.emotionBox, this.unitBox);
    this.node = el("section", { class: "track card", "aria-label": track.name },
      el("header", {}, el("h3", {}, track.name), el("p", { class: "faint" }, about.join(" · ")), this.readout), this.focus);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.node);
  }

  destroy() {
    this.observer.disconnect();
    this.plots.forEach((plot) => plot.destroy());
    this.plots = [];
  }

  key(event) {
    const { state } = this, [from, to] = state.view, span = to - from;
    const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (side && event.shiftKey) state.setView(from + (side * span) / 4, to + (side * span) / 4);
    else if (side && state.selected >= 0 && this.rows.track(state.selected) === this.track) state.step(side);
    else if (side) state.selectTime(this.track, (from + to) / 2);
    else if (event.key === "+" || event.key === "=") state.zoom(0.5);
    else if (event.key === "-") state.zoom(2);
    else if (event.key === "0") state.setView(0, this.rows.duration);
    else if (event.key === "Enter") state.focusMoment(this.focus);
    else return;
    event.preventDefault();
  }

  units() {
    const { aus } = this.state.filters;
    return this.rows.aus.map((code, i) => i).filter((i) => !aus.size || aus.has(this.rows.aus[i]));
  }

  /** Draw; again after a change of filters, tracks, theme or size. */
  build() {
    this.plots.forEach((plot) => plot.destroy());
    this.series = this.state.seriesOf(this.track.number);
    const units = this.units(), narrow = coarse(), axis = narrow ? 46 : 176, ramp = unitRamp();
    const width = Math.max(200, this.focus.clientWidth || this.node.clientWidth - 32);
    const ink = colour("faint"), line = colour("line");
    this.gutter = axis;
    const font = "12px system-ui, sans-serif";
    const make = (box, height, y, range, paint, showTimes) => new uPlot({
      width, height, padding: [8, RIGHT_PIXELS, 8, 0], legend: { show: false }, pxAlign: 1,
      cursor: { y: false, points: { show: false }, sync: { key: "focalface" }, drag: { x: true, y: false, setScale: false, dist: 6, click: () => {} } }, // `wire` distinguishes clicks and taps from drags
      scales: { x: { time: false, range: () => this.state.view }, y: { range } },
      axes: [
        { show: showTimes, stroke: ink, font, size: 26, incrs: TICKS_S, space: 64, grid: { show: false }, ticks: { stroke: line, size: 5 },
          values: (u, splits) => splits.map((v) => clock(v, splits.length > 1 && splits[1] - splits[0] < 1 ? 1 : 0)) },
        { stroke: ink, font, size: axis, gap: 6, grid: { show: false }, ticks: { show: false }, ...y },
      ],
      series: [{}, {}],
      hooks: {
        drawClear: [(u) => { u.ctx.save(); u.ctx.fillStyle = colour("plot"); u.ctx.fillRect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height); u.ctx.restore(); }],
        draw: [paint, (u) => paintUnreadable(u, this.track.unreadable)],
        setCursor: [(u) => { if (u.cursor.left >= 0) this.read(u.posToVal(u.cursor.left, "x")); }],
        setSelect: [(u) => this.brushed(u)],
        ready: [(u) => this.wire(u)],
      },
    }, [[0, this.rows.duration], [null, null]], box);
    const bins = () => this.bins(Math.max(50, (width - axis) / BIN_PIXELS));
    this.binned = null;
    this.plots = [make(this.emotionBox, narrow ? 112 : 132, {
      splits: () => [0, 0.5, 1], values: () => ["0 %", "50 %", "100 %"] }, [0, 1], (u) => paintEmotions(u, bins(), this.rows.emotions, this.state.filters.emotions), !units.length)];
    if (units.length) {
      const label = (i) => { const code = this.rows.aus[units[i]]; return narrow ? code : `${this.rows.header.auNames[code]} ${code}`; };
      this.plots.push(make(this.unitBox, units.length * (narrow ? 15 : 17) + 42, {
        splits: () => units.map((_, i) => i + 0.5), values: () => units.map((_, i) => label(units.length - 1 - i)),
        filter: (u, splits) => splits }, [0, units.length], (u) => paintUnits(u, bins(), units, ramp), true));
    }
    for (const plot of this.plots) plot.over.append(plot.line = el("div", { class: "moment-line" }));
    this.mark();
    this.paintFilm();
  }

  /** The time in view has changed. */
  update() {
    const [min, max] = this.state.view;
    this.plots.forEach((plot) => plot.setScale("x", { min, max }));
    this.mark();
    this.paintFilm();
  }

  resize() {
    const width = this.focus.clientWidth;
    if (width && this.plots.length && Math.abs(width - this.plots[0].width) > 1) this.build();
  }

  wire(u) {
    let pressed = 0;
    u.over.addEventListener("pointerdown", (event) => { pressed = event.clientX; });
    u.over.addEventListener("click", (event) => {
      if (Math.abs(event.clientX - pressed) > 6) return;
      this.state.selectTime(this.track, u.posToVal(event.clientX - u.over.getBoundingClientRect().left, "x"));
    });
    u.over.addEventListener("dblclick", () => this.state.setView(0, this.rows.duration));
    u.over.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // a wheel alone scrolls the page
      event.preventDefault();
      this.state.zoom(event.deltaY < 0 ? 0.8 : 1.25, u.posToVal(event.clientX - u.over.getBoundingClientRect().left, "x"));
    }, { passive: false });
  }

  brushed(u) {
    if (u.select.width < 6) return;
    const from = u.posToVal(u.select.left, "x"), to = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.state.setView(from, to);
  }

  /** A line at the chosen moment. */
  mark() {
    const row = this.state.selected, [from, to] = this.state.view;
    const share = row < 0 ? -1 : (this.rows.time(row) - from) / (to - from);
    for (const { line } of this.plots) {
      line.hidden = share < 0 || share > 1;
      line.style.left = `${share * 100}%`;
    }
  }

  /** The bins in view, for both panels. */
  bins(most) {
    const [from, to] = this.state.view;
    if (this.binned?.from !== from || this.binned.to !== to || this.binned.series !== this.series) {
      this.binned = { from, to, series: this.series, bins: visible(this.series, from, to, most) };
    }
    return this.binned.bins;
  }

  /** Say what the series holds under the pointer. */
  read(time) {
    const at = valueAt(this.series, time), e = this.rows.emotions.length, a = this.rows.aus.length;
    const known = at >= 0 && time >= this.series.start[at] && time <= this.series.end[at] && !Number.isNaN(this.series.emotions[at * e]);
    const hidden = this.track.unreadable.find(([start, end]) => time * 1000 >= start && time * 1000 < end);
    if (!known) { this.readout.textContent = `${clock(time, 1)}: ${hidden ? `not readable (${hidden[2]})` : "nothing known"}`; return; }
    const shares = this.rows.emotions.map((name, i) => [name, this.series.emotions[at * e + i]]).filter(([, v]) => v >= 0.1).sort((x, y) => y[1] - x[1]).slice(0, 2);
    const units = this.units().filter((i) => this.series.active[at * a + i]).map((i) => this.rows.aus[i]);
    this.readout.textContent = `${clock(time, 1)}: ${shares.map(([name, v]) => `${name} ${percent(v)}`).join(", ")}${units.length ? ` · active: ${units.join(", ")}` : ""}`;
  }

  /** Pictures of this track in the time in view, each at its time. */
  paintFilm() {
    const mine = this.rows.picturesByTrack.get(this.track.id) || [];
    this.film.hidden = !mine.length;
    if (!mine.length) return;
    const size = coarse() ? 46 : 56, width = this.focus.clientWidth - this.gutter - RIGHT_PIXELS, [from, to] = this.state.view;
    this.film.style.marginLeft = `${this.gutter}px`;
    const slots = Math.max(1, Math.floor(width / (size + 4))), nodes = [];
    const held = Array.from({ length: slots }, () => null);
    for (const i of mine) {
      const share = (this.rows.pictures[i].ms / 1000 - from) / (to - from);
      if (share < 0 || share > 1) continue;
      const slot = Math.min(slots - 1, Math.floor(share * slots));
      const off = Math.abs(share * slots - slot - 0.5);
      if (!held[slot] || off < held[slot].off) held[slot] = { i, share, off };
    }
    for (const one of held) {
      if (!one) continue;
      const picture = this.rows.pictures[one.i];
      const left = Math.max(0, Math.min(width - size, one.share * width - size / 2));
      const button = el("button", { type: "button", class: "thumb", tabindex: -1, "aria-label": `${this.track.name} at ${clock(picture.ms / 1000, 1)}`,
        style: { left: `${left}px`, width: `${size}px`, height: `${size}px` },
        onclick: () => this.state.selectPicture(one.i) }, el("img", { src: `data:image/jpeg;base64,${picture.jpeg}`, alt: "" }));
      nodes.push(button);
    }
    this.film.style.height = `${size}px`;
    this.film.replaceChildren(...nodes);
  }
}
