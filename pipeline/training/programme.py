"""The programme that makes a nano checkpoint, from labelled faces to a folder that the describer opens."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.checkpoints import open_checkpoint
from pipeline.describe import QwenDescriber
from pipeline.errors import FocalfaceError
from pipeline.evaluate import ask, best_thresholds
from pipeline.training.faces import load_faces
from pipeline.training.nano import GRAMMAR, grey_to_colour, save_checkpoint
from pipeline.training.pretrain import pretrain
from pipeline.training.tune import tune

TRAIN_FILES = ("train-web.parquet", "train-fer2013.parquet")
VALIDATION_FILE = "val.parquet"


@dataclass(frozen=True)
class Programme:
    """How long and how hard to train.

    Attributes:
        tower_epochs: passes over the faces in dense pretraining; 12 take about 40 minutes on two cores.
        tune_epochs: passes over the faces in tuning; each takes about as long as four of the tower's.
        tower_batch, tune_batch: faces a step.
        limit: use only the first so many faces of each file, for trying things out.
        seed: of all randomness.
    """

    tower_epochs: int = 12
    tune_epochs: int = 3
    tower_batch: int = 128
    tune_batch: int = 64
    limit: int | None = None
    seed: int = 0


def train_nano(faces: Path, out: Path, programme: Programme, say: Callable[[str], None] = print) -> Path:
    """Train a checkpoint; after a kill the same call goes on from the last finished epoch.

    Args:
        faces: folder with `train-web.parquet`, `train-fer2013.parquet` and `val.parquet`.
        out: the states of both trainings lie here, and the checkpoint in `out/nano`.

    Returns:
        The checkpoint's folder.

    Raises:
        FocalfaceError: when a file of faces is missing.
    """
    for name in (*TRAIN_FILES, VALIDATION_FILE):
        if not (faces / name).is_file():
            raise FocalfaceError(f"{faces / name} is missing: --faces wants the folder with {', '.join((*TRAIN_FILES, VALIDATION_FILE))}")
    train = load_faces([faces / name for name in TRAIN_FILES], programme.limit)
    validation = load_faces([faces / VALIDATION_FILE], programme.limit)
    say(f"{len(train)} faces to train on, {len(validation)} to watch")
    tower = pretrain(
        train, validation, out / "tower", epochs=programme.tower_epochs, batch=programme.tower_batch, seed=programme.seed, say=say
    )
    model, tokenizer = tune(
        train, tower, out / "tune", epochs=programme.tune_epochs, batch=programme.tune_batch, seed=programme.seed, say=say
    )
    model = copy.deepcopy(model).eval()
    grey_to_colour(model)
    folder, partial = out / "nano", out / "nano.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_checkpoint(model, tokenizer, GRAMMAR, partial)
    set_thresholds(partial, faces / VALIDATION_FILE, programme.limit)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def set_thresholds(folder: Path, validation: Path, limit: int | None = None) -> None:
    """Choose from validation faces at which probability each action unit counts as active, and write that into the checkpoint."""
    describer = QwenDescriber(open_checkpoint(str(folder), device="cpu"), batch_size=64)
    thresholds = best_thresholds(list(ask(describer, validation, limit)), describer.aus)
    replace(describer.grammar, thresholds=thresholds).save(folder)
