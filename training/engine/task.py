"""What the loop trains: a network's outputs for images, which processes share, and its loss, which
sees all of a batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextvars import copy_context
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from model.config import Normalisation
from model.methods.network import normalise
from model.methods.precision import widened, without_autocast
from training.data.samples import Sample
from training.engine.history import Epoch
from training.engine.validation import ValidationSet
from training.errors import TrainingError
from training.evaluation.results import SrccBySet
from training.sampling.batches import Batch

Losses = dict[str, Tensor]
# A network's outputs for images, by name: [n, ...], one row per image.
Outputs = dict[str, Tensor]
# Values [n] by head, of a batch and of all validation samples.
Heads = dict[str, Tensor]
Predicted = Mapping[str, np.ndarray]

# A process's share of the validation samples: rows, and each head's values for them.
_Chunk = tuple[list[int], dict[str, list[float]]]


class Task(ABC):
    """What a run trains: ``module`` holds every parameter that learns; its outputs for images, a
    loss of them, and the heads' values, of which SRCC is taken after an epoch.
    """

    def __init__(self, module: nn.Module, normalisation: Normalisation | None = None) -> None:
        self.module = module
        self.normalisation = normalisation or Normalisation()

    def trained(self) -> Mapping[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def buffers(self) -> Mapping[str, Tensor]:
        """Running statistics that change with training."""
        return {}

    @property
    def needs_whole_batches(self) -> bool:
        """Whether it takes statistics of a batch, which are others of its parts."""
        return bool(self.buffers())

    def hidden_maps(self) -> Sequence[Tensor]:
        """The parameters that map hidden features to hidden features."""
        return ()

    def start(self, first: Iterator[tuple[Outputs, Batch]]) -> None:
        """Before the first step of a new run: sets what should start at the training data's, off
        the outputs for batches of the first epoch, without gradients. Nothing by default.
        """
        del first

    def normalised(self, views: Tensor) -> Tensor:
        """Pixels as the network takes them; features, which are no bytes, as they are."""
        return views if views.is_floating_point() else normalise(views, self.normalisation)

    @abstractmethod
    def forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        """The network on normalised windows [m, k, 3, s, s] and global views [m, 3, s, s], under
        the run's autocast.
        """

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        """Weighted terms of the loss over the n images of the whole batch; their sum is
        minimised. No autocast surrounds it, and the outputs are float32 at least.
        """

    def balance(self, history: Sequence[Epoch]) -> Mapping[str, float]:
        """What each term counts in the coming epoch, by what they were in those before; a term that
        is not named counts as it is.
        """
        del history
        return {}

    @abstractmethod
    def loss_of_degraded(self, outputs: Outputs, worse: Outputs, batch: Batch) -> Losses:
        """Further terms: the outputs ``worse`` [2 d, ...] for the batch's degraded images, each
        pair's weaker version first, beside those for the images.
        """

    @abstractmethod
    def values(self, windows: Tensor, wholes: Tensor | None, prompts: Sequence[str]) -> Heads:
        """Each head's values [n] for normalised views of images with these prompts."""

    def evaluate(self, validation: ValidationSet, accelerator: Accelerator) -> SrccBySet:
        """SRCC of every head on the validation samples, the same in every process."""
        return validation.srcc(self.predict(validation, accelerator))

    @torch.no_grad()
    def predict(self, validation: ValidationSet, accelerator: Accelerator) -> Predicted:
        """Each head's values for the validation samples, in their order, the same in every process;
        they share the images.
        """
        rank, processes = accelerator.process_index, accelerator.num_processes
        chunks: list[_Chunk] = []
        for views in validation.views(rank, processes):
            windows, wholes = (
                None if v is None else self.normalised(v.to(accelerator.device))
                for v in (views.windows, views.wholes)
            )
            assert windows is not None
            prompts = [validation.samples[row].prompt for row in views.rows]
            heads = self.values(windows, wholes, prompts)
            chunks.append((views.rows, {h: v.double().tolist() for h, v in heads.items()}))
        if processes > 1:
            chunks = gather_object(chunks)
        return _by_head(chunks, len(validation.samples))

    def calibrate(self, predicted: Predicted, samples: Sequence[Sample]) -> None:
        """Has what is open to it mean what it says on average, from the trained network's values
        for images that it has not learned from. No rank may change. Nothing by default.
        """
        del predicted, samples


def _by_head(chunks: Sequence[_Chunk], images: int) -> Predicted:
    """Each head's values in the order of the samples."""
    heads = {head: np.full(images, np.nan) for _, values in chunks for head in values}
    for rows, values in chunks:
        for head, scores in values.items():
            heads[head][rows] = scores
    return heads


class Step(nn.Module):
    """One batch's losses. Each process computes its images; the loss is of all of them.

    Pairs and shuffled prompts reach across processes, so the network's outputs are gathered, with
    their gradient, before the loss: every process has the whole loss. So do parts of a batch that
    are computed one after the other (``accumulate``): a part keeps nothing but its outputs until
    the backward pass comes to it, and is computed again there. Whatever the network runs in, the
    loss is computed in float32.
    """

    def __init__(self, task: Task, accumulate: int = 1) -> None:
        super().__init__()
        self.module = task.module
        self.task = task
        self.accumulate = accumulate

    def forward(self, batch: Batch) -> Losses:
        """The terms of the loss."""
        outputs, of_worse = self.outputs(batch)
        with without_autocast(batch.mos):
            losses = self.task.loss(outputs, batch)
            if of_worse is None:
                return losses
            return losses | self.task.loss_of_degraded(outputs, of_worse, batch)

    def outputs(self, batch: Batch) -> tuple[Outputs, Outputs | None]:
        """The network's outputs for the images of the whole batch, and for its degraded ones."""
        worse = batch.degraded
        if worse is None:
            mine = self._forward(batch.windows, batch.wholes)
            return {name: _gathered(value) for name, value in mine.items()}, None
        none = batch.wholes is None or worse.wholes is None
        wholes = None if none else torch.cat([batch.wholes, worse.wholes])  # type: ignore[list-item]
        both = self._forward(torch.cat([batch.windows, worse.windows]), wholes)
        images = len(batch.windows)
        return (
            {name: _gathered(value[:images]) for name, value in both.items()},
            {name: _gathered(value[images:]) for name, value in both.items()},
        )

    def _forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        if self.accumulate == 1:
            return self._part(windows, wholes)
        # The backward pass has a thread of its own on a GPU, and layers that may be recomputed
        # within a part ask the context whether they are.
        parts = [
            checkpoint(copy_context().run, self._part, *part, use_reentrant=False)
            for part in _divided(windows, wholes, self.accumulate)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _part(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        normalised = self.task.normalised
        outputs = self.task.forward(
            normalised(windows), None if wholes is None else normalised(wholes)
        )
        return {name: widened(value) for name, value in outputs.items()}


def _divided(
    windows: Tensor, wholes: Tensor | None, parts: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """As even as can be; fewer where there are fewer images."""
    each = windows.tensor_split(min(parts, len(windows)))
    no_wholes: tuple[None, ...] = (None,) * len(each)
    return zip(each, no_wholes if wholes is None else wholes.tensor_split(len(each)), strict=True)


def _gathered(mine: Tensor) -> Tensor:
    """[m, ...] of each process as [P m, ...] in all of them, in their order."""
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        return _Gathered.apply(mine)
    return mine


class _Gathered(torch.autograd.Function):
    """[m, ...] of each of P processes to [P m, ...] in all of them.

    DistributedDataParallel divides the gradients' sum over the processes by P. Each process sends
    back those of its own images alone, so they are multiplied by P: the result is one process's
    gradient of the whole batch. torch.distributed.nn.functional.all_gather would do, but is
    deprecated, and sums the gradients by a second exchange that equal losses have no need of.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        del ctx
        parts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        processes = distributed.get_world_size()
        mine = gradients[0].chunk(processes)[distributed.get_rank()]
        return mine * processes


def refuse_nan(what: str, value: Tensor, batch: Batch, terms: Losses | None = None) -> None:
    """Stops at a loss or gradient that is no number, before it gets into the weights.

    Raises:
        TrainingError: names the terms and the batch's files.
    """
    if not torch.isfinite(value):
        each = ", ".join(f"{k} {float(v.detach()):g}" for k, v in (terms or {}).items())
        names = ", ".join(sample.path.name for sample in batch.samples)
        raise TrainingError(
            f"the {what} became {float(value.detach())}{f' ({each})' if each else ''}; the batch "
            f"held {names}"
        )
