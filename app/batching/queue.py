"""Jobs that wait, found by urgency, by deadline and by kind in steps that do not grow with their
number.
"""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable

from app.batching.fairness import Priority
from app.batching.jobs import Job

# Jobs that do not fit into the rest of a batch and are looked past, before the search is given up.
_MISFITS = 64
# A heap is rebuilt when more of its entries than this, and than half, are of jobs that left.
_DEAD = 64


class _Heap:
    """Jobs by a key, the least first; of one that leaves only a pair of numbers stays, until that
    comes to the top or most pairs are such.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[float, int]] = []
        self._jobs: dict[int, Job] = {}

    def push(self, key: float, order: int, job: Job) -> None:
        self._jobs[order] = job
        heapq.heappush(self._entries, (key, order))

    def pop(self) -> tuple[float, int, Job] | None:
        """Removes the first one; returns what ``push`` takes."""
        if self.first() is None:
            return None
        key, order = heapq.heappop(self._entries)
        return key, order, self._jobs.pop(order)

    def discard(self, order: int) -> None:
        self._jobs.pop(order, None)
        if len(self._entries) > 2 * len(self._jobs) + _DEAD:
            self._entries = [entry for entry in self._entries if entry[1] in self._jobs]
            heapq.heapify(self._entries)

    def first(self) -> Job | None:
        while self._entries and self._entries[0][1] not in self._jobs:
            heapq.heappop(self._entries)
        return self._jobs[self._entries[0][1]] if self._entries else None

    def sorted(self) -> list[Job]:
        return [self._jobs[order] for _, order in sorted(self._entries) if order in self._jobs]


class JobQueue:
    """Jobs that wait; of equally urgent ones the first that came goes first."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._by_urgency = _Heap()
        self._by_deadline = _Heap()
        self._by_kind: defaultdict[Hashable, _Heap] = defaultdict(_Heap)
        self._costs: Counter[Hashable] = Counter()
        self._orders: dict[Job, int] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def __contains__(self, job: Job) -> bool:
        return job in self._orders

    def by_urgency(self) -> list[Job]:
        """All, most urgent first; sorts them, so that it is not for every batch."""
        return self._by_urgency.sorted()

    def add(self, job: Job) -> None:
        """Takes in a job, which keeps its kind, urgency, cost and deadline as long as it waits."""
        order = next(self._order)
        self._orders[job] = order
        self._by_urgency.push(job.urgency, order, job)
        self._by_deadline.push(job.deadline, order, job)
        self._by_kind[job.kind].push(job.urgency, order, job)
        self._costs[job.kind] += job.cost

    def remove(self, job: Job) -> None:
        """Lets a job go, if it waits."""
        order = self._orders.pop(job, None)
        if order is None:
            return
        self._by_urgency.discard(order)
        self._by_deadline.discard(order)
        kind = job.kind
        self._by_kind[kind].discard(order)
        self._costs[kind] -= job.cost
        if not self._costs[kind]:
            del self._by_kind[kind]
            del self._costs[kind]

    def first(self) -> Job | None:
        """The most urgent one."""
        return self._by_urgency.first()

    def first_due(self) -> Job | None:
        """The one with the earliest deadline."""
        return self._by_deadline.first()

    def cost(self, kind: Hashable) -> int:
        """What all that waits of a kind costs."""
        return self._costs[kind]

    def take(self, kind: Hashable, room: int) -> list[Job]:
        """Removes and returns jobs of a kind by urgency, those that fit into ``room`` together;
        looks past a bounded number that do not.
        """
        taken: list[Job] = []
        misfits: list[tuple[float, int, Job]] = []
        waiting = self._by_kind.get(kind) or _Heap()
        while room > 0 and len(misfits) < _MISFITS and (entry := waiting.pop()):
            job = entry[2]
            if job.cost <= room:
                taken.append(job)
                room -= job.cost
            else:
                misfits.append(entry)
        for entry in misfits:
            waiting.push(*entry)
        for job in taken:
            self.remove(job)
        return taken


class ClassedQueue:
    """A queue for each class of priority, and one for suspects that may not run yet."""

    def __init__(self, *, parks_suspects: bool = False) -> None:
        """``parks_suspects``: they wait apart until one is released, from now on."""
        self.parks_suspects = parks_suspects
        self._queues = {priority: JobQueue() for priority in Priority}
        self._parked = JobQueue()
        self._released: Job | None = None

    def __len__(self) -> int:
        return self.ready + len(self._parked)

    @property
    def ready(self) -> int:
        """How many may run."""
        return sum(map(len, self._queues.values()))

    def of(self, priority: Priority) -> JobQueue:
        """The queue of one class."""
        return self._queues[priority]

    def by_urgency(self) -> list[Job]:
        """All, class by class; sorts them."""
        queues = (*self._queues.values(), self._parked)
        return [job for queue in queues for job in queue.by_urgency()]

    def parked(self) -> list[Job]:
        """Suspects that wait apart, most urgent first."""
        return self._parked.by_urgency() if self._parked else []

    def add(self, job: Job) -> None:
        """As ``JobQueue.add``, to that of its class; a suspect is parked."""
        parks = self.parks_suspects and job.suspect
        (self._parked if parks else self._queues[job.priority]).add(job)

    def release(self, job: Job) -> None:
        """A parked one may run, in its turn among those of its class."""
        self._parked.remove(job)
        self._queues[job.priority].add(job)
        self._released = job

    def recall(self) -> None:
        """The released one is parked again, unless it has been taken."""
        job, self._released = self._released, None
        if job is not None and job in self._queues[job.priority]:
            self._queues[job.priority].remove(job)
            self._parked.add(job)

    def remove(self, job: Job) -> None:
        """Lets a job go, if it waits."""
        self._queues[job.priority].remove(job)
        self._parked.remove(job)

    def first_due(self) -> Job | None:
        """The one with the earliest deadline of all."""
        queues = (*self._queues.values(), self._parked)
        due = [job for queue in queues if (job := queue.first_due())]
        return min(due, key=lambda job: job.deadline, default=None)
