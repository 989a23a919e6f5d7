"""The API process's side of the worker: starts it, talks to it, watches it, and starts it again
when it dies or hangs.

Implements ``app.batching.batcher.Device``. Imports no torch.
"""

import asyncio
import dataclasses
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from app.batching.batcher import DeviceError, Outcome, labels
from app.batching.errors import ReloadFailed
from app.batching.jobs import Batch, Fault
from app.device.arena import Arena
from app.device.launch import COMMAND, VARIABLES, EarlyWorker
from app.device.messages import (
    BatchFailed,
    Beat,
    Done,
    Ready,
    Reload,
    Reloaded,
    ReloadRefused,
    RestartReason,
    Run,
    Sharing,
    StartFailed,
    WorkerSettings,
)
from app.device.process import ChildProcess, exit_reason, exit_text, signal_name
from app.device.starvation import Starvation
from app.device.watch import Health, Watch, load_limit

logger = logging.getLogger(__name__)

# Hears of a worker that can be used (its Ready: it has started, has measured how to share the CPU,
# or recovered) or can not (None: it has ended, for a reason, or is unresponsive, which is no
# restart).
Change = Literal["started", "measured", "recovered", "unresponsive"] | RestartReason
OnChange = Callable[[Ready | None, Change], None]

# Seconds before a restart, by how many workers in a row ended before they had computed anything.
_BACK_OFF = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# A worker that was up so long counts as having been well, though nothing came to compute.
_WELL_AFTER = 60.0
# How often a first worker that ends without a word is tried again.
_FIRST_TRIES = 3
_TICK = 0.25
# Seconds from SIGUSR1, which has a hanging worker write its stacks, to SIGKILL.
_DUMP_SECONDS = 0.1
# Seconds until a killed worker is left behind: in an uninterruptible call of a driver it can't die.
_DEATH_SECONDS = 3.0
# Seconds for the batch that the worker is at when the service ends.
_LAST_BATCH_SECONDS = 3.0
_FORKED_ON = {"cpu", "auto"}


class StartError(Exception):
    """The worker can't load its models; starting it again would not help."""


class WorkerRefused(Exception):
    """A worker came up that is not to be used; says why. It is ended, and started again later."""


@dataclass(eq=False)
class _Life:
    """One worker process, from its start to its end."""

    process: ChildProcess
    watch: Watch
    started: float
    ready: Ready | None = None
    ready_at: float = 0.0
    error: str = ""  # of its StartFailed, or why it is not used
    batches: int = 0  # that gave results

    def was_well(self, now: float) -> bool:
        return self.batches > 0 or (self.ready is not None and now - self.ready_at > _WELL_AFTER)


class WorkerDevice:
    """One worker process at a time, and the batches that are at it."""

    def __init__(
        self,
        settings: WorkerSettings,
        arena: Arena,
        command: Sequence[str] = COMMAND,
        early: EarlyWorker | None = None,
    ) -> None:
        """``command`` starts the worker; descriptors are added to it. ``early``: the first one,
        unless another device has it.
        """
        self._settings = settings
        self._arena = arena
        self._command = command
        self._early = early
        self._on_change: OnChange  # from ``start`` on
        self._life: _Life | None = None
        self._waiting: dict[int, tuple[Batch, asyncio.Future[Outcome]]] = {}
        self._numbers = iter(range(1 << 62))
        self._reload: tuple[int, asyncio.Future[Reloaded]] | None = None
        self._stopping = False
        self._load_seconds: float | None = None  # of the latest load
        self._slow_loads = 0  # in a row
        self._responsive = True
        self.up = False

    async def start(self, on_change: OnChange) -> None:
        """Keeps a worker running until ``stop``.

        Raises:
            StartError: the first one can't load its models.
        """
        self._on_change = on_change
        failures = 0
        while not self._stopping:
            life = await self._live()
            if self._stopping:
                return
            if life and life.was_well(time.monotonic()):
                failures = 0
            pause = _BACK_OFF[min(failures, len(_BACK_OFF) - 1)]
            failures += 1
            if self._load_seconds is None:
                _check_start(life, failures)
            logger.warning("the worker is restarted", extra={"pause_seconds": pause})
            await asyncio.sleep(pause)

    async def run(self, batch: Batch) -> Outcome:
        """Sends a batch and waits for its results.

        Raises:
            DeviceError: the batch failed, or the worker ended or hung under it.
        """
        life = self._life
        if not self.up or life is None:
            raise DeviceError(Fault.NOT_RUN, "no worker is up")
        number = next(self._numbers)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if not life.process.send(Run.of(number, batch)):
            raise DeviceError(Fault.NOT_RUN, "the worker reads nothing")
        self._waiting[number] = batch, future
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def reload(self, model: str, serves: str) -> Reloaded:
        """Has a model loaded again, beside the one that serves, whose key is given.

        Raises:
            ReloadFailed: it can't be used, and nothing changes.
        """
        life = self._life
        if not self.up or life is None:
            raise ReloadFailed("No worker is up; try again when the service is ready.")
        if self._reload is not None:
            raise ReloadFailed("A model is being loaded again already; try again after that.")
        number = next(self._numbers)
        future: asyncio.Future[Reloaded] = asyncio.get_running_loop().create_future()
        self._reload = number, future
        try:
            life.process.send(Reload(number, model, serves))
            async with asyncio.timeout(self._settings.load_seconds):
                return await future
        except TimeoutError:
            seconds = self._settings.load_seconds
            raise ReloadFailed(f"{model} was not loaded within {seconds:g} s.") from None
        finally:
            self._reload = None

    async def stop(self) -> None:
        """Ends the worker; it finishes the batch that it is at."""
        self._stopping = True
        self.up = False
        if self._life is None:
            return
        process = self._life.process
        # While it loads, it reads nothing.
        if self._life.ready is None or not process.send(None):
            process.signal(signal.SIGKILL)
        if not await process.ends_within(_LAST_BATCH_SECONDS):
            await self._bury(process)

    # One life

    async def _live(self) -> _Life | None:
        """Starts a worker and stays with it until it has ended; None if none could be started."""
        forks = await self._can_fork()
        if self._stopping:
            return None
        try:
            first = self._settings.load_seconds
            limit = load_limit(first, self._load_seconds, self._slow_loads)
            shared, early = (self._arena.fd,), self._early
            variables = early.variables if early else VARIABLES
            process = ChildProcess(
                self._command_line(), self._receive, shared, variables, early, forks=forks
            )
            self._life = life = _Life(process, Watch(limit), process.started)
            process.send(self._settings)
        except Exception:  # no process, thread or descriptor to be had
            logger.exception("the worker could not be started")
            self._go_down("start_failed")
            return None
        try:
            await self._watch(life)
        except Exception:  # the service must not stay without a worker, whatever is wrong here
            logger.exception("the worker could not be watched")
        await self._end(life)
        return life

    async def _can_fork(self) -> bool:
        """Whether the worker may be a fork: not on a GPU, whose driver no process inherits."""
        if self._early is None or not self._early.is_taken:
            return False
        ready = None if self._settings.device in _FORKED_ON else False
        end = time.monotonic() + self._settings.load_seconds
        while ready is None and not self._stopping and time.monotonic() < end:
            if (ready := self._early.template.look()) is None:
                await asyncio.sleep(_TICK)
        return bool(ready)

    def _command_line(self) -> list[str]:
        return [*self._command, "--arena", str(self._arena.fd)]

    async def _watch(self, life: _Life) -> None:
        """Returns when the worker has ended or hangs."""
        starvation = Starvation(life.process.pid)
        last = time.monotonic()
        while not await life.process.ends_within(_TICK):
            now = time.monotonic()
            starved = starvation.seconds(life.watch.in_doubt)
            health = life.watch.tick(now - last, self._expected_seconds(), starved)
            last = now
            if health is Health.HANGS:
                return
            if life.ready is not None and (health is Health.WELL) is not self._responsive:
                self._show(life.ready, responsive=health is Health.WELL)

    def _expected_seconds(self) -> float | None:
        """Of the batch that the worker is at."""
        first = next(iter(self._waiting.values()), None)
        return first[0].expected if first else None

    def _show(self, ready: Ready, *, responsive: bool) -> None:
        self._responsive = responsive
        if not self._stopping:
            logger.warning("the worker has %s", "recovered" if responsive else "become silent")
            if responsive:
                self._on_change(ready, "recovered")
            else:
                self._on_change(None, "unresponsive")

    async def _end(self, life: _Life) -> None:
        """After a worker has ended or hangs: nothing waits for it, and no trace is left of it."""
        process = life.process
        requests = labels(*(batch for batch, _ in self._waiting.values()))
        hangs = not process.ended.is_set()
        reason = _reason(life, hangs=hangs)
        if hangs and life.ready is None:
            self._slow_loads += 1
        self._life = None
        self._go_down(reason)
        if hangs:
            logger.error("the worker hangs (%s); it is killed", life.watch.why)
            process.signal(signal.SIGUSR1)
            await process.ends_within(_DUMP_SECONDS)
        await self._bury(process)
        code = process.exit_code
        logger.log(
            logging.INFO if self._stopping else logging.ERROR,
            "the worker ended (%s)",
            exit_text(code),
            extra={
                "reason": reason,
                "exit_code": code,
                "signal": signal_name(code),
                "requests": requests,
            },
        )

    async def _bury(self, process: ChildProcess) -> None:
        """Kills it where it lives, and lets go of it even where it does not die."""
        process.signal(signal.SIGKILL)
        if not await process.ends_within(_DEATH_SECONDS):
            logger.error("the worker can't be killed; it is left", extra={"pid": process.pid})
        process.hang_up()

    def _go_down(self, reason: RestartReason) -> None:
        self.up = False
        self._responsive = True
        if self._reload:
            why = f"The worker ended while it loaded the model ({reason})."
            self._settle_reload(ReloadRefused(self._reload[0], why))
        for i, (_, future) in enumerate(self._waiting.values()):
            if not future.done():
                # Batches are computed in turn: only the first one was begun.
                fault = Fault.NOT_RUN if i else Fault.WORKER_DIED
                future.set_exception(DeviceError(fault, f"the worker ended: {reason}"))
        if not self._stopping:
            self._on_change(None, reason)

    # What it sends

    def _receive(self, process: ChildProcess, message: object) -> None:
        life = self._life
        if life is None or life.process is not process:
            return  # of a worker that was given up
        life.watch.heard()
        match message:
            case Beat():
                if message.step:
                    life.watch.step((message.batch, message.step), message.expected)
            case Ready():
                self._come_up(life, message)
            case Sharing():
                self._learn_sharing(life, message)
            case StartFailed():
                life.error = message.message
            case Done():
                life.batches += 1
                self._resolve(life, message.number, message.outcome)
            case BatchFailed():
                error = DeviceError(message.fault, message.message)
                self._resolve(life, message.number, error)
            case Reloaded() | ReloadRefused():
                self._settle_reload(message)
            case _:
                raise TypeError(f"a message of type {type(message).__name__}")

    def _settle_reload(self, result: Reloaded | ReloadRefused) -> None:
        if self._reload is None or self._reload[0] != result.number or self._reload[1].done():
            return  # nobody waits any more: what serves stays
        if isinstance(result, ReloadRefused):
            self._reload[1].set_exception(ReloadFailed(result.message))
        else:
            self._reload[1].set_result(result)

    def _come_up(self, life: _Life, ready: Ready) -> None:
        life.ready = ready
        life.ready_at = time.monotonic()
        life.watch.loaded()
        self._load_seconds = life.ready_at - life.started
        self._slow_loads = 0
        self.up = not self._stopping
        if self.up:
            try:
                self._on_change(ready, "started")
            except WorkerRefused as error:
                logger.error("the worker is not used: %s", error)
                self.up = False
                life.ready, life.error = None, str(error)
                life.process.signal(signal.SIGKILL)

    def _learn_sharing(self, life: _Life, message: Sharing) -> None:
        # Once is enough: one that comes after it would measure beside others that compute.
        self._settings = dataclasses.replace(self._settings, most_workers=1)
        if life.ready and self.up:
            life.ready = dataclasses.replace(life.ready, lending=message.lending)
            self._on_change(life.ready, "measured")

    def _resolve(self, life: _Life, number: int, result: Outcome | DeviceError) -> None:
        life.watch.progress()
        _, future = self._waiting.pop(number, (None, None))
        if future is None or future.done():
            return
        if isinstance(result, DeviceError):
            future.set_exception(result)
        else:
            future.set_result(result)


def _check_start(life: _Life | None, tries: int) -> None:
    """Raises StartError when a service that was never ready should give up."""
    if life and life.error:
        raise StartError(life.error)
    if tries >= _FIRST_TRIES:
        raise StartError(f"the worker ended {tries} times before it was ready; the log says how")


def _reason(life: _Life, *, hangs: bool) -> RestartReason:
    if life.error:
        return "start_failed"
    if hangs or life.process.killed:
        return "hang"
    reason = exit_reason(life.process.exit_code)
    return "start_failed" if reason == "exit" and life.ready is None else reason
