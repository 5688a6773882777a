"""Small pictures of the described frames, read from the video again: few enough for a page; blurred, or none, when asked."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from pipeline.errors import VideoError
from pipeline.report.page_data import VideoData, boxes_of
from pipeline.storage.run_folder import size_of
from pipeline.video.opening import open_video
from pipeline.vocabulary import Box

Faces = Literal["show", "blur", "none"]

MAX_PICTURES = 480
"""Pictures on one page; more show more of a long video and make its page larger and slower to write."""

PICTURE_BYTES = 6_000_000
"""Bytes of all pictures of a page together, before base64; with `MAX_PICTURES` it leaves a two-hour page below 15 MB."""

PICTURE_SIDE = 360
"""Pixels of a picture's longer side; more shows finer wrinkles and takes more bytes."""

MAX_PICTURE_BYTES = 40_000
"""Bytes of one picture where there are few pictures; more keep finer detail."""

QUALITIES = (82, 70, 55, 40, 25)
"""JPEG qualities, tried in turn until a picture fits its share."""

AROUND = 1.7
"""A picture shows this many times the size of the face; more shows more of the scene and a smaller face."""

FACE_CELLS = 5
"""Flat squares across a blurred face; from about ten on, people can be recognised."""

SCENE_CELLS = 28
"""Squares across the rest of a blurred picture, which may hold faces that the detector missed."""

MARGIN = 0.2
"""A face is hidden beyond its box by this share of its size on each side: hair and chin identify people too."""


@dataclass(frozen=True)
class Picture:
    """One picture of a page.

    Attributes:
        track_id, frame_index, time_s: what it shows.
        view: the part of the frame, in pixels.
        jpeg: the file.
    """

    track_id: int
    frame_index: int
    time_s: float
    view: Box
    jpeg: bytes

    def as_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        return {
            "track": self.track_id,
            "frame": self.frame_index,
            "ms": round(self.time_s * 1000),
            "view": [round(value) for value in self.view],
            "jpeg": base64.b64encode(self.jpeg).decode(),
        }


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page.

    Attributes:
        pictures: by time.
        best: track_id to the number of the picture that shows it best.
        note: why pictures are left out, or empty.
    """

    pictures: tuple[Picture, ...]
    best: dict[int, int]
    note: str = ""


@dataclass(frozen=True)
class _Candidates:
    """The M described (frame, track) pairs of a video, by time.

    Attributes:
        frames, tracks, times: (M,) what each shows.
        content: (M,) how much is described there: active units, emotion, movement.
        quality: (M,) how sharp and frontal the face is.
        views: (M, 4) boxes around all that is described, in pixels.
    """

    frames: np.ndarray
    tracks: np.ndarray
    times: np.ndarray
    content: np.ndarray
    quality: np.ndarray
    views: np.ndarray


def _candidates(data: VideoData) -> _Candidates:
    pairs = np.stack([data.column("frame_index"), data.column("track_id")], 1).astype(np.int64).reshape(-1, 2)
    distinct, place = np.unique(pairs, axis=0, return_inverse=True)
    place = place.reshape(-1)
    boxes = data.boxes()
    active = np.array([len(codes or ()) for codes in data.rows["aus"].to_pylist()], np.float64)
    content = np.zeros(len(distinct))
    expression = np.nan_to_num(1 - data.column("emotion_neutral"))
    np.add.at(content, place, active + expression + np.clip(np.nan_to_num(data.column("activity")), 0, 5) / 5)
    times = np.zeros(len(distinct))
    times[place] = data.column("time_s")
    views = np.full((len(distinct), 4), np.nan)
    views[:, :2], views[:, 2:] = np.inf, -np.inf
    np.minimum.at(views[:, :2], place, boxes[:, :2])
    np.maximum.at(views[:, 2:], place, boxes[:, 2:])

    faces = {
        pair: number
        for number, pair in enumerate(zip(data.faces["frame_index"].to_pylist(), data.faces["track_id"].to_pylist(), strict=True))
    }
    rows = np.array([faces.get((frame, track), -1) for frame, track in distinct.tolist()], np.int64)
    quality = np.full(len(distinct), -1e3)
    if (rows >= 0).any():
        where = rows[rows >= 0]
        face = boxes_of(data.faces)[where]
        views[rows >= 0, :2] = np.minimum(views[rows >= 0, :2], face[:, :2])
        views[rows >= 0, 2:] = np.maximum(views[rows >= 0, 2:], face[:, 2:])
        yaw, pitch, sharp = (np.nan_to_num(data.faces[name].to_numpy().astype(np.float64)) for name in ("yaw", "pitch", "sharpness"))
        quality[rows >= 0] = (sharp / (sharp + 500))[where] - (abs(yaw) + abs(pitch))[where] / 40
    order = np.lexsort((distinct[:, 1], times))
    frames, tracks = distinct[order].T if len(distinct) else (np.zeros(0, np.int64),) * 2
    return _Candidates(frames, tracks, times[order], content[order], quality[order], views[order])


def choose(tracks: np.ndarray, content: np.ndarray, quality: np.ndarray, most: int) -> tuple[np.ndarray, dict[int, int]]:
    """Choose which of M candidates, ordered by time, to show.

    Args:
        tracks, content, quality: (M,) track of each candidate, how much is described there, how well it shows the face.
        most: number to choose.

    Returns:
        Places of the chosen, rising: the best picture of every track first, the rest spread evenly in time with the richest candidate of
        each stretch; and track_id to the place of its best picture.
    """
    best = {int(track): int(np.flatnonzero(tracks == track)[quality[tracks == track].argmax()]) for track in np.unique(tracks)}
    if len(best) > most:  # the tracks that are there longest
        often = sorted(best, key=lambda track: (-int((tracks == track).sum()), track))[:most]
        best = {track: best[track] for track in often}
    chosen = set(best.values())
    others = np.setdiff1d(np.arange(len(tracks)), [*chosen])
    for stretch in np.array_split(others, max(1, min(most - len(chosen), len(others)))):
        if len(stretch) and len(chosen) < most:
            chosen.add(int(stretch[content[stretch].argmax()]))
    return np.array(sorted(chosen), np.int64), best


def view_around(boxes: Box, width: int, height: int) -> Box:
    """The square part of a frame, in whole pixels, that shows a box with `AROUND` times its size; as much as the frame holds."""
    x0, y0, x1, y1 = boxes
    side = max(x1 - x0, y1 - y0) * AROUND
    across, down = min(side, width), min(side, height)
    left = min(max((x0 + x1 - across) / 2, 0), width - across)
    top = min(max((y0 + y1 - down) / 2, 0), height - down)
    return (round(left), round(top), max(round(left + across), round(left) + 1), max(round(top + down), round(top) + 1))


def anonymised(picture: Image.Image, faces: np.ndarray) -> Image.Image:
    """A picture in which nobody can be recognised: coarse all over, coarser where faces are.

    Args:
        picture: RGB.
        faces: (F, 4) boxes in its pixels.
    """
    hidden = _mosaic(picture, SCENE_CELLS).filter(ImageFilter.GaussianBlur(max(picture.size) / SCENE_CELLS / 2))
    for x0, y0, x1, y1 in faces:
        grow = MARGIN * max(x1 - x0, y1 - y0)
        place = (
            max(0, round(x0 - grow)),
            max(0, round(y0 - grow)),
            min(picture.width, round(x1 + grow)),
            min(picture.height, round(y1 + grow)),
        )
        if place[0] < place[2] and place[1] < place[3]:
            hidden.paste(_mosaic(picture.crop(place), FACE_CELLS), place[:2])
    return hidden


def _mosaic(picture: Image.Image, cells: int) -> Image.Image:
    scale = cells / max(picture.size)
    small = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.NEAREST)


def _jpeg(picture: Image.Image, room: float) -> bytes:
    """The best JPEG of at most `room` bytes: of lower quality first, then smaller."""
    while True:
        for quality in QUALITIES:
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=quality, optimize=True)
            if file.tell() <= room or max(picture.size) < 32:
                return file.getvalue()
        picture = picture.reduce(2)


def why_without_pictures(video: Mapping[str, object], mark: str, faces: Faces) -> str:
    """Why a video's pictures cannot or must not be shown; empty where they can.

    Args:
        video: its row of the videos table.
        mark: the `file_mark` that the file had in the run, or empty.
        faces: `show`, `blur` or `none`.
    """
    if faces == "none":
        return "Pictures were left out on request (--no-faces)."
    file = Path(str(video["path"]))
    try:
        size = file.stat().st_size
    except (OSError, ValueError):
        return "The video is no longer where it was, so there are no pictures."
    if mark and size_of(mark) != size:
        return "The video has changed since the run, so there are no pictures."
    return ""


def read_pictures(data: VideoData, mark: str, faces: Faces, progress: Callable[[int, int], None] = lambda done, total: None) -> Pictures:
    """Read the pictures of a page from its video.

    Args:
        data: of the video.
        mark: the `file_mark` that the file had in the run (`RunFolder.committed`), or empty.
        faces: `show`, `blur` or `none`.
        progress: called with (pictures read, pictures to read) after each.
    """
    note = why_without_pictures(data.video, mark, faces)
    if note or not data.rows.num_rows:
        return Pictures((), {}, note)
    candidates = _candidates(data)
    chosen, best = choose(candidates.tracks, candidates.content, candidates.quality, MAX_PICTURES)
    try:
        pictures = tuple(sorted(_read(data, candidates, chosen, faces, progress), key=lambda one: (one.time_s, one.track_id)))
    except VideoError as error:
        return Pictures((), {}, f"The video can no longer be read, so there are no pictures ({error}).")
    place = {(one.frame_index, one.track_id): number for number, one in enumerate(pictures)}
    shown = {track: place.get((int(candidates.frames[at]), track), -1) for track, at in best.items()}
    missing = "" if len(pictures) == len(chosen) else "Some frames of the video can no longer be read; their pictures are missing."
    return Pictures(pictures, shown, missing)


def _read(
    data: VideoData, candidates: _Candidates, chosen: np.ndarray, faces: Faces, progress: Callable[[int, int], None]
) -> Iterator[Picture]:
    room = min(MAX_PICTURE_BYTES, PICTURE_BYTES / max(1, len(chosen)))
    wanted: dict[int, list[int]] = {}
    for place in chosen.tolist():
        wanted.setdefault(int(candidates.frames[place]), []).append(place)
    frame_of_face = data.faces["frame_index"].to_numpy()
    boxes = boxes_of(data.faces) if faces == "blur" else np.zeros((len(frame_of_face), 4))
    done = 0
    with open_video(data.video["path"]) as video:
        for frame in video.pick(wanted, dict(zip(candidates.frames.tolist(), candidates.times.tolist(), strict=True))):
            height, width = frame.image.shape[:2]
            for place in wanted[frame.index]:
                around = candidates.views[place]
                view = view_around(tuple(around.tolist()), width, height) if np.isfinite(around).all() else (0, 0, width, height)
                x0, y0, x1, y1 = map(int, view)
                picture = Image.fromarray(frame.image[y0:y1, x0:x1])
                picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
                if faces == "blur":
                    known = np.concatenate([boxes[frame_of_face == frame.index], around[None]])
                    scale = picture.width / (x1 - x0)
                    picture = anonymised(picture, (known[np.isfinite(known).all(1)] - (x0, y0, x0, y0)) * scale)
                yield Picture(int(candidates.tracks[place]), frame.index, float(candidates.times[place]), view, _jpeg(picture, room))
                done += 1
                progress(done, len(chosen))
