"""What a stage learns from its labels, and when it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.dataset.build import build
from pipeline.training.batches import DenseCollator
from pipeline.training.dense_supervision import (
    active_probability,
    age_loss,
    emotion_targets,
    expected_intensity,
    level_loss,
    level_targets,
)
from pipeline.training.labelled_faces import UNKNOWN, LabelledFaces, load_faces
from pipeline.training.objectives import Objective
from pipeline.training.stage_folder import last_state
from pipeline.training.stage_settings import DenseStage, FocalStage, load_stage
from pipeline.training.training_loop import Plateau, Schedule, fit
from pipeline.training.validation import interval_temperature
from pipeline.vocabulary import AUS_LABELLED

NAN = float("nan")
SOURCES = ("train-ferplus.parquet", "train-utk.parquet", "train-web.parquet")


@pytest.fixture(scope="module")
def faces(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelledFaces:
    folder = tmp_path_factory.mktemp("targets") / "faces"
    labels = shared / "faces" / "train-web-labels.parquet"
    build([shared / "faces" / name for name in SOURCES], folder, labels=labels, limit=24)
    return load_faces(folder, "train")


def test_the_labels_of_all_collections_are_read(faces: LabelledFaces) -> None:
    voted, aged, guessed = (faces.source == source for source in ("ferplus", "utk", "web"))
    assert np.nansum(faces.votes[voted], 1) == pytest.approx(np.ones(24), abs=1e-5)
    assert np.isnan(faces.votes[~voted]).all()
    assert not np.isnan(faces.age[aged]).any() and np.isnan(faces.age[~aged]).all()
    assert not np.isnan(faces.age_guess[guessed]).any() and np.isnan(faces.age_guess[~guessed]).all()
    assert ((faces.au_probability > 0.5) == faces.aus)[faces.aus_known].all()
    assert np.isnan(faces.au_probability[~faces.aus_known]).all() and (~faces.aus_known).any(), "unknown is not absent"
    gaze = [AUS_LABELLED.index(f"AU{number}") for number in (61, 62, 63, 64)]
    assert np.isnan(faces.au_intensity[:, gaze]).all(), "gaze has no intensity"
    colour = (faces.pixels[..., :1] != faces.pixels).any((1, 2, 3))
    assert colour[aged].mean() > 0.8 and not colour[voted].any()


def test_a_mirrored_face_looks_to_the_other_side(faces: LabelledFaces) -> None:
    left, right = (AUS_LABELLED.index(au) for au in ("AU61", "AU62"))
    others = [i for i in range(len(AUS_LABELLED)) if i not in (left, right)]
    rows = [(number, number) for number in range(len(faces))]
    batch, flip = DenseCollator(faces, DenseStage.model_validate({"name": "teacher", "network": "teacher", "samples": 10})).with_flips(rows)
    assert batch["crops"].shape == (len(faces), 3, 112, 112)
    assert flip.any() and not flip.all()
    told, own = batch["labels"]["au_probability"], torch.from_numpy(faces.au_probability)
    assert torch.equal(told[flip][:, [left, right]], own[flip][:, [right, left]])
    assert torch.equal(told[~flip][:, [left, right]], own[~flip][:, [left, right]])
    assert torch.equal(told[:, others].nan_to_num(-1), own[:, others].nan_to_num(-1))


def test_a_level_distribution_carries_probability_and_intensity() -> None:
    chance = np.random.default_rng(2)
    probability = torch.from_numpy(chance.uniform(0.01, 1, 500))
    intensity = probability * torch.from_numpy(chance.uniform(1, 5, 500))
    levels = level_targets(probability, intensity)
    assert torch.allclose(levels.sum(-1), torch.ones(500, dtype=torch.float64))
    assert torch.allclose(active_probability(levels.log()), probability)
    assert torch.allclose(expected_intensity(levels.log()), intensity)


def test_a_loss_falls_to_its_label_and_ignores_what_is_unknown() -> None:
    """Logits that follow the loss alone end at the labels; an unknown unit stays where it was."""
    logits = torch.zeros(3, 6, requires_grad=True)
    probability, intensity = torch.tensor([0.6, 0.3, NAN]), torch.tensor([1.5, NAN, NAN])
    optimizer = torch.optim.Adam([logits], 0.05)
    for _ in range(600):
        optimizer.zero_grad()
        level_loss(logits, probability, intensity).sum().backward()
        optimizer.step()
    learned = logits.detach()
    assert active_probability(learned)[:2].tolist() == pytest.approx([0.6, 0.3], abs=0.01)
    assert float(expected_intensity(learned)[0]) == pytest.approx(1.5, abs=0.05)
    assert learned[1, 1:].std() < 1e-4, "without an intensity no level is preferred"
    assert not learned[2].any()


def test_votes_are_the_target_where_there_are_any() -> None:
    votes = torch.full((2, 7), NAN)
    votes[0] = torch.tensor([0.0, 0.0, 0.3, 0.0, 0.1, 0.0, 0.6])
    targets = emotion_targets(torch.tensor([UNKNOWN, 3]), votes, 0.1)
    assert torch.equal(targets[0], votes[0])
    assert int(targets[1].argmax()) == 3 and float(targets[1].sum()) == pytest.approx(1)


def test_a_recorded_age_outweighs_a_guessed_one() -> None:
    """How strongly the loss pulls towards the year 30, beside another face of recorded age."""

    def pull(age: float, guess: float) -> float:
        scores = torch.zeros(2, 101, requires_grad=True)
        (slope,) = torch.autograd.grad(age_loss(scores, torch.tensor([age, 80.0]), torch.tensor([guess, NAN])), scores)
        return -float(slope[0, 30])

    assert pull(30.0, NAN) == pull(30.0, 60.0) > pull(NAN, 30.0) > 0
    assert pull(NAN, NAN) == 0


class Slope(Objective):
    """Learns that y = 2 x."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(1, 1)

    def learning_rates(self) -> dict[str, float]:
        return {"": 0.01}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"square": ((self.line(x) - 2 * x) ** 2).mean()}


class Numbers(torch.utils.data.Dataset[float]):
    """The same 4,000 numbers in every run."""

    def __len__(self) -> int:
        return 4000

    def __getitem__(self, number: int) -> float:
        return float(np.random.default_rng(number).normal())


SCHEDULE = Schedule(samples=4000, batch=10, save_every=10, patience=2, check_every=20, cool_down=0.25)


def batch_of(numbers: Sequence[float]) -> dict[str, torch.Tensor]:
    return {"x": torch.tensor(numbers)[:, None]}


def trained(folder: Path, check: Callable[[], dict[str, float]]) -> tuple[Slope, list[dict[str, float]]]:
    objective = Slope()
    rows = fit(objective, Numbers(), batch_of, folder, SCHEDULE, log=lambda line: None, check=check)
    return objective, rows


@pytest.mark.parametrize("claimed", [6.0, 12.0])
def test_the_age_interval_holds_its_share_whatever_the_model_claims(claimed: float) -> None:
    """Errors have a deviation of 8 years; the model claims three quarters of it, or half as much again."""
    chance = np.random.default_rng(3)
    truth = chance.uniform(20, 80, 600).round()
    answered = truth + chance.normal(0, 8, 600)
    distributions = np.exp(-(((np.arange(101) - answered[:, None]) / claimed) ** 2) / 2)
    distributions /= distributions.sum(1, keepdims=True)
    temperature, coverage = interval_temperature(distributions, truth)
    assert (temperature > 1) == (claimed < 8)
    assert coverage == pytest.approx(0.8, abs=0.05)


def test_no_temperature_is_fitted_to_a_few_ages() -> None:
    assert interval_temperature(np.full((100, 101), 1 / 101), np.where(np.arange(100) < 50, 30.0, NAN)) == (1.0, None)


def test_a_stage_ends_when_its_figure_stops_rising_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """Figures rise twice and then no more: after two checks without a rise the rate falls to zero."""
    figures = [0.1, 0.2, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2]

    def checks(stop_at: int | None = None, done: int = 0) -> Callable[[], dict[str, float]]:
        left = iter(figures[done:])

        def check() -> dict[str, float]:
            nonlocal done
            done += 1
            if done == stop_at:
                raise KeyboardInterrupt
            return {"score": next(left)}

        return check

    whole, rows = trained(tmp_path / "whole", checks())
    plateau = Plateau(SCHEDULE)
    for row in rows:
        if "check_score" in row:
            plateau.add(int(row["step"]), row["check_score"])
    last = max(int(row["step"]) for row in rows)
    assert plateau.cooling == 100 and plateau.last_step == 133, "the best figure is of step 60"
    assert 120 <= last <= 133 < len(Numbers()) // SCHEDULE.batch
    rates = {int(row["step"]): row["learning_rate"] for row in rows if "learning_rate" in row}
    assert rates[100] > 3 * rates[130], "the rate falls at the end"
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", checks(stop_at=4))
    resumed, again = trained(tmp_path / "stopped", checks(done=3))
    assert torch.equal(resumed.line.weight, whole.line.weight) and torch.equal(resumed.line.bias, whole.line.bias)
    assert [row.get("check_score") for row in again] == [row.get("check_score") for row in rows]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_told_to_stop_saves_the_step_it_is_at(number: signal.Signals, tmp_path: Path) -> None:
    """Nothing is repeated, and the weights are those of an unbroken training. The handlers of before are back."""
    schedule = replace(SCHEDULE, patience=0)
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    seen = 0

    def stopping(numbers: Sequence[float]) -> dict[str, torch.Tensor]:
        nonlocal seen
        seen += 1
        if seen == 37:
            signal.raise_signal(number)
        return batch_of(numbers)

    whole, resumed = Slope(), Slope()
    fit(whole, Numbers(), batch_of, tmp_path / "whole", schedule, log=lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        fit(Slope(), Numbers(), stopping, tmp_path / "stopped", schedule, log=lambda line: None)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    state = last_state(tmp_path / "stopped")
    assert state is not None and int(state.name.removeprefix("checkpoint-")) in (36, 37), "a batch is made one step ahead"
    fit(resumed, Numbers(), batch_of, tmp_path / "stopped", schedule, log=lambda line: None)
    assert torch.equal(resumed.line.weight, whole.line.weight) and torch.equal(resumed.line.bias, whole.line.bias)


def test_both_sides_of_the_comparison_of_progression_get_the_same() -> None:
    """As many faces, each kind of box and dialogues as often, and all else alike; only the order differs."""
    folder = Path(__file__).parents[1] / "configs" / "train" / "progression"
    files = [*sorted(folder.glob("[1-3]-*.yaml")), folder / "mixed.yaml"]
    *stages, mixed = [stage for file in files if isinstance(stage := load_stage(file), FocalStage)]
    assert [stage.name for stage in stages] == ["region", "focal", "dialogue"]
    faces = sum(stage.samples for stage in stages)
    assert mixed.samples == faces == 100_000
    boxes = {kind: sum(stage.samples * stage.boxes.get(kind, 0.0) for stage in stages) / faces for kind in mixed.boxes}
    assert boxes == pytest.approx(mixed.boxes)
    assert sum(stage.samples * stage.dialogue_share for stage in stages) / faces == pytest.approx(mixed.dialogue_share)
    differing = {"name", "samples", "boxes", "dialogue_share", "max_turns"}
    assert all(stage.model_dump(exclude=differing) == mixed.model_dump(exclude=differing) for stage in stages)
