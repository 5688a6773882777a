"""What a training sees, sample by sample: which face, how it is changed, which of its boxes are asked about, what should be said.

Sample i is the same in every run with the same seed, and a batch follows from its samples' numbers alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pipeline.dataset.boxes import KINDS
from pipeline.describe.grammar import ANSWER_END, fields_text
from pipeline.describe.sentences import compose
from pipeline.faces.alignment import CROP_SIZE
from pipeline.training.augment import to_crops
from pipeline.training.conversation import Layout, Turn
from pipeline.training.dense import emotion_targets, emotion_weights
from pipeline.training.faces import UNKNOWN, Faces, mirror_names
from pipeline.training.stages import FocalStage, Training
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS, Box


class Draws(Dataset[tuple[int, int]]):
    """(number, face) of each sample: all faces in a new order, again and again.

    Args:
        faces: how many there are.
        samples: how many to draw.
        seed: of the orders.
    """

    def __init__(self, faces: int, samples: int, seed: int) -> None:
        rounds = -(-samples // faces)
        orders = [np.random.default_rng((seed, number)).permutation(faces) for number in range(rounds)]
        self._rows = np.concatenate(orders)[:samples]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> tuple[int, int]:
        return number, int(self._rows[number])


class DenseCollator:
    """Batches for dense learning: changed crops and what is known of their faces.

    Args:
        faces: to draw from.
        training: how they are changed, and what counts how much.
    """

    def __init__(self, faces: Faces, training: Training) -> None:
        self.faces, self._training = faces, training
        self._mirrored = mirror_names(faces.blendshape_names)
        self._weights = emotion_weights(faces, training.rare)

    def __call__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """`crops` (B, 112, 112) float32, `known` with the fields of `Labels`, `mirrored` (B,) bool."""
        rows = np.array([row for _, row in samples])
        generator = torch.Generator().manual_seed(self._training.draws * 1_000_003 + samples[0][0])
        flip = torch.rand(len(rows), generator=generator) < 0.5
        crops = to_crops(torch.from_numpy(self.faces.pixels[rows]), generator, flip, self._training.coarse)
        return {"crops": crops, "known": self._known(rows, flip), "mirrored": flip}

    def _known(self, rows: np.ndarray, flip: torch.Tensor) -> dict[str, torch.Tensor]:
        """The fields of `pipeline.training.dense.Labels` for these faces, mirrored where their pictures are."""
        faces, shapes = self.faces, torch.from_numpy(self.faces.blendshapes[rows])
        return {
            "emotion": emotion_targets(torch.from_numpy(faces.emotion[rows]), self._training.smoothing),
            "emotion_weight": torch.from_numpy(self._weights[rows]),
            "age": torch.from_numpy(faces.age[rows]),
            "aus": torch.from_numpy(faces.aus[rows]).float(),
            "aus_known": torch.from_numpy(faces.aus_known[rows]).float(),
            "blendshapes": torch.where(flip[:, None], shapes[:, self._mirrored], shapes),
        }


class FocalCollator:
    """Batches for a focal stage: a dense batch, and token trees over some boxes of each face.

    Args:
        faces: to draw from.
        stage: which boxes, how many, how often with words.
        layout: lays the trees out.
    """

    def __init__(self, faces: Faces, stage: FocalStage, layout: Layout) -> None:
        self._dense = DenseCollator(faces, stage)
        self._faces, self._stage, self._layout = faces, stage, layout
        self._kinds, self._shares = zip(*stage.boxes.items(), strict=True)

    def __call__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """A dense batch with `asked`: the fields of `Laid`, `visible` (T, 16) bool, `opens` (T,) bool; None in steps without questions."""
        batch = self._dense(samples)
        chance = random.Random(self._stage.draws * 1_000_003 + samples[0][0])
        flip = batch.pop("mirrored").tolist()
        if chance.random() >= self._stage.asked:
            return {**batch, "asked": None}
        writes = chance.random() < self._stage.write
        chosen = [self._choose(row, chance) for _, row in samples]
        turns = [
            self._turns(row, boxes, follows, mirror, writes, chance)
            for (_, row), (boxes, follows), mirror in zip(samples, chosen, flip, strict=True)
        ]
        visible = np.concatenate([self._faces.visible[boxes] for boxes, _ in chosen])
        opens = torch.tensor([not turn.follows for conversation in turns for turn in conversation])
        laid = vars(self._layout.lay(turns))
        return {**batch, "asked": {**laid, "visible": torch.from_numpy(visible), "opens": opens}}

    def _choose(self, row: int, chance: random.Random) -> tuple[list[int], bool]:
        """(boxes of a face, whether they are asked in turn)."""
        dialogues = self._faces.dialogues[row]
        if dialogues and chance.random() < self._stage.dialogue:
            return [int(self._faces.first[row]) + place for place in chance.choice(dialogues)[: self._stage.turns]], True
        boxes = []
        for kind in chance.choices(self._kinds, self._shares, k=self._stage.boxes_per_face):
            own = self._faces.boxes_of(row, [kind])
            boxes.append(int(chance.choice(own if len(own) else self._faces.boxes_of(row))))
        return boxes, False

    def _turns(self, row: int, boxes: Sequence[int], follows: bool, mirror: bool, writes: bool, chance: random.Random) -> list[Turn]:
        said = self._said(row, chance)
        turns = []
        for number, box in enumerate(boxes):
            answer, written = self._answer(row, box, said, chance) if follows or (writes and number == 0) else ((), 0)
            turns.append(Turn(mirrored_box(self._faces.box[box], mirror), answer, written, follows and number > 0))
        return turns

    def _said(self, row: int, chance: random.Random) -> tuple[str, float, bool]:
        """(emotion, age, whether they are the labels'); others are drawn: a sentence follows from its fields, so any do for practice."""
        labelled = self._faces.emotion[row] != UNKNOWN and not np.isnan(self._faces.age[row])
        if labelled and chance.random() >= self._stage.practice:
            return EMOTIONS[self._faces.emotion[row]], float(self._faces.age[row]), True
        return chance.choice(EMOTIONS), float(chance.randint(0, 100)), False

    def _answer(self, row: int, box: int, said: tuple[str, float, bool], chance: random.Random) -> tuple[tuple[int, ...], int]:
        """(tokens of fields and sentence, how many of them the model writes)."""
        emotion, age, labelled = said
        visible = self._faces.visible[box]
        if labelled:
            active = visible & self._faces.aus[row]
            sentence = self._faces.description[box].as_py()
        else:
            active = visible & np.array([chance.random() < 0.25 for _ in AUS_LABELLED])
        units = [au for au, on in zip(AUS_LABELLED, active, strict=True) if on]
        if not labelled:
            empty = KINDS[self._faces.kind[box]] == "empty"
            sentence = compose(units if visible.any() or empty else None, emotion, round(age), chance, empty=empty)
        fields = self._layout.ids(fields_text(units, emotion, round(age)))
        words = self._layout.ids(sentence + ANSWER_END)
        return (*fields, *words), len(words)


def mirrored_box(box: np.ndarray, mirror: bool) -> Box:
    """A box of the crop, or of the crop mirrored left to right."""
    x0, y0, x1, y1 = (float(value) for value in box)
    return (CROP_SIZE - x1, y0, CROP_SIZE - x0, y1) if mirror else (x0, y0, x1, y1)


def plain_questions(faces: Faces, rows: np.ndarray, kinds: Sequence[str], layout: Layout) -> tuple[dict[str, Any], np.ndarray]:
    """The first box of each of these kinds of each face, asked without words.

    Returns:
        (`asked` as of `FocalCollator`, (T,) indexes of the boxes, face by face).
    """
    boxes = np.array([faces.boxes_of(int(row), [kind])[0] for row in rows for kind in kinds])
    turns = [[Turn(mirrored_box(faces.box[box], False)) for box in own] for own in boxes.reshape(len(rows), -1)]
    asked: Mapping[str, Any] = vars(layout.lay(turns))
    return {**asked, "visible": torch.from_numpy(faces.visible[boxes]), "opens": torch.ones(len(boxes), dtype=torch.bool)}, boxes
