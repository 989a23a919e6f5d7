"""The API process's side of the worker: starts it, talks to it, and starts it again when it dies.

Implements ``app.batching.batcher.Device``. Imports no torch.
"""

import asyncio
import contextlib
import dataclasses
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from app.batching.batcher import DeviceError, Outcome
from app.batching.jobs import Batch, Fault, Slice
from app.device.arena import Arena
from app.device.messages import (
    BatchFailed,
    Done,
    Piece,
    Ready,
    Run,
    StartFailed,
    WorkerSettings,
)

logger = logging.getLogger(__name__)

# Hears of a worker that came up (its Ready) or went down (None), and why.
OnChange = Callable[[Ready | None, str], None]

_BACK_OFF = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# A worker that was up so long is taken to have been well: its death starts the back-off anew.
_WELL_AFTER = 60.0
# A batch that takes longer is taken for a hang; batches are sized to take a quarter of a second.
_HANG_SECONDS = 60.0


class StartError(Exception):
    """The worker can't load its models; starting it again would not help."""


class WorkerDevice:
    """One worker process and the batches that are at it."""

    def __init__(self, settings: WorkerSettings, arena: Arena) -> None:
        self._settings = settings
        self._arena = arena
        self._on_change: OnChange  # from ``start`` on
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._numbers = iter(range(1 << 62))
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None
        self.up = False

    async def start(self, on_change: OnChange) -> None:
        """Starts the worker and keeps one running until ``stop``; returns when the first one is
        ready.

        Raises:
            StartError: it can't load its models.
        """
        self._on_change = on_change
        ended = await self._launch()
        self._keeper = asyncio.create_task(self._keep(ended))

    async def run(self, batch: Batch) -> Outcome:
        """Sends a batch and waits for its results.

        Raises:
            DeviceError: the batch failed, or the worker died under it.
        """
        if not self.up or self._pipe is None:
            raise DeviceError(Fault.NOT_RUN, "no worker is up")
        number = next(self._numbers)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        pieces = tuple(_piece(s) for s in batch.slices)
        try:
            self._pipe.send(Run(number, batch.model, pieces))
            async with asyncio.timeout(_HANG_SECONDS):
                return await future
        except OSError as error:
            if isinstance(error, TimeoutError):
                logger.error("the worker hangs; it is killed")
                self._kill()
            raise DeviceError(Fault.WORKER_DIED, "the worker died") from error
        finally:
            self._waiting.pop(number, None)

    async def stop(self) -> None:
        """Ends the worker; it finishes the batch that it is at."""
        self._stopping = True
        self.up = False
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._pipe:
            with contextlib.suppress(OSError):
                # Closing would not do: the listener's read keeps the socket open.
                self._pipe.send(None)
        if self._process:
            try:
                await asyncio.to_thread(self._process.wait, 5)
            except subprocess.TimeoutExpired:
                self._kill()
                await asyncio.to_thread(self._process.wait)

    async def _launch(self) -> asyncio.Event:
        """Starts a process and waits until it is ready; the event is set when it has ended."""
        ours, theirs = socket.socketpair()
        command = [
            sys.executable,
            "-P",  # our own app package, whatever the working directory holds
            "-m",
            "app.worker",
            "--pipe",
            str(theirs.fileno()),
            "--arena",
            str(self._arena.fd),
        ]
        self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(), self._arena.fd))  # noqa: ASYNC220
        theirs.close()
        self._pipe = Connection(ours.detach())
        self._pipe.send(self._settings)
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[Ready] = loop.create_future()
        ended = asyncio.Event()
        listener = threading.Thread(
            target=self._listen, args=(self._pipe, loop, ready, ended), daemon=True
        )
        listener.start()
        answer = await ready
        self.up = True
        self._on_change(answer, "started")
        return ended

    def _listen(
        self,
        pipe: "Connection[Any, Any]",
        loop: asyncio.AbstractEventLoop,
        ready: "asyncio.Future[Ready]",
        ended: asyncio.Event,
    ) -> None:
        """A thread per worker: brings its messages to the event loop until the pipe ends."""
        try:
            while True:
                message = pipe.recv()
                loop.call_soon_threadsafe(self._receive, message, ready)
        except (EOFError, OSError):
            with contextlib.suppress(RuntimeError):  # the loop may be closed already
                loop.call_soon_threadsafe(self._ended, ready, ended)

    def _receive(self, message: object, ready: "asyncio.Future[Ready]") -> None:
        match message:
            case Ready():
                ready.set_result(message)
            case StartFailed():
                ready.set_exception(StartError(message.message))
            case Done():
                self._resolve(message.number, message.outcome)
            case BatchFailed():
                self._resolve(message.number, DeviceError(message.fault, message.message))

    def _resolve(self, number: int, result: Outcome | DeviceError) -> None:
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if isinstance(result, DeviceError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def _ended(self, ready: "asyncio.Future[Ready]", ended: asyncio.Event) -> None:
        self.up = False
        if not ready.done():
            ready.set_exception(
                DeviceError(Fault.WORKER_DIED, "the worker ended before it was ready")
            )
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(DeviceError(Fault.WORKER_DIED, "the worker died"))
        if not self._stopping:
            self._on_change(None, "died")
        ended.set()

    async def _keep(self, ended: asyncio.Event) -> None:
        """Restarts the worker with growing pauses whenever it ends."""
        attempt = 0
        while True:
            started = time.monotonic()
            await ended.wait()
            if time.monotonic() - started > _WELL_AFTER:
                attempt = 0
            while True:
                pause = _BACK_OFF[min(attempt, len(_BACK_OFF) - 1)]
                logger.warning("the worker ended; restarting", extra={"pause_seconds": pause})
                await asyncio.sleep(pause)
                attempt += 1
                self._bury()
                try:
                    ended = await self._launch()
                    break
                except (DeviceError, StartError, OSError):
                    logger.exception("the worker could not be restarted")

    def _bury(self) -> None:
        if self._pipe:
            self._pipe.close()
        if self._process:
            self._kill()
            self._process.wait()

    def _kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()


def _piece(slice_: Slice) -> Piece:
    """The worker's view of a slice; the payload of the service's jobs is a Piece of the whole
    image.
    """
    whole: Piece = slice_.job.payload
    before = tuple(slice_.job.partial) if slice_.completes else ()
    return dataclasses.replace(
        whole, start=slice_.start, stop=slice_.stop, completes=slice_.completes, before=before
    )
