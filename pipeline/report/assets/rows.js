"use strict";
// One video's tables: which rows pass the filters, and each track's emotions and action units over time.

const MISSING = 65535; // null in a column of 16 bits
const SAMPLE_MISSING = 255, SAMPLE_STEPS = 250; // null, and a score of 1, in a column of samples

class Rows {
  constructor({ header, tables }, pictures) {
    Object.assign(this, { header, pictures, tracks: header.tracks });
    this.columns = tables.rows;
    this.windows = tables.windows;
    this.samples = tables.samples || null;
    this.count = header.tables.rows.count;
    this.emotions = header.emotions;
    this.aus = header.knownAus;
    this.bit = Object.fromEntries(header.aus.map((code, i) => [code, 2 ** i]));
    this.wholeFace = header.regions.indexOf("face");
    const last = header.tables.windows.count ? this.windows.end_ms.reduce((a, b) => Math.max(a, b), 0) / 1000 : 0;
    const seen = Math.max(0, ...this.tracks.map((one) => one.spans.length ? one.spans.at(-1)[1] / 1000 : 0));
    this.duration = header.video.duration_s || Math.max(last, seen) || 1;
    this.byTrack = this.tracks.map(() => []);
    for (let row = 0; row < this.count; row++) this.byTrack[this.columns.track[row]].push(row);
    this.windowsByTrack = this.tracks.map(() => []);
    for (let window = 0; window < header.tables.windows.count; window++) this.windowsByTrack[this.windows.track[window]].push(window);
    this.rowsByWindow = new Map();
    for (let row = 0; row < this.count; row++) {
      const window = this.columns.window[row];
      if (!this.rowsByWindow.has(window)) this.rowsByWindow.set(window, []);
      this.rowsByWindow.get(window).push(row);
    }
    this.regionAus = header.regions.map(() => new Set()); // the action units that each region knows
    for (let row = 0; row < this.count; row++) this.aus.forEach((au, i) => {
      if (this.columns[au][row] !== MISSING) this.regionAus[this.columns.region[row]].add(i);
    });
    this.pictureOf = new Map(pictures.map((one, i) => [`${one.track}/${one.frame}`, i]));
    this.picturesByTrack = new Map();
    pictures.forEach((one, i) => {
      if (!this.picturesByTrack.has(one.track)) this.picturesByTrack.set(one.track, []);
      this.picturesByTrack.get(one.track).push(i);
    });
    this.tracks.forEach((one, i) => {
      one.seconds = one.spans.reduce((sum, [a, b]) => sum + b - a, 0) / 1000;
      one.name ||= `Track ${one.id}`; // the person, where people are linked
      one.number = i;
      const counts = new Map();
      for (const window of this.windowsByTrack[i]) counts.set(this.windowEmotion(window), (counts.get(this.windowEmotion(window)) || 0) + 1);
      const [name, count] = [...counts].sort((a, b) => b[1] - a[1])[0] || [null, 0];
      [one.emotion, one.share] = one.lead || [name, count / Math.max(1, this.windowsByTrack[i].length)]; // of its readable time, else of its windows
    });
    this.order = [...this.tracks].sort((a, b) => b.seconds - a.seconds || a.id - b.id); // the longest on screen first
  }

  /** Whether people are linked. */
  get isLinked() { return this.tracks.some((one) => one.person); }
  /** A number of tracks in words; of people where all tracks are linked. */
  who(count) { return this.tracks.length && this.tracks.every((one) => one.person) ? plural(count, "person", "people") : plural(count, "track"); }

  // A description row.
  score(name, row) { const value = this.columns[name][row]; return value === MISSING ? null : value / 1000; }
  region(row) { return this.header.regions[this.columns.region[row]]; }
  sentence(row) { return this.header.sentences[this.columns.text[row]]; }
  time(row) { return this.columns.time_ms[row] / 1000; }
  frame(row) { return this.columns.frame[row]; }
  activity(row) { const value = this.columns.activity[row]; return value === MISSING ? null : value / 100; }
  track(row) { return this.tracks[this.columns.track[row]]; }
  isActive(row, au) { return (this.columns.active[row] & this.bit[au]) !== 0; }
  activeAus(row) { return this.columns.active[row] ? this.header.aus.filter((au) => this.isActive(row, au)) : []; }

  // Its window: emotion and age are the face's, the same for all regions.
  window(row) { return this.columns.window[row]; }
  start(row) { return this.windows.start_ms[this.window(row)] / 1000; }
  end(row) { return this.windows.end_ms[this.window(row)] / 1000; }
  windowEmotion(window) { return this.emotions[this.windows.emotion[window]] || "unknown"; }
  emotion(row) { return this.windowEmotion(this.window(row)); }
  emotionShare(name, window) { const value = this.windows[`p_${name}`]?.[window]; return value === undefined || value === MISSING ? null : value / 1000; }
  emotionScore(row) { return this.emotionShare(this.emotion(row), this.window(row)); }
  age(row, name = "age") { const value = this.windows[name][this.window(row)]; return value === MISSING ? null : value / 10; }

  /** A row's score under the filters: of the face's emotion; where action units are chosen, the highest of those that are active. */
  filteredScore(row, filters) {
    if (!filters.aus.size) return this.emotionScore(row) ?? 0;
    let best = 0;
    for (const au of filters.aus) if (this.isActive(row, au)) best = Math.max(best, this.score(au, row) ?? 0);
    return best;
  }

  /** Those of `rows` that pass the filters and overlap the time in view. */
  passing(rows, filters, view) {
    const { tracks, regions, emotions, aus, score } = filters;
    const mask = [...aus].reduce((bits, au) => bits | this.bit[au], 0);
    const c = this.columns;
    return rows.filter((row) => {
      if (tracks.size && !tracks.has(c.track[row])) return false;
      if (regions.size && !regions.has(c.region[row])) return false;
      if (emotions.size && !emotions.has(this.emotion(row))) return false;
      if (mask && !(c.active[row] & mask)) return false;
      if (score > 0 && this.filteredScore(row, filters) < score) return false;
      return !view || (this.end(row) > view[0] && this.start(row) < view[1]);
    });
  }

  /**
   * A track's series: {n, start, end, emotions: Float32Array (n x 7, NaN: none), aus: (n x units), active: the same, 1 where active}.
   * One value per sampled frame where the run scored every frame, else one per window. Scores below the filters' least score are left
   * out; with chosen regions, so are action units that none of these can show.
   */
  series(track, filters) { return this.samples ? this.sampleSeries(track, filters) : this.windowSeries(track, filters); }

  emptySeries(n) {
    const e = this.emotions.length, a = this.aus.length;
    return { n, start: new Float64Array(n), end: new Float64Array(n),
      emotions: new Float32Array(n * e).fill(NaN), aus: new Float32Array(n * a).fill(NaN), active: new Uint8Array(n * a) };
  }

  windowSeries(track, filters) {
    const e = this.emotions.length, a = this.aus.length, windows = this.windowsByTrack[track];
    const series = this.emptySeries(windows.length);
    windows.forEach((window, i) => {
      [series.start[i], series.end[i]] = [this.windows.start_ms[window] / 1000, this.windows.end_ms[window] / 1000];
      const rows = this.rowsByWindow.get(window) || [];
      const shares = this.emotions.map((name) => this.emotionShare(name, window));
      if (!shares.includes(null) && Math.max(...shares) >= filters.score) series.emotions.set(shares, i * e);
      for (const row of rows) {
        if (filters.regions.size && !filters.regions.has(this.columns.region[row])) continue;
        this.aus.forEach((au, j) => {
          const score = this.score(au, row), at = i * a + j;
          if (score === null || score < filters.score) return;
          if (!(series.aus[at] >= score)) series.aus[at] = score;
          if (this.isActive(row, au)) series.active[at] = 1;
        });
      }
    });
    return series;
  }

  sampleSeries(track, filters) {
    const s = this.samples, e = this.emotions.length, a = this.aus.length;
    let first = 0;
    while (first < s.track.length && s.track[first] !== track) first++;
    let last = first;
    while (last < s.track.length && s.track[last] === track) last++;
    const series = this.emptySeries(last - first);
    const shown = filters.regions.size ? new Set([...filters.regions].flatMap((region) => [...this.regionAus[region]])) : null;
    for (let i = 0; i < series.n; i++) {
      const at = first + i;
      [series.start[i], series.end[i]] = [s.start_ms[at] / 1000, s.end_ms[at] / 1000];
      const shares = this.emotions.map((name) => s[`p_${name}`][at]);
      if (!shares.includes(SAMPLE_MISSING) && Math.max(...shares) / SAMPLE_STEPS >= filters.score) series.emotions.set(shares.map((v) => v / SAMPLE_STEPS), i * e);
      this.aus.forEach((au, j) => {
        const value = s[au][at];
        if (value === SAMPLE_MISSING || value / SAMPLE_STEPS < filters.score || (shown && !shown.has(j))) return;
        series.aus[i * a + j] = value / SAMPLE_STEPS;
        if (s.active[at] & this.bit[au]) series.active[i * a + j] = 1;
      });
    }
    return series;
  }

  /** The row that stands for a window: the whole face, else the first region. */
  leadingRow(window) {
    const rows = this.rowsByWindow.get(window) || [];
    return rows.find((row) => this.columns.region[row] === this.wholeFace) ?? rows[0] ?? -1;
  }

  /** The window of a track that holds a time, or the nearest one, as a place in `windowsByTrack`; -1 where there is none. */
  windowAt(track, time) {
    const windows = this.windowsByTrack[track];
    let best = -1, nearest = Infinity;
    windows.forEach((window, i) => {
      const away = Math.max(this.windows.start_ms[window] / 1000 - time, time - this.windows.end_ms[window] / 1000, 0);
      if (away < nearest) [best, nearest] = [i, away];
    });
    return best;
  }
}

/** The value of a series at a time, or the nearest one; -1 where there is none. */
function valueAt(series, time) {
  let low = 0, high = series.n;
  while (low < high) { const mid = (low + high) >> 1; if (series.start[mid] <= time) low = mid + 1; else high = mid; }
  const before = low - 1;
  if (before < 0) return series.n ? 0 : -1;
  if (time < series.end[before] || low >= series.n) return before;
  return time - series.end[before] <= series.start[low] - time ? before : low;
}

/**
 * A series at the resolution of the screen: as it is where its values are wide enough, else bins over [from, to] with mean emotions and
 * highest action units, so that a long video is drawn quickly and no peak is lost.
 */
function visible(series, from, to, most) {
  let first = 0, last = series.n;
  while (first < last && series.end[first] <= from) first++;
  while (last > first && series.start[last - 1] >= to) last--;
  const e = series.n ? series.emotions.length / series.n : 0, a = series.n ? series.aus.length / series.n : 0;
  const bins = [];
  const width = last - first > most ? (to - from) / most : 0;
  let bin = null;
  for (let i = first; i < last; i++) {
    const slot = width ? Math.floor((series.start[i] - from) / width) : i;
    if (!bin || bin.slot !== slot || series.start[i] - bin.end > width) {
      bin = { slot, start: series.start[i], end: series.end[i], weight: 0, emotions: new Float64Array(e), aus: new Float32Array(a).fill(NaN), active: new Uint8Array(a) };
      bins.push(bin);
    }
    bin.end = series.end[i];
    if (!Number.isNaN(series.emotions[i * e])) {
      bin.weight++;
      for (let j = 0; j < e; j++) bin.emotions[j] += series.emotions[i * e + j];
    }
    for (let j = 0; j < a; j++) {
      const score = series.aus[i * a + j];
      if (score === score && !(bin.aus[j] >= score)) bin.aus[j] = score;
      if (series.active[i * a + j]) bin.active[j] = 1;
    }
  }
  for (const one of bins) if (one.weight) for (let j = 0; j < e; j++) one.emotions[j] /= one.weight;
  return bins;
}
