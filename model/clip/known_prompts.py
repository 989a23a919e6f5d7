"""The features of the latest prompts, so that each is computed once."""

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor

# Whatever is sent as a prompt, its name in the cache is as long.
_DIGEST_BYTES = 16


class KnownPrompts:
    """Features by prompt, of so many at most: the one that was not asked for the longest goes.

    They are rows of one table, which takes its whole memory at once: with tensors of their own the
    process would grow for as long as new prompts come.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: OrderedDict[bytes, int] = OrderedDict()
        self._table: Tensor | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, prompt: str) -> bool:
        return _digest(prompt) in self._rows

    def get(self, prompt: str) -> Tensor | None:
        """A copy of its features [d], which is asking for it; None: they are not known."""
        name = _digest(prompt)
        if self._table is None or name not in self._rows:
            return None
        self._rows.move_to_end(name)
        return self._table[self._rows[name]].clone()

    def keep(self, prompt: str, features: Tensor) -> None:
        """Keeps features [d], from now on those of the latest prompt; all have one d and one
        type.
        """
        if self._table is None:
            # Written to, not only reserved: that is when a process gets the memory.
            self._table = torch.full((self._most, *features.shape), 0.0, dtype=features.dtype)
        name = _digest(prompt)
        row = self._rows.pop(name, len(self._rows))
        if row == self._most:
            _, row = self._rows.popitem(last=False)
        self._rows[name] = row
        self._table[row] = features


def _digest(prompt: str) -> bytes:
    # A str may hold halves of pairs that are no UTF-8.
    data = prompt.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
