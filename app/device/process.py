"""One life of a child process: started, spoken to over a socket, and buried. Never blocks the event
loop: it is written to and read from by threads, and one of these waits for its end.
"""

import asyncio
import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any

from app.device.launch import EarlyWorker
from app.device.messages import DEVICE_LOST, RestartReason
from app.device.template import Forked

logger = logging.getLogger(__name__)

# Messages that may wait to be written; the scheduler hands over two batches at most.
_OUTBOX = 8
# Seconds that a process may live on after it closed its socket.
_LAST_BREATH = 1.0
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}


class ChildProcess:
    """A process with ``--pipe``, ``--parent`` and inherited descriptors; use on the event loop."""

    def __init__(
        self,
        command: Sequence[str],
        on_message: Callable[["ChildProcess", Any], None],
        descriptors: Sequence[int] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
        early: EarlyWorker | None = None,
        *,
        forks: bool = False,
    ) -> None:
        """Starts it, with ``variables`` where its environment does not set them, or takes the
        ``early`` one, if that is still to be had, or has one forked from that one's template, if it
        ``forks``. ``on_message`` is called on the loop; an exception of it ends the process.

        Raises:
            OSError, RuntimeError: no process, thread or descriptor can be had.
        """
        self.exit_code: int | None = None
        self.killed = False  # by us
        self.ended = asyncio.Event()
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._outbox: queue.Queue[object] = queue.Queue(_OUTBOX)
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._forks = forks
        self.started = time.monotonic()
        self._socket, theirs = socket.socketpair()
        try:
            self._start(theirs, [*command], descriptors, {**variables, **os.environ}, early)
        except BaseException:
            self.hang_up()
            raise

    def _start(
        self,
        theirs: socket.socket,
        command: list[str],
        descriptors: Sequence[int],
        environment: Mapping[str, str],
        early: EarlyWorker | None,
    ) -> None:
        with theirs:
            # Threads first: a process that can't be watched should not be there.
            threading.Thread(target=self._read, args=(self._end(),), daemon=True).start()
            threading.Thread(target=self._write, args=(self._end(),), daemon=True).start()
            if early and (process := early.take((theirs.fileno(), *descriptors))):
                self._process, self.started = process, early.started
                return
            if early and self._forks:
                self._process = early.template.fork((theirs.fileno(), *descriptors))
                if self._process:
                    return
            # On this thread, since the kernel takes the thread for the parent, not the process.
            self._process = subprocess.Popen(
                [*command, "--pipe", str(theirs.fileno()), "--parent", str(os.getpid())],
                pass_fds=(theirs.fileno(), *descriptors),
                env=environment,
            )

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def send(self, message: object) -> bool:
        """Has a message written, None to ask the process to end; False if it reads nothing."""
        try:
            self._outbox.put_nowait(message)
        except queue.Full:
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens where the process has ended."""
        if self._process and self.exit_code is None:
            self.killed |= number == signal.SIGKILL
            with contextlib.suppress(OSError):
                self._process.send_signal(number)

    async def ends_within(self, seconds: float) -> bool:
        """Waits for its end, so long at most; says whether it has ended."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)
        return self.ended.is_set()

    def hang_up(self) -> None:
        """Closes the socket, and so ends the threads; what the process still sends is lost."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.send(None)  # the writer may wait for something to write

    def _end(self) -> "Connection[Any, Any]":
        """An end of its own for a thread, which closes it."""
        return Connection(os.dup(self._socket.fileno()))

    def _read(self, pipe: "Connection[Any, Any]") -> None:
        with pipe:
            try:
                while True:
                    self._post(self._take, pipe.recv())
            except (EOFError, ConnectionError):
                pass
            except Exception:  # whatever unpickling garbage raises
                logger.exception("what the process sends can't be read")
                self._post(self.signal, signal.SIGKILL)
        self.send(None)
        exit_code = self._wait()
        self._socket.close()  # the loop may be closed by now, and nobody hang up
        self._post(self._bury, exit_code)

    def _write(self, pipe: "Connection[Any, Any]") -> None:
        with pipe:
            try:
                while (message := self._outbox.get()) is not None:
                    pipe.send(message)
                pipe.send(None)
            except ConnectionError:
                pass  # the reader sees it, too
            except Exception:
                logger.exception("a message can't be sent")
                self._post(self.signal, signal.SIGKILL)

    def _wait(self) -> int | None:
        """In the reader's thread: a process that can't be killed keeps but this thread."""
        if self._process is None:
            return None
        try:
            return self._process.wait(_LAST_BREATH)
        except subprocess.TimeoutExpired:
            self.killed = True
            self._process.kill()
            return self._process.wait()

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._loop.call_soon_threadsafe(call, *arguments)

    def _take(self, message: object) -> None:
        try:
            self._on_message(self, message)
        except Exception:
            logger.exception("a message can't be taken in")
            self.signal(signal.SIGKILL)

    def _bury(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        self.ended.set()


def exit_reason(code: int | None) -> RestartReason:
    """What the exit code of a process that nobody here killed says about it."""
    if code is not None and code < 0:
        return "segfault" if -code in _CRASHES else "killed"
    return "exit"


def exit_text(code: int | None) -> str:
    """An exit code as an operator reads it."""
    if code is None:
        return "not ended yet"
    if code == DEVICE_LOST:
        return f"exit code {code}, its device was of no use any more"
    return f"exit code {code}" if code >= 0 else signal_name(code)


def signal_name(code: int | None) -> str:
    """The signal that ended a process of this exit code; empty if none did."""
    if code is None or code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"  # of real time
