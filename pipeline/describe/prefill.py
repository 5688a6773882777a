"""What inference and training share: pictures to image tokens, image tokens among embeddings, masks, logits to answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pipeline.describe.patches import grid_thw, patchify

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration

    from pipeline.describe.prefix import Prefix
    from pipeline.describe.slots import Slot


def encode_images(model: Qwen2_5_VLForConditionalGeneration, images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Run the vision tower over equally sized pictures.

    Args:
        images: (B, 3, side, side), values 0 to 255; `side` as `Prefix.side` says.
        mean, std: (3,) pixel normalisation of the checkpoint, on any device.

    Returns:
        (B, N, D): the N merged image tokens of each picture, as the language model takes them.
    """
    vision = model.config.vision_config
    patches = patchify(
        images,
        mean=mean.to(images.device),
        std=std.to(images.device),
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
    )
    grid = grid_thw(len(images), images.shape[-2], images.shape[-1], vision.patch_size).to(images.device)
    tokens = model.model.visual(patches.to(model.dtype), grid_thw=grid).pooler_output  # [B * N, D]
    return tokens.view(len(images), -1, tokens.shape[-1])


def embed_with_images(
    model: Qwen2_5_VLForConditionalGeneration, ids: torch.Tensor, prefix: Prefix, image_tokens: torch.Tensor
) -> torch.Tensor:
    """(B, S) token ids that begin with `prefix`, and (B, N, D) image tokens -> (B, S, D) embeddings with the image tokens in place."""
    embeds = model.model.language_model.embed_tokens(ids)
    return torch.cat([embeds[:, : prefix.image.start], image_tokens.to(embeds.dtype), embeds[:, prefix.image.stop :]], 1)


def added_to_scores(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What a mask adds to the scores of attention: 0, or the least number of `dtype` where it is False."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)


def log_probabilities(slot: Slot, logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logarithms of the answers' probabilities.

    Args:
        logits: for each readout (B, children), the next-token logits of `slot.children` there.

    Returns:
        (B, answers) float32; the probabilities sum to 1.
    """
    steps = [torch.log_softmax(readout.float(), -1) for readout in logits]
    if len(steps) == 1:
        return steps[0][:, [path[0][1] for path in slot.paths]]
    return torch.stack([torch.stack([steps[readout][:, child] for readout, child in path]).sum(0) for path in slot.paths], -1)
