"""Face crops to the patches that Qwen2.5-VL's vision tower takes, with tensor operations only.

The Hugging Face image processor works image by image through Python and PIL; for a batch of equally sized crops one reshape does the
same. A test compares the two.
"""

from __future__ import annotations

import torch

CHUNK = 8
"""Images processed together: 8 of 112x112 pixels fit the cache of a CPU core from one step to the next; more do not."""


def patchify(
    images: torch.Tensor,
    *,
    mean: torch.Tensor,
    std: torch.Tensor,
    patch_size: int = 14,
    merge_size: int = 2,
    temporal_patch_size: int = 2,
) -> torch.Tensor:
    """Normalise images and cut them into vision patches, in the order of the reference processor.

    Args:
        images: (B, 3, H, W), values 0 to 255 of any dtype; H and W divisible by `patch_size * merge_size`.
        mean, std: (3,) in units of 0 to 1, from the checkpoint's `preprocessor_config.json`.

    Returns:
        (B * H / patch * W / patch, 3 * temporal * patch * patch) float32: patches grouped by merge window, a still image repeated
        along time.

    Raises:
        ValueError: when H or W is not divisible.
    """
    batch, channels, height, width = images.shape
    unit = patch_size * merge_size
    if height % unit or width % unit:
        raise ValueError(f"image sides must be divisible by {unit}, not {height}x{width}")
    rows, columns = height // unit, width // unit
    patches = images.view(batch, channels, rows, merge_size, patch_size, columns, merge_size, patch_size)
    patches = patches.permute(0, 2, 5, 3, 6, 1, 4, 7)  # [B, rows, columns, merge, merge, C, patch, patch]
    scale, shift = (1 / (255 * std)).view(-1, 1, 1), (mean / std).view(-1, 1, 1)
    out = torch.empty(*patches.shape[:6], temporal_patch_size, patch_size, patch_size, device=images.device)
    # Memory bandwidth is the cost here: pixels are reordered as bytes, and become floats only in their final place.
    for some, done in zip(patches.split(CHUNK), out.split(CHUNK), strict=True):
        first = done.select(6, 0)
        first.copy_(some).mul_(scale).sub_(shift)
        done[..., 1:, :, :] = first.unsqueeze(6)
    return out.view(batch * rows * columns * merge_size**2, -1)


def grid_thw(batch: int, height: int, width: int, patch_size: int = 14) -> torch.Tensor:
    """(B, 3) int64 patch grid (time, rows, columns) for `batch` images of one size."""
    return torch.tensor([[1, height // patch_size, width // patch_size]]).repeat(batch, 1)
