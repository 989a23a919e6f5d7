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


@dataclass(frozen=True)
class Load:
    """What a request is to the service: its cost in rows, the bytes of its crops, and the seconds
    that one decoder is expected to take for it, and the device for its prompts.
    """

    cost: int
    bytes: int
    decode_seconds: float = 0.0
    prompt_seconds: float = 0.0

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.cost + other.cost,
            self.bytes + other.bytes,
            self.decode_seconds + other.decode_seconds,
            self.prompt_seconds + other.prompt_seconds,
        )

    def __neg__(self) -> "Load":
        return Load(-self.cost, -self.bytes, -self.decode_seconds, -self.prompt_seconds)


class Ticket:
    """Room that was reserved for a request, of which each part is given back once."""

    def __init__(self, admission: "Admission", model: str, load: Load) -> None:
        self._admission = admission
        self.model = model
        self.load = load

    def part(self, load: Load) -> "Ticket":
        """A ticket of its own for one image of a batch call; this one keeps the rest."""
        self.load += -load
        return Ticket(self._admission, self.model, load)

    def decoded(self) -> None:
        """Gives the decoder's time back."""
        self._give_back(Load(0, 0, self.load.decode_seconds))

    def release(self) -> None:
        """Gives all back that this ticket still holds."""
        self._give_back(self.load)

    def _give_back(self, load: Load) -> None:
        self.load += -load
        self._admission.give_back(self.model, load)


class Admission:
    """Refuses at once what can't be answered in time; owns the count of what was admitted and not
    yet answered, model by model, since their rows take unlike times.
    """

    def __init__(
        self,
        ceilings: Ceilings,
        backlog_seconds: Callable[[Mapping[str, int]], float],
        clock: Callable[[], float],
        decoders: int = 1,
    ) -> None:
        """``backlog_seconds``: what work of such cost per model is expected to take; ``decoders``:
        how many images are decoded side by side.
        """
        self._ceilings = ceilings
        self._seconds = backlog_seconds
        self._clock = clock
        self._decoders = decoders
        self.state = State.LOADING
        self._costs: Counter[str] = Counter()
        self._load = Load(0, 0)  # of all models
        self._given_back = asyncio.Event()

    @property
    def cost(self) -> int:
        """The cost of all that is admitted and not yet answered."""
        return self._costs.total()

    @property
    def bytes(self) -> int:
        """The bytes of its crops."""
        return self._load.bytes

    def expected_seconds(self) -> float:
        """What all that is admitted and not yet answered is expected to take."""
        return self._expected(self._costs, self._load)

    def require_open(self) -> None:
        """Raises Loading, WorkerDown or Draining unless requests can be served now."""
        if self.state in _CLOSED:
            raise _CLOSED[self.state]()

    def admit(self, model: str, load: Load, deadline: float) -> Ticket:
        """Reserves room for a request.

        Args:
            model: who computes it.
            load: of all its images.
            deadline: when its answer is due, on this object's clock.

        Raises:
            TooLarge: it would not fit even into an empty queue.
            Overloaded: a ceiling is reached, or the work before it takes until after its deadline.
            Loading, WorkerDown, Draining: as ``require_open``.
        """
        self.require_open()
        if load.cost > self._ceilings.rows or load.bytes > self._ceilings.bytes:
            raise TooLarge(
                "This is more work than the queue can ever hold; send fewer images at once, "
                "or smaller ones."
            )
        total = self._load + load
        if total.cost > self._ceilings.rows or total.bytes > self._ceilings.bytes:
            raise Overloaded(retry_after=self.expected_seconds())
        costs = self._costs + Counter({model: load.cost})
        late = self._clock() + self._expected(costs, total) - deadline
        if self.cost and late > 0:
            raise Overloaded(retry_after=late)
        self._take(model, load)
        return Ticket(self, model, load)

    def give_back(self, model: str, load: Load) -> None:
        """Room is free again.

        Raises:
            ValueError: more than there was.
        """
        self._take(model, -load)
        if self._costs[model] < 0 or self._load.bytes < 0:
            raise ValueError(f"more was given back of {model} than was taken")
        if not self.cost:
            self._load = Load(0, self._load.bytes)  # no rounding stays behind
        self._given_back.set()

    async def empty(self) -> None:
        """Returns when all that was admitted is answered, what is still being decoded included."""
        while self.cost:
            self._given_back.clear()
            await self._given_back.wait()

    def _take(self, model: str, load: Load) -> None:
        self._costs[model] += load.cost
        self._load += load

    def _expected(self, costs: Mapping[str, int], load: Load) -> float:
        """Images are decoded while others are computed: the slower of both counts."""
        computing = self._seconds(costs) + load.prompt_seconds
        return max(computing, load.decode_seconds / self._decoders)
