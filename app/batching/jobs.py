"""What the scheduler deals in: jobs, slices of their rows, batches of slices, and what can go
wrong with one.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from app.batching.fairness import Priority
from app.batching.lending import Loan

Trigger = Literal["idle", "full", "drain"]


class Fault(Enum):
    """Why a batch gave no results."""

    INFERENCE = "inference"
    OUT_OF_MEMORY = "oom"
    WORKER_DIED = "worker_died"
    NOT_RUN = "not_run"  # the worker had ended before the batch could begin


class JobState(Enum):
    """Where a job is; only the scheduler moves it on, and never out of the last two."""

    QUEUED = "queued"  # between the slices of a split job, too
    RUNNING = "running"  # a slice is at the device, or goes there again after a failure
    ANSWERED = "answered"
    CANCELLED = "cancelled"


class Stages(dict[str, float]):
    """Seconds of an image by stage. ``intervals`` has when they were: stage, beginning and end on
    the service's clock, and what is known of it. ``device``: where it was computed last;
    ``cached``: how the cache had its score, if it did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.intervals: list[tuple[str, float, float, dict[str, int | str]]] = []
        self.device = ""
        self.cached = ""

    def note(self, stage: str, beginning: float, seconds: float, **known: int | str) -> None:
        """Adds to a stage, which a split job is in several times."""
        self[stage] = self.get(stage, 0.0) + seconds
        self.intervals.append((stage, beginning, beginning + seconds, known))


def ignore_crashes(crashes: int) -> None:
    """For jobs whose image nobody recognizes when it comes again."""
    del crashes


@dataclass(eq=False)
class Job:
    """One admitted image. ``payload`` is the device's business; ``answer`` is called once at most.

    ``shape`` is the size of each of its rows, and ``row_cost`` what one costs, in rows of the
    model's own size; ``beside`` are the seconds that the device takes for it beside the rows.
    ``partial`` collects the rows of a job that is split over batches, until its last row lands.
    ``crashes`` counts the workers that ended while they ran it; ``on_crashes`` hears of every
    change, even when the client is gone.
    """

    model: str
    rows: int
    deadline: float
    payload: Any
    answer: Callable[[Any], None]
    shape: tuple[int, ...] = ()
    row_cost: int = 1
    beside: float = 0.0
    priority: Priority = Priority.INTERACTIVE
    label: str = ""
    arrived: float = 0.0
    done: int = 0
    crashes: int = 0
    on_crashes: Callable[[int], None] = ignore_crashes
    urgency: float = 0.0
    state: JobState = JobState.QUEUED
    partial: list[Any] = field(default_factory=list)
    stages: Stages = field(default_factory=Stages)

    @property
    def closed(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state in {JobState.ANSWERED, JobState.CANCELLED}

    @property
    def left(self) -> int:
        return self.rows - self.done

    @property
    def cost(self) -> int:
        """What the rows still to compute cost."""
        return self.left * self.row_cost

    @property
    def suspect(self) -> bool:
        """Whether a worker ended while it ran this job, among others or alone."""
        return self.crashes > 0

    @property
    def kind(self) -> Hashable:
        """Only jobs of one kind share a batch: of one model and shape. A suspect shares with
        nobody.
        """
        return self.model, self.shape, id(self) if self.suspect else None


@dataclass(frozen=True)
class Slice:
    """Rows ``start`` to ``stop`` of a job."""

    job: Job
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def cost(self) -> int:
        return self.rows * self.job.row_cost

    @property
    def completes(self) -> bool:
        return self.stop == self.job.rows


@dataclass(frozen=True, eq=False)
class Batch:
    """Slices that share one call of the network; ``lane`` is the number of the worker, ``loan``
    what it computes with.
    """

    slices: tuple[Slice, ...]
    trigger: Trigger
    sent: float
    expected: float = 0.0  # seconds at the device
    lane: int = 0
    loan: Loan = field(default_factory=Loan)

    @property
    def model(self) -> str:
        return self.slices[0].job.model

    @property
    def suspect(self) -> bool:
        """Whether it is a suspect, which runs alone."""
        return self.slices[0].job.suspect

    @property
    def rows(self) -> int:
        return sum(s.rows for s in self.slices)

    @property
    def cost(self) -> int:
        return sum(s.cost for s in self.slices)
