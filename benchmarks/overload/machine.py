"""A device and decoders that take made-up seconds: a line, its noise, what prompts take, and
neighbours that slow all of it down.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.batching.batcher import Outcome
from app.batching.jobs import Batch


def calm(now: float) -> float:
    """No neighbour ever."""
    del now
    return 1.0


def free(now: float) -> float:
    """Prompts cost nothing."""
    del now
    return 0.0


@dataclass(frozen=True)
class Machine:
    """Attributes:
    overhead: seconds of a batch beside its rows.
    per_row: seconds, by model; of others as of ``""``.
    per_prompt_byte: seconds.
    gap: seconds between two batches that nobody measures.
    noise: of the logarithm of what a batch or an image takes (standard deviation).
    pace: how many times as long all takes at a time.
    decoders: side by side.
    """

    overhead: float = 0.03
    per_row: Mapping[str, float] = field(default_factory=lambda: {"": 0.005})
    per_prompt_byte: Callable[[float], float] = free
    gap: float = 0.005
    noise: float = 0.15
    pace: Callable[[float], float] = calm
    decoders: int = 2


class SimulatedDevice:
    """Implements ``app.batching.batcher.Device``; a job's payload is the bytes of its prompt."""

    up = True

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        self._machine = machine
        self._chance = chance
        self._turn = asyncio.Lock()

    async def run(self, batch: Batch) -> Outcome:
        async with self._turn:
            machine = self._machine
            now = asyncio.get_running_loop().time()
            pace = machine.pace(now) * _about_one(self._chance, machine.noise)
            per_row = machine.per_row.get(batch.model, machine.per_row[""])
            seconds = pace * (machine.overhead + per_row * batch.cost)
            prompts = sum(piece.job.payload for piece in batch.slices if piece.completes)
            reducing = machine.pace(now) * machine.per_prompt_byte(now) * prompts
            await asyncio.sleep(machine.gap + seconds + reducing)
        return Outcome([True] * len(batch.slices), seconds, reducing, prompts)


class Decoders:
    """The earliest deadline first."""

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        self._machine = machine
        self._chance = chance
        self._idle = machine.decoders
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    async def decode(self, deadline: float, seconds: float) -> float:
        """The seconds that it took, once it had its turn."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (deadline, next(self._order), turn))
        self._dispatch()
        await turn
        taken = seconds * self._machine.pace(loop.time())
        taken *= _about_one(self._chance, self._machine.noise)
        try:
            await asyncio.sleep(taken)
        finally:
            self._idle += 1
            self._dispatch()
        return taken

    def _dispatch(self) -> None:
        while self._idle and self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                self._idle -= 1
                turn.set_result(None)


def _about_one(chance: random.Random, noise: float) -> float:
    return chance.lognormvariate(0.0, noise) if noise else 1.0
