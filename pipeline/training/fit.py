"""One training, by `transformers.Trainer`: resumable to the same weights, averaged, with every figure in a Parquet log and as curves.

A learner is a module that takes a batch and returns the parts of its loss; everything that is drawn at random for a batch follows from
the numbers of its samples, so that a training which was killed goes on over the very same batches.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

AVERAGING = 0.998
"""Decay of the weights' running average, a step; nearer to 1 averages over more steps and lags more behind."""

BETAS = (0.9, 0.98)
"""AdamW's; the second one shorter than its default, as trainings here are."""

WARM_UP = 0.06
"""Share of the steps over which the rates rise; then they fall to zero as half a cosine."""

DECAY = 0.05
"""AdamW's pull of matrices towards zero; vectors have none."""

NOTE_EVERY = 25
"""Steps between two notes of a training at most; each is the mean since the one before."""

_COMPLETE = "complete"
_WEIGHTS = "learner.safetensors"
_AVERAGE = "average.safetensors"


class Learner(nn.Module, ABC):
    """What `fit` trains. `forward(**batch)` returns the parts of the loss, name -> scalar."""

    @abstractmethod
    def rates(self) -> dict[str, float]:
        """Learning rate by the beginning of a parameter's name; the longest beginning that fits counts."""

    def carried(self) -> dict[str, torch.Tensor]:
        """What training changes: trained parameters and buffers, each tensor once."""
        kept = set(self.state_dict())
        own = {name: value for name, value in self.named_parameters() if value.requires_grad}
        return own | {name: value for name, value in self.named_buffers() if name in kept}


@dataclass(frozen=True)
class Schedule:
    """How long, in what steps, and how often to keep and to note.

    Attributes:
        samples: faces to see; the last unfull batch is dropped.
        batch: faces a step.
        seed: of what the learner draws itself (dropout).
        save_every: steps between two states on the disk.
    """

    samples: int
    batch: int
    seed: int = 0
    save_every: int = 200

    @property
    def note_every(self) -> int:
        """Steps between two notes; states are kept where one is due, so that a resumed curve has the same points."""
        return max(steps for steps in range(1, NOTE_EVERY + 1) if self.save_every % steps == 0)


class Average:
    """The running average of what a learner carries; its memory is short at first, so that it forgets where it began."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self.values = {name: value.detach().clone() for name, value in learner.carried().items()}
        self.count = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the learner's present state."""
        decay = min(AVERAGING, (1 + self.count) / (10 + self.count))
        self.count += 1
        for name, value in self._learner.carried().items():
            kept = self.values[name]
            if kept.device != value.device:
                kept = self.values[name] = kept.to(value.device)
            if kept.is_floating_point():
                kept.lerp_(value.detach().to(kept.dtype), 1 - decay)
            else:
                kept.copy_(value)

    def apply(self) -> None:
        """Make the average the learner's state."""
        self._learner.load_state_dict(self.values, strict=False)


def fit(
    learner: Learner,
    samples: Dataset[Any],
    collate: Callable[[Sequence[Any]], Mapping[str, Any]],
    folder: Path,
    schedule: Schedule,
    say: Callable[[str], None] = print,
) -> list[dict[str, float]]:
    """Train a learner; a second call goes on where the first one was stopped. Ends with the averaged weights in the learner.

    Args:
        samples: exactly `schedule.samples` of them, seen once, in order.
        collate: samples to a batch; must not draw from any random state of the process.
        folder: keeps the states of an unfinished training.
        say: told how it goes.

    Returns:
        What was noted: for each noted step its figures.
    """
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=schedule.batch,
        num_train_epochs=1,
        learning_rate=max(learner.rates().values()),
        lr_scheduler_type="cosine",
        warmup_steps=WARM_UP,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        seed=schedule.seed,
        logging_steps=schedule.note_every,
        logging_first_step=True,
        save_steps=schedule.save_every,
        save_total_limit=2,
        dataloader_drop_last=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        ddp_find_unused_parameters=True,  # a step without questions leaves the language model alone
        report_to="none",
        disable_tqdm=True,
    )
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    average = Average(learner)
    trainer = _Trainer(model=learner, args=arguments, train_dataset=samples, data_collator=collate)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Keeping(average, schedule, say))
    begun = last_state(folder)
    if begun is not None:
        say(f"going on after {begun.name.removeprefix('checkpoint-')} steps")
    trainer.train(resume_from_checkpoint=str(begun) if begun else None)
    average.apply()
    return [row for row in trainer.state.log_history if "loss" in row]


def last_state(folder: Path) -> Path | None:
    """The newest whole state of an unfinished training."""
    states = [path.parent for path in folder.glob(f"checkpoint-*/{_COMPLETE}")]
    return max(states, key=lambda path: int(path.name.partition("-")[2]), default=None)


class _Trainer(Trainer):
    """`Trainer` over a `Learner`: its parts of the loss, its rates, its weights in one safetensors file, samples in their order."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._parts: dict[str, list[float]] = {}

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        rates = self.model.rates()
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, value in self.model.named_parameters():
            if value.requires_grad:
                rate = rates[max((start for start in rates if name.startswith(start)), key=len)]
                groups.setdefault((rate, DECAY if value.ndim > 1 else 0.0), []).append(value)
        self.optimizer = torch.optim.AdamW(
            [{"params": values, "lr": rate, "weight_decay": decay} for (rate, decay), values in groups.items()], betas=BETAS, fused=True
        )
        return self.optimizer

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        parts = model(**inputs)
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(float(value.detach()))
        total = torch.stack([value.float() for value in parts.values()]).sum()
        return (total, parts) if return_outputs else total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        parts = {name: sum(values) / len(values) for name, values in self._parts.items() if values}
        self._parts = {}
        super().log({**logs, **parts} if "loss" in logs else logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            Path(output_dir or self.args.output_dir).mkdir(parents=True, exist_ok=True)
            save_tensors(self.model.carried(), Path(output_dir or self.args.output_dir) / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        (model or self.model).load_state_dict(load_file(Path(resume_from_checkpoint) / _WEIGHTS), strict=False)


class _Keeping(TrainerCallback):
    """Averages after each step, says what was noted, and marks a state as whole once all of it is on the disk."""

    def __init__(self, average: Average, schedule: Schedule, say: Callable[[str], None]) -> None:
        self._average, self._schedule, self._say = average, schedule, say
        self._begun, self._first = 0.0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begun, self._first = time.perf_counter(), state.global_step
        if state.global_step:
            kept = load_file(Path(args.output_dir) / f"checkpoint-{state.global_step}" / _AVERAGE)
            self._average.count = state.global_step
            self._average.values.update(kept)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._average.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            speed = self._schedule.batch * (state.global_step - self._first) / (time.perf_counter() - self._begun)
            skip = {"grad_norm", "learning_rate", "epoch"}
            parts = " ".join(f"{name} {value:.3f}" for name, value in logs.items() if name not in skip)
            self._say(f"step {state.global_step}/{state.max_steps} {parts} {speed:.0f} faces/s")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_tensors(self._average.values, folder / _AVERAGE)
            (folder / _COMPLETE).touch()


def save_tensors(values: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in values.items()}, partial)
    partial.replace(path)


def write_log(
    stage: str, noted: Sequence[Mapping[str, float]], figures: Mapping[str, float], samples: int, batch: int, folder: Path
) -> None:
    """Every figure of a stage as a tidy table `log.parquet` (stage, step, samples, name, value), and as curves in `curves.png`.

    Args:
        noted: what `fit` returned.
        figures: what was measured at the end, noted at the last step under `val_<name>`.
        samples: faces seen in all.
    """
    rows = [
        (stage, int(row["step"]), int(row["step"]) * batch, name, float(value))
        for row in noted
        for name, value in row.items()
        if name != "step"
    ]
    last = samples // batch
    rows += [(stage, last, samples, f"val_{name}", float(value)) for name, value in figures.items()]
    columns = ("stage", "step", "samples", "name", "value")
    rows.sort(key=lambda row: (row[1], row[3]))
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(columns)})
    partial = folder / "log.partial"
    pq.write_table(table, partial, compression="zstd")
    partial.replace(folder / "log.parquet")
    _curves(stage, noted, batch, folder / "curves.png")


def _curves(stage: str, noted: Sequence[Mapping[str, float]], batch: int, path: Path) -> None:
    from matplotlib.figure import Figure

    names = [name for name in dict.fromkeys(name for row in noted for name in row) if name not in {"step", "epoch"}]
    columns = 3
    rows = max(1, -(-len(names) // columns))
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, number + 1)
        seen = [(row["step"] * batch, row[name]) for row in noted if name in row]
        axes.plot(*zip(*seen, strict=True), color="#0072B2", linewidth=1.4)
        axes.set_title(name.replace("_", " "), fontsize=10, loc="left")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if number >= len(names) - columns:
            axes.set_xlabel("faces seen")
    figure.suptitle(stage, x=0.01, ha="left", fontsize=12)
    figure.savefig(path, dpi=110)
