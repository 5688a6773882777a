"""Per-frame tables: a row for each face in each sampled frame, as CSV, JSON Lines and Parquet, in one of `pipeline.report.layouts.LAYOUTS`.

Action units, emotion and age are those of the frame itself where the run read the face in every frame (`describe.frames`); a face that
could not be read has none. Where a run read only the frames that it describes, the values of a track's window stand in all its frames
(`pipeline.report.windows`). The sentence is the window's in either case: `window_index` names the window, and `described` is true in the
one frame that was described. Beside each table lies `<name>.columns.json`: what every column means, and at which resolution this file has
it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.errors import SettingsError, VideoError, VideoErrorKind, writing
from pipeline.report.frame_scores import active_units, blink_frames, has_frame_scores, thresholds
from pipeline.report.inputs import sampling_fps, video_row, window_seconds
from pipeline.report.layouts import IN_BLINK, LAYOUTS, WITH_INTENSITY, Known
from pipeline.report.linked import persons_in
from pipeline.report.windows import active_column, intensity_column, rows_at, window_rows
from pipeline.schemas import READ_COLUMNS, TABLES, face_numbers
from pipeline.storage.atomic import replacing
from pipeline.storage.chosen_run import own_range, range_of
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.video_files import video_file
from pipeline.video.opening import open_video
from pipeline.video.sampling import Sampler
from pipeline.vocabulary import AUS

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
    source = _Source(run, row)
    files = {name: out.parent / f"{out.name}.{name}" for name in dict.fromkeys(formats)}
    batches = (
        pa.RecordBatch.from_pydict({column.name: _plain(column.values(known)) for column in layout.columns})
        for known in source.batches(with_empty)
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
    _describe_columns(run, source, columns, with_empty, out.parent / f"{out.name}.{COLUMNS_FILE}")
    return list(files.values())


def _describe_columns(run: RunFolder, source: _Source, columns: str, empty_frames: bool, file: Path) -> None:
    """Write what the columns mean and at which resolution they are known."""
    about = {
        "video": source.row["path"],
        "layout": columns,
        "rows": "a face in a sampled frame" + "; frames without a face too" * empty_frames,
        "resolution": {
            "frame": "each row has its own value; empty where the face was not read in that frame",
            "window": "one value, of the described frame, in all rows of a track's window",
            "described": "the value of the described frame, in its row alone",
        },
        "window_s": window_seconds(run),
        "sampled_frames_per_second": sampling_fps(run),
        "columns": {
            column.name: {
                "meaning": column.meaning_in(source.with_intensity),
                "resolution": column.resolution_in(source.reads_frames),
            }
            for column in LAYOUTS[columns].columns
        },
        "focalface": __version__,
    }
    with writing(file), replacing(file) as part:
        part.write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array, with null for NaN, which JSON does not have."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


class _Source:
    """Where the rows of one video come from.

    Attributes:
        row: the video's row of the videos table.
        reads_frames: whether faces were read in every frame, not only in the described ones.
        with_intensity: the action units that have FACS intensities.
    """

    def __init__(self, run: RunFolder, row: dict[str, Any]) -> None:
        self._run, self.row = run, row
        self.reads_frames = has_frame_scores(run, row["video_id"])
        self.with_intensity = self._with_intensity()

    def batches(self, empty_frames: bool) -> Iterator[Known]:
        """All that is known of the rows, batch by batch; at least one batch, perhaps without rows."""
        run, row = self._run, self.row
        windows, window_s = window_rows(run, row["video_id"]), window_seconds(run)
        limits, blinks = thresholds(run), blink_frames(run, row) if self.reads_frames else None
        faces, persons = _faces(run, row["video_id"]), persons_in(run, row["video_id"])
        for batch in _with_empty(faces, _sampled(run, row), row) if empty_frames else faces:
            known: Known = dict(zip(batch.schema.names, batch.columns, strict=True))
            people = [persons.of.get((row["video_id"], track)) for track in known["track_id"].to_pylist()]
            known["person_id"] = pa.array(people, pa.string())
            tracks = pc.fill_null(known["track_id"], -1).to_numpy(zero_copy_only=False)
            at = rows_at(windows, tracks, known["time_s"].to_numpy(), window_s)
            spoken = windows.take(at).drop_columns(["track_id"]).rename_columns({"frame_index": "described_index"})
            said = {name: spoken[name].combine_chunks() for name in spoken.column_names}
            described = pc.fill_null(pc.equal(said["described_index"], known["frame_index"]), False)
            if blinks is not None:
                said = {name: values for name, values in said.items() if name not in _READ}
                said |= {name: pc.if_else(described, said[name], None) for name in ("age_low", "age_high")}
                known |= _active(known, limits)
                numbers = face_numbers(tracks, known["frame_index"].to_numpy())
                known[IN_BLINK] = pa.array(np.isin(numbers, blinks))
            yield known | said | {"described": described, "path": row["path"], WITH_INTENSITY: self.with_intensity}

    def _with_intensity(self) -> frozenset[str]:
        table = "faces" if self.reads_frames else "descriptions"
        found: set[str] = set()
        for rows in self._run.batches(table, self.row["video_id"], [intensity_column(au) for au in AUS]):
            found |= {au for au in AUS if rows[intensity_column(au)].null_count < rows.num_rows}
        return frozenset(found)


_READ = frozenset([*READ_COLUMNS, *map(intensity_column, AUS), *map(active_column, AUS)])
"""What is known of a face that was read."""


def _active(known: Known, limits: np.ndarray) -> dict[str, pa.Array]:
    """Whether each action unit is active in each row; null where it is not known."""
    scores = np.column_stack([pc.cast(known[au], pa.float32()).to_numpy(zero_copy_only=False) for au in AUS])
    active = active_units(scores, limits)
    return {active_column(au): pa.array(active[:, at], mask=np.isnan(scores[:, at])) for at, au in enumerate(AUS)}


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
    """Index and time of the chosen frames among those that the run sampled, read from the video by the rule that the run followed."""
    (first_s, last_s), (from_s, to_s) = own_range(run), range_of(run)
    with open_video(video_file(run, row)) as video:
        sampler = Sampler(sampling_fps(run), video.info.fps)
        count = 0
        for index, time_s in video.indexed_times():
            if sampler.wants(time_s) and first_s <= time_s and (last_s is None or time_s < last_s):
                count += 1
                if from_s <= time_s and (to_s is None or time_s < to_s):
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
