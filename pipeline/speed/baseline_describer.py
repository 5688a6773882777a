"""The baseline's describer: a Qwen2.5-VL asked through transformers alone, question by question or in padded batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from transformers import AutoImageProcessor, AutoTokenizer, LogitsProcessorList, Qwen2_5_VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging

from pipeline.describe.checkpoints import locate
from pipeline.describe.describer import checked, of_face
from pipeline.describe.fields import Fields, decide, unit_readings
from pipeline.describe.grammar import (
    AGE_CHOICES,
    IMAGE_TOKEN,
    USER_IMAGE_END,
    USER_START,
    Grammar,
    fields_text,
    region_text,
    scaled,
)
from pipeline.errors import ModelError
from pipeline.faces.alignment import CROP_SIZE
from pipeline.records import Answer, Request
from pipeline.vocabulary import EMOTION_WORDS, UNIT, Box, mirrored_au, region_aus

SENTENCE_TOKENS = 96
"""Tokens after which both sides cut a sentence."""

QUESTION_BATCH = 32
"""Field questions in a padded batch. Of 8, 16, 32, 64, 128 and all at once, 32 is the fastest for nano on a CPU core, by a little."""


def load_baseline_describer(model: str) -> BaselineDescriber:
    """Open a checkpoint with `from_pretrained`.

    Raises:
        ModelError: when there is no such checkpoint, or its answers take several tokens.
    """
    logging.disable_progress_bar()
    folder = locate(model)
    network = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return BaselineDescriber(network, tokenizer, Grammar.load(folder), AutoImageProcessor.from_pretrained(folder))


class BaselineDescriber:
    """Answers requests through transformers' public interface.

    Attributes:
        batched: whether each picture is encoded once and questions go in padded batches; otherwise each question goes alone, with its
            picture.
        seconds: time spent so far on `fields` and on `sentences`.
    """

    def __init__(self, network: Any, tokenizer: Any, grammar: Grammar, processor: Any) -> None:
        self.network, self.tokenizer, self.grammar, self.processor = network, tokenizer, grammar, processor
        self.batched, self.seconds = False, {"fields": 0.0, "sentences": 0.0}
        side = grammar.face_size
        self.grid = processor(images=[np.zeros((side, side, 3), np.uint8)], return_tensors="pt")["image_grid_thw"]
        self.image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.words = {choices: [self.tokens(choice) for choice in choices] for _, choices in grammar.slots()}
        if any(len(ids) > 1 for choices in self.words.values() for ids in choices):
            raise ModelError("bench needs a checkpoint whose answers are single tokens, like nano; this one spells numbers or names out")
        names = {name: [f" {word}" for word in known] for name, known in EMOTION_WORDS.items()}
        names |= {age.strip(): [age] for age in AGE_CHOICES}
        self.names = {name: [ids[0] for ids in map(self.tokens, known) if len(ids) == 1] for name, known in names.items()}

    def tokens(self, word: str) -> list[int]:
        """Token ids of a word."""
        return list(self.tokenizer.encode(word, add_special_tokens=False))

    @torch.inference_mode()
    def describe(self, requests: Sequence[Request], faces: Sequence[Answer] | None = None) -> list[Answer]:
        """Read the fields of all requests from the probabilities of their choices, then write all sentences. AUs that a box cannot show are
        not asked.

        Args:
            requests: what is asked.
            faces: for each request what is known of its whole face; emotion and age are taken from there.
        """
        began = time.perf_counter()
        pictures, mirrored = self._pictures(requests)
        decided = self._fields(requests, pictures, mirrored)
        if faces is not None:
            decided = [of_face(*row) for row in zip(decided, faces, requests, strict=True)]
        decided_at = time.perf_counter()
        answers = self._sentences(requests, pictures, decided)
        self.seconds["fields"] += decided_at - began
        self.seconds["sentences"] += time.perf_counter() - decided_at
        return answers

    @torch.inference_mode()
    def read(self, requests: Sequence[Request], mirror: bool = True) -> list[Answer]:
        """Read the fields of all requests, without sentences, and without the mirror image where that is not wanted."""
        pictures, mirrored = self._pictures(requests)
        return self._fields(requests, pictures, mirrored if mirror else {})

    def _pictures(self, requests: Sequence[Request]) -> tuple[dict[bytes, Any], dict[bytes, Any]]:
        """The encoded face of each crop, and of its mirror image if the grammar asks for it."""
        faces = {request.crop.tobytes(): request.crop for request in requests}
        pictures = dict(zip(faces, self._encode(list(faces.values())), strict=True))
        mirrored = dict(zip(faces, self._encode([face[:, ::-1] for face in faces.values()]), strict=True)) if self.grammar.mirror else {}
        return pictures, mirrored

    def _encode(self, faces: Sequence[np.ndarray]) -> list[Any]:
        """The vision tower's tokens of each face if `batched`, otherwise the resized pictures."""
        side = self.grammar.face_size
        pictures = [face if len(face) == side else cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC) for face in faces]
        if not self.batched:
            return pictures
        return list(
            self.network.get_image_features(**self.processor(images=pictures, return_tensors="pt").to(self.network.device)).pooler_output
        )

    def _inputs(self, asked: Sequence[tuple[Any, str]]) -> dict[str, Any]:
        """A left-padded batch of (result of `_encode`, text that follows the picture)."""
        pictures = [picture for picture, _ in asked]
        inputs: dict[str, Any] = (
            {"image_grid_thw": self.grid.repeat(len(pictures), 1)}
            if self.batched
            else dict(self.processor(images=pictures, return_tensors="pt"))
        )
        prefix = (
            USER_START + IMAGE_TOKEN * int(self.grid.prod() // self.processor.merge_size**2) + USER_IMAGE_END + self.grammar.instruction
        )
        inputs |= self.tokenizer([prefix + text for _, text in asked], add_special_tokens=False, padding=True, return_tensors="pt")
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == self.image_token).int()
        inputs = {name: tensor.to(self.network.device) for name, tensor in inputs.items()}
        return inputs | ({"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=pictures)}} if self.batched else {})

    def _box(self, box: Box) -> str:
        return region_text(scaled(box, self.grammar.face_size / CROP_SIZE))

    def _fields(self, requests: Sequence[Request], pictures: dict[bytes, Any], mirrored: dict[bytes, Any]) -> list[Answer]:
        """Fields without sentences: the mean over a face and, if the grammar asks for it, its mirror image."""
        slots = dict(zip([*self.grammar.aus, "emotion", "age"], self.grammar.slots(), strict=True))
        rows: list[tuple[int, str]] = []
        asked: list[tuple[Any, str]] = []
        for i, request in enumerate(requests):
            (x0, y0, x1, y1), width, key = request.box, request.crop.shape[1], request.crop.tobytes()
            can_show = region_aus(request.region, request.box)
            views = [(pictures[key], request.box, False)]
            views += [(mirrored[key], (width - x1, y0, width - x0, y1), True)] if mirrored else []
            for picture, box, flipped in views:
                for name, (question, _) in slots.items():
                    if name in can_show or name in ("emotion", "age"):
                        rows.append((i, mirrored_au(name) if flipped and name in UNIT else name))
                        asked.append((picture, self._box(box) + question))
        scores: list[dict[str, list[np.ndarray]]] = [{} for _ in requests]
        step = QUESTION_BATCH if self.batched else 1
        for start in range(0, len(rows), step):
            logits = self.network(**self._inputs(asked[start : start + step]), logits_to_keep=1).logits[:, -1].float().cpu()
            for (i, name), row in zip(rows[start : start + step], logits, strict=True):
                choices = [ids[0] for ids in self.words[slots[name][1]]]
                scores[i].setdefault(name, []).append(row[choices].softmax(-1).double().numpy())
        means = [{name: np.mean(views, 0) for name, views in fields.items()} for fields in scores]
        thresholds = {au: self.grammar.threshold(au) for au in self.grammar.aus}
        answers = []
        for mean, request in zip(means, requests, strict=True):
            units = [au for au in self.grammar.aus if au in mean]
            au_scores, intensities = unit_readings(units, [mean[au] for au in units])
            read = Fields(au_scores, mean["emotion"], mean["age"], au_intensities=intensities)
            answers.append(decide(read, request, thresholds, self.grammar.age_temperature))
        return answers

    def _sentences(self, requests: Sequence[Request], pictures: dict[bytes, Any], decided: Sequence[Answer]) -> list[Answer]:
        """Greedy sentences for decided fields; the names of other emotions and ages cannot be generated."""
        fields = [fields_text(answer.aus, answer.emotion, round(answer.age), answer.au_intensities) for answer in decided]
        inputs = self._inputs([(pictures[r.crop.tobytes()], self._box(r.box) + text) for r, text in zip(requests, fields, strict=True)])
        banned = torch.zeros(len(decided), self.network.lm_head.weight.shape[0])
        for row, answer in zip(banned, decided, strict=True):
            own = {answer.emotion, str(round(answer.age))}
            row[[token for name, tokens in self.names.items() if name not in own for token in tokens]] = -torch.inf
        banned = banned.to(self.network.device)

        def ban(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return scores + banned

        settings = {"max_new_tokens": SENTENCE_TOKENS, "do_sample": False, "logits_processor": LogitsProcessorList([ban])}
        texts = self.tokenizer.batch_decode(
            self.network.generate(**inputs, **settings)[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        rows = zip(decided, texts, requests, strict=True)
        return [replace(answer, description=checked(text.strip(), answer, one, self.grammar.aus)) for answer, text, one in rows]
