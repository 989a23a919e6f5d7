"""Admission: who comes in, decided from the image's header, before any decoding."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from app.batching.errors import Draining, Loading, Overloaded, TooLarge, WorkerDown


class State(Enum):
    """What the service can do now."""

    LOADING = "loading"
    READY = "ready"
    WORKER_DOWN = "worker_down"
    DRAINING = "draining"


_CLOSED = {State.LOADING: Loading, State.WORKER_DOWN: WorkerDown, State.DRAINING: Draining}


@dataclass(frozen=True)
class Ceilings:
    """What may be admitted and not yet answered: the cost in rows, and the bytes of the crops."""

    rows: int
    bytes: int


class Ticket:
    """Room that was reserved for a request; ``release`` gives cost and bytes back, once."""

    def __init__(self, admission: "Admission", model: str, cost: int, bytes_: int) -> None:
        self._admission = admission
        self.model = model
        self.cost = cost
        self.bytes = bytes_

    def release(self) -> None:
        """Gives everything back; a second call does nothing."""
        self.give_back(self.cost, self.bytes)

    def give_back(self, cost: int, bytes_: int) -> None:
        """Gives a part back, of an image of a batch call that is answered already."""
        self._admission.give_back(self.model, cost, bytes_)
        self.cost -= cost
        self.bytes -= bytes_


class Admission:
    """Refuses at once what can't be answered in time; owns the count of what was admitted and not
    yet answered, model by model, since their rows take unlike times.
    """

    def __init__(
        self,
        ceilings: Ceilings,
        backlog_seconds: Callable[[Mapping[str, int]], float],
        clock: Callable[[], float],
    ) -> None:
        """``backlog_seconds``: what work of such cost per model is expected to take."""
        self._ceilings = ceilings
        self._seconds = backlog_seconds
        self._clock = clock
        self.state = State.LOADING
        self._costs: Counter[str] = Counter()
        self.bytes = 0
        self._given_back = asyncio.Event()

    @property
    def cost(self) -> int:
        """The cost of all that is admitted and not yet answered."""
        return self._costs.total()

    def expected_seconds(self) -> float:
        """What all that is admitted and not yet answered is expected to take."""
        return self._seconds(self._costs)

    def require_open(self) -> None:
        """Raises Loading, WorkerDown or Draining unless requests can be served now."""
        if self.state in _CLOSED:
            raise _CLOSED[self.state]()

    def admit(self, model: str, cost: int, bytes_: int, deadline: float) -> Ticket:
        """Reserves room for a request.

        Args:
            model: who computes it.
            cost: in rows of the model's own size.
            bytes_: the size of its crops.
            deadline: when its answer is due, on this object's clock.

        Raises:
            TooLarge: it would not fit even into an empty queue.
            Overloaded: a ceiling is reached, or the work before it takes until after its deadline.
            Loading, WorkerDown, Draining: as ``require_open``.
        """
        self.require_open()
        if cost > self._ceilings.rows or bytes_ > self._ceilings.bytes:
            raise TooLarge(
                "This is more work than the queue can ever hold; send fewer images at once, "
                "or smaller ones."
            )
        if self.cost + cost > self._ceilings.rows or self.bytes + bytes_ > self._ceilings.bytes:
            raise Overloaded(retry_after=self.expected_seconds())
        late = self._clock() + self._seconds(self._costs + Counter({model: cost})) - deadline
        if self.cost and late > 0:
            raise Overloaded(retry_after=late)
        self._costs[model] += cost
        self.bytes += bytes_
        return Ticket(self, model, cost, bytes_)

    def give_back(self, model: str, cost: int, bytes_: int) -> None:
        self._costs[model] -= cost
        self.bytes -= bytes_
        self._given_back.set()

    async def empty(self) -> None:
        """Returns when all that was admitted is answered, what is still being decoded included."""
        while self.cost:
            self._given_back.clear()
            await self._given_back.wait()
