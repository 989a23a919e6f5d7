"""The real service for a drill: both bundled models, two decode workers; it ends in any case."""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.settings import Settings
from benchmarks.drills import processes
from tests.app.server import Running, is_complete, serving

# Settings of later versions are left out where this one does not know them.
_WANTED = {
    "AGIQA_MODELS": "tiny-mpiqe,tiny-clip-agiqa",
    "AGIQA_MAX_CROP_MIB": "256",
    "AGIQA_DECODE_THREADS": "2",
    "AGIQA_DECODE_WORKERS": "2",
}
_KNOWN = {f"AGIQA_{name.upper()}" for name in Settings.model_fields}
_END_SECONDS = 20.0
_MOMENT = 2.0
_COMPLETE_SECONDS = 30.0


@dataclass
class Service:
    """A started service, as seen from outside."""

    running: Running
    load_seconds: float  # from its start to ready

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def pid(self) -> int:
        return self.running.process.pid

    @property
    def log(self) -> Path:
        return self.running.log

    def pids(self, role: str) -> list[int]:
        return processes.by_role(self.pid, role)

    def is_ready(self) -> bool:
        return self.status("/readyz") == 200

    def status(self, path: str) -> int:
        """Of a GET; 0 where there is no answer soon."""
        try:
            return httpx.get(self.url + path, timeout=_MOMENT, trust_env=False).status_code
        except httpx.TransportError:
            return 0

    def metric(self, name: str) -> float | None:
        """The sum of a metric's series; None where there is no such metric, or no answer."""
        try:
            text = httpx.get(f"{self.url}/metrics", timeout=_MOMENT, trust_env=False).text
        except httpx.TransportError:
            return None
        values = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, values)) if values else None

    def settles(self, name: str, value: float, seconds: float = 15.0) -> float | None:
        """Waits until a metric has that value; returns the last one seen, None where unknown."""
        end = time.monotonic() + seconds
        while (seen := self.metric(name)) not in {value, None} and time.monotonic() < end:
            time.sleep(0.1)
        return seen


@contextmanager
def service(
    folder: Path, environment: Mapping[str, str] | None = None, *, wait: bool = True
) -> Iterator[Service]:
    """Starts ``agiqa serve`` on a free port; its processes end with the block, hung or not."""
    wanted = {name: value for name, value in _WANTED.items() if name in _KNOWN}
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with serving(folder, {**wanted, **(environment or {})}, wait=wait) as running:
        try:
            here = Service(running, time.monotonic() - start)
            if wait:  # those that share the CPU with the first worker begin after it
                processes.wait_for(lambda: is_complete(here.url), _COMPLETE_SECONDS, step=0.1)
            yield here
        finally:
            _end(running)


def _end(running: Running) -> None:
    with contextlib.suppress(ProcessLookupError):
        running.process.terminate()
    gone = processes.wait_for(lambda: running.process.poll() is not None, _END_SECONDS)
    if gone is None:
        processes.kill_tree(running.process.pid)
