"""Reads English sentences about faces: which action units, emotions and ages they claim.

The reader judges the sentences of describers, so it shares nothing with the code that writes or checks them (`pipeline.describe.sentences`,
`pipeline.describe.claims`). It knows no whole phrases: it looks for a body part and a movement in the same piece of a sentence, and takes
the action unit from the definitions of FACS (Ekman, Friesen and Hager 2002). `tests/test_sentence_reader.py` holds it against a
hand-written list of sentences.

A sentence is read in four steps:

1. It is split into segments at punctuation, conjunctions and prepositions that begin a new statement ("while", "with", "which").
2. In each segment the body parts are found and removed ("the outer ends of the brows"), so that their words are not taken for movements.
3. The remaining words give the movements ("raised", "goes up", "arched": all up). A segment without a body part continues the one before
   ("the lips are parted and sucked in"); a segment with a negation claims nothing.
4. `_RULES` turns a body part and its movements into action units.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Reading:
    """What a sentence claims: the action units, emotions and ages that it names."""

    aus: frozenset[str]
    emotions: frozenset[str]
    ages: frozenset[int]


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b")


_SPLIT = re.compile(
    r"[.,;:()\u2013\u2014]|\b(?:and|but|or|while|with|which|that|as|where|though|although|whereas|so|above|over(?! the teeth)|below"
    r"|under|beneath|because|then|yet)\b"
)

_NEGATION = re.compile(r"\b(?:no|not|never|without|neither|nor|none|nothing|hardly|free of|rather than|instead of|un\w+ed)\b|n't\b")

_COORDINATED = (
    (re.compile(r"\binner and outer\b(?: \w+ of)?(?: the)?(?= (?:eye)?brows?)"), "inner brows and outer"),
    (re.compile(r"\bupper and lower (?=lids?|eyelids?|lips?)"), "upper and lower "),
)

_PARTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    # Longer names first: each match is removed before the next pattern looks.
    (
        "folds",
        _words(r"nasolabial (?:folds?|furrows?|lines?)|(?:folds?|lines?) (?:beside|from|around|along|next to) the nose\w*|smile lines?"),
    ),
    ("inner brows", _words(r"inner (?:\w+ )?(?:of )?(?:the |his |her |both )?(?:eye)?brows?|inner brow")),
    (
        "outer brows",
        _words(r"outer (?:\w+ )?(?:of )?(?:the |his |her |both )?(?:eye)?brows?|(?:tails?|outer ends?) of (?:the )?(?:eye)?brows?"),
    ),
    ("brows", _words(r"(?:eye)?brows?")),
    ("eye corners", _words(r"(?:outer )?corners of (?:the |his |her |both )?eyes?|eye corners?|crow's feet")),
    ("upper lids", _words(r"upper (?:eye)?lids?")),
    ("lower lids", _words(r"lower (?:eye)?lids?")),
    ("lids", _words(r"(?:eye)?lids?")),
    ("corners", _words(r"(?:lip|mouth) corners?|corners? of (?:the |his |her |both )?(?:mouth|lips?)")),
    ("upper lip", _words(r"upper lip")),
    ("lower lip", _words(r"lower lip")),
    ("lips", _words(r"lips?")),
    ("teeth", _words(r"teeth")),
    ("mouth", _words(r"mouth")),
    ("chin", _words(r"chin(?: boss)?")),
    ("jaw", _words(r"jaws?")),
    ("cheeks", _words(r"cheeks?")),
    ("nose", _words(r"bridge of (?:the |his |her )?nose|nose|nasal bridge")),
    ("eyes", _words(r"eyes?|gaze|pupils?|glance")),
    ("other", _words(r"face|look|expression|age|aged|years?|emotion|head|hair|person|skin|region|box|forehead|nostrils?|man|woman|he|she")),
)
"""Body parts; `other` names subjects that end the statement about the part before."""

_FAMILIES = (
    ("inner brows", "outer brows", "brows"),
    ("upper lids", "lower lids", "lids", "eyes"),
    ("upper lip", "lower lip", "lips", "mouth"),
)
"""Parts that may share one verb: "the inner and the outer brows are raised"."""

_MOVEMENTS: dict[str, re.Pattern[str]] = {
    "up": _words(r"rais\w*|lift\w*|elevat\w*|up|upwards?|upturn\w*|ris\w*|rose|arch\w*|higher|hoist\w*|bunch\w*"),
    "down": _words(r"lower\w*|down\w*|depress\w*|droop\w*|sag\w*|low|drop\w*|sink\w*"),
    "together": _words(r"together|knit\w*|furrow\w*|pinch\w*|contract\w*|closer|toward each other"),
    "open": _words(r"open\w*|part(?! of)|parts|parted|parting|apart|separat\w*|agape|gap(?:e|es|ing)"),
    "wide": _words(r"wid\w*"),
    "closed": _words(r"clos(?:e|es|ed|ing)|shut\w*"),
    "narrow": _words(r"narrow\w*|squint\w*|slits?|thin\w*"),
    "tight": _words(r"tight\w*|tens\w*|taut"),
    "pressed": _words(r"press\w*|squeez\w*|clamp\w*|compress\w*"),
    "wrinkled": _words(r"wrinkl\w*|scrunch\w*|crinkl\w*|crumpl\w*|creas\w*|screw\w*"),
    "deep": _words(r"deep\w*|pronounced|accentuat\w*"),
    "forward": _words(r"forwards?|protrud\w*|(?:push|jut|stick|stuck|thrust)\w* out"),
    "pucker": _words(r"pucker\w*|purs\w*|pout\w*"),
    "stretch": _words(r"stretch\w*"),
    "sideways": _words(r"sideways|lateral\w*|horizontal\w*|outwards?|to the sides"),
    "vertical": _words(r"vertical\w*|lengthwise|tall"),
    "inward": _words(r"suck\w*|(?:roll|fold|curl|draw|drawn|pull)\w* (?:in|inwards?)|over the teeth"),
    "dimple": _words(r"dimpl\w*|tuck\w*"),
    "slack": _words(r"hang\w*|slack\w*|drop\w*|falls?|fallen|loose\w*"),
    "turn": _words(r"turn\w*|downturn\w*|curv\w*"),
    "show": _words(r"show\w*|bar(?:e|es|ed|ing)|expos\w*|visible|seen"),
}
"""Words that name a movement."""

_DIRECTION = re.compile(
    r"\b(?:to|towards?|look\w*|turn\w*|glanc\w*|point\w*|shift\w*|mov\w*|dart\w*|averted)\s+(?:(?:to|towards?|the|its)\s+)*"
    r"((?:\w+'s|person's|own|his|her|their)\s+)?(?:own\s+)?(left|right)\b"
)
"""Left and right are the image's unless the person is named as the owner."""

_NAMED: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (_words(r"(?:felt|genuine|duchenne|true) smil\w+"), ("AU06", "AU12")),
    (_words(r"smil(?:e|es|ed|ing)|grin(?:s|ned|ning)?|lip corner pullers?"), ("AU12",)),
    (_words(r"frown(?:s|ed|ing)?|scowl(?:s|ed|ing)?"), ("AU04",)),
    (_words(r"dimplers?"), ("AU14",)),
    (_words(r"mouth stretch"), ("AU27",)),
)
"""Words that name an action without its body part."""

_CODE = re.compile(r"\bau ?(\d{1,2})\b")

Rule = Callable[[frozenset[str]], tuple[str, ...]]


def _first(*cases: tuple[str, str]) -> Rule:
    """The units of the first case of which all movements are there; "up": "AU01 AU02"."""

    def rule(moves: frozenset[str]) -> tuple[str, ...]:
        return next((tuple(units.split()) for needed, units in cases if set(needed.split()) <= moves), ())

    return rule


def _brows(up: str) -> Rule:
    def rule(moves: frozenset[str]) -> tuple[str, ...]:
        raised = up.split() if "up" in moves else []
        drawn = ["AU04"] if moves & {"down", "together"} else []
        return (*raised, *drawn)

    return rule


_GAZE = (("image-right", "AU61"), ("image-left", "AU62"), ("up", "AU63"), ("down", "AU64"))

_RULES: dict[str, Rule] = {
    "inner brows": _brows("AU01"),
    "outer brows": _brows("AU02"),
    "brows": _brows("AU01 AU02"),
    "eye corners": _first(("wrinkled", "AU06")),
    "upper lids": _first(("closed", "AU43"), ("up", "AU05"), ("down", "AU43"), ("tight", "AU07")),
    "lower lids": _first(("closed", "AU43"), ("up", "AU07"), ("tight", "AU07")),
    "lids": _first(("closed", "AU43"), ("up", "AU05"), ("down", "AU43"), ("tight", "AU07"), ("narrow", "AU07"), ("pressed", "AU07")),
    "eyes": _first(
        ("closed", "AU43"), ("wide", "AU05"), ("narrow", "AU07"), ("tight", "AU07"), ("pressed", "AU07"), ("wrinkled", "AU06"), *_GAZE
    ),
    "cheeks": _first(("up", "AU06")),
    "nose": _first(("wrinkled", "AU09"), ("up", "AU09")),
    "folds": _first(("deep", "AU11")),
    "upper lip": _first(("up", "AU10")),
    "lower lip": _first(("down", "AU16"), ("up", "AU17")),
    "corners": _first(("dimple", "AU14"), ("up", "AU12"), ("down", "AU15"), ("stretch", "AU20"), ("sideways", "AU20"), ("tight", "AU14")),
    "chin": _first(("up", "AU17"), ("wrinkled", "AU17"), ("dimple", "AU17")),
    "jaw": _first(("wide", "AU27"), ("stretch", "AU27"), ("down", "AU26"), ("slack", "AU26"), ("open", "AU26")),
    "lips": _first(
        ("inward", "AU28"),
        ("pucker", "AU18"),
        ("forward", "AU18"),
        ("pressed", "AU24"),
        ("stretch", "AU20"),
        ("sideways", "AU20"),
        ("open", "AU25"),
        ("tight", "AU23"),
        ("narrow", "AU23"),
    ),
    "mouth": _first(
        ("stretch vertical", "AU27"),
        ("stretch open", "AU27"),
        ("wide open", "AU27"),
        ("slack open", "AU25 AU26"),
        ("slack", "AU26"),
        ("stretch", "AU20"),
        ("sideways", "AU20"),
        ("pucker", "AU18"),
        ("open", "AU25"),
        ("up", "AU12"),
        ("turn down", "AU15"),
        ("tight", "AU23"),
    ),
    "teeth": _first(("show", "AU25")),
    "other": _first(),
}
"""From FACS: what each body part does in each action unit. Of several cases the first that fits is taken."""

_EMOTIONS: dict[str, re.Pattern[str]] = {
    "anger": _words(r"ang(?:er|ry|ered|rily)|furious\w*|rage|enraged|mad|irritat\w+|annoy\w+|hostil\w+|cross"),
    "disgust": _words(r"disgust\w*|revolt\w+|revuls\w+|repuls\w+|repelled"),
    "fear": _words(r"fear\w*|afraid|scared|frighten\w+|terrif\w+|terror|anxi\w+|worried|nervous\w*"),
    "happiness": _words(r"happ(?:y|ily|iness|ier)|joy\w*|cheer\w+|delight\w*|pleased|glad\w*|merr\w+|amus\w+"),
    "neutral": _words(
        r"neutral\w*|expressionless|impassive\w*|deadpan|no (?:marked |clear |particular |strong |visible )?(?:emotion|expression)"
    ),
    "sadness": _words(r"sad\w*|sorrow\w*|unhapp\w+|grie[fv]\w*|gloom\w*|melanchol\w+|tearful\w*|mournful\w*"),
    "surprise": _words(r"surpris\w+|astonish\w+|amaz\w+|startl\w+|shock\w*"),
}

_DENIED = re.compile(r"(?:\bno|\bnot|n't|\bnever|\bwithout|\brather than|\binstead of|\bneither|\bnor)(?: \w+){0,3} $")
"""Words before an emotion that deny it."""

_ONES: tuple[str, ...] = (
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
)
_ONES += ("fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_UNITS = {word: i for i, word in enumerate(_ONES, 1)}
_TENS = {word: 10 * i for i, word in enumerate(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 2)}
_NUMERAL = re.compile(r"(?<![\w.,])(\d{1,3})(?![\w%]|[.,]\d)")
_NUMBER_WORD = re.compile(
    rf"\b({'|'.join(_TENS)})(?:[- ]({'|'.join(_ONES[:9])}))?\b"
    rf"|\b({'|'.join(_UNITS)})(?=[- ]years?\b)|(?<=\baged )({'|'.join(_UNITS)})\b"
)


@lru_cache(maxsize=65536)
def read_sentence(text: str) -> Reading:
    """Read what a sentence claims.

    Args:
        text: English; several sentences are read as one.

    >>> reading = read_sentence("Eyebrows knit, mouth turned down at the corners: a woman of about thirty who looks sad.")
    >>> sorted(reading.aus), sorted(reading.emotions), sorted(reading.ages)
    (['AU04', 'AU15'], ['sadness'], [30])
    """
    lowered = " ".join(text.lower().replace("\u2019", "'").split())
    return Reading(_action_units(lowered), _emotions(lowered), _ages(lowered))


def says_fields(text: str, aus: tuple[str, ...], emotion: str, age: float) -> bool:
    """Whether a sentence claims exactly these fields: the action units, the emotion and the age rounded to years, and nothing else."""
    return read_sentence(text) == Reading(frozenset(aus), frozenset([emotion]), frozenset([round(age)]))


@dataclass(frozen=True)
class ChangeReading:
    """One change that a sentence claims: the unit, and the seconds at which it begins and ends as far as the sentence says."""

    au: str
    start_s: float | None
    end_s: float | None


_TIME = r"(?:about |around )?(?:second )?(\d+(?:\.\d+)?)(?: s(?:econds?)?)?"
_BEGINS = re.compile(rf"\b(?:from|since|after|at|as of|starting at) {_TIME}(?: (?:on|onwards?))?\b")
_ENDS = re.compile(rf"\b(?:until|till|to|up to|before) {_TIME}\b")
_FULL_STOP = re.compile(r"(?<!\d)\.|\.(?!\d)")


@lru_cache(maxsize=65536)
def read_changes(text: str) -> frozenset[ChangeReading]:
    """Read which changes sentences claim, each with its times; a sentence without a time claims none.

    >>> sorted((one.au, one.start_s, one.end_s) for one in read_changes("The mouth corners go up from second 3.2 and stay up."))
    [('AU12', 3.2, None)]
    """
    found: set[ChangeReading] = set()
    for sentence in _FULL_STOP.split(" ".join(text.lower().split())):
        begins, ends = _BEGINS.search(sentence), _ENDS.search(sentence)
        if begins or ends:
            rest = _ENDS.sub(" ", _BEGINS.sub(" ", sentence))
            times = (float(match[1]) if match else None for match in (begins, ends))
            start_s, end_s = times
            found.update(ChangeReading(au, start_s, end_s) for au in _action_units(" ".join(rest.split())))
    return frozenset(found)


def _action_units(text: str) -> frozenset[str]:
    for pattern, spelled in _COORDINATED:
        text = pattern.sub(spelled, text)
    claimed: set[str] = set()
    subject: list[str] = []
    waiting: list[str] = []
    for segment in _SPLIT.split(text):
        parts, rest = _body_parts(segment)
        moves = _movements(rest, segment)
        if not parts and moves:
            parts = subject
        denied = bool(_NEGATION.search(segment))
        if moves and not denied:
            for part in [*parts, *[other for other in waiting if _same_family(other, parts)]]:
                claimed.update(_RULES[part](moves))
        if not denied:
            claimed.update(au for pattern, units in _NAMED if pattern.search(segment) for au in units)
            claimed.update(f"AU{int(number):02}" for number in _CODE.findall(segment))
        if parts:
            subject = parts
            waiting = [] if moves else [*waiting, *parts]
    return frozenset(claimed)


def _body_parts(segment: str) -> tuple[list[str], str]:
    """The body parts of a segment, and its other words."""
    parts = []
    for name, pattern in _PARTS:
        segment, count = pattern.subn(" ", segment)
        if count:
            parts.append(name)
    return parts, segment


def _movements(rest: str, segment: str) -> frozenset[str]:
    """The movements that the words beside the body parts name; directions of gaze need the whole segment for their owner."""
    moves = {name for name, pattern in _MOVEMENTS.items() if pattern.search(rest)}
    for owner, side in _DIRECTION.findall(segment):
        of_image = not owner or owner.strip() in ("image's", "picture's", "photo's", "viewer's", "frame's")
        moves.add(f"image-{side if of_image else {'left': 'right', 'right': 'left'}[side]}")
    return frozenset(moves)


def _same_family(part: str, parts: list[str]) -> bool:
    return part not in parts and any(part in family and set(parts) & set(family) for family in _FAMILIES)


def _emotions(text: str) -> frozenset[str]:
    found = set()
    for emotion, pattern in _EMOTIONS.items():
        for match in pattern.finditer(text):
            if emotion == "neutral" or not _DENIED.search(text[: match.start()]):
                found.add(emotion)
    return frozenset(found)


def _ages(text: str) -> frozenset[int]:
    bare = _CODE.sub(" ", text)
    ages = {int(number) for number in _NUMERAL.findall(bare)}
    for ten, unit, years, aged in _NUMBER_WORD.findall(bare):
        ages.add(_TENS.get(ten, 0) + _UNITS.get(unit or years or aged, 0))
    return frozenset(ages)
