"""What the service and its worker process say to each other, over a pipe; crops lie in shared
memory.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Self, get_args

import numpy as np

from app.batching.batcher import Outcome
from app.batching.jobs import Batch, Fault, Slice
from app.batching.lending import Lending
from app.device.arena import Slot
from model.config import CheckpointConfig, CropPolicy
from model.preprocess.crops import Layout

# Why a worker ended: we killed it, since it hung or sent what can't be read; a signal from outside
# did; a fault of its own in C code; it ended itself; or it did so before it was ready.
RestartReason = Literal["hang", "killed", "segfault", "exit", "start_failed"]
RESTART_REASONS: tuple[RestartReason, ...] = get_args(RestartReason)

# What the worker exits with when its device is of no use any more (EX_TEMPFAIL).
DEVICE_LOST = 75
# How often the worker says that it lives, in seconds.
BEAT_SECONDS = 0.5


@dataclass(frozen=True)
class WorkerSettings:
    """What the worker and its supervisor need to know at its start.

    ``load_seconds``: most time until the first worker is ready; later ones are measured by it.
    ``most_workers``: that may share the CPU; of more than one, the first measures how many should.
    """

    models: tuple[str, ...]
    device: str
    dtype: str
    threads: int | None
    arena_bytes: int
    log_level: str
    log_format: str
    load_seconds: float = 600.0
    max_prompt_tokens: int = 512
    most_workers: int = 1


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready; enough for the API process to plan crops and to describe it."""

    config: CheckpointConfig
    policy: CropPolicy
    device: str
    dtype: str

    @cached_property
    def key(self) -> str:
        """Name and content: what was planned for one content is never computed by another of the
        same name.
        """
        content = self.config.model_dump_json() + self.policy.model_dump_json()
        return f"{self.config.name}@{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Beat:
    """The worker lives.

    Attributes:
        batch: the number of the one that it computes; None: it loads, or waits.
        step: of the batch; grows as the worker gets on with it.
        expected: seconds that the step should take, where they are known other than by the rows.
    """

    batch: int | None = None
    step: int = 0
    expected: float = 0.0


@dataclass(frozen=True)
class Ready:
    """The worker is up. ``timings``: (rows, seconds) of each model's warm-up batches by its name,
    the first measure of its rate; ``prompt_seconds``: of a short prompt, by the model's key;
    ``measures``: whether a ``Sharing`` follows; ``lending``: what was in it.
    """

    models: tuple[LoadedModel, ...]
    timings: Mapping[str, Sequence[tuple[int, float]]]
    prompt_seconds: Mapping[str, float] = field(default_factory=dict)
    measures: bool = False
    lending: Lending | None = None


@dataclass(frozen=True)
class Sharing:
    """How workers should share the CPU, as this one has measured after it was ready."""

    lending: Lending


@dataclass(frozen=True)
class StartFailed:
    """The worker could not load; the message is for the operator."""

    message: str


@dataclass(frozen=True)
class Reload:
    """Load the model of that name again, from where it came from, beside the one that ``serves``,
    by its key.
    """

    number: int
    model: str
    serves: str


@dataclass(frozen=True)
class Reloaded:
    """It is loaded, tested and warmed up; batches may come for its key."""

    number: int
    model: LoadedModel
    timings: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class ReloadRefused:
    """It can't be loaded, and the one before goes on serving; the message is for the operator."""

    number: int
    message: str


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``stop`` of one image, whose crops lie in ``slot``; the pieces of a batch
    have crops of one shape.

    The slice that completes the image (``completes``) brings the rows computed before, and gets a
    Score back.
    """

    slot: Slot
    layout: Layout
    prompt: str | None
    start: int
    stop: int
    completes: bool
    before: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, slice_: Slice) -> Self:
        """The worker's view of a slice; the payload of the service's jobs is a piece of the whole
        image.
        """
        whole: Self = slice_.job.payload
        before = tuple(slice_.job.partial) if slice_.completes else ()
        return dataclasses.replace(
            whole, start=slice_.start, stop=slice_.stop, completes=slice_.completes, before=before
        )


@dataclass(frozen=True)
class Run:
    """One batch for one model, by its key; ``threads`` to compute it with, None: as before."""

    number: int
    model: str
    pieces: tuple[Piece, ...]
    threads: int | None = None

    @classmethod
    def of(cls, number: int, batch: Batch) -> Self:
        """The batch, under that number."""
        return cls(number, batch.model, tuple(map(Piece.of, batch.slices)), batch.loan.threads)


@dataclass(frozen=True)
class Done:
    """Results of a batch, one per piece: a Score, rows, or why there are none (InferenceFailed, or
    BadField for its prompt).
    """

    number: int
    outcome: Outcome


@dataclass(frozen=True)
class BatchFailed:
    """A batch without results; ``fault`` is INFERENCE or OUT_OF_MEMORY."""

    number: int
    fault: Fault
    message: str
