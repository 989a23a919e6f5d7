"""The process on the device: the one place of the service that imports torch.

Started by ``app.device.supervisor`` as ``python -m app.worker``, with two inherited descriptors: a
pipe and the shared memory. It computes batches in the order in which they come, one at a time, and
ends when the pipe closes.
"""

import argparse
import contextlib
import logging
import mmap
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from app.batching.batcher import Outcome
from app.batching.errors import InferenceFailed
from app.batching.jobs import Fault
from app.device import arena
from app.device.messages import (
    BatchFailed,
    Done,
    LoadedModel,
    Piece,
    Ready,
    Run,
    StartFailed,
    WorkerSettings,
)
from app.logs import configure
from model.decoding.slots import crops_of
from model.errors import CheckpointError, ModelError
from model.pipeline import is_out_of_memory
from model.preprocess.crops import gather
from model.scorer import Scorer, limit_threads
from model.scores import Score

logger = logging.getLogger(__name__)

# Sizes of the warm-up batches: they measure the rate, and let the libraries choose their kernels.
_WARM_UP = (1, 10, 10, 32)


def main() -> None:
    """Runs the worker until its pipe closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--arena", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to the whole group; the service tells us when to end
    pipe: Connection[Any, Any] = Connection(arguments.pipe)
    settings: WorkerSettings = pipe.recv()
    configure(settings.log_level, settings.log_format)
    with arena.attach(arguments.arena, settings.arena_bytes) as segment:
        try:
            worker = Worker(settings, segment)
            pipe.send(worker.ready())
        except (ModelError, ValueError, RuntimeError, OSError) as error:
            if not isinstance(error, ModelError):  # those say it all in a sentence
                logger.exception("the worker can't start")
            pipe.send(start_failure(error))
            return
        serve(worker, pipe)


def start_failure(error: Exception) -> StartFailed:
    """What the operator reads: the error and its notes, which say what model it was about."""
    notes = (f" ({note})" for note in getattr(error, "__notes__", ()))
    return StartFailed("".join([str(error) or type(error).__name__, *notes]))


def serve(worker: "Worker", pipe: "Connection[Any, Any]") -> None:
    """Answers every batch until the other side closes."""
    with contextlib.suppress(EOFError, OSError):  # it has closed, or died
        while isinstance(message := pipe.recv(), Run):
            pipe.send(worker.answer(message))


class Worker:
    """The loaded scorers and the shared memory."""

    def __init__(self, settings: WorkerSettings, segment: mmap.mmap) -> None:
        """Loads every model.

        Raises:
            ModelError, ValueError: one can't be loaded, or two have the same name.
        """
        limit_threads(settings.threads)
        self._segment = segment
        scorers = Scorer.load_several(settings.models, device=settings.device, dtype=settings.dtype)
        self._scorers = by_name(settings.models, scorers)

    def ready(self) -> Ready:
        """Warms up and tells what is loaded."""
        models = tuple(
            LoadedModel(
                s.config, s.planner.policy, str(s.device), str(s.dtype).removeprefix("torch.")
            )
            for s in self._scorers.values()
        )
        return Ready(models, {name: self._warm_up(name) for name in self._scorers})

    def _warm_up(self, name: str) -> list[tuple[int, float]]:
        try:
            return warm_up(self._scorers[name])
        except Exception as error:
            error.add_note(f"while warming up {name}")
            raise

    def answer(self, run: Run) -> Done | BatchFailed:
        """Computes a batch; a failure is an answer too."""
        try:
            return self.compute(run)
        except Exception as error:
            if is_out_of_memory(error):
                torch.cuda.empty_cache()
                return BatchFailed(run.number, Fault.OUT_OF_MEMORY, str(error))
            logger.exception("batch failed")
            message = f"{type(error).__name__}: {error}"
            return BatchFailed(run.number, Fault.INFERENCE, message)

    def compute(self, run: Run) -> Done:
        """One call of the network for all pieces, then each piece's result."""
        scorer = self._scorers[run.model]
        start = time.perf_counter()
        rows = scorer.forward(*self._gather(run.pieces))
        computed = time.perf_counter()
        prompts = [
            p.prompt
            for p in run.pieces
            if p.completes and p.prompt and "consistency" in p.layout.heads
        ]
        cached = sum(map(scorer.knows, prompts))
        _embed_all(scorer, prompts)
        parts = np.split(rows, np.cumsum([p.stop - p.start for p in run.pieces])[:-1])
        results = tuple(_result(scorer, p, part) for p, part in zip(run.pieces, parts, strict=True))
        reduced = time.perf_counter()
        gpu = torch.cuda.memory_allocated(scorer.device) if scorer.device.type == "cuda" else 0
        outcome = Outcome(
            results,
            seconds=computed - start,
            reduce_seconds=reduced - computed,
            cached_prompts=cached,
            new_prompts=len(prompts) - cached,
            gpu_bytes=gpu,
        )
        return Done(run.number, outcome)

    def _gather(self, pieces: Sequence[Piece]) -> tuple[np.ndarray, list[int], list[int]]:
        return gather(
            (
                piece.layout,
                crops_of(
                    self._segment, piece.slot.offset, piece.slot.stamp, piece.layout.array_shape
                ),
                slice(piece.start, piece.stop),
            )
            for piece in pieces
        )


def by_name(sources: Sequence[str], scorers: Sequence[Scorer]) -> dict[str, Scorer]:
    """The scorers by their checkpoints' names.

    Args:
        sources: where each was loaded from, for the message.
        scorers: as many.

    Raises:
        CheckpointError: two have the same name, so that requests could not tell them apart.
    """
    found: dict[str, Scorer] = {}
    origin: dict[str, str] = {}
    for source, scorer in zip(sources, scorers, strict=True):
        name = scorer.config.name
        if name in found:
            raise CheckpointError(
                f"two of the models are named {name!r} ({origin[name]} and {source}): load one of "
                'them, or give one another "name" in its config.json'
            )
        found[name], origin[name] = scorer, source
    return found


def _embed_all(scorer: Scorer, prompts: Sequence[str]) -> None:
    """Fills the prompt cache in one text pass; a prompt that fails does so again, alone, in its own
    reduce.
    """
    try:
        if prompts:
            scorer.embed(prompts)
    except Exception:
        logger.exception("prompts failed together")


def _result(scorer: Scorer, piece: Piece, rows: np.ndarray) -> Score | np.ndarray | InferenceFailed:
    if not piece.completes:
        return rows
    try:
        return scorer.reduce(np.concatenate([*piece.before, rows]), piece.layout, piece.prompt)
    except Exception:
        logger.exception("reduce failed")
        return InferenceFailed()


def warm_up(scorer: Scorer) -> list[tuple[int, float]]:
    """Runs a few batches of noise; returns (rows, seconds), the very first one left out.

    Rows have the policy's own size, which whole images are measured in too.
    """
    size = scorer.planner.policy.size
    timings = []
    for rows in _WARM_UP:
        crops = np.random.default_rng(0).integers(0, 256, (rows, 3, size, size), np.uint8)
        start = time.perf_counter()
        scorer.forward(crops, range(rows), [0] * rows)
        timings.append((rows, time.perf_counter() - start))
    if "consistency" in scorer.config.heads:
        scorer.embed(["warm up"])
    return timings[1:]


if __name__ == "__main__":
    main()
