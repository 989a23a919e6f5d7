"""What was admitted and not yet answered: by class, in the order in which it is due."""

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass

from app.batching.fairness import Sender, Uses


@dataclass(frozen=True)
class Ceilings:
    """What may be decoded, queued or computed at a time: the cost in rows, and the bytes of the
    crops.
    """

    rows: int
    bytes: int


@dataclass(frozen=True)
class Load:
    """What a request is to the service: its cost in rows, the bytes of its crops, and the seconds
    that one decoder is expected to take for it, and one worker beside the rows: for its prompts.
    """

    cost: int
    bytes: int
    decode_seconds: float = 0.0
    device_seconds: float = 0.0

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.cost + other.cost,
            self.bytes + other.bytes,
            self.decode_seconds + other.decode_seconds,
            self.device_seconds + other.device_seconds,
        )

    def __neg__(self) -> "Load":
        return Load(-self.cost, -self.bytes, -self.decode_seconds, -self.device_seconds)


class Ticket:
    """Room that was reserved for a request, of which each part is given back once.

    Attributes:
        sender: whose it is.
        deadline: when the answer is due.
        until: reckoned with so long.
        expected: seconds from ``since`` after which the answer was expected.
        admitted_as: the model and the load, as they were then.
    """

    def __init__(
        self,
        line: "Line",
        model: str,
        load: Load,
        sender: Sender,
        deadline: float,
        given_back: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.load = load
        self.admitted_as = model, load
        self.sender = sender
        self.deadline = deadline
        self.until = math.inf
        self.expected = self.since = 0.0
        self._line = line
        self._given_back = given_back
        self._is_held = False

    def enter(self) -> None:
        """Takes its place in the line."""
        self._line.add(self)

    def hold(self) -> None:
        """From now on it counts against the ceilings."""
        if not self._is_held:
            self._is_held = True
            self._line.held += self.load

    def part(self, load: Load) -> "Ticket":
        """A ticket of its own for one image of a batch call that is not let in yet; this one keeps
        the rest.
        """
        self._reduce(load)
        part = Ticket(self._line, self.model, load, self.sender, self.deadline, self._given_back)
        part.enter()
        return part

    def decoded(self) -> None:
        """Gives the decoder's time back."""
        self._reduce(Load(0, 0, self.load.decode_seconds))

    def release(self) -> bool:
        """Gives all back that this ticket still holds; a second call changes nothing. Whether it
        was still reckoned with.
        """
        if not self._line.remove(self):
            return False
        if self._is_held:
            self._line.held += -self.load
        self.load = Load(0, 0)
        self._given_back()
        return True

    def _reduce(self, load: Load) -> None:
        self.load += -load
        self._line.change(self, -load)
        if self._is_held:
            self._line.held += -load


@dataclass(frozen=True)
class Before:
    """The seconds of what runs before a request: of the device, of one decoder, and of the device
    for the same sender, whose share among all that have something in the line is ``share``.
    ``lately``: the part of the recent time that it was given.
    """

    device: float
    decoding: float
    own: float
    share: float
    lately: float
    is_empty: bool


class _Sum:
    """The loads of some tickets, model by model."""

    def __init__(self) -> None:
        self.count = 0
        self.weight = 1.0
        self._costs: dict[str, int] = {}
        self._device = self._decoding = 0.0

    def add(self, model: str, load: Load, count: int = 0) -> None:
        """Adds a load, or takes it out again if it is negative."""
        self.count += count
        self._costs[model] = self._costs.get(model, 0) + load.cost
        self._device += load.device_seconds
        self._decoding += load.decode_seconds
        if not self.count:  # no rounding stays behind
            self._costs.clear()
            self._device = self._decoding = 0.0

    def seconds(
        self, work_seconds: Callable[[str, int], float], workers: int
    ) -> tuple[float, float]:
        """Of all workers together, and of one decoder."""
        rows = sum(work_seconds(model, cost) for model, cost in self._costs.items() if cost)
        return rows + self._device / workers, self._decoding


class Line:
    """The tickets of a class, the earliest deadline first.

    Sums are kept, so that a request whose deadline is the last one, as most are, is judged in steps
    that do not grow with the line.
    """

    def __init__(
        self, work_seconds: Callable[[str, int], float], workers: Callable[[], int] = lambda: 1
    ) -> None:
        """``work_seconds`` of all workers together, and how many they are now."""
        self.held = Load(0, 0)
        self._work_seconds = work_seconds
        self._workers = workers
        self._tickets: list[Ticket] = []
        self._all = _Sum()
        self._owners: dict[str, _Sum] = {}
        self._weight = 0.0  # of all owners
        self._places: set[Ticket] = set()  # those that are reckoned with for a while
        self._uses = Uses()

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def cost(self) -> int:
        return sum(ticket.load.cost for ticket in self._tickets)

    def add(self, ticket: Ticket) -> None:
        """Takes a ticket in."""
        bisect.insort(self._tickets, ticket, key=_deadline)
        self._sum(ticket, ticket.load, 1)
        if ticket.until < math.inf:
            self._places.add(ticket)

    def remove(self, ticket: Ticket) -> bool:
        """Lets a ticket go; whether it was there."""
        place = bisect.bisect_left(self._tickets, ticket.deadline, key=_deadline)
        while place < len(self._tickets) and self._tickets[place].deadline == ticket.deadline:
            if self._tickets[place] is ticket:
                del self._tickets[place]
                self._places.discard(ticket)
                self._sum(ticket, -ticket.load, -1)
                return True
            place += 1
        return False

    def note(self, ticket: Ticket, now: float) -> None:
        """What a ticket stands for goes to its sender."""
        seconds, _ = self.seconds_of((ticket.model, ticket.load))
        self._uses.add(ticket.sender.owner, now, seconds)

    def change(self, ticket: Ticket, load: Load) -> None:
        """A ticket that is there has that much more, or less."""
        self._sum(ticket, load, 0)

    def seconds(self) -> tuple[float, float]:
        """Of all of it: of all workers together, and of one decoder."""
        return self._all.seconds(self._work_seconds, self._workers())

    def seconds_of(self, work: tuple[str, Load]) -> tuple[float, float]:
        """Of a load of a model: of all workers together, and of one decoder."""
        model, load = work
        rows = self._work_seconds(model, load.cost) if load.cost else 0.0
        return rows + load.device_seconds / self._workers(), load.decode_seconds

    def before(self, deadline: float, sender: Sender, now: float) -> Before:
        """What runs before a request of a sender that is due then."""
        for place in [place for place in self._places if place.until < now]:
            self.remove(place)
        device, decoding = self.seconds()
        mine = self._owners.get(sender.owner)
        own = mine.seconds(self._work_seconds, self._workers())[0] if mine else 0.0
        others = self._weight - (mine.weight if mine else 0.0)
        after = self._tickets[self._place(deadline) :]
        for ticket in after:
            seconds, one_decoder = self.seconds_of((ticket.model, ticket.load))
            device -= seconds
            decoding -= one_decoder
            if ticket.sender.owner == sender.owner:
                own -= seconds
        share = sender.weight / (sender.weight + max(0.0, others))
        lately = self._uses.of(sender.owner, now)
        return Before(device, decoding, own, share, lately, len(after) == len(self._tickets))

    def harm(self, deadline: float, done: float, seconds: float, share: float) -> float:
        """By how much a request that is due then, and takes so long, would make an answer late that
        would have been in time; at most 0 if none. What runs before it will be ``done`` then.
        """
        worst = -math.inf
        for ticket in self._tickets[self._place(deadline) :]:
            done += self.seconds_of((ticket.model, ticket.load))[0] / share
            if done <= ticket.deadline:
                worst = max(worst, done + seconds - ticket.deadline)
        return worst

    def _place(self, deadline: float) -> int:
        return bisect.bisect_right(self._tickets, deadline, key=_deadline)

    def _sum(self, ticket: Ticket, load: Load, count: int) -> None:
        sender = ticket.sender
        self._all.add(ticket.model, load, count)
        if sender.owner not in self._owners:
            self._owners[sender.owner] = _Sum()
            self._owners[sender.owner].weight = sender.weight
            self._weight += sender.weight
        mine = self._owners[sender.owner]
        mine.add(ticket.model, load, count)
        if not mine.count:
            self._weight -= mine.weight
            del self._owners[sender.owner]


def _deadline(ticket: Ticket) -> float:
    return ticket.deadline
