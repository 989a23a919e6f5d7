"""How many connections may be open, and which of them makes room for another."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)

# Connections over the limit that are still taken: probes and scrapes are answered on them.
RESERVE = 32


class Connection(Protocol):
    """One that is open."""

    transport: asyncio.Transport


class Connections:
    """Those that are open. When there are too many, the one that has waited longest for a request
    makes room: first of those that never sent one.
    """

    def __init__(
        self, most: int, header_seconds: float, read_seconds: float, closed: Callable[[str], None]
    ) -> None:
        """``read_seconds``: for a client to take what is being sent to it, piece by piece;
        ``closed`` hears why a connection was closed.
        """
        self.most = most
        self.header_seconds = header_seconds
        self.read_seconds = read_seconds
        self.closed = closed
        self._open: set[Connection] = set()
        self._new: dict[Connection, None] = {}
        self._kept: dict[Connection, None] = {}
        self._is_logged = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, one: Connection) -> bool:
        """Takes a new connection; returns False where there is no place for it at all."""
        if len(self._open) >= self.most:
            self._make_room()
        if len(self._open) >= self.most + RESERVE:
            self.closed("crowded")
            return False
        self._open.add(one)
        self._new[one] = None
        return True

    @property
    def is_crowded(self) -> bool:
        """Whether there are more than there should be."""
        return len(self._open) > self.most

    def serves(self, one: Connection) -> None:
        """A request has come on it."""
        self._new.pop(one, None)
        self._kept.pop(one, None)

    def waits(self, one: Connection) -> None:
        """Its request is answered, and it is kept for another."""
        if one in self._open:
            self._kept[one] = None

    def remove(self, one: Connection) -> None:
        """It is closed."""
        self._open.discard(one)
        self.serves(one)

    def _make_room(self) -> None:
        if not self._is_logged:
            self._is_logged = True
            logger.warning(
                "%d connections are open, the most that AGIQA_MAX_CONNECTIONS or the limit on open "
                "files allows; from now on idle ones are closed for new ones",
                len(self._open),
            )
        oldest = next(iter(self._new or self._kept), None)
        if oldest is not None:
            self.remove(oldest)
            self.closed("crowded")
            oldest.transport.abort()
