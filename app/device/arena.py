"""Crops on their way to the worker: one shared-memory segment, handed out in slots.

The segment is a file in /dev/shm that is unlinked as soon as it is open; both processes map the
same descriptor, so nothing is left behind however they end.
"""

import bisect
import itertools
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.decoding.slots import NOBODY, STAMP_BYTES, crops_of, write_stamp

_SHM = Path("/dev/shm")
_ALIGN = 64


class ArenaError(Exception):
    """The machine can't hold the segment; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Part of the segment, and the stamp of its one owner."""

    offset: int
    size: int
    stamp: int


class Arena:
    """``size`` bytes of shared memory, allocated first-fit; used on the event loop only."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = _reserve(size)
        self._map = mmap.mmap(self.fd, size)
        self._free = [(0, size)]  # (offset, length), by offset, never adjacent
        self._owned: set[Slot] = set()
        self.in_use = 0  # bytes that are handed out
        self._stamps = itertools.count(NOBODY + 1)

    def allocate(self, size: int) -> Slot | None:
        """A slot for ``size`` bytes of crops, or None if no stretch is long enough."""
        size = slot_bytes(size)
        for i, (offset, length) in enumerate(self._free):
            if length >= size:
                self._free[i : i + 1] = [(offset + size, length - size)] if length > size else []
                slot = Slot(offset, size, next(self._stamps))
                self._owned.add(slot)
                self.in_use += size
                write_stamp(self._map, offset, slot.stamp)
                return slot
        return None

    def release(self, slot: Slot) -> None:
        """Takes a slot back and joins it with free neighbours. Nobody may write into it any more.

        Raises:
            KeyError: it was released before.
        """
        self._owned.remove(slot)
        self.in_use -= slot.size
        write_stamp(self._map, slot.offset, NOBODY)
        offset, size = slot.offset, slot.size
        i = bisect.bisect(self._free, (offset, 0))
        if i < len(self._free) and offset + size == self._free[i][0]:
            size += self._free.pop(i)[1]
        if i and sum(self._free[i - 1]) == offset:
            i -= 1
            offset, before = self._free.pop(i)
            size += before
        self._free.insert(i, (offset, size))

    def crops(self, slot: Slot, shape: tuple[int, ...]) -> np.ndarray:
        """The slot's crops as uint8 array.

        Raises:
            StaleSlot: it has another owner by now.
        """
        return crops_of(self._map, slot.offset, slot.stamp, shape)

    def close(self) -> None:
        """Closes the descriptor; the memory goes when the last mapping does."""
        os.close(self.fd)


def slot_bytes(size: int) -> int:
    """What a slot for ``size`` bytes of crops takes."""
    return -(-(STAMP_BYTES + size) // _ALIGN) * _ALIGN


@contextmanager
def attach(fd: int, size: int) -> Iterator[mmap.mmap]:
    """The worker's side: the segment behind an inherited descriptor."""
    segment = mmap.mmap(fd, size, prot=mmap.PROT_READ)
    try:
        yield segment
    finally:
        os.close(fd)


def _reserve(size: int) -> int:
    """A descriptor of ``size`` bytes that are really there: writing can't fail later with a bus
    error.

    Raises:
        ArenaError: not enough shared memory.
    """
    folder = _SHM if _SHM.is_dir() else Path(tempfile.gettempdir())
    fd, name = tempfile.mkstemp(prefix="agiqa-", dir=folder)
    os.unlink(name)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            os.ftruncate(fd, size)
    except OSError as error:
        os.close(fd)
        mib = size / 2**20
        raise ArenaError(
            f"{folder} can't hold {mib:.0f} MiB of shared memory for crops ({error.strerror}): "
            f"enlarge it (Docker: --shm-size or shm_size, at least {mib + 16:.0f}m), "
            "or lower AGIQA_MAX_CROP_MIB"
        ) from error
    return fd
