"""Prompts and answers as tokens of one tokenizer, for backends that hold the model themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.describe.describer import Prompt
from pipeline.describe.grammar import AGE_CHOICES, ANSWER_END, Grammar, fields_text, region_text, scaled
from pipeline.faces.alignment import CROP_SIZE
from pipeline.records import Answer, Request
from pipeline.vocabulary import EMOTION_WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SENTENCE = 96
"""Tokens after which a sentence is cut; nano's longest take about 60."""


class PromptTokens:
    """A grammar in the tokens of one tokenizer.

    Attributes:
        end: the token that ends an answer.
        newline: a token that no answer begins with.
        slots: question and choices of each slot of the grammar.
        side: width of the square picture that the model is shown, in pixels.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, grammar: Grammar, side: int) -> None:
        """Encode what all prompts share.

        Args:
            tokenizer: of the checkpoint.
            grammar: of the checkpoint.
            side: width of the square picture that the model is shown, in pixels.
        """
        self._tokenizer = tokenizer
        self.side = side
        self._scale = side / CROP_SIZE
        (self.end,) = self.encode(ANSWER_END)
        (self.newline, *_) = self.encode("\n")
        self.slots = [(self.encode(question), [self.encode(choice) for choice in choices]) for question, choices in grammar.slots()]
        words = {emotion: [f" {word}" for word in names] for emotion, names in EMOTION_WORDS.items()}
        words |= {choice.strip(): [choice] for choice in AGE_CHOICES}
        spelled = {name: [self.encode(word) for word in names] for name, names in words.items()}
        self._names = {name: frozenset(ids[0] for ids in many if len(ids) == 1) for name, many in spelled.items()}
        self._all_names = frozenset().union(*self._names.values())

    def encode(self, text: str) -> list[int]:
        """Tokens of a text."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a written sentence."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def question(self, prompt: Prompt) -> list[int]:
        """What follows the prefix: the earlier turns, then the question."""
        ids: list[int] = []
        for request, answer in prompt.earlier:
            ids += [*self._region(request), *self.fields(answer), *self.encode(answer.description + ANSWER_END)]
        return ids + self._region(prompt.request)

    def fields(self, answer: Answer) -> list[int]:
        """The decided fields, which open an answer."""
        return self.encode(fields_text(answer.aus, answer.emotion, round(answer.age), answer.au_intensities))

    def barred(self, answer: Answer) -> list[int]:
        """Tokens that a sentence for these fields must not contain: names of other emotions and ages, where they are single tokens."""
        return sorted(self._all_names - self._names[answer.emotion] - self._names[str(round(answer.age))])

    def _region(self, request: Request) -> list[int]:
        return self.encode(region_text(scaled(request.box, self._scale)))
