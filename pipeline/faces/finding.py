"""Finding the faces of each frame: the part of the work that needs pixels, and the only one.

`find_faces` needs no frame outside the stretch that it is given, so segments of a long video can go through it on different
machines; `pipeline.faces.tracking.FaceTracker` then joins the results in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from pipeline.faces.alignment import align, crop
from pipeline.faces.covering import covering_maps
from pipeline.faces.detectors import Detector
from pipeline.faces.optical_flow import carry
from pipeline.faces.pose import head_pose
from pipeline.faces.readability import face_quality, readability, sharpness
from pipeline.faces.scene_cuts import is_blank, picture_changed, thumbnail
from pipeline.records import Detections, Face, Frame, FrameFaces

READ_AHEAD_BYTES = 256 * 2**20
"""Frames held in memory for one batch of detections, in bytes; more makes larger batches of large frames."""


def find_faces(frames: Iterable[Frame], detector: Detector, every: int = 1, batch: int = 8) -> Iterator[FrameFaces]:
    """Find and measure the faces of a stretch of video.

    Args:
        frames: in order, from `Video.frames`.
        detector: from `pipeline.faces.detectors.load_detector`.
        every: run the detector on every k-th frame and where the picture changes; in between, faces are carried by optical
            flow. One that flow loses is missing until it is detected again.
        batch: frames read ahead, so that the detector gets several at once.

    Yields:
        The faces of every frame, in order, with `track_id` 0.
    """
    since = 0  # frames since the detector was run
    last: np.ndarray | None = None  # thumbnail of the last frame that is not blank
    before: tuple[np.ndarray, tuple[Face, ...]] | None = None
    remaining = iter(frames)
    while waiting := _read_ahead(remaining, batch):
        thumbnails = [thumbnail(frame.image) for frame in waiting]
        detected = []
        for small in thumbnails:
            detected.append(since % every == 0 or (last is not None and picture_changed(last, small)))
            since = 1 if detected[-1] else since + 1
            last = last if is_blank(small) else small
        found = iter(detector.detect([frame.image for frame, wanted in zip(waiting, detected, strict=True) if wanted]))
        for frame, small, wanted in zip(waiting, thumbnails, detected, strict=True):
            if wanted:
                faces = measure_faces(frame, next(found))
            else:
                assert before is not None  # the first frame is always detected
                faces = measure_faces(frame, carry(before[0], frame.image, before[1]), detected=False)
            before = (frame.image, faces) if every > 1 else None
            yield FrameFaces(frame.index, frame.time_s, (frame.image.shape[1], frame.image.shape[0]), small, faces)


def _read_ahead(frames: Iterator[Frame], batch: int) -> list[Frame]:
    """The next `batch` frames, fewer where they are large."""
    waiting: list[Frame] = []
    held = 0
    for frame in frames:
        waiting.append(frame)
        held += frame.image.nbytes
        if len(waiting) >= batch or held + frame.image.nbytes > READ_AHEAD_BYTES:
            break
    return waiting


def measure_faces(frame: Frame, found: Detections, detected: bool = True) -> tuple[Face, ...]:
    """Align and measure the faces of a frame.

    Args:
        frame: of the video.
        found: its faces.
        detected: whether a detector gave their scores; otherwise `det_score` is None.

    Returns:
        A face for each detection, with `track_id` 0. Those whose landmarks are unusable are left out.
    """
    faces = []
    for box, score, landmarks5 in zip(found.boxes, found.scores, found.landmarks5, strict=True):
        try:
            alignment = align(landmarks5)
        except ValueError:
            continue
        aligned = crop(frame.image, alignment)
        yaw, pitch, roll = head_pose(landmarks5)
        face = Face(
            frame_index=frame.index,
            time_s=frame.time_s,
            track_id=0,
            det_score=float(score) if detected else None,
            box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            landmarks5=landmarks5,
            yaw=yaw,
            pitch=pitch,
            roll=roll,
            sharpness=sharpness(aligned),
            alignment=alignment,
            crop=aligned,
        )
        faces.append(face)
    size = (frame.image.shape[1], frame.image.shape[0])
    covering = covering_maps([face.crop for face in faces])
    return tuple(_rated(face, size, part) for face, part in zip(faces, covering, strict=True))


def _rated(face: Face, frame_size: tuple[int, int], covering: np.ndarray) -> Face:
    """A face with its readability."""
    score, fault = readability(face_quality(face, frame_size, covering))
    return replace(face, readable=score, fault=fault)
