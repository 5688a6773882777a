"""The prefix of a conversation that all regions of a face share: the picture, and the instruction beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipeline.describe.grammar import IMAGE_TOKEN, USER_IMAGE_END, USER_START, Grammar

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration

    from pipeline.describe.network import Qwen25VL
    from pipeline.describe.tokenizer import TextTokenizer


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


def picture_side(vision: Any, grammar: Grammar) -> int:
    """Width of the square picture in pixels: the grammar's, rounded to a multiple of a merged patch.

    Args:
        vision: the configuration of the vision tower, from `pipeline.describe.network_config` or transformers.
    """
    unit = vision.patch_size * vision.spatial_merge_size
    return max(unit, round(grammar.face_size / unit) * unit)


def build_prefix(model: Qwen25VL | Qwen2_5_VLForConditionalGeneration, tokenizer: TextTokenizer, grammar: Grammar) -> Prefix:
    """Build the prefix with positions as the reference model counts them."""

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    vision = model.config.vision_config
    side = picture_side(vision, grammar)
    cells = side // (vision.patch_size * vision.spatial_merge_size)
    (image_id,) = ids(IMAGE_TOKEN)
    before, after = ids(USER_START), [*ids(USER_IMAGE_END), *ids(grammar.instruction)]
    laid = torch.tensor([*before, *[image_id] * cells**2, *after])
    return Prefix(side, laid, slice(len(before), len(before) + cells**2), _positions(len(before), cells, len(after)))


def _positions(before: int, cells: int, after: int) -> torch.Tensor:
    """(3, P) positions of text, a square picture of `cells` x `cells` tokens, and text (Qwen2-VL, arXiv 2409.12191, section 2.1).

    Text tokens count up in all three rows. The tokens of a picture share their time; row and column count from its first position. Text
    after it goes on from the largest position.
    """
    row, column = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    image = torch.stack([torch.zeros_like(row), row, column]).flatten(1) + before  # [3, cells ** 2]
    return torch.cat([torch.arange(before).expand(3, -1), image, torch.arange(after).expand(3, -1) + before + cells], 1)
