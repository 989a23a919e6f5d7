"""EfficientNet-Lite0's convolutions as the stem of an image tower.

EfficientNet (Tan and Le, ICML 2019) in its Lite form: ReLU6 everywhere, no squeeze-and-excitation,
the first and last convolutions of fixed width. Batch norms are folded into the convolutions before
them, so there are none here. ``training.pretrained_stem`` fills it with weights that saw ImageNet.

A window of a stem's input becomes tokens in three ways: each cell of 32 x 32 pixels by the mean and
deviation of what four depths hold of it; the class token by the same of the whole view, and by what
classes the view shows.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip import one_pass

CLASSES = 1000
PATCH = 32
_FIRST, _LAST = 32, 1280


@dataclass(frozen=True)
class _Stage:
    """Blocks of one kind: the first has the stride, the others keep the size."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# After these stages, at strides 4, 8, 16 and 32, what an image shows is summed up.
_DEPTHS = (1, 2, 4, 6)
_SUMMED = tuple(_STAGES[depth].channels for depth in _DEPTHS)
# Of a cell: mean and deviation at each depth, but the last, of which a cell has one value.
_OF_CELL = 2 * sum(_SUMMED) - _SUMMED[-1]
# Of a view: both at all depths, and the mean of the last convolution, which the classifier reads.
_OF_VIEW = 2 * sum(_SUMMED) + _LAST
# In one pass, since half of the time of such a network is reading and writing its widest maps.
_RELU6 = [0.0, 6.0]
# Views that a CPU sees at once: of many, the widest maps take over 32 MiB, which the C library gets
# from the system and gives back each time. That halved the speed.
_AT_ONCE = 3
# Under the root of a variance, where its slope would have no end.
_TINY = 1e-6
# In deviations.
_FAR = 8.0
# So many of a view's 2272 features are left out of each training step: there are as many images.
_DROPOUT = 0.3


class _Convolution(nn.Conv2d):
    """A convolution with bias whose output is ceil(size / stride), padded as TensorFlow does: at
    stride 2, of an even size, one more at the end than at the start.
    """

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        groups = fan_in if depthwise else 1
        super().__init__(fan_in, fan_out, kernel, stride, padding, groups=groups)
        before = (kernel - 2) // 2
        self._ends = (before, kernel - 2 - before) * 2 if stride == 2 else ()
        self._is_widened = stride == 2 and depthwise

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self._padded(x))

    def clipped(self, x: Tensor) -> Tensor:
        """relu6 of the convolution, in one pass over its output where that can be had."""
        if not one_pass.fuses(x, self.weight):
            return F.relu6(self(x))
        if self._is_widened:
            return self._widened(x)
        return one_pass.CONVOLUTION(self._padded(x), *self._how, "hardtanh", _RELU6, "")

    def added_to(self, before: Tensor, x: Tensor) -> Tensor:
        """``before`` + the convolution of x, likewise."""
        if not one_pass.fuses(x, self.weight):
            return before + self(x)
        sums = one_pass.CONVOLUTION.binary
        return sums(self._padded(x), before, *self._how, "add", 1.0, None, [], None)

    def _widened(self, x: Tensor) -> Tensor:
        """The same by a kernel that is larger by one, of zeros where it begins: so both ends of the
        input are padded alike, which oneDNN does by itself, without a copy of the input.
        """
        weight = F.pad(self.weight, (1, 0, 1, 0))
        padding = (weight.shape[-1] // 2 - 1,) * 2
        where = (padding, self.stride, self.dilation, self.groups)
        return one_pass.CONVOLUTION(x, weight, self.bias, *where, "hardtanh", _RELU6, "")

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, self._ends) if self._ends else x

    @property
    def _how(self) -> tuple[Any, ...]:
        where = (self.padding, self.stride, self.dilation, self.groups)
        return (self.weight, self.bias, *where)


class _InvertedResidual(nn.Module):
    """Wider by 1 x 1, depthwise, narrower by 1 x 1 (MobileNetV2's block)."""

    def __init__(self, fan_in: int, fan_out: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        wide = fan_in * stage.expansion
        self.expand = _Convolution(fan_in, wide) if stage.expansion > 1 else None
        self.depthwise = _Convolution(wide, wide, stage.kernel, stride, depthwise=True)
        self.project = _Convolution(wide, fan_out)
        self._is_residual = stride == 1 and fan_in == fan_out

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else self.expand.clipped(x)
        deep = self.depthwise.clipped(wide)
        out: Tensor = self.project.added_to(x, deep) if self._is_residual else self.project(deep)
        return out


class EfficientNetLite(nn.Module):
    """The network up to its classifier; random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _Convolution(3, _FIRST, 3, 2)
        widths = (_FIRST, *(stage.channels for stage in _STAGES))
        self.stages = nn.ModuleList(
            nn.Sequential(
                _InvertedResidual(fan_in, stage.channels, stage, stage.stride),
                *(
                    _InvertedResidual(stage.channels, stage.channels, stage, 1)
                    for _ in range(stage.repeats - 1)
                ),
            )
            for (fan_in, _), stage in zip(itertools.pairwise(widths), _STAGES, strict=True)
        )
        self.last = _Convolution(widths[-1], _LAST)
        self.classifier = nn.Linear(_LAST, CLASSES)
        self.to(memory_format=torch.channels_last)  # faster on CPUs

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """[B, 3, h, w], scaled to [-1, 1], to maps [B, c, h / s, w / s] at strides 4, 8, 16, 32,
        and the last convolution's [B, 1280, h / 32, w / 32].
        """
        x = self.first.clipped(pixels.contiguous(memory_format=torch.channels_last))
        maps = []
        for depth, stage in enumerate(self.stages):
            x = stage(x)
            if depth in _DEPTHS:
                maps.append(x)
        return [*maps, self.last.clipped(x)]

    def freeze(self, stages: int) -> None:
        """The first so many of the seven stages, with all before them, learn nothing; more: none
        of the network does.
        """
        self.requires_grad_(stages <= len(self.stages))
        self.first.requires_grad_(not stages)
        self.stages[:stages].requires_grad_(False)


class Standardisation(nn.Module):
    """Features less a mean, times a scale, both fixed: they make features of unlike sizes learn
    alike. They are measured once (``fit``) and rounded so that each dtype holds them exactly.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """To features [n, c]: their means, and powers of two near 1 / deviation."""
        self.mean.copy_(features.mean(0).bfloat16())
        deviation = features.std(0).clamp(2.0**-8, 2.0**8)
        self.scale.copy_(2.0 ** -deviation.log2().round())

    def forward(self, features: Tensor) -> Tensor:
        """What lies far out, as no image of the first ones did, counts as if it lay less far."""
        return ((features - self.mean.float()) * self.scale.float()).clamp(-_FAR, _FAR)


class EfficientNetStem(nn.Module):
    """The hybrid's first half: tokens [B, 1 + h w / 32^2, width] of views [B, 3, h, w], without
    class embedding and positions.

    ``class_vectors`` [1000, width]: what each class adds to the class token; the probabilities are
    a softmax at a learned temperature. Where a view shows what a prompt names, so does its token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = EfficientNetLite()
        self.of_cells = Standardisation(_OF_CELL)
        self.of_views = Standardisation(_OF_VIEW)
        self.cells = nn.Linear(_OF_CELL, width)
        self.view = nn.Linear(_OF_VIEW, width, bias=False)
        nn.init.normal_(self.view.weight, std=_OF_VIEW**-0.5)
        self.class_vectors = nn.Parameter(torch.zeros(CLASSES, width))
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.see(pixels)[0]

    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens, and float32 the probabilities of ImageNet's classes [B, 1000]."""
        cells, view, seen = self._statistics(pixels)
        dtype = self.view.weight.dtype
        logits = self.convolutions.classifier(seen.to(dtype)).float()
        shown = (logits / self.temperature.float()).softmax(-1)
        features = F.dropout(self.of_views(view), _DROPOUT, self.training).to(dtype)
        first = self.view(features) + shown.to(dtype) @ self.class_vectors
        patches = self.cells(self.of_cells(cells).to(dtype))
        return torch.cat([first[:, None], patches], dim=1), shown

    def _statistics(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``statistics`` of the views, on a CPU of a few of them at a time."""
        if not (pixels.is_cpu and torch.is_inference_mode_enabled()):
            return statistics(self.convolutions(pixels))
        parts = max(1, math.ceil(len(pixels) / _AT_ONCE))
        found = [statistics(self.convolutions(part)) for part in pixels.tensor_split(parts)]
        cells, view, seen = (torch.cat(each) for each in zip(*found, strict=True))
        return cells, view, seen

    @property
    def is_fitted(self) -> bool:
        """Whether the features are standardised yet."""
        return bool((self.of_views.scale != 1).any())

    @torch.no_grad()
    def start_from(self, vectors: Tensor, projection: Tensor) -> None:
        """Has a view's class token point to what it shows before anything is learned: ``vectors``
        [1000, d] of the classes, ``projection`` [width, d] of the tower.
        """
        self.class_vectors.copy_(vectors @ torch.linalg.pinv(projection))
        nn.init.zeros_(self.view.weight)

    @torch.no_grad()
    def fit(self, views: Sequence[Tensor]) -> None:
        """Sets the standardisations to what normalised views [n, 3, h, w] show."""
        found = [statistics(self.convolutions(each)) for each in views]
        self.of_cells.fit(torch.cat([cells.flatten(0, 1) for cells, _, _ in found]))
        self.of_views.fit(torch.cat([view for _, view, _ in found]))


def statistics(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of ``EfficientNetLite``'s maps, in float32: of each cell [B, n, c] and of the view [B, c'],
    means and deviations, but the last map's mean alone; and that [B, 1280], which the classifier
    reads.
    """
    *depths, last = maps
    size = (last.shape[-2], last.shape[-1])
    cells, view = [], []
    for x in depths:
        mean = F.adaptive_avg_pool2d(x.float(), size)
        square = F.adaptive_avg_pool2d(x.float().square(), size)
        cells.append(mean)
        if x.shape[-2:] != size:
            cells.append(_deviation(mean, square))
        view += _of_view(mean, square)
    seen = last.float().mean((2, 3))
    return torch.cat(cells, dim=1).flatten(2).transpose(1, 2), torch.cat([*view, seen], 1), seen


def _of_view(mean: Tensor, square: Tensor) -> list[Tensor]:
    """Mean and deviation over all cells, from those of each [B, c, h, w]."""
    whole = mean.mean((2, 3))
    return [whole, _deviation(whole, square.mean((2, 3)))]


def _deviation(mean: Tensor, square: Tensor) -> Tensor:
    return (square - mean.square()).clamp(min=0).add(_TINY).sqrt()
