"""The index of an archive: every video with its status, its people, its emotions over time and the way to its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SettingsError
from pipeline.report.page import INDEX_SCRIPTS, assemble, write_page_file
from pipeline.report.page_data import compress
from pipeline.storage.run_folder import RunFolder, printable
from pipeline.vocabulary import EMOTIONS, WHOLE_FACE

STRIP_CELLS = 72
"""Cells of a video's emotion strip; more shows shorter moods of long videos and makes the index larger."""

NOBODY = "."


def emotion_strip(starts: np.ndarray, ends: np.ndarray, emotions: np.ndarray, duration_s: float, cells: int = STRIP_CELLS) -> str:
    """The emotion that most of the described time shows, for each of `cells` equal stretches of a video.

    Args:
        starts, ends: (N,) seconds of the windows.
        emotions: (N,) places in `EMOTIONS`; others are passed over.
        duration_s: of the video.

    Returns:
        A digit a cell, the place in `EMOTIONS`, or `NOBODY`; at most one cell a window's length, so that a short video has few.
    """
    if not len(starts) or not duration_s > 0:
        return ""
    width = max(duration_s / cells, float(np.median(ends - starts)))
    count = max(1, min(cells, int(np.ceil(duration_s / width - 1e-6))))
    edges = np.linspace(0, duration_s, count + 1)
    shares = np.zeros((count, len(EMOTIONS)))
    for place in range(len(EMOTIONS)):
        mine = emotions == place
        overlap = np.minimum(ends[mine, None], edges[1:]) - np.maximum(starts[mine, None], edges[:-1])
        shares[:, place] = np.clip(overlap, 0, None).sum(0)
    return "".join(str(place) if best > 0 else NOBODY for place, best in zip(shares.argmax(1), shares.max(1), strict=True))


def _strip(run: RunFolder, video: Mapping[str, Any]) -> tuple[str, str]:
    """A video's strip, and the emotion that is seen longest."""
    rows = run.read("descriptions", ("start_s", "end_s", "region", "emotion"), video["video_id"])
    if not rows.num_rows:
        return "", ""
    regions = np.array(rows["region"].to_pylist(), object)
    chosen = regions == WHOLE_FACE if (regions == WHOLE_FACE).any() else np.ones(len(regions), bool)
    place = {name: number for number, name in enumerate(EMOTIONS)}
    emotions = np.array([place.get(name, -1) for name in rows["emotion"].to_pylist()])[chosen]
    starts, ends = (np.nan_to_num(rows[name].to_numpy().astype(np.float64))[chosen] for name in ("start_s", "end_s"))
    duration = video["duration_s"] or float(ends.max())
    known = np.bincount(emotions[emotions >= 0], minlength=len(EMOTIONS))
    return emotion_strip(starts, ends, emotions, duration), EMOTIONS[int(known.argmax())] if known.any() else ""


def write_index(
    run: RunFolder,
    videos: Sequence[Mapping[str, Any]],
    out: Path,
    files: Mapping[str, Sequence[str]] | None = None,
    failed: Mapping[str, Mapping[str, str]] | None = None,
    film_notes: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, str]:
    """Write `out/index.html` over every video of a run.

    Args:
        run: the run folder.
        videos: rows of the videos table.
        out: the report's folder.
        files: video_id to its pages, tables and films, relative to `out`; they are linked.
        failed: video_id to the outputs that could not be written, with the reason.
        film_notes: video_id to what its film lacks.

    Returns:
        video_id to what is wrong with its tables, where they cannot be read.
    """
    faults: dict[str, str] = {}
    rows = []
    for video in videos:
        key, error = video["video_id"], video["error"] or ""
        try:
            strip, dominant = _strip(run, video)
        except SettingsError as fault:
            strip, dominant, error = "", "", printable(str(fault))
            faults[key] = error
        else:
            missing = [f"{kind} not written: {reason}" for kind, reason in (failed or {}).get(key, {}).items()]
            error = "; ".join([*[error] * bool(error), *missing])
        path = Path(str(video["path"]))
        error = error.removeprefix(f"{path}: ")  # the name stands beside it
        duration = video["duration_s"]
        rows.append(
            {
                "id": key,
                "name": path.name,
                "folder": str(path.parent),
                "status": video["status"],
                "error": error,
                "duration": round(duration, 3) if duration is not None and np.isfinite(duration) else None,
                "people": video["tracks"] or 0,
                "descriptions": video["descriptions"] or 0,
                "emotion": dominant,
                "strip": strip,
                "files": list((files or {}).get(key, ())),
            }
        )
    info, place = run.info, printable(run.path.resolve().name)
    header = {
        "videos": rows,
        "emotions": list(EMOTIONS),
        "run": {name: info.get(name) for name in ("model", "detector", "timing", "versions")},
        "place": place,
    }
    counts = {status: sum(row["status"] == status for row in rows) for status in ("ok", "no_faces", "failed")}
    facts = [("Videos", str(len(rows))), *((status.replace("_", " "), str(count)) for status, count in counts.items())]
    facts += [("Failed", f"{row['name']}: {row['error']}") for row in rows if row["status"] == "failed"][:100]
    write_page_file(out / "index.html", assemble(f"{place} · focalface", facts, INDEX_SCRIPTS, {"payload": compress(header)}))
    return faults
