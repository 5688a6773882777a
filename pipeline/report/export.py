"""Per-frame export: a row for each sampled frame and face, as CSV, JSONL and Parquet, in the columns that scripts expect.

What a frame measures itself (box, pose, the detector's score) stands beside what its window says (`pipeline.report.carried`): action
units, emotion, age and sentence are the same in all frames of a track's window. `window_index` names the window, and `described` is true
in the one frame that was looked at for them.

Three sets of columns, the first in this project's own names and the others in the names, units and signs of two well-known tools, so
that scripts written for their files read ours. Signs were checked on the tools' own sample files. What nobody measured (gaze, dense
landmarks, identity vectors) is left out; what could have been but is not known is empty.

`focalface`: as in the faces and descriptions tables, lists as plain columns; `region` is the one that emotion, age and sentence are of.

`openface` (OpenFace 2.2, FeatureExtraction and FaceLandmarkVidMulti):
    frame          from 1, of the file's frames, so that sampled ones leave numbers out
    face_id        track_id - 1, as OpenFace counts from 0
    timestamp      seconds
    confidence     the detector's score; empty where the face was carried between detections
    success        1, or 0 in a frame without a face
    pose_Rx, _Ry, _Rz   pitch, minus yaw, minus roll, in radians
    AU01_r ...     5 times the probability that the unit is active: it runs from 0 to 5 as OpenFace's does and may be ranked and cut,
                   but it is not a FACS intensity
    AU01_c ...     1 where the model takes it for active, else 0
    AU45           the blink is read off AU43, eyes closed
`pyfeat` (py-feat 2): `frame` from 0; box as corner and size; `Pitch`, `Roll` and `Yaw` in radians, each with the sign turned; AU columns
    hold probabilities; `Identity` is Person_<track_id>; `approx_time` is MM:SS.

Both end with `track_id`, `time_s`, `window_index` and `described`, which lead back to our tables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.errors import SettingsError, VideoError, VideoErrorKind
from pipeline.report.carried import active, carried, carrier, table_file, video_file, video_row, window_seconds
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder
from pipeline.video.opening import open_video
from pipeline.video.sampling import Sampler
from pipeline.vocabulary import AUS, EMOTIONS

BATCH_ROWS = 4096
"""Rows worked on at a time; more makes larger Parquet row groups and takes more memory (about 1 kB a row)."""

_OPENFACE_PRESENCES = {  # OpenFace's number of a unit: our code; its intensities are the same without AU28
    **{au[2:]: au for au in AUS if au not in {"AU11", "AU16", "AU18", "AU24", "AU43"}},
    "45": "AU43",
}
_PYFEAT_AUS = tuple(au for au in AUS if au not in {"AU16", "AU18"})
_PYFEAT_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
_LANDMARKS = ("left_eye", "right_eye", "nose_tip", "left_mouth", "right_mouth")

Columns = dict[str, pa.Array]
"""Columns of one batch by name: those of the faces table, those of `carried`, `window_index` and `described`."""


def _null(known: Columns, kind: pa.DataType) -> pa.Array:
    return pa.nulls(len(known["frame_index"]), kind)


def _has_face(known: Columns) -> pa.Array:
    return pc.is_valid(known["track_id"])


def _corner(known: Columns, place: int) -> pa.Array:
    return pc.list_element(known["box"], place)


def _focalface(known: Columns, path: str) -> Columns:
    columns = {name: known[name] for name in ("frame_index", "time_s", "track_id", "det_score")}
    columns |= {f"box_{name}": _corner(known, i) for i, name in enumerate(("x0", "y0", "x1", "y1"))}
    columns |= {
        f"{name}_{axis}": pc.list_element(known["landmarks5"], 2 * i + j)
        for i, name in enumerate(_LANDMARKS)
        for j, axis in enumerate("xy")
    }
    columns |= {name: known[name] for name in ("yaw", "pitch", "roll", "sharpness", "window_index", "described", "region")}
    columns |= {au: known[au] for au in AUS}
    codes = [pc.if_else(pc.fill_null(known[active(au)], False), au, None) for au in AUS]
    first = pa.repeat("", len(codes[0]))  # pyarrow leaves out rows that have nothing to join
    listed = pc.utf8_ltrim(pc.binary_join_element_wise(first, *codes, " ", null_handling="skip"), " ")
    columns["aus"] = pc.if_else(pc.is_valid(known["region"]), listed, None)
    columns |= {name: known[name] for name in ("emotion", *(f"emotion_{name}" for name in EMOTIONS))}
    return columns | {name: known[name] for name in ("age", "age_low", "age_high", "description")}


def _lead_back(known: Columns) -> Columns:
    return {name: known[name] for name in ("track_id", "time_s", "window_index", "described")}


def _radians(degrees: pa.Array, sign: int) -> pa.Array:
    return pc.multiply(degrees, pa.scalar(sign * np.pi / 180, pa.float32()))


def _openface(known: Columns, path: str) -> Columns:
    face = _has_face(known)
    columns = {
        "frame": pc.add(known["frame_index"], 1),
        "face_id": pc.fill_null(pc.subtract(known["track_id"], 1), 0),
        "timestamp": known["time_s"],
        "confidence": pc.if_else(face, known["det_score"], pa.scalar(0.0, pa.float32())),
        "success": face.cast(pa.int8()),
        "pose_Rx": _radians(known["pitch"], 1),
        "pose_Ry": _radians(known["yaw"], -1),
        "pose_Rz": _radians(known["roll"], -1),
    }
    five = pa.scalar(5, pa.float32())
    columns |= {f"AU{number}_r": pc.multiply(known[au], five) for number, au in _OPENFACE_PRESENCES.items() if au != "AU28"}
    columns |= {f"AU{number}_c": known[active(au)].cast(pa.int8()) for number, au in _OPENFACE_PRESENCES.items()}
    return columns | _lead_back(known)


def _pyfeat(known: Columns, path: str) -> Columns:
    face = _has_face(known)
    x0, y0, x1, y1 = (_corner(known, i) for i in range(4))
    seconds = known["time_s"].to_numpy().astype(int)
    person = pc.binary_join_element_wise("Person", known["track_id"].cast(pa.string()), "_")
    columns = {
        "frame": known["frame_index"],
        "FaceRectX": x0,
        "FaceRectY": y0,
        "FaceRectWidth": pc.subtract(x1, x0),
        "FaceRectHeight": pc.subtract(y1, y0),
        "FaceScore": pc.if_else(face, known["det_score"], pa.scalar(0.0, pa.float32())),
    }
    columns |= {au: known[au] for au in _PYFEAT_AUS}
    columns |= {name: _radians(known[name.lower()], -1) for name in ("Pitch", "Roll", "Yaw")}
    columns |= {name: known[f"emotion_{name}"] for name in _PYFEAT_EMOTIONS}
    columns |= {
        "input": pa.array([path] * len(seconds), pa.string()),
        "approx_time": pa.array([f"{second // 60:02d}:{second % 60:02d}" for second in seconds], pa.string()),
        "Identity": person,
    }
    return columns | _lead_back(known)


COLUMNS: dict[str, Callable[[Columns, str], Columns]] = {"focalface": _focalface, "openface": _openface, "pyfeat": _pyfeat}
"""The column sets. To add one, write the function that makes its columns of one batch and the video's path."""


class _JsonLines:
    """A JSON object a line; what is not known is null."""

    def __init__(self, sink: BinaryIO, schema: pa.Schema) -> None:
        self._sink = sink

    def write_batch(self, batch: pa.RecordBatch) -> None:
        rows = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in batch.to_pylist())
        self._sink.writelines(f"{row}\n".encode() for row in rows)

    def close(self) -> None:
        pass


FORMATS: dict[str, Callable[[BinaryIO, pa.Schema], Any]] = {
    "csv": lambda sink, schema: pa.csv.CSVWriter(sink, schema, write_options=pa.csv.WriteOptions(quoting_header="none")),
    "jsonl": _JsonLines,
    "parquet": lambda sink, schema: pq.ParquetWriter(sink, schema, compression="zstd"),
}
"""The formats: writers with `write_batch` and `close`."""


def export_frames(
    run: RunFolder,
    video_id: str,
    out: Path,
    *,
    formats: Sequence[str] = ("csv",),
    columns: str = "focalface",
    empty_frames: bool = False,
) -> list[Path]:
    """Write one video's per-frame rows, sorted by frame and face.

    Memory does not grow with the number of frames (but, slowly, with that of windows). Files appear whole or not at all.

    Args:
        run: the run folder.
        video_id: of the videos table.
        out: the files' common path without its ending: `DIR/clip` makes `DIR/clip.csv`, `DIR/clip.parquet` ...
        formats: of `FORMATS`.
        columns: of `COLUMNS`; the module says what each holds.
        empty_frames: whether sampled frames without a face are rows too. Which frames were sampled is read off the video, so it must be
            there as it was; where decord could not read it, this takes as long as decoding.

    Returns:
        The files, in the order of `formats`.

    Raises:
        SettingsError: an unknown format, column set or video; the tables cannot be read, or the files not written.
        VideoError: the video failed in the run; or empty frames are asked for and the file is gone or changed.
    """
    for name, choices in ((columns, list(COLUMNS)), *((name, list(FORMATS)) for name in formats)):
        if name not in choices:
            raise SettingsError(f"there is no per-frame export {name!r}: choose from {', '.join(choices)}")
    row = video_row(run, video_id)
    shape = COLUMNS[columns]
    files = {name: out.parent / f"{out.name}.{name}" for name in dict.fromkeys(formats)}
    parts = {name: file.with_name(f".{file.name}.partial") for name, file in files.items()}
    batches = (
        pa.RecordBatch.from_pydict({name: _plain(column) for name, column in shape(known, row["path"]).items()})
        for known in _batches(run, row, empty_frames)
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            writers: list[Any] = []
            for batch in batches:
                if not writers:
                    for name, part in parts.items():
                        sink = stack.enter_context(open(part, "wb"))
                        writers.append(FORMATS[name](sink, batch.schema))
                        stack.callback(writers[-1].close)
                for writer in writers:
                    writer.write_batch(batch)
        for name, part in parts.items():
            os.replace(part, files[name])
    except OSError as error:
        raise SettingsError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink()
    return list(files.values())


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array, with null for NaN, which JSON does not have."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


def _batches(run: RunFolder, row: dict[str, Any], empty_frames: bool) -> Iterator[Columns]:
    """All that is known of the rows, a batch after another; at least one, perhaps without rows."""
    windows, window_s = carried(run, row["video_id"]), window_seconds(run)
    faces = _faces(run, row["video_id"])
    for batch in _with_empty(faces, _sampled(run, row), row) if empty_frames else faces:
        known: Columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        tracks = pc.fill_null(known["track_id"], -1).to_numpy(zero_copy_only=False)
        at = carrier(windows, tracks, known["time_s"].to_numpy(), window_s)
        spoken = windows.take(at).drop_columns(["track_id"]).rename_columns({"frame_index": "described_index"})
        known |= {name: spoken[name].combine_chunks() for name in spoken.column_names}
        known["described"] = pc.fill_null(pc.equal(known["described_index"], known["frame_index"]), False)
        yield known


def _faces(run: RunFolder, video_id: str) -> Iterator[pa.RecordBatch]:
    """The faces table of one video, which is sorted by frame and track; at least one batch."""
    parquet = table_file(run, "faces", video_id)
    schema = TABLES["faces"]
    empty = pa.RecordBatch.from_pylist([], schema)
    yield from (parquet.iter_batches(BATCH_ROWS, columns=schema.names) if parquet and parquet.metadata.num_rows else [empty])


def _sampled(run: RunFolder, row: dict[str, Any]) -> Iterator[tuple[int, float]]:
    """Index and time of the frames that the run looked at, read off the video by the rule that the run followed."""
    fps = run.info.get("settings", {}).get("video", {}).get("fps")
    with open_video(video_file(run, row)) as video:
        sampler = Sampler(fps, video.info.fps)
        count = 0
        for index, time_s in video.indexed_times():
            if sampler.wants(time_s):
                count += 1
                yield index, time_s
    if count != row["sampled_frames"]:
        raise VideoError(
            VideoErrorKind.CHANGED,
            f"{count} frames would be sampled where the run looked at {row['sampled_frames']}; export without the frames that show no face",
            row["path"],
        )


def _with_empty(faces: Iterator[pa.RecordBatch], sampled: Iterator[tuple[int, float]], row: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    """Batches of the faces table with a row for each sampled frame that has none: only video, index and time."""
    schema = pa.schema([field.with_nullable(True) for field in TABLES["faces"]])
    pending = next(sampled, None)

    def merged(batch: pa.RecordBatch | None) -> pa.RecordBatch:
        nonlocal pending
        last = None if batch is None or not batch.num_rows else batch["frame_index"][-1].as_py()
        seen = set() if batch is None else set(batch["frame_index"].to_pylist())
        rows: list[dict[str, Any]] = []
        while pending and (pending[0] <= last if last is not None else len(rows) < BATCH_ROWS):
            if pending[0] not in seen:
                rows.append({"video_id": row["video_id"], "frame_index": pending[0], "time_s": pending[1]})
            pending = next(sampled, None)
        gaps = pa.Table.from_pylist(rows, schema)
        whole = gaps if batch is None else pa.concat_tables([pa.Table.from_batches([batch]).cast(schema), gaps])
        whole = whole.sort_by([("frame_index", "ascending"), ("track_id", "ascending")]).combine_chunks()
        return whole.to_batches()[0] if whole.num_rows else pa.RecordBatch.from_pylist([], schema)

    for batch in faces:
        yield merged(batch)
    while pending:
        yield merged(None)
