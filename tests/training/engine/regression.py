"""A task small enough to follow by hand: scores as a linear function of an image's mean colour."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import CropPolicy
from tests.training.miniature import write_agiqa3k
from training.data import datasets
from training.engine.loop import Run
from training.engine.schedule import Schedule
from training.engine.task import Heads, Losses, Outputs, Task
from training.engine.validation import ValidationSet
from training.evaluation.results import SrccBySet
from training.sampling.batches import Batch, Batches
from training.sampling.pictures import Pictures

POLICY = CropPolicy(size=32, stride=32, max_side=64)
SCHEDULE: Mapping[str, Any] = {"epochs": 3, "batch": 4, "lr": 0.05, "warmup_epochs": 0, "ema": 0.0}


class Regression(Task):
    """Figures after each epoch are told beforehand, or else the sum of the weights. Noise in the
    loss hangs on torch's random numbers.
    """

    def __init__(self, figures: Sequence[float] | None = None, *, noise: float = 0.0) -> None:
        self.linear = nn.Linear(3, 1)
        super().__init__(self.linear)
        nn.init.constant_(self.linear.weight, 0.1)
        nn.init.zeros_(self.linear.bias)
        self.noise = noise
        self.figures: Iterator[float] | None = None if figures is None else iter(figures)
        self.batches: list[Batch] = []
        self.evaluated: list[dict[str, Tensor]] = []

    def forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        return {"score": self.linear(windows.mean((1, 3, 4)))[:, 0]}

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        self.batches.append(batch)
        noise = self.noise * torch.randn(len(batch.mos))
        return {"squares": F.mse_loss(outputs["score"] + noise, batch.mos)}

    def loss_of_degraded(self, outputs: Outputs, worse: Outputs, batch: Batch) -> Losses:
        assert batch.degraded is not None
        clean = outputs["score"][batch.degraded.bases]
        return {"fall": (worse["score"].unflatten(0, (-1, 2)) - clean[:, None]).square().mean()}

    def values(self, windows: Tensor, wholes: Tensor | None, prompts: Sequence[str]) -> Heads:
        return {"quality": self.forward(windows, wholes)["score"]}

    def evaluate(self, validation: ValidationSet, accelerator: Accelerator) -> SrccBySet:
        self.evaluated.append(self.weights())
        figure = (
            float(self.linear.weight.detach().sum()) if self.figures is None else next(self.figures)
        )
        return {"AGIQA-3K": {"quality": figure}}

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.trained().items()}


def run_of(folder: Path, task: Regression, **settings: Any) -> Run:
    """Twelve images in batches of four, on the CPU; the state lies in ``folder / "work"``."""
    schedule = Schedule(**{**SCHEDULE, **settings})
    samples = datasets.read(write_agiqa3k(folder / "data", prompts=4, size=40))
    pictures = Pictures(POLICY, ())
    batches = Batches(samples, pictures, size=schedule.batch, seed=3, wholes=False)
    work = folder / "work"
    work.mkdir(exist_ok=True)
    validation = ValidationSet(samples, pictures)
    return Run("line", task, batches, validation, schedule, work, 3, "fingerprint", "cpu")
