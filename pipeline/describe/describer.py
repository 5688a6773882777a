"""What all backends share: batches, conversations, mirror images, and sentences that say what their fields say.

A backend is a subclass of `BaseDescriber` with two methods: `_read` reads the fields of boxes, `_write` writes sentences for decided
fields. Neither speaks of tokens here, so that a model behind a network works as well as one in this process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pipeline.describe.fields import Fields, decide, mean_fields
from pipeline.describe.grammar import Grammar
from pipeline.describe.sentences import agrees, compose, mirrored_text, speaks_of_region_first
from pipeline.records import Answer, ModelInfo, Request
from pipeline.vocabulary import AUS, WHOLE_FACE, mirrored_au, region_aus

READ_BATCHES = 4
"""Batches that `BaseDescriber.read` reads together, as no sentences are written; more takes more memory, and is little faster."""


@dataclass(frozen=True)
class Prompt:
    """A request in its conversation.

    Attributes:
        request: what is asked.
        earlier: the turns before it, about the same face.
    """

    request: Request
    earlier: tuple[tuple[Request, Answer], ...] = ()

    def mirrored(self) -> Prompt:
        """The same prompt about the face's mirror image."""
        return Prompt(mirrored(self.request), tuple((mirrored(request), mirrored_answer(answer)) for request, answer in self.earlier))


class BaseDescriber(ABC):
    """A describer (`pipeline.describe.backends.Describer`) without its model.

    Attributes:
        keeps_prefill: whether `_write` goes on from what `_read` has computed for its prompts.
    """

    keeps_prefill = False

    def __init__(self, name: str, grammar: Grammar, batch_size: int) -> None:
        """Prepare what does not depend on the model.

        Args:
            name: the checkpoint, as the tables name it.
            grammar: how it is asked.
            batch_size: requests answered together.
        """
        self.name = name
        self.grammar = grammar
        self.aus = grammar.aus
        self.info = ModelInfo(name, {au: grammar.threshold(au) for au in grammar.aus})
        self.replaced = 0
        self.writes_sentences = True
        self.batch_size = batch_size

    def describe(self, requests: Sequence[Request], faces: Sequence[Request | Answer] | None = None) -> list[Answer]:
        """See `pipeline.describe.backends.Describer.describe`."""
        answers: list[Answer] = []
        known: dict[bytes, Answer] = {}
        for start in range(0, len(requests), self.batch_size):
            part = slice(start, start + self.batch_size)
            prompts = [Prompt(request) for request in requests[part]]
            decided = self._decide_by_face(prompts, faces[part], known) if faces else self._decide(prompts, self.writes_sentences)
            answers += self._finish(prompts, decided)
        return answers

    def read(self, requests: Sequence[Request], mirror: bool = True) -> list[Answer]:
        """See `pipeline.describe.backends.Describer.read`."""
        answers: list[Answer] = []
        size = self.batch_size * READ_BATCHES
        for start in range(0, len(requests), size):
            answers += self._decide([Prompt(request) for request in requests[start : start + size]], mirror=mirror)
        return answers

    def converse(self, requests: Sequence[Request], faces: Sequence[Request | Answer] | None = None) -> list[Answer]:
        """See `pipeline.describe.backends.Describer.converse`."""
        if self.grammar.earlier_turns == "ignored":
            return self.describe(requests, faces)
        conversations: dict[bytes, list[int]] = {}
        for i, request in enumerate(requests):
            conversations.setdefault(_key(request), []).append(i)
        alone = dict(enumerate(self.read(requests))) if self.grammar.earlier_turns == "sentence" else {}
        read = {_key(requests[i]): answer for i, answer in alone.items() if requests[i].region == WHOLE_FACE}
        known = self._read_faces(requests, [read.get(_key(one), face) for one, face in zip(requests, faces, strict=True)]) if faces else {}
        answers: dict[int, Answer] = {}
        for turn in range(max(map(len, conversations.values()), default=0)):
            rows = [own[: turn + 1] for own in conversations.values() if len(own) > turn]
            for start in range(0, len(rows), self.batch_size):
                some = rows[start : start + self.batch_size]
                prompts = [Prompt(requests[own[-1]], tuple((requests[i], answers[i]) for i in own[:-1])) for own in some]
                fields = [alone[own[-1]] for own in some] if alone else self._decide(prompts, self.writes_sentences)
                if faces:
                    fields = [
                        of_face(one, known[_key(prompt.request)], prompt.request) for one, prompt in zip(fields, prompts, strict=True)
                    ]
                answers |= zip((own[-1] for own in some), self._finish(prompts, fields), strict=True)
        return [answers[i] for i in range(len(requests))]

    @abstractmethod
    def _read(self, prompts: list[Prompt], then_write: bool) -> list[Fields]:
        """Read the fields of each prompt.

        Args:
            prompts: what is asked.
            then_write: whether `_write` is called next with these prompts, or the first of them, so that what was computed may be kept.
        """

    @abstractmethod
    def _write(self, prompts: list[Prompt], answers: Sequence[Answer]) -> list[str]:
        """Write a sentence for each prompt's decided fields."""

    def _decide(
        self, prompts: list[Prompt], then_write: bool = False, mirror: bool = True, answered: Sequence[Answer | None] | None = None
    ) -> list[Answer]:
        """Fields without sentences.

        Args:
            prompts: what is asked.
            then_write: whether sentences are written next.
            mirror: whether the face's mirror image is read too, where the checkpoint asks for that.
            answered: for each prompt its answer where there is one; the others are read.
        """
        answers = list(answered or [None] * len(prompts))
        places = [i for i, answer in enumerate(answers) if answer is None]
        asked = [prompts[i] for i in places]
        other = self._read([prompt.mirrored() for prompt in asked], False) if mirror and self.grammar.mirror and asked else None
        if then_write and self.keeps_prefill:
            read = self._read(prompts, True)
            fields = [read[i] for i in places]
        else:
            fields = self._read(asked, False) if asked else []
        if other is not None:
            fields = [mean_fields(*pair) for pair in zip(fields, other, strict=True)]
        for i, own in zip(places, fields, strict=True):
            answers[i] = decide(own, prompts[i].request, self.info.thresholds, self.grammar.age_temperature)
        return [answer for answer in answers if answer is not None]

    def _decide_by_face(self, prompts: list[Prompt], faces: Sequence[Request | Answer], known: dict[bytes, Answer]) -> list[Answer]:
        """Fields before their sentences, with what belongs to the whole face from one answer about it.

        Args:
            prompts: what is asked.
            faces: as for `describe`, one for each prompt.
            known: answers about whole faces by their crop (`_key`); those of these prompts are added.
        """
        keys = [_key(prompt.request) for prompt in prompts]
        known |= {key: face for key, face in zip(keys, faces, strict=True) if isinstance(face, Answer)}
        asked = {key for key, prompt in zip(keys, prompts, strict=True) if prompt.request.region == WHOLE_FACE}
        missing = {key: face for key, face in zip(keys, faces, strict=True) if isinstance(face, Request) and key not in {*known, *asked}}
        every = [*zip(keys, prompts, strict=True), *((key, Prompt(face)) for key, face in missing.items())]
        answered = [known.get(key) if prompt.request.region == WHOLE_FACE else None for key, prompt in every]
        decided = self._decide([prompt for _, prompt in every], self.writes_sentences, answered=answered)
        known |= {key: answer for (key, prompt), answer in zip(every, decided, strict=True) if prompt.request.region == WHOLE_FACE}
        return [of_face(answer, known[key], prompt.request) for answer, key, prompt in zip(decided, keys, prompts, strict=False)]

    def _read_faces(self, requests: Sequence[Request], faces: Sequence[Request | Answer]) -> dict[bytes, Answer]:
        """Answers about whole faces by their crop (`_key`), each face read once. Arguments as for `describe`."""
        by_key = dict(zip(map(_key, requests), faces, strict=True))
        known = {key: face for key, face in by_key.items() if isinstance(face, Answer)}
        asked = {key: face for key, face in by_key.items() if isinstance(face, Request)}
        return known | dict(zip(asked, self.read(list(asked.values())), strict=True))

    def _finish(self, prompts: list[Prompt], decided: Sequence[Answer]) -> list[Answer]:
        """Fields with sentences that say them: the model's own where they do, else their plain wording."""
        requests = [prompt.request for prompt in prompts]
        if not self.writes_sentences:
            return [replace(fields, description=plain(fields, one, self.aus)) for fields, one in zip(decided, requests, strict=True)]
        written = self._write(prompts, decided)
        kept = [checked(said, fields, one, self.aus) for said, fields, one in zip(written, decided, requests, strict=True)]
        self.replaced += sum(own != said for own, said in zip(written, kept, strict=True))
        return [replace(fields, description=said, own_sentence=own) for fields, said, own in zip(decided, kept, written, strict=True)]


def of_face(answer: Answer, face: Answer, request: Request) -> Answer:
    """An answer with what belongs to the whole face from an answer about that: emotion and age; all, where the whole face is asked about.

    Args:
        answer: its fields.
        face: what is said of the whole face.
        request: what was asked.
    """
    if request.region == WHOLE_FACE:
        return replace(face, description="", own_sentence=None)
    return replace(
        answer, emotion=face.emotion, emotion_scores=face.emotion_scores, age=face.age, age_low=face.age_low, age_high=face.age_high
    )


def plain(fields: Answer, request: Request, known: Collection[str]) -> str:
    """The plain wording of decided fields.

    Args:
        fields: of the answer.
        request: what was asked.
        known: the action units that the model knows.
    """
    empty = not any(au in known for au in region_aus(request.region, request.box))
    return compose(fields.aus, fields.emotion, round(fields.age), region=request.region, empty=empty, intensities=fields.au_intensities)


def checked(sentence: str, fields: Answer, request: Request, known: Collection[str]) -> str:
    """The model's sentence if it says what its fields say, no more and no less, and speaks of the region before the face; else their
    plain wording (`plain`, which has the arguments)."""
    fits = agrees(sentence, fields.aus, fields.emotion, round(fields.age), fields.au_intensities)
    if fits and (request.region == WHOLE_FACE or speaks_of_region_first(sentence)):
        return sentence
    return plain(fields, request, known)


def _key(request: Request) -> bytes:
    """What requests about one face share."""
    return request.crop.tobytes()


def mirrored(request: Request) -> Request:
    """The same request about the face's mirror image. Its region keeps its name: both sides can show the same action units."""
    x0, y0, x1, y1 = request.box
    width = request.crop.shape[1]
    return Request(np.ascontiguousarray(request.crop[:, ::-1]), (width - x1, y0, width - x0, y1), request.region)


def mirrored_answer(answer: Answer) -> Answer:
    """What an answer says of the face's mirror image: the directions of gaze and the words for the sides change places."""
    aus = tuple(au for au in AUS if mirrored_au(au) in answer.aus)
    return replace(answer, aus=aus, description=mirrored_text(answer.description))


def resized(crop: np.ndarray, side: int) -> np.ndarray:
    """(112, 112, 3) uint8 crop -> (side, side, 3) uint8 picture that the model is shown."""
    return crop if crop.shape[0] == side else cv2.resize(crop, (side, side), interpolation=cv2.INTER_CUBIC)
