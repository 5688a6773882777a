"""Checks before a training: everything that its stages need is there, or will be made by an earlier stage.

Nothing is created here. The checks import neither torch nor transformers, so that a wrong command is answered at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.dataset.schema import INFO
from pipeline.describe.checkpoints import locate, locate_adapter
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.training.stage_folder import StageFolder, identity
from pipeline.training.stage_settings import DenseStage, FocalStage, Stage

SPLITS = ("train", "val")


def split_files(data: Path, split: str) -> list[Path]:
    """The Parquet files of one split of a dataset.

    Raises:
        FocalfaceError: there are none; the message says whether the dataset or only the split is missing.
    """
    files = sorted((data / split).glob("*.parquet"))
    if files:
        return files
    if (data / INFO).is_file():
        raise FocalfaceError(
            f"{data}: none of its faces has the split {split}, which comes from the sources' column `split`;"
            f" build it from sources that have {split} rows as well"
        )
    raise FocalfaceError(f"{data}: no {split} faces there; make the dataset with: focalface dataset build FACES.parquet --out {data}")


def check_preconditions(
    stages: Sequence[Stage],
    data: Path,
    out: Path,
    model: str | None = None,
    adapter: Path | None = None,
    limit: int | None = None,
    inherit: str | None = None,
) -> None:
    """Check all stages before the first one starts.

    Args:
        stages, data, out, model, adapter, limit, inherit: as for `pipeline.training.run_stages.train`.

    Raises:
        FocalfaceError: what is missing or contradictory, and what to do about it.
    """
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise SettingsError("two stages have the same name; each needs a folder of its own")
    for split in SPLITS:
        split_files(data, split)
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {out} is a file; name a folder")
    if model is not None and inherit is not None:
        raise SettingsError("--inherit is for a new nano; --model continues a checkpoint as it is")
    for checkpoint in (model, inherit):
        if checkpoint is not None:
            locate(checkpoint)
    if adapter is not None:
        if not any(isinstance(stage, FocalStage) and stage.tune == "lora" for stage in stages):
            raise SettingsError("--adapter is for stages with tune: lora, and none of these stages has it")
        locate_adapter(str(adapter))
    trained: set[str] = set()
    for stage in stages:
        folder = StageFolder(out, stage.name)
        folder.check_settings(identity(stage, data, model, limit, inherit))
        if isinstance(stage, FocalStage) and stage.tune == "lora" and model is None:
            raise SettingsError(f"{stage.name}: tune: lora needs a checkpoint to adapt; name one with --model")
        teacher = StageFolder(out, "teacher").network
        if stage.teacher_share and not folder.figures.exists() and "teacher" not in trained and not teacher.is_file():
            raise SettingsError(
                f"{stage.name}: teacher_share is above 0, but {teacher} is missing; train the teacher first "
                "(configs/train/0-teacher.yaml), or use --set teacher_share=0"
            )
        if isinstance(stage, DenseStage):
            trained.add(stage.name)
        elif stage.tune == "full":
            model = str(folder.result(stage))
