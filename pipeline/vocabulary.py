"""The words of the product: action units, emotions, regions, and which action units a region can show.

Everything else reads them from here: the table schemas, the describer's grammar, the training data, the benchmark. To add an action
unit, a region or an emotion, add it here (and train a checkpoint that knows it).

Action units follow the Facial Action Coding System (Ekman, Friesen and Hager 2002); names are its standard ones. Areas are given in
pixels of the aligned face crop (`pipeline.faces.alignment.TEMPLATE`, 112x112); left and right are the image's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; x1 and y1 lie just outside."""

MIN_VISIBLE = 0.6
"""An action unit can be seen in a box that holds at least this share of one of its areas."""


@dataclass(frozen=True)
class ActionUnit:
    """One FACS action unit.

    Attributes:
        code: `AU01` ... `AU43`.
        name: the FACS name.
        areas: where it shows, in aligned-crop pixels; seeing one of them well is enough (`MIN_VISIBLE`).
        clauses: ways to say that it is active; each is a whole clause and belongs to this unit alone.
    """

    code: str
    name: str
    areas: tuple[Box, ...]
    clauses: tuple[str, ...]


_LIDS: tuple[Box, ...] = ((30, 36, 48, 47), (64, 36, 82, 47))
_CORNERS: tuple[Box, ...] = ((38, 73, 48, 85), (64, 73, 74, 85))
_LIPS: tuple[Box, ...] = ((44, 74, 68, 88),)

ACTION_UNITS: tuple[ActionUnit, ...] = (
    ActionUnit(
        "AU01",
        "inner brow raiser",
        ((40, 27, 50, 37), (62, 27, 72, 37), (44, 15, 68, 27)),
        ("the inner brows are raised", "the inner ends of the brows are lifted", "the inner brows go up"),
    ),
    ActionUnit(
        "AU02",
        "outer brow raiser",
        ((24, 27, 36, 38), (76, 27, 88, 38), (40, 14, 72, 26)),
        ("the outer brows are raised", "the outer ends of the brows are lifted", "the outer brows go up"),
    ),
    ActionUnit(
        "AU04",
        "brow lowerer",
        ((30, 32, 49, 42), (63, 32, 82, 42)),
        ("the brows are lowered", "the brows are drawn together", "the brows are knitted"),
    ),
    ActionUnit(
        "AU05",
        "upper lid raiser",
        _LIDS,
        ("the upper lids are raised", "the eyes are opened wide", "the upper lids are lifted"),
    ),
    ActionUnit(
        "AU06",
        "cheek raiser",
        ((24, 50, 40, 62), (72, 50, 88, 62)),
        ("the cheeks are raised", "the cheeks are lifted", "the cheeks are pushed up"),
    ),
    ActionUnit(
        "AU07",
        "lid tightener",
        _LIDS,
        ("the lids are tightened", "the eyes are narrowed", "the lids are drawn tight"),
    ),
    ActionUnit(
        "AU09",
        "nose wrinkler",
        ((47, 40, 65, 58),),
        ("the nose is wrinkled", "the nose is scrunched", "the bridge of the nose is wrinkled"),
    ),
    ActionUnit(
        "AU10",
        "upper lip raiser",
        ((47, 70, 65, 78),),
        ("the upper lip is raised", "the upper lip is lifted", "the upper lip is pulled up"),
    ),
    ActionUnit(
        "AU11",
        "nasolabial deepener",
        ((38, 64, 47, 77), (65, 64, 74, 77)),
        ("the nasolabial folds are deepened", "the folds beside the nose are deepened"),
    ),
    ActionUnit(
        "AU12",
        "lip corner puller",
        _CORNERS,
        ("the lip corners are pulled up", "the corners of the mouth are drawn up", "the lip corners are raised"),
    ),
    ActionUnit(
        "AU14",
        "dimpler",
        _CORNERS,
        ("the lip corners are dimpled", "the corners of the mouth are tucked in"),
    ),
    ActionUnit(
        "AU15",
        "lip corner depressor",
        _CORNERS,
        ("the lip corners are pulled down", "the corners of the mouth are drawn down", "the lip corners are lowered"),
    ),
    ActionUnit(
        "AU16",
        "lower lip depressor",
        ((47, 80, 65, 89),),
        ("the lower lip is pulled down", "the lower lip is drawn down", "the lower lip is lowered"),
    ),
    ActionUnit(
        "AU17",
        "chin raiser",
        ((47, 90, 65, 101), (48, 82, 64, 90)),
        ("the chin is raised", "the chin is pushed up", "the chin is drawn up"),
    ),
    ActionUnit(
        "AU18",
        "lip pucker",
        _LIPS,
        ("the lips are puckered", "the lips are pushed forward", "the lips are drawn into a pucker"),
    ),
    ActionUnit(
        "AU20",
        "lip stretcher",
        _CORNERS,
        ("the lips are stretched", "the mouth is stretched sideways", "the lips are pulled sideways"),
    ),
    ActionUnit(
        "AU23",
        "lip tightener",
        _LIPS,
        ("the lips are tightened", "the lips are drawn narrow"),
    ),
    ActionUnit(
        "AU24",
        "lip pressor",
        _LIPS,
        ("the lips are pressed together", "the lips are pressed", "the lips are squeezed together"),
    ),
    ActionUnit(
        "AU25",
        "lips part",
        _LIPS,
        ("the lips are parted", "the lips are apart", "the lips are open"),
    ),
    ActionUnit(
        "AU26",
        "jaw drop",
        ((45, 78, 67, 92), (45, 89, 67, 103)),
        ("the jaw is dropped", "the jaw is lowered", "the jaw hangs open"),
    ),
    ActionUnit(
        "AU28",
        "lip suck",
        _LIPS,
        ("the lips are sucked in", "the lips are rolled in"),
    ),
    ActionUnit(
        "AU43",
        "eyes closed",
        _LIDS,
        ("the eyes are closed", "the lids are shut", "the eyes are shut"),
    ),
)

AUS: tuple[str, ...] = tuple(unit.code for unit in ACTION_UNITS)
"""All action units of the tables, in order."""

AUS_LABELLED: tuple[str, ...] = tuple(code for code in AUS if code not in {"AU06", "AU09", "AU11", "AU14", "AU23", "AU28"})
"""The sixteen that nano is trained on."""

UNIT: dict[str, ActionUnit] = {unit.code: unit for unit in ACTION_UNITS}

EMOTIONS: tuple[str, ...] = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")

EMOTION_WORDS: dict[str, tuple[str, ...]] = {
    "anger": ("anger", "angry"),
    "disgust": ("disgust", "disgusted"),
    "fear": ("fear", "fearful"),
    "happiness": ("happiness", "happy"),
    "neutral": ("neutral", "no marked emotion"),
    "sadness": ("sadness", "sad"),
    "surprise": ("surprise", "surprised"),
}
"""Each emotion's noun (its name) and the word that says it of a look."""

WHOLE_FACE = "face"
CUSTOM_BOX = "box"
"""The region name of a rectangle given by the user."""

SINGLE_REGIONS: tuple[str, ...] = (
    "left_eye",
    "right_eye",
    "left_brow",
    "right_brow",
    "mouth",
    "nose",
    "left_cheek",
    "right_cheek",
    "forehead",
    "chin",
)

JOINED_REGIONS: dict[str, tuple[str, str]] = {
    "eyes": ("left_eye", "right_eye"),
    "brows": ("left_brow", "right_brow"),
    "cheeks": ("left_cheek", "right_cheek"),
}

REGIONS: tuple[str, ...] = (WHOLE_FACE, *JOINED_REGIONS, *SINGLE_REGIONS)
"""Every region that can be asked for by name."""

_BROWS = ("AU01", "AU02", "AU04")
_EYES = ("AU05", "AU07", "AU43")
_CHEEKS = ("AU06",)
_MOUTH = ("AU10", "AU12", "AU14", "AU15", "AU16", "AU17", "AU18", "AU20", "AU23", "AU24", "AU25", "AU26", "AU28")

REGION_AUS: dict[str, tuple[str, ...]] = {
    WHOLE_FACE: AUS,
    "eyes": _EYES,
    "left_eye": _EYES,
    "right_eye": _EYES,
    "brows": _BROWS,
    "left_brow": _BROWS,
    "right_brow": _BROWS,
    "mouth": _MOUTH,
    "nose": ("AU09",),
    "cheeks": _CHEEKS,
    "left_cheek": _CHEEKS,
    "right_cheek": _CHEEKS,
    "forehead": ("AU01", "AU02"),
    "chin": ("AU17", "AU26"),
}
"""The action units that each named region can show; `visible_aus` is the rule for any other box."""


def visible_aus(box: Sequence[float], least: float = MIN_VISIBLE) -> tuple[str, ...]:
    """The action units that a box can show: those of which it holds enough of an area.

    Args:
        box: x0, y0, x1, y1 in aligned-crop pixels.
        least: the share of an area that is enough.

    Returns:
        Codes in the order of `AUS`; empty for a box with nothing to see.
    """
    x0, y0, x1, y1 = box

    def share(area: Box) -> float:
        if area[0] >= x1 or area[2] <= x0 or area[1] >= y1 or area[3] <= y0:
            return 0.0
        common = (min(x1, area[2]) - max(x0, area[0])) * (min(y1, area[3]) - max(y0, area[1]))
        return common / ((area[2] - area[0]) * (area[3] - area[1]))

    return tuple(unit.code for unit in ACTION_UNITS if any(share(area) >= least for area in unit.areas))


def region_aus(region: str, box: Sequence[float]) -> tuple[str, ...]:
    """The action units that may be named for a request: by the region's name, or by the box where the name says nothing.

    Args:
        region: a name of `REGIONS`, or `CUSTOM_BOX`.
        box: the request's box in aligned-crop pixels.
    """
    return REGION_AUS[region] if region in REGION_AUS else visible_aus(box)


@dataclass(frozen=True)
class Claims:
    """What a sentence says: action units, emotions and ages that it names."""

    aus: frozenset[str]
    emotions: frozenset[str]
    ages: frozenset[int]


def _alternatives(texts: Iterable[str]) -> str:
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))


_CLAUSE_UNIT = {clause: unit.code for unit in ACTION_UNITS for clause in unit.clauses}
_WORD_EMOTION = {word: emotion for emotion, words in EMOTION_WORDS.items() for word in words}
_CLAUSES = re.compile(rf"\b(?:{_alternatives(_CLAUSE_UNIT)})\b")
_EMOTION_WORDS = re.compile(rf"\b(?:{_alternatives(_WORD_EMOTION)})\b")
_AGES = re.compile(r"\b\d{1,3}\b")


def claims(text: str) -> Claims:
    """Read a description back: which action units, emotions and ages its words claim."""
    lowered = text.lower()
    return Claims(
        frozenset(_CLAUSE_UNIT[match] for match in _CLAUSES.findall(lowered)),
        frozenset(_WORD_EMOTION[match] for match in _EMOTION_WORDS.findall(lowered)),
        frozenset(int(match) for match in _AGES.findall(lowered)),
    )
