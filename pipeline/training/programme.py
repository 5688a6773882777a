"""Trainings one after the other, from a dataset to a checkpoint that the describer opens."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.describe.checkpoints import Checkpoint, locate, open_checkpoint
from pipeline.describe.prefix import build_prefix
from pipeline.describe.vision_tower import speed_up
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.training import learners
from pipeline.training.conversation import Layout
from pipeline.training.dense import DenseHead
from pipeline.training.draws import DenseCollator, Draws, FocalCollator
from pipeline.training.faces import Faces, load_faces
from pipeline.training.fit import Schedule, fit, save_tensors, write_log
from pipeline.training.lora import adapted
from pipeline.training.nano import GRAMMAR, MEAN, PIXELS, STD, DenseTower, build_model, build_tokenizer, grey_to_colour, save_checkpoint
from pipeline.training.stages import DenseTraining, FocalStage, Training
from pipeline.training.teacher import Teacher
from pipeline.vocabulary import AUS_LABELLED

VALIDATED = 2000
"""Validation faces measured at the end of a training; more are surer and take longer."""

_NETWORKS: dict[str, type[nn.Module]] = {"teacher": Teacher, "tower": DenseTower}


@dataclass(frozen=True)
class Place:
    """Where trainings lie: `out/<name>` for each, holding

    `training.json` (its settings), `state/` (while it runs), then `network.safetensors` or `checkpoint/` (or `adapter/`), `log.parquet`,
    `curves.png` and, last of all, `figures.json`.
    """

    out: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def figures(self) -> Path:
        return self.folder / "figures.json"


def train(
    trainings: Sequence[Training],
    data: Path,
    out: Path,
    model: str | None = None,
    adapter: Path | None = None,
    limit: int | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Run trainings in their order; after a kill the same call goes on.

    Args:
        data: a dataset that `focalface dataset build` wrote, with its splits `train` and `val`.
        out: a folder a training; what earlier calls finished is taken as it is.
        model: where the first focal stage starts; a new nano where it is None. Each further stage starts from the one before.
        adapter: LoRA adapters to go on with, for stages with `tune: lora`.
        limit: use only so many faces of each split.

    Returns:
        The folder of the last checkpoint or adapter.

    Raises:
        FocalfaceError: when data, model or what a stage builds on is missing, or a folder holds a training with other settings.
    """
    if len({training.name for training in trainings}) < len(trainings):
        raise SettingsError("two trainings have one name; each wants a folder of its own")
    faces, watched = load_faces(data, "train", limit), load_faces(data, "val", min(limit or VALIDATED, VALIDATED))
    say(f"{len(faces)} faces to train on, {len(watched)} to watch")
    fresh = model is None
    result = out
    for training in trainings:
        place = Place(out, training.name)
        _claim(place, training, str(model), data, limit)
        if isinstance(training, DenseTraining):
            result = place.folder / "network.safetensors"
            if not place.figures.exists():
                say(f"== {training.name}: {training.samples} faces")
                _dense(training, place, faces, watched, say)
        else:
            result = place.folder / ("adapter" if training.tune == "lora" else "checkpoint")
            if not place.figures.exists():
                say(f"== {training.name}: {training.samples} faces")
                _stage(training, place, faces, watched, model, adapter, say)
            if training.tune == "lora":
                adapter = result
            else:
                model = str(result)
        say(f"{training.name}: " + " ".join(f"{name}={value:.3f}" for name, value in json.loads(place.figures.read_text()).items()))
    if fresh and isinstance(trainings[-1], FocalStage) and trainings[-1].tune == "full":
        if _leads():
            _ship(result, out / "nano")
        _together()
        return out / "nano"
    return result


def _claim(place: Place, training: Training, model: str, data: Path, limit: int | None) -> None:
    """Note what a folder is for, or refuse one that holds something else."""
    wanted = json.loads(json.dumps({**training.model_dump(), "model": model, "data": str(data.resolve()), "limit": limit}))
    note = place.folder / "training.json"
    if note.exists():
        found = json.loads(note.read_text())
        if differs := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
            raise FocalfaceError(f"{place.folder} holds a training with another {', '.join(differs)}; choose another --out, or remove it")
    elif _leads():
        place.folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(wanted, indent=1) + "\n")


def _dense(training: DenseTraining, place: Place, faces: Faces, watched: Faces, say: Callable[[str], None]) -> None:
    torch.manual_seed(training.seed)
    network = _NETWORKS[training.network](len(faces.blendshape_names))
    learner = learners.DenseLearner(network, training.learning_rate)
    noted = fit(
        learner, Draws(len(faces), training.samples, training.draws), DenseCollator(faces, training), place.folder / "state",
        _schedule(training), say,
    )  # fmt: skip
    if _leads():
        save_tensors(network.state_dict(), place.folder / "network.safetensors")
        _finish(place, training, noted, learners.measure_dense(network.cpu(), watched))
    _together()


def _stage(
    stage: FocalStage, place: Place, faces: Faces, watched: Faces, model: str | None, adapter: Path | None, say: Callable[[str], None]
) -> None:
    torch.manual_seed(stage.seed)
    checkpoint, head, pixels = _start(stage, place.out, model, adapter, faces)
    layout, learner = _learner(stage, place.out, checkpoint, head, faces)
    noted = fit(
        learner, Draws(len(faces), stage.samples, stage.draws), FocalCollator(faces, stage, layout), place.folder / "state",
        _schedule(stage), say,
    )  # fmt: skip
    if _leads():
        learner.cpu()
        figures, thresholds = learners.measure_focal(learner, watched, layout)
        grammar = replace(checkpoint.grammar, thresholds=thresholds)
        final = place.folder / ("adapter" if stage.tune == "lora" else "checkpoint")
        partial = final.with_name("partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        if stage.tune == "lora":
            checkpoint.model.save_pretrained(str(partial))
            grammar.save(partial)
        else:
            save_checkpoint(checkpoint.model, checkpoint.tokenizer, grammar, pixels, partial)
        if head is not None:
            save_tensors(head.state_dict(), place.folder / "head.safetensors")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        _finish(place, stage, noted, figures)
    _together()


def _start(
    stage: FocalStage, out: Path, model: str | None, adapter: Path | None, faces: Faces
) -> tuple[Checkpoint, DenseHead | None, dict[str, Any]]:
    """What a stage trains: checkpoint, dense head, and the checkpoint's preprocessor settings."""
    if model is None:
        if stage.tune == "lora":
            raise SettingsError(f"{stage.name}: adapters (tune: lora) need a model to sit on; name one with --model")
        tokenizer = build_tokenizer()
        checkpoint = Checkpoint("nano", speed_up(build_model(tokenizer)), tokenizer, GRAMMAR, MEAN, STD)
        pixels = PIXELS
    else:
        checkpoint = open_checkpoint(model, device="auto")
        pixels = json.loads((locate(model) / "preprocessor_config.json").read_text())
        known = tuple(au for au in checkpoint.grammar.aus if au in AUS_LABELLED)
        checkpoint = replace(checkpoint, grammar=replace(checkpoint.grammar, aus=known))
    head = None
    kept = Path(model).parent / "head.safetensors" if model else None
    if stage.dense or (kept and kept.is_file()):  # a stage without dense learning hands the head on
        vision = checkpoint.model.config.vision_config
        tokens = (build_prefix(checkpoint.model, checkpoint.tokenizer, checkpoint.grammar)).image
        head = DenseHead(tokens.stop - tokens.start, vision.out_hidden_size, len(faces.blendshape_names))
        if kept and kept.is_file():
            head.load_state_dict(load_file(kept))
    tower = out / "tower" / "network.safetensors"
    if model is None and tower.is_file():
        dense = DenseTower(len(faces.blendshape_names))
        dense.load_state_dict(load_file(tower))
        checkpoint.model.model.visual.load_state_dict(dense.tower.state_dict())
        head = dense.head if stage.dense else None
    if stage.tune == "lora":
        checkpoint = replace(checkpoint, model=adapted(checkpoint.model, stage.rank, adapter))
    checkpoint.model.train()
    return checkpoint, head, pixels


def _learner(
    stage: FocalStage, out: Path, checkpoint: Checkpoint, head: DenseHead | None, faces: Faces
) -> tuple[Layout, learners.FocalLearner]:
    teacher = None
    if stage.taught:
        file = out / "teacher" / "network.safetensors"
        if not file.is_file():
            raise SettingsError(f"{stage.name}: taught is above 0, but {file} is missing; train the teacher first, or set taught to 0")
        teacher = Teacher(len(faces.blendshape_names))
        teacher.load_state_dict(load_file(file))
    core = checkpoint.model.get_base_model() if stage.tune == "lora" else checkpoint.model
    prefix = build_prefix(core, checkpoint.tokenizer, checkpoint.grammar)
    layout = Layout(checkpoint.tokenizer, checkpoint.grammar, prefix)
    active = torch.from_numpy((faces.aus & faces.aus_known).sum(0) / faces.aus_known.sum(0).clip(1)).float().clamp(1e-3, 1 - 1e-3)
    return layout, learners.FocalLearner(checkpoint, layout.slots, prefix, stage, active, head, teacher)


def _schedule(training: Training) -> Schedule:
    return Schedule(training.samples, training.batch, training.seed, save_every=training.save_every)


def _finish(place: Place, training: Training, noted: list[dict[str, float]], figures: dict[str, float]) -> None:
    """The log, the curves, and at last what says that a training is done; its states go."""
    write_log(training.name, noted, figures, training.samples, training.batch, place.folder)
    place.figures.write_text(json.dumps(figures, indent=1) + "\n")
    shutil.rmtree(place.folder / "state", ignore_errors=True)


def _ship(checkpoint: Path, folder: Path) -> None:
    """A stage's checkpoint as it is given away: for colour pictures, in bfloat16."""
    opened = open_checkpoint(str(checkpoint), device="cpu")
    model = copy.deepcopy(opened.model)
    grey_to_colour(model)
    partial = folder.with_name("nano.partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_checkpoint(model.to(torch.bfloat16), opened.tokenizer, opened.grammar, PIXELS, partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _leads() -> bool:
    """Whether this process writes the results; others of the same training only compute."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _together() -> None:
    """Wait for the other processes of the same training."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
