"""What the methods' trainings share: the declared parameters learn, on windows and global views."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from model.network import Network, mix_views
from training.data.views import Batch
from training.engine.loop import Losses
from training.tuning.held import Held

N = TypeVar("N", bound=Network)
_CHUNK = 32


class LossWeights(BaseModel):
    """Base of the methods' weights: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tuning(ABC, Generic[N]):
    """The task that ``training.engine`` runs for a method; its subclasses give ``loss`` and
    ``predict``.

    ``whole``: the crop policy has a global view, so it is trained too.
    """

    weights_type: ClassVar[type[LossWeights]] = LossWeights

    def __init__(self, network: N, held: Held, weights: Any, *, whole: bool) -> None:
        self.network, self.held, self.weights, self.whole = network.eval(), held, weights, whole

    def trained(self) -> Mapping[str, nn.Parameter]:
        """The network's declared parameters, and no other."""
        return self.network.learned()

    def buffers(self) -> Mapping[str, Tensor]:
        """None: the backbone's statistics stand still."""
        return {}

    @abstractmethod
    def loss(self, batch: Batch) -> Losses:
        """The weighted terms for one batch."""

    @abstractmethod
    def predict(self, windows: Tensor, wholes: Tensor, prompts: list[str]) -> dict[str, Tensor]:
        """Each head's values [n] of windows [n, k, 3, h, w] and global views [n, 3, h, w]."""

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """SRCC of every head on the held samples."""
        held, parts = self.held, []
        prompts = [sample.prompt for sample in held.samples]
        for start in range(0, len(prompts), _CHUNK):
            rows = slice(start, start + _CHUNK)
            parts.append(self.predict(held.middles[rows], held.wholes[rows], prompts[rows]))
        heads = {head: torch.cat([part[head] for part in parts]) for head in parts[0]}
        return held.figures({head: np.asarray(values) for head, values in heads.items()})

    def views(self, windows: Tensor, wholes: Tensor) -> Tensor:
        """[n, k, 3, h, w], with the global view as the last one where the policy has it."""
        return torch.cat([windows, wholes[:, None]], dim=1) if self.whole else windows

    def mixed(self, values: Tensor, weight: Tensor) -> Tensor:
        """[n, views] -> [n]: the mean over the windows, mixed with the global view."""
        if not self.whole:
            return values.mean(1)
        return mix_views(values[:, :-1].mean(1), values[:, -1], weight)


TASKS: Mapping[str, str] = {
    "clip-agiqa": "training.tuning.clip_agiqa:ClipAgiqaTuning",
    "clip-iqa-plus": "training.tuning.clip_iqa_plus:ClipIqaPlusTuning",
    "liqe": "training.tuning.liqe:LiqeTuning",
    "mp-iqe": "training.tuning.mp_iqe:MpIqeTuning",
}


def tuning_type(method: str) -> type[Tuning[Any]]:
    """The training of a method.

    Raises:
        KeyError: no such method, or one that learns nothing.
    """
    module, _, name = TASKS[method].partition(":")
    found: type[Tuning[Any]] = getattr(importlib.import_module(module), name)
    return found
