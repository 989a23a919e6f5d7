"""Lets the images of batch calls in, a few at a time: only those that are decoded, queued or
computed hold shared memory, and whoever sends one image finds the room that the rest leave.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from app.batching.fairness import Priority, Sender
from app.batching.ledger import Load, Ticket

# Batches' worth of images inside: one that is computed, one that waits, one that is decoded.
_BATCHES = 3.0


@dataclass
class _Queue:
    """The images of one sender that wait; ``served``: what it had, by its weight."""

    sender: Sender
    served: float
    waiting: deque[tuple[Ticket, asyncio.Future[None]]] = field(default_factory=deque)


class Lane:
    """Who of those that wait is next: of the interactive class first, then whoever had the least of
    the share that its weight gives.
    """

    def __init__(
        self,
        has_room: Callable[[Load], bool],
        batches: Callable[[Ticket], float],
        most_bytes: int,
    ) -> None:
        """``has_room`` within the service's ceilings; ``batches``: what part of a batch an image
        fills; ``most_bytes`` of crops are inside.
        """
        self._has_room = has_room
        self._batches = batches
        self._most_bytes = most_bytes
        self._inside: dict[Ticket, tuple[float, int]] = {}
        self._queues: dict[tuple[Priority, str], _Queue] = {}
        self._served = 0.0  # by those who were served last

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    async def enter(self, ticket: Ticket) -> None:
        """Waits until the image of a ticket may be decoded; it then counts against the ceilings."""
        sender = ticket.sender
        key = (sender.priority, sender.owner)
        # Who comes new has no claim on what went by without it.
        queue = self._queues.setdefault(key, _Queue(sender, self._served))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.waiting.append((ticket, future))
        self.look()
        try:
            await future
        except asyncio.CancelledError:
            self.leave(ticket)  # it may have been let in just now
            self.look()
            raise

    def leave(self, ticket: Ticket) -> None:
        """The image is answered, and its slot free; whose ticket is released next, which is when
        others are let in.
        """
        self._inside.pop(ticket, None)

    def look(self) -> None:
        """Lets in whoever there is room for."""
        while (queue := self._next()) is not None:
            ticket, future = queue.waiting[0]
            part, size = self._batches(ticket), ticket.load.bytes
            if not self._fits(part, size) or not self._has_room(ticket.load):
                return
            queue.waiting.popleft()
            queue.served += part / queue.sender.weight
            self._served = max(self._served, queue.served - part / queue.sender.weight)
            self._inside[ticket] = part, size
            ticket.hold()
            future.set_result(None)

    def _next(self) -> _Queue | None:
        for key, queue in list(self._queues.items()):
            while queue.waiting and queue.waiting[0][1].done():  # its client is gone
                queue.waiting.popleft()
            if not queue.waiting and queue.served <= self._served:
                del self._queues[key]
        waiting = [queue for queue in self._queues.values() if queue.waiting]
        if not waiting:  # nobody has to share with anybody
            self._queues.clear()
            self._served = 0.0
        order = (Priority.INTERACTIVE, Priority.BULK)
        return min(
            waiting,
            key=lambda queue: (order.index(queue.sender.priority), queue.served),
            default=None,
        )

    def _fits(self, part: float, size: int) -> bool:
        if not self._inside:
            return True
        parts = sum(part for part, _ in self._inside.values())
        sizes = sum(size for _, size in self._inside.values())
        return parts + part <= _BATCHES and sizes + size <= self._most_bytes
