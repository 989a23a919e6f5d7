"""Crops on their way to a GPU: joined in pinned memory, and copied beside what it computes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Staged:
    """Crops uint8 [n, 3, h, w] that are on the device, or will be once ``copied`` has happened."""

    def __init__(self, pixels: Tensor, copied: torch.cuda.Event) -> None:
        self._pixels = pixels
        self._copied = copied

    def pixels(self) -> Tensor:
        """Them, for the current stream: what is launched from now on waits for the copy."""
        stream = torch.cuda.current_stream(self._pixels.device)
        stream.wait_event(self._copied)
        # They were allocated for the other stream, which is not to get the memory back too early.
        self._pixels.record_stream(stream)
        return self._pixels


class Staging:
    """Copies on a stream of its own; also in another thread than that of the network."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def join(self, crops: Sequence[np.ndarray]) -> Staged:
        """Crops behind each other; returns before they are copied."""
        shape = (sum(map(len, crops)), *crops[0].shape[1:])
        with torch.cuda.stream(self._stream):
            # Pinned memory is kept for the next one, which gets it when this copy has ended.
            pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            np.concatenate(crops, out=pinned.numpy())
            pixels = pinned.to(self._device, non_blocking=True)
            return Staged(pixels, self._stream.record_event())


def staging_for(device: torch.device) -> Staging | None:
    """None where the network computes in the memory that the crops are in."""
    return Staging(device) if device.type == "cuda" else None
