"""Runs with scores of every frame, made by hand, and files of human codes about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, empty, video_id
from pipeline.vocabulary import EMOTIONS

FPS = 10.0

Spans = Sequence[tuple[float, float]]


def inside(times: np.ndarray, spans: Spans) -> np.ndarray:
    """(N,) whether each time lies in one of the spans."""
    return np.any([(times >= start - 1e-9) & (times < end - 1e-9) for start, end in spans] or [np.zeros(len(times), bool)], axis=0)


def face_rows(
    path: str,
    length_s: float,
    active: Mapping[str, Spans],
    track: int = 1,
    seen: Spans | None = None,
    unread: Spans = (),
    intensity: Mapping[str, Sequence[float]] | None = None,
) -> pa.Table:
    """Rows of the faces table: `FPS` frames a second with a score of 0.9 inside `active` and 0.1 outside; the emotion is neutral unless
    `active` names another. There are no rows outside of `seen`, and no scores inside `unread`. Only the units of `active` are known."""
    times = np.arange(round(length_s * FPS)) / FPS
    rows: list[dict[str, Any]] = []
    on = {name: inside(times, spans) for name, spans in active.items()}
    for place, time_s in enumerate(times.tolist()):
        if seen is not None and not inside(np.array([time_s]), seen)[0]:
            continue
        row: dict[str, Any] = {"video_id": video_id(path), "frame_index": place, "time_s": time_s, "track_id": track, "det_score": 0.9}
        row |= {"box": [0, 0, 50, 50], "landmarks5": [0.0] * 10, "yaw": 0.0, "pitch": 0.0, "roll": 0.0, "sharpness": 100.0}
        if not inside(np.array([time_s]), unread)[0]:
            felt = next((name for name in EMOTIONS if name in on and on[name][place]), "neutral")
            row |= {name: 0.9 if flags[place] else 0.1 for name, flags in on.items() if name not in EMOTIONS}
            row |= {f"emotion_{name}": 0.7 if name == felt else 0.05 for name in EMOTIONS} | {"emotion": felt, "age": 30.0}
            row |= {f"{name}_intensity": values[place] for name, values in (intensity or {}).items()}
        rows.append(row)
    return pa.Table.from_pylist(rows, TABLES["faces"])


def make_run(folder: Path, videos: Mapping[str, Sequence[pa.Table]], length_s: float, start_s: float = 0.0) -> Path:
    """A run folder: file to the face rows of its tracks."""
    run = RunFolder(folder)
    run.begin({})
    run.update_info(settings={"video": {"fps": FPS}, "select": {"window": 1.0}}, thresholds={})
    for path, tables in videos.items():
        row = {"video_id": video_id(path), "path": path, "status": "ok", "fps": FPS, "duration_s": length_s, "start_s": start_s}
        run.commit(row, pa.concat_tables(tables), empty("descriptions"), "10-1")
    run.finish()
    return folder


def write_elan(file: Path, media: str, tiers: Mapping[str, Sequence[tuple[float, float, str]]], origin_ms: int = 0) -> Path:
    """An ELAN file with tiers of (onset, offset, text), in seconds."""
    from pympi.Elan import Eaf

    document = Eaf(author="a coder")
    document.add_linked_file(f"file:///films/{media}", mimetype="video/mp4", time_origin=origin_ms or None)
    document.remove_tier("default")
    for tier, marks in tiers.items():
        document.add_tier(tier)
        for onset, offset, text in marks:
            document.add_annotation(tier, round(onset * 1000), round(offset * 1000), text)
    document.to_file(str(file))
    return file
