"""The decode processes, and who of those that wait is next: the earliest deadline, as long as
nobody holds more than half of the processes while others wait.

Lives on the event loop; a thread for each process blocks on it.
"""

import asyncio
import heapq
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from app.device.arena import Arena, Slot
from app.settings import Settings
from model.decoding.decoder import Decoded, DecodeLimits, Decoder
from model.preprocess.crops import Layout
from model.preprocess.headers import Header

logger = logging.getLogger(__name__)


class ImageDecoder(Protocol):
    """Decodes one image at a time; its calls block."""

    def start(self) -> None:
        """Makes it ready, if it is not."""

    def decode(
        self,
        data: bytes,
        header: Header,
        layout: Layout,
        *,
        offset: int,
        stamp: int,
    ) -> Decoded:
        """As ``model.decoding.decoder.Decoder.decode``."""

    def close(self) -> None:
        """Ends it."""


@dataclass(frozen=True)
class Picture:
    """An image and where its crops go.

    Attributes:
        owner: who sent it.
        deadline: when its answer is due; for the order.
    """

    data: bytes
    header: Header
    layout: Layout
    slot: Slot
    owner: str
    deadline: float


# What became of a picture: a failure, or None of one that was withdrawn before it began.
Ending = Decoded | BaseException | None


class Writing:
    """The writer of a slot, which is its owner until it has ended: it may begin later, and does not
    end because nobody waits for it any more.
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.begun = False
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def decoded(self) -> Decoded:
        """Waits until the crops are there; being cancelled leaves the writer as it is.

        Raises:
            ImageError, OSError: they will never be.
        """
        ending = await asyncio.shield(self._ended)
        if not isinstance(ending, Decoded):
            raise ending or asyncio.CancelledError
        return ending

    def withdraw(self) -> None:
        """Nobody waits for it any more: what has not begun never does."""
        if not self.begun:
            self.end(None)

    def end(self, ending: Ending) -> None:
        """It writes no more; a second call changes nothing."""
        if not self._ended.done():
            self._ended.set_result(ending)

    @property
    def ended(self) -> bool:
        return self._ended.done()

    def when_ended(self, call: Callable[[], None]) -> None:
        """Calls when nobody writes any more, at once if that is now."""
        if self.ended:
            call()
        else:
            self._ended.add_done_callback(lambda _: call())


class DecodePool:
    """Hands pictures to decoders.

    Args:
        decoders: as many as are to work side by side.
        memory: bytes that images under way may take together, by their headers; one that takes
            more goes alone.
    """

    def __init__(self, decoders: Sequence[ImageDecoder], memory: int) -> None:
        self._decoders = decoders
        self._memory = memory
        self._threads = ThreadPoolExecutor(len(decoders), thread_name_prefix="decode")
        self._idle = list(decoders)
        self._waiting: dict[str, list[tuple[float, int, Writing]]] = {}  # a heap for each owner
        self._order = itertools.count()
        self._running: Counter[str] = Counter()  # by owner
        self._memory_in_use = 0
        self._closing = False

    def start(self) -> None:
        """Has every decoder made ready, in the background."""
        for decoder in self._decoders:
            self._threads.submit(decoder.start)

    def submit(self, picture: Picture) -> Writing:
        """Queues a picture."""
        writing = Writing(picture)
        entry = (picture.deadline, next(self._order), writing)
        heapq.heappush(self._waiting.setdefault(picture.owner, []), entry)
        self._dispatch()
        return writing

    async def close(self) -> None:
        """Ends the decoders, and what they are at with them."""
        self._closing = True
        for decoder in self._decoders:
            await asyncio.to_thread(decoder.close)
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _dispatch(self) -> None:
        while self._idle and not self._closing and (writing := self._next()):
            writing.begun = True
            picture = writing.picture
            self._running[picture.owner] += 1
            self._memory_in_use += picture.header.decode_bytes
            decoder = self._idle.pop()
            loop = asyncio.get_running_loop()
            task = loop.run_in_executor(self._threads, _decode, decoder, picture)
            task.add_done_callback(partial(self._ended, decoder, writing))

    def _next(self) -> Writing | None:
        """The most urgent of those who may have a decoder, taken out of the queue."""
        for owner, heap in list(self._waiting.items()):
            while heap and heap[0][2].ended:  # withdrawn
                heapq.heappop(heap)
            if not heap:
                del self._waiting[owner]
        if not self._waiting:
            return None
        most = max(1, len(self._decoders) // 2)
        modest = [owner for owner in self._waiting if self._running[owner] < most]
        owners = modest if len(self._waiting) > 1 and modest else list(self._waiting)
        owner = min(owners, key=lambda owner: self._waiting[owner][0])
        needed = self._waiting[owner][0][2].picture.header.decode_bytes
        if self._memory_in_use and self._memory_in_use + needed > self._memory:
            return None
        return heapq.heappop(self._waiting[owner])[2]

    def _ended(
        self, decoder: ImageDecoder, writing: Writing, done: "asyncio.Future[Decoded]"
    ) -> None:
        picture = writing.picture
        self._running[picture.owner] -= 1
        self._memory_in_use -= picture.header.decode_bytes
        self._idle.append(decoder)
        if done.cancelled():
            writing.end(None)
        else:
            writing.end(done.exception() or done.result())
        self._dispatch()


def _decode(decoder: ImageDecoder, picture: Picture) -> Decoded:
    """In a thread."""
    slot = picture.slot
    return decoder.decode(
        picture.data, picture.header, picture.layout, offset=slot.offset, stamp=slot.stamp
    )


def decode_process(settings: Settings, arena: Arena, on_death: Callable[[str], None]) -> Decoder:
    """A process that decodes into the shared memory; ``on_death`` hears why one has ended."""

    def report(reason: str, stderr: str) -> None:
        on_death(reason)
        logger.warning("a decoder ended", extra={"reason": reason, "stderr": stderr})

    limits = DecodeLimits(
        settings.decode_seconds, settings.decode_seconds_per_megapixel, settings.max_decode_bytes
    )
    return Decoder(arena.fd, arena.size, limits, report)
