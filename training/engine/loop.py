"""The training loop: optimiser, schedule, moving average, progress, and resume at the end of every
epoch.

Everything random is derived from (seed, epoch), so a resumed run goes on as if it had not stopped.
"""

import copy
import csv
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from tqdm import tqdm

from training.data.views import Batch, Batches
from training.errors import TrainingError

Losses = dict[str, Tensor]

_OPTIMISERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


class Task(Protocol):
    """What the loop trains: parameters, a loss per batch, and figures per epoch."""

    def trained(self) -> Mapping[str, nn.Parameter]:
        """The parameters that learn, by name."""

    def buffers(self) -> Mapping[str, Tensor]:
        """Running statistics that change with training."""

    def loss(self, batch: Batch) -> Losses:
        """Terms of the loss; their sum is minimised."""

    def evaluate(self) -> dict[str, float]:
        """Figures on the validation split."""


class Schedule(BaseModel):
    """How long and how fast: epochs, batch, optimiser, cosine decay after a warm-up, clipping,
    moving average. ``windows`` are cut from each image of a batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int
    batch: int = 32
    windows: int = 1
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    clip_norm: float = 1.0
    ema: float = 0.999
    evaluate_every: int = 1


@dataclass
class Run:
    """One stage of training in a folder that keeps its state."""

    name: str
    task: Task
    batches: Batches
    schedule: Schedule
    folder: Path
    seed: int
    fingerprint: str

    def fit(self, report: Callable[[str], None] = print) -> None:
        """Trains to the end, from the last finished epoch on; leaves the moving average in the
        task's parameters.
        """
        parameters = self.task.trained()
        optimiser = self._optimiser(parameters)
        average = {k: p.detach().clone() for k, p in parameters.items()}
        first = self._resume(optimiser, average)
        for epoch in range(first, self.schedule.epochs):
            torch.manual_seed(self.seed * 100_003 + epoch)
            mean = self._epoch(epoch, parameters, optimiser, average)
            figures = self._evaluated(epoch, parameters, average)
            self._log(epoch, mean | figures)
            self._save(epoch + 1, optimiser, average)
            report(f"{self.name} {epoch + 1}/{self.schedule.epochs}: " + _shown(mean | figures))
        _copy(average, parameters)

    def _epoch(
        self,
        epoch: int,
        parameters: Mapping[str, nn.Parameter],
        optimiser: torch.optim.Optimizer,
        average: Mapping[str, Tensor],
    ) -> dict[str, float]:
        sums: dict[str, float] = {}
        steps = tqdm(
            self.batches.epoch(epoch),
            total=len(self.batches),
            desc=f"{self.name} {epoch + 1}",
            leave=False,
        )
        for i, batch in enumerate(steps):
            step = epoch * len(self.batches) + i
            for group in optimiser.param_groups:
                group["lr"] = self.schedule.lr * self._pace(step)
            losses = self.task.loss(batch)
            total = torch.stack(list(losses.values())).sum()
            _refuse_nan(total, batch)
            optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters.values(), self.schedule.clip_norm)
            optimiser.step()
            _follow(average, parameters, min(self.schedule.ema, (step + 1) / (step + 10)))
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach())
        return {key: value / len(self.batches) for key, value in sums.items()}

    def _pace(self, step: int) -> float:
        warmup = max(1.0, self.schedule.warmup_epochs * len(self.batches))
        total = self.schedule.epochs * len(self.batches)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total - warmup)))

    def _optimiser(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        matrices = [p for p in parameters.values() if p.ndim > 1]
        vectors = [p for p in parameters.values() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.schedule.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return _OPTIMISERS[self.schedule.optimiser](groups, lr=self.schedule.lr)

    def _evaluated(
        self, epoch: int, parameters: Mapping[str, nn.Parameter], average: Mapping[str, Tensor]
    ) -> dict[str, float]:
        if (epoch + 1) % self.schedule.evaluate_every and epoch + 1 < self.schedule.epochs:
            return {}
        trained = {k: p.detach().clone() for k, p in parameters.items()}
        _copy(average, parameters)
        figures = self.task.evaluate()
        _copy(trained, parameters)
        return figures

    @property
    def _state(self) -> Path:
        return self.folder / f"{self.name}.state.pt"

    def _save(
        self, epochs: int, optimiser: torch.optim.Optimizer, average: Mapping[str, Tensor]
    ) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "epochs": epochs,
            "parameters": {k: p.detach() for k, p in self.task.trained().items()},
            "buffers": dict(self.task.buffers()),
            "average": dict(average),
            "optimiser": optimiser.state_dict(),
        }
        save_atomically(self._state, state)

    def _resume(self, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
        if not self._state.is_file():
            return 0
        state = torch.load(self._state, weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            raise TrainingError(
                f"{self._state} belongs to other settings, data or backbone: remove it, or set "
                "another work"
            )
        _copy(state["parameters"], self.task.trained())
        _copy(state["buffers"], self.task.buffers())
        optimiser.load_state_dict(state["optimiser"])
        average.update(state["average"])
        return int(state["epochs"])

    def _log(self, epoch: int, figures: Mapping[str, float]) -> None:
        path = self.folder / f"{self.name}.metrics.csv"
        with path.open("a", newline="") as file:
            csv.writer(file).writerows(
                [epoch + 1, key, f"{value:.6f}"] for key, value in figures.items()
            )


def save_atomically(path: Path, state: Mapping[str, Any]) -> None:
    """``torch.save`` beside ``path``, synced, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(copy.copy(state), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])


@torch.no_grad()
def _follow(
    average: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter], decay: float
) -> None:
    torch._foreach_lerp_(
        list(average.values()), [parameters[k].detach() for k in average], 1 - decay
    )


def _refuse_nan(total: Tensor, batch: Batch) -> None:
    if not torch.isfinite(total):
        names: Iterable[str] = (sample.path.name for sample in batch.samples)
        raise TrainingError(
            f"the loss became {float(total.detach())}; the batch held {', '.join(names)}"
        )


def _shown(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
