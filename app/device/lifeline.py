"""What ties a child process to the API process, from the child's side: it dies with its parent, and
tells it twice a second that it lives.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from app.device.messages import BEAT_SECONDS, Beat

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent ends, however that ends; Linux only.

    "Parent" is the *thread* that started this process: start it from one that lasts.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(0)


class Heartbeat:
    """The one way out for messages, which a thread of its own uses for a ``Beat`` every half
    second; it goes on beating while the main thread computes.
    """

    def __init__(
        self, pipe: "Connection[Any, Any]", gone: Callable[[], object] = lambda: os._exit(0)
    ) -> None:
        """``gone`` is called in the thread once nobody listens: nobody is there to end us, and the
        main thread may hang.
        """
        self._pipe = pipe
        self._gone = gone
        self._lock = threading.Lock()
        self._beat = Beat()

    def start(self) -> None:
        """Begins to beat."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def send(self, message: object) -> None:
        """Sends a message between two beats.

        Raises:
            OSError: the other side is gone.
        """
        with self._lock:
            self._pipe.send(message)

    @contextlib.contextmanager
    def computing(self, batch: int) -> Iterator[None]:
        """While the batch is computed, the beats name it."""
        self._beat = Beat(batch)
        try:
            yield
        finally:
            self._beat = Beat()

    def step(self, expected: float) -> None:
        """The next part of the batch begins, and should take so many seconds."""
        self._beat = Beat(self._beat.batch, self._beat.step + 1, expected)
        self.send(self._beat)

    def _run(self) -> None:
        never = threading.Event()
        try:
            while not never.wait(BEAT_SECONDS):
                self.send(self._beat)
        except OSError:
            self._gone()
