"""Images and workers that meet with everything that may happen to them."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from app.batching.batcher import DeviceError, Outcome
from app.batching.fairness import Priority
from app.batching.jobs import Batch, Fault


@dataclass(frozen=True, eq=False)
class Image:
    """Attributes:
    at: when it comes.
    leaves: seconds after which its client hangs up, and so many turns of the loop (``hops``);
        None: never.
    poison: it ends every worker that computes it.
    broken: no batch with it gives results.
    absurd: the device itself fails under it, in a way that nobody foresaw.
    """

    at: float
    rows: int
    patience: float
    leaves: float | None = None
    hops: int = 0
    is_bulk: bool = False
    poison: bool = False
    broken: bool = False
    absurd: bool = False

    @property
    def priority(self) -> Priority:
        return Priority.BULK if self.is_bulk else Priority.INTERACTIVE


@dataclass(frozen=True)
class Death:
    """A worker is killed at a time; or it only hangs, and is found out later."""

    at: float
    worker: int
    hangs: bool


@dataclass
class Worker:
    """Implements ``Device``: seconds a row, deaths, restarts, memory for so many rows."""

    number: int
    per_row: float
    holds: int
    load_seconds: float
    on_change: Callable[[int, bool], None]
    kills: "Counter[Image]"
    up: bool = True
    silent: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: "list[tuple[Batch, asyncio.Future[Outcome]]]" = field(default_factory=list)

    async def run(self, batch: Batch) -> Outcome:
        if any(piece.job.payload.absurd for piece in batch.slices):
            raise OSError("nobody knows")
        if not self.up:
            raise DeviceError(Fault.NOT_RUN)
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        entry = (batch, ended)
        self.begun.append(entry)
        work = asyncio.ensure_future(self._compute(batch))
        try:
            await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
            return await (ended if ended.done() else work)
        finally:
            work.cancel()
            self.begun.remove(entry)

    async def _compute(self, batch: Batch) -> Outcome:
        async with self.turn:
            images: list[Image] = [piece.job.payload for piece in batch.slices]
            await asyncio.sleep(self.per_row * batch.cost)
            if any(image.poison for image in images):
                self.kills.update(image for image in images if image.poison)
                asyncio.get_running_loop().call_soon(self.die)
                await asyncio.Event().wait()
            if batch.rows > self.holds:
                raise DeviceError(Fault.OUT_OF_MEMORY)
            if any(image.broken for image in images):
                raise DeviceError(Fault.INFERENCE)
            return Outcome([image.at for image in images], self.per_row * batch.cost)

    def hang(self) -> None:
        self.silent = True
        self.on_change(self.number, False)

    def die(self) -> None:
        if not self.up:
            return
        self.up = False
        self.on_change(self.number, False)
        for place, (_, ended) in enumerate(self.begun):
            if not ended.done():
                ended.set_exception(DeviceError(Fault.NOT_RUN if place else Fault.WORKER_DIED))
        asyncio.get_running_loop().call_later(self.load_seconds, self.come_up)

    def come_up(self) -> None:
        self.up, self.silent = True, False
        self.on_change(self.number, True)
