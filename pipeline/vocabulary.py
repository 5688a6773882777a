"""The words of the product: action units, emotions, regions, and which action units a region can show.

Everything else reads them from here: the table schemas, the describer's grammar, the training data, region placement and selection, the
evaluation. To add an action unit, add one `ActionUnit` to `ACTION_UNITS`; to add a region, add one `Region` to `_REGIONS`. A checkpoint
answers about a new action unit once it is trained on it.

Action units follow the Facial Action Coding System, FACS (Ekman, Friesen and Hager 2002), and have its names. Areas are in pixels of the
aligned face crop (`pipeline.faces.alignment.TEMPLATE`, 112x112). Left and right are the image's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; x1 and y1 lie just outside."""

MIN_VISIBLE = 0.6
"""A box can show an action unit if it holds at least this share of one of the unit's areas."""

CROP_WIDTH = 112.0
"""Width of the aligned crop in pixels."""


@dataclass(frozen=True)
class ActionUnit:
    """One FACS action unit.

    Attributes:
        code: `AU01` ... `AU64`.
        name: the FACS name.
        areas: where it shows, in aligned-crop pixels; one of them is enough (`MIN_VISIBLE`).
        clauses: ways to say that it is active; each is a whole clause and belongs to this unit alone.
        labelled: whether the faces of the training stages have labels of it. Which units a checkpoint knows is written in its `focal.json`.
        graded: whether FACS scores its intensity; it scores only the direction of gaze.
        mirror: the unit that it becomes in the face's mirror image; None: itself. FACS names the directions of gaze by the person's own
            left and right, so the eyes of AU61 turn to the image's right.
    """

    code: str
    name: str
    areas: tuple[Box, ...]
    clauses: tuple[str, ...]
    labelled: bool = False
    graded: bool = True
    mirror: str | None = None


_LIDS: tuple[Box, ...] = ((30, 36, 48, 47), (64, 36, 82, 47))
_CORNERS: tuple[Box, ...] = ((38, 73, 48, 85), (64, 73, 74, 85))
_LIPS: tuple[Box, ...] = ((44, 74, 68, 88),)

ACTION_UNITS: tuple[ActionUnit, ...] = (
    ActionUnit(
        "AU01", "inner brow raiser", ((40, 27, 50, 37), (62, 27, 72, 37), (44, 15, 68, 27)),
        ("the inner brows are raised", "the inner ends of the brows are lifted", "the inner brows go up"), labelled=True,
    ),
    ActionUnit(
        "AU02", "outer brow raiser", ((24, 27, 36, 38), (76, 27, 88, 38), (40, 14, 72, 26)),
        ("the outer brows are raised", "the outer ends of the brows are lifted", "the outer brows go up"), labelled=True,
    ),
    ActionUnit(
        "AU04", "brow lowerer", ((30, 32, 49, 42), (63, 32, 82, 42)),
        ("the brows are lowered", "the brows are drawn together", "the brows are knitted"), labelled=True,
    ),
    ActionUnit(
        "AU05", "upper lid raiser", _LIDS,
        ("the upper lids are raised", "the eyes are opened wide", "the upper lids are lifted"), labelled=True,
    ),
    ActionUnit(
        "AU06", "cheek raiser", ((24, 50, 40, 62), (72, 50, 88, 62)),
        ("the cheeks are raised", "the cheeks are lifted", "the cheeks are pushed up"), labelled=True,
    ),
    ActionUnit(
        "AU07", "lid tightener", _LIDS,
        ("the lids are tightened", "the eyes are narrowed", "the lids are drawn tight"), labelled=True,
    ),
    ActionUnit(
        "AU09", "nose wrinkler", ((47, 40, 65, 58),),
        ("the nose is wrinkled", "the nose is scrunched", "the bridge of the nose is wrinkled"), labelled=True,
    ),
    ActionUnit(
        "AU10", "upper lip raiser", ((47, 70, 65, 78),),
        ("the upper lip is raised", "the upper lip is lifted", "the upper lip is pulled up"), labelled=True,
    ),
    ActionUnit(
        "AU11", "nasolabial deepener", ((38, 64, 47, 77), (65, 64, 74, 77)),
        ("the nasolabial folds are deepened", "the folds beside the nose are deepened"),
    ),
    ActionUnit(
        "AU12", "lip corner puller", _CORNERS,
        ("the lip corners are pulled up", "the corners of the mouth are drawn up", "the lip corners are raised"), labelled=True,
    ),
    ActionUnit(
        "AU14", "dimpler", _CORNERS,
        ("the lip corners are dimpled", "the corners of the mouth are tucked in"),
    ),
    ActionUnit(
        "AU15", "lip corner depressor", _CORNERS,
        ("the lip corners are pulled down", "the corners of the mouth are drawn down", "the lip corners are lowered"), labelled=True,
    ),
    ActionUnit(
        "AU16", "lower lip depressor", ((47, 80, 65, 89),),
        ("the lower lip is pulled down", "the lower lip is drawn down", "the lower lip is lowered"), labelled=True,
    ),
    ActionUnit(
        "AU17", "chin raiser", ((47, 90, 65, 101), (48, 82, 64, 90)),
        ("the chin is raised", "the chin is pushed up", "the chin is drawn up"), labelled=True,
    ),
    ActionUnit(
        "AU18", "lip pucker", _LIPS,
        ("the lips are puckered", "the lips are pushed forward", "the lips are drawn into a pucker"), labelled=True,
    ),
    ActionUnit(
        "AU20", "lip stretcher", _CORNERS,
        ("the lips are stretched", "the mouth is stretched sideways", "the lips are pulled sideways"), labelled=True,
    ),
    ActionUnit(
        "AU23", "lip tightener", _LIPS,
        ("the lips are tightened", "the lips are drawn narrow"), labelled=True,
    ),
    ActionUnit(
        "AU24", "lip pressor", _LIPS,
        ("the lips are pressed together", "the lips are pressed", "the lips are squeezed together"), labelled=True,
    ),
    ActionUnit(
        "AU25", "lips part", _LIPS,
        ("the lips are parted", "the lips are apart", "the lips are open"), labelled=True,
    ),
    ActionUnit(
        "AU26", "jaw drop", ((45, 78, 67, 92), (45, 89, 67, 103)),
        ("the jaw is dropped", "the jaw is lowered", "the jaw hangs open"), labelled=True,
    ),
    ActionUnit(
        "AU27", "mouth stretch", ((45, 78, 67, 92), (45, 89, 67, 103)),
        ("the mouth is stretched open", "the mouth is stretched wide open", "the jaw is pulled wide open"), labelled=True,
    ),
    ActionUnit(
        "AU28", "lip suck", _LIPS,
        ("the lips are sucked in", "the lips are rolled in"), labelled=True,
    ),
    ActionUnit(
        "AU43", "eyes closed", _LIDS,
        ("the eyes are closed", "the lids are shut", "the eyes are shut"), labelled=True,
    ),
    ActionUnit(
        "AU61", "eyes turn left", _LIDS,
        ("the eyes look to the image's right", "the gaze turns to the image's right", "the eyes are turned to the image's right"),
        labelled=True, graded=False, mirror="AU62",
    ),
    ActionUnit(
        "AU62", "eyes turn right", _LIDS,
        ("the eyes look to the image's left", "the gaze turns to the image's left", "the eyes are turned to the image's left"),
        labelled=True, graded=False, mirror="AU61",
    ),
    ActionUnit(
        "AU63", "eyes up", _LIDS,
        ("the eyes look up", "the gaze is raised", "the gaze goes up"), labelled=True, graded=False,
    ),
    ActionUnit(
        "AU64", "eyes down", _LIDS,
        ("the eyes look down", "the gaze is lowered", "the gaze goes down"), labelled=True, graded=False,
    ),
)  # fmt: skip

AUS: tuple[str, ...] = tuple(unit.code for unit in ACTION_UNITS)
"""All action units of the tables, in order."""

AUS_LABELLED: tuple[str, ...] = tuple(unit.code for unit in ACTION_UNITS if unit.labelled)
"""The action units that the training faces have labels of."""

UNIT: dict[str, ActionUnit] = {unit.code: unit for unit in ACTION_UNITS}


def mirrored_au(code: str) -> str:
    """The action unit that another one becomes in the mirror image of a face.

    >>> mirrored_au("AU61"), mirrored_au("AU12")
    ('AU62', 'AU12')
    """
    return UNIT[code].mirror or code


GAZE = ("AU61", "AU62", "AU63", "AU64")
"""Directions of gaze."""

PREVAILING = {"AU27": ("AU26",), "AU43": GAZE}
"""Units that stand against these others, whichever is surer. A stretched mouth (AU27) has the jaw down as well, and is the greater degree
of one movement (AU26); what closed lids (AU43) hide is not seen."""

EXCLUSIONS: dict[frozenset[str], str] = {
    frozenset({"AU05", "AU43"}): "AU05 contracts the muscle that raises the upper lid, AU43 relaxes it",
    frozenset({"AU24", "AU25"}): "AU24 presses the lips together, AU25 parts them",
    frozenset({"AU24", "AU26"}): "AU24 presses the lips together; the training labels never name it with a dropped jaw",
    frozenset({"AU24", "AU27"}): "AU24 presses the lips together, AU27 stretches the mouth open",
    frozenset({"AU25", "AU28"}): "AU28 rolls the lips in over the teeth; the training labels never name it with parted lips",
    frozenset({"AU26", "AU27"}): "two degrees of one movement: the jaw drops by relaxing, or is pulled down",
    **{frozenset({"AU43", gaze}): "closed lids hide where the eyes look" for gaze in GAZE},
    frozenset({"AU61", "AU62"}): "the eyes cannot be turned left and right at once (FACS, table 9-1)",
    frozenset({"AU63", "AU64"}): "the eyes cannot be turned up and down at once (FACS, table 9-1)",
}
"""Pairs of action units that cannot be active together, with the reason. Those without a table number follow from FACS's definitions of
the two units. A pair may name units that `ACTION_UNITS` does not have."""


def excludes(one: str, other: str) -> bool:
    """Whether two action units cannot be active together.

    >>> excludes("AU24", "AU25"), excludes("AU25", "AU26")
    (True, False)
    """
    return frozenset({one, other}) in EXCLUSIONS


def compatible(margins: Mapping[str, float]) -> tuple[str, ...]:
    """Resolve exclusions among action units that are candidates for being active.

    Of two that exclude each other, the one that prevails (`PREVAILING`) stays, else the one with the larger margin; if the margins are
    equal, neither does.

    Args:
        margins: how surely each candidate is active, on one scale for all of them.

    Returns:
        Codes in the order of `AUS`.

    >>> compatible({"AU24": 0.1, "AU25": 0.6, "AU12": 0.2})
    ('AU12', 'AU25')
    >>> compatible({"AU43": 0.1, "AU64": 0.6})
    ('AU43',)
    """
    beaten = {other for code, others in PREVAILING.items() if code in margins for other in others}
    margins = {code: margin for code, margin in margins.items() if code not in beaten}
    standing: set[str] = set()
    for code in sorted(margins, key=lambda code: -margins[code]):
        rivals = [other for other in margins if excludes(code, other)]
        open_rivals = [other for other in rivals if not any(excludes(other, one) for one in standing)]
        if not any(other in standing for other in rivals) and not any(margins[other] == margins[code] for other in open_rivals):
            standing.add(code)
    return tuple(code for code in AUS if code in standing)


@dataclass(frozen=True)
class Combination:
    """Action units that have a name of their own when they come together.

    Attributes:
        units: codes, in the order of `AUS`.
        name: said after their clauses; not the word for an emotion.
        source: who named it.
    """

    units: tuple[str, ...]
    name: str
    source: str


COMBINATIONS: tuple[Combination, ...] = (
    Combination(("AU06", "AU12"), "a Duchenne smile", "Ekman, Davidson and Friesen 1990, The Duchenne smile"),
    Combination(("AU04", "AU05", "AU07"), "a glare", "Ekman 2003, Emotions Revealed"),
)
"""Combinations that sentences name. A name says no more than its units: neither that a smile is felt nor that a glare is angry."""

TURNED_AWAY = "turned away"

FAULTS = ("too small", "blurred", TURNED_AWAY, "cut off", "covered")
"""What keeps a face from being read (`pipeline.faces.readability`): the values of the `unreadable` column."""

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

Edge = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Placement:
    """How a region's tight box follows the five landmarks (`pipeline.regions.placement`).

    Attributes:
        left, right: landmarks whose mean anchors x0, and x1; all of them together anchor y0 and y1. Numbers: 0 image-left eye,
            1 image-right eye, 2 nose tip, 3 image-left and 4 image-right mouth corner.
        edges: for x0, y0, x1, y1: the distance from the anchor in crop pixels, then its change for each pixel that the nose is further
            right, the nose lower, the mouth wider, the eyes further apart than in the template.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    edges: tuple[Edge, Edge, Edge, Edge]


@dataclass(frozen=True)
class Region:
    """A part of the face that can be asked for by name. One of `placement`, `mirror` and `sides` says where it is.

    Attributes:
        name: as users type it.
        area: its box on the template face, in aligned-crop pixels; decides which action units it can show.
        placement: how its box is found from landmarks.
        mirror: the region whose mirror image it is.
        sides: the two regions that it joins.
        pulls: the regions whose skin moves along when it moves. Regions with such a list are what `--regions auto` chooses among.
        plural: whether its words are a plural.
    """

    name: str
    area: Box | None = None
    placement: Placement | None = None
    mirror: str | None = None
    sides: tuple[str, str] | None = None
    pulls: tuple[str, ...] = ()
    plural: bool = False

    @property
    def words(self) -> str:
        """What a sentence calls it."""
        return f"the {self.name.replace('_', ' ')}"


_REGIONS: tuple[Region, ...] = (
    Region(
        WHOLE_FACE,
        (16.1, 14.1, 95.9, 103.2),
        Placement((0, 1, 2, 3, 4), (0, 1, 2, 3, 4), (
            (-39.9, -1.77, 0.0, -0.08, -0.39), (-47.4, 0.0, -0.43, 0.27, -0.19),
            (39.9, -1.77, 0.0, 0.08, 0.39), (41.7, 0.0, -0.39, 0.38, -0.3),
        )),
    ),
    Region("eyes", sides=("left_eye", "right_eye"), plural=True, pulls=("brows", "forehead", "nose", "cheeks")),
    Region("brows", sides=("left_brow", "right_brow"), plural=True, pulls=("eyes", "forehead", "nose")),
    Region("cheeks", sides=("left_cheek", "right_cheek"), plural=True, pulls=("eyes", "nose", "mouth", "chin")),
    Region(
        "left_eye",
        (28.3, 36.9, 48.2, 46.5),
        Placement((0,), (0,), (
            (-7.4, -0.17, -0.03, 0.0, -0.19), (-2.8, 0.0, -0.03, 0.07, -0.07),
            (7.9, 0.1, 0.03, 0.0, 0.2), (2.2, 0.0, 0.04, -0.06, 0.06),
        )),
    ),
    Region("right_eye", mirror="left_eye"),
    Region(
        "left_brow",
        (19.9, 24.9, 52.1, 39.7),
        Placement((0,), (0,), (
            (-14.4, -0.38, -0.06, 0.0, -0.22), (-13.4, -0.06, 0.19, 0.08, -0.23),
            (10.4, 0.57, -0.03, 0.0, 0.27), (-6.0, 0.0, 0.18, 0.05, -0.15),
        )),
    ),
    Region("right_brow", mirror="left_brow"),
    Region(
        "mouth",
        (36.3, 70.3, 75.7, 92.6),
        Placement((3,), (4,), (
            (0.0, 0.0, 0.0, 0.0, 0.0), (-4.9, 0.0, 0.73, 0.06, 0.0),
            (0.0, 0.0, 0.0, 0.0, 0.0), (8.3, 0.0, 0.13, 0.43, -0.29),
        )),
        pulls=("chin", "cheeks", "nose"),
    ),
    Region(
        "nose",
        (40.6, 37.0, 71.4, 71.6),
        Placement((2,), (2,), (
            (-11.4, -0.8, 0.0, -0.14, -0.09), (-23.1, 0.0, -0.87, 0.16, 0.0),
            (11.4, -0.8, 0.0, 0.14, 0.09), (3.5, 0.0, -0.39, 0.0, 0.0),
        )),
        pulls=("eyes", "brows", "cheeks", "mouth"),
    ),
    Region(
        "left_cheek",
        (18.4, 48.4, 41.4, 69.8),
        Placement((0, 3), (0, 3), (
            (-18.4, -0.75, 0.04, 0.07, -0.31), (-9.8, 0.0, 0.0, 0.15, 0.05),
            (-0.7, 0.24, 0.0, 0.11, -0.07), (6.3, 0.07, -0.04, 0.14, 0.0),
        )),
    ),
    Region("right_cheek", mirror="left_cheek"),
    Region(
        "forehead",
        (30.0, 7.6, 82.0, 37.2),
        Placement((0, 1), (0, 1), (
            (-20.0, 0.17, -0.14, 0.0, -0.45), (-28.4, 0.0, -0.22, 0.06, -0.27),
            (20.0, 0.17, 0.14, 0.0, 0.45), (-10.8, 0.0, 0.34, 0.0, -0.2),
        )),
        pulls=("brows", "eyes"),
    ),
    Region(
        "chin",
        (39.0, 85.8, 73.0, 107.8),
        Placement((3, 4), (3, 4), (
            (-13.1, -0.15, 0.14, -0.09, -0.12), (10.0, 0.0, 0.11, 0.42, -0.2),
            (13.1, -0.15, -0.14, 0.09, 0.12), (24.1, 0.0, -0.1, 0.57, -0.19),
        )),
        pulls=("mouth", "cheeks"),
    ),
)  # fmt: skip

REGION: dict[str, Region] = {region.name: region for region in _REGIONS}

REGIONS: tuple[str, ...] = tuple(REGION)
"""Every region that can be asked for by name."""

JOINED_REGIONS: dict[str, tuple[str, str]] = {region.name: region.sides for region in _REGIONS if region.sides}
"""Regions that join a left and a right one."""

SINGLE_REGIONS: tuple[str, ...] = tuple(name for name in REGIONS if name != WHOLE_FACE and name not in JOINED_REGIONS)

NEIGHBOURS: dict[str, tuple[str, ...]] = {region.name: region.pulls for region in _REGIONS if region.pulls}
"""What `--regions auto` chooses among, each with the regions whose skin it pulls along when it moves."""


def region_area(name: str) -> Box:
    """Box of a region on the template face, in aligned-crop pixels.

    >>> region_area("right_eye")
    (63.8, 36.9, 83.7, 46.5)
    """
    region = REGION[name]
    if region.sides:
        left, right = (region_area(side) for side in region.sides)
        return min(left[0], right[0]), min(left[1], right[1]), max(left[2], right[2]), max(left[3], right[3])
    if region.mirror:
        x0, y0, x1, y1 = region_area(region.mirror)
        return round(CROP_WIDTH - x1, 1), y0, round(CROP_WIDTH - x0, 1), y1
    assert region.area, f"{name} has no area"
    return region.area


def visible_aus(box: Sequence[float], least: float = MIN_VISIBLE) -> tuple[str, ...]:
    """The action units that a box can show: those of which it holds enough of an area.

    Args:
        box: x0, y0, x1, y1 in aligned-crop pixels.
        least: the share of an area that is enough.

    Returns:
        Codes in the order of `AUS`; empty for a box that can show none.
    """
    x0, y0, x1, y1 = box

    def share(area: Box) -> float:
        if area[0] >= x1 or area[2] <= x0 or area[1] >= y1 or area[3] <= y0:
            return 0.0
        common = (min(x1, area[2]) - max(x0, area[0])) * (min(y1, area[3]) - max(y0, area[1]))
        return common / ((area[2] - area[0]) * (area[3] - area[1]))

    return tuple(unit.code for unit in ACTION_UNITS if any(share(area) >= least for area in unit.areas))


REGION_AUS: dict[str, tuple[str, ...]] = {name: visible_aus(region_area(name)) for name in REGIONS}
"""The action units that each named region can show: those that its box on the template face shows."""


def region_aus(region: str, box: Sequence[float]) -> tuple[str, ...]:
    """The action units that may be named for a request: by the region's name, or by the box where the name says nothing.

    Args:
        region: a name of `REGIONS`, or `CUSTOM_BOX`.
        box: the request's box in aligned-crop pixels.
    """
    return REGION_AUS[region] if region in REGION_AUS else visible_aus(box)
