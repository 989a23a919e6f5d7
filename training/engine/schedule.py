"""How long, how fast and how precisely a run trains, and which of its epochs is kept."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

_OPTIMISERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


class Schedule(BaseModel):
    """The settings of a run of the engine.

    - ``batch`` images a step, over all processes; ``windows`` are cut from each of them;
    - ``decay``: the learning rate falls along a cosine after the warm-up, or stays;
    - ``clip_norm``: gradients longer than that are shortened; null: never;
    - ``ema``: decay of the weights' moving average, which is what is measured and kept; 0: none;
    - ``select``: the last epoch is kept, or the ``best`` on the validation part; ``patience``
      epochs without a better one end the run early;
    - ``validate_on``: the ``middle`` window of each validation image, or ``every`` window of the
      crop policy; the whole image too where the method looks at it;
    - ``precision``: ``auto`` is bf16 where the device multiplies it natively, else fp32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(ge=1)
    batch: int = Field(default=32, ge=1)
    windows: int = Field(default=1, ge=1)
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_epochs: float = Field(default=1.0, ge=0)
    decay: Literal["cosine", "none"] = "cosine"
    clip_norm: float | None = Field(default=1.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    evaluate_every: int = Field(default=1, ge=1)
    validate_on: Literal["middle", "every"] = "middle"
    select: Literal["last", "best"] = "last"
    patience: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, with ``steps`` in an epoch."""
        warmup = self.warmup_epochs * steps
        if step < warmup:
            return self.lr * (step + 1) / max(1.0, warmup)
        if self.decay == "none":
            return self.lr
        left = max(1.0, self.epochs * steps - warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / left))

    def optimiser_of(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser; biases, gains and scales don't decay."""
        groups = [
            {
                "params": [p for p in parameters.values() if p.ndim > 1],
                "weight_decay": self.weight_decay,
            },
            {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        filled = [group for group in groups if group["params"]]
        return _OPTIMISERS[self.optimiser](filled, lr=self.lr)
