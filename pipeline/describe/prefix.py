"""The prefix of a conversation that all regions of a face share: the picture, and the instruction beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipeline.describe.grammar import IMAGE_TOKEN, USER_IMAGE_END, USER_START, Grammar
from pipeline.describe.patches import grid_thw

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration


@dataclass(frozen=True)
class Prefix:
    """Tokens of the shared prefix, for one model and one picture size.

    Attributes:
        side: width of the square picture in pixels.
        ids: (P,) int64.
        image: place of the image tokens in `ids`.
        positions: (3, P) int64, Qwen2.5-VL's time, row and column positions.
    """

    side: int
    ids: torch.Tensor
    image: slice
    positions: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def end(self) -> int:
        """The text position of the token that would follow."""
        return int(self.positions.max()) + 1


def build_prefix(model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, grammar: Grammar) -> Prefix:
    """Build the prefix with positions as the reference model counts them."""

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    vision = model.config.vision_config
    unit = vision.patch_size * vision.spatial_merge_size
    side = grammar.picture_side(unit)
    tokens = (side // unit) ** 2
    (image_id,) = ids(IMAGE_TOKEN)
    head = ids(USER_START)
    laid = torch.tensor([[*head, *[image_id] * tokens, *ids(USER_IMAGE_END), *ids(grammar.instruction)]])
    grid = grid_thw(1, side, side, vision.patch_size)
    positions, _ = model.model.get_rope_index(laid, image_grid_thw=grid, mm_token_type_ids=(laid == image_id).int())  # [3, 1, P]
    return Prefix(side, laid[0], slice(len(head), len(head) + tokens), positions[:, 0])
