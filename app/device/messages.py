"""What the service and its worker process say to each other, over a pipe; crops lie in shared
memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.batching.batcher import Outcome
from app.batching.jobs import Fault
from app.device.arena import Slot
from model.config import CheckpointConfig, CropPolicy
from model.preprocess.crops import Layout


@dataclass(frozen=True)
class WorkerSettings:
    """What the worker needs to know at its start."""

    models: tuple[str, ...]
    device: str
    dtype: str
    threads: int | None
    arena_bytes: int
    log_level: str
    log_format: str


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready; enough for the API process to plan crops and to describe it."""

    config: CheckpointConfig
    policy: CropPolicy
    device: str
    dtype: str


@dataclass(frozen=True)
class Ready:
    """The worker is up. ``timings``: (rows, seconds) of each model's warm-up batches by its name,
    the first measure of its rate.
    """

    models: tuple[LoadedModel, ...]
    timings: Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class StartFailed:
    """The worker could not load; the message is for the operator."""

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


@dataclass(frozen=True)
class Run:
    """One batch for one model."""

    number: int
    model: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Done:
    """Results of a batch, one per piece: a Score, rows, or InferenceFailed."""

    number: int
    outcome: Outcome


@dataclass(frozen=True)
class BatchFailed:
    """A batch without results; ``fault`` is INFERENCE or OUT_OF_MEMORY."""

    number: int
    fault: Fault
    message: str
