"""Float32 for all that is read from a tower's features: logits, heads and losses, whatever type the
tower itself runs in.

A logit is CLIP's scale of about 100 times a cosine, 25 to 30, where bfloat16 steps by 1/8: the
scores of a whole data set would fall on a few dozen values.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Inside, tensors on the device of ``like`` are computed in their own types, whatever autocast
    surrounds it.
    """
    kind = like.device.type
    # The meta device, say, has none to switch off.
    available = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind, enabled=False) if available else nullcontext()


def widened(x: Tensor) -> Tensor:
    """The 16-bit types as float32, wider ones as they are."""
    return x.float() if x.dtype.itemsize < torch.float32.itemsize else x
