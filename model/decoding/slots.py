"""Slots of a shared segment: a stamp that says whose they are, then crops.

A stamp is never used twice, so whoever comes too late to a slot finds another one there, and
neither writes nor reads what is somebody else's.
"""

import math
import mmap

import numpy as np

# Before the crops; as long as a cache line, so that they stay aligned.
STAMP_BYTES = 64
_WIDTH = 8
NOBODY = 0


class StaleSlot(Exception):
    """The slot belongs to another image by now."""


def write_stamp(segment: mmap.mmap, offset: int, stamp: int) -> None:
    """Gives the slot at ``offset`` to the owner of the stamp."""
    segment[offset : offset + _WIDTH] = stamp.to_bytes(_WIDTH, "little")


def crops_of(segment: mmap.mmap, offset: int, stamp: int, shape: tuple[int, ...]) -> np.ndarray:
    """The crops of the slot at ``offset``, uint8 of that shape.

    Raises:
        StaleSlot: it has another stamp.
    """
    if int.from_bytes(segment[offset : offset + _WIDTH], "little") != stamp:
        raise StaleSlot
    return np.frombuffer(segment, np.uint8, math.prod(shape), offset + STAMP_BYTES).reshape(shape)
