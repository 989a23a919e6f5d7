"""Admission: who comes in, decided from the image's header, before any decoding, and at the door
from what is known of all that came before.

What counts against a request is the work that runs before it: that of its class whose deadline is
earlier. It is refused when its answer would be late, when it would make a late one of an answer
that was admitted, or when its sender has more waiting than is fair.
"""

import asyncio
import math
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from app.batching.errors import Draining, Loading, Overloaded, TooLarge, WorkerDown
from app.batching.fairness import ANYBODY, BULK_SHARE, Priority, Sender, Use
from app.batching.ledger import Ceilings, Line, Load, Ticket
from app.batching.margin import Margin

# Of the time until its deadline, what may stand before a request: the other half is for what nobody
# foresees, and an answer that was long on its way helps few.
_PATIENCE = 0.45
# Times what is left of that, a sender may have: alone it fills five ninths of it, and there is
# always room for one more (a dynamic threshold, as of Choudhury and Hahne, 1998).
_GREED = 1.25
# Whoever has less than its share of what waits is served for so much longer, since others fill the
# queue; whoever has more, for so much shorter, so that the bursts of others find room.
_GRACE, _TIGHT = 1.05, 0.85
# So long a request that was let in at the door is reckoned with, and its body not yet there: some
# time, and as long as its bytes take over a line of that speed.
_DOOR_SECONDS = 1.0
_DOOR_BYTES_PER_SECOND = 4 * 2**20
# Whose body came while its place was reckoned with may have so much longer a queue before it than
# at the door: estimates go up and down, and to refuse it now costs its bytes.
_KEPT = 1.25
# How far the mean request follows each one.
_HASTE = 0.1
# Over no more seconds are those spread who were refused.
_MOST_CROWD = 10.0


class State(Enum):
    """What the service can do now."""

    LOADING = "loading"
    READY = "ready"
    WORKER_DOWN = "worker_down"
    DRAINING = "draining"


_CLOSED = {State.LOADING: Loading, State.WORKER_DOWN: WorkerDown, State.DRAINING: Draining}


class Estimates(Protocol):
    """What the scheduler knows of the device, which may be several workers."""

    @property
    def workers(self) -> int:
        """How many compute side by side."""

    def work_seconds(self, model: str, cost: int) -> float:
        """Expected seconds of so much work among more of it, of all workers together."""

    def alone_seconds(self, model: str, cost: int) -> float:
        """The same of one worker, which computes an image."""

    def overrun(self, now: float) -> float:
        """Seconds by which what is at the workers should be done, in the mean."""

    def busy(self, now: float) -> float:
        """Seconds until the first worker is expected to be free."""

    def waits(self, priority: Priority) -> bool:
        """Whether something of that class waits for the device."""

    def interactive_use(self, now: float) -> float:
        """What part of the recent time the device worked for the interactive class."""


class Admission:
    """Refuses at once what can't be answered in time; owns the ledger of what was admitted and not
    yet answered.
    """

    def __init__(
        self,
        ceilings: Ceilings,
        estimates: Estimates,
        clock: Callable[[], float],
        decoders: int = 1,
    ) -> None:
        """``decoders``: how many images are decoded side by side."""
        self._ceilings = ceilings
        self._estimates = estimates
        self._clock = clock
        self._decoders = decoders
        self.state = State.LOADING
        self.margin = Margin()
        self._lines = {
            priority: Line(estimates.work_seconds, lambda: estimates.workers)
            for priority in Priority
        }
        self._mean = Load(0, 0)  # of a request for one image, in seconds alone
        self._let_in = {priority: Use() for priority in Priority}  # images a second
        self._refusals = {priority: Use() for priority in Priority}
        self._empty = asyncio.Event()
        self.on_room: Callable[[], None] = lambda: None

    # What is there

    @property
    def cost(self) -> int:
        """The cost of all that is admitted and not yet answered."""
        return sum(line.cost for line in self._lines.values())

    @property
    def bytes(self) -> int:
        """The bytes of crops that it holds."""
        return sum(line.held.bytes for line in self._lines.values())

    def expected_seconds(self, priority: Priority | None = None) -> float:
        """What all that is admitted and not yet answered is expected to take, of one class or of
        both.
        """
        lines = self._lines.values() if priority is None else [self._lines[priority]]
        device = sum(line.seconds()[0] for line in lines)
        decoding = sum(line.seconds()[1] for line in lines)
        return max(device, decoding / self._decoders)

    def require_open(self) -> None:
        """Raises Loading, WorkerDown or Draining unless requests can be served now."""
        if self.state in _CLOSED:
            raise _CLOSED[self.state]()

    def require_fits(self, load: Load) -> None:
        """Raises TooLarge for an image that would not fit even into an empty queue."""
        if load.cost > self._ceilings.rows or load.bytes > self._ceilings.bytes:
            raise TooLarge(
                "This image is more work than the queue can ever hold; send a smaller one."
            )

    def has_room(self, load: Load) -> bool:
        """Whether the ceilings leave room for so much more."""
        cost = sum(line.held.cost for line in self._lines.values())
        return (
            cost + load.cost <= self._ceilings.rows
            and self.bytes + load.bytes <= self._ceilings.bytes
        )

    def bulk_share(self, now: float) -> float:
        """The part of the device that bulk has now: what the interactive class leaves, and a
        reserved one at least.
        """
        return max(BULK_SHARE, 1 - self._estimates.interactive_use(now))

    def alone(self, model: str, load: Load, sender: Sender) -> float:
        """Seconds that a load is expected to take, by itself, in the part of the device that its
        class has.
        """
        device, decoding = self._lines[sender.priority].seconds_of((model, load))
        share = self._share(sender.priority, self._clock())
        return max(device / share, decoding / self._decoders)

    # Who comes in

    def at_the_door(
        self, deadline: float, sender: Sender, *, single: bool, size: int = 0
    ) -> Ticket | None:
        """Before the body, of so many bytes, is read. A request for one image gets a place, as for
        the mean one: it is given back when the image is admitted, and reckoned with for as long as
        the body should take.

        Raises:
            Overloaded: as ``admit`` would when the body is there.
        """
        own = self._mean if single else Load(0, 0)
        self._judge("", own, deadline, sender)
        if not single:
            return None
        place = Ticket(self._lines[sender.priority], "", own, sender, deadline)
        place.until = self._clock() + _DOOR_SECONDS + size / _DOOR_BYTES_PER_SECOND
        place.enter()
        return place

    def admit(
        self,
        model: str,
        load: Load,
        deadline: float,
        sender: Sender = ANYBODY,
        *,
        let_in: bool = False,
    ) -> Ticket:
        """Reserves room for an image.

        Args:
            model: who computes it.
            load: of the image.
            deadline: when its answer is due, on this object's clock.
            sender: whose it is.
            let_in: whether its place of ``at_the_door`` was reckoned with until now.

        Raises:
            TooLarge: it would not fit even into an empty queue.
            Overloaded: a ceiling is reached, its answer or another one would be late, or others of
                the sender wait.
            Loading, WorkerDown, Draining: as ``require_open``.
        """
        self.require_open()
        self.require_fits(load)
        if not self.has_room(load):
            raise self._refused(sender, self.expected_seconds())
        ticket = self.promise(model, load, deadline, sender, let_in=let_in)
        ticket.hold()
        return ticket

    def promise(
        self,
        model: str,
        load: Load,
        deadline: float,
        sender: Sender,
        *,
        images: int = 1,
        let_in: bool = False,
    ) -> Ticket:
        """Takes in the work of so many images, which are let in one after another, by
        ``app.batching.lane``.

        Raises:
            Overloaded, Loading, WorkerDown, Draining: as ``admit``.
        """
        self.require_open()
        expected = self._judge(model, load, deadline, sender, images, let_in=let_in)
        self._let_in[sender.priority].add(self._clock(), images)
        line = self._lines[sender.priority]
        ticket = Ticket(line, model, load, sender, deadline, self._given_back)
        ticket.enter()
        ticket.expected, ticket.since = expected, self._clock()
        line.note(ticket, ticket.since)
        return ticket

    def answered(self, ticket: Ticket) -> None:
        """Learns from when the answer of a single image came, or its deadline without one."""
        taken = self._clock() - ticket.since
        self.margin.observe(ticket.expected, taken, ticket.deadline - ticket.since)
        decoding = ticket.admitted_as[1].decode_seconds
        model, load = ticket.admitted_as
        # What it takes of them all, for it is reckoned with as a part of their work: by the fastest
        # of unlike workers it would be less.
        rows = self._estimates.work_seconds(model, load.cost) * self._estimates.workers
        device = rows + load.device_seconds
        mean = self._mean
        self._mean = Load(
            0,
            0,
            mean.decode_seconds + _HASTE * (decoding - mean.decode_seconds),
            mean.device_seconds + _HASTE * (device - mean.device_seconds),
        )

    async def empty(self) -> None:
        """Returns when all that was admitted is answered, what is still being decoded included."""
        while self.cost:
            self._empty.clear()
            await self._empty.wait()

    # How

    def _given_back(self) -> None:
        self._empty.set()
        self.on_room()

    def _share(self, priority: Priority, now: float) -> float:
        """The part of the device that a class can reckon with."""
        if priority is Priority.BULK:
            return self.bulk_share(now)
        return 1 - BULK_SHARE if self._estimates.waits(Priority.BULK) else 1.0

    def _alone(self, model: str, load: Load, images: int = 1) -> float:
        """Seconds of one worker for one of so many images."""
        rows = self._estimates.alone_seconds(model, load.cost // images) if load.cost else 0.0
        return rows + load.device_seconds / images

    def _refused(self, sender: Sender, seconds: float) -> Overloaded:
        """The refusal that says when to come again: not everybody together."""
        now = self._clock()
        refused = self._refusals[sender.priority]
        refused.add(now, 1)
        # As many were let in per second, so many seconds take those of one second.
        crowd = refused.of(now) / max(1e-3, self._let_in[sender.priority].of(now))
        return Overloaded(retry_after=seconds, crowd=min(_MOST_CROWD, crowd))

    def _judge(
        self,
        model: str,
        load: Load,
        deadline: float,
        sender: Sender,
        images: int = 1,
        *,
        let_in: bool = False,
    ) -> float:
        """The seconds after which the answer is expected, of so many images.

        Raises:
            Overloaded: it is not let in.
        """
        now = self._clock()
        line = self._lines[sender.priority]
        share = self._share(sender.priority, now)
        before = line.before(deadline, sender, now)
        overrun = self._estimates.overrun(now)
        # What is at the device runs to its end, even if it is due later.
        busy = self._estimates.busy(now)
        wait = max(before.device / share, before.decoding / self._decoders, busy) + overrun
        own = line.seconds_of((model, load))[0] / share
        harm = line.harm(deadline, now + wait, own, share)
        # Many images are shared out, one is not.
        own = max(own, self._alone(model, load, images) / share)
        patience, margin = deadline - now, self.margin.factor
        if before.is_empty:  # nobody is refused for what it takes itself: that grows no less
            late = (busy + own) * margin - patience
            excess = max(min(busy, late), harm)
        else:
            queue = _PATIENCE * patience / margin * (_KEPT if let_in else 1.0)
            mine = before.own / share
            # In a burst as well: whoever was given less than its share lately may have it now.
            is_modest = mine < before.share * wait or before.lately < before.share * share
            if before.share < 1 and not is_modest:
                queue *= _TIGHT
            threshold = sender.weight * _GREED
            unfair = (mine - threshold * (queue - wait)) / (1 + threshold)
            if before.share < 1 and is_modest:
                unfair = min(unfair, wait - _GRACE * queue)
            excess = max(unfair, (wait + own) * margin - patience, harm)
        if excess > 0:
            raise self._refused(sender, excess if math.isfinite(excess) else 1.0)
        return wait + own
