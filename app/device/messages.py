"""What the service and its worker process say to each other, over a pipe; crops lie in shared
memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model.config import CheckpointConfig, CropPolicy
from model.preprocess.crops import Layout
from model.scores import Score


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
    """Rows ``start`` to ``stop`` of one image, whose crops lie at ``offset``; the pieces of a batch
    have crops of one shape.

    The slice that completes the image (``completes``) brings the rows computed before, and gets a
    Score back.
    """

    offset: int
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
class PieceFailed:
    """The rows of this piece were computed, but no score could be read from them."""

    message: str


@dataclass(frozen=True)
class Done:
    """Results of a batch, one per piece: a Score, rows, or PieceFailed."""

    number: int
    results: tuple[Score | np.ndarray | PieceFailed, ...]
    inference_seconds: float
    reduce_seconds: float
    cached_prompts: int
    new_prompts: int
    gpu_bytes: int


@dataclass(frozen=True)
class BatchFailed:
    """A batch without results; ``fault`` is ``inference`` or ``oom``."""

    number: int
    fault: Literal["inference", "oom"]
    message: str
