"""Dense pretraining of nano's vision tower: everything that is known of a face, read off its sixteen merged tokens at once.

A small transformer is data-hungry, and the words of a description carry few bits of a picture. So before the language model sees a
face, the tower learns it from one linear head over its output: emotion, the labelled action units, age as a distribution, and all
52 blendshapes. The head is thrown away; the tower goes on to `pipeline.training.tune`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.metrics import f1_score
from torch import nn
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from pipeline.align import CROP_SIZE
from pipeline.preprocess import grid_thw, patchify
from pipeline.training.augment import to_crops
from pipeline.training.faces import UNKNOWN, Faces, mirror_names
from pipeline.training.state import TrainingState
from pipeline.vision import speed_up
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS

AGES = 101
"""Ages 0 to 100, one bin a year."""

VISION: dict[str, Any] = {
    "depth": 6,
    "hidden_size": 256,
    "num_heads": 4,
    "intermediate_size": 704,
    "patch_size": 14,
    "out_hidden_size": 256,
    "fullatt_block_indexes": [0, 1, 2, 3, 4, 5],
    "window_size": 112,
}
"""nano's vision tower: 6.4 M parameters; a 112x112 face is 64 patches, 16 tokens, one window."""

MEAN, STD = torch.full((3,), 0.5), torch.full((3,), 0.25)
"""Pixel normalisation, equal for the channels, so that a grey tower turns into a colour one exactly (`grey_to_colour`)."""


class DenseTower(nn.Module):
    """A vision tower with one linear head over all of its merged tokens."""

    def __init__(self, blendshapes: int = 52) -> None:
        super().__init__()
        self.tower = speed_up(Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLVisionConfig(**VISION)))
        tokens = (CROP_SIZE // VISION["patch_size"] // 2) ** 2
        self.sizes = [len(EMOTIONS), len(AUS_LABELLED), AGES, blendshapes]
        self.norm = nn.LayerNorm(VISION["out_hidden_size"])
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(tokens * VISION["out_hidden_size"], sum(self.sizes))
        nn.init.normal_(self.head.weight, std=0.005)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, 112, 112) grey, 0 to 255 -> logits of emotion (B, 7), AUs (B, 16), age (B, 101), blendshapes (B, 52)."""
        patches = patchify(crops.unsqueeze(1).expand(-1, 3, -1, -1), mean=MEAN, std=STD)
        merged = self.tower(patches, grid_thw(len(crops), CROP_SIZE, CROP_SIZE)).pooler_output  # [B * 16, D]
        tokens = self.norm(merged.view(len(crops), -1, merged.shape[-1]))
        return self.head(self.drop(tokens.flatten(1))).float().split(self.sizes, -1)


def age_targets(age: torch.Tensor) -> torch.Tensor:
    """(N,) years -> (N, 101): a bell of 3 years around each age, as neighbouring years are nearly right.

    Gao et al. 2017, "Deep label distribution learning with label ambiguity".
    """
    years = torch.arange(AGES, dtype=torch.float32)
    return torch.softmax(-((years - age[:, None]) ** 2) / (2 * 3.0**2), -1)


def loss_of(
    outputs: tuple[torch.Tensor, ...],
    emotion: torch.Tensor,
    aus: torch.Tensor,
    age: torch.Tensor,
    blendshapes: torch.Tensor,
    emotion_weight: torch.Tensor,
) -> torch.Tensor:
    """Sum of the four losses; unlabelled emotions and ages count nothing."""
    emotion_logits, au_logits, age_logits, shape_logits = outputs
    loss = F.binary_cross_entropy_with_logits(au_logits, aus) * 4 + F.binary_cross_entropy_with_logits(shape_logits, blendshapes) * 4
    if (emotion != UNKNOWN).any():
        loss = loss + F.cross_entropy(emotion_logits, emotion, weight=emotion_weight, ignore_index=UNKNOWN, label_smoothing=0.1)
    known = ~age.isnan()
    if known.any():
        loss = loss + 0.5 * F.cross_entropy(age_logits[known], age_targets(age[known]))
    return loss


def emotion_weights(faces: Faces, power: float = 0.35) -> torch.Tensor:
    """(7,) loss weights: inverse frequency to a power between 0 (accuracy alone) and 1 (every emotion counts the same)."""
    counts = np.bincount(faces.emotion[faces.emotion != UNKNOWN], minlength=len(EMOTIONS)).clip(1)
    return torch.tensor((counts.mean() / counts) ** power, dtype=torch.float32)


@torch.no_grad()
def measure(model: DenseTower, faces: Faces, batch: int = 256) -> dict[str, float]:
    """Emotion accuracy and macro-F1 by source, mean AU F1, age error in years."""
    model.eval()
    outputs = []
    for start in range(0, len(faces), batch):
        crops = to_crops(torch.from_numpy(faces.pixels[start : start + batch]), None)
        outputs.append(torch.cat(list(model(crops)), -1))
    emotion, au, age, _ = torch.cat(outputs).split(model.sizes, -1)
    predicted = emotion.argmax(-1).numpy()
    result = {}
    for source in np.unique(faces.source):
        rows = (faces.source == source) & (faces.emotion != UNKNOWN)
        result[f"emotion_accuracy_{source}"] = float((predicted == faces.emotion)[rows].mean())
        result[f"emotion_macro_f1_{source}"] = float(f1_score(faces.emotion[rows], predicted[rows], average="macro", zero_division=0))
    result["au_f1_mean"] = float(np.mean([f1_score(faces.aus[:, i], au[:, i].numpy() > 0, zero_division=0) for i in range(au.shape[1])]))
    years = (age.softmax(-1) @ torch.arange(AGES, dtype=torch.float32)).numpy()
    known = ~np.isnan(faces.age)
    result["age_mae"] = float(np.abs(years - faces.age)[known].mean())
    return result


def pretrain(
    train: Faces,
    validation: Faces,
    folder: Path,
    *,
    epochs: int = 12,
    batch: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Train a tower, one checkpoint an epoch; a second call goes on where the first one stopped.

    Returns:
        The file of the averaged tower and head, `folder/tower.safetensors`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = DenseTower(train.blendshapes.shape[1])
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "lr": learning_rate, "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]
    steps, output = len(train) // batch, folder / "tower.safetensors"
    state = TrainingState(model, groups, folder / "state.pt", steps=steps * epochs, warm_up=0.08)
    weight = emotion_weights(train)
    mirrored = mirror_names(train.blendshape_names)
    for epoch in range(state.epoch, epochs):
        torch.manual_seed(seed * 1000 + epoch)  # of dropout: each epoch draws its own numbers, resumed or not
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        order = torch.randperm(len(train), generator=generator).numpy()
        model.train()
        started, total = time.time(), 0.0
        for step in range(steps):
            rows = np.sort(order[step * batch : (step + 1) * batch])
            flip = torch.rand(batch, generator=generator) < 0.5
            crops = to_crops(torch.from_numpy(train.pixels[rows]), generator, flip)
            shapes = torch.from_numpy(train.blendshapes[rows])
            shapes = torch.where(flip[:, None], shapes[:, mirrored], shapes)
            with torch.autocast("cpu", torch.bfloat16):
                outputs = model(crops)
            loss = loss_of(
                outputs,
                torch.from_numpy(train.emotion[rows]),
                torch.from_numpy(train.aus[rows]).float(),
                torch.from_numpy(train.age[rows]),
                shapes,
                weight,
            )
            state.step(loss)
            total += float(loss.detach())
            if step % 50 == 49:
                speed = batch * (step + 1) / (time.time() - started)
                say(f"epoch {epoch + 1} step {step + 1}/{steps} loss {total / (step + 1):.4f} {speed:.0f} faces/s")
        scores = measure(state.average.module, validation)
        say(f"epoch {epoch + 1}/{epochs} loss {total / steps:.4f} " + " ".join(f"{k}={v:.3f}" for k, v in scores.items()))
        save_file(state.average.module.state_dict(), output)
        state.save(epoch + 1)
    return output
