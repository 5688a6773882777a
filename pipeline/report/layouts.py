"""The column layouts of the per-frame tables: this project's own, OpenFace's and py-feat's.

The layouts of the other tools use their names, units and signs, so that scripts written for their files read ours; the signs were
checked on the tools' own sample files. What is not measured here (gaze, dense landmarks, identity vectors) is left out; what is measured
but not known of a frame is empty.

Scores, emotion and age are those of the row's own frame where the run read every frame, else those of the described frame of its window
(`pipeline.report.export`).

`focalface`: as in the faces and descriptions tables, lists as plain columns; `region` is the one that the sentence is about.

`openface` (OpenFace 2.2, FeatureExtraction and FaceLandmarkVidMulti):
    frame          number of the frame in the file, from 1; sampling leaves numbers out
    face_id        track_id - 1, as OpenFace counts from 0
    timestamp      seconds
    confidence     the detector's score; empty in runs of earlier versions, where it was tracked between detections
    success        1, or 0 in a frame without a face and where the face was not readable
    pose_Rx, _Ry, _Rz   pitch, minus yaw, minus roll, in radians
    AU01_r ...     0 to 5: the FACS intensity where the model gives one, else five times the probability that the unit is active, which may
                   be ranked and thresholded as OpenFace's, but is no FACS intensity
    AU01_c ...     1 where the unit is active by the run's thresholds, else 0
    AU45           the blink, from AU43 (eyes closed); AU45_c is 1 while the eyes are closed and in every blink that the trends count
`openface-spaces`: the same with a space before every name but the first, as in OpenFace's own files.

`pyfeat` (py-feat 2): `frame` from 0; box as corner and size; `Pitch`, `Roll` and `Yaw` in radians with the sign changed; AU columns
    hold probabilities; `Identity` is the person, or Person_<track_id> where people are not linked; `approx_time` is MM:SS.

The other tools' layouts end with `track_id`, `person_id`, `time_s`, `window_index`, `described` and `path`, by which rows are found in
our tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.windows import active_column, intensity_column
from pipeline.vocabulary import AUS, EMOTIONS, UNIT

Known = dict[str, Any]
"""What is known of a batch of rows, by name: the columns of the faces table, those of `pipeline.report.windows.window_rows`,
`window_index`, `described`, the video's `path` (a string), `WITH_INTENSITY`, and, where every frame was read, `IN_BLINK`."""

WITH_INTENSITY = "with_intensity"
"""The action units that have FACS intensities, a set of codes."""

IN_BLINK = "in_blink"
"""Whether a row lies inside a blink."""

Resolution = Literal["frame", "window", "described"]


@dataclass(frozen=True)
class Column:
    """One column of a layout.

    Attributes:
        name: its header.
        meaning: a sentence for the file of column descriptions.
        resolution: `frame` where each row has a value of its own; `window` where all rows of a track's window repeat one value; `read`
            where that depends on whether the run read every frame; `described` for what then only the described frame's row has.
        values: makes the column of a batch.
        intensity_of: the action unit whose intensity, where there is one, the column holds.
    """

    name: str
    meaning: str
    resolution: Literal["frame", "window", "read", "described"]
    values: Callable[[Known], pa.Array]
    intensity_of: str | None = None

    def resolution_in(self, reads_frames: bool) -> Resolution:
        """The column's resolution in a run that reads every frame, or only those that it describes."""
        if self.resolution in ("read", "described") and not reads_frames:
            return "window"
        return "frame" if self.resolution == "read" else self.resolution

    def meaning_in(self, with_intensity: Set[str]) -> str:
        """What the column means in a run whose model gives FACS intensities of these action units."""
        if self.intensity_of is not None and self.intensity_of in with_intensity:
            return f"{UNIT[self.intensity_of].name} ({self.intensity_of}): FACS intensity, 0 to 5"
        return self.meaning


@dataclass(frozen=True)
class Layout:
    """The columns of a per-frame table.

    Attributes:
        columns: in order.
        empty_frames: whether the tool that the layout comes from has rows for frames without a face.
    """

    columns: tuple[Column, ...]
    empty_frames: bool = False


_OPENFACE_AUS = {  # OpenFace's number of a unit: our code; OpenFace has no intensity for AU28
    **{f"{number:02}": f"AU{number:02}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28)},
    "45": "AU43",
}
_PYFEAT_AUS = tuple(f"AU{number:02}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43))
_PYFEAT_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
_LANDMARKS = ("left_eye", "right_eye", "nose_tip", "left_mouth", "right_mouth")
_DETECTED = "the detector's score, 0 to 1; empty in runs of earlier versions, where it was tracked between detections"
_ZERO = pa.scalar(0.0, pa.float32())


def _same(name: str) -> Callable[[Known], pa.Array]:
    """The column of that name as it is."""
    return lambda known: known[name]


def _element(name: str, place: int) -> Callable[[Known], pa.Array]:
    """One element of a list column."""
    return lambda known: pc.list_element(known[name], place)


def _radians(name: str, sign: int) -> Callable[[Known], pa.Array]:
    return lambda known: pc.multiply(known[name], pa.scalar(sign * np.pi / 180, pa.float32()))


def _has_face(known: Known) -> pa.Array:
    return pc.is_valid(known["track_id"])


def _could_be_read(known: Known) -> pa.Array:
    return pc.and_(_has_face(known), pc.is_null(known["unreadable"])).cast(pa.int8())


def _path(known: Known) -> pa.Array:
    return pa.repeat(pa.scalar(known["path"], pa.string()), len(known["frame_index"]))


def _listed_aus(known: Known) -> pa.Array:
    """The active action units of a row in one text; null where the face was not read."""
    codes = [pc.if_else(pc.fill_null(known[active_column(au)], False), au, None) for au in AUS]
    first = pa.repeat("", len(codes[0]))  # pyarrow drops rows that have nothing to join
    listed = pc.utf8_ltrim(pc.binary_join_element_wise(first, *codes, " ", null_handling="skip"), " ")
    return pc.if_else(pc.is_valid(known["emotion"]), listed, None)


def _focalface() -> Iterator[Column]:
    yield Column("path", "the video, as it was given to the run", "frame", _path)
    yield Column("frame_index", "number of the frame in the video, from 0", "frame", _same("frame_index"))
    yield Column("time_s", "seconds from the stream's first frame", "frame", _same("time_s"))
    yield Column("track_id", "one face's continuous presence, from 1 in each video", "frame", _same("track_id"))
    yield Column("person_id", "the person, where people are linked (focalface people)", "frame", _same("person_id"))
    yield Column(
        "det_score",
        "the detector's score, 0 to 1; empty in runs of earlier versions, where it was tracked between detections",
        "frame",
        _same("det_score"),
    )
    for place, name in enumerate(("x0", "y0", "x1", "y1")):
        yield Column(f"box_{name}", "edge of the face's box, in pixels of the upright frame", "frame", _element("box", place))
    for place, name in enumerate(_LANDMARKS):
        for axis, letter in enumerate("xy"):
            meaning = f"{name.replace('_', ' ')} (left and right of the image), in pixels of the upright frame"
            yield Column(f"{name}_{letter}", meaning, "frame", _element("landmarks5", 2 * place + axis))
    yield Column("yaw", "degrees, positive when the face turns to the image's right", "frame", _same("yaw"))
    yield Column("pitch", "degrees, positive when the face looks down", "frame", _same("pitch"))
    yield Column("roll", "degrees, positive when the image-right eye is the higher one", "frame", _same("roll"))
    yield Column("sharpness", "variance of the Laplacian of the aligned face", "frame", _same("sharpness"))
    yield Column("readable", "how readable the face is, 0 to 1", "frame", _same("readable"))
    yield Column("unreadable", "why the face was not read, so that it has no scores, emotion and age", "frame", _same("unreadable"))
    yield Column("window_index", "number of the window", "frame", _same("window_index"))
    yield Column("described", "whether this frame is the one that was described for its window", "frame", _same("described"))
    for au in AUS:
        yield Column(au, f"{UNIT[au].name}: probability that it is active, 0 to 1", "read", _same(au))
    for au in AUS:
        name = intensity_column(au)
        yield Column(name, f"{UNIT[au].name}: FACS intensity, 0 to 5; empty where the model gives none", "read", _same(name))
    yield Column("aus", "the active action units", "read", _listed_aus)
    yield Column("emotion", "the most probable emotion of the face", "read", _same("emotion"))
    for name in EMOTIONS:
        yield Column(f"emotion_{name}", "probability; the seven sum to 1", "read", _same(f"emotion_{name}"))
    yield Column("age", "apparent age in years: the median of the model's distribution", "read", _same("age"))
    yield Column("age_low", "10th percentile of the distribution", "described", _same("age_low"))
    yield Column("age_high", "90th percentile of the distribution", "described", _same("age_high"))
    yield Column("region", "the region that the sentence is about", "window", _same("region"))
    yield Column("description", "one sentence about the described frame", "window", _same("description"))
    yield Column("change", "what changes within the window; empty where nothing does", "window", _same("change"))


def _references() -> Iterator[Column]:
    """The columns by which the rows of another tool's layout are found in our tables."""
    columns = {column.name: column for column in _focalface()}
    yield from (columns[name] for name in ("track_id", "person_id", "time_s", "window_index", "described", "path"))


def _score(known: Known) -> pa.Array:
    return pc.if_else(_has_face(known), known["det_score"], _ZERO)


def _openface() -> Iterator[Column]:
    yield Column("frame", "number of the frame in the video, from 1", "frame", lambda known: pc.add(known["frame_index"], 1))
    yield Column("face_id", "track_id - 1", "frame", lambda known: pc.fill_null(pc.subtract(known["track_id"], 1), 0))
    yield Column("timestamp", "seconds from the stream's first frame", "frame", _same("time_s"))
    yield Column("confidence", _DETECTED, "frame", _score)
    yield Column("success", "1 where there is a face that could be read, else 0", "frame", _could_be_read)
    for letter, name, sign in (("x", "pitch", 1), ("y", "yaw", -1), ("z", "roll", -1)):
        yield Column(f"pose_R{letter}", f"{'minus ' * (sign < 0)}{name}, in radians", "frame", _radians(name, sign))
    for number, au in _OPENFACE_AUS.items():
        if au != "AU28":
            meaning = f"{UNIT[au].name} ({au}): five times the probability that it is active; not a FACS intensity"
            yield Column(f"AU{number}_r", meaning, "read", _intensity(au), au)
    for number, au in _OPENFACE_AUS.items():
        blinks = ", and in every blink" if au == "AU43" else ""
        yield Column(f"AU{number}_c", f"{UNIT[au].name} ({au}): 1 where it is active{blinks}, else 0", "read", _active(au))
    yield from _references()


def _intensity(au: str) -> Callable[[Known], pa.Array]:
    """The FACS intensity where the model gives one, else five times the probability."""

    def values(known: Known) -> pa.Array:
        return known[intensity_column(au)] if au in known[WITH_INTENSITY] else pc.multiply(known[au], pa.scalar(5, pa.float32()))

    return values


def _active(au: str) -> Callable[[Known], pa.Array]:
    def values(known: Known) -> pa.Array:
        active = known[active_column(au)]
        if au == "AU43" and IN_BLINK in known:
            active = pc.or_(active, known[IN_BLINK])  # null where the face was not read
        return active.cast(pa.int8())

    return values


def _pyfeat() -> Iterator[Column]:
    def size(axis: int) -> Callable[[Known], pa.Array]:
        return lambda known: pc.subtract(pc.list_element(known["box"], axis + 2), pc.list_element(known["box"], axis))

    def identity(known: Known) -> pa.Array:
        return pc.coalesce(known["person_id"], pc.binary_join_element_wise("Person", known["track_id"].cast(pa.string()), "_"))

    def clock(known: Known) -> pa.Array:
        seconds = known["time_s"].to_numpy().astype(int)
        return pa.array([f"{second // 60:02d}:{second % 60:02d}" for second in seconds], pa.string())

    yield Column("frame", "number of the frame in the video, from 0", "frame", _same("frame_index"))
    yield Column("FaceRectX", "left edge of the face's box, in pixels", "frame", _element("box", 0))
    yield Column("FaceRectY", "upper edge of the face's box, in pixels", "frame", _element("box", 1))
    yield Column("FaceRectWidth", "width of the face's box, in pixels", "frame", size(0))
    yield Column("FaceRectHeight", "height of the face's box, in pixels", "frame", size(1))
    yield Column("FaceScore", _DETECTED, "frame", _score)
    for au in _PYFEAT_AUS:
        yield Column(au, f"{UNIT[au].name}: probability that it is active, 0 to 1", "read", _same(au))
    for name in ("Pitch", "Roll", "Yaw"):
        yield Column(name, f"minus {name.lower()}, in radians", "frame", _radians(name.lower(), -1))
    for name in _PYFEAT_EMOTIONS:
        yield Column(name, "probability; the seven sum to 1", "read", _same(f"emotion_{name}"))
    yield Column("input", "the video, as it was given to the run", "frame", _path)
    yield Column("approx_time", "MM:SS", "frame", clock)
    yield Column("Identity", "the person where people are linked, else Person_<track_id>", "frame", identity)
    yield from (column for column in _references() if column.name != "path")


def _spaced(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """A space before every name but the first."""
    return columns[:1] + tuple(replace(column, name=f" {column.name}") for column in columns[1:])


LAYOUTS: dict[str, Layout] = {
    "focalface": Layout(tuple(_focalface())),
    "openface": Layout(tuple(_openface()), empty_frames=True),
    "openface-spaces": Layout(_spaced(tuple(_openface())), empty_frames=True),
    "pyfeat": Layout(tuple(_pyfeat())),
}
"""The layouts by name. To add one, list its columns."""
