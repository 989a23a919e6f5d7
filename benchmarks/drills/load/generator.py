"""The load generator: streams of requests that are sent when they are due, whatever became of those
before them, or by clients that wait for each answer. Runs in a process of its own, ``Aside``.
"""

import asyncio
import contextlib
import math
import random
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from typing import Any

from benchmarks.drills import processes
from benchmarks.drills.load.mix import Mix, Request
from benchmarks.drills.load.wire import Exchange, Pool

# How long a client that waits for its answers rests after a refusal.
_PAUSE = 0.5
# Once nothing more is due.
GRACE_SECONDS = 15.0
# Who is to come again later than that is not waited for.
_COME_BACK_SECONDS = 15.0
BACK = " once more"


@dataclass(frozen=True)
class Stream:
    """Requests of one kind.

    Attributes:
        name: what its exchanges are called by.
        mix: what is sent.
        rate: requests per second, at random moments (Poisson).
        clients: instead of a rate, that many clients that each send the next after the answer.
        every: seconds between two requests of such a client, at least.
        begins: seconds after the load does.
        count: requests at most, of each client; None: any number. A load all of whose streams have
            one ends with them.
        come_back: how many of those that were refused come again, once the load is over, when
            their Retry-After has passed.
    """

    name: str
    mix: Mix
    rate: float = 0.0
    clients: int = 0
    every: float = 0.0
    begins: float = 0.0
    count: int | None = None
    come_back: int = 0


@dataclass
class Sent:
    """What a load came to.

    Attributes:
        exchanges: by the moment of their ends.
        begin: on the monotonic clock.
        end: when the load was over; answers came until later.
        cpu: seconds that the generator burned from ``begin`` to ``end``.
        watched: the same for the processes that were to be watched, by their ids.
        unasked: answers to nothing.
    """

    begin: float
    end: float = 0.0
    cpu: float = 0.0
    unasked: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    watched: dict[int, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def generate(
    stop: Event, url: str, streams: Sequence[Stream], seconds: float, watch: Sequence[int] = ()
) -> Sent:
    """Sends the streams side by side for that long, or until the event is set."""
    processes.allow_open_files()
    return asyncio.run(_Generator(url, seconds, stop, watch).run(streams))


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments at random, ``rate`` per second on average; the same for a seed."""
    chance = random.Random(seed)
    moment = chance.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += chance.expovariate(rate)


class _Generator:
    def __init__(self, url: str, seconds: float, stop: Event, watch: Sequence[int]) -> None:
        self._pool = Pool(url)
        self._stop = stop
        self._watch = watch
        self._sent = Sent(time.monotonic())
        self._end = self._sent.begin + seconds
        self._over = asyncio.Event()
        self._open = 0
        self._is_quiet = asyncio.Event()

    async def run(self, streams: Sequence[Stream]) -> Sent:
        cpu, watched = _cpu(), self._watched()
        heeds = asyncio.create_task(self._heed())
        jobs = asyncio.gather(*(self._stream(stream, seed) for seed, stream in enumerate(streams)))
        over = asyncio.ensure_future(self._over.wait())
        is_bounded = all(stream.count is not None for stream in streams)
        ends: set[asyncio.Future[Any]] = {jobs, over} if is_bounded else {over}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        sent = self._sent
        sent.end = time.monotonic()
        sent.cpu = _cpu() - cpu
        sent.watched = {pid: now - watched[pid] for pid, now in self._watched().items()}
        await asyncio.gather(*(self._come_back(stream) for stream in streams))
        await self._drain()
        await jobs
        over.cancel()
        heeds.cancel()
        sent.unasked = self._pool.unasked
        return sent

    async def _heed(self) -> None:
        """The load is over at its end, or when another process has set the event."""
        while not self._stop.is_set() and time.monotonic() < self._end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        self._end = min(self._end, time.monotonic())
        self._over.set()

    async def _until(self, moment: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, moment - time.monotonic())):
                await self._over.wait()

    async def _stream(self, stream: Stream, seed: int) -> None:
        requests = stream.mix.requests(seed)
        if stream.clients:
            share = [self._client(stream, requests, n) for n in range(stream.clients)]
            await asyncio.gather(*share)
            return
        first = self._sent.begin + stream.begins
        moments = arrivals(stream.rate, self._end - first, seed)
        for number, moment in enumerate(moments):
            due = first + moment
            # One that is late lets the others' answers in all the same.
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if due >= self._end or number == stream.count:
                return
            self._send(stream.name, next(requests), due)

    async def _client(self, stream: Stream, requests: Iterator[Request], number: int) -> None:
        """One that waits for its answers; all begin within one pause."""
        begin = stream.begins + stream.every * number / max(1, stream.clients)
        await self._until(self._sent.begin + begin)
        left = math.inf if stream.count is None else stream.count
        while left > 0 and (now := time.monotonic()) < self._end:
            left -= 1
            exchange = await self._send(stream.name, next(requests), now)
            pause = 0.0 if exchange.status == 200 else _PAUSE
            await self._until(max(now + stream.every, time.monotonic() + pause))

    async def _come_back(self, stream: Stream) -> None:
        """An even sample of those that were refused, each after its time."""
        end = self._sent.end
        due = sorted(
            exchange.done + exchange.retry_after
            for exchange in self._sent.exchanges
            if exchange.stream == stream.name and exchange.retry_after is not None
        )
        due = [moment for moment in due if end <= moment < end + _COME_BACK_SECONDS]
        step = max(1, math.ceil(len(due) / max(1, stream.come_back)))
        requests = stream.mix.requests(-1)
        for moment in due[::step] if stream.come_back else ():
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            self._send(stream.name + BACK, next(requests), moment)

    def _send(self, name: str, request: Request, due: float) -> "asyncio.Future[Exchange]":
        answered: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()

        def done(exchange: Exchange) -> None:
            self._open -= 1
            if not self._open:
                self._is_quiet.set()
            self._sent.exchanges.append(exchange)
            if not answered.done():
                answered.set_result(exchange)

        self._open += 1
        self._is_quiet.clear()
        self._pool.send(request, Exchange(name, due, request.images), done)
        return answered

    async def _drain(self) -> None:
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await self._is_quiet.wait()
        self._pool.close("no answer in time")
        await asyncio.sleep(0)

    def _watched(self) -> dict[int, float]:
        return {pid: processes.cpu_seconds(pid) for pid in self._watch}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
