"""The way of an image through admission, slots, batcher and workers, under a made-up clock, with
books kept beside it: after each step they must agree with what the parts say.
"""

import asyncio
import math
from collections import Counter
from typing import Any

from app.batching.admission import Admission, State
from app.batching.batcher import Batcher, Outcome
from app.batching.budget import Limits
from app.batching.errors import DeadlineExceeded, ServiceError
from app.batching.fairness import Priority, Sender
from app.batching.jobs import Batch, Fault
from app.batching.lane import Lane
from app.batching.ledger import Ceilings, Load, Ticket
from app.batching.rate import Rates
from app.device.arena import Arena, Slot
from app.device.slots import Slots
from tests.app.batching.mortal import Death, Image, Worker
from tests.app.batching.watched import HASTE, ROWS, Watched

BYTES = 4096
_SECONDS = 0.001  # for decoding, and for the prompt
_TURNS = 10


async def hang_up(client: "asyncio.Task[Any]", image: Image) -> None:
    if image.leaves is not None:
        await asyncio.sleep(image.leaves)
        for _ in range(image.hops):
            await asyncio.sleep(0)
        client.cancel()


class Silent:
    def batch_sent(self, batch: Batch) -> None: ...
    def batch_done(self, batch: Batch, outcome: Outcome) -> None: ...
    def batch_failed(self, batch: Batch, fault: Fault) -> None: ...


class Way:
    """Of an image through the parts, as ``app.scoring`` has it; ``outcomes``: what clients got."""

    def __init__(self, workers: list[tuple[float, int]], load_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        self.slots = Slots(Arena(4 * BYTES))  # few, so that images wait for them
        self.kills: Counter[Image] = Counter()
        self.workers = [
            Worker(number, per_row, holds, load_seconds, self._changed, self.kills)
            for number, (per_row, holds) in enumerate(workers)
        ]
        limits = Limits(batch_seconds=0.25, batch_rows=ROWS)
        self.scheduler = Watched(limits, self.clock, *(Rates() for _ in workers))
        self.admission = Admission(Ceilings(10**6, 10**9), self.scheduler, self.clock)
        self.admission.state = State.READY
        self.lane = Lane(self.admission.has_room, self._batches, 10**9)
        self.admission.on_room = self.lane.look
        self.batcher = Batcher(self.scheduler, self.workers, Silent(), self.clock)
        self.outcomes: dict[Image, Any] = {}
        self._inside: set[Image] = set()
        self._decoding: set[Image] = set()
        self._held: dict[Image, Slot] = {}

    def _batches(self, ticket: Ticket) -> float:
        return ticket.load.cost / self.scheduler.at_once(ticket.model)

    def _changed(self, number: int, up: bool) -> None:
        self.scheduler.lanes[number].well = up
        self.batcher.wake()

    async def meet(self, death: Death) -> None:
        await asyncio.sleep(death.at)
        worker = self.workers[death.worker % len(self.workers)]
        if death.hangs and worker.up:
            worker.hang()  # nobody is sure yet
            await asyncio.sleep(0.5)
        worker.die()

    async def drain(self, at: float | None) -> None:
        if at is not None:
            await asyncio.sleep(at)
            self.admission.state = State.DRAINING
            await self.batcher.drain(self.admission.empty(), 1.0)

    async def visit(self, image: Image) -> None:
        """A client comes, and may hang up; it gets a result, or hears why not."""
        await asyncio.sleep(image.at)
        client = asyncio.ensure_future(self._score(image))
        hanging_up = asyncio.ensure_future(hang_up(client, image))
        await asyncio.wait([client])
        hanging_up.cancel()
        if not client.cancelled():
            error = client.exception()
            assert error is None or isinstance(error, ServiceError | TimeoutError)
            self.outcomes[image] = error or client.result()

    async def watch(self) -> None:
        """No worker is idle for long while rows wait, and the books agree at all times."""
        idle = unlike = 0
        while True:
            await asyncio.sleep(5 * HASTE)
            assert self.admission.cost == sum(image.rows for image in self._inside)
            for priority in Priority:
                expected = self.admission.expected_seconds(priority)
                assert math.isclose(expected, self._seconds(priority), abs_tol=1e-9)
            # Whoever waited for a slot knows of it a turn after it was given.
            held = sum(slot.size for slot in self._held.values())
            unlike = unlike + 1 if self.slots.in_use != held else 0
            assert unlike < 2, "a slot is kept, or was given back twice"
            idle = 0 if await self._settles() else idle + 1
            assert idle < 2, "nobody woke the batcher"

    async def _settles(self) -> bool:
        """Whether the batcher knows within a few turns of the loop who is up, and has no worker
        idle while rows wait: something may have happened at this very moment.
        """
        lanes = self.scheduler.lanes
        for _ in range(_TURNS):
            knows = all(lanes[worker.number].up == worker.up for worker in self.workers)
            if knows and not self.scheduler.idles():
                return True
            await asyncio.sleep(0)
        return False

    def check_rest(self) -> None:
        """Nothing is left of those that came."""
        assert not self.scheduler.wrong
        assert self.scheduler.idle
        assert all(job.closed for job in self.scheduler.jobs)
        assert (self.slots.in_use, self.admission.cost, self.admission.bytes) == (0, 0, 0)
        assert self.admission.expected_seconds() == 0
        assert self.lane.waiting == 0
        assert not self.lane._inside
        assert all(kills <= 2 for kills in self.kills.values())
        for job in self.scheduler.jobs:
            image, answers = job.payload, self.scheduler.answers[job]
            late = DeadlineExceeded | TimeoutError
            if answers and image in self.outcomes and not isinstance(self.outcomes[image], late):
                assert self.outcomes[image] is answers[0]
            if job in self.scheduler.left and image.leaves is None:
                assert isinstance(self.outcomes[image], late)

    def _seconds(self, priority: Priority) -> float:
        """The backlog of a class."""
        images = [image for image in self._inside if image.priority is priority]
        rows = self.scheduler.work_seconds("m", sum(image.rows for image in images))
        decoding = _SECONDS * len(self._decoding.intersection(images))
        return max(rows + _SECONDS * len(images) / self.scheduler.workers, decoding)

    async def _score(self, image: Image) -> Any:
        priority = image.priority
        deadline = self.clock() + image.patience
        load = Load(image.rows, BYTES, decode_seconds=_SECONDS, device_seconds=_SECONDS)
        enter = self.admission.promise if image.is_bulk else self.admission.admit
        room = enter("m", load, deadline, Sender(priority=priority))
        self._inside.add(image)
        self._decoding.add(image)
        slot = None
        try:
            async with asyncio.timeout(image.patience):
                if image.is_bulk:
                    await self.lane.enter(room)
                slot = self._held[image] = await self.slots.take(BYTES - 64)
                room.decoded()
                self._decoding.remove(image)
                return await self.batcher.submit(
                    "m", image.rows, deadline, image, priority=priority
                )
        finally:
            if slot is not None:
                self.slots.release(slot)
                del self._held[image]
            self.lane.leave(room)
            self._inside.remove(image)
            self._decoding.discard(image)
            room.release()
