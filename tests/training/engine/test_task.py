"""What surrounds a task's parts in a run: autocast, and the outputs that it starts from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.engine.regression import Regression, run_of
from training.engine.task import Losses, Outputs
from training.sampling.batches import Batch


class Watched(Regression):
    """Notes where autocast is on; ``start`` sets the bias to the mean of the first two batches."""

    def __init__(self) -> None:
        super().__init__()
        self.autocast: dict[str, set[bool]] = {"forward": set(), "loss": set(), "start": set()}
        self.types: set[torch.dtype] = set()
        self.starts = 0

    def start(self, first: Iterator[tuple[Outputs, Batch]]) -> None:
        self._note("start")
        self.starts += 1
        means = [next(first)[1].mos.mean() for _ in range(2)]
        self._note("start")
        self.linear.bias.fill_(float(torch.stack(means).mean()))

    def forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        self._note("forward")
        return super().forward(windows, wholes)

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        self._note("loss")
        self.types.add(outputs["score"].dtype)
        return super().loss(outputs, batch)

    def _note(self, where: str) -> None:
        self.autocast[where].add(torch.is_autocast_enabled("cpu"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_is_computed_in_float32_outside_of_autocast(
    tmp_path: Path, precision: str
) -> None:
    task = Watched()
    run_of(tmp_path, task, epochs=1, precision=precision).fit()
    assert task.autocast == {"forward": {precision == "bf16"}, "loss": {False}, "start": {False}}
    assert task.types == {torch.float32}


def test_a_new_run_starts_at_the_first_batches_and_a_resumed_one_does_not(tmp_path: Path) -> None:
    task = Watched()
    # At such a rate a step changes nothing.
    run = run_of(tmp_path, task, epochs=1, lr=1e-30, ema=0.5)
    run.fit()
    expected = torch.stack([b.mos.mean() for b in run.batches.epoch(0)][:2]).mean()
    assert task.weights()["bias"] == pytest.approx(float(expected))
    again = Watched()
    run_of(tmp_path, again, epochs=1, lr=1e-30, ema=0.5).fit()
    assert (task.starts, again.starts) == (1, 0)
    assert again.weights()["bias"] == task.weights()["bias"]
