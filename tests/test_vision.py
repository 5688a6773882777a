"""The faster preprocessing and vision tower against the reference ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pipeline.describe.patches import grid_thw, patchify
from pipeline.describe.vision_tower import prepare_for_inference, speed_up

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@pytest.fixture(scope="module")
def faces(samples: Path) -> Any:
    picture = Image.open(samples / "multi_face.jpg").convert("RGB")
    return [picture.crop((x, 40, x + 112, 152)) for x in (10, 150, 300)]


def test_patches_equal_the_reference_processors(faces: Any) -> None:
    processor = Qwen2VLImageProcessorPil(
        image_mean=MEAN, image_std=STD, size={"shortest_edge": 112 * 112, "longest_edge": 112 * 112}, patch_size=14, merge_size=2
    )
    theirs = processor(images=faces, return_tensors="pt")
    images = torch.from_numpy(np.stack([np.asarray(face) for face in faces])).permute(0, 3, 1, 2)
    ours = patchify(images, mean=torch.tensor(MEAN), std=torch.tensor(STD))
    assert torch.allclose(ours, theirs["pixel_values"], atol=1e-5)
    assert torch.equal(grid_thw(3, 112, 112), theirs["image_grid_thw"])


def test_sides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="divisible by 28"):
        patchify(torch.zeros(1, 3, 100, 112), mean=torch.zeros(3), std=torch.ones(3))


@pytest.mark.parametrize("sides", [[112, 112, 112], [112, 140, 112]], ids=["equal windows", "unequal windows"])
@pytest.mark.parametrize("training", [False, True])
def test_the_faster_tower_gives_the_reference_numbers(sides: list[int], training: bool) -> None:
    torch.manual_seed(0)
    config = Qwen2_5_VLVisionConfig(
        depth=2, hidden_size=64, num_heads=4, intermediate_size=92, out_hidden_size=48, window_size=56, fullatt_block_indexes=[1]
    )
    tower = Qwen2_5_VisionTransformerPretrainedModel(config).train(training)
    images = [torch.randint(0, 256, (1, 3, side, side)) for side in sides]
    patches = torch.cat([patchify(image, mean=torch.tensor(MEAN), std=torch.tensor(STD)) for image in images])
    grid = torch.cat([grid_thw(1, side, side) for side in sides])
    with torch.no_grad():
        theirs = tower(patches, grid).pooler_output
        ours = speed_up(tower)(patches, grid).pooler_output
    assert torch.allclose(ours, theirs, atol=1e-5)
    prepare_for_inference(tower)
    prepare_for_inference(tower)  # a second time changes nothing
    assert tower.blocks[0].mlp.gate_proj.weight.shape == (96, 64) and tower.blocks[0].mlp.down_proj.weight.shape == (64, 96)
    with torch.no_grad():
        assert torch.allclose(tower(patches, grid).pooler_output, theirs, atol=1e-5)
