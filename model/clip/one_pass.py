"""A product, and what is done with its outputs, in one pass: oneDNN's operators, as torch.compile
calls them.

They are for CPUs of x86, and know no gradient: scoring has all of them, and training, of frozen
layers, the bare product, whose gradient is one more. Elsewhere torch's own operators compute the
same. Weights stay as they are.
"""

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

CONVOLUTION: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_IS_FOR_THIS_CPU = (
    CONVOLUTION is not None
    and _LINEAR is not None
    and torch.backends.mkldnn.is_available()
    and platform.machine().lower() in {"x86_64", "amd64"}
)


def fuses(x: Tensor, weight: Tensor) -> bool:
    """Whether x is seen for its scores alone, on a CPU that these operators are for."""
    return (
        torch.is_inference_mode_enabled()
        and _can(x)
        and x.dtype == weight.dtype
        and not torch.is_autocast_enabled("cpu")
    )


def fuses_layer(block: Any, x: Tensor) -> bool:
    """Whether a transformer layer can run on x by ``linear``, ``added`` and ``mlp_added``: seen for
    its scores, or frozen.
    """
    mlp, weight = block.mlp, block.attn.in_proj_weight
    return (
        isinstance(mlp, nn.Sequential)
        and (fuses(x, weight) or _is_frozen(block, x, weight))
        and _quickness(mlp[1]) is not None
        and type(block.ls_1) is type(block.ls_2) is nn.Identity
        and type(block.ln_2).__name__ == "LayerNorm"  # torch's or open_clip's, which is the same
        and all(type(mlp[i]) is nn.Linear and mlp[i].bias is not None for i in (0, 2))
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product x W^T + b, where ``fuses_layer``: on a CPU of AMD, it alone is faster than
    torch's own by a quarter in float32.
    """
    if torch.is_inference_mode_enabled():
        return _linear(x, weight, bias)
    return _FrozenLinear.apply(x, weight, bias)


def added(before: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``before`` + x W^T + b, likewise."""
    if torch.is_inference_mode_enabled():
        return _LINEAR.binary(x, before, weight, bias, "add")
    return before + linear(x, weight, bias)


def mlp_added(block: Any, x: Tensor) -> Tensor:
    """What a layer's second half adds to x, and x, where ``fuses_layer``.

    oneDNN has swish(a) = a sigmoid(a), so QuickGELU is had from 1.702 times what enters the first
    product: swish(1.702 u) = 1.702 QuickGELU(u), which is divided out where x is added.
    """
    norm, (first, _, second) = block.ln_2, block.mlp
    scale = _quickness(block.mlp[1])
    if scale is None or scale == 1:
        wide = _activated(norm(x), first.weight, first.bias, block.mlp[1])
        return added(x, wide, second.weight, second.bias)
    normed = F.layer_norm(
        x, norm.normalized_shape, norm.weight * scale, norm.bias * scale, norm.eps
    )
    wide = _activated(normed, first.weight, first.bias * scale, block.mlp[1])
    return torch.add(x, linear(wide, second.weight, second.bias * scale), alpha=1 / scale)


class _FrozenLinear(torch.autograd.Function):
    """The product x W^T + b, of whose operands x alone may want a gradient; under autocast in its
    dtype.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        weight = weight.to(dtype)
        ctx.save_for_backward(weight)
        return _linear(x.to(dtype), weight, None if bias is None else bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _linear(gradient.contiguous(), weight.t(), None), None, None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _LINEAR(x, weight, bias, "none", [], "")


def _activated(x: Tensor, weight: Tensor, bias: Tensor, activation: nn.Module) -> Tensor:
    """What GELU makes of the product, or swish in QuickGELU's place."""
    is_gelu = isinstance(activation, nn.GELU)
    if torch.is_inference_mode_enabled():
        algorithm = activation.approximate if is_gelu else ""
        return _LINEAR(x, weight, bias, "gelu" if is_gelu else "swish", [], algorithm)
    wide = linear(x, weight, bias)
    return activation(wide) if is_gelu else F.silu(wide)


def _quickness(activation: nn.Module) -> float | None:
    """What to multiply the argument of an activation with, so that swish takes its place; 1: it is
    GELU; None: it is neither that nor QuickGELU.
    """
    if type(activation) is nn.GELU:
        return 1.0
    return 1.702 if type(activation).__name__ == "QuickGELU" else None


def _is_frozen(block: Any, x: Tensor, weight: Tensor) -> bool:
    """Whether a CPU that these operators are for needs no gradient of a layer's parameters."""
    return (
        not torch.is_inference_mode_enabled()
        and _can(x)
        and x.dtype == weight.dtype
        and not any(p.requires_grad for p in block.parameters())
    )


def _can(x: Tensor) -> bool:
    """Whether the operators are there for x, and nobody looks on: what counts operations, or runs
    on tensors without values, doesn't know them.
    """
    if not (_IS_FOR_THIS_CPU and x.is_cpu and _get_current_dispatch_mode() is None):
        return False
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else x.dtype
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
