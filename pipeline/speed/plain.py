"""The other side's describer: a Qwen2.5-VL asked through transformers alone, question by question or in padded batches."""

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
from pipeline.describe.decisions import checked
from pipeline.describe.grammar import (
    AGE_CHOICES,
    EMOTION_CHOICES,
    IMAGE_TOKEN,
    USER_IMAGE_END,
    USER_START,
    YES_NO,
    Grammar,
    fields_text,
    region_text,
    scaled,
)
from pipeline.errors import ModelError
from pipeline.faces.alignment import CROP_SIZE
from pipeline.records import Answer, Request
from pipeline.vocabulary import EMOTION_WORDS, EMOTIONS, Box, region_aus

SENTENCE_TOKENS = 96
"""The length at which both sides cut a sentence."""

ROWS_TOGETHER = 32
"""Rows of a padded batch of field questions: of 8, 16, 32, 64, 128 and all at once the fastest for nano on a CPU core, by a little."""


def load_plain(model: str) -> Plain:
    """Open a checkpoint as transformers does.

    Raises:
        ModelError: when there is no such checkpoint, or its answers are no single tokens.
    """
    logging.disable_progress_bar()
    folder = locate(model)
    network = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return Plain(network, tokenizer, Grammar.load(folder), AutoImageProcessor.from_pretrained(folder))


class Plain:
    """A Qwen2.5-VL and how it is asked.

    Attributes:
        thrifty: whether each picture is seen once and questions go in padded batches; if not, every question goes alone, with its picture.
        seconds: spent so far on fields and on sentences.
    """

    def __init__(self, network: Any, tokenizer: Any, grammar: Grammar, pictures: Any) -> None:
        self.network, self.tokenizer, self.grammar, self.pictures = network, tokenizer, grammar, pictures
        self.thrifty, self.seconds = False, {"fields": 0.0, "sentences": 0.0}
        side = grammar.face_size
        self.grid = pictures(images=[np.zeros((side, side, 3), np.uint8)], return_tensors="pt")["image_grid_thw"]
        self.image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.words = {choices: [self.tokens(choice) for choice in choices] for choices in (YES_NO, EMOTION_CHOICES, AGE_CHOICES)}
        if any(len(ids) > 1 for choices in self.words.values() for ids in choices):
            raise ModelError("bench asks checkpoints that answer in single tokens, as nano does; this one spells numbers or names out")
        names = {name: [f" {word}" for word in known] for name, known in EMOTION_WORDS.items()}
        names |= {age.strip(): [age] for age in AGE_CHOICES}
        self.names = {name: [ids[0] for ids in map(self.tokens, known) if len(ids) == 1] for name, known in names.items()}

    def tokens(self, word: str) -> list[int]:
        """The tokens of a word."""
        return list(self.tokenizer.encode(word, add_special_tokens=False))

    @torch.inference_mode()
    def describe(self, requests: Sequence[Request]) -> list[Answer]:
        """Every request's fields, from the probabilities of the choices, then all sentences; what a box cannot show is not asked."""
        began = time.perf_counter()
        faces = {request.crop.tobytes(): request.crop for request in requests}
        seen = dict(zip(faces, self._see(list(faces.values())), strict=True))
        turned = dict(zip(faces, self._see([face[:, ::-1] for face in faces.values()]), strict=True)) if self.grammar.mirror else {}
        decided = self._fields(requests, seen, turned)
        halfway = time.perf_counter()
        written = self._sentences(requests, seen, decided)
        self.seconds["fields"] += halfway - began
        self.seconds["sentences"] += time.perf_counter() - halfway
        return written

    def _see(self, faces: Sequence[np.ndarray]) -> list[Any]:
        """What stands for each face in a question: the vision tower's tokens, or the picture where it is not thrifty."""
        side = self.grammar.face_size
        pictures = [face if len(face) == side else cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC) for face in faces]
        if not self.thrifty:
            return pictures
        return list(
            self.network.get_image_features(**self.pictures(images=pictures, return_tensors="pt").to(self.network.device)).pooler_output
        )

    def _inputs(self, asked: Sequence[tuple[Any, str]]) -> dict[str, Any]:
        """(what `_see` gave, what follows it) to a left-padded batch."""
        seen = [picture for picture, _ in asked]
        inputs = (
            {"image_grid_thw": self.grid.repeat(len(seen), 1)} if self.thrifty else dict(self.pictures(images=seen, return_tensors="pt"))
        )
        trunk = USER_START + IMAGE_TOKEN * int(self.grid.prod() // self.pictures.merge_size**2) + USER_IMAGE_END + self.grammar.instruction
        inputs |= self.tokenizer([trunk + text for _, text in asked], add_special_tokens=False, padding=True, return_tensors="pt")
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == self.image_token).int()
        inputs = {name: tensor.to(self.network.device) for name, tensor in inputs.items()}
        return inputs | ({"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=seen)}} if self.thrifty else {})

    def _box(self, box: Box) -> str:
        return region_text(scaled(box, self.grammar.face_size / CROP_SIZE))

    def _fields(self, requests: Sequence[Request], seen: dict[bytes, Any], turned: dict[bytes, Any]) -> list[Answer]:
        """Fields without sentences: the mean over a face and its mirror image."""
        slots = dict(zip([*self.grammar.aus, "emotion", "age"], self.grammar.slots(), strict=True))
        rows: list[tuple[int, str]] = []
        asked: list[tuple[Any, str]] = []
        for i, request in enumerate(requests):
            (x0, y0, x1, y1), width, key = request.box, request.crop.shape[1], request.crop.tobytes()
            can_show = region_aus(request.region, request.box)
            views = [(seen[key], request.box)] + ([(turned[key], (width - x1, y0, width - x0, y1))] if turned else [])
            for picture, box in views:
                for name, (question, _) in slots.items():
                    if name in can_show or name in ("emotion", "age"):
                        rows.append((i, name))
                        asked.append((picture, self._box(box) + question))
        read: list[dict[str, list[np.ndarray]]] = [{} for _ in requests]
        step = ROWS_TOGETHER if self.thrifty else 1
        for start in range(0, len(rows), step):
            logits = self.network(**self._inputs(asked[start : start + step]), logits_to_keep=1).logits[:, -1].float().cpu()
            for (i, name), row in zip(rows[start : start + step], logits, strict=True):
                choices = [ids[0] for ids in self.words[slots[name][1]]]
                read[i].setdefault(name, []).append(row[choices].softmax(-1).double().numpy())
        return [self._decided({name: np.mean(views, 0) for name, views in fields.items()}) for fields in read]

    def _decided(self, read: dict[str, np.ndarray]) -> Answer:
        units = {au: float(read[au][0]) for au in self.grammar.aus if au in read}
        emotion, years = read["emotion"], read["age"].cumsum() / read["age"].sum()
        low, age, high = (float(np.searchsorted(years, share)) for share in (0.1, 0.5, 0.9))
        return Answer(
            au_scores=units,
            aus=tuple(au for au, score in units.items() if score >= self.grammar.threshold(au)),
            emotion_scores=dict(zip(EMOTIONS, (emotion / emotion.sum()).tolist(), strict=True)),
            emotion=EMOTIONS[int(emotion.argmax())],
            age=age,
            age_low=low,
            age_high=high,
            description="",
        )

    def _sentences(self, requests: Sequence[Request], seen: dict[bytes, Any], decided: Sequence[Answer]) -> list[Answer]:
        """Greedy sentences for decided fields; the names of other emotions and ages are barred."""
        fields = [fields_text(answer.aus, answer.emotion, round(answer.age)) for answer in decided]
        inputs = self._inputs([(seen[r.crop.tobytes()], self._box(r.box) + text) for r, text in zip(requests, fields, strict=True)])
        barred = torch.zeros(len(decided), self.network.lm_head.weight.shape[0])
        for row, answer in zip(barred, decided, strict=True):
            own = {answer.emotion, str(round(answer.age))}
            row[[token for name, tokens in self.names.items() if name not in own for token in tokens]] = -torch.inf
        barred = barred.to(self.network.device)

        def bar(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return scores + barred

        settings = {"max_new_tokens": SENTENCE_TOKENS, "do_sample": False, "logits_processor": LogitsProcessorList([bar])}
        texts = self.tokenizer.batch_decode(
            self.network.generate(**inputs, **settings)[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return [replace(answer, description=checked(text.strip(), answer)) for answer, text in zip(decided, texts, strict=True)]
