"""What the label columns of a row say about a face, in the spellings that label sets use.

Labels that a row does not have stay unknown: unknown is never read as absent.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from pipeline.errors import SettingsError
from pipeline.vocabulary import AUS, EMOTIONS, Box

ACTIVE_INTENSITY = 2.0
"""Intensities (0 to 5) from here on count as active, as is usual with DISFA; lower also counts traces."""

ACTIVE_PRESENCE = 0.5
"""Presence values (0 to 1) from here on count as active: 0/1 labels and probabilities alike."""

NOT_SCORED = (-1.0, 9.0, 999.0)
"""Presence values by which BP4D, EmotioNet and others say that a unit was not scored."""

MAX_INTENSITY = 5.0

USUALLY_LISTED = tuple(f"AU{number:02}" for number in (1, 2, 4, 5, 7, 10, 12, 15, 16, 17, 18, 20, 24, 25, 26, 43))
"""Units that a column `aus` speaks of where neither `au_thresholds` nor `aus_known` says which; other units are then unknown."""

MAX_AGE = 116
"""Years; a greater age is taken for an error. The oldest people in UTKFace are 116."""

T = TypeVar("T")

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
_INTENSITIES = ("au_intensity", "au_intensities")

LABEL_COLUMNS = ("aus", "aus_known", "au_prob", *_INTENSITIES, "emotion", "emotion_votes", "age", "age_guess", "sex", "group")
"""Columns that hold labels, beside one column for each action unit (`AU12`, `AU12_r`, `AU12_c`)."""


def is_label_column(name: str) -> bool:
    """Whether a column (its name in lower case) holds labels.

    >>> is_label_column("au12_r"), is_label_column("landmarks5")
    (True, False)
    """
    return name in LABEL_COLUMNS or _AU_COLUMN.fullmatch(name) is not None


@dataclass(frozen=True)
class LabelOptions:
    """How to read labels that do not explain themselves.

    Attributes:
        emotions: what the numbers 0, 1, 2 ... of an emotion column stand for.
        active_intensity: action unit intensities from here on count as active.

    Raises:
        SettingsError: one of `emotions` is not a known word.
    """

    emotions: tuple[str, ...] = ()
    active_intensity: float = ACTIVE_INTENSITY

    def __post_init__(self) -> None:
        for word in self.emotions:
            if word.strip().lower() not in _EMOTION:
                raise SettingsError(f"{word!r} is not an emotion: take {', '.join(EMOTIONS)}, or other")


@dataclass
class UnitLabels:
    """Action units of one face; every mapping is in the order of `pipeline.vocabulary.AUS`.

    Attributes:
        active: whether each known unit is active. A unit that is not here is unknown.
        probability: probability that it is active, for units whose labels have one.
        intensity: 0 to 5, for units whose labels have one.
    """

    active: dict[str, bool] = field(default_factory=dict)
    probability: dict[str, float] = field(default_factory=dict)
    intensity: dict[str, float] = field(default_factory=dict)


class LabelReader:
    """Reads the label columns of one file.

    Attributes:
        ignored: action units that the labels name and the product does not know, as the labels spell them.
        unknown_emotions: words of the emotion column that were left out, counted while reading.
    """

    def __init__(self, columns: Iterable[str], options: LabelOptions, metadata: Mapping[str, Any] | None = None) -> None:
        """Look at the columns.

        Args:
            columns: their names in lower case.
            options: how to read what does not explain itself.
            metadata: `au_names` (order of the lists `au_prob` and `au_intensity`), `au_thresholds` (probability from which a unit counts
                as active; also the units that a column `aus` speaks of) and `emotion_names` (order of `emotion_votes`), where the file
                has them.
        """
        metadata = metadata or {}
        self._options = options
        self._names: list[str] = list(metadata.get("au_names", ()))
        self._thresholds: dict[str, float] = dict(metadata.get("au_thresholds", {}))
        self._vote_names: list[str] = list(metadata.get("emotion_names", EMOTIONS))
        self._listed = [au for au in AUS if au in self._thresholds] or list(USUALLY_LISTED)
        self._units: dict[str, dict[str, str]] = {}
        self.ignored = [au for au in dict.fromkeys([*self._names, *self._thresholds]) if au not in AUS]
        self.unknown_emotions: Counter[str] = Counter()
        for name in columns:
            if match := _AU_COLUMN.fullmatch(name):
                code = f"AU{int(match[1]):02}"
                if code in AUS:
                    self._units.setdefault(code, {})["intensity" if match[2] == "_r" else "presence"] = name
                else:
                    self.ignored.append(name)

    def emotion(self, row: Mapping[str, Any]) -> str | None:
        """One of `EMOTIONS`; None where it is unlabelled or another one.

        Raises:
            SettingsError: it is a number and nothing says what numbers stand for.
            ValueError: the number is beyond the names.
        """
        value = row.get("emotion")
        word = "" if value is None or value != value else str(value).strip().lower()
        if not word:
            return None
        if re.fullmatch(r"\d+(\.0)?", word):
            names = self._options.emotions
            if not names:
                raise SettingsError(f"emotion {word} is a number: say what 0, 1, 2 ... stand for, as --emotions {','.join(EMOTIONS)}")
            if int(float(word)) >= len(names):
                raise ValueError(f"emotion {word} is beyond the {len(names)} names of --emotions")
            word = names[int(float(word))].strip().lower()
        if word not in _EMOTION:
            self.unknown_emotions[word] += 1
        return _EMOTION.get(word)

    def emotion_votes(self, row: Mapping[str, Any]) -> tuple[float, ...] | None:
        """Share of the annotators for each of `EMOTIONS`, summing to 1; counts of votes do as well. None without votes.

        Raises:
            ValueError: the votes are not as many as the emotions, or negative.
        """
        votes = _floats(row.get("emotion_votes"))
        if votes is None or not votes.sum():
            return None
        if len(votes) != len(self._vote_names) or not (votes >= 0).all():
            raise ValueError(f"emotion_votes {votes.tolist()} are not {len(self._vote_names)} shares")
        by_name = dict(zip(self._vote_names, votes.tolist(), strict=True))
        shares = np.array([by_name.get(name, 0.0) for name in EMOTIONS])
        return tuple((shares / shares.sum()).tolist()) if shares.any() else None

    def action_units(self, row: Mapping[str, Any]) -> UnitLabels:
        """What a row says about action units.

        A list of probabilities (`au_prob`) or intensities speaks of the units in `au_names`, or in the row's own `aus_known`; null means
        unknown. Where the row has `aus` as well, that list says which of the known units are active. Columns of single units come last.

        Raises:
            ValueError: a value is out of range, or a list has another length than its names.
        """
        found = UnitLabels()
        own_names = _words(row.get("aus_known"))
        named = None if row.get("aus") is None else _words(row["aus"])
        probabilities = self._list(row, "au_prob", own_names, 1.0)
        for au, value in probabilities.items():
            found.probability[au] = value
            found.active[au] = value > self._thresholds.get(au, ACTIVE_PRESENCE) if named is None else au in named
        if named is not None and not probabilities:
            found.active = {au: au in named for au in own_names or self._listed}
        for column in _INTENSITIES:
            for au, value in self._list(row, column, own_names, MAX_INTENSITY).items():
                found.intensity[au] = value
                if named is None and not probabilities:
                    found.active[au] = value >= self._options.active_intensity
        for code, columns in self._units.items():
            self._read_columns(row, code, columns, found)
        return UnitLabels(_ordered(found.active), _ordered(found.probability), _ordered(found.intensity))

    def _list(self, row: Mapping[str, Any], column: str, own_names: Sequence[str], most: float) -> dict[str, float]:
        """The known values of a list column by action unit."""
        values = row.get(column)
        if values is None or not len(values):
            return {}
        names = own_names or self._names
        if len(values) != len(names):
            raise ValueError(f"{column} has {len(values)} values for {len(names)} names (aus_known, or au_names in the file's metadata)")
        known = {au: float(value) for au, value in zip(names, values, strict=True) if value is not None and value == value}
        if wrong := {au: value for au, value in known.items() if not 0 <= value <= most}:
            raise ValueError(f"{column} of {next(iter(wrong))} is not within 0 and {most:g}")
        return known

    def _read_columns(self, row: Mapping[str, Any], code: str, columns: Mapping[str, str], found: UnitLabels) -> None:
        intensity, presence = (number(row, columns.get(kind, "")) for kind in ("intensity", "presence"))
        if intensity is not None:
            if not 0 <= intensity <= MAX_INTENSITY:
                raise ValueError(f"{columns['intensity']} {intensity:g} is not an intensity within 0 and 5")
            found.intensity[code], found.active[code] = intensity, intensity >= self._options.active_intensity
        if presence is not None and presence not in NOT_SCORED:
            if not 0 <= presence <= 1:
                raise ValueError(f"{columns['presence']} {presence:g} is not within 0 and 1; intensities belong in {code}_r")
            found.active[code] = presence >= ACTIVE_PRESENCE


def _ordered(units: Mapping[str, T]) -> dict[str, T]:
    """The units that the product knows, in the order of `AUS`."""
    return {au: units[au] for au in AUS if au in units}


def number(row: Mapping[str, Any], name: str) -> float | None:
    """The number in a column; None where there is none.

    Raises:
        ValueError: it is something else.
    """
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} {value!r} is not a number") from None
    return result if math.isfinite(result) else None


def text_of(row: Mapping[str, Any], name: str) -> str | None:
    """The text in a column; None where there is none."""
    value = row.get(name)
    return str(value).strip() or None if value is not None and value == value else None


def split_of(row: Mapping[str, Any]) -> str:
    """`train` or `val`; a row without a split is for training.

    Raises:
        ValueError: another split, such as test: nothing may be tuned on it.
    """
    split = _SPLITS.get(str(row.get("split") or "").strip().lower())
    if split is None:
        raise ValueError(f"the split {row['split']!r} is neither train nor val")
    return split


def age_of(row: Mapping[str, Any], column: str = "age") -> float | None:
    """Years; None where the row has none.

    Args:
        column: `age` (recorded) or `age_guess` (estimated by a model).

    Raises:
        ValueError: no person is that old.
    """
    age = number(row, column)
    if age is not None and not 0 <= age <= MAX_AGE:
        raise ValueError(f"{column} {age:g} is not within 0 and {MAX_AGE}")
    return age


def landmarks_of(row: Mapping[str, Any]) -> np.ndarray | None:
    """(5, 2) pixels from a list, or from columns `left_eye_x` ... `right_mouth_y` (CelebA's spelling too); None without.

    Raises:
        ValueError: the list does not hold ten numbers.
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
        ValueError: it is empty.
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
        raise ValueError(f"{value!r} is not a list of numbers") from None


def _words(value: Any) -> list[str]:
    """A list of units, or a text of them."""
    return re.findall(r"AU\d\d", value.upper()) if isinstance(value, str) else list(value or ())
