"""Images that ended the worker, recognized when they come again.

An image that did so once, among others or alone, is a suspect: it runs alone from then on, and is
cleared by a score. One that did it twice is refused. Both are forgotten after a time, when many
newer ones come, and when the service starts again.
"""

import asyncio
import logging
from collections.abc import Callable

from app.batching.errors import Quarantined
from app.contents import Content

logger = logging.getLogger(__name__)

MOST = 1024
SUSPECT_SECONDS = 3600.0
QUARANTINE_SECONDS = 86400.0


class _Recent:
    """Digests for some seconds each, the oldest dropped when there are too many."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._until: dict[bytes, float] = {}

    def __len__(self) -> int:
        self._tidy()
        return len(self._until)

    def __contains__(self, digest: bytes) -> bool:
        return self._until.get(digest, 0.0) > self._clock()

    def add(self, digest: bytes) -> None:
        self.discard(digest)
        self._until[digest] = self._clock() + self._seconds
        self._tidy()

    def discard(self, digest: bytes) -> None:
        self._until.pop(digest, None)

    def _tidy(self) -> None:
        now = self._clock()
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now and len(self._until) <= self._most:
                return
            del self._until[oldest]


class Quarantine:
    """Knows images by a digest of their bytes, prompt and model; it is computed only while there is
    anything to compare it with.
    """

    def __init__(self, clock: Callable[[], float], most: int = MOST) -> None:
        self._suspects = _Recent(most, SUSPECT_SECONDS, clock)
        self._convicted = _Recent(most, QUARANTINE_SECONDS, clock)
        self._tasks: set[asyncio.Task[None]] = set()

    async def check(self, content: Content, prompt: str | None, model: str) -> int:
        """How many workers it ended, as far as is known.

        Raises:
            Quarantined: it is not to be tried again.
        """
        if not (self._suspects or self._convicted):
            return 0
        digest = await content.digest(model, prompt or "")
        if digest in self._convicted:
            raise Quarantined
        return 1 if digest in self._suspects else 0

    def record(self, content: Content, prompt: str | None, model: str, crashes: int) -> None:
        """Notes that it has ended so many workers; 0 clears it. Takes effect a little later, once
        the digest is there.
        """
        task = asyncio.create_task(self._record(content, prompt, model, crashes))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Returns when all that was recorded has taken effect."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _record(self, content: Content, prompt: str | None, model: str, crashes: int) -> None:
        digest = await content.digest(model, prompt or "")
        if crashes > 1:
            self._suspects.discard(digest)
            self._convicted.add(digest)
            extra = {"digest": digest.hex()}
            logger.error("an image ended the worker twice; it is quarantined", extra=extra)
        elif crashes == 1:
            self._suspects.add(digest)
        else:
            self._suspects.discard(digest)
