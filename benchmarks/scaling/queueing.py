"""How long a request waits for its replica, by how replicas are chosen: events on a heap.

A replica serves one request after another, in the order in which they came. The service batches, so
its queues are shorter; what differs between the choices does not depend on that.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
Choice = Callable[["Replicas"], int]
# Requests that find empty replicas, before the queues are as they stay.
_WARM_UP = 0.2


class Replicas:
    """Requests at each replica."""

    def __init__(self, count: int, chance: np.random.Generator) -> None:
        self.requests = np.zeros(count, np.int64)
        self._chance = chance
        self._numbers: list[int] = []

    def any(self) -> int:
        """One of them by chance."""
        if not self._numbers:  # one by one they are drawn a hundred times as slowly
            self._numbers = self._chance.integers(len(self.requests), size=10_000).tolist()
        return self._numbers.pop()


def at_random(replicas: Replicas) -> int:
    """Knows nothing, as a Kubernetes Service."""
    return replicas.any()


def of_two(replicas: Replicas) -> int:
    """The one of two by chance that has fewer requests, as Ray Serve's router."""
    one, other = replicas.any(), replicas.any()
    return one if replicas.requests[one] <= replicas.requests[other] else other


def least(replicas: Replicas) -> int:
    """The one that has fewest, as nginx's ``least_conn``; from a place by chance, so that equals
    are equal.
    """
    begin = replicas.any()
    behind = begin + int(replicas.requests[begin:].argmin())
    if not begin:
        return behind
    before = int(replicas.requests[:begin].argmin())
    return before if replicas.requests[before] < replicas.requests[behind] else behind


CHOICES: dict[str, Choice] = {
    "random": at_random,
    "two choices": of_two,
    "least connections": least,
}


@dataclass(frozen=True)
class Waiting:
    """Of each request: seconds until its replica began with it, and ``served`` until its end."""

    waits: Seconds
    served: Seconds

    def p99(self) -> float:
        """Seconds from arrival to answer that 99 of 100 keep."""
        return float(np.quantile(self.served, 0.99))


def simulate(
    count: int, times: Seconds, load: float, choose: Choice, requests: int, seed: int = 0
) -> Waiting:
    """Requests at random times on replicas.

    Args:
        count: of replicas.
        times: seconds that a request takes; each draws one of them.
        load: part of the time that a replica works.
        choose: the replica of the next request.
        requests: how many; the first fifth does not count.
        seed: of all that is by chance.
    """
    chance = np.random.default_rng(seed)
    gap = float(times.mean()) / (load * count)
    arrivals = np.cumsum(chance.exponential(gap, requests))
    work = chance.choice(times, requests)
    replicas = Replicas(count, chance)
    free = [0.0] * count
    ends: list[tuple[float, int]] = []
    waits = np.empty(requests)
    for number, (now, seconds) in enumerate(zip(arrivals.tolist(), work.tolist(), strict=True)):
        while ends and ends[0][0] <= now:
            replicas.requests[heapq.heappop(ends)[1]] -= 1
        replica = choose(replicas)
        begin = max(now, free[replica])
        free[replica] = begin + seconds
        waits[number] = begin - now
        replicas.requests[replica] += 1
        heapq.heappush(ends, (free[replica], replica))
    first = int(requests * _WARM_UP)
    return Waiting(waits[first:], (waits + work)[first:])
