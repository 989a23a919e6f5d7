"""How long, how fast and how precisely a run trains, and which of its epochs is kept."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from training.engine.muon import Muon
from training.sampling.degradations import DEGRADATIONS

_OPTIMISERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "muon": Muon,
}


class Schedule(BaseModel):
    """The settings of a run of the engine.

    - ``batch`` images a step, over all processes; ``windows`` are cut from each of them, and
      ``degraded`` of them, the best-rated, come in two degraded versions too, a kind as many times
      as often as ``degraded_often`` says;
    - ``repeats``: how often an epoch visits each image, at new places each time;
    - ``accumulate``: the network computes a step's images in so many parts, one after another, and
      each once more for its gradient; the loss is still that of all of them, so that only memory
      and time change;
    - ``checkpoint_activations``: transformer layers keep their input alone, and are computed once
      more for the gradient;
    - ``steps`` of an epoch, with as many passes over the images as they take; null: one pass;
    - ``quotas``: so many images of each data set in every step, which add up to the ``batch``;
    - ``optimiser``: ``muon`` is AdamW, and Muon at ``matrix_lr`` for the matrices of transformer
      layers and for convolutions (``training.engine.muon``);
    - ``lr_scales``: how much faster the parameters learn whose names begin so;
    - ``decay``: the learning rate falls along a ``cosine`` that ends after ``period`` epochs (null:
      with the run), or stays (``none``), or falls and rises again in ``waves``, ``period`` epochs
      each way, with one rate an epoch and no epoch at 0 (LIQE's);
    - ``clip_norm``: gradients longer than that are shortened; null: never;
    - ``ema``: decay of the weights' moving average, which is what is measured and kept; 0: none;
    - ``select``: the last epoch is kept, or the ``best`` on the validation part; ``patience``
      epochs without a better one end the run early;
    - ``validate_on``: the ``middle`` window of each validation image, or ``every`` window of the
      crop policy; the whole image too where the method looks at it;
    - ``precision``: ``auto`` is bf16 where the device multiplies it natively, else fp32; logits,
      heads and losses are float32 in all of them;
    - ``flips``: the share of views that are mirrored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(ge=1)
    batch: int = Field(default=32, ge=1)
    windows: int = Field(default=1, ge=1)
    repeats: int = Field(default=1, ge=1)
    accumulate: int = Field(default=1, ge=1)
    checkpoint_activations: bool = False
    degraded: int = Field(default=0, ge=0)
    degraded_often: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    steps: int | None = Field(default=None, ge=1)
    quotas: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    optimiser: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    matrix_lr: float = Field(default=1e-3, gt=0)
    lr_scales: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_epochs: float = Field(default=1.0, ge=0)
    decay: Literal["cosine", "none", "waves"] = "cosine"
    period: int | None = Field(default=None, ge=1)
    clip_norm: float | None = Field(default=1.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    evaluate_every: int = Field(default=1, ge=1)
    validate_on: Literal["middle", "every"] = "middle"
    select: Literal["last", "best"] = "last"
    patience: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    flips: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _has_images_to_degrade(self) -> Self:
        if self.degraded > self.batch:
            raise ValueError(f"a batch of {self.batch} has no {self.degraded} images to degrade")
        if unknown := set(self.degraded_often) - set(DEGRADATIONS):
            raise ValueError(
                f"degraded_often knows no {', '.join(unknown)}: {', '.join(DEGRADATIONS)}"
            )
        return self

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.quotas and sum(self.quotas.values()) != self.batch:
            raise ValueError(
                f"quotas add up to {sum(self.quotas.values())}, batch is {self.batch}: set it so"
            )
        if self.decay == "waves" and self.period is None:
            raise ValueError("decay waves needs a period")
        return self

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, with ``steps`` in an epoch."""
        warmup = self.warmup_epochs * steps
        if step < warmup:
            return self.lr * (step + 1) / max(1.0, warmup)
        if self.decay == "none":
            return self.lr
        if self.decay == "waves":
            return self.lr * 0.5 * (1 + math.cos(math.pi * self._phase(step // steps)))
        left = max(1.0, (self.period or self.epochs) * steps - warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / left))

    def _phase(self, epoch: int) -> float:
        """Half waves until an epoch, those left out whose rate would be 0."""
        period = self.period or 1
        return (epoch + (epoch + period - 1) // (2 * period - 1)) / period

    def optimiser_of(
        self, parameters: Mapping[str, nn.Parameter], hidden_maps: Iterable[Tensor] = ()
    ) -> torch.optim.Optimizer:
        """The optimiser; biases, gains and scales don't decay. Each group's rate is its
        ``lr_scale`` times ``rate``. Muon makes the steps of the ``hidden_maps`` orthogonal:
        embeddings, first and last layers are no such maps (Jordan et al.).
        """
        hidden = {id(weight) for weight in hidden_maps} if self.optimiser == "muon" else set()
        groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            decay = self.weight_decay if parameter.ndim > 1 else 0.0
            orthogonal = id(parameter) in hidden
            scale = self.matrix_lr / self.lr if orthogonal else self._scale(name)
            groups.setdefault((decay, scale, orthogonal), []).append(parameter)
        options = [
            {"params": members, "weight_decay": decay, "lr": self.lr * scale, "lr_scale": scale}
            | ({"orthogonal": True} if orthogonal else {})
            for (decay, scale, orthogonal), members in groups.items()
        ]
        return _OPTIMISERS[self.optimiser](options, lr=self.lr)

    def _scale(self, name: str) -> float:
        return next((s for start, s in self.lr_scales.items() if name.startswith(start)), 1.0)
