"""What the loop trains: what a network says of images, which processes share, and its loss, which
sees all of a batch.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn

from model.config import Normalisation
from training.data.batches import Batch
from training.engine.held import ValidationSet
from training.errors import TrainingError
from training.evaluation.results import SrccBySet

Losses = dict[str, Tensor]
# What a network says of images, by name: [n, ...], one row per image.
Said = dict[str, Tensor]


class Task(Protocol):
    """Parameters, what the network says of images, a loss of it, and figures per epoch."""

    normalisation: Normalisation

    @property
    def module(self) -> nn.Module:
        """Holds every parameter that learns."""

    def trained(self) -> Mapping[str, nn.Parameter]:
        """The parameters that learn, by name."""

    def buffers(self) -> Mapping[str, Tensor]:
        """Running statistics that change with training."""

    def say(self, windows: Tensor, wholes: Tensor | None) -> Said:
        """The network on normalised windows [m, k, 3, s, s] and global views [m, 3, s, s]."""

    def loss(self, said: Said, batch: Batch) -> Losses:
        """Terms of the loss over the n images of the whole batch; their sum is minimised."""

    def loss_of_degraded(self, said: Said, worse: Said, batch: Batch) -> Losses:
        """Further terms: what the network said of the batch's degraded images ``worse`` [2 d, ...],
        each pair's weaker version first, beside what it said of the images.
        """

    def evaluate(self, validation: ValidationSet, accelerator: Accelerator) -> SrccBySet:
        """SRCC on the validation part, the same in every process."""


class Step(nn.Module):
    """One batch's losses. Each process computes its images; the loss is of all of them.

    Pairs and shuffled prompts reach across processes, so what the network says is gathered, with
    its gradient, before the loss: every process has the whole loss.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.module
        self.task = task

    def forward(self, batch: Batch) -> Losses:
        """The terms of the loss."""
        worse = batch.degraded
        if worse is None:
            said = self._say(batch.windows, batch.wholes)
            return self.task.loss({k: _gathered(v) for k, v in said.items()}, batch)
        none = batch.wholes is None or worse.wholes is None
        wholes = None if none else torch.cat([batch.wholes, worse.wholes])  # type: ignore[list-item]
        both = self._say(torch.cat([batch.windows, worse.windows]), wholes)
        mine = len(batch.windows)
        said = {name: _gathered(value[:mine]) for name, value in both.items()}
        of_worse = {name: _gathered(value[mine:]) for name, value in both.items()}
        return self.task.loss(said, batch) | self.task.loss_of_degraded(said, of_worse, batch)

    def _say(self, windows: Tensor, wholes: Tensor | None) -> Said:
        return self.task.say(self.normal(windows), None if wholes is None else self.normal(wholes))

    def normal(self, pixels: Tensor) -> Tensor:
        """uint8 [..., 3, s, s] to float, normalised, where it lies."""
        return normalised(pixels, self.task.normalisation)


def _gathered(mine: Tensor) -> Tensor:
    """[m, ...] of each process as [P m, ...] in all of them, in their order."""
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        return _Gathered.apply(mine)
    return mine


class _Gathered(torch.autograd.Function):
    """[m, ...] of each of P processes to [P m, ...] in all of them.

    DistributedDataParallel divides the gradients' sum over the processes by P. Each process sends
    back those of its own images alone, so they are multiplied by P: the result is one process's
    gradient of the whole batch.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        del ctx
        every = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, mine.contiguous())
        return torch.cat(every)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        processes = distributed.get_world_size()
        mine = gradients[0].chunk(processes)[distributed.get_rank()]
        return mine * processes


def normalised(pixels: Tensor, norm: Normalisation) -> Tensor:
    """uint8 [..., 3, h, w] less the mean over the deviation of pixels in [0, 1]."""
    mean, std = (
        torch.tensor(v, device=pixels.device).view(3, 1, 1) * 255 for v in (norm.mean, norm.std)
    )
    return (pixels.float() - mean) / std


def refuse_nan(losses: Losses, total: Tensor, batch: Batch) -> None:
    """Stops at a loss that is no number.

    Raises:
        TrainingError: names the terms and the batch's files.
    """
    if not torch.isfinite(total):
        terms = ", ".join(f"{k} {float(v.detach()):g}" for k, v in losses.items())
        raise TrainingError(
            f"the loss became {float(total.detach())} ({terms}); the batch held {_names(batch)}"
        )


def refuse_nan_gradient(norm: Tensor | None, batch: Batch) -> None:
    """Stops before a gradient that is no number gets into the weights.

    Raises:
        TrainingError: names the batch's files.
    """
    if norm is not None and not torch.isfinite(norm):
        raise TrainingError(f"the gradient became {float(norm)}; the batch held {_names(batch)}")


def _names(batch: Batch) -> str:
    return ", ".join(sample.path.name for sample in batch.samples)
