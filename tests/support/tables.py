"""Run folders of made-up people, for tests of what is made from tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.cli import main
from pipeline.describe.sentences import compose
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, file_mark, video_id
from pipeline.vocabulary import AUS, AUS_LABELLED, EMOTIONS, REGION_AUS, REGIONS

FACE = [200.0, 60.0, 420.0, 340.0]


def rows_of(key: str, seconds: int, people: int = 1, seed: int = 0, rate: float = 25.0) -> tuple[pa.Table, pa.Table]:
    """Faces and descriptions of made-up people: everybody's face in every second, with one or two regions; person 2 pauses."""
    chance = np.random.default_rng(seed)
    faces: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for track in range(1, people + 1):
        for second in range(seconds):
            if track == 2 and second % 10 >= 7:
                continue
            frame = round((second + 0.4) * rate)
            face: dict[str, Any] = {"video_id": key, "frame_index": frame, "time_s": frame / rate, "track_id": track}
            faces.append({**face, "det_score": 0.9, "box": FACE, "landmarks5": [0.0] * 10, "yaw": 1.0, "pitch": 2.0, "sharpness": 300.0})
            for region in ("face", *chance.choice(REGIONS[1:], int(chance.integers(1, 3)), replace=False).tolist()):
                scores = {au: float(chance.random() ** 2) for au in REGION_AUS[region] if au in AUS_LABELLED}
                active = [au for au in AUS if scores.get(au, 0) > 0.5]
                shares = chance.dirichlet(np.full(len(EMOTIONS), 0.4))
                emotion, age = EMOTIONS[int(shares.argmax())], float(chance.integers(20, 60))
                rows.append(
                    {name: face[name] for name in ("video_id", "frame_index", "time_s", "track_id")}
                    | {"window_index": second, "start_s": float(second), "end_s": second + 1.0, "region": region}
                    | {"box": [210.0, 70.0, 400.0, 330.0], "activity": float(chance.random() * 4), **scores, "aus": active}
                    | {f"emotion_{name}": float(share) for name, share in zip(EMOTIONS, shares, strict=True)}
                    | {"emotion": emotion, "age": age, "age_low": age - 8, "age_high": age + 10, "model": "nano"}
                    | {"description": compose(active, emotion, int(age))}
                )
    return pa.Table.from_pylist(faces, TABLES["faces"]), pa.Table.from_pylist(rows, TABLES["descriptions"])


def add_video(run: RunFolder, path: str | Path, tables: tuple[pa.Table, pa.Table], **values: Any) -> str:
    """Put a video into a run, as the run itself does; returns its video_id."""
    faces, rows = tables
    row: dict[str, Any] = {
        "video_id": video_id(path),
        "path": str(path),
        "status": "ok" if faces.num_rows else "no_faces",
        "sampled_frames": 50,
    }
    row |= {"tracks": len(set(faces["track_id"].to_pylist())), "windows": 0, "descriptions": rows.num_rows, "duration_s": 20.0}
    run.commit(row | values, faces, rows, file_mark(path) if os.path.exists(path) else "")
    return str(row["video_id"])


def new_run(folder: Path) -> RunFolder:
    run = RunFolder(folder)
    run.begin({})
    run.update_info(settings={"select": {"window": 1.0}, "video": {"fps": 10.0}}, model="nano", detector="centerface")
    return run


def command(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)
