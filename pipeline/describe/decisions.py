"""What all engines share: from a model's probabilities to decided fields, and from its sentence to one that says them.

An engine reads probabilities and writes sentences (`FocalDescriber._ask`, `_open`); what is made of both is decided here, so that
every engine gives the same answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.describe.grammar import AGE_CHOICES, ANSWER_END, Grammar, fields_text, region_text, scaled
from pipeline.describe.sentences import agrees, compose
from pipeline.faces.alignment import CROP_SIZE
from pipeline.records import Answer, Request
from pipeline.vocabulary import EMOTION_WORDS, EMOTIONS, region_aus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SENTENCE = 96
"""Tokens after which a sentence is cut; nano's longest take about 60."""

READ_BATCHES = 4
"""Describing batches that are read together where no sentence is written; more is quicker on a GPU and takes more of its memory."""

Scores = list[np.ndarray]
"""Probabilities of every slot's choices, (R, choices) each, in the order of `Grammar.slots`."""

Write = Callable[[Sequence[Answer]], list[str]]
"""Writes the sentences that follow decided fields; one a row that was asked."""

Hear = Callable[[list[int], Request], tuple[Scores, Write]]
"""Goes on with a conversation: hears the tokens of the answer before, then a question, and reads its fields."""


class FocalDescriber(ABC):
    """A describer (`pipeline.describe.backends.Describer`) but for the model.

    Attributes:
        own_words: whether sentences are the model's; else it is asked for fields alone, and they get their plain wording.

    Args:
        name: the checkpoint, as the tables name it.
        grammar: how it is asked.
        tokenizer: its own.
        side: pixels a side of the picture that it is shown.
        batch_size: requests answered together.
    """

    def __init__(self, name: str, grammar: Grammar, tokenizer: PreTrainedTokenizerBase, side: int, batch_size: int) -> None:
        self.name = name
        self.grammar = grammar
        self.aus = grammar.aus
        self.replaced = 0
        self.own_words = True
        self.batch_size = batch_size
        self._tokenizer = tokenizer
        self._side = side
        (self._end,) = self._ids(ANSWER_END)
        (self._newline, *_) = self._ids("\n")
        self._names = self._name_tokens()
        self._all_names = frozenset().union(*self._names.values())

    def describe(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, in order; a request alone and in any batch gets the same one."""
        answers: list[Answer] = []
        for start in range(0, len(requests), self.batch_size):
            answers.extend(self._batch(requests[start : start + self.batch_size]))
        return answers

    def read(self, requests: Sequence[Request]) -> list[Answer]:
        """The fields of each request, in order, without sentences (`description` is empty). The same fields as `describe` gives, in about
        half of the time, and in larger batches.
        """
        answers: list[Answer] = []
        size = self.batch_size * READ_BATCHES
        for start in range(0, len(requests), size):
            answers.extend(self._batch(requests[start : start + size], sentences=False))
        return answers

    def converse(self, requests: Sequence[Request]) -> list[Answer]:
        """Ask about several boxes of one face in turn: each answer sees the ones before it. The face's mirror image has no part in it.

        Raises:
            ValueError: when the requests are not of one face.
        """
        if len({request.crop.tobytes() for request in requests}) > 1:
            raise ValueError("a conversation is about one face")
        answers: list[Answer] = []
        said: list[int] = []
        hear = self._open(requests[0].crop) if requests else None
        for request in requests:
            assert hear is not None
            scores, write = hear(said, request)
            decided = self._decide(request, [score[0] for score in scores])
            answers += self._finished([decided], write)
            said = [*self._fields_ids(answers[-1]), *self._ids(answers[-1].description + ANSWER_END)]
        return answers

    def rivals(self, answer: Answer) -> list[int]:
        """Tokens that a sentence for these fields may not hold: the names of the other emotions and ages."""
        own = self._names[answer.emotion] | self._names[str(round(answer.age))]
        return sorted(self._all_names - own)

    @abstractmethod
    def _ask(self, requests: Sequence[Request]) -> Iterator[tuple[list[int], Scores, Write]]:
        """Read the fields of every request, group by group.

        Yields:
            (rows of `requests`, their scores, what writes their sentences; to be used before the next group is asked for).
        """

    @abstractmethod
    def _open(self, crop: np.ndarray) -> Hear:
        """Begin a conversation about a face."""

    def _batch(self, requests: Sequence[Request], sentences: bool = True) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(requests)
        mirrored = self._scores([_mirrored(request) for request in requests]) if self.grammar.mirror else None
        for rows, scores, write in self._ask(requests):
            if mirrored is not None:
                scores = [(own + other[rows]) / 2 for own, other in zip(scores, mirrored, strict=True)]
            decided = [self._decide(requests[row], [score[i] for score in scores]) for i, row in enumerate(rows)]
            for row, answer in zip(rows, self._finished(decided, write) if sentences else decided, strict=True):
                answers[row] = answer
        return [answer for answer in answers if answer is not None]

    def _scores(self, requests: Sequence[Request]) -> Scores:
        """The scores of every request, in order."""
        scores = [np.empty((len(requests), len(choices))) for _, choices in self.grammar.slots()]
        for rows, read, _ in self._ask(requests):
            for all_rows, own in zip(scores, read, strict=True):
                all_rows[rows] = own
        return scores

    def _decide(self, request: Request, scores: Sequence[np.ndarray]) -> Answer:
        """Fields from probabilities; the sentence is still to come."""
        can_show = set(region_aus(request.region, request.box))
        *units, emotion, age = scores
        au_scores = {au: float(score[0]) for au, score in zip(self.aus, units, strict=True) if au in can_show}
        return Answer(
            au_scores=au_scores,
            aus=tuple(au for au, score in au_scores.items() if score >= self.grammar.threshold(au)),
            emotion_scores={name: float(score) for name, score in zip(EMOTIONS, emotion / emotion.sum(), strict=True)},
            emotion=EMOTIONS[int(emotion.argmax())],
            age=_percentile(age, 0.5),
            age_low=_percentile(age, 0.1),
            age_high=_percentile(age, 0.9),
            description="",
        )

    def _finished(self, decided: Sequence[Answer], write: Write) -> list[Answer]:
        """Fields with sentences that say them, the model's own where they do."""
        if not self.own_words:
            return [replace(fields, description=compose(fields.aus, fields.emotion, round(fields.age))) for fields in decided]
        written = write(decided)
        kept = [checked(sentence, fields) for sentence, fields in zip(written, decided, strict=True)]
        self.replaced += sum(own != sentence for own, sentence in zip(kept, written, strict=True))
        return [
            replace(fields, description=sentence, own_sentence=own) for fields, sentence, own in zip(decided, kept, written, strict=True)
        ]

    def _resized(self, crop: np.ndarray) -> np.ndarray:
        """A crop at the size that the model is shown, (side, side, 3) uint8."""
        return crop if crop.shape[0] == self._side else cv2.resize(crop, (self._side, self._side), interpolation=cv2.INTER_CUBIC)

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _branch(self, request: Request) -> list[int]:
        """The tokens that ask about a request's box."""
        return self._ids(region_text(scaled(request.box, self._side / CROP_SIZE)))

    def _fields_ids(self, answer: Answer) -> list[int]:
        """The tokens of decided fields."""
        return self._ids(fields_text(answer.aus, answer.emotion, round(answer.age)))

    def _text(self, ids: Sequence[int]) -> str:
        """A written sentence."""
        return self._tokenizer.decode(ids, skip_special_tokens=True).strip()

    def _name_tokens(self) -> dict[str, frozenset[int]]:
        """For each emotion and age the tokens that name it; a name of several tokens is left to `checked`."""
        words = {emotion: [f" {word}" for word in names] for emotion, names in EMOTION_WORDS.items()}
        words |= {choice.strip(): [choice] for choice in AGE_CHOICES}
        tokens = {name: [self._ids(word) for word in names] for name, names in words.items()}
        return {name: frozenset(ids[0] for ids in spelled if len(ids) == 1) for name, spelled in tokens.items()}


def checked(sentence: str, fields: Answer) -> str:
    """The model's sentence where it says what its fields say, no more and no less; else their plain wording."""
    own = fields.aus, fields.emotion, round(fields.age)
    return sentence if agrees(sentence, *own) else compose(*own)


def _mirrored(request: Request) -> Request:
    """The same question about the face's mirror image; what a box can show has no side."""
    x0, y0, x1, y1 = request.box
    width = request.crop.shape[1]
    return Request(np.ascontiguousarray(request.crop[:, ::-1]), (width - x1, y0, width - x0, y1), request.region)


def _percentile(distribution: np.ndarray, share: float) -> float:
    """The age below which `share` of a distribution over years lies."""
    below = distribution.cumsum() / distribution.sum()
    return float(np.minimum(np.searchsorted(below, share), len(distribution) - 1))
