"""The columns of every table that a run writes: one place for the writer, the readers, the tests and the documentation."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pyarrow as pa

from pipeline.errors import VideoErrorKind
from pipeline.vocabulary import AUS, EMOTIONS, FAULTS


class NoteKind(StrEnum):
    """What was done about a video so that its frames and times come out right: the kinds in the `note` column of the videos table."""

    STARTS_BETWEEN_KEYFRAMES = "starts_between_keyframes"
    """The beginning does not decode, because the file starts between two keyframes; its frames have no rows."""
    JOINED = "joined"
    """Recordings were joined end to end and their time stamps restart; times go on across the joints."""
    STREAM_RATE = "stream_rate"
    """The file has no time stamps; times come from the stream's own frame rate."""
    SLOW_MOTION = "slow_motion"
    """A phone recorded more frames a second than it plays; times are those of playing."""
    OTHER_TRACKS = "other_tracks"
    """The file holds more video tracks or covers than the one that is read."""
    ORIENTATION = "orientation"
    """Pictures are rotated or mirrored as the file asks."""
    PIXEL_ASPECT = "pixel_aspect"
    """Pixels are not square; pictures are scaled until they are."""
    SIZE_CHANGES = "size_changes"
    """The picture's size changes; all pictures are fitted into one size, with black bars."""
    DEINTERLACED = "deinterlaced"
    """Interlaced frames are deinterlaced."""
    TONE_MAPPED = "tone_mapped"
    """HDR is brought to BT.709."""
    ERASED = "erased"
    """The rows of a person were erased; the file is not analysed again."""
    OUTSIDE_RANGE = "outside_range"
    """The chosen range of time begins behind the end of the video, so that nothing of it is analysed."""


def note_kinds(note: str | None) -> tuple[NoteKind, ...]:
    """The kinds in a value of the `note` column.

    >>> [kind.value for kind in note_kinds("joined: 2 recordings joined: ...; tone_mapped: HDR (HLG)")]
    ['joined', 'tone_mapped']
    """
    return tuple(NoteKind(part.split(":", 1)[0]) for part in note.split("; ")) if note else ()


STATUSES = ("ok", "no_faces", "failed")

_BOX = pa.list_(pa.float32(), 4)


def _field(name: str, kind: pa.DataType, meaning: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, {"meaning": meaning})


VIDEOS = pa.schema(
    [
        _field("video_id", pa.string(), "identifies the file within the run: a hash of its path", False),
        _field("path", pa.string(), "path or URL of the file, as the user typed it", False),
        _field("status", pa.string(), "ok, no_faces or failed", False),
        _field("error", pa.string(), "why it failed, or what was wrong with a file that could be read in part"),
        _field("error_kind", pa.string(), f"the kind of `error`: {', '.join(VideoErrorKind)}"),
        _field("note", pa.string(), f"what was done about the file, as `kind: text` with `; ` between: {', '.join(NoteKind)}"),
        _field("decoder", pa.string(), "decord or pyav; pyav:cuda (or another device) where a device decoded"),
        _field("codec", pa.string(), "codec of the video stream, as FFmpeg names it"),
        _field("width", pa.int32(), "width in pixels of the upright, square-pixel frames that boxes refer to"),
        _field("height", pa.int32(), "height in pixels of these frames"),
        _field("stored_width", pa.int32(), "width in pixels of the first picture as the file stores it"),
        _field("stored_height", pa.int32(), "height in pixels of the first picture as the file stores it"),
        _field("pixel_aspect", pa.float64(), "width of a stored pixel divided by its height"),
        _field("fps", pa.float64(), "mean frame rate of the stream"),
        _field("frame_count", pa.int64(), "number of decoded frames; where a range of time was chosen, of frames that the file promises"),
        _field("duration_s", pa.float64(), "from the first frame's start to the last frame's end"),
        _field("start_s", pa.float64(), "the first frame's time stamp on the container's own clock; `time_s` counts from there"),
        _field("sampled_frames", pa.int64(), "number of sampled frames"),
        _field("faces", pa.int64(), "number of rows in the faces table"),
        _field("tracks", pa.int64(), "number of tracks"),
        _field("windows", pa.int64(), "number of (track, window) pairs"),
        _field("unreadable_faces", pa.int64(), "number of rows in the faces table that were not readable, and so not read"),
        _field("unreadable_windows", pa.int64(), "number of (track, window) pairs without a readable face, and so without a description"),
        _field("descriptions", pa.int64(), "number of rows in the descriptions table"),
        _field("elapsed_s", pa.float64(), "seconds of work on this file"),
    ]
)

FACES = pa.schema(
    [
        _field("video_id", pa.string(), "the video's id in the videos table", False),
        _field("frame_index", pa.int64(), "number of the frame in the stream, from 0", False),
        _field("time_s", pa.float64(), "the frame's own timestamp, 0 at the stream's first frame", False),
        _field("track_id", pa.int32(), "one person's continuous presence, from 1 in each video", False),
        _field(
            "det_score", pa.float32(), "the detector's score; null in runs of earlier versions, where a face was carried between detections"
        ),
        _field("box", _BOX, "x0, y0, x1, y1 in pixels of the upright frame", False),
        _field("landmarks5", pa.list_(pa.float32(), 10), "x, y of the eyes, nose tip and mouth corners, image-left first", False),
        _field("yaw", pa.float32(), "degrees, positive when the face turns to the image's right"),
        _field("pitch", pa.float32(), "degrees, positive when the face looks down"),
        _field("roll", pa.float32(), "degrees, positive when the image-right eye is the higher one"),
        _field("sharpness", pa.float32(), "variance of the Laplacian of the aligned crop"),
        _field("readable", pa.float32(), "how readable the face is, 0 to 1 (docs/quality.md)"),
        _field("unreadable", pa.string(), f"why the face was not read, so that its fields are null: {', '.join(FAULTS)}"),
        *[_field(au, pa.float32(), "probability that it is active; null where the face was not read or the AU is unknown") for au in AUS],
        *[_field(f"{au}_intensity", pa.float32(), "FACS intensity, 0 to 5; null where the model gives none") for au in AUS],
        _field("emotion", pa.string(), "the most probable; null where the face was not read"),
        *[_field(f"emotion_{name}", pa.float32(), "probability; the seven sum to 1") for name in EMOTIONS],
        _field("age", pa.float32(), "apparent age, years: the median of the model's distribution"),
    ]
)

FACE_COLUMNS = ("emotion", *(f"emotion_{name}" for name in EMOTIONS), "age")
"""Columns about a face as a whole: in one frame they are equal in its row of the faces table and in its rows of the descriptions table."""

READ_COLUMNS = (*AUS, *(f"{au}_intensity" for au in AUS), *FACE_COLUMNS)
"""Columns of the faces table that come from reading the whole face."""

DESCRIPTIONS = pa.schema(
    [
        _field("video_id", pa.string(), "the video's id in the videos table", False),
        _field("track_id", pa.int32(), "the track's id in the faces table", False),
        _field("window_index", pa.int64(), "floor(time_s / window)", False),
        _field("start_s", pa.float64(), "start of the window, in seconds", False),
        _field("end_s", pa.float64(), "end of the window, in seconds", False),
        _field("frame_index", pa.int64(), "number of the described frame", False),
        _field("time_s", pa.float64(), "time of the described frame, in seconds", False),
        _field("region", pa.string(), "name of the region, or box for a rectangle that the user chose", False),
        _field("box", _BOX, "x0, y0, x1, y1 in pixels of the upright frame", False),
        _field("activity", pa.float32(), "how much the region changed in this window, against the track's own history"),
        _field("readable", pa.float32(), "how readable the face is in the described frame, 0 to 1"),
        *[
            _field(
                au,
                pa.float32(),
                "the model's probability that it is active; null where the region cannot show it, the model does not know it or gives none",
            )
            for au in AUS
        ],
        *[_field(f"{au}_intensity", pa.float32(), "FACS intensity, 0 to 5; null where the model gives none") for au in AUS],
        _field(
            "aus",
            pa.list_(pa.string()),
            "the active ones: score at or above the model's threshold (run.json, thresholds); of two that exclude each other the surer "
            "one, but AU27 before AU26 and AU43 before gaze",
            False,
        ),
        _field(
            "emotion",
            pa.string(),
            "the most probable of the whole face, as in the faces table; so are its probabilities and the age",
            False,
        ),
        *[_field(f"emotion_{name}", pa.float32(), "probability; the seven sum to 1; null where the model gives none") for name in EMOTIONS],
        _field("age", pa.float32(), "apparent age, years: the median of the model's distribution, or what the model states", False),
        _field("age_low", pa.float32(), "10th percentile of the distribution; null where the model gives none"),
        _field("age_high", pa.float32(), "90th percentile of the distribution; null where the model gives none"),
        _field("description", pa.string(), "one sentence", False),
        _field("change", pa.string(), "what changes in the window, by the scores of its frames; null where nothing does or there are none"),
        _field("model", pa.string(), "the checkpoint that answered", False),
    ]
)

TABLES: dict[str, pa.Schema] = {"videos": VIDEOS, "faces": FACES, "descriptions": DESCRIPTIONS}
"""The tables of a run folder, by name."""

PERSON_ID = _field("person_id", pa.string(), "the person that the track shows (`focalface people`); null where the track is not linked")
"""Stands after `track_id` in the faces and descriptions tables as `open_run` gives them, once people are linked. Files do not hold it: the
people folder does, so that linking, editing and erasing leave the tables of a run as they are."""

PERSON_TRACKS = pa.schema(
    [
        _field("run", pa.string(), "name of the run folder", False),
        _field("video_id", pa.string(), "the video's id in the videos table", False),
        _field("path", pa.string(), "path or URL of the video, as the run names it", False),
        _field("track_id", pa.int32(), "the track's id in the faces table", False),
        PERSON_ID,
        _field("first_s", pa.float64(), "time of the track's first face in the video", False),
        _field("last_s", pa.float64(), "time of its last face", False),
        _field("faces", pa.int64(), "number of its rows in the faces table", False),
        _field("quality", pa.float32(), "how well its best face can be recognised, 0 to 1; null where no face was looked at"),
        _field("note", pa.string(), "why the track is not linked"),
        _field("mark", pa.string(), "changes when the video is analysed again; the links of an older mark do not count", False),
    ]
)
"""`tracks.parquet` of a people folder: a row for each track, linked or not."""

PEOPLE = pa.schema(
    [
        _field("person_id", pa.string(), "identifies the person within the people folder", False),
        _field("name", pa.string(), "given with --name"),
        _field("tracks", pa.int32(), "number of tracks", False),
        _field("videos", pa.int32(), "number of videos", False),
        _field("first_video", pa.string(), "path of the first video with this person", False),
        _field("first_s", pa.float64(), "first seen: time in that video", False),
        _field("last_video", pa.string(), "path of the last one", False),
        _field("last_s", pa.float64(), "last seen: time in that video", False),
        _field("faces", pa.int64(), "number of rows in the faces tables", False),
        _field("face", pa.string(), "a picture of the person: a JPEG in the people folder"),
    ]
)
"""`people.parquet` of a people folder: a row for each person."""

_OF_A_VIDEO = {"video_id", "track_id", "window_index", "start_s", "end_s", "frame_index", "time_s", "activity", "change"}

IMAGES = pa.schema(
    [
        _field("path", pa.string(), "path or URL of the file, as the user typed it", False),
        _field("status", pa.string(), "ok, no_faces or failed", False),
        _field("error", pa.string(), "why it failed"),
        _field("face", pa.int32(), "number of the face in the image, from 1, left to right"),
        _field("det_score", pa.float32(), "the detector's score"),
        _field("face_box", _BOX, "x0, y0, x1, y1 of the face in pixels of the upright image"),
        _field("landmarks5", pa.list_(pa.float32(), 10), "x, y of the eyes, nose tip and mouth corners, image-left first"),
        *[field.with_nullable(True) for field in (DESCRIPTIONS.field("readable"), FACES.field("unreadable"))],
        *[field.with_nullable(True) for field in DESCRIPTIONS if field.name not in {*_OF_A_VIDEO, "readable"}],
    ]
)
"""The table of `focalface describe --out`: a row for each image, face and region; one row without a face for an image that has none or
that failed. The columns from `region` on are those of the descriptions table."""


def face_numbers(tracks: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Track ids and frame numbers, (N,) each, as one number for each face of a video; frame numbers stay below 2**40."""
    return np.asarray(tracks, np.int64) * 2**40 + np.asarray(frames, np.int64)
