"""Requests that come while others are refused are looked at several at a time: one right behind
another costs less than one that wakes the process (docs/performance.md, what a refusal costs).
"""

import asyncio
from typing import Protocol

# So long a request waits for others, and no more of them wait.
GATHER_SECONDS = 0.04
GATHERED_MOST = 32


class Refuses(Protocol):
    """Who may refuse requests: those that POST to ``paths``."""

    paths: frozenset[bytes]

    @property
    def is_refusing(self) -> bool:
        """Whether it has refused somebody lately."""


class Waits(Protocol):
    """A request that has come and was not looked at yet."""

    def look(self) -> None:
        """Looks at it now."""


class Gathering:
    """Those that wait, in the order in which they came."""

    def __init__(
        self, door: Refuses, seconds: float = GATHER_SECONDS, most: int = GATHERED_MOST
    ) -> None:
        """``seconds``: that the first one waits at most; with the last of ``most`` they are all
        looked at.
        """
        self._door = door
        self._beginnings = tuple(b"POST " + path for path in door.paths)
        self._seconds = seconds
        self._most = most
        self._waiting: list[Waits] = []
        self._due: asyncio.TimerHandle | None = None

    def wants(self, beginning: bytes) -> bool:
        """Whether a request that begins so may wait."""
        return self._door.is_refusing and beginning.startswith(self._beginnings)

    def add(self, one: Waits) -> None:
        """Lets it wait."""
        self._waiting.append(one)
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._seconds, self._look)
        if len(self._waiting) >= self._most:
            self._look()

    def _look(self) -> None:
        if self._due:
            self._due.cancel()
        waiting, self._waiting, self._due = self._waiting, [], None
        loop = asyncio.get_running_loop()
        for one in waiting:
            loop.call_soon(one.look)  # what goes wrong with one is no matter of the others
