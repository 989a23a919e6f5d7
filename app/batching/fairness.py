"""Who sends, how urgent it is to them, and what share of the device each class has."""

import math
from dataclasses import dataclass
from enum import StrEnum

# Of the device's time, while both classes have work for it, this much goes to bulk.
BULK_SHARE = 0.25
# Seconds over which use is averaged.
_MEMORY = 5.0
# So many owners are remembered before those are forgotten whose part is next to nothing by now.
_OWNERS = 1000
_SEEN = 1e-3


class Priority(StrEnum):
    """Whether somebody waits for the answer, or a program for many of them."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True)
class Sender:
    """Attributes:
    owner: whose the request is, for what is shared fairly.
    weight: its share beside those of others.
    priority: the class of the request.
    """

    owner: str = "-"
    weight: float = 1.0
    priority: Priority = Priority.INTERACTIVE


ANYBODY = Sender()


class Turns:
    """Whose turn it is when both classes wait: bulk has a quarter of the time, and the interactive
    one goes first for the rest.
    """

    def __init__(self, at_once: float) -> None:
        """``at_once``: seconds that are owed to bulk before it has its turn, and twice of which it
        can be owed at most.
        """
        self._at_once = at_once
        self._owed = 0.0

    @property
    def is_bulk(self) -> bool:
        """Whether bulk goes before what is interactive."""
        return self._owed >= self._at_once

    def took(self, priority: Priority, seconds: float) -> None:
        """A batch of one class goes to the device while the other one waits."""
        if priority is Priority.BULK:
            self._owed = max(0.0, self._owed - seconds)
        else:
            earned = seconds * BULK_SHARE / (1 - BULK_SHARE)
            self._owed = min(2 * self._at_once, self._owed + earned)


class Use:
    """What part of the recent time something took, the latest counting most."""

    def __init__(self) -> None:
        self._use = 0.0
        self._at = 0.0

    def add(self, now: float, seconds: float) -> None:
        """So many seconds are taken from now on."""
        self._use = self.of(now) + seconds / _MEMORY
        self._at = now

    def of(self, now: float) -> float:
        """Its part of the time; over 1 where more was taken than there is."""
        return self._use * math.exp(-max(0.0, now - self._at) / _MEMORY)


class Uses:
    """What part of the recent time each owner was given, of those that came lately."""

    def __init__(self) -> None:
        self._uses: dict[str, Use] = {}
        self._most = _OWNERS

    def __len__(self) -> int:
        return len(self._uses)

    def add(self, owner: str, now: float, seconds: float) -> None:
        """So many seconds go to an owner."""
        if len(self._uses) >= self._most:
            self._uses = {name: use for name, use in self._uses.items() if use.of(now) > _SEEN}
            # Not again for the next one, where as many are there.
            self._most = max(_OWNERS, 2 * len(self._uses))
        self._uses.setdefault(owner, Use()).add(now, seconds)

    def of(self, owner: str, now: float) -> float:
        """The part of an owner; 0 of one that did not come."""
        use = self._uses.get(owner)
        return use.of(now) if use else 0.0
