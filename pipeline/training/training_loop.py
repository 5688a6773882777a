"""The training loop: `transformers.Trainer`, resumable to the same weights, with an exponential moving average of the weights.

All randomness of a batch depends only on the numbers of its samples, so that a resumed training sees the batches of an uninterrupted one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from pipeline.execution.interrupts import noted_interrupts
from pipeline.storage.atomic import replacing
from pipeline.training.objectives import Objective
from pipeline.training.stage_folder import COMPLETE, last_state

AVERAGE_DECAY = 0.998
"""Decay per step of the moving average of the weights; nearer to 1 averages over more steps and lags further behind."""

BETAS = (0.9, 0.98)
"""AdamW's betas; the second one is below its default because stages are short."""

WARM_UP = 0.06
"""Share of the steps over which the learning rates rise; after that they fall to zero as half a cosine."""

FIXED_WARM_UP = 200
"""Steps over which the rate rises in stages that end by their figures; their number of steps is not known beforehand."""

WEIGHT_DECAY = 0.05
"""AdamW's weight decay of matrices; vectors have none."""

LOG_EVERY = 25
"""Most steps between two logged rows; a row is the mean since the row before."""

_WEIGHTS = "learner.safetensors"
_AVERAGE = "average.safetensors"

CHECKED = "check_score"
"""Figure of a check in the log."""


@dataclass(frozen=True)
class Schedule:
    """Length of a training, and how often it is saved and logged.

    Attributes:
        samples: faces to see; the last incomplete batch is dropped.
        batch: faces per step.
        seed: seed of the randomness inside the network (dropout).
        save_every: steps between two saved states.
        patience: checks without a rise of the figure after which the rate falls to zero; 0: no checks, the rate falls as half a cosine.
        check_every: steps between two checks.
        cool_down: share of the whole, at its end, in which the rate falls linearly; only with `patience`.
    """

    samples: int
    batch: int
    seed: int = 0
    save_every: int = 200
    patience: int = 0
    check_every: int = 100
    cool_down: float = 0.2

    @property
    def log_every(self) -> int:
        """Steps between two logged rows. It divides `save_every`, so that a resumed training logs at the same steps.

        >>> Schedule(samples=64000, batch=64, save_every=200).log_every
        25
        """
        return max(steps for steps in range(1, LOG_EVERY + 1) if self.save_every % steps == 0)


class MovingAverage:
    """Exponential moving average of an objective's trained state. The decay is small at first, so that the initial weights fade fast."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self.values = {name: value.detach().clone() for name, value in objective.trained_state().items()}
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Include the objective's present state."""
        decay = min(AVERAGE_DECAY, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in self._objective.trained_state().items():
            average = self.values[name]
            if average.device != value.device:
                average = self.values[name] = average.to(value.device)
            if average.is_floating_point():
                average.lerp_(value.detach().to(average.dtype), 1 - decay)
            else:
                average.copy_(value)

    def apply(self) -> None:
        """Copy the average into the objective."""
        self._objective.load_state_dict(self.values, strict=False)


@dataclass
class Plateau:
    """The learning rate of a stage that ends when its figure stops rising: constant, then falling linearly to zero.

    The rate falls once the best figure is `patience` checks old, or when the longest stage must begin to. Everything follows from the
    figures checked so far, so that a resumed training ends as an uninterrupted one.

    Args:
        schedule: with a `patience`.
        figures: (step, figure) of each check.

    >>> plateau = Plateau(Schedule(samples=10_000, batch=10, patience=2, check_every=100, cool_down=0.5))
    >>> for step, figure in [(100, 0.3), (200, 0.5), (300, 0.5), (400, 0.4)]:
    ...     plateau.add(step, figure)
    >>> plateau.cooling, plateau.factor(600), plateau.last_step
    (400, 0.5, 800)
    """

    schedule: Schedule
    figures: list[tuple[int, float]] = field(default_factory=list)

    def add(self, step: int, figure: float) -> None:
        """Include a check."""
        self.figures.append((step, figure))

    @property
    def cooling(self) -> int:
        """The step after which the rate falls, as far as the checks tell."""
        schedule = self.schedule
        best, best_check = -math.inf, 0
        for number, (step, figure) in enumerate(self.figures):
            if figure > best:
                best, best_check = figure, number
            if number - best_check >= schedule.patience:
                return min(step, self._latest)
        return self._latest

    @property
    def _latest(self) -> int:
        return round(self.schedule.samples // self.schedule.batch * (1 - self.schedule.cool_down))

    @property
    def last_step(self) -> int:
        """The step after which the stage ends."""
        return max(self.cooling + 1, round(self.cooling / (1 - min(self.schedule.cool_down, 0.9))))

    def factor(self, step: int) -> float:
        """The learning rate after `step` steps, as a share of its peak."""
        warm = min(1.0, (step + 1) / FIXED_WARM_UP)
        return warm * min(1.0, max(0.0, (self.last_step - step) / (self.last_step - self.cooling)))


def fit(
    objective: Objective,
    samples: Dataset[Any],
    collate: Callable[[Sequence[Any]], Mapping[str, Any]],
    folder: Path,
    schedule: Schedule,
    log: Callable[[str], None] = print,
    check: Callable[[], dict[str, float]] | None = None,
) -> list[dict[str, float]]:
    """Train an objective, or resume its interrupted training. At the end the objective holds the averaged weights.

    Ctrl-C or SIGTERM ends it after the step, with a saved state; a second one at once, and so does the first where several processes train.

    Args:
        samples: exactly `schedule.samples` samples, each seen once, in order.
        collate: samples -> batch; must not use any random state of the process.
        folder: where states of an unfinished training are saved.
        log: receives one line per logged step.
        check: figures of the objective on other faces, among them `score`; measured with the averaged weights every
            `schedule.check_every` steps of a schedule with `patience`.

    Returns:
        The figures of each logged step and of each check.

    Raises:
        KeyboardInterrupt: it was told to stop.
    """
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=schedule.batch,
        num_train_epochs=1,
        learning_rate=max(objective.learning_rates().values()),
        lr_scheduler_type="cosine",
        warmup_steps=WARM_UP,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        seed=schedule.seed,
        logging_steps=schedule.log_every,
        logging_first_step=True,
        save_steps=schedule.save_every,
        save_total_limit=2,
        dataloader_drop_last=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        ddp_find_unused_parameters=True,  # a step without questions does not use the language model
        report_to="none",
        disable_tqdm=True,
    )
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    average = MovingAverage(objective)
    plateau = Plateau(schedule) if schedule.patience and check else None
    trainer = _Trainer(model=objective, args=arguments, train_dataset=samples, data_collator=collate, plateau=plateau)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_SaveAndLog(average, schedule, log))
    if plateau and check:
        trainer.add_callback(_Check(objective, average, plateau, check, log))
    state = last_state(folder)
    if state is not None:
        log(f"resuming after {state.name.removeprefix('checkpoint-')} steps")
    # A first signal is noted, and `_Stop` saves the step that it came in. Processes that train together would stop after different steps.
    with noted_interrupts(most=1 if arguments.world_size == 1 else 0) as requests:
        trainer.add_callback(_Stop(requests))
        trainer.train(resume_from_checkpoint=str(state) if state else None)
    if requests:
        raise KeyboardInterrupt
    average.apply()
    return [row for row in trainer.state.log_history if "loss" in row or CHECKED in row]


class _Trainer(Trainer):
    """`Trainer` for an `Objective`: sums its losses, uses its learning rates, saves its trained state, keeps the order of the samples."""

    def __init__(self, plateau: Plateau | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._losses: dict[str, list[float]] = {}
        self._plateau = plateau

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        rates = self.model.learning_rates()
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, value in self.model.named_parameters():
            if value.requires_grad:
                rate = rates[max((prefix for prefix in rates if name.startswith(prefix)), key=len)]
                groups.setdefault((rate, WEIGHT_DECAY if value.ndim > 1 else 0.0), []).append(value)
        self.optimizer = torch.optim.AdamW(
            [{"params": values, "lr": rate, "weight_decay": decay} for (rate, decay), values in groups.items()], betas=BETAS, fused=True
        )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self._plateau is None:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, self._plateau.factor)
        return self.lr_scheduler

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        losses = model(**inputs)
        for name, value in losses.items():
            self._losses.setdefault(name, []).append(float(value.detach()))
        total = torch.stack([value.float() for value in losses.values()]).sum()
        return (total, losses) if return_outputs else total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        means = {name: sum(values) / len(values) for name, values in self._losses.items() if values}
        self._losses = {}
        super().log({**logs, **means} if "loss" in logs else logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            Path(output_dir or self.args.output_dir).mkdir(parents=True, exist_ok=True)
            save_tensors(self.model.trained_state(), Path(output_dir or self.args.output_dir) / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        (model or self.model).load_state_dict(load_file(Path(resume_from_checkpoint) / _WEIGHTS), strict=False)


class _SaveAndLog(TrainerCallback):
    """Updates the average after each step, logs, and marks a saved state as complete once all of its files are written."""

    def __init__(self, average: MovingAverage, schedule: Schedule, log: Callable[[str], None]) -> None:
        self._average, self._schedule, self._log = average, schedule, log
        self._started, self._first_step = 0.0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started, self._first_step = time.perf_counter(), state.global_step
        if state.global_step:
            saved = load_file(Path(args.output_dir) / f"checkpoint-{state.global_step}" / _AVERAGE)
            self._average.steps = state.global_step
            self._average.values.update(saved)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._average.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            speed = self._schedule.batch * (state.global_step - self._first_step) / (time.perf_counter() - self._started)
            skip = {"grad_norm", "learning_rate", "epoch"}
            losses = " ".join(f"{name} {value:.3f}" for name, value in logs.items() if name not in skip)
            self._log(f"step {state.global_step}/{state.max_steps} {losses} {speed:.0f} faces/s")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_tensors(self._average.values, folder / _AVERAGE)
            (folder / COMPLETE).touch()


class _Stop(TrainerCallback):
    """Ends the training after the step in which a signal to stop came, with a saved state."""

    def __init__(self, requests: Sequence[int]) -> None:
        self._requests = requests

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._requests:
            control.should_training_stop = control.should_save = True


class _Check(TrainerCallback):
    """Measures the averaged weights now and then, and ends the stage when `Plateau` says so."""

    def __init__(
        self,
        objective: Objective,
        average: MovingAverage,
        plateau: Plateau,
        check: Callable[[], dict[str, float]],
        log: Callable[[str], None],
    ) -> None:
        self._objective, self._average, self._plateau = objective, average, plateau
        self._check, self._log = check, log

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for row in state.log_history:
            if CHECKED in row:
                self._plateau.add(row["step"], row[CHECKED])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step
        if step % self._plateau.schedule.check_every == 0:
            own = {name: value.detach().clone() for name, value in self._objective.trained_state().items()}
            self._average.apply()
            figures = self._check()
            self._objective.load_state_dict(own, strict=False)
            self._objective.train()
            state.log_history.append({"step": step, **{f"check_{name}": value for name, value in figures.items()}})
            self._plateau.add(step, figures["score"])
            self._log(f"check after {step} steps: " + " ".join(f"{name}={value:.3f}" for name, value in figures.items()))
        if step >= self._plateau.last_step:
            control.should_training_stop = True


def save_tensors(values: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a safetensors file that appears complete or not at all."""
    with replacing(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in values.items()}, temporary)
