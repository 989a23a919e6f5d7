"""Work in a process of its own beside the drill, so that neither's Python delays the other."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
# What runs aside: ends soon after the event is set, and returns what it saw.
Work = Callable[Concatenate[Event, P], T]
_SPAWN = multiprocessing.get_context("spawn")
_END_SECONDS = 60.0


class Aside(Generic[T]):
    """Runs ``work(stop, *arguments)`` from ``with`` on, until ``result`` or the end of ``with``."""

    def __init__(self, work: "Work[P, T]", *args: P.args, **kwargs: P.kwargs) -> None:
        self._stop = _SPAWN.Event()
        self._pipe, theirs = _SPAWN.Pipe(duplex=False)
        self._process = _SPAWN.Process(
            target=_run, args=(work, self._stop, theirs, args, kwargs), daemon=True
        )
        self._theirs = theirs

    def __enter__(self) -> "Aside[T]":
        self._process.start()
        self._theirs.close()
        self._pipe.recv()  # it runs, its imports are done
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join(0.5)
        self._process.kill()
        self._process.join()

    def result(self) -> T:
        """Stops the work and returns what it saw.

        Raises:
            TimeoutError: it does not end.
            EOFError: it failed; its traceback is on stderr.
        """
        self._stop.set()
        return self.wait(_END_SECONDS)

    def wait(self, seconds: float) -> T:
        """Returns what it saw, once it has ended by itself.

        Raises:
            TimeoutError: it does not end within that time.
            EOFError: it failed; its traceback is on stderr.
        """
        if not self._pipe.poll(seconds):
            raise TimeoutError("what runs beside the drill does not end")
        seen: T = self._pipe.recv()
        return seen


def _run(
    work: Callable[..., T],
    stop: Event,
    pipe: "Connection[Any, Any]",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    pipe.send("started")
    pipe.send(work(stop, *args, **kwargs))
