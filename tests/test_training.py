"""Training on a small slice of the real faces: it learns, goes on after a stop as if there had been none, and its checkpoint opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.align import CROP_SIZE
from pipeline.checkpoints import open_checkpoint
from pipeline.describe import QwenDescriber
from pipeline.records import Request
from pipeline.training.augment import to_crops
from pipeline.training.faces import MARGIN, Faces, load_faces, mirror_names
from pipeline.training.nano import build_model, build_tokenizer, grey_to_colour
from pipeline.training.pretrain import MEAN, STD, pretrain
from pipeline.training.programme import Programme, train_nano
from pipeline.training.tune import tune


@pytest.fixture(scope="module")
def faces(shared: Path) -> Faces:
    return load_faces([shared / "faces" / "val.parquet"], 64)


def test_faces_are_aligned_with_their_labels(faces: Faces) -> None:
    assert faces.pixels.shape == (64, CROP_SIZE + 2 * MARGIN, CROP_SIZE + 2 * MARGIN)
    left, right = faces.boxes["left_eye"], faces.boxes["right_eye"]
    assert abs(np.median((left[:, 0] + left[:, 2]) / 2) - 38) < 2
    assert abs(np.median((right[:, 0] + right[:, 2]) / 2) - 74) < 2
    assert np.isnan(faces.age[faces.source == "fer2013"]).all()


def test_no_augmentation_is_the_plain_crop(faces: Faces) -> None:
    pixels = torch.from_numpy(faces.pixels[:4])
    assert torch.equal(to_crops(pixels, None), pixels[:, MARGIN:-MARGIN, MARGIN:-MARGIN].float())


def test_a_flip_mirrors(faces: Faces) -> None:
    pixels = torch.from_numpy(faces.pixels[:1])

    def mean_crop(flip: bool) -> torch.Tensor:
        crops = [to_crops(pixels, torch.Generator().manual_seed(seed), torch.tensor([flip])) for seed in range(40)]
        return torch.stack(crops).mean(0)

    plain, mirrored = mean_crop(False), mean_crop(True)
    assert torch.nn.functional.l1_loss(mirrored.flip(-1), plain) < 0.5 * torch.nn.functional.l1_loss(mirrored, plain)


def test_mirrored_names() -> None:
    assert mirror_names(["jawOpen", "mouthSmileLeft", "mouthSmileRight"]) == [0, 2, 1]


def test_a_stop_between_epochs_changes_nothing(faces: Faces, tmp_path: Path) -> None:
    def quiet(_: str) -> None:
        pass

    whole = pretrain(faces, faces, tmp_path / "whole", epochs=2, batch=32, say=quiet)

    class Stop(Exception):
        pass

    def stop_after_first_epoch(line: str) -> None:
        if line.startswith("epoch 2/2"):
            raise Stop

    with pytest.raises(Stop):
        pretrain(faces, faces, tmp_path / "stopped", epochs=2, batch=32, say=stop_after_first_epoch)
    resumed = pretrain(faces, faces, tmp_path / "stopped", epochs=2, batch=32, say=quiet)
    ours, theirs = load_file(whole), load_file(resumed)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


def test_tuning_lowers_its_losses(faces: Faces, tmp_path: Path) -> None:
    lines: list[str] = []
    tower = pretrain(faces, faces, tmp_path / "tower", epochs=1, batch=32, say=lines.append)
    saved: list[int] = []
    tune(faces, tower, tmp_path / "tune", epochs=12, batch=32, say=lines.append, after_epoch=lambda *done: saved.append(done[2]))
    assert saved == list(range(1, 13))
    totals = [float(line.split("loss ")[1].split()[0]) for line in lines if line.startswith("tuned")]
    assert np.mean(totals[-3:]) < np.mean(totals[:3]) - 0.3


def test_a_colour_picture_is_seen_as_its_luma() -> None:
    from pipeline.preprocess import grid_thw, patchify

    torch.manual_seed(0)
    model = build_model(build_tokenizer()).eval()
    colour = torch.randint(0, 256, (2, 3, CROP_SIZE, CROP_SIZE)).float()
    luma = (colour * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    grid = grid_thw(2, CROP_SIZE, CROP_SIZE)
    with torch.no_grad():
        trained_on = model.model.visual(patchify(luma, mean=MEAN, std=STD), grid).pooler_output
        grey_to_colour(model)
        seen = model.model.visual(patchify(colour, mean=MEAN, std=STD), grid).pooler_output
    assert torch.allclose(seen, trained_on, atol=1e-4)


def test_the_programme_makes_a_checkpoint_that_answers(shared: Path, faces: Faces, tmp_path: Path) -> None:
    short = Programme(tower_epochs=1, tune_epochs=1, tower_batch=32, tune_batch=32, limit=64)
    folder = train_nano(shared / "faces", tmp_path, short, say=lambda line: None)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 25e6
    describer = QwenDescriber(open_checkpoint(str(folder), device="cpu"))
    assert set(describer.grammar.thresholds) == set(describer.aus)
    grey = np.ascontiguousarray(np.repeat(faces.pixels[0, MARGIN:-MARGIN, MARGIN:-MARGIN, None], 3, 2))
    (answer,) = describer.describe([Request(grey, (36, 70, 76, 94), "mouth")])
    assert answer.description
    assert set(answer.au_scores) <= set(describer.aus)
