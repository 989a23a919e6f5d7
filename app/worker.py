"""The process on the device: the one place of the service that imports torch.

Started by ``app.device.supervisor`` as ``python -m app.worker``, with two inherited descriptors: a
pipe and the shared memory. It computes batches in the order in which they come, one at a time (on a
GPU, the crops of the next one are copied there meanwhile), and ends when the pipe closes, when its
parent ends, or when its device is of no use any more.
"""

import argparse
import contextlib
import logging
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from app.batching.batcher import Outcome
from app.batching.errors import InferenceFailed, WorkerDown
from app.batching.jobs import Fault
from app.batching.lending import LEAST_GAIN, Lending
from app.device import arena
from app.device.ahead import ahead, meanwhile
from app.device.launch import receive_descriptors
from app.device.lifeline import Heartbeat, die_with
from app.device.loaded import by_name, described
from app.device.messages import (
    DEVICE_LOST,
    BatchFailed,
    Done,
    Piece,
    Ready,
    Reload,
    Reloaded,
    ReloadRefused,
    Run,
    Sharing,
    StartFailed,
    WorkerSettings,
)
from app.device.prompts import compared, in_steps, most_sequences, prompt_bytes, refusals
from app.logs import configure, dump_stacks_on_faults
from model.core_share import MOST_WORKERS, measuring
from model.decoding.slots import crops_of
from model.device_errors import device_works, is_device_error, is_out_of_memory, is_sticky
from model.errors import CheckpointError, ModelError
from model.preprocess.crops import gather
from model.resources import Tidying, give_back_memory
from model.scorer import Scorer, limit_threads
from model.scores import Score
from model.staging import Staged, Staging, staging_for
from model.warm_up import compute_noise, time_of_a_prompt, warm_up

logger = logging.getLogger(__name__)

# So many batches in a row without a single result, and the worker tries itself out.
_SUSPICIOUS = 8

# What ``Scorer.forward`` takes, and what makes its crops of those of several images.
_Gathered = tuple[np.ndarray | Staged, list[int], list[int]]
_Join = Callable[[list[np.ndarray]], np.ndarray | Staged]


class DeviceLost(Exception):
    """The device, or what this process holds of it, is of no use; only a new process helps."""


def main() -> None:
    """Runs the worker until its pipe closes."""
    parser = argparse.ArgumentParser()
    for name in ("pipe", "arena", "early", "template"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    die_with(arguments.parent)
    dump_stacks_on_faults()
    # Ctrl-C goes to the whole group; the service tells us when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if arguments.early is not None:
        descriptors = receive_descriptors(arguments.early, arguments.template)
        arguments.pipe, arguments.arena = descriptors
    pipe: Connection[Any, Any] = Connection(arguments.pipe)
    settings: WorkerSettings = pipe.recv()
    configure(settings.log_level, settings.log_format)
    heartbeat = Heartbeat(pipe)
    heartbeat.start()
    with arena.attach(arguments.arena, settings.arena_bytes) as segment:
        try:
            worker = Worker(settings, segment, step=heartbeat.step)
            heartbeat.send(worker.ready())
        except Exception as error:
            if not isinstance(error, ModelError):  # those say it all in a sentence
                logger.exception("the worker can't start")
            heartbeat.send(start_failure(error))
            return
        try:
            serve(worker, pipe, heartbeat)
        except DeviceLost as error:
            logger.critical("the device is of no use any more: %s", error)
            os._exit(DEVICE_LOST)  # an orderly end would call the device once more


def start_failure(error: Exception) -> StartFailed:
    """What the operator reads: the error and its notes, which say what model it was about."""
    notes = (f" ({note})" for note in getattr(error, "__notes__", ()))
    return StartFailed("".join([str(error) or type(error).__name__, *notes]))


def serve(worker: "Worker", pipe: "Connection[Any, Any]", heartbeat: Heartbeat) -> None:
    """Answers every batch until the other side closes; models are loaded again beside that.

    Raises:
        DeviceLost: as ``Worker.answer``.
    """
    receive = ahead(pipe.recv, worker.stage) if worker.stages else pipe.recv
    tidying, measuring = Tidying(), worker.measuring(heartbeat.send)
    with contextlib.suppress(EOFError, ConnectionError):  # it has closed, or died
        while isinstance(message := meanwhile(measuring, pipe.poll, receive), Run | Reload):
            if isinstance(message, Reload):
                arguments = (message, heartbeat.send)
                threading.Thread(target=worker.reload, args=arguments, daemon=True).start()
                continue
            with heartbeat.computing(message.number):
                answer = worker.answer(message)
            heartbeat.send(answer)
            tidying.look()


class Worker:
    """The loaded scorers and the shared memory."""

    def __init__(
        self,
        settings: WorkerSettings,
        segment: mmap.mmap,
        *,
        step: Callable[[float], None] = lambda _: None,
        load: Callable[..., list[Scorer]] = Scorer.load_several,
        staging: Callable[[torch.device], Staging | None] = staging_for,
    ) -> None:
        """Loads every model.

        Args:
            settings: of the worker.
            segment: where the crops lie.
            step: hears of each part of a batch that begins, with the seconds that it should take.
            load: loads the scorers; tests hand in others.
            staging: makes what copies crops to the device ahead; None: nothing does.

        Raises:
            ModelError, ValueError: one can't be loaded, or two have the same name.
        """
        limit_threads(settings.threads)
        self._most_workers = settings.most_workers
        if settings.device.startswith("cuda:"):
            # What names no device means this one: no worker holds memory on the first GPU for it.
            torch.cuda.set_device(settings.device)
        self._segment = segment
        self._step = step
        self._load = partial(
            load,
            device=settings.device,
            dtype=settings.dtype,
            max_prompt_tokens=settings.max_prompt_tokens,
        )
        found = by_name(settings.models, self._load(settings.models))
        self._sources = dict(zip(found, settings.models, strict=True))
        # By the models' keys; of each name the latest and the one that serves, or served before.
        self._scorers = {described(scorer).key: scorer for scorer in found.values()}
        self._staging = staging(next(iter(found.values())).device)
        self._staged: dict[int, _Gathered] = {}  # by the number of the batch
        self._prompt_seconds: dict[str, float] = {}  # of one sequence of tokens, by key
        self._fruitless = 0  # batches in a row
        self._longest = 0.0  # seconds of a warm-up's batch

    def ready(self) -> Ready:
        """Warms up and tells what is loaded.

        Raises:
            CheckpointError: a model's output is no number.
        """
        scorers = list(self._scorers.values())
        models = tuple(map(described, scorers))
        timings = {s.config.name: self._warm_up(s) for s in scorers}
        self._longest = max(seconds for each in timings.values() for _, seconds in each)
        give_back_memory()
        return Ready(models, timings, dict(self._prompt_seconds), self._measures(scorers[0]))

    def measuring(self, send: Callable[[object], None]) -> Iterator[None]:
        """Measures how workers should share the CPU, where there may be several, part by part, and
        sends what came of it.
        """
        scorer = next(iter(self._scorers.values()))
        if not self._measures(scorer):
            return
        begins = partial(self._step, (1 + min(self._most_workers, MOST_WORKERS)) * self._longest)
        try:
            times = yield from measuring(scorer, self._most_workers, LEAST_GAIN, begins)
            lending = Lending.chosen(*times)
        except Exception:  # a worker that serves is better than none
            logger.exception("how to share the CPU can't be measured: one worker has all of it")
            lending = Lending(torch.get_num_threads(), workers=1, speedup=1.0, gain=1.0)
        give_back_memory()
        send(Sharing(lending))

    def _measures(self, scorer: Scorer) -> bool:
        return self._most_workers > 1 and scorer.device.type == "cpu"

    def reload(self, message: Reload, send: Callable[[object], None]) -> None:
        """Loads a model again, tests it, warms it up, and sends what came of it; for a thread."""
        try:
            (scorer,) = self._load([self._sources[message.model]])
            if scorer.config.name != message.model:
                raise CheckpointError(f"its config.json names it {scorer.config.name!r} now")
            timings = self._warm_up(scorer)
        except Exception as error:
            logger.warning("%s could not be loaded again", message.model, exc_info=error)
            send(ReloadRefused(message.number, start_failure(error).message))
            return
        model = described(scorer)
        # An earlier attempt may have failed in another worker, and left here what nobody serves.
        kept = {
            key: other
            for key, other in self._scorers.items()
            if other.config.name != message.model or key == message.serves
        }
        self._scorers = kept | {model.key: scorer}
        give_back_memory()
        send(Reloaded(message.number, model, timings))

    def _warm_up(self, scorer: Scorer) -> list[tuple[int, float]]:
        try:
            timings = warm_up(scorer)
            if "consistency" in scorer.config.heads:
                self._prompt_seconds[described(scorer).key] = time_of_a_prompt(scorer)
            return timings
        except Exception as error:
            error.add_note(f"while warming up {scorer.config.name}")
            raise

    @property
    def stages(self) -> bool:
        """Whether ``stage`` does anything."""
        return self._staging is not None

    def stage(self, message: object) -> None:
        """Copies the crops of a batch to the device before its turn; for a thread. One that fails
        is gathered in its turn, where a failure can be answered.
        """
        if self._staging is None or not isinstance(message, Run):
            return
        try:
            self._staged[message.number] = self._gather(message.pieces, self._staging.join)
        except Exception:
            logger.warning("a batch could not be staged", exc_info=True)

    def answer(self, run: Run) -> Done | BatchFailed:
        """Computes a batch; a failure is an answer too.

        Raises:
            DeviceLost: no other batch would give results either.
        """
        if run.model not in self._scorers:  # planned for files that changed before a restart
            self._staged.pop(run.number, None)
            return Done(run.number, Outcome([WorkerDown()] * len(run.pieces), seconds=0.0))
        try:
            done = self.compute(run)
        except Exception as error:
            fault = Fault.OUT_OF_MEMORY if is_out_of_memory(error) else Fault.INFERENCE
            if fault is Fault.INFERENCE:
                logger.exception("batch failed")
            message = f"{type(error).__name__}: {error}"
            doubtful, lost = is_device_error(error), is_sticky(error)
        else:
            self._count(
                run, fruitful=any(not isinstance(r, InferenceFailed) for r in done.outcome.results)
            )
            return done
        # Outside of the handler, so that the error no longer holds on to the memory of the batch.
        device = self._scorers[run.model].device
        if lost or (doubtful and not device_works(device)):
            raise DeviceLost(message)
        if fault is Fault.OUT_OF_MEMORY and device.type == "cuda":
            torch.cuda.empty_cache()
        self._count(run, fruitful=False)
        return BatchFailed(run.number, fault, message)

    def _count(self, run: Run, *, fruitful: bool) -> None:
        """After many batches in a row without a result, finds out whose fault it is.

        Raises:
            DeviceLost: noise, which the model could compute at the start, fails as well.
        """
        self._fruitless = 0 if fruitful else self._fruitless + 1
        if self._fruitless < _SUSPICIOUS:
            return
        try:
            compute_noise(self._scorers[run.model], 1)
        except Exception as error:
            raise DeviceLost(f"{self._fruitless} batches failed, then noise: {error}") from error
        self._fruitless = 0

    def compute(self, run: Run) -> Done:
        """One call of the network for all pieces, then each piece's result."""
        scorer = self._scorers[run.model]
        if run.threads:
            torch.set_num_threads(run.threads)
        start = time.perf_counter()
        rows = scorer.forward(*(self._staged.pop(run.number, None) or self._gather(run.pieces)))
        computed = time.perf_counter()
        refused = refusals(scorer.check_prompt, run.pieces)
        good = [piece for place, piece in enumerate(run.pieces) if place not in refused]
        done = [compared(piece.prompt, piece.layout) for piece in good if piece.completes]
        prompts = [prompt for prompt in done if prompt]
        cached = sum(map(scorer.knows, prompts))
        self._embed_all(run.model, prompts)
        parts = np.split(rows, np.cumsum([p.stop - p.start for p in run.pieces])[:-1])
        results = tuple(
            refused.get(place) or _result(scorer, piece, part)
            for place, (piece, part) in enumerate(zip(run.pieces, parts, strict=True))
        )
        reduced = time.perf_counter()
        gpu = torch.cuda.memory_allocated(scorer.device) if scorer.device.type == "cuda" else 0
        outcome = Outcome(
            results,
            seconds=computed - start,
            reduce_seconds=reduced - computed,
            prompt_bytes=sum(map(prompt_bytes, prompts)),
            cached_prompts=cached,
            new_prompts=len(prompts) - cached,
            gpu_bytes=gpu,
            device=str(scorer.device),
        )
        return Done(run.number, outcome)

    def _embed_all(self, model: str, prompts: Sequence[str]) -> None:
        """Fills the prompt cache in few text passes; a prompt that fails does so again, alone, in
        its own reduce.
        """
        for part in in_steps(prompts):
            self._step(most_sequences(part) * self._prompt_seconds.get(model, 0.0))
            try:
                self._scorers[model].embed(part)
            except Exception as error:
                if is_device_error(error):
                    raise
                logger.exception("prompts failed together")

    def _gather(self, pieces: Sequence[Piece], join: _Join = np.concatenate) -> _Gathered:
        parts = (
            (
                piece.layout,
                crops_of(
                    self._segment, piece.slot.offset, piece.slot.stamp, piece.layout.array_shape
                ),
                slice(piece.start, piece.stop),
            )
            for piece in pieces
        )
        return gather(parts, join)


def _result(scorer: Scorer, piece: Piece, rows: np.ndarray) -> Score | np.ndarray | InferenceFailed:
    if not np.isfinite(rows).all():
        logger.error("rows that are no numbers")
        return InferenceFailed()
    if not piece.completes:
        return rows
    try:
        score = scorer.reduce(np.concatenate([*piece.before, rows]), piece.layout, piece.prompt)
    except Exception as error:
        if is_device_error(error) or is_out_of_memory(error):
            raise
        logger.exception("reduce failed")
        return InferenceFailed()
    if not score.is_finite:
        logger.error("a score that is no number")
        return InferenceFailed()
    return score


if __name__ == "__main__":
    main()
