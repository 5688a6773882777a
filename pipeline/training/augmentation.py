"""Random changes to aligned faces that keep their labels true."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from pipeline.faces.alignment import CROP_SIZE

LUMA = torch.tensor([0.299, 0.587, 0.114])
"""Shares of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""

CAST = 0.25
"""Standard deviation of the logarithm of a colour cast's exponents; more would make skin blue."""


def centre_crops(canvases: torch.Tensor) -> torch.Tensor:
    """Cut the unchanged centre out of each canvas.

    Args:
        canvases: (B, S, S, 3) uint8 RGB, S at least `CROP_SIZE`.

    Returns:
        (B, 3, CROP_SIZE, CROP_SIZE) float32, 0 to 255.

    >>> centre_crops(torch.zeros(2, 128, 128, 3, dtype=torch.uint8)).shape
    torch.Size([2, 3, 112, 112])
    """
    margin = (canvases.shape[1] - CROP_SIZE) // 2
    return canvases[:, margin : margin + CROP_SIZE, margin : margin + CROP_SIZE].permute(0, 3, 1, 2).float()


def augmented_crops(canvases: torch.Tensor, generator: torch.Generator, flip: torch.Tensor, low_resolution: float = 0.0) -> torch.Tensor:
    """Cut a randomly changed face out of each canvas.

    Each face is rotated, scaled and shifted a little (as landmarks err); brightness and contrast change; some faces lose resolution (as
    small faces do); some lose a random rectangle. Half of the faces become grey and half of the others get a random colour cast, grey
    pictures too: the collections differ in colour as in their labels, and colour must not tell which labels to expect.

    Args:
        canvases: (B, S, S, 3) uint8 RGB with a margin around the crop (`pipeline.dataset.schema.MARGIN`).
        generator: source of all randomness.
        flip: (B,) bool, faces to mirror left to right.
        low_resolution: share of the faces to scale down and up again.

    Returns:
        (B, 3, CROP_SIZE, CROP_SIZE) float32, 0 to 255.
    """
    batch, side = canvases.shape[:2]
    images = canvases.permute(0, 3, 1, 2).float()  # [B, 3, S, S]

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
    grid = F.affine_grid(theta, [batch, 3, CROP_SIZE, CROP_SIZE], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    chosen = torch.rand(batch, generator=generator) < low_resolution
    if chosen.any():
        size = int(torch.randint(28, 72, (1,), generator=generator))
        small = F.interpolate(images[chosen], size=(size, size), mode="area")
        images[chosen] = F.interpolate(small, size=(CROP_SIZE, CROP_SIZE), mode="bilinear", align_corners=False)
    images = _recoloured(images, uniform(0, 1), normal(CAST).view(-1, 1, 1), normal(CAST).view(-1, 1, 1))
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * uniform(0.7, 1.35, 1, 1, 1) + mean + normal(18.0).view(-1, 1, 1, 1)

    erase = torch.rand(batch, generator=generator) < 0.3
    height, width = uniform(0.12, 0.35), uniform(0.12, 0.35)
    top, left = uniform(0.0, 1.0) * (1 - height), uniform(0.0, 1.0) * (1 - width)
    axis = (torch.arange(CROP_SIZE) + 0.5) / CROP_SIZE
    rows = (axis >= top[:, None]) & (axis < (top + height)[:, None])
    columns = (axis >= left[:, None]) & (axis < (left + width)[:, None])
    hole = (rows[:, :, None] & columns[:, None, :] & erase[:, None, None]).unsqueeze(1)
    return torch.where(hole, uniform(0, 255, 1, 1, 1), images).clamp(0, 255)


def _recoloured(images: torch.Tensor, lot: torch.Tensor, red: torch.Tensor, blue: torch.Tensor) -> torch.Tensor:
    """Make faces grey where `lot` is below 0.5, and give them a colour cast where it is above 0.75.

    Args:
        images: (B, 3, H, W), 0 to 255; changed in place.
        lot: (B,) in [0, 1].
        red, blue: (B, 1, 1) logarithms of the exponents of these channels against green.
    """
    grey = lot < 0.5
    images[grey] = (images[grey] * LUMA.view(3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    cast = lot > 0.75
    for channel, exponent in ((0, red), (2, blue)):
        images[cast, channel] = 255 * (images[cast, channel].clamp(0, 255) / 255) ** exponent[cast].exp()
    return images
