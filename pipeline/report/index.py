"""The index of a report: every video with its status, its emotions over time, what was noted about it, and the way to its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SettingsError
from pipeline.report.frame_scores import leading_emotions, read_frame_scores
from pipeline.report.inputs import listed_notes
from pipeline.report.linked import listed_people
from pipeline.report.page import INDEX_SCRIPTS, render, write_page_file
from pipeline.report.page_data import compress
from pipeline.schemas import STATUSES
from pipeline.storage.run_folder import RunFolder, printable
from pipeline.vocabulary import EMOTIONS, WHOLE_FACE

STRIP_CELLS = 72
"""Cells of a video's emotion strip; more show shorter episodes of long videos and make the index larger."""

NOBODY = "."
"""A cell in which nobody was described."""

MAX_FACTS = 100
"""Failed videos that are listed where scripts do not run."""


def emotion_strip(starts: np.ndarray, ends: np.ndarray, emotions: np.ndarray, duration_s: float, cells: int = STRIP_CELLS) -> str:
    """The emotion that is described for most of the time in each of `cells` equal stretches of a video.

    Args:
        starts, ends: (N,) seconds of the windows or frames.
        emotions: (N,) places in `EMOTIONS`; others are left out.
        duration_s: of the video.
        cells: most cells.

    Returns:
        A digit per cell, the place in `EMOTIONS`, or `NOBODY` where no emotion has half a window, or half a cell where that is less. A cell
        is at least a window long, so that a short video has few.

    >>> emotion_strip(np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([3, 4]), 3.0)
    '34.'
    """
    if not len(starts) or not duration_s > 0:
        return ""
    length = float(np.median(ends - starts))
    width = max(duration_s / cells, length)
    count = max(1, min(cells, int(np.ceil(duration_s / width - 1e-6))))
    edges = np.linspace(0, duration_s, count + 1)
    shares = np.zeros((count, len(EMOTIONS)))
    for place in range(len(EMOTIONS)):
        mine = emotions == place
        overlap = np.minimum(ends[mine, None], edges[1:]) - np.maximum(starts[mine, None], edges[:-1])
        shares[:, place] = np.clip(overlap, 0, None).sum(0)
    least = min(length, duration_s / count) / 2 - 1e-6
    return "".join(str(place) if best > least else NOBODY for place, best in zip(shares.argmax(1), shares.max(1), strict=True))


def _strip(run: RunFolder, video: Mapping[str, Any]) -> tuple[str, str]:
    """A video's strip, and the emotion that leads for most of its time as in trends, or in most of its windows."""
    scores = read_frame_scores(run, video)
    leads = list(leading_emotions(scores).values()) if scores is not None else []
    if leads:
        starts, ends, emotions = (np.concatenate([getattr(lead, name) for lead in leads]) for name in ("start_s", "end_s", "emotion"))
        read = emotions >= 0
        strip = emotion_strip(starts[read], ends[read], emotions[read], video["duration_s"] or float(ends.max()))
        return strip, EMOTIONS[int(np.sum([lead.seconds for lead in leads], axis=0).argmax())]
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
    show_people: bool = True,
) -> dict[str, str]:
    """Write `out/index.html` over every video of a run.

    Args:
        run: the run folder.
        videos: rows of the videos table.
        out: the report's folder.
        files: video_id to its pages, tables and films, relative to `out`; they are linked.
        failed: video_id to the outputs that could not be written, with the reason.
        film_notes: video_id to what its film lacks.
        show_people: whether people, where they are linked, are shown with a picture.

    Returns:
        video_id to what is wrong with its tables, where they cannot be read.
    """
    files, failed, film_notes = files or {}, failed or {}, film_notes or {}
    unreadable: dict[str, str] = {}
    rows = []
    for video in videos:
        key, path = video["video_id"], Path(str(video["path"]))
        problems = [(video.get("error_kind") or "problem", video["error"].removeprefix(f"{path}: "))] if video["error"] else []
        try:
            strip, emotion = _strip(run, video)
        except SettingsError as error:
            strip, emotion = "", ""
            unreadable[key] = printable(str(error))
            problems.append(("tables", unreadable[key]))
        else:
            problems += [(kind, f"not written: {reason}") for kind, reason in failed.get(key, {}).items()]
        duration = video["duration_s"]
        rows.append(
            {
                "id": key,
                "name": path.name,
                "folder": str(path.parent),
                "status": video["status"],
                "problems": [{"kind": kind, "text": text} for kind, text in problems],
                "notes": [*listed_notes(video.get("note")), *({"kind": "film", "text": text} for text in film_notes.get(key, ()))],
                "duration": round(duration, 3) if duration is not None and np.isfinite(duration) else None,
                "tracks": video["tracks"] or 0,
                "descriptions": video["descriptions"] or 0,
                "emotion": emotion,
                "strip": strip,
                "files": list(files.get(key, ())),
            }
        )
    info, name = run.info, printable(run.path.resolve().name)
    header: dict[str, Any] = {"videos": rows, "emotions": list(EMOTIONS), "name": name}
    header |= {"run": {key: info.get(key) for key in ("model", "detector")}, "people": listed_people(run, show_people)}
    counts = {status: sum(row["status"] == status for row in rows) for status in STATUSES}
    facts = [("Videos", str(len(rows))), *((status.replace("_", " "), str(count)) for status, count in counts.items())]
    facts += [(row["name"], row["problems"][0]["text"]) for row in rows if row["status"] == "failed" and row["problems"]][:MAX_FACTS]
    write_page_file(out / "index.html", render(f"{name} · focalface", facts, INDEX_SCRIPTS, {"payload": compress(header)}))
    return unreadable
