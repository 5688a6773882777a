"""Runs training stages in order, from a dataset to a checkpoint that the describer opens.

`train` is the entry point. Each stage has a folder (`StageFolder`); a finished stage is never repeated, an interrupted one resumes.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.describe.checkpoints import Checkpoint, locate, open_checkpoint
from pipeline.describe.prefix import build_prefix
from pipeline.describe.vision_tower import speed_up
from pipeline.storage.atomic import replacing
from pipeline.training.batches import DenseCollator, FocalCollator, SampleOrder
from pipeline.training.conversation_trees import ConversationLayout
from pipeline.training.dense_supervision import DenseHead
from pipeline.training.labelled_faces import LabelledFaces, load_faces
from pipeline.training.lora import with_lora
from pipeline.training.nano import (
    GRAMMAR,
    MEAN,
    PREPROCESSOR_CONFIG,
    STD,
    DenseTower,
    build_model,
    build_tokenizer,
    inherit_weights,
    save_checkpoint,
)
from pipeline.training.objectives import DenseObjective, FocalObjective
from pipeline.training.preconditions import check_preconditions
from pipeline.training.stage_folder import StageFolder, identity
from pipeline.training.stage_settings import DenseStage, FocalStage, Stage
from pipeline.training.teacher import Teacher
from pipeline.training.training_log import write_log
from pipeline.training.training_loop import Schedule, fit, save_tensors
from pipeline.training.validation import validate_dense, validate_focal
from pipeline.vocabulary import AUS_LABELLED

VALIDATION_FACES = 2000
"""Most validation faces measured at the end of a stage; more give surer figures and take longer."""

_NETWORKS: dict[str, type[nn.Module]] = {"teacher": Teacher, "tower": DenseTower}


def train(
    stages: Sequence[Stage],
    data: Path,
    out: Path,
    model: str | None = None,
    adapter: Path | None = None,
    limit: int | None = None,
    log: Callable[[str], None] = print,
    inherit: str | None = None,
) -> Path:
    """Run stages in order. The same call resumes an interrupted training.

    Args:
        stages: their settings, see `pipeline.training.stage_settings.load_stage`.
        data: a dataset folder that `focalface dataset build` wrote, with the splits `train` and `val`.
        out: gets one folder per stage. Stages that earlier calls finished there are not repeated.
        model: checkpoint that the first focal stage starts from; None for a new nano. Each later stage starts from the one before it.
        adapter: LoRA adapter to continue with, for stages with `tune: lora`.
        limit: maximum number of faces of each split.
        log: receives one line per event.
        inherit: checkpoint with nano's shape whose weights a new nano starts with, `pipeline.training.nano.inherit_weights`.

    Returns:
        The last checkpoint or adapter folder, or the file of a dense network.

    Raises:
        FocalfaceError: when data, the model or what a stage needs is missing, or a folder holds a training with other settings.
    """
    check_preconditions(stages, data, out, model, adapter, limit, inherit)
    faces = load_faces(data, "train", limit)
    validation = load_faces(data, "val", min(limit or VALIDATION_FACES, VALIDATION_FACES))
    log(f"{len(faces)} faces to train on, {len(validation)} for validation")
    new_nano = model is None
    result = out
    for stage in stages:
        folder = StageFolder(out, stage.name)
        result = folder.result(stage)
        if not folder.figures.exists():
            log(f"== {stage.name}: {stage.samples} faces")
            if _is_main_process():
                folder.write_settings(identity(stage, data, model, limit, inherit))
            if isinstance(stage, DenseStage):
                _train_dense(stage, folder, faces, validation, log, inherit)
            else:
                _train_focal(stage, folder, faces, validation, model, adapter, log, inherit)
        if isinstance(stage, FocalStage):
            if stage.tune == "lora":
                adapter = result
            else:
                model = str(result)
        log(f"{stage.name}: " + " ".join(f"{name}={value:.3f}" for name, value in json.loads(folder.figures.read_text()).items()))
    if new_nano and isinstance(stages[-1], FocalStage) and stages[-1].tune == "full":
        if _is_main_process():
            _export_nano(result, out / "nano")
        _wait_for_all()
        return out / "nano"
    return result


def _train_dense(
    stage: DenseStage,
    folder: StageFolder,
    faces: LabelledFaces,
    validation: LabelledFaces,
    log: Callable[[str], None],
    inherit: str | None,
) -> None:
    torch.manual_seed(stage.seed)
    network = _NETWORKS[stage.network](len(faces.blendshape_names))
    if inherit and isinstance(network, DenseTower):
        network.tower.load_state_dict(open_checkpoint(inherit, device="cpu").model.model.visual.state_dict())
    samples = SampleOrder(len(faces), stage.samples, stage.sampling_seed)
    objective = DenseObjective(network, stage.learning_rate, _teacher(stage, folder.out, faces), stage.teacher_share)
    logged = fit(
        objective, samples, DenseCollator(faces, stage), folder.states, _schedule(stage), log, lambda: validate_dense(network, validation)
    )
    if _is_main_process():
        save_tensors(network.state_dict(), folder.network)
        _finish(folder, stage, logged, validate_dense(network.cpu(), validation))
    _wait_for_all()


def _train_focal(
    stage: FocalStage,
    folder: StageFolder,
    faces: LabelledFaces,
    validation: LabelledFaces,
    model: str | None,
    adapter: Path | None,
    log: Callable[[str], None],
    inherit: str | None,
) -> None:
    torch.manual_seed(stage.seed)
    checkpoint, head, preprocessor = _starting_point(stage, folder.out, model, adapter, faces, inherit)
    layout, objective = _objective(stage, folder.out, checkpoint, head, faces)
    samples = SampleOrder(len(faces), stage.samples, stage.sampling_seed)
    collate = FocalCollator(faces, stage, layout)
    logged = fit(
        objective, samples, collate, folder.states, _schedule(stage), log, lambda: validate_focal(objective, validation, layout)[0]
    )
    if _is_main_process():
        objective.cpu()
        figures, calibration = validate_focal(objective, validation, layout)
        grammar = replace(checkpoint.grammar, thresholds=calibration.thresholds, age_temperature=calibration.age_temperature)
        if head is not None:
            save_tensors(head.state_dict(), folder.path / "head.safetensors")
        final = folder.result(stage)
        shutil.rmtree(final, ignore_errors=True)
        with replacing(final) as temporary:
            temporary.mkdir()
            if stage.tune == "lora":
                checkpoint.model.save_pretrained(str(temporary))
                grammar.save(temporary)
            else:
                save_checkpoint(checkpoint.model, checkpoint.tokenizer, grammar, preprocessor, temporary)
        _finish(folder, stage, logged, figures)
    _wait_for_all()


def _starting_point(
    stage: FocalStage, out: Path, model: str | None, adapter: Path | None, faces: LabelledFaces, inherit: str | None
) -> tuple[Checkpoint, DenseHead | None, dict[str, Any]]:
    """The checkpoint and dense head that a stage trains, and the checkpoint's preprocessor settings."""
    if model is None:
        tokenizer = build_tokenizer()
        network = build_model(tokenizer)
        if inherit:
            earlier = open_checkpoint(inherit, device="cpu")
            inherit_weights(network, tokenizer, earlier.model, earlier.tokenizer)
        checkpoint = Checkpoint("nano", speed_up(network), tokenizer, GRAMMAR, MEAN, STD)
        preprocessor = PREPROCESSOR_CONFIG
    else:
        checkpoint = open_checkpoint(model, device="auto")
        preprocessor = json.loads((locate(model) / "preprocessor_config.json").read_text())
        known = tuple(au for au in checkpoint.grammar.aus if au in AUS_LABELLED)
        checkpoint = replace(checkpoint, grammar=replace(checkpoint.grammar, aus=known))
    head = None
    saved_head = Path(model).parent / "head.safetensors" if model else None
    if stage.dense_weight or (saved_head and saved_head.is_file()):  # a stage without dense supervision passes the head on
        vision = checkpoint.model.config.vision_config
        image = build_prefix(checkpoint.model, checkpoint.tokenizer, checkpoint.grammar).image
        head = DenseHead(image.stop - image.start, vision.out_hidden_size, len(faces.blendshape_names))
        if saved_head and saved_head.is_file():
            head.load_state_dict(load_file(saved_head))
    tower = StageFolder(out, "tower").network
    if model is None and tower.is_file():
        dense = DenseTower(len(faces.blendshape_names))
        dense.load_state_dict(load_file(tower))
        checkpoint.model.model.visual.load_state_dict(dense.tower.state_dict())
        head = dense.head if stage.dense_weight else None
    if stage.tune == "lora":
        checkpoint = replace(checkpoint, model=with_lora(checkpoint.model, stage.lora_rank, adapter))
    checkpoint.model.train()
    return checkpoint, head, preprocessor


def _objective(
    stage: FocalStage, out: Path, checkpoint: Checkpoint, head: DenseHead | None, faces: LabelledFaces
) -> tuple[ConversationLayout, FocalObjective]:
    core = checkpoint.model.get_base_model() if stage.tune == "lora" else checkpoint.model
    prefix = build_prefix(core, checkpoint.tokenizer, checkpoint.grammar)
    layout = ConversationLayout(checkpoint.tokenizer, checkpoint.grammar, prefix)
    prevalence = (faces.aus & faces.aus_known).sum(0) / faces.aus_known.sum(0).clip(1)  # [A]
    prevalence = torch.from_numpy(prevalence).float().clamp(1e-3, 1 - 1e-3)
    return layout, FocalObjective(checkpoint, layout.slots, prefix, stage, prevalence, head, _teacher(stage, out, faces))


def _teacher(stage: Stage, out: Path, faces: LabelledFaces) -> Teacher | None:
    """The trained teacher, if it sets targets of this stage."""
    if not stage.teacher_share:
        return None
    teacher = Teacher(len(faces.blendshape_names))
    teacher.load_state_dict(load_file(StageFolder(out, "teacher").network))
    return teacher


def _schedule(stage: Stage) -> Schedule:
    checks = max(1, stage.check_every // stage.batch)
    return Schedule(stage.samples, stage.batch, stage.seed, stage.save_every, stage.patience, checks, stage.cool_down)


def _finish(folder: StageFolder, stage: Stage, logged: list[dict[str, float]], figures: dict[str, float]) -> None:
    """Write the log, then the file that marks the stage as finished; remove its states."""
    write_log(stage.name, logged, figures, stage.samples, stage.batch, folder.path)
    folder.figures.write_text(json.dumps(figures, indent=1) + "\n")
    shutil.rmtree(folder.states, ignore_errors=True)


def _export_nano(checkpoint: Path, folder: Path) -> None:
    """Convert a stage's checkpoint for release: in bfloat16."""
    opened = open_checkpoint(str(checkpoint), device="cpu")
    model = copy.deepcopy(opened.model)
    shutil.rmtree(folder, ignore_errors=True)
    with replacing(folder) as temporary:
        save_checkpoint(model.to(torch.bfloat16), opened.tokenizer, opened.grammar, PREPROCESSOR_CONFIG, temporary)


def _is_main_process() -> bool:
    """Whether this process writes the results; the other processes of a distributed training only compute."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _wait_for_all() -> None:
    """Wait for the other processes of a distributed training."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
