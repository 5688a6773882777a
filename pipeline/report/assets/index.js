"use strict";
// The index: every video of a run, to search, sort and open.

const STATUS = { ok: ["●", "faces"], no_faces: ["○", "no faces"], failed: ["✕", "failed"] };

/** A strip of the emotion that is most common in each stretch of a video. */
function strip(video, emotions) {
  if (!video.strip) return "";
  const canvas = el("canvas", { class: "strip", height: 32, role: "img", "data-strip": video.strip, "aria-label": stripText(video.strip, emotions) });
  requestAnimationFrame(() => paintStrip(canvas, emotions));
  return canvas;
}

function paintStrip(canvas, emotions) {
  canvas.width = 2 * canvas.clientWidth; // as wide as it is drawn, so that textures keep their form
  const context = canvas.getContext("2d"), cells = canvas.dataset.strip, width = canvas.width / cells.length;
  [...cells].forEach((cell, i) => {
    context.fillStyle = cell === "." ? colour("plot") : context.createPattern(paintStrip.tiles[emotions[cell]], "repeat");
    context.fillRect(Math.round(i * width), 0, Math.round((i + 1) * width) - Math.round(i * width), canvas.height);
  });
}

/** The strip as text: its emotions by share. */
function stripText(cells, emotions) {
  const counts = new Map();
  for (const cell of cells) if (cell !== ".") counts.set(emotions[cell], (counts.get(emotions[cell]) || 0) + 1);
  const all = [...counts.values()].reduce((a, b) => a + b, 0) || 1;
  return [...counts].sort((a, b) => b[1] - a[1]).map(([name, n]) => `${name} ${percent(n / all)}`).join(", ") || "no face described";
}

/** What is said about a file: problems, and what was done about it. */
function remarks(video) {
  const line = (kind, one) => { // a text that begins with its kind says it once
    const name = words(one.kind), again = one.text.startsWith(name);
    return el("p", { class: kind, title: one.text }, el("b", {}, name), again ? one.text.slice(name.length) : ` ${one.text}`);
  };
  const lines = [...video.problems.map((one) => line("error", one)), ...video.notes.map((one) => line("note", one))];
  return lines.length ? el("div", { class: "remarks" }, ...lines) : null;
}

(async () => {
  const root = document.getElementById("app");
  const { header } = await openPayload("payload");
  const { videos, emotions, people } = header;
  const namesIn = new Map(); // video id to the people in it
  for (const one of people) for (const id of one.videos) namesIn.set(id, `${namesIn.get(id) || ""} ${one.name} ${one.id}`);
  const tiles = () => { paintStrip.tiles = Object.fromEntries(emotions.map((name) => [name, emotionTile(name, 2)])); };
  const page = (video) => video.files.find((file) => file.startsWith("videos/") && file.endsWith(".html"));
  const chosen = { text: "", status: "" };
  const counts = Object.fromEntries(Object.keys(STATUS).map((status) => [status, videos.filter((video) => video.status === status).length]));
  const shownStatus = (status) => STATUS[status] || ["?", words(status)];

  const columns = [
    { key: "status", label: "Status", class: "status", sort: (v) => v.status, cell: (v) => el("span", { class: `pill ${v.status}` }, el("i", { "aria-hidden": "true" }, shownStatus(v.status)[0]), shownStatus(v.status)[1]) },
    { key: "name", label: "Video", class: "name", sort: (v) => v.name.toLowerCase(), cell: (v) => el("span", {},
      page(v) ? el("a", { href: address(page(v)) }, v.name) : el("b", {}, v.name), el("small", { class: "faint" }, v.folder)) },
    { key: "duration", label: "Length", class: "number length", sort: (v) => v.duration, cell: (v) => v.duration === null ? "" : clock(v.duration, v.duration < 60 ? 1 : 0) },
    { key: "tracks", label: "Tracks", class: "number howmany", title: "A track follows one face until it leaves or the picture cuts; one person may have several.", sort: (v) => v.tracks, cell: (v) => v.status === "failed" ? "" : String(v.tracks) },
    { key: "emotion", label: "Main emotion", class: "what", sort: (v) => v.emotion || null, cell: (v) => v.emotion ? el("span", { class: "feel" }, swatch(v.emotion), v.emotion) : "" },
    { key: "strip", label: "Emotions over time, and remarks", class: "stripcell", cell: (v) => el("span", {}, strip(v, emotions), remarks(v)) },
    ...(videos.some((v) => v.files.length > 1) ? [{ key: "files", label: "Files", class: "files", cell: (v) => el("span", {}, ...v.files.filter((file) => !/\.(html|columns\.json)$|_events\.json$/.test(file)).flatMap((file) => [el("a", { href: address(file) }, file.replace(/.*?(((openface|openface-spaces|pyfeat)\.)?[^.]+)$/, "$1")), " "])) }] : []),
  ];
  const table = new LongTable("Videos", columns, { open: (video, how) => { if (how !== "move" && page(video)) location.href = address(page(video)); }, sorted: () => fill() });
  const count = el("output", { class: "count", "aria-live": "polite" });
  const nothing = el("p", { class: "faint", hidden: true }, "No video matches.");
  const fill = () => {
    const asked = chosen.text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = videos.filter((v) => {
      if (chosen.status && v.status !== chosen.status) return false;
      const said = [...v.problems, ...v.notes].map((one) => `${one.kind} ${words(one.kind)} ${one.text}`).join(" ");
      const text = `${v.folder}/${v.name} ${v.status} ${said} ${v.emotion} ${v.id} ${namesIn.get(v.id) || ""}`.toLowerCase();
      return asked.every((word) => text.includes(word));
    });
    table.show(table.ordered(found));
    count.textContent = `${found.length.toLocaleString("en")} of ${plural(videos.length, "video")}`;
    nothing.hidden = found.length > 0;
  };
  const search = el("input", { type: "search", placeholder: "Search names, folders, problems, notes, emotions", "aria-label": "Search videos", oninput: () => { chosen.text = search.value; fill(); } });
  const chips = Object.keys(STATUS).map((status) => el("button", { type: "button", class: "chip", "aria-pressed": "false", "data-value": status, onclick: (event) => {
    chosen.status = chosen.status === status ? "" : status;
    chips.forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.value === chosen.status)));
    fill();
  } }, STATUS[status][0], ` ${STATUS[status][1]} `, el("small", {}, counts[status].toLocaleString("en"))));
  const faces = people.slice(0, 60).map((one) => el("button", { type: "button", class: "chip trackchip", title: `Find the videos with ${one.name}`, onclick: () => { search.value = chosen.text = one.name; fill(); } },
    one.picture ? el("img", { src: `data:image/jpeg;base64,${one.picture}`, alt: "", loading: "lazy" }) : el("span", { class: "noface", "aria-hidden": "true" }, one.name.slice(0, 4)),
    el("span", {}, one.name, el("small", {}, `${plural(one.videos.length, "video")}, ${plural(one.tracks, "track")}`))));
  const facts = [plural(videos.length, "video"), plural(videos.reduce((sum, v) => sum + v.tracks, 0), "track"), people.length && `${people.length} ${people.length === 1 ? "person" : "people"}`, plural(videos.reduce((sum, v) => sum + v.descriptions, 0), "description"),
    clock(videos.reduce((sum, v) => sum + (v.duration || 0), 0)) + " of video", header.run.model, header.run.detector];
  root.replaceChildren(
    el("header", { class: "top" }, el("div", { class: "crumbs" }, el("span", { class: "brand" }, "focalface"), themeButton(() => { tiles(); repaintSwatches(); table.paint(true); })),
      el("h1", {}, header.name), el("p", { class: "facts" }, facts.filter(Boolean).join(" · "))),
    ...(people.length ? [el("section", { class: "card people", "aria-label": "People" }, el("h2", {}, "People"), el("div", { class: "chips" }, ...faces),
      people.length > faces.length ? el("p", { class: "faint" }, `${people.length - faces.length} more in the people folder's own page`) : "")] : []),
    el("section", { class: "finder card" }, search, el("div", { class: "chips", role: "group", "aria-label": "Status" }, ...chips), count),
    el("section", { class: "table archive", "aria-label": "Videos" },
      el("div", { class: "legend", "aria-hidden": "true" }, ...emotions.map((name) => el("span", { class: "feel" }, swatch(name), name))), table.node, nothing));
  tiles();
  fill();
  document.body.dataset.ready = "yes";
})();
