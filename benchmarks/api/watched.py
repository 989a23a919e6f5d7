"""The service with a watch on its event loop: python -m benchmarks.api.watched PORT

Its settings come from the environment, as those of `agiqa serve`; POST /watch answers what was seen
since the last one, as JSON.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from types import FrameType
from typing import Any

from fastapi import FastAPI

from app.logs import configure
from app.main import Server, create_app, server_config
from app.settings import load_settings

TICK = 0.005
# Of the event loop's thread, between two looks at where it is.
_PROFILE_SECONDS = 0.002
# The innermost frame that lies in one of these says what the loop is at; the first that fits.
_PLACES = (
    ("form", ("/multipart/", "/starlette/formparsers.py", "/app/http/forms.py")),
    ("JSON", ("/pydantic/", "/json/", "/app/http/schemas.py", "/starlette/responses.py")),
    ("scoring", ("/app/", "/model/")),
    ("HTTP", ("/uvicorn/", "/starlette/", "/fastapi/", "/python_multipart/")),
    ("event loop", ("/asyncio/", "/selectors.py", "/uvloop/")),
)
_OURS = "/app/http/"


class Watch:
    """How late the event loop runs what is due, and where its thread spends its time.

    A sample is taken every ``TICK``: how late it came, and how much of that the thread waited for a
    core, which the kernel counts: it is the machine's doing, not the service's.
    """

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._places: defaultdict[str, float] = defaultdict(float)
        self._used = time.thread_time()
        self._waits = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self._began = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), time.thread_time(), time.process_time()

    def _waited(self) -> float:
        return int(os.pread(self._waits, 100, 0).split()[1]) / 1e9

    async def run(self) -> None:
        """Takes samples for ever."""
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, _PROFILE_SECONDS, _PROFILE_SECONDS)
        waited = self._waited()
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            late = time.monotonic() - due
            before, waited = waited, self._waited()
            self._samples.append((late, waited - before))

    def _look(self, _: int, frame: FrameType | None) -> None:
        """The timer counts all threads: only what this one has used since counts for the place."""
        used = time.thread_time()
        self._places[_place(frame)] += used - self._used
        self._used = used

    def report(self) -> dict[str, Any]:
        """What was seen since the last report."""
        now = self._now()
        seconds, thread, process = (b - a for a, b in zip(self._began, now, strict=True))
        report = {
            "seconds": seconds,
            "thread": thread,
            "process": process,
            "samples": self._samples,
            "places": dict(self._places),
        }
        self._began = now
        self._samples = []
        self._places.clear()
        return report


def _place(frame: FrameType | None) -> str:
    while frame is not None:
        path = frame.f_code.co_filename
        name = frame.f_code.co_name
        if name == "serialize_response":
            return "JSON"
        for place, folders in _PLACES:
            if any(folder in path for folder in folders):
                return "HTTP" if place == "scoring" and _OURS in path else place
        frame = frame.f_back
    return "event loop"


class WatchedServer(Server):
    """Watches from the first request to the last."""

    def watch(self, watch: Watch) -> "WatchedServer":
        self._watch = watch
        return self

    async def main_loop(self) -> None:
        watching = asyncio.create_task(self._watch.run())
        await super().main_loop()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def main() -> None:
    """Serves until a signal."""
    settings = load_settings({})
    configure(settings.log_level, settings.log_format)
    app: FastAPI = create_app(settings)
    watch = Watch()

    @app.post("/watch")
    async def report() -> dict[str, Any]:
        return watch.report()

    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=256)
    server = WatchedServer(server_config(app, settings), app.state.service).watch(watch)
    server.heed_signals()
    server.run([listener])


if __name__ == "__main__":
    main()
