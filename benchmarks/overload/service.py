"""The way of an image through the service, as ``app.scoring`` leads it, without any image."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from app.batching.admission import Admission, State
from app.batching.batcher import Batcher, Outcome
from app.batching.budget import Limits
from app.batching.errors import DeadlineExceeded, Overloaded, ServiceError
from app.batching.fairness import ANYBODY, Priority, Sender
from app.batching.jobs import Batch, Fault
from app.batching.lane import Lane
from app.batching.ledger import Ceilings, Load, Ticket
from app.batching.rate import Rate, Rates
from app.batching.scheduler import Scheduler
from benchmarks.overload.machine import Decoders, Machine, SimulatedDevice

# The service's own, as shipped.
CEILINGS = Ceilings(4096, 256 * 2**20)
_ROW_BYTES = 224 * 224 * 3


@dataclass(frozen=True)
class Request:
    """Attributes:
    at: when it comes.
    patience: seconds until its deadline.
    rows: of each of its ``images``: more than one make a batch call.
    decoding: seconds of a decoder that an image takes in calm weather.
    prompt: its bytes.
    upload: seconds between its header and the end of its body.
    """

    at: float
    patience: float = 10.0
    rows: int = 10
    images: int = 1
    decoding: float = 0.01
    prompt: int = 0
    upload: float = 0.0
    sender: Sender = ANYBODY
    model: str = "m"


@dataclass
class Answer:
    """What became of an image of a request: ``refused`` before it was admitted, ``late`` after
    that, or served ``at`` a time.
    """

    request: Request
    came: float
    refused: bool = False
    late: bool = False
    at: float = 0.0
    retry_after: float = 0.0

    @property
    def served(self) -> bool:
        return not (self.refused or self.late)

    @property
    def seconds(self) -> float:
        return self.at - self.came


@dataclass(frozen=True)
class Rule:
    """How a service decides."""

    name: str
    scheduler: Callable[[], Scheduler] = lambda: Scheduler(Limits(), Rates())
    admission: Callable[[Ceilings, Scheduler, Callable[[], float], int], Admission] = Admission


OURS = Rule("agiqa")


class _Nobody:
    """Counts no batches."""

    def batch_sent(self, batch: Batch) -> None: ...

    def batch_done(self, batch: Batch, outcome: Outcome) -> None: ...

    def batch_failed(self, batch: Batch, fault: Fault) -> None: ...


@dataclass
class SimulatedService:
    """Lives on a running loop, of which it takes the time."""

    rule: Rule
    machine: Machine
    seed: int = 0
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        self.clock = asyncio.get_running_loop().time
        self.scheduler = self.rule.scheduler()
        decoders = self.machine.decoders
        self.admission = self.rule.admission(CEILINGS, self.scheduler, self.clock, decoders)
        self.admission.state = State.READY
        self.device = SimulatedDevice(self.machine, chance)
        self.batcher = Batcher(self.scheduler, [self.device], _Nobody(), self.clock)
        self._decoders = Decoders(self.machine, chance)
        self._decode_rate = Rate()  # of milliseconds in calm weather
        self._lane = Lane(self.admission.has_room, self._batches, CEILINGS.bytes // 2)
        self.admission.on_room = self._lane.look
        self._under_way: set[asyncio.Task[None]] = set()
        self._running = asyncio.create_task(self.batcher.run())

    async def play(self, requests: Iterable[Request]) -> None:
        """Takes requests in, each at its time counted from now."""
        start = self.clock()
        for request in requests:
            if (wait := start + request.at - self.clock()) > 0:
                await asyncio.sleep(wait)
            self.take(request)

    async def closed_loop(self, request: Request, clients: int, seconds: float) -> float:
        """Images per second for clients who send the next one when they have an answer."""
        start = self.clock()
        first = len(self.answers)

        async def client() -> None:
            while self.clock() < start + seconds:
                task = self.take(request)
                if task:
                    await task
                else:
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(client() for _ in range(clients)))
        in_time = [a for a in self.answers[first:] if a.served and a.at <= start + seconds]
        return len(in_time) / seconds

    async def idle(self) -> None:
        """Returns when all is answered."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def end(self) -> None:
        """Lets all be answered, and stops."""
        await self.idle()
        self._running.cancel()

    def take(self, request: Request) -> asyncio.Task[None] | None:
        """The door; what passes it goes its way."""
        deadline = self.clock() + request.patience
        is_single = request.images == 1
        answer = self._answer(request)
        try:
            place = self.admission.at_the_door(deadline, request.sender, single=is_single)
        except Overloaded as error:
            answer.refused = True
            answer.retry_after = error.retry_after or 0.0
            return None
        way = self._single(answer, place, deadline) if is_single else self._many(answer, deadline)
        task = asyncio.create_task(way)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _single(self, answer: Answer, place: Ticket | None, deadline: float) -> None:
        request = answer.request
        if request.upload:
            await asyncio.sleep(request.upload)
        let_in = place is not None and place.release()
        is_bulk = request.sender.priority is Priority.BULK
        enter = self.admission.promise if is_bulk else self.admission.admit
        load = self._load(request)
        try:
            room = enter(request.model, load, deadline, request.sender, let_in=let_in)
        except Overloaded:
            answer.refused = True
            return
        if is_bulk and not await self._let_in(answer, room, deadline):
            return
        await self._admitted(answer, room, deadline)
        if not answer.refused:
            self.admission.answered(room)

    async def _many(self, first: Answer, deadline: float) -> None:
        request = first.request
        load = self._load(request)
        total = sum((load for _ in range(request.images)), Load(0, 0))
        deadline += 2 * self.admission.alone(request.model, total, request.sender)
        others = [self._answer(request) for _ in range(request.images - 1)]
        try:
            ticket = self.admission.promise(request.model, total, deadline, request.sender)
        except Overloaded:
            for answer in (first, *others):
                answer.refused = True
            return

        async def one(answer: Answer) -> None:
            room = ticket.part(load)
            if await self._let_in(answer, room, deadline):
                await self._admitted(answer, room, deadline)

        await asyncio.gather(*map(one, (first, *others)))
        ticket.release()

    async def _let_in(self, answer: Answer, room: Ticket, deadline: float) -> bool:
        try:
            async with asyncio.timeout(deadline - self.clock()):
                await self._lane.enter(room)
        except TimeoutError:
            room.release()
            answer.late = True
        return not answer.late

    async def _admitted(self, answer: Answer, room: Ticket, deadline: float) -> None:
        request = answer.request
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock())):
                taken = await self._decoders.decode(deadline, request.decoding)
                room.decoded()
                self._decode_rate.observe(_milliseconds(request), taken)
                await self.batcher.submit(
                    request.model,
                    request.rows,
                    deadline,
                    request.prompt,
                    beside=room.admitted_as[1].device_seconds,
                    priority=request.sender.priority,
                )
        except (TimeoutError, DeadlineExceeded):
            answer.late = True
        except ServiceError:  # thrown away by a rule that drops what waits
            answer.refused = True
        finally:
            self._lane.leave(room)
            room.release()
            answer.at = self.clock()

    def _load(self, request: Request) -> Load:
        prompts = self.batcher.prompt_rates.of(request.model)
        return Load(
            request.rows,
            request.rows * _ROW_BYTES,
            self._decode_rate.seconds(_milliseconds(request)),
            prompts.share(request.prompt) if request.prompt else 0.0,
        )

    def _answer(self, request: Request) -> Answer:
        answer = Answer(request, self.clock())
        self.answers.append(answer)
        return answer

    def _batches(self, ticket: Ticket) -> float:
        return ticket.load.cost / self.scheduler.at_once(ticket.model)


def poisson(kind: Request, rate: float, seconds: float, seed: int = 0) -> Iterator[Request]:
    """Requests of one kind at random times, of which there are ``rate`` in a second."""
    chance = random.Random(seed)
    at = kind.at + chance.expovariate(rate)
    while at < kind.at + seconds:
        yield replace(kind, at=at)
        at += chance.expovariate(rate)


def _milliseconds(request: Request) -> int:
    return max(1, round(1e3 * request.decoding))
