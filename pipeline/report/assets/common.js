"use strict";
// Shared by the video page and the index: opening the payload, making elements, the theme, the table, the export.

/** Make an element. Text is inserted as text, never as HTML: file names and sentences are data. */
function el(tag, attributes = {}, ...children) {
  const node = tag === "svg" || tag === "rect" || tag === "g"
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, part] of Object.entries(value)) node.style.setProperty(key, part);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Open a payload: {header, tables: {name: {column: typed array}}}; pipeline/report/page_data.py describes its form. */
async function openPayload(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const kinds = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i2: Int16Array };
  const tables = {};
  let at = 4 + length;
  for (const [table, { count, columns }] of Object.entries(header.tables || {})) {
    tables[table] = {};
    for (const [name, kind] of columns) {
      const size = count * kinds[kind].BYTES_PER_ELEMENT;
      tables[table][name] = new kinds[kind](buffer.slice(at, at + size)); // a copy: typed arrays must start at a multiple of their size
      at += size;
    }
  }
  return { header, tables };
}

const plural = (count, one, many = one + "s") => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const words = (name) => name.replaceAll("_", " ");
const fileName = (path) => path.split("/").at(-1);
const address = (file) => file.split("/").map(encodeURIComponent).join("/"); // names may contain any character
const percent = (share) => `${Math.round(share * 100)} %`;

/** Seconds as 1:02:03 or 2:03.4; `digits` after the point. */
function clock(seconds, digits = 0) {
  const scale = 10 ** digits;
  const whole = Math.round(Math.max(0, seconds) * scale) / scale;
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const rest = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

const THEMES = { system: "light dark", light: "light", dark: "dark" };

/** A button that switches between the system's theme, light and dark; `changed` is called after each switch, and when the system switches. */
function themeButton(changed) {
  const button = el("button", { type: "button", class: "quiet theme" });
  const names = Object.keys(THEMES);
  let now = "system";
  try { now = localStorage.getItem("focalface-theme") || "system"; } catch { /* some browsers have no storage for files */ }
  const show = () => {
    document.documentElement.style.colorScheme = THEMES[now];
    button.textContent = { system: "◐ System theme", light: "☀ Light theme", dark: "☾ Dark theme" }[now];
    button.setAttribute("aria-label", `Theme: ${now}. Switch.`);
  };
  button.addEventListener("click", () => {
    now = names[(names.indexOf(now) + 1) % names.length];
    try { localStorage.setItem("focalface-theme", now); } catch { /* it is then not remembered */ }
    show();
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  if (!THEMES[now]) now = "system";
  show();
  return button;
}

/** The colour of a custom property under the current theme. */
function colour(name) {
  const probe = colour.probe || (colour.probe = document.body.appendChild(el("i", { hidden: true })));
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** Textures of the emotions, which do not rely on colour alone. Each is drawn on a tile of 8 by 8. */
const TEXTURES = {
  anger: (c) => { for (const x of [-8, 0, 8]) { c.moveTo(x, 8); c.lineTo(x + 8, 0); } },
  disgust: (c) => { c.moveTo(0, 0); c.lineTo(8, 8); c.moveTo(0, 8); c.lineTo(8, 0); },
  fear: (c) => { for (const x of [-8, 0, 8]) { c.moveTo(x, 0); c.lineTo(x + 8, 8); } },
  happiness: (c) => { c.moveTo(3.2, 2); c.arc(2, 2, 1.2, 0, 7); c.moveTo(7.2, 6); c.arc(6, 6, 1.2, 0, 7); },
  neutral: () => {},
  sadness: (c) => { c.moveTo(0, 2); c.lineTo(8, 2); c.moveTo(0, 6); c.lineTo(8, 6); },
  surprise: (c) => { c.moveTo(2, 0); c.lineTo(2, 8); c.moveTo(6, 0); c.lineTo(6, 8); },
};

/** A tile of an emotion's colour and texture; `ratio`: device pixels per CSS pixel. */
function emotionTile(emotion, ratio) {
  const tile = el("canvas", { width: 8 * ratio, height: 8 * ratio });
  const context = tile.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = colour(`emotion-${emotion}`);
  context.fillRect(0, 0, 8, 8);
  context.strokeStyle = context.fillStyle = colour("texture");
  context.lineWidth = 1.1;
  context.beginPath();
  TEXTURES[emotion]?.(context);
  if (emotion === "happiness") context.fill(); else context.stroke();
  return tile;
}

/** A small swatch of an emotion, in colour and texture. */
function swatch(emotion) {
  const canvas = el("canvas", { class: "swatch", width: 28, height: 28, "aria-hidden": "true", "data-emotion": emotion });
  paintSwatch(canvas);
  return canvas;
}

function paintSwatch(canvas) {
  const context = canvas.getContext("2d");
  context.fillStyle = context.createPattern(emotionTile(canvas.dataset.emotion, 2), "repeat");
  context.fillRect(0, 0, canvas.width, canvas.height);
}

/** Call after a change of theme. */
const repaintSwatches = () => document.querySelectorAll("canvas.swatch").forEach(paintSwatch);

/** CSV text: quoted where needed; text that a spreadsheet would run as a formula gets a leading quote. */
function csv(lines) {
  const cell = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** Offer a text as a file to download. */
function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = el("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/**
 * A table of any length: only the rows in view are in the document. Arrow keys, Page Up and Down, Home and End move; Enter opens.
 * columns: [{key, label, title?, sort?: (row) => number|string, cell: (row) => Node|string, class?}]; open(row, how) with how: move, click or enter.
 */
class LongTable {
  constructor(label, columns, { open, sorted }) {
    Object.assign(this, { columns, open, sorted, rows: [], sort: { key: null, down: false }, at: -1 });
    this.heads = columns.map((column) => {
      const button = column.sort
        ? el("button", { type: "button", title: column.title, onclick: () => this.sortBy(column.key) }, column.label, el("span", { class: "arrow", "aria-hidden": "true" }))
        : column.label;
      return el("div", { role: "columnheader", class: column.class || "", "aria-sort": column.sort ? "none" : undefined }, button);
    });
    this.body = el("div", { role: "rowgroup", class: "rows" });
    this.view = el("div", { class: "scroller", tabindex: 0, role: "grid", "aria-label": label, "aria-colcount": columns.length,
      onscroll: () => this.paint(), onkeydown: (event) => this.key(event) },
      el("div", { role: "rowgroup", class: "heads" }, el("div", { role: "row", "aria-rowindex": 1 }, ...this.heads)), this.body);
    this.view.addEventListener("focus", () => { if (this.at < 0 && this.rows.length) this.move(0, false); });
    new ResizeObserver(() => this.paint(true)).observe(this.view);
    this.node = el("div", { class: "longtable" }, this.view);
  }

  get height() { return parseFloat(getComputedStyle(this.view).getPropertyValue("--row")) || 40; }

  sortBy(key, down) {
    this.sort = { key, down: down ?? (this.sort.key === key && !this.sort.down) };
    this.columns.forEach((column, i) => {
      if (column.sort) this.heads[i].setAttribute("aria-sort", column.key !== key ? "none" : this.sort.down ? "descending" : "ascending");
    });
    this.sorted();
  }

  /** All rows in the chosen order: nulls last, ties in their old order. */
  ordered(rows) {
    const column = this.columns.find((one) => one.key === this.sort.key);
    if (!column) return rows;
    const missing = (key) => key === null || key === undefined || Number.isNaN(key);
    const keyed = rows.map((row) => [column.sort(row), row]), known = keyed.filter(([key]) => !missing(key));
    const sign = this.sort.down ? -1 : 1;
    known.sort(([a], [b]) => (a < b ? -sign : a > b ? sign : 0));
    return [...known, ...keyed.filter(([key]) => missing(key))].map(([, row]) => row);
  }

  show(rows) {
    this.rows = rows;
    this.at = Math.min(this.at, rows.length - 1);
    this.view.setAttribute("aria-rowcount", rows.length + 1);
    this.paint(true);
  }

  /** Mark a row as chosen, and scroll it into view if `reveal`. */
  choose(row, reveal = true) {
    this.at = this.rows.indexOf(row);
    if (this.at >= 0 && reveal) this.reveal();
    this.paint(true);
  }

  reveal() {
    const height = this.height, top = this.at * height;
    const room = this.view.clientHeight - this.body.offsetTop;
    if (top < this.view.scrollTop) this.view.scrollTop = top;
    else if (top + height > this.view.scrollTop + room) this.view.scrollTop = top + height - room;
  }

  move(at, notify = true) {
    this.at = Math.max(0, Math.min(at, this.rows.length - 1));
    this.reveal();
    this.paint(true);
    if (notify && this.at >= 0) this.open(this.rows[this.at], "move");
  }

  key(event) {
    if (event.target !== this.view || !this.rows.length) return;
    const page = Math.max(1, Math.floor(this.view.clientHeight / this.height) - 2);
    const to = { ArrowDown: this.at + 1, ArrowUp: this.at - 1, PageDown: this.at + page, PageUp: this.at - page, Home: 0, End: Infinity }[event.key];
    if (to !== undefined) { event.preventDefault(); this.move(to); }
    else if (event.key === "Enter" && this.at >= 0) this.open(this.rows[this.at], "enter");
  }

  paint(changed = false) {
    const height = this.height;
    const first = Math.max(0, Math.floor(this.view.scrollTop / height) - 4);
    const last = Math.min(this.rows.length, first + Math.ceil(this.view.clientHeight / height) + 8);
    if (!changed && first === this.first && last === this.last) return;
    [this.first, this.last] = [first, last];
    this.body.style.height = `${this.rows.length * height}px`;
    this.body.replaceChildren(...this.rows.slice(first, last).map((row, i) => {
      const at = first + i;
      const node = el("div", { role: "row", "aria-rowindex": at + 2, id: `row-${at}`, class: at % 2 ? "odd" : "",
        "aria-selected": at === this.at ? "true" : "false", style: { transform: `translateY(${at * height}px)` },
        onclick: (event) => { if (!event.target.closest("a")) { this.at = at; this.paint(true); this.open(row, "click"); } } });
      for (const column of this.columns) node.append(el("div", { role: "gridcell", class: column.class || "" }, column.cell(row)));
      return node;
    }));
    if (this.at >= 0) this.view.setAttribute("aria-activedescendant", `row-${this.at}`);
    else this.view.removeAttribute("aria-activedescendant");
  }
}
