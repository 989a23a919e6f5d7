import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.methods.network import normalise
from tests.training.engine.regression import Regression, run_of
from training.engine.history import Epoch
from training.engine.loop import Run
from training.engine.schedule import Schedule
from training.engine.task import Losses, Outputs
from training.errors import TrainingError
from training.sampling.batches import Batch

QUALITY = "quality_srcc_AGIQA-3K"


class Killed(Exception):
    pass


def stop_after(patch: pytest.MonkeyPatch, epochs: int) -> None:
    """Ends the process, as it were, right after that many epochs were saved."""
    saved = Run._save

    def save_and_stop(self: Run, training: Any, *others: Any) -> None:
        saved(self, training, *others)
        if training.progress.epochs == epochs:
            raise Killed

    patch.setattr(Run, "_save", save_and_stop)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def by_hand(task: Regression, run: Run, schedule: Schedule) -> dict[str, Tensor]:
    """The average after the run, in plain torch."""
    parameters = task.trained()
    average = task.weights()
    optimiser = torch.optim.SGD(parameters.values(), lr=1.0)
    place, steps = 0, len(run.batches)
    for epoch in range(schedule.epochs):
        for batch in run.batches.epoch(epoch):
            optimiser.param_groups[0]["lr"] = schedule.rate(place, steps)
            outputs = task.forward(normalise(batch.windows, task.normalisation), None)
            optimiser.zero_grad()
            F.mse_loss(outputs["score"], batch.mos).backward()
            if schedule.clip_norm:
                torch.nn.utils.clip_grad_norm_(parameters.values(), schedule.clip_norm)
            optimiser.step()
            decay = min(schedule.ema, (place + 1) / (place + 10))
            for name, p in parameters.items():
                average[name] = decay * average[name] + (1 - decay) * p.detach()
            place += 1
    return average


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_run_is_plain_gradient_descent(tmp_path: Path, clip_norm: float, ema: float) -> None:
    settings = {
        "optimiser": "sgd",
        "weight_decay": 0,
        "warmup_epochs": 1.5,
        "clip_norm": clip_norm,
        "ema": ema,
    }
    task, other = Regression(), Regression()
    run = run_of(tmp_path, task, **settings)
    run.fit()
    expected = by_hand(other, run, run.schedule)
    assert not same(task.weights(), Regression().weights())
    for name, value in task.weights().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)


def test_the_mean_of_every_term_is_told_per_epoch(tmp_path: Path) -> None:
    task = Regression()
    lines: list[str] = []
    run = run_of(tmp_path, task, epochs=1, lr=1e-9)
    progress = run.fit(lines.append)
    start, expected = Regression().weights(), 0.0
    assert not start["bias"].any()
    for batch in run.batches.epoch(0):
        colours = normalise(batch.windows, task.normalisation).mean((1, 3, 4))
        expected += float(((colours @ start["weight"][0] - batch.mos) ** 2).mean()) / 3
    assert progress.history[0]["squares"] == pytest.approx(expected, rel=1e-5)
    assert lines == [f"line 1/1: squares {expected:.4f}  {QUALITY} 0.3000"]


@pytest.mark.parametrize(
    ("every", "epochs", "best"), [(1, 4, 2), (2, 6, 4)], ids=["every epoch", "every other epoch"]
)
def test_patience_counts_epochs_since_the_best(
    tmp_path: Path, every: int, epochs: int, best: int
) -> None:
    task = Regression([0.1, 0.5, 0.4, 0.5, 0.3, 0.2])
    run = run_of(tmp_path, task, epochs=12, patience=2, evaluate_every=every)
    progress = run.fit()
    assert (progress.epochs, progress.best_epoch, progress.best_value) == (epochs, best, 0.5)


def test_predictions_without_a_rank_correlation_are_the_worst(tmp_path: Path) -> None:
    progress = run_of(tmp_path, Regression([math.nan, math.nan, -0.9]), select="best").fit()
    assert (progress.best_epoch, progress.best_value) == (3, -0.9)


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.parametrize(("select", "kept"), [("best", 1), ("last", 3)])
def test_the_epoch_that_is_kept_is_the_selected_one(
    tmp_path: Path, select: str, kept: int, ema: float
) -> None:
    task = Regression([0.1, 0.5, 0.4, 0.3])
    run_of(tmp_path, task, epochs=4, select=select, ema=ema).fit()
    assert same(task.weights(), task.evaluated[kept])
    others = [seen for i, seen in enumerate(task.evaluated) if i != kept]
    assert len(others) == 3
    assert not any(same(task.weights(), other) for other in others)


def test_epochs_in_between_are_not_measured_but_the_last_is(tmp_path: Path) -> None:
    progress = run_of(tmp_path, Regression(), epochs=5, evaluate_every=2).fit()
    measured = [i for i, epoch in enumerate(progress.history, start=1) if QUALITY in epoch]
    assert measured == [2, 4, 5]
    assert all("squares" in epoch for epoch in progress.history)


class Broken(Regression):
    """A second term of the loss that goes wrong in the second batch."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.before = what, self.weights()

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        losses = super().loss(outputs, batch)
        if len(self.batches) == 2:
            self.before = self.weights()
            zero = outputs["score"].sum() * 0
            # The root's slope at 0 has no end.
            losses["other"] = zero * math.nan if self.what == "loss" else zero.sqrt()
        return losses


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_names_its_files_and_does_not_get_into_the_weights(
    tmp_path: Path, what: str
) -> None:
    task = Broken(what)
    with pytest.raises(TrainingError) as raised:
        run_of(tmp_path, task).fit()
    message = str(raised.value)
    assert message.startswith(f"the {what} became nan")
    assert ("other nan" in message) == (what == "loss")
    held = {sample.path.name for sample in task.batches[1].samples}
    assert {name for name in held if name in message} == held
    assert len(held) == 4
    assert not any(s.path.name in message for s in task.batches[0].samples)
    assert same(task.weights(), task.before)
    assert not (tmp_path / "work" / "line.state.pt").exists()


def test_too_few_images_for_a_batch_tell_what_to_set(tmp_path: Path) -> None:
    run = run_of(tmp_path, Regression(), batch=13)
    with pytest.raises(
        TrainingError, match=r"12 training images .* batch of 13: set schedule\.batch"
    ):
        run.fit()


def test_a_batch_that_processes_can_not_share_tells_what_to_set(tmp_path: Path) -> None:
    three: Any = SimpleNamespace(process_index=0, num_processes=3)
    run = run_of(tmp_path, Regression())
    with pytest.raises(TrainingError, match=r"batch of 4 .* by 3: set schedule\.batch"):
        run._share(three)


RESUMED = {
    "epochs": 5,
    "ema": 0.9,
    "warmup_epochs": 2.5,
    "select": "best",
    "patience": 4,
    "evaluate_every": 2,
}


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_a_resumed_run_is_the_same_as_one_that_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, optimiser: str
) -> None:
    settings = {**RESUMED, "optimiser": optimiser}
    task = Regression(noise=0.3)
    whole = run_of(tmp_path / "whole", task, **settings).fit()
    with monkeypatch.context() as patch:
        stop_after(patch, epochs)
        with pytest.raises(Killed):
            run_of(tmp_path / "stopped", Regression(noise=0.3), **settings).fit()
    resumed = Regression(noise=0.3)
    progress = run_of(tmp_path / "stopped", resumed, **settings).fit()
    assert len(resumed.batches) == 3 * (5 - epochs)
    assert same(resumed.weights(), task.weights())
    assert progress.history == whole.history
    assert (progress.best_epoch, progress.best_value) == (whole.best_epoch, whole.best_value)
    assert same(progress.best, whole.best)
    one, other = (tmp_path / n / "work" / "line.metrics.csv" for n in ("whole", "stopped"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("figures", "epochs"),
    [([0.5, 0.4, 0.6, 0.3], 4), ([0.5, 0.4, 0.3], 3)],
    ids=["to the end", "early"],
)
def test_a_finished_run_gives_its_weights_again_and_trains_no_more(
    tmp_path: Path, figures: list[float], epochs: int
) -> None:
    settings = {"epochs": 4, "select": "best", "patience": 2, "ema": 0.5}
    first, again = Regression(figures), Regression()
    ended = run_of(tmp_path, first, **settings).fit()
    progress = run_of(tmp_path, again, **settings).fit()
    assert again.batches == []
    assert progress.epochs == ended.epochs == epochs
    assert same(again.weights(), first.weights())


def test_a_run_that_fails_in_an_epoch_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        stop_after(patch, 1)
        run_of(tmp_path, Regression()).fit()
    state = (tmp_path / "work" / "line.state.pt").read_bytes()
    with pytest.raises(TrainingError):
        run_of(tmp_path, Broken("loss")).fit()
    assert (tmp_path / "work" / "line.state.pt").read_bytes() == state


def test_a_measurement_is_of_the_task_as_it_is(tmp_path: Path) -> None:
    measured = run_of(tmp_path, Regression()).measure()
    assert measured == {"AGIQA-3K": {"quality": pytest.approx(0.3)}}


class Halved(Regression):
    """Its term counts half as much from the second epoch on, nothing from the third."""

    def balance(self, history: Sequence[Epoch]) -> Mapping[str, float]:
        return {"squares": 1 - len(history) / 2}


def test_terms_count_as_the_task_balances_them_by_the_epochs_before(tmp_path: Path) -> None:
    settings = {"optimiser": "sgd", "weight_decay": 0, "decay": "none", "clip_norm": None}
    plain, halved = Regression(), Halved()
    run_of(tmp_path / "plain", plain, **settings).fit()
    progress = run_of(tmp_path / "halved", halved, **settings).fit()
    first, second, third = halved.evaluated
    assert same(first, plain.evaluated[0])
    assert not same(second, plain.evaluated[1])
    assert not same(second, first)
    assert same(third, second)
    # What a term was is recorded as it was, not as it counted.
    assert progress.history[2]["squares"] > 0
