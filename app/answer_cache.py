"""Answers given lately, and those under way: what is asked for again is not computed again.

Whoever asks for an answer that is being computed waits for it, with nothing in its hands but its
own deadline. What becomes of the computation says what becomes of those who wait:

    the answer                              they have it
    Rejected: it is the image's fault       they are refused as well
    its client left, its time was over,     the next of them computes it, and the others
    or it was not let in                    wait for that one
    any other failure                       each computes for itself, as without a cache

Nobody waits for what is less urgent than itself: a request of the interactive class not for bulk,
and none for what is due much later. So an answer is computed several times at once only by requests
of which each is more urgent than those before it, and after such a failure.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, get_args

from app.batching.errors import ClientGone, DeadlineExceeded, Overloaded, Rejected, ServiceError
from app.batching.fairness import Priority

T = TypeVar("T")

# What became of a request: the answer was there, another one computed it, or this one did.
Result = Literal["hit", "joined", "miss"]
RESULTS: tuple[Result, ...] = get_args(Result)

# Of the time that a request has, what it waits for may have so many times as much. Before what was
# admitted runs less than half of its time (``app.batching.admission``), so less than all of this.
_MUCH_LATER = 1.5
# What ends one request and says nothing of the image, nor of the service.
_OWN = (asyncio.CancelledError, ClientGone, DeadlineExceeded, Overloaded)


@dataclass(frozen=True)
class Urgency:
    """When a request is due, on the service's clock, and its class."""

    deadline: float
    priority: Priority = Priority.INTERACTIVE

    def waits_for(self, other: "Urgency", now: float) -> bool:
        """Whether a request as urgent as this one may wait for one as urgent as the other."""
        if self.priority is Priority.INTERACTIVE and other.priority is Priority.BULK:
            return False
        return other.deadline - now <= _MUCH_LATER * (self.deadline - now)


@dataclass(frozen=True)
class Found(Generic[T]):
    """An answer that was not computed for who asked."""

    answer: T
    result: Result


@dataclass(eq=False)
class Computation(Generic[T]):
    """An answer under way. ``outcome``: it is over; the answer, or else why there is none."""

    key: bytes
    urgency: Urgency
    outcome: "asyncio.Future[T | BaseException]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def end(self, outcome: T | BaseException) -> None:
        """Those who wait hear of it; a second call changes nothing."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class LeastRecentlyUsed(Generic[T]):
    """So many values, in so many bytes, of which the one that was asked for longest ago goes first;
    ``size`` tells the bytes of one.
    """

    def __init__(self, most: int, most_bytes: int, size: Callable[[T], int]) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._size = size
        self._values: OrderedDict[bytes, T] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> T | None:
        """The value, which becomes the latest."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: bytes, value: T) -> None:
        """Takes a value in, unless it is larger than all of them together may be."""
        self._drop(key)
        size = self._size(value)
        if size > self._most_bytes:
            return
        self._values[key] = value
        self.bytes += size
        while len(self._values) > self._most or self.bytes > self._most_bytes:
            self._drop(next(iter(self._values)))

    def clear(self) -> None:
        """Forgets all."""
        self._values.clear()
        self.bytes = 0

    def _drop(self, key: bytes) -> None:
        if key in self._values:
            self.bytes -= self._size(self._values.pop(key))


class AnswerCache(Generic[T]):
    """On the event loop alone: between a look and a beginning nobody else has a turn."""

    def __init__(
        self,
        answers: LeastRecentlyUsed[T],
        clock: Callable[[], float],
        count: Callable[[Result], None] = lambda _: None,
    ) -> None:
        """``count`` hears once of each request what became of it."""
        self._answers = answers
        self._clock = clock
        self._count = count
        self._under_way: dict[bytes, list[Computation[T]]] = {}

    def get(self, key: bytes) -> T | None:
        """The answer, if it is there."""
        return self._answers.get(key)

    def under_way(self, key: bytes, urgency: Urgency) -> Computation[T] | None:
        """One that computes the answer, for which a request as urgent as that may wait."""
        now = self._clock()
        all_of_them = self._under_way.get(key, ())
        return next((c for c in all_of_them if urgency.waits_for(c.urgency, now)), None)

    async def find(self, key: bytes, urgency: Urgency) -> Found[T] | None:
        """The answer, if it is there or another request computes it; None: whoever asks is to
        ``begin``, with no turn of the event loop in between, and to ``compute`` it.

        Raises:
            Rejected: another request found the image at fault.
            DeadlineExceeded: the deadline passed before the other request had the answer.
        """
        if (answer := self._answers.get(key)) is not None:
            self._count("hit")
            return Found(answer, "hit")
        if self.under_way(key, urgency) is None:
            return None
        try:
            answer = await self._wait(key, urgency)
        except BaseException:
            self._count("joined")
            raise
        if answer is None:
            return None
        self._count("joined")
        return Found(answer, "joined")

    async def compute(self, computation: Computation[T], work: Callable[[], Awaitable[T]]) -> T:
        """Computes what was begun, by ``work``, whose errors are passed on."""
        try:
            answer = await work()
        except BaseException as error:
            self.end(computation, error)
            raise
        if self.end(computation, answer):
            self._answers.put(computation.key, answer)
        return answer

    def begin(self, key: bytes, urgency: Urgency) -> Computation[T]:
        """From now on others wait for this one; who calls it has to end it."""
        self._count("miss")
        computation = Computation[T](key, urgency)
        self._under_way.setdefault(key, []).append(computation)
        return computation

    def end(self, computation: Computation[T], outcome: T | BaseException) -> bool:
        """It is over; whether what it computed is still what would be computed now. A second call
        changes nothing.
        """
        others = self._under_way.get(computation.key, [])
        is_current = computation in others
        if is_current:
            others.remove(computation)
            if not isinstance(outcome, BaseException):
                for other in others:  # slower ones: those who wait for them have it now
                    other.end(outcome)
            if not others:
                del self._under_way[computation.key]
        computation.end(outcome)
        return is_current

    def clear(self) -> None:
        """Forgets all answers; those under way are for those alone who wait already."""
        self._answers.clear()
        self._under_way = {}

    async def _wait(self, key: bytes, urgency: Urgency) -> T | None:
        """The answer of whoever computes it; None: nobody does for whom to wait."""
        while computation := self.under_way(key, urgency):
            left = max(0.0, urgency.deadline - self._clock())
            # Unlike ``wait_for`` it leaves the future alone when this request is cancelled.
            done, _ = await asyncio.wait([computation.outcome], timeout=left)
            if not done:
                raise DeadlineExceeded
            outcome = computation.outcome.result()
            if isinstance(outcome, Rejected):
                raise _like(outcome)
            if not isinstance(outcome, BaseException):
                return outcome
            if not isinstance(outcome, _OWN):
                return None
            if (answer := self._answers.get(key)) is not None:  # by a more urgent one, just now
                return answer
        return None


def _like(error: Rejected) -> ServiceError:
    """The same for another request, which raises it somewhere else."""
    return type(error)(error.detail)
