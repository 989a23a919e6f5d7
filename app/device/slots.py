"""Slots of the shared memory, for those who wait for one: first come, first served, so that a large
image is not put off for ever by small ones.
"""

import asyncio
from collections import deque

from app.device.arena import Arena, Slot


class Slots:
    """Hands out the slots of an arena; on the event loop."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._waiting: deque[tuple[int, asyncio.Future[Slot]]] = deque()

    @property
    def in_use(self) -> int:
        """Bytes that are handed out."""
        return self._arena.in_use

    async def take(self, size: int) -> Slot:
        """A slot for ``size`` bytes of crops. Admission has seen to it that there is memory enough;
        where no stretch of it is long enough, this waits for one.
        """
        if not self._waiting and (slot := self._arena.allocate(size)) is not None:
            return slot
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(future.result())
            self._serve()  # it may have stood before others
            raise

    def release(self, slot: Slot) -> None:
        """Takes a slot back; nobody may write into it any more."""
        self._arena.release(slot)
        self._serve()

    def close(self) -> None:
        """Closes the arena."""
        self._arena.close()

    def _serve(self) -> None:
        while self._waiting:
            size, future = self._waiting[0]
            if not future.done():
                slot = self._arena.allocate(size)
                if slot is None:
                    return
                future.set_result(slot)
            self._waiting.popleft()
