"""What learns, its moving average, and the best of it so far."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Weights:
    """A run's parameters and their moving average; with ``ema`` 0 the average is the parameters."""

    # Not torch's AveragedModel: that copies the whole module, the frozen backbone with it, and its
    # decay is constant.
    def __init__(self, parameters: Mapping[str, nn.Parameter], ema: float) -> None:
        self.parameters = parameters
        self.ema = ema
        self.average = {k: p.detach().clone() if ema else p.detach() for k, p in parameters.items()}

    def follow(self, step: int) -> None:
        """Moves the average after the optimiser's ``step``, faster at the beginning."""
        if self.ema:
            decay = min(self.ema, (step + 1) / (step + 10))
            current = [self.parameters[k].detach() for k in self.average]
            get_ema_multi_avg_fn(decay)(list(self.average.values()), current, step)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The average in the parameters' place."""
        trained = {k: p.detach().clone() for k, p in self.parameters.items()}
        copy_into(self.parameters, self.average)
        try:
            yield
        finally:
            copy_into(self.parameters, trained)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the average."""
        return {k: value.clone() for k, value in self.average.items()}


@torch.no_grad()
def copy_into(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Every tensor of ``target`` takes the value of that name in ``source``."""
    for name, value in target.items():
        value.copy_(source[name])
