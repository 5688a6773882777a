"""Random changes to aligned faces that leave their labels true."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from pipeline.faces.alignment import CROP_SIZE


def to_crops(
    pixels: torch.Tensor, generator: torch.Generator | None, flip: torch.Tensor | None = None, coarse: float = 0.0
) -> torch.Tensor:
    """Cut (B, S, S) uint8 canvases to (B, CROP_SIZE, CROP_SIZE) float, values 0 to 255, changed at random.

    Each face is turned, scaled and shifted a little (as landmarks err), made lighter or darker, harder or softer, coarser (as small
    faces are) and loses a random patch. With no generator the centre is cut, unchanged.

    Args:
        pixels: canvases with `pipeline.training.faces.MARGIN` pixels around the crop.
        generator: the source of randomness, or None for none.
        flip: (B,) bool, the faces to mirror; used with a generator only.
        coarse: share of the faces that are made coarse; likewise.
    """
    batch, side = pixels.shape[:2]
    images = pixels.float().unsqueeze(1)
    if generator is None:
        margin = (side - CROP_SIZE) // 2
        return images[:, 0, margin : margin + CROP_SIZE, margin : margin + CROP_SIZE]

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(batch, *shape, generator=generator) * (high - low) + low

    def normal(std: float) -> torch.Tensor:
        return torch.randn(batch, generator=generator) * std

    angle = normal(math.radians(5)).clamp(-0.3, 0.3)
    scale = (CROP_SIZE / side) * torch.exp(normal(0.05).clamp(-0.15, 0.15))
    mirror = torch.ones(batch) if flip is None else 1.0 - 2.0 * flip.float()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = 2 * 2.5 / side
    theta = torch.stack([torch.stack([cos * mirror, -sin, normal(shift)], -1), torch.stack([sin * mirror, cos, normal(shift)], -1)], 1)
    grid = F.affine_grid(theta, [batch, 1, CROP_SIZE, CROP_SIZE], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    chosen = torch.rand(batch, generator=generator) < coarse
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
