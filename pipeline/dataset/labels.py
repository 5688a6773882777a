"""Other people's labels: what the columns of a row say of a face, however they are spelt."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import SettingsError
from pipeline.vocabulary import AUS, AUS_LABELLED, EMOTIONS, Box

ACTIVE_INTENSITY = 2.0
"""Intensities (0 to 5) from here on count as active, as is usual with DISFA; lower also counts traces."""

ACTIVE_PRESENCE = 0.5
"""Presence values (0 to 1) from here on count as active: 0/1 labels and probabilities alike."""

NOT_SCORED = (-1.0, 9.0, 999.0)
"""Presence values by which BP4D, EmotioNet and others say that a unit was not scored."""

MAX_AGE = 100
"""Years; an age beyond is taken for an error, and the describer knows none."""

_SPLITS = {"": "train", "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}

_EMOTION_NAMES = {
    "anger": "anger angry mad",
    "disgust": "disgust disgusted",
    "fear": "fear fearful afraid scared",
    "happiness": "happiness happy joy joyful smile smiling",
    "neutral": "neutral",
    "sadness": "sadness sad",
    "surprise": "surprise surprised",
    "": "contempt contemptuous other unknown",
}
_EMOTION = {word: emotion or None for emotion, words in _EMOTION_NAMES.items() for word in words.split()}

_LANDMARKS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
_AU_COLUMN = re.compile(r"au0?(\d{1,2})(_r|_c)?")


@dataclass(frozen=True)
class Labels:
    """How to read labels that do not explain themselves.

    Attributes:
        emotions: what the numbers 0, 1, 2 ... of an emotion column stand for.
        active_intensity: action unit intensities from here on count as active.

    Raises:
        SettingsError: when one of `emotions` is no known word.
    """

    emotions: tuple[str, ...] = ()
    active_intensity: float = ACTIVE_INTENSITY

    def __post_init__(self) -> None:
        for word in self.emotions:
            if word.strip().lower() not in _EMOTION:
                raise SettingsError(f"{word!r} is not an emotion: take {', '.join(EMOTIONS)}, or other")


class LabelReader:
    """Reads the rows of one source.

    Attributes:
        ignored: columns named like an action unit that the product does not know.
        unknown_emotions: words of the emotion column that were left out, counted while reading.
    """

    def __init__(self, columns: Iterable[str], labels: Labels, listed: Sequence[str] = AUS_LABELLED) -> None:
        """Look at the columns.

        Args:
            columns: their names in lower case.
            labels: how to read what is not plain.
            listed: the units that a column `aus`, a list of active ones, speaks of.
        """
        self._labels, self._listed = labels, listed
        self._units: dict[str, dict[str, str]] = {}
        self.ignored: list[str] = []
        self.unknown_emotions: Counter[str] = Counter()
        for name in columns:
            if match := _AU_COLUMN.fullmatch(name):
                code = f"AU{int(match[1]):02}"
                if code in AUS:
                    self._units.setdefault(code, {})["intensity" if match[2] == "_r" else "presence"] = name
                else:
                    self.ignored.append(name)

    def emotion(self, row: Mapping[str, Any]) -> str | None:
        """One of `EMOTIONS`; None where it is not labelled or another one.

        Raises:
            SettingsError: when it is a number and nothing says what numbers stand for.
            ValueError: when the number is beyond the names.
        """
        value = row.get("emotion")
        word = "" if value is None or value != value else str(value).strip().lower()
        if not word:
            return None
        if re.fullmatch(r"\d+(\.0)?", word):
            names = self._labels.emotions
            if not names:
                raise SettingsError(f"emotion {word} is a number: say what 0, 1, 2 ... stand for, as --emotions {','.join(EMOTIONS)}")
            if int(float(word)) >= len(names):
                raise ValueError(f"emotion {word} is beyond the {len(names)} names of --emotions")
            word = names[int(float(word))].strip().lower()
        if word not in _EMOTION:
            self.unknown_emotions[word] += 1
        return _EMOTION.get(word)

    def action_units(self, row: Mapping[str, Any]) -> tuple[dict[str, bool], dict[str, float]]:
        """What a row says of action units.

        Returns:
            Whether each unit that the labels know is active, in the order of `AUS`; and the intensities that are given.

        Raises:
            ValueError: when a value is out of range.
        """
        known: dict[str, bool] = {}
        strength: dict[str, float] = {}
        if row.get("aus") is not None:
            active = _words(row["aus"])
            known = {au: au in active for au in _words(row.get("aus_known")) or self._listed}
        for code, columns in self._units.items():
            intensity, presence = (number(row, columns.get(kind, "")) for kind in ("intensity", "presence"))
            if intensity is not None:
                if not 0 <= intensity <= 5:
                    raise ValueError(f"{columns['intensity']} {intensity:g} is not an intensity within 0 and 5")
                strength[code], known[code] = intensity, intensity >= self._labels.active_intensity
            if presence is not None and presence not in NOT_SCORED:
                if not 0 <= presence <= 1:
                    raise ValueError(f"{columns['presence']} {presence:g} is not within 0 and 1; intensities belong in {code}_r")
                known[code] = presence >= ACTIVE_PRESENCE
        return {au: known[au] for au in AUS if au in known}, strength


def number(row: Mapping[str, Any], name: str) -> float | None:
    """The number in a column; None where there is none.

    Raises:
        ValueError: when it is something else.
    """
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} {value!r} is not a number") from None
    return result if math.isfinite(result) else None


def split_of(row: Mapping[str, Any]) -> str:
    """`train` or `val`; a row without a split is for training.

    Raises:
        ValueError: for any other, a test split above all: nothing may be tuned on it.
    """
    split = _SPLITS.get(str(row.get("split") or "").strip().lower())
    if split is None:
        raise ValueError(f"the split {row['split']!r} is neither train nor val")
    return split


def age_of(row: Mapping[str, Any]) -> float | None:
    """Years.

    Raises:
        ValueError: when no person is so old.
    """
    age = number(row, "age")
    if age is not None and not 0 <= age <= MAX_AGE:
        raise ValueError(f"age {age:g} is not within 0 and {MAX_AGE}")
    return age


def landmarks_of(row: Mapping[str, Any]) -> np.ndarray | None:
    """(5, 2) pixels from a list, or from columns `left_eye_x` ... `right_mouth_y` (CelebA's spelling too); None without.

    Raises:
        ValueError: when the list is none of ten numbers.
    """
    if (listed := _floats(row.get("landmarks5"))) is not None:
        if len(listed) != 10 or not np.isfinite(listed).all():
            raise ValueError("landmarks5 does not hold ten numbers")
        return listed.reshape(5, 2)
    plain = {name.replace("_", ""): name for name in row}
    values = [number(row, plain.get(f"{point}{axis}", "")) for point in _LANDMARKS for axis in "xy"]
    return None if None in values else np.array(values, np.float64).reshape(5, 2)


def face_box_of(row: Mapping[str, Any]) -> Box | None:
    """The face's box from a list `face_box` or columns `x0` ... `y1`, in pixels; None without.

    Raises:
        ValueError: when it is empty.
    """
    listed = row.get("face_box")
    box = _floats(listed) if listed is not None else np.array([number(row, name) for name in ("x0", "y0", "x1", "y1")], np.float64)
    if box is None or box.shape != (4,) or not np.isfinite(box).all():
        return None
    x0, y0, x1, y1 = box.tolist()
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"the box {x0:g},{y0:g},{x1:g},{y1:g} is empty")
    return x0, y0, x1, y1


def region_box_of(row: Mapping[str, Any], region: str) -> Box | None:
    """The tight box of a single region, in pixels; None without."""
    box = _floats(row.get(f"box_{region}"))
    if box is None or box.shape != (4,) or not (box[:2] < box[2:]).all():
        return None
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1


def _floats(value: Any) -> np.ndarray | None:
    """A list of numbers, or a text of them with spaces or commas, brackets or not."""
    if isinstance(value, str):
        value = re.sub(r"[\[\](),;]", " ", value).split()
    if value is None or len(value) == 0:
        return None
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} are not numbers") from None


def _words(value: Any) -> list[str]:
    """A list of units, or a text of them."""
    return re.findall(r"AU\d\d", value.upper()) if isinstance(value, str) else list(value or ())
