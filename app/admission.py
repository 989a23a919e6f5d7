"""The door: who comes in, decided from the image's header, before any decoding."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from app.errors import Draining, Loading, Overloaded, TooLarge, WorkerDown


class State(Enum):
    """What the service can do now."""

    LOADING = "loading"
    READY = "ready"
    WORKER_DOWN = "worker_down"
    DRAINING = "draining"


_CLOSED = {State.LOADING: Loading, State.WORKER_DOWN: WorkerDown, State.DRAINING: Draining}


@dataclass(frozen=True)
class Ceilings:
    """What may be admitted and not yet answered, in rows and in bytes of crops."""

    rows: int
    bytes: int


class Ticket:
    """A place in the house; ``release`` gives rows and bytes back, once."""

    def __init__(self, door: "Admission", rows: int, bytes_: int) -> None:
        self._door, self.rows, self.bytes = door, rows, bytes_

    def release(self) -> None:
        """Gives everything back; a second call does nothing."""
        self._door.give_back(self.rows, self.bytes)
        self.rows = self.bytes = 0

    def give_back(self, rows: int, bytes_: int) -> None:
        """Gives a part back, of an image of a batch call that is answered already."""
        self._door.give_back(rows, bytes_)
        self.rows -= rows
        self.bytes -= bytes_


class Admission:
    """Refuses at once what can't be answered in time; owns the count of what was admitted and not
    yet answered.
    """

    def __init__(
        self,
        ceilings: Ceilings,
        backlog_seconds: Callable[[int], float],
        clock: Callable[[], float],
    ) -> None:
        self._ceilings, self._seconds, self._clock = ceilings, backlog_seconds, clock
        self.state = State.LOADING
        self.rows = self.bytes = 0

    def require_open(self) -> None:
        """Raises Loading, WorkerDown or Draining unless requests can be served now."""
        if self.state in _CLOSED:
            raise _CLOSED[self.state]()

    def admit(self, rows: int, bytes_: int, deadline: float) -> Ticket:
        """Reserves room for a request.

        Args:
            rows: its cost in rows.
            bytes_: the size of its crops.
            deadline: when its answer is due, on this object's clock.

        Raises:
            TooLarge: it would not fit even into an empty queue.
            Overloaded: a ceiling is reached, or the work before it takes until after its deadline.
            Loading, WorkerDown, Draining: as ``require_open``.
        """
        self.require_open()
        if rows > self._ceilings.rows or bytes_ > self._ceilings.bytes:
            raise TooLarge(
                "This is more work than the queue can ever hold; send fewer images at once."
            )
        if self.rows + rows > self._ceilings.rows or self.bytes + bytes_ > self._ceilings.bytes:
            raise Overloaded(retry_after=self._seconds(self.rows))
        late = self._clock() + self._seconds(self.rows + rows) - deadline
        if self.rows and late > 0:
            raise Overloaded(retry_after=late)
        self.rows += rows
        self.bytes += bytes_
        return Ticket(self, rows, bytes_)

    def give_back(self, rows: int, bytes_: int) -> None:
        """Called by tickets."""
        self.rows -= rows
        self.bytes -= bytes_
