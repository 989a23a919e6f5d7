"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): momentum, of which every
matrix is made orthogonal before its step, so that no direction of a weight learns much faster than
another.

torch's and timm's Muon iterate in bfloat16, which CPUs without it emulate at many times the cost;
torch's takes no convolutions. This one iterates in float32 unless the gradient is bfloat16, and
takes a convolution's kernel as the matrix [out, in * height * width].
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# The quintic iteration of the reference, which brings singular values to between 0.7 and 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5

# A step's root mean square, as large as AdamW's typically is (Liu et al., arXiv 2502.16982).
_RMS = 0.2


class Muon(torch.optim.AdamW):
    """AdamW whose groups with ``orthogonal: True`` take Muon's steps instead: Nesterov momentum
    ``momentum``, of the root mean square 0.2 ``lr``. They hold parameters of two and more
    dimensions.
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, lr=lr, fused=True)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        groups = self.param_groups
        for group in groups:
            if group.get("orthogonal"):
                for p in group["params"]:
                    if p.grad is not None:
                        self._step(p, p.grad, group)
        self.param_groups = [group for group in groups if not group.get("orthogonal")]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _step(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
            state["step"] = torch.zeros(())  # AdamW looks for it when a state is loaded
        mean = state["momentum"].lerp_(gradient, 1 - self.momentum)
        ahead = gradient.lerp(mean, self.momentum).flatten(1)
        size = _RMS * math.sqrt(max(ahead.shape))
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(orthogonal(ahead).view_as(p), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V' of the matrix' singular value decomposition U S V', by Newton-Schulz iteration."""
    x = matrix / (matrix.norm() + 1e-7)
    wide = x.T if len(x) > x.shape[1] else x
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = _A * wide + (_B * gram + _C * gram @ gram) @ wide
    return wide.T if len(x) > x.shape[1] else wide
