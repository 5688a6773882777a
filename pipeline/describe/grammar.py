"""The fixed form of a question and its answer, shared by the backends and by training.

A conversation is a small tree of tokens. The prefix is the picture; each region asked about is a branch after it. From a region's branch
grow the *slots*, one short question for each field (is AU12 active, or at which level? which emotion? what age?), answered by the model's
probabilities of a few fixed words, and the *answer*: the decided fields, then a sentence that the model writes.

    user: <image> instruction  +-- Box: 41 73 71 89 -- assistant: +-- AU12  -> yes / no
                               |                                  +-- ...
                               |                                  +-- emotion -> anger / ... / surprise
                               |                                  +-- age     -> 0 / ... / 100
                               |                                  +-- AU12 AU25 happiness 31 | The lip corners are ...
                               +-- Box: ...

Slots do not see each other, so each field's score is the model's own, whatever the order of the questions, and all of them take one
forward pass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.describe.claims import grade
from pipeline.errors import ModelError
from pipeline.vocabulary import AUS, EMOTIONS, UNIT, Box

FILE = "focal.json"
"""Name of the grammar's file in a checkpoint folder. A checkpoint without one gets the defaults."""

YES_NO = (" yes", " no")
LEVEL_CHOICES = tuple(f" {level}" for level in range(6))
"""Levels of an action unit: 0 is not active, 1 to 5 are FACS' intensities A to E."""
EMOTION_CHOICES = tuple(f" {name}" for name in EMOTIONS)
AGE_CHOICES = tuple(f" {age}" for age in range(101))

EARLIER_TURNS = ("ignored", "sentence", "all")
"""What a turn can see of the turns before it (`Grammar.earlier_turns`)."""

_INSTRUCTION = (
    "The picture shows one face, aligned. You are a FACS coder who looks at one box of it, given as x0 y0 x1 y1 in pixels, and says "
    "which action units are active inside that box (yes or no), which emotion the face shows (anger, disgust, fear, happiness, "
    "neutral, sadness or surprise) and the apparent age in years; then one sentence that says the same in plain words."
)


@dataclass(frozen=True)
class Grammar:
    """How one checkpoint is asked.

    Attributes:
        instruction: what the user says beside the picture; empty for a model that was trained from scratch on this form alone.
        au_slot, emotion_slot, age_slot: the short questions, with `{code}` and `{name}` of the action unit.
        aus: the action units that the model knows.
        thresholds: probability from which an action unit counts as active; 0.5 where none is given.
        face_size: width in pixels of the square aligned face that the model is shown.
        mirror: also read the face's mirror image and average the fields, which is more accurate and takes twice as long.
        au_levels: whether an action unit's slot is answered with its level, 0 to 5, instead of yes or no. Its score is then the probability
            of all levels but 0, and its intensity is the expected level.
        age_temperature: the age distribution is raised to the power of 1 / this; below 1 it gets narrower. Chosen so that its middle 80%
            holds the age of four faces in five (temperature scaling, Guo and others 2017).
        earlier_turns: what a turn of a conversation sees of the turns before it. `ignored`: nothing, each turn is answered as if it were
            asked alone, right for models that answer later turns worse; `sentence`: only the sentence sees them; `all`: the fields too.
    """

    instruction: str = _INSTRUCTION
    au_slot: str = "\n{code} ({name}):"
    emotion_slot: str = "\nEmotion:"
    age_slot: str = "\nAge:"
    aus: tuple[str, ...] = AUS
    thresholds: dict[str, float] = field(default_factory=dict)
    face_size: int = 336
    mirror: bool = False
    au_levels: bool = False
    age_temperature: float = 1.0
    earlier_turns: str = "ignored"

    def slots(self) -> list[tuple[str, tuple[str, ...]]]:
        """(question, choices) of every slot: the action units in order, then emotion, then age."""
        choices = LEVEL_CHOICES if self.au_levels else YES_NO
        units = [(self.au_slot.format(code=au, name=UNIT[au].name), choices) for au in self.aus]
        return [*units, (self.emotion_slot, EMOTION_CHOICES), (self.age_slot, AGE_CHOICES)]

    def threshold(self, au: str) -> float:
        """Probability from which `au` counts as active."""
        return self.thresholds.get(au, 0.5)

    def picture_side(self, unit: int) -> int:
        """Width in pixels of the square picture that a model is shown: `face_size`, rounded to whole image tokens.

        Args:
            unit: width in pixels of what becomes one image token, the model's `patch_size * spatial_merge_size`.

        >>> Grammar(face_size=112).picture_side(28), Grammar(face_size=100).picture_side(28)
        (112, 112)
        """
        return max(unit, round(self.face_size / unit) * unit)

    def save(self, folder: Path) -> None:
        """Write the grammar beside a checkpoint."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Grammar:
        """Read the grammar of a checkpoint; the defaults if it has none.

        Raises:
            ModelError: when the file does not fit.
        """
        path = folder / FILE
        if not path.is_file():
            return cls()
        try:
            values = json.loads(path.read_text())
            grammar = cls(**{**values, "aus": tuple(values.get("aus", AUS))})
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path}: not a grammar file ({error})") from error
        if grammar.earlier_turns not in EARLIER_TURNS:
            raise ModelError(f"{path}: earlier_turns is {grammar.earlier_turns!r}, not one of {', '.join(EARLIER_TURNS)}")
        if not (isinstance(grammar.age_temperature, (int, float)) and grammar.age_temperature > 0):
            raise ModelError(f"{path}: age_temperature is {grammar.age_temperature!r}, not a number above 0")
        if unknown := set(grammar.aus) - set(AUS):
            raise ModelError(f"{path}: unknown action units {', '.join(sorted(unknown))}")
        return grammar


USER_START = "<|im_start|>user\n<|vision_start|>"
IMAGE_TOKEN = "<|image_pad|>"
USER_IMAGE_END = "<|vision_end|>"
ANSWER_END = "<|im_end|>"


def scaled(box: Box, factor: float) -> Box:
    """A box in pixels of the same picture at another size."""
    x0, y0, x1, y1 = box
    return x0 * factor, y0 * factor, x1 * factor, y1 * factor


def region_text(box: Box) -> str:
    """The question about one region; `box` in pixels of the picture that the model is shown."""
    x0, y0, x1, y1 = (max(0, round(value)) for value in box)
    return f"\nBox: {x0} {y0} {x1} {y1}<|im_end|>\n<|im_start|>assistant\n"


def fields_text(aus: Sequence[str], emotion: str, age: int, intensities: Mapping[str, float] | None = None) -> str:
    """The decided fields, with which the answer begins; an action unit with an intensity is followed by its grade.

    >>> fields_text(["AU12", "AU25"], "happiness", 31, {"AU12": 3.2})
    ' AU12 strongly AU25 happiness 31\\n'
    """
    words = [f"{au} {grade((intensities or {}).get(au))}".strip() for au in aus]
    return "".join(f" {word}" for word in words) + f" {emotion} {age}\n"
