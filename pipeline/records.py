"""What the stages hand to each other: plain frozen records over NumPy arrays, in the order of a frame's journey.

`box` is x0, y0, x1, y1 in pixels, `time_s` seconds from the stream's first frame, images are RGB uint8 and upright, throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.vocabulary import Box


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: its place in the stream, from 0.
        time_s: its own timestamp.
        image: (H, W, 3) uint8 RGB, upright.
    """

    index: int
    time_s: float
    image: np.ndarray


@dataclass(frozen=True)
class Detections:
    """The N faces that a detector found in one image.

    Attributes:
        boxes: (N, 4) float32 pixels.
        scores: (N,) float32 in [0, 1].
        landmarks5: (N, 5, 2) float32 pixels: image-left eye, image-right eye, nose tip, image-left and image-right mouth corner.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks5: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Alignment:
    """A similarity transform from frame pixels to aligned-crop pixels.

    Attributes:
        matrix: (2, 3) float64; `aligned = matrix[:, :2] @ xy + matrix[:, 2]`.
    """

    matrix: np.ndarray

    @property
    def scale(self) -> float:
        """Aligned pixels per frame pixel."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    @property
    def angle(self) -> float:
        """In-plane rotation of the face in the frame, in degrees; positive when the image-right eye is the lower one."""
        return float(np.degrees(np.arctan2(self.matrix[0, 1], self.matrix[0, 0])))

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 2) frame pixels to aligned-crop pixels."""
        return np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 2) aligned-crop pixels to frame pixels."""
        return (np.asarray(points, np.float64) - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T


@dataclass(frozen=True)
class Face:
    """One face in one sampled frame: a row of the faces table, with the aligned crop that the later stages work on.

    Attributes:
        frame_index, time_s: of the frame.
        track_id: from 1, unique within a video; 0 before tracking.
        det_score: the detector's score, 0 to 1.
        box: pixels of the upright frame.
        landmarks5: (5, 2) float32 pixels of the upright frame.
        yaw, pitch, roll: degrees (`pipeline.faces.pose`).
        sharpness: variance of the Laplacian of the aligned crop.
        alignment: frame pixels to crop pixels.
        crop: (112, 112, 3) uint8 RGB, aligned.
        readable: how readable it is, 0 to 1 (`pipeline.faces.readability`).
        fault: what makes it less readable most, one of `pipeline.vocabulary.FAULTS`; None where it was not measured.
    """

    frame_index: int
    time_s: float
    track_id: int
    det_score: float
    box: Box
    landmarks5: np.ndarray
    yaw: float
    pitch: float
    roll: float
    sharpness: float
    alignment: Alignment
    crop: np.ndarray
    readable: float = 1.0
    fault: str | None = None

    def unreadable(self, least: float) -> str | None:
        """Why the face cannot be read where a score of `least` is asked for; None where it can."""
        return self.fault if self.readable < least else None


@dataclass(frozen=True)
class FrameFaces:
    """The faces found in one sampled frame, and all else that tracking needs of it: the frame's pixels are no longer required.

    Attributes:
        frame_index, time_s: of the frame.
        size: width and height of the frame in pixels.
        thumbnail: (36, 64, 3) uint8 RGB, on which scene cuts are found.
        faces: those found, with `track_id` 0.
    """

    frame_index: int
    time_s: float
    size: tuple[int, int]
    thumbnail: np.ndarray
    faces: tuple[Face, ...]


@dataclass(frozen=True)
class Selection:
    """One region of one face that is worth describing in one window of its track.

    Attributes:
        window_index: floor(time_s / window); the window spans start_s to end_s.
        face: the frame's face that is described.
        region: a name of `pipeline.vocabulary.REGIONS`, or `box`.
        crop_box: the region in pixels of the aligned crop.
        box: its upright bounding rectangle in pixels of the frame.
        activity: how much the region changed, against the track's own history; 1 is usual for this track, more is more.
    """

    window_index: int
    start_s: float
    end_s: float
    face: Face
    region: str
    crop_box: Box
    box: Box
    activity: float


@dataclass(frozen=True)
class Request:
    """One question to a describer: what does this box of this face show?

    Attributes:
        crop: (112, 112, 3) uint8 RGB, the aligned face. Requests that share the very same array share its vision pass.
        box: in pixels of the crop.
        region: the box's name, for deciding which action units it can show.
    """

    crop: np.ndarray
    box: Box
    region: str


@dataclass(frozen=True)
class ModelInfo:
    """The model that answers.

    Attributes:
        name: as the tables name it.
        thresholds: for each action unit that it knows, the score from which the unit is active.
    """

    name: str
    thresholds: dict[str, float]


@dataclass(frozen=True)
class Answer:
    """A describer's answer to one request. Scores are the model's own probabilities; a model that gives none has none here.

    Attributes:
        au_scores: probability of each action unit that the box can show and the model knows.
        aus: the active units, in order: those whose score reaches the model's threshold, without one of two that exclude each other
            (`pipeline.vocabulary.compatible`).
        emotion_scores: probability of each of the seven emotions; they sum to 1.
        emotion: the most probable.
        age: apparent age in years: median of the model's distribution, or what the model states.
        age_low, age_high: 10th and 90th percentile of the distribution; None where the model gives none.
        description: one sentence.
        au_intensities: expected intensity, 0 to 5, of those units of `au_scores` whose intensity the model gives.
        own_sentence: the sentence that the model wrote, before a check of it against the fields (`description` is another where the check
            fails); None where the model wrote none.
    """

    au_scores: dict[str, float]
    aus: tuple[str, ...]
    emotion_scores: dict[str, float]
    emotion: str
    age: float
    age_low: float | None
    age_high: float | None
    description: str
    own_sentence: str | None = None
    au_intensities: dict[str, float] = field(default_factory=dict)
