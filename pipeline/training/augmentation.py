"""Random changes to aligned faces that keep their labels true."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from pipeline.faces.alignment import CROP_SIZE


def centre_crops(canvases: torch.Tensor) -> torch.Tensor:
    """Cut the unchanged centre out of each canvas.

    Args:
        canvases: (B, S, S) uint8, S at least `CROP_SIZE`.

    Returns:
        (B, CROP_SIZE, CROP_SIZE) float32, 0 to 255.

    >>> centre_crops(torch.zeros(2, 128, 128, dtype=torch.uint8)).shape
    torch.Size([2, 112, 112])
    """
    margin = (canvases.shape[1] - CROP_SIZE) // 2
    return canvases[:, margin : margin + CROP_SIZE, margin : margin + CROP_SIZE].float()


def augmented_crops(canvases: torch.Tensor, generator: torch.Generator, flip: torch.Tensor, low_resolution: float = 0.0) -> torch.Tensor:
    """Cut a randomly changed face out of each canvas.

    Each face is rotated, scaled and shifted a little (as landmarks err); brightness and contrast change; some faces lose resolution (as
    small faces do); some lose a random rectangle.

    Args:
        canvases: (B, S, S) uint8 with a margin around the crop (`pipeline.dataset.schema.MARGIN`).
        generator: source of all randomness.
        flip: (B,) bool, faces to mirror left to right.
        low_resolution: share of the faces to scale down and up again.

    Returns:
        (B, CROP_SIZE, CROP_SIZE) float32, 0 to 255.
    """
    batch, side = canvases.shape[:2]
    images = canvases.float().unsqueeze(1)  # [B, 1, S, S]

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(batch, *shape, generator=generator) * (high - low) + low

    def normal(std: float) -> torch.Tensor:
        return torch.randn(batch, generator=generator) * std

    angle = normal(math.radians(5)).clamp(-0.3, 0.3)
    scale = (CROP_SIZE / side) * torch.exp(normal(0.05).clamp(-0.15, 0.15))
    mirror = 1.0 - 2.0 * flip.float()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = 2 * 2.5 / side
    theta = torch.stack([torch.stack([cos * mirror, -sin, normal(shift)], -1), torch.stack([sin * mirror, cos, normal(shift)], -1)], 1)
    grid = F.affine_grid(theta, [batch, 1, CROP_SIZE, CROP_SIZE], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    chosen = torch.rand(batch, generator=generator) < low_resolution
    if chosen.any():
        size = int(torch.randint(28, 72, (1,), generator=generator))
        small = F.interpolate(images[chosen], size=(size, size), mode="area")
        images[chosen] = F.interpolate(small, size=(CROP_SIZE, CROP_SIZE), mode="bilinear", align_corners=False)
    mean = images.mean((2, 3), keepdim=True)
    images = (images - mean) * uniform(0.7, 1.35, 1, 1, 1) + mean + normal(18.0).view(-1, 1, 1, 1)

    erase = torch.rand(batch, generator=generator) < 0.3
    height, width = uniform(0.12, 0.35), uniform(0.12, 0.35)
    top, left = uniform(0.0, 1.0) * (1 - height), uniform(0.0, 1.0) * (1 - width)
    axis = (torch.arange(CROP_SIZE) + 0.5) / CROP_SIZE
    rows = (axis >= top[:, None]) & (axis < (top + height)[:, None])
    columns = (axis >= left[:, None]) & (axis < (left + width)[:, None])
    hole = (rows[:, :, None] & columns[:, None, :] & erase[:, None, None]).unsqueeze(1)
    return torch.where(hole, uniform(0, 255, 1, 1, 1), images).clamp(0, 255)[:, 0]
