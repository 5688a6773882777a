"""The teacher: a convolutional network that learns the faces first, then sets targets for nano's vision tower.

A convolutional network learns more from few faces than a transformer, which has no built-in notion of neighbouring pixels. The teacher's
probabilities become training targets (`pipeline.training.dense_supervision.distillation_loss`). No checkpoint contains the teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.training.dense_supervision import DenseLogits, output_sizes, split_logits

SIDE = 64
"""Side in pixels of the scaled face: a third of the work of 112, and a face of FER2013 fills no more pixels than that originally."""

WIDTHS = (32, 96, 192, 384)
"""Channels at 32, 16, 8 and 4 pixels; the work grows with the square of the width."""

BLOCKS = (1, 2, 3, 2)
"""Residual blocks at each of these sizes."""

LAST = SIDE // 2 ** len(WIDTHS)
"""Side of the last feature map."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; channels are reweighted from the whole face (squeeze and excitation, Hu et al. 2018)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        last = nn.BatchNorm2d(width)
        nn.init.zeros_(last.weight)  # a new block passes its input through
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), last])
        self.squeeze = nn.Sequential(nn.Linear(width, width // 8), nn.SiLU(), nn.Linear(width // 8, width))
        changes = stride > 1 or before != width
        self.shortcut = (
            nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)) if changes else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B, before, H, W] -> [B, width, H / stride, W / stride]
        y = self.norms[1](self.second(F.silu(self.norms[0](self.first(x)))))
        y = y * self.squeeze(y.mean((2, 3))).sigmoid()[:, :, None, None]
        return F.silu(y + (x if self.shortcut is None else self.shortcut(x)))


class Teacher(nn.Module):
    """A residual network of 10.4 M parameters over one aligned face.

    Args:
        blendshapes: number of blendshapes in the labels.
    """

    def __init__(self, blendshapes: int) -> None:
        super().__init__()
        self.sizes = output_sizes(blendshapes)
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTHS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.SiLU())
        layers, before = [], WIDTHS[0]
        for level, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            for number in range(blocks):
                layers.append(ResidualBlock(before, width, 2 if number == 0 and level else 1))
                before = width
        self.body = nn.Sequential(*layers)
        self.places = nn.Sequential(nn.Conv2d(before, 48, 1, bias=False), nn.BatchNorm2d(48), nn.SiLU(), nn.Flatten())
        self.join = nn.Sequential(nn.Dropout(0.4), nn.Linear(before + 48 * LAST**2, 256), nn.BatchNorm1d(256), nn.SiLU(), nn.Dropout(0.2))
        self.head = nn.Linear(256, sum(self.sizes))
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """(B, 3, 112, 112) RGB, 0 to 255 -> (B, 384, 4, 4)."""
        x = F.interpolate((crops - 127.5) / 64, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        x = x.contiguous(memory_format=torch.channels_last)
        return self.body(self.stem(x))

    def forward(self, crops: torch.Tensor) -> DenseLogits:
        """(B, 3, 112, 112) RGB, 0 to 255 -> logits of all labels."""
        x = self.features(crops)
        x = self.join(torch.cat([x.mean((2, 3)), self.places(x)], 1))
        return split_logits(self.head(x), self.sizes)
