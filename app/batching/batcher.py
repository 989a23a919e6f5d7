"""Drives the scheduler: hands batches to the workers, takes results back, and gives each request
its one answer.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.batching.errors import DeadlineExceeded, Draining, Internal, ServiceError
from app.batching.fairness import Priority
from app.batching.jobs import Batch, Fault, Job, Stages, ignore_crashes
from app.batching.rate import Rates
from app.batching.scheduler import Scheduler

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What the device made of a batch: a result per slice, the seconds of the network, those of
    all that came after it for prompts of so many bytes, and for the metrics what else it knows.
    """

    results: Sequence[Any]
    seconds: float
    reduce_seconds: float = 0.0
    prompt_bytes: int = 0
    cached_prompts: int = 0
    new_prompts: int = 0
    gpu_bytes: int = 0
    device: str = ""


class DeviceError(Exception):
    """A batch that gave no results."""

    def __init__(self, fault: Fault, message: str = "") -> None:
        super().__init__(message or fault.value)
        self.fault = fault


def labels(*batches: Batch) -> list[str]:
    """What the log calls the jobs of these batches, each name once."""
    jobs = (piece.job for batch in batches for piece in batch.slices)
    return list(dict.fromkeys(job.label for job in jobs if job.label))


class Device(Protocol):
    """Where batches run: one worker."""

    async def run(self, batch: Batch) -> Outcome:
        """Computes a batch; a second call may come before the first has ended, and is run after it.

        Raises:
            DeviceError: no results; says why.
        """

    @property
    def up(self) -> bool:
        """Whether batches can be handed over."""


class Observer(Protocol):
    """Who counts batches (metrics)."""

    def batch_sent(self, batch: Batch) -> None:
        """A batch goes to a worker."""

    def batch_done(self, batch: Batch, outcome: Outcome) -> None:
        """A batch came back."""

    def batch_failed(self, batch: Batch, fault: Fault) -> None:
        """A batch gave no results."""


class Batcher:
    """The one owner of the scheduler, on the event loop."""

    def __init__(
        self,
        scheduler: Scheduler,
        devices: Sequence[Device],
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        """``devices``: as many as the scheduler has lanes."""
        self.scheduler = scheduler
        self.prompt_rates = Rates()  # of bytes
        self._devices = list(devices)
        self._observer = observer
        self._clock = clock
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(
        self,
        model: str,
        rows: int,
        deadline: float,
        payload: Any,
        *,
        shape: tuple[int, ...] = (),
        row_cost: int = 1,
        beside: float = 0.0,
        priority: Priority = Priority.INTERACTIVE,
        label: str = "",
        crashes: int = 0,
        on_crashes: Callable[[int], None] = ignore_crashes,
        stages: Stages | None = None,
    ) -> Any:
        """Queues an image and waits for its answer; being cancelled takes it out of the queue.

        Args:
            model: who computes it.
            rows: how many rows it has.
            deadline: when its answer is due.
            payload: what the device needs to know.
            shape: of its rows; only rows of equal shape share a batch.
            row_cost: what one row costs, in rows of the model's own size.
            beside: seconds that the device is expected to take for it beside the rows.
            priority: its class.
            label: what the log calls it.
            crashes: how often an earlier upload of the same image ended the worker.
            on_crashes: hears when that number changes, however the call itself ends.
            stages: gets the seconds of ``queue``, ``inference`` and ``reduce``.

        Raises:
            ServiceError: the answer is a failure.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answer(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        job = Job(model, rows, deadline, payload, answer, shape, row_cost, beside, priority, label)
        job.crashes = crashes
        job.on_crashes = on_crashes
        job.stages = Stages() if stages is None else stages
        self.scheduler.add(job, self._clock())
        self._wake.set()
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                result = await future
        except TimeoutError:
            self.scheduler.cancel(job)
            raise DeadlineExceeded from None
        except asyncio.CancelledError:
            self.scheduler.cancel(job)
            raise
        if isinstance(result, ServiceError):
            raise result
        return result

    def grow(self, device: Device) -> int:
        """One more worker, which is not up yet; its number."""
        self._devices.append(device)
        return self.scheduler.grow(Rates()).number

    def wake(self) -> None:
        """Something changed outside (the device came up): look again."""
        self._wake.set()

    async def run(self) -> None:
        """Hands over batches until cancelled."""
        while True:
            self._wake.clear()
            self._hand_over()
            at = self.scheduler.wake_at(self._clock())
            # Never in a tight loop: what can't be handed over now (no worker) is looked at again a
            # little later.
            pause = None if at is None else max(0.001, at - self._clock())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    async def drain(self, finished: Awaitable[object], seconds: float) -> None:
        """Lets what was admitted finish, until ``finished`` returns; after ``seconds`` the rest is
        answered with Draining.
        """
        self.scheduler.draining = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(finished, seconds)
        self.scheduler.fail_all(Draining())

    def _hand_over(self) -> None:
        self.scheduler.expire(self._clock())
        for lane, device in zip(self.scheduler.lanes, self._devices, strict=True):
            lane.up = device.up
        while batch := self.scheduler.next_batch(self._clock()):
            _note_queue(batch)
            self._observer.batch_sent(batch)
            task = asyncio.create_task(self._compute(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _compute(self, batch: Batch) -> None:
        try:
            outcome = await self._devices[batch.lane].run(batch)
            _note_computing(batch, outcome, self._clock())
            self.scheduler.finished(batch, list(outcome.results), outcome.seconds)
            if outcome.prompt_bytes:
                # Known prompts are among them: what is learned is the mean of those that come.
                rate = self.prompt_rates.of(batch.model)
                rate.observe(outcome.prompt_bytes, outcome.reduce_seconds)
            self._observer.batch_done(batch, outcome)
        except DeviceError as error:
            known = {"fault": error.fault.value, "error": str(error), "requests": labels(batch)}
            logger.warning("batch failed", extra=known)
            self._observer.batch_failed(batch, error.fault)
            self.scheduler.failed(batch, error.fault)
        except Exception:
            logger.exception("batch lost", extra={"requests": labels(batch)})
            self._observer.batch_failed(batch, Fault.INFERENCE)
            self.scheduler.lost(batch, Internal())
        finally:
            self._wake.set()


def _note_queue(batch: Batch) -> None:
    for piece in batch.slices:
        if piece.start == 0:
            stages, arrived = piece.job.stages, piece.job.arrived
            stages.pop("queue", None)  # of a batch that failed
            stages.note("queue", arrived, max(0.0, batch.sent - arrived))


def _note_computing(batch: Batch, outcome: Outcome, now: float) -> None:
    """A job that is split over batches was computed in all of them. It began when the batch before
    it had ended, and not when it was handed over.
    """
    reduced = now - outcome.reduce_seconds
    for piece in batch.slices:
        stages, device = piece.job.stages, outcome.device
        stages.device = device
        rows = {"rows": piece.rows, "batch_rows": batch.rows}
        stages.note("inference", reduced - outcome.seconds, outcome.seconds, device=device, **rows)
        stages.note("reduce", reduced, outcome.reduce_seconds, device=device)
