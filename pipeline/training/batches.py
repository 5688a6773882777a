"""Training batches: which face comes when, how it is changed, which of its boxes are asked about, and which answers are practised.

Sample i is the same in every run with the same seed, and a batch depends only on the numbers of its samples. A resumed training
therefore sees the batches that an uninterrupted one sees.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pipeline.describe.grammar import ANSWER_END, fields_text
from pipeline.describe.sentences import compose, mirrored_text
from pipeline.faces.alignment import CROP_SIZE
from pipeline.training.augmentation import augmented_crops
from pipeline.training.conversation_trees import ConversationLayout, Turn
from pipeline.training.dense_supervision import emotion_targets, emotion_weights
from pipeline.training.labelled_faces import MIRRORED_COLUMNS, UNKNOWN, LabelledFaces, mirror_names
from pipeline.training.stage_settings import FocalStage, Stage
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS, UNIT, Box, mirrored_au, region_aus

Sample = tuple[int, int]
"""(number of the sample, index of its face)."""

RANDOM_AU_RATE = 0.25
"""Probability of each AU in an answer about random fields."""


class SampleOrder(Dataset[Sample]):
    """The samples of a stage: all faces in a random order, then all faces in another one, and so on.

    Args:
        faces: number of faces.
        samples: number of samples.
        seed: seed of the orders.

    >>> sorted(face for _, face in (SampleOrder(3, 3, seed=0)[i] for i in range(3)))
    [0, 1, 2]
    """

    def __init__(self, faces: int, samples: int, seed: int) -> None:
        rounds = -(-samples // faces)
        orders = [np.random.default_rng((seed, number)).permutation(faces) for number in range(rounds)]
        self._faces = np.concatenate(orders)[:samples]

    def __len__(self) -> int:
        return len(self._faces)

    def __getitem__(self, number: int) -> Sample:
        return number, int(self._faces[number])


class DenseCollator:
    """Builds batches for dense supervision: changed crops and their labels.

    Args:
        faces: the faces that samples refer to.
        stage: how faces are changed and weighted.
    """

    def __init__(self, faces: LabelledFaces, stage: Stage) -> None:
        self._faces, self._stage = faces, stage
        self._mirrored = mirror_names(faces.blendshape_names)
        self._weights = emotion_weights(faces, stage.rare_emotion_power)

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """`crops` (B, 3, 112, 112) float32 and `labels`, the fields of `pipeline.training.dense_supervision.Labels`."""
        return self.with_flips(samples)[0]

    def with_flips(self, samples: Sequence[Sample]) -> tuple[dict[str, Any], torch.Tensor]:
        """The batch, and (B,) bool: the faces that are mirrored in it."""
        rows = np.array([row for _, row in samples])
        generator = torch.Generator().manual_seed(self._stage.sampling_seed * 1_000_003 + samples[0][0])
        flip = torch.rand(len(rows), generator=generator) < 0.5
        crops = augmented_crops(torch.from_numpy(self._faces.pixels[rows]), generator, flip, self._stage.low_resolution)
        return {"crops": crops, "labels": self._labels(rows, flip)}, flip

    def _labels(self, rows: np.ndarray, flip: torch.Tensor) -> dict[str, torch.Tensor]:
        """Labels of these faces, mirrored where the crops are."""
        faces = self._faces

        def sided(values: np.ndarray, mirrored: list[int]) -> torch.Tensor:
            taken = torch.from_numpy(values[rows])
            return torch.where(flip[:, None], taken[:, mirrored], taken)

        emotion, votes = torch.from_numpy(faces.emotion[rows]), torch.from_numpy(faces.votes[rows])
        return {
            "emotion": emotion_targets(emotion, votes, self._stage.label_smoothing),
            "emotion_weight": torch.from_numpy(self._weights[rows]),
            "age": torch.from_numpy(faces.age[rows]),
            "age_guess": torch.from_numpy(faces.age_guess[rows]),
            "au_probability": sided(faces.au_probability, MIRRORED_COLUMNS),
            "au_intensity": sided(faces.au_intensity, MIRRORED_COLUMNS),
            "blendshapes": sided(faces.blendshapes, self._mirrored),
        }


@dataclass(frozen=True)
class Practised:
    """Fields of a face that answers are practised with.

    Attributes:
        active: (A,) bool, active AUs of `AUS_LABELLED`.
        intensities: 0 to 5 by AU; empty for a model without intensities.
        emotion: one of `EMOTIONS`.
        age: in whole years.
    """

    active: np.ndarray
    intensities: dict[str, float]
    emotion: str
    age: int


class FocalCollator:
    """Builds batches for a focal stage: a dense batch, and token trees of questions about some boxes of each face.

    Args:
        faces: the faces that samples refer to.
        stage: which boxes, how many, and how often with sentences.
        layout: builds the trees.
    """

    def __init__(self, faces: LabelledFaces, stage: FocalStage, layout: ConversationLayout) -> None:
        self._dense = DenseCollator(faces, stage)
        self._faces, self._stage, self._layout = faces, stage, layout
        self._emotion = faces.majority
        self._kinds, self._shares = zip(*stage.boxes.items(), strict=True)

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """A dense batch with `questions`, or None there in steps without questions.

        `questions` holds the fields of `ConversationBatch`, `visible` (T, A) bool, the AUs that each turn's box can show, and
        `first_turns` (T,) bool, the turns that see no earlier answer.
        """
        batch, flip = self._dense.with_flips(samples)
        rng = random.Random(self._stage.sampling_seed * 1_000_003 + samples[0][0])
        if rng.random() >= self._stage.question_share:
            return {**batch, "questions": None}
        with_sentences = rng.random() < self._stage.sentence_share
        in_turn = rng.random() < self._stage.dialogue_share  # of all faces at once: shorter conversations would be padded to these
        chosen = [self._choose_boxes(row, rng, in_turn) for _, row in samples]
        conversations = [
            self._turns(row, boxes, dialogue, mirror, with_sentences, rng)
            for (_, row), (boxes, dialogue), mirror in zip(samples, chosen, flip.tolist(), strict=True)
        ]
        visible = np.concatenate([self._faces.visible[boxes] for boxes, _ in chosen])
        first_turns = torch.tensor([not turn.sees_previous for turns in conversations for turn in turns])
        trees = vars(self._layout.build(conversations))
        return {**batch, "questions": {**trees, "visible": torch.from_numpy(visible), "first_turns": first_turns}}

    def _choose_boxes(self, row: int, rng: random.Random, in_turn: bool) -> tuple[list[int], bool]:
        """(boxes of a face, whether they form a dialogue)."""
        dialogues = self._faces.dialogues[row]
        if dialogues and in_turn:
            return [int(self._faces.first_box[row]) + place for place in rng.choice(dialogues)[: self._stage.max_turns]], True
        boxes = []
        for kind in rng.choices(self._kinds, self._shares, k=self._stage.boxes_per_face):
            own = self._faces.boxes_of(row, [kind])
            boxes.append(int(rng.choice(own if len(own) else self._faces.boxes_of(row))))
        return boxes, False

    def _turns(self, row: int, boxes: Sequence[int], dialogue: bool, mirror: bool, with_sentences: bool, rng: random.Random) -> list[Turn]:
        """The conversation about one face. All turns of a dialogue have answers; otherwise only the first turn may have one."""
        fields = self._practised(row, rng)
        turns = []
        for number, box in enumerate(boxes):
            has_answer = dialogue or (with_sentences and number == 0)
            answer, target_count = self._answer(box, fields, mirror, rng) if has_answer else ((), 0)
            turns.append(Turn(mirrored_box(self._faces.box[box], mirror), answer, target_count, dialogue and number > 0))
        return turns

    def _practised(self, row: int, rng: random.Random) -> Practised:
        """Fields to write a sentence about. A sentence follows from its fields, so random fields are valid practice; they also stand in
        for labels that the face lacks."""
        faces, labelled = self._faces, rng.random() >= self._stage.random_field_share
        known = faces.aus_known[row] & labelled
        active = np.where(known, faces.aus[row], np.array([rng.random() < RANDOM_AU_RATE for _ in AUS_LABELLED]))
        intensity = np.array([rng.uniform(0, 5) if UNIT[au].graded else np.nan for au in AUS_LABELLED])
        given = faces.au_intensity[row]
        intensity = np.where(known & ~np.isnan(given), given, intensity)
        emotion = self._emotion[row] if labelled else UNKNOWN
        ages = [age for age in (faces.age[row], faces.age_guess[row]) if labelled and not np.isnan(age)]
        return Practised(
            active=active,
            intensities={
                au: float(value) for au, value in zip(AUS_LABELLED, intensity, strict=True) if self._layout.graded and value == value
            },
            emotion=rng.choice(EMOTIONS) if emotion == UNKNOWN else EMOTIONS[emotion],
            age=round(float(ages[0])) if ages else rng.randint(0, 100),
        )

    def _answer(self, box: int, fields: Practised, mirror: bool, rng: random.Random) -> tuple[tuple[int, ...], int]:
        """(token ids of fields and sentence, number of tokens in the sentence). The sentence says every field. A sentence about a region
        says first which action units the region shows, or that it shows none."""
        region = str(self._faces.region[box])
        shown = set(region_aus(region, self._faces.box[box].tolist())) & set(AUS_LABELLED)
        units = [au for au, on in zip(AUS_LABELLED, fields.active, strict=True) if on and au in shown]
        sentence = compose(units, fields.emotion, fields.age, rng, region=region, empty=not shown, intensities=fields.intensities)
        if mirror:
            sentence, units = mirrored_text(sentence), [mirrored_au(au) for au in units]
        opening = self._layout.ids(fields_text(units, fields.emotion, fields.age, fields.intensities))
        written = self._layout.ids(sentence + ANSWER_END)
        return (*opening, *written), len(written)


def mirrored_box(box: np.ndarray, mirror: bool) -> Box:
    """A box of the aligned crop, mirrored left to right if `mirror` is true.

    >>> mirrored_box(np.array([10.0, 5.0, 30.0, 20.0]), True)
    (82.0, 5.0, 102.0, 20.0)
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    return (CROP_SIZE - x1, y0, CROP_SIZE - x0, y1) if mirror else (x0, y0, x1, y1)


def first_box_questions(
    faces: LabelledFaces, rows: np.ndarray, kinds: Sequence[str], layout: ConversationLayout
) -> tuple[dict[str, Any], np.ndarray]:
    """Questions about the first box of each of these kinds of each face, without sentences.

    Returns:
        (`questions` as in `FocalCollator`, (T,) indices of the boxes, ordered by face).
    """
    boxes = np.array([faces.boxes_of(int(row), [kind])[0] for row in rows for kind in kinds])
    conversations = [[Turn(mirrored_box(faces.box[box], False)) for box in own] for own in boxes.reshape(len(rows), -1)]
    trees: Mapping[str, Any] = vars(layout.build(conversations))
    first_turns = torch.ones(len(boxes), dtype=torch.bool)
    return {**trees, "visible": torch.from_numpy(faces.visible[boxes]), "first_turns": first_turns}, boxes
