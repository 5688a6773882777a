"""Per-frame tables: a row for each face in each sampled frame, as CSV, JSON Lines and Parquet, in one of `pipeline.report.layouts.LAYOUTS`.

What is measured in the frame itself (box, pose, the detector's score) stands beside what the descriptions say of its window
(`pipeline.report.windows`): action units, emotion, age and sentence repeat in all frames of a track's window. `window_index` names the
window, and `described` is true in the one frame that was described. Beside each table lies `<name>.columns.json` with the meaning of every
column and whether it has a value of its own in each frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.errors import SettingsError, VideoError, VideoErrorKind, writing
from pipeline.report.inputs import sampling_fps, video_file, video_row, window_seconds
from pipeline.report.layouts import LAYOUTS, Known
from pipeline.report.windows import rows_at, window_rows
from pipeline.schemas import TABLES
from pipeline.storage.atomic import replacing
from pipeline.storage.run_folder import RunFolder
from pipeline.video.opening import open_video
from pipeline.video.sampling import Sampler

BATCH_ROWS = 4096
"""Rows worked on at a time; more makes larger Parquet row groups and takes more memory (about 1 kB a row)."""


COLUMNS_FILE = "columns.json"
"""Ending of the file that describes the columns."""


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
    empty_frames: bool | None = None,
) -> list[Path]:
    """Write one video's per-frame rows, sorted by frame and face, and the meaning of their columns.

    Memory does not grow with the number of frames (only, slowly, with that of windows). A file appears whole or not at all.

    Args:
        run: the run folder.
        video_id: of the videos table.
        out: the files' common path without its ending: `DIR/clip` makes `DIR/clip.csv`, `DIR/clip.parquet` ... and `DIR/clip.columns.json`.
        formats: of `FORMATS`.
        columns: of `pipeline.report.layouts.LAYOUTS`.
        empty_frames: whether sampled frames without a face are rows too; by default as the layout has it. Which frames were sampled is read
            from the video, which must be unchanged; this can take as long as decoding it.

    Returns:
        The tables, in the order of `formats`.

    Raises:
        SettingsError: an unknown format, layout or video; the tables cannot be read, or the files not written.
        VideoError: the video failed in the run; or empty frames are asked for and the file is missing or has changed.
    """
    for name, choices in ((columns, list(LAYOUTS)), *((name, list(FORMATS)) for name in formats)):
        if name not in choices:
            raise SettingsError(f"there is no per-frame table {name!r}: choose from {', '.join(choices)}")
    row, layout = video_row(run, video_id), LAYOUTS[columns]
    with_empty = layout.empty_frames if empty_frames is None else empty_frames
    files = {name: out.parent / f"{out.name}.{name}" for name in dict.fromkeys(formats)}
    batches = (
        pa.RecordBatch.from_pydict({column.name: _plain(column.values(known | {"path": row["path"]})) for column in layout.columns})
        for known in _batches(run, row, with_empty)
    )
    with writing(out), ExitStack() as stack:
        out.parent.mkdir(parents=True, exist_ok=True)
        parts = {name: stack.enter_context(replacing(file)) for name, file in files.items()}
        writers: list[Any] = []
        for batch in batches:
            if not writers:
                for name, part in parts.items():
                    sink = stack.enter_context(open(part, "wb"))
                    writers.append(FORMATS[name](sink, batch.schema))
                    stack.callback(writers[-1].close)
            for writer in writers:
                writer.write_batch(batch)
    _describe_columns(run, row, columns, with_empty, out.parent / f"{out.name}.{COLUMNS_FILE}")
    return list(files.values())


def _describe_columns(run: RunFolder, row: dict[str, Any], columns: str, empty_frames: bool, file: Path) -> None:
    """Write what the columns mean and at which resolution they are known."""
    about = {
        "video": row["path"],
        "layout": columns,
        "rows": "a face in a sampled frame" + "; frames without a face too" * empty_frames,
        "resolution": "frame: each row has its own value; window: one value, of the described frame, in all rows of a track's window",
        "window_s": window_seconds(run),
        "sampled_frames_per_second": sampling_fps(run),
        "columns": {column.name: {"meaning": column.meaning, "resolution": column.resolution} for column in LAYOUTS[columns].columns},
        "focalface": __version__,
    }
    with writing(file), replacing(file) as part:
        part.write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array, with null for NaN, which JSON does not have."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


def _batches(run: RunFolder, row: dict[str, Any], empty_frames: bool) -> Iterator[Known]:
    """All that is known of the rows, batch by batch; at least one batch, perhaps without rows."""
    windows, window_s = window_rows(run, row["video_id"]), window_seconds(run)
    faces = _faces(run, row["video_id"])
    for batch in _with_empty(faces, _sampled(run, row), row) if empty_frames else faces:
        known: Known = dict(zip(batch.schema.names, batch.columns, strict=True))
        tracks = pc.fill_null(known["track_id"], -1).to_numpy(zero_copy_only=False)
        at = rows_at(windows, tracks, known["time_s"].to_numpy(), window_s)
        spoken = windows.take(at).drop_columns(["track_id"]).rename_columns({"frame_index": "described_index"})
        known |= {name: spoken[name].combine_chunks() for name in spoken.column_names}
        known["described"] = pc.fill_null(pc.equal(known["described_index"], known["frame_index"]), False)
        yield known


def _faces(run: RunFolder, video_id: str) -> Iterator[pa.RecordBatch]:
    """The faces table of one video, which is sorted by frame and track; at least one batch."""
    some = False
    for table in run.batches("faces", video_id):
        for batch in table.to_batches(BATCH_ROWS):
            some = some or batch.num_rows > 0
            yield from [batch] * (batch.num_rows > 0)
    if not some:
        yield pa.RecordBatch.from_pylist([], TABLES["faces"])


def _sampled(run: RunFolder, row: dict[str, Any]) -> Iterator[tuple[int, float]]:
    """Index and time of the frames that the run sampled, read from the video by the rule that the run followed."""
    with open_video(video_file(run, row)) as video:
        sampler = Sampler(sampling_fps(run), video.info.fps)
        count = 0
        for index, time_s in video.indexed_times():
            if sampler.wants(time_s):
                count += 1
                yield index, time_s
    if count != row["sampled_frames"]:
        raise VideoError(
            VideoErrorKind.CHANGED,
            f"{count} frames would be sampled, but the run sampled {row['sampled_frames']}; "
            "export without the frames that show no face (--no-empty-frames)",
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
