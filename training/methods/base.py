"""What the methods' trainings share: the declared parameters learn, on windows and global views."""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any, ClassVar, Generic, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from model.config import Normalisation
from model.methods.network import Network, mix_views
from model.methods.precision import widened, without_autocast
from training.engine.task import Heads, Losses, Outputs, Task
from training.methods.losses import degradation
from training.methods.variant import Variant
from training.sampling.batches import Batch

N = TypeVar("N", bound=Network)

# Keeps logits of 0 and 1 finite.
_TINY = 1e-4


class LossWeights(BaseModel):
    """Base of the methods' weights: frozen, unknown names refused. ``degradation``: that quality
    falls with the strength of a degradation, where the schedule has degraded images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    degradation: float = 1.0


class Objective(Task, Generic[N]):
    """The task that ``training.engine`` runs for a method; its subclasses give the network's
    outputs for images, the loss of them, and the heads' values.

    ``whole``: the crop policy has a global view, so it is trained too.

    For tables and experiments a method may state what its paper calls it (``paper_name``), the
    table and the setting of the paper's figures for the whole method (``paper_table``,
    ``paper_setting``), the data sets whose published rounds can be drawn again (``paper_rounds``),
    and the prompt lengths to compare, by the options that get them (``prompt_lengths``).
    """

    weights_type: ClassVar[type[LossWeights]] = LossWeights
    paper_name: ClassVar[str | None] = None
    paper_table: ClassVar[str | None] = None
    paper_setting: ClassVar[str | None] = None
    paper_rounds: ClassVar[Collection[str]] = ()
    prompt_lengths: ClassVar[Mapping[tuple[str, ...], Sequence[int]]] = {}
    variants: ClassVar[Sequence[Variant]] = ()

    @classmethod
    def ablations(cls, weights: Mapping[str, float]) -> Sequence[Variant]:
        """The whole method, then without its parts, or with others in their place: ``variants``,
        unless they hang on the recipe.

        Args:
            weights: those of the losses that the recipe states.
        """
        del weights
        return cls.variants

    def __init__(
        self,
        network: N,
        weights: Any,
        *,
        whole: bool,
        normalisation: Normalisation | None = None,
    ) -> None:
        super().__init__(network.eval(), normalisation)
        self.network = network
        self.weights = weights
        self.whole = whole

    @property
    def wants_whole(self) -> bool:
        """Whether it looks at whole images at all."""
        return self.whole

    def trained(self) -> Mapping[str, nn.Parameter]:
        """The network's declared parameters, and no other."""
        return {k: p for k, p in self.network.trainable_parameters().items() if p.requires_grad}

    def loss_of_degraded(self, outputs: Outputs, worse: Outputs, batch: Batch) -> Losses:
        """Quality falls with the strength of a degradation."""
        degraded = batch.degraded
        assert degraded is not None
        clean, pairs = self.open_quality(outputs), self.open_quality(worse)
        fall = degradation(
            clean[degraded.bases.to(clean.device)],
            pairs[0::2],
            pairs[1::2],
            degraded.strengths.to(clean.device),
        )
        return {"degradation": self.weights.degradation * fall}

    def open_quality(self, outputs: Outputs) -> Tensor:
        """The quality [n] on an open scale, on which even the worst can be told apart: its
        logit.
        """
        return torch.logit(self.quality(outputs), eps=_TINY)

    @abstractmethod
    def quality(self, outputs: Outputs) -> Tensor:
        """The quality [n] in [0, 1]."""

    def heads(self, outputs: Outputs, prompts: Sequence[str]) -> Heads:
        """Each head's values [n] of the outputs for images with these prompts: the quality, unless
        a method has more.
        """
        del prompts
        return {"quality": self.quality(outputs)}

    def values(self, windows: Tensor, wholes: Tensor | None, prompts: Sequence[str]) -> Heads:
        outputs = {k: widened(v) for k, v in self.forward(windows, wholes).items()}
        with without_autocast(windows):
            return self.heads(outputs, prompts)

    def views(self, windows: Tensor, wholes: Tensor | None) -> Tensor:
        """[n, k, 3, h, w], with the global view as the last one where it is looked at."""
        if not self.wants_whole:
            return windows
        assert wholes is not None
        return torch.cat([windows, wholes[:, None]], dim=1)

    def mixed(self, values: Tensor, weight: Tensor) -> Tensor:
        """[n, views] -> [n]: the mean over the windows, mixed with the global view."""
        if not self.whole:
            return values.mean(1)
        return mix_views(values[:, :-1].mean(1), values[:, -1], weight)


OBJECTIVES: Mapping[str, str] = {
    "clip-agiqa": "training.methods.clip_agiqa:ClipAgiqaObjective",
    "clip-iqa-plus": "training.methods.clip_iqa_plus:ClipIqaPlusObjective",
    "liqe": "training.methods.liqe:LiqeObjective",
    "mp-iqe": "training.methods.mp_iqe:MpIqeObjective",
}


def objective_type(method: str) -> type[Objective[Any]]:
    """The training of a method.

    Raises:
        KeyError: no such method, or one that learns nothing.
    """
    found: type[Objective[Any]] = resolve_name(OBJECTIVES[method])
    return found
