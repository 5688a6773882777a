"use strict";
// One video's rows: who passes the filters, and each person's emotions and action units window by window.

const MISSING = 65535;

class Rows {
  constructor({ header, columns }, pictures) {
    Object.assign(this, { header, columns, pictures, count: header.rows, people: header.people });
    this.emotions = header.emotions;
    this.aus = header.knownAus;
    this.bit = Object.fromEntries(header.aus.map((code, i) => [code, 2 ** i]));
    this.wholeFace = header.regions.indexOf("face");
    const last = this.count ? columns.end_ms.reduce((a, b) => Math.max(a, b), 0) / 1000 : 0;
    const seen = Math.max(0, ...this.people.map((one) => one.spans.length ? one.spans.at(-1)[1] / 1000 : 0));
    this.duration = header.video.duration_s || Math.max(last, seen) || 1;
    this.byPerson = this.people.map(() => []);
    for (let row = 0; row < this.count; row++) this.byPerson[columns.person[row]].push(row);
    this.pictureOf = new Map(pictures.map((one, i) => [`${one.track}/${one.frame}`, i]));
    this.picturesByTrack = new Map();
    pictures.forEach((one, i) => {
      if (!this.picturesByTrack.has(one.track)) this.picturesByTrack.set(one.track, []);
      this.picturesByTrack.get(one.track).push(i);
    });
    this.people.forEach((one, i) => {
      one.seconds = one.spans.reduce((sum, [a, b]) => sum + b - a, 0) / 1000;
      one.name = `Person ${one.id}`;
      one.number = i;
      this.sum(one, this.byPerson[i]);
    });
    this.order = [...this.people].sort((a, b) => b.seconds - a.seconds || a.id - b.id); // who is there longest first
  }

  score(name, row) { const value = this.columns[name][row]; return value === MISSING ? null : value / 1000; }
  tenth(name, row) { const value = this.columns[name][row]; return value === MISSING ? null : value / 10; }
  region(row) { return this.header.regions[this.columns.region[row]]; }
  sentence(row) { return this.header.sentences[this.columns.text[row]]; }
  emotion(row) { return this.emotions[this.columns.emotion[row]] || "unknown"; }
  emotionScore(row) { const name = this.emotions[this.columns.emotion[row]]; return name ? this.score(`p_${name}`, row) : null; }
  start(row) { return this.columns.start_ms[row] / 1000; }
  end(row) { return this.columns.end_ms[row] / 1000; }
  time(row) { return this.columns.time_ms[row] / 1000; }
  activity(row) { const value = this.columns.activity[row]; return value === MISSING ? null : value / 100; }
  person(row) { return this.people[this.columns.person[row]]; }
  isActive(row, au) { return (this.columns.active[row] & this.bit[au]) !== 0; }
  activeAus(row) { return this.columns.active[row] ? this.header.aus.filter((au) => this.isActive(row, au)) : []; }

  /** A person's age and commonest emotion, of the whole face where it was described. */
  sum(one, rows) {
    const whole = rows.filter((row) => this.columns.region[row] === this.wholeFace);
    const used = whole.length ? whole : rows;
    const middle = (name) => {
      const values = used.map((row) => this.tenth(name, row)).filter((value) => value !== null).sort((a, b) => a - b);
      return values.length ? values[values.length >> 1] : null;
    };
    [one.age, one.ageLow, one.ageHigh] = [middle("age"), middle("age_low"), middle("age_high")];
    const counts = new Map();
    for (const row of used) counts.set(this.emotion(row), (counts.get(this.emotion(row)) || 0) + 1);
    const [name, count] = [...counts].sort((a, b) => b[1] - a[1])[0] || [null, 0];
    [one.emotion, one.share] = [name, used.length ? count / used.length : 0];
  }

  /** A row's confidence under the filters: of its emotion; where action units are chosen, of the surest of these. */
  confidence(row, filters) {
    if (!filters.aus.size) return this.emotionScore(row) ?? 0;
    let best = 0;
    for (const au of filters.aus) if (this.isActive(row, au)) best = Math.max(best, this.score(au, row) ?? 0);
    return best;
  }

  /** Those of `rows` that pass: people, regions, emotions, action units (active), confidence, and the stretch in view. */
  passing(rows, filters, view) {
    const { people, regions, emotions, aus, confidence } = filters;
    const mask = [...aus].reduce((bits, au) => bits | this.bit[au], 0);
    const c = this.columns;
    return rows.filter((row) => {
      if (people.size && !people.has(c.person[row])) return false;
      if (regions.size && !regions.has(c.region[row])) return false;
      if (emotions.size && !emotions.has(this.emotion(row))) return false;
      if (mask && !(c.active[row] & mask)) return false;
      if (confidence > 0 && this.confidence(row, filters) < confidence) return false;
      return !view || (c.end_ms[row] > view[0] * 1000 && c.start_ms[row] < view[1] * 1000);
    });
  }

  /**
   * A person's series over windows: {start, end, row, emotions: Float32Array (windows x 7, NaN: none), aus: (windows x units),
   * active: the same, 1 where a description says so}. Emotions are the whole face's where it is among the chosen regions, else the
   * mean over the rows. Scores below the filters' confidence are left out.
   */
  series(person, filters) {
    const rows = this.byPerson[person].filter((row) => !filters.regions.size || filters.regions.has(this.columns.region[row]));
    const windows = [];
    for (const row of rows) {
      const start = this.start(row), current = windows.at(-1);
      if (current && current.start === start) current.rows.push(row);
      else windows.push({ start, end: this.end(row), rows: [row] });
    }
    const e = this.emotions.length, a = this.aus.length, n = windows.length;
    const series = { n, start: new Float64Array(n), end: new Float64Array(n), row: new Uint32Array(n),
      emotions: new Float32Array(n * e).fill(NaN), aus: new Float32Array(n * a).fill(NaN), active: new Uint8Array(n * a) };
    windows.forEach(({ start, end, rows: mine }, i) => {
      [series.start[i], series.end[i]] = [start, end];
      const whole = mine.filter((row) => this.columns.region[row] === this.wholeFace);
      const voices = whole.length ? whole : mine;
      series.row[i] = voices[0];
      const mean = this.emotions.map((name) => voices.reduce((sum, row) => sum + (this.score(`p_${name}`, row) ?? 0), 0) / voices.length);
      if (Math.max(...mean) >= filters.confidence) series.emotions.set(mean, i * e);
      for (const row of mine) this.aus.forEach((au, j) => {
        const score = this.score(au, row), at = i * a + j;
        if (score === null || score < filters.confidence) return;
        if (!(series.aus[at] >= score)) series.aus[at] = score;
        if (this.isActive(row, au)) series.active[at] = 1;
      });
    });
    return series;
  }
}

/** The window of a series that holds a time, or the nearest one; -1 where there is none. */
function windowAt(series, time) {
  let low = 0, high = series.n;
  while (low < high) { const mid = (low + high) >> 1; if (series.start[mid] <= time) low = mid + 1; else high = mid; }
  const before = low - 1;
  if (before < 0) return series.n ? 0 : -1;
  if (time < series.end[before] || low >= series.n) return before;
  return time - series.end[before] <= series.start[low] - time ? before : low;
}

/**
 * A series brought to what can be seen: as it is where its windows are wide enough, else bins over [from, to] with mean emotions
 * and highest action units, so that a long video stays quick and no peak is lost.
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
