"""What every method gives the rest: a network that trains, and its folded form that scores.

What the methods share lives here once: the frozen CLIP with its learnable parameters, how features
of single crops are computed, and how crops are put together into an image's value.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar, Protocol, Self, cast, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.known_words import known_words_of
from model.clip.prompts import encode_with_context
from model.clip.resnet import ResNetTower
from model.clip.towers import TextTower, place
from model.clip.whole import tokenizer_of
from model.config import CropKind, Head, Normalisation
from model.methods.precision import widened
from model.preprocess.crops import QUALITY_PASS
from model.scores import Score


@dataclass(frozen=True)
class Views:
    """One image's rows in one pass: windows [n, d] and, where that pass has it, the whole image
    [d].
    """

    windows: Tensor
    whole: Tensor | None

    @property
    def all(self) -> Tensor:
        """[n or n + 1, d]."""
        return self.windows if self.whole is None else torch.cat([self.windows, self.whole[None]])

    def mixed(self, weight: Tensor, each: Callable[[Tensor], Tensor] = lambda row: row) -> Tensor:
        """What ``each`` gives for a row [d], of the whole image: the mean over windows, mixed with
        the global view's by its ``weight``.
        """
        mean = each(self.windows).mean(0)
        return mean if self.whole is None else mix_views(mean, each(self.whole), weight)


@dataclass(frozen=True)
class Reading:
    """How one head is read from the views of an image.

    ``value`` gives the score [], differentiable and not clipped. ``weight`` [] is the global view's
    beside the mean of the windows; None: it is one view among all.
    """

    value: Callable[[Views], Tensor]
    weight: Tensor | None = None

    def share(self, windows: int) -> float:
        """What the global view counts in the value beside that many windows, in [0, 1]."""
        return 1 / (windows + 1) if self.weight is None else float(self.weight)


def normalise(pixels: Tensor, normalisation: Normalisation) -> Tensor:
    """uint8 [..., 3, h, w] to float32: less the mean over the deviation of pixels in [0, 1]."""
    mean, std = (
        torch.tensor(channels, device=pixels.device).view(3, 1, 1) * 255
        for channels in (normalisation.mean, normalisation.std)
    )
    # In place, in a copy of its own whatever the pixels' type: a large batch is not held thrice.
    return pixels.to(torch.float32, copy=True).sub_(mean).div_(std)


def mix_views(windows: Tensor, whole: Tensor, weight: Tensor) -> Tensor:
    """(1 - weight) * mean over windows + weight * global view."""
    return (1 - weight) * windows + weight * whole


class Options(BaseModel):
    """Base of the methods' switches: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Folded(Protocol):
    """A network at inference, everything learned turned into constants."""

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Puts what is large on the device, in that type."""

    def __call__(self, pixels: Tensor, row_crop: Tensor, row_pass: Tensor) -> Tensor:
        """Float32 rows [m, d] of normalised crops [n, 3, h, w]; each row computed on its own."""

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Normalised float32 features [n, d] of users' prompts."""

    def read(self, views: Mapping[Head, Views], t_user: Tensor | None = None) -> Score:
        """One image's Score from the views that count for each head."""


@runtime_checkable
class Explainable(Protocol):
    """What a folded network needs on top, so that its scores can be traced back to the image."""

    def reading(self, head: Head, t_user: Tensor | None = None) -> Reading:
        """How a head is read; ``t_user`` [d], the prompt's feature, is for consistency."""

    def class_features(self, pixels: Tensor) -> Tensor:
        """Class features float32 [n, d], through CLIP's projection, of normalised crops
        [n, 3, h, w] in the quality pass.
        """


class Network(nn.Module):
    """A method's network: a CLIP and declared learnable parameters.

    ``heads`` names what it can score; ``input_size`` is the side of the crops that it takes, and
    ``takes_any_size`` tells that other sizes and shapes do as well. ``trainable`` declares what
    learns, parameters and modules by name (those that an option leaves out are None). The CLIP is
    frozen, and in evaluation mode for ever, unless the method says ``tunes_backbone``: then a
    checkpoint holds it as its backbone. ``usual_policy``: the crops that the method's paper scores,
    ``usual_windows`` the most of them in a grid.
    """

    options_type: ClassVar[type[Options]] = Options
    trainable: ClassVar[tuple[str, ...]] = ()
    tunes_backbone: ClassVar[bool] = False
    usual_policy: ClassVar[CropKind] = "grid"
    usual_windows: ClassVar[int] = 64
    heads: tuple[Head, ...] = ("quality",)
    options: Options

    def __init__(self, clip: nn.Module, vision: nn.Module, text: nn.Module | None = None) -> None:
        """``text``: None, for the tower that takes prompts."""
        super().__init__()
        size = cast(Any, clip.visual).image_size
        self.input_size = int(size[0] if isinstance(size, tuple | list) else size)
        self.takes_any_size = isinstance(vision, ResNetTower)
        self.vision = vision
        self.text = cast(TextTower, text or TextTower(clip))
        self.tokenizer = tokenizer_of(clip)
        self.known_words = known_words_of(clip)
        self.logit_scale = cast(Tensor, clip.logit_scale)
        clip.requires_grad_(self.tunes_backbone)
        self.logit_scale.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode for what learns; frozen towers' batch norms keep their statistics."""
        super().train(mode)
        if not self.tunes_backbone:
            self.vision.eval()
            self.text.eval()
        return self

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The declared parameters: all that trains.

        Raises:
            AttributeError: one is declared that the network does not have.
        """
        for declared in self.trainable:
            attrgetter(declared)(self)
        starts = tuple(f"{declared}." for declared in self.trainable)
        return {n: p for n, p in self.named_parameters() if f"{n}.".startswith(starts)}

    def freeze_undeclared(self) -> None:
        """No parameter but the declared ones gets a gradient."""
        declared = self.trainable_parameters()
        for name, parameter in self.named_parameters():
            if name not in declared:
                parameter.requires_grad_(False)

    def stored(self) -> dict[str, nn.Parameter]:
        """What a checkpoint keeps beside its backbone."""
        return {} if self.tunes_backbone else self.trainable_parameters()

    def require_room(self, context_length: int, texts: Iterable[str]) -> None:
        """Refuses a context that leaves the text tower no room for one of the texts.

        Raises:
            ValueError: says how long it may be.
        """
        longest = max(len(self.tokenizer(text)) for text in texts)
        most = self.text.context_length - longest - 2  # start and end
        if context_length > most:
            raise ValueError(f"context_length is {context_length}; this backbone takes {most}")

    def encode_texts(
        self,
        texts: Iterable[str],
        context: Tensor | None = None,
        deep: Tensor | None = None,
        *,
        after: Tensor | None = None,
    ) -> Tensor:
        """Normalised features [n, d] of [context, text, after] (see ``encode_with_context``); None:
        the text alone.
        """
        if context is None:
            context = torch.empty(0, self.text.width, device=self.logit_scale.device)
        words = [self.tokenizer(text) for text in texts]
        z = encode_with_context(self.text, words, context, self.tokenizer, deep, after=after)
        return F.normalize(widened(z), dim=-1)

    def fold(self) -> Folded:
        """The network at inference."""
        raise TypeError(f"{type(self).__name__} can't be folded")


class ImageTower(Protocol):
    """What ``FoldedFeatures`` needs of a tower; ViTs and ResNets have it."""

    def patchify(self, pixels: Tensor) -> Tensor:
        """Pixels to what ``encode`` takes."""

    def encode(self, tokens: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Image features [B, d], not normalised."""


class FoldedFeatures(nn.Module):
    """Rows that are normalised image features: what most methods read.

    ``prompts`` [passes, layers, P, w] are constant; None: a tower without prompts.
    """

    def __init__(self, vision: nn.Module, prompts: Tensor | None = None) -> None:
        super().__init__()
        self.vision = vision
        self.prompts = prompts

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Puts the image tower on the device in ``dtype``; what reads stays on the CPU."""
        place(self.vision, device, dtype)
        self.prompts = None if self.prompts is None else self.prompts.to(device, dtype)

    def forward(self, pixels: Tensor, row_crop: Tensor, row_pass: Tensor) -> Tensor:
        """Normalised features float32 [m, d] of m rows over n crops [n, 3, h, w]; patches are
        embedded once per crop.
        """
        tower = cast(ImageTower, self.vision)
        tokens = tower.patchify(pixels)[row_crop]
        prompts = None if self.prompts is None else self.prompts[row_pass]
        return F.normalize(tower.encode(tokens, prompts).float(), dim=-1)

    def class_features(self, pixels: Tensor) -> Tensor:
        """The rows of the quality pass."""
        rows = torch.arange(len(pixels), device=pixels.device)
        return self(pixels, rows, torch.full_like(rows, QUALITY_PASS))


class ReadsQuality(ABC):
    """How methods without alignment and consistency are read: one pass, no user's prompt.

    ``global_weight`` [] is the global view's; None: it is one view among all.
    """

    global_weight: Tensor | None = None

    @abstractmethod
    def value(self, views: Views) -> Tensor:
        """The quality [], differentiable and not clipped."""

    def reading(self, head: Head, t_user: Tensor | None = None) -> Reading:
        del head, t_user
        return Reading(self.value, self.global_weight)

    @abstractmethod
    def score(self, views: Views) -> Score:
        """One image's Score from its views."""

    def read(self, views: Mapping[Head, Views], t_user: Tensor | None = None) -> Score:
        del t_user
        return self.score(views["quality"])

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Refused: there is no head that compares with users' prompts."""
        del prompts
        raise TypeError(f"{type(self).__name__} has no features of users' prompts")
