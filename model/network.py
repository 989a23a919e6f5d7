"""What every method gives the rest: a network that trains, and its folded form that scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from model.config import Head
from model.scores import Score


@dataclass(frozen=True)
class Views:
    """One image's features in one pass: windows [n, d] and, where that pass has it, the whole
    image [d]; normalised.
    """

    windows: Tensor
    whole: Tensor | None

    @property
    def all(self) -> Tensor:
        """[n or n + 1, d]."""
        return self.windows if self.whole is None else torch.cat([self.windows, self.whole[None]])


class Folded(Protocol):
    """A network at inference, everything learned turned into constants."""

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Puts what is large on the device, in that type."""

    def __call__(self, pixels: Tensor, row_crop: Tensor, row_pass: Tensor) -> Tensor:
        """Float32 rows [m, d] of normalised crops [n, 3, h, w]; each row computed on its own."""

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Normalised float32 features [n, d] of users' prompts."""

    def read(
        self,
        passes: Mapping[int, Views],
        heads: Sequence[str],
        t_user: Tensor | None,
        *,
        whole: bool,
    ) -> Score:
        """One image's Score from its views per pass; ``whole``: the global view counts."""


class Network(nn.Module):
    """A method's network: a frozen backbone and declared learnable parameters.

    ``heads`` names what it can score; ``input_size`` is the side of the crops that it takes.
    """

    heads: tuple[Head, ...]
    input_size: int

    def learned(self) -> dict[str, nn.Parameter]:
        """The declared parameters: what trains, and what a checkpoint keeps."""
        raise TypeError(f"{type(self).__name__} declares no parameters")

    def fold(self) -> Folded:
        """The network at inference."""
        raise TypeError(f"{type(self).__name__} can't be folded")
