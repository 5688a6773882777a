"""Teaching nano to answer: the pretrained tower and a new language model, trained together on boxes of labelled faces.

Every face of a batch is one token tree (`pipeline.grammar`): its picture once, then two boxes - the whole face, and a named region
placed with some error or a rectangle of any shape - each with all its slots, and in every third step an answer to write after one of
them. The loss reads the slots' probabilities against the labels and the answer's words against a composed sentence.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from pipeline.align import CROP_SIZE
from pipeline.grammar import ANSWER_END, IMAGE_TOKEN, USER_IMAGE_END, USER_START, fields_text, region_text
from pipeline.preprocess import grid_thw, patchify
from pipeline.training.augment import to_crops
from pipeline.training.faces import UNKNOWN, Faces, mirror_names
from pipeline.training.nano import GRAMMAR, build_model, build_tokenizer
from pipeline.training.pretrain import MEAN, STD, VISION, DenseTower, age_targets, emotion_weights, loss_of
from pipeline.training.state import TrainingState
from pipeline.tree import TokenTree
from pipeline.vision import speed_up
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS, JOINED_REGIONS, REGION_AUS, SINGLE_REGIONS, WHOLE_FACE, Box, visible_aus
from pipeline.wording import compose

BOXES = 2
"""Boxes asked of each face in a step: the whole face and one other."""

WRITE_EVERY = 3
"""Every so many steps sentences are written too; they are easy to learn (they follow from the fields) and cost as much as a box."""

LOSSES = ("au", "emotion", "age", "sentence", "dense")
"""The parts of the loss, in their order."""

_MIRROR = {name: name.replace("left", "right") if "left" in name else name.replace("right", "left") for name in SINGLE_REGIONS}


@dataclass(frozen=True)
class Example:
    """One box of one face: what to ask and what its answer should be.

    Attributes:
        box: aligned-crop pixels.
        visible: (16,) bool, the labelled units that the box can show.
    """

    box: Box
    visible: np.ndarray


def draw_boxes(named: dict[str, np.ndarray], chance: random.Random) -> list[Example]:
    """Boxes for one face: the whole face, then a named region or a rectangle of any shape; all placed with some error.

    Args:
        named: tight box of each single region, aligned-crop pixels.
    """
    codes = np.array(AUS_LABELLED)

    def example(box: np.ndarray, units: tuple[str, ...] | None = None) -> Example:
        x0, y0, x1, y1 = (float(v) for v in np.clip(box, 0, CROP_SIZE))
        clipped = (x0, y0, x1, y1)
        return Example(clipped, np.isin(codes, visible_aus(clipped) if units is None else units))

    def jitter(box: np.ndarray, pad: float) -> np.ndarray:
        side = max(box[2] - box[0], box[3] - box[1])
        return box + np.array([-pad, -pad, pad, pad]) * side + np.array([chance.gauss(0, 0.04) * side for _ in range(4)])

    every = np.stack([named[name] for name in SINGLE_REGIONS])
    extent = np.array([*every[:, :2].min(0), *every[:, 2:].max(0)])
    boxes = [example(jitter(extent, chance.uniform(-0.02, 0.1)), REGION_AUS[WHOLE_FACE])]
    if chance.random() < 0.7:
        name = chance.choice([*SINGLE_REGIONS, *JOINED_REGIONS, "mouth", "eyes", "brows"])
        parts = np.stack([named[part] for part in JOINED_REGIONS.get(name, (name,))])
        union = np.array([*parts[:, :2].min(0), *parts[:, 2:].max(0)])
        boxes.append(example(jitter(union, chance.uniform(0.05, 0.25)), REGION_AUS[name]))
    else:
        width, height = (CROP_SIZE * chance.uniform(0.12, 0.95) for _ in range(2))
        left, top = chance.uniform(0, CROP_SIZE - width), chance.uniform(0, CROP_SIZE - height)
        boxes.append(example(np.array([left, top, left + width, top + height])))
    return boxes


class Trunk:
    """The tree that every face of a step shares in shape: picture, boxes, slots, and room for one answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model: Qwen2_5_VLForConditionalGeneration) -> None:
        def ids(text: str) -> list[int]:
            return tokenizer.encode(text, add_special_tokens=False)

        self.ids = ids
        tokens = (CROP_SIZE // VISION["patch_size"] // 2) ** 2
        head, tail = ids(USER_START), ids(USER_IMAGE_END)
        trunk = [*head, *ids(IMAGE_TOKEN) * tokens, *tail]
        tree = TokenTree()
        root = tree.add(trunk)
        self.image = slice(len(head), len(head) + tokens)
        self.box_spans, self.looks = [], []
        for _ in range(BOXES):
            region = tree.add(ids(region_text((1, 2, 3, 4))), root)
            self.box_spans.append(tree.span(region))
            self.looks.append([tree.span(tree.add(ids(question), region))[1] - 1 for question, _ in GRAMMAR.slots()])
            if len(self.box_spans) == 1:
                self.first = region
        self.tree, self.mask = tree, tree.mask()
        self.end = tree.end(self.first)
        with torch.no_grad():
            sample = torch.tensor([trunk])
            positions, _ = model.model.get_rope_index(
                sample, image_grid_thw=grid_thw(1, CROP_SIZE, CROP_SIZE), mm_token_type_ids=(sample == ids(IMAGE_TOKEN)[0]).int()
            )
        shift = int(positions.max()) + 1 - len(trunk)
        text = torch.tensor(tree.positions) + shift
        self.positions = text.expand(3, -1).clone()
        self.positions[:, : len(trunk)] = positions[:, 0]
        self.shift = shift
        self.choices = [[ids(choice)[0] for choice in choices] for _, choices in GRAMMAR.slots()]

    def lay_out(self, boxes: list[list[Example]], answers: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, S) ids, (3, B, S) positions and (1, 1, S, S) bool mask of a step's trees; answers are padded at their end."""
        width = max(map(len, answers))
        fixed = torch.tensor(self.tree.ids).repeat(len(boxes), 1)
        for row, examples in enumerate(boxes):
            for (start, stop), example in zip(self.box_spans, examples, strict=True):
                fixed[row, start:stop] = torch.tensor(self.ids(region_text(example.box)))
        tail = torch.tensor([answer + [0] * (width - len(answer)) for answer in answers], dtype=torch.long)
        size = fixed.shape[1] + width
        mask = torch.zeros(size, size, dtype=torch.bool)
        mask[: fixed.shape[1], : fixed.shape[1]] = self.mask
        first_end = self.tree.span(self.first)[1]
        mask[fixed.shape[1] :, : fixed.shape[1]] = self.mask[first_end - 1]
        mask[fixed.shape[1] :, fixed.shape[1] :] = torch.ones(width, width).tril().bool()
        follow = (torch.arange(width) + self.end + self.shift).expand(3, -1)
        positions = torch.cat([self.positions, follow], 1).unsqueeze(1).expand(-1, len(boxes), -1)
        return torch.cat([fixed, tail], 1), positions, mask[None, None]


def tune(
    train: Faces,
    tower: Path,
    folder: Path,
    *,
    epochs: int = 3,
    batch: int = 64,
    learning_rate: float = 1e-3,
    tower_rate: float = 5e-4,
    seed: int = 0,
    say: Callable[[str], None] = print,
    after_epoch: Callable[[Qwen2_5_VLForConditionalGeneration, PreTrainedTokenizerFast, int], None] | None = None,
) -> tuple[Qwen2_5_VLForConditionalGeneration, PreTrainedTokenizerFast]:
    """Train nano from a pretrained tower; a second call goes on after the last finished epoch.

    Args:
        tower: `tower.safetensors` of `pipeline.training.pretrain`.
        folder: keeps the state of an unfinished training.
        learning_rate: of the language model; the tower has `tower_rate`.
        after_epoch: called with the averaged model, the tokenizer and the number of epochs done.

    Returns:
        The averaged model (still a grey one) and its tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = speed_up(build_model(tokenizer))
    dense = DenseTower(train.blendshapes.shape[1])
    dense.load_state_dict(load_file(tower))
    model.model.visual.load_state_dict(dense.tower.state_dict())
    dense.tower = model.model.visual  # one tower: the dense head goes on supervising it
    trunk = Trunk(tokenizer, model)
    both = nn.ModuleDict({"model": model, "dense": dense})
    seeing = [p for n, p in both.named_parameters() if "visual" in n or "dense" in n]
    writing = [p for n, p in both.named_parameters() if not ("visual" in n or "dense" in n)]
    groups = [
        {"params": writing, "lr": learning_rate, "weight_decay": 0.05},
        {"params": seeing, "lr": tower_rate, "weight_decay": 0.05},
    ]
    steps = len(train) // batch
    state = TrainingState(both, groups, folder / "state.pt", steps=steps * epochs, warm_up=0.06)
    averaged = state.average.module
    weight = emotion_weights(train)
    prevalence = torch.from_numpy(train.aus.mean(0)).float()
    mirrored = mirror_names(train.blendshape_names)
    for epoch in range(state.epoch, epochs):
        torch.manual_seed(seed * 1000 + epoch)  # of dropout: each epoch draws its own numbers, resumed or not
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        chance = random.Random(seed * 1000 + epoch)
        order = torch.randperm(len(train), generator=generator).numpy()
        both.train()
        started, total = time.time(), np.zeros(5)
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            flip = torch.rand(batch, generator=generator) < 0.5
            crops = to_crops(torch.from_numpy(train.pixels[rows]), generator, flip)
            boxes, answers = [], []
            for row, mirror in zip(rows, flip.tolist(), strict=True):
                boxes.append(draw_boxes(_named_boxes(train, row, mirror), chance))
                chance.shuffle(boxes[-1])
                answers.append(_answer(train, row, boxes[-1][0], chance, trunk) if step % WRITE_EVERY == 0 else ([], 0))
            ids, positions, mask = trunk.lay_out(boxes, [tokens for tokens, _ in answers])
            with torch.autocast("cpu", torch.bfloat16):
                patches = patchify(crops.unsqueeze(1).expand(-1, 3, -1, -1), mean=MEAN, std=STD)
                seen = model.model.visual(patches, grid_thw=grid_thw(batch, CROP_SIZE, CROP_SIZE)).pooler_output.view(
                    batch, -1, VISION["out_hidden_size"]
                )
                text = model.model.language_model
                embeds = text.embed_tokens(ids).clone()
                embeds[:, trunk.image] = seen.to(embeds.dtype)
                additive = torch.zeros(mask.shape, dtype=embeds.dtype).masked_fill_(~mask, torch.finfo(embeds.dtype).min)
                hidden = text(
                    inputs_embeds=embeds,
                    position_ids=positions,
                    attention_mask={"full_attention": additive.expand(batch, -1, -1, -1)},
                    use_cache=False,
                ).last_hidden_state
                head = dense.head(dense.drop(dense.norm(seen).flatten(1))).float().split(dense.sizes, -1)
            emotion, age = torch.from_numpy(train.emotion[rows]), torch.from_numpy(train.age[rows])
            aus = torch.from_numpy(train.aus[rows]).float()
            shapes = torch.from_numpy(train.blendshapes[rows])
            shapes = torch.where(flip[:, None], shapes[:, mirrored], shapes)
            visible = torch.from_numpy(np.array([[example.visible for example in row] for row in boxes]))
            losses = [
                *_slot_losses(hidden, model.lm_head.weight, trunk, emotion, aus, age, visible, weight, prevalence),
                _sentence_loss(hidden, model.lm_head, ids, answers, trunk) if answers[0][0] else torch.zeros(()),
                0.25 * loss_of(head, emotion, aus, age, shapes, weight),
            ]
            state.step(torch.stack(losses).sum())
            total += [float(part.detach()) for part in losses]
            if step % 50 == 49:
                speed = batch * (step + 1) / (time.time() - started)
                parts = " ".join(f"{name} {value:.4f}" for name, value in zip(LOSSES, total / (step + 1), strict=True))
                say(f"epoch {epoch + 1} step {step + 1}/{steps} {parts} {speed:.0f} faces/s")
        say(f"tuned {epoch + 1}/{epochs} epochs loss {total.sum() / steps:.4f}")
        state.save(epoch + 1)
        if after_epoch is not None:
            after_epoch(averaged["model"], tokenizer, epoch + 1)
    return averaged["model"], tokenizer


def _named_boxes(faces: Faces, row: int, mirror: bool) -> dict[str, np.ndarray]:
    """Tight boxes of the single regions of one face, mirrored where its picture is."""
    if not mirror:
        return {name: faces.boxes[name][row] for name in SINGLE_REGIONS}
    turned = {name: faces.boxes[name][row] * [-1, 1, -1, 1] + [CROP_SIZE, 0, CROP_SIZE, 0] for name in SINGLE_REGIONS}
    return {_MIRROR[name]: box[[2, 1, 0, 3]] for name, box in turned.items()}


def _answer(faces: Faces, row: int, example: Example, chance: random.Random, trunk: Trunk) -> tuple[list[int], int]:
    """(tokens of fields and sentence, where the sentence begins).

    The sentence follows from the fields alone, so half of the fields are drawn at random: rare ones get practice too.
    """
    codes = [au for au, can in zip(AUS_LABELLED, example.visible, strict=True) if can]
    emotion, age = EMOTIONS[faces.emotion[row]], faces.age[row]
    if faces.emotion[row] == UNKNOWN or chance.random() < 0.5:
        emotion = chance.choice(EMOTIONS)
    if np.isnan(age) or chance.random() < 0.5:
        age = chance.randint(0, 100)
    if chance.random() < 0.5:
        aus = [au for au in codes if chance.random() < 0.25]
    else:
        aus = [au for au, active in zip(AUS_LABELLED, faces.aus[row], strict=True) if active and au in codes]
    fields = trunk.ids(fields_text(aus, emotion, round(float(age))))
    sentence = trunk.ids(compose(aus, emotion, round(float(age)), chance) + ANSWER_END)
    return [*fields, *sentence], len(fields)


def _slot_losses(
    hidden: torch.Tensor,
    vocabulary: torch.Tensor,
    trunk: Trunk,
    emotion: torch.Tensor,
    aus: torch.Tensor,
    age: torch.Tensor,
    visible: torch.Tensor,
    weight: torch.Tensor,
    prevalence: torch.Tensor,
) -> list[torch.Tensor]:
    """Losses of action units, emotion and age over all boxes of the batch."""
    read = hidden[:, torch.tensor(trunk.looks)]  # [B, boxes, slots, D]
    yes, no = trunk.choices[0]
    margin = (read[:, :, : len(AUS_LABELLED)] @ (vocabulary[yes] - vocabulary[no])).float()  # [B, boxes, 16]
    positive = ((1 - prevalence) / prevalence).sqrt().clamp(1, 4)  # half way to balance: F1 rewards recall of rare units
    target = aus.unsqueeze(1).expand_as(margin)
    per_unit = F.binary_cross_entropy_with_logits(margin, target, pos_weight=positive, reduction="none")
    losses = [4 * (per_unit * visible).sum() / visible.sum().clamp(min=1)]
    feelings = (read[:, :, -2] @ vocabulary[trunk.choices[-2]].T).float()  # [B, boxes, 7]
    asked = emotion.unsqueeze(1).expand(-1, feelings.shape[1]).reshape(-1)
    losses.append(F.cross_entropy(feelings.flatten(0, 1), asked, weight=weight, ignore_index=UNKNOWN, label_smoothing=0.05))
    years = (read[:, :, -1] @ vocabulary[trunk.choices[-1]].T).float()  # [B, boxes, 101]
    known = ~age.isnan()
    if not known.any():
        return [*losses, hidden.new_zeros(()).float()]
    soft = age_targets(age[known]).unsqueeze(1).expand(-1, years.shape[1], -1)
    losses.append(0.5 * F.cross_entropy(years[known].flatten(0, 1), soft.flatten(0, 1)))
    return losses


def _sentence_loss(
    hidden: torch.Tensor, lm_head: nn.Linear, ids: torch.Tensor, answers: list[tuple[list[int], int]], trunk: Trunk
) -> torch.Tensor:
    """Next-token loss of the written sentences; the fields before them are given, not written."""
    start = len(trunk.tree.ids)
    written = [(row, start + place) for row, (tokens, begin) in enumerate(answers) for place in range(begin, len(tokens))]
    row, at = torch.tensor(written).unbind(1)
    logits = lm_head(hidden[row, at - 1].to(lm_head.weight.dtype)).float()
    return 0.5 * F.cross_entropy(logits, ids[row, at])
