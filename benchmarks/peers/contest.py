"""A server, or the bare loop, measured once: started, under load, ended."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.drills.processes import is_alive, kill_tree, tree, wait_for
from benchmarks.peers.clients import Client, Seen, used
from benchmarks.peers.entrants import Entrant
from benchmarks.peers.environments import ROOT, NotMeasured, last_line
from tests.app.server import free_port

_START_SECONDS = 120.0
_END_SECONDS = 30.0
_MEASURE_SECONDS = 900.0
# All processes of a server are up once it answers and uses no more of a core; some poll for ever.
_IDLE, _IDLE_SECONDS = 0.5, 1.0
# Ray sends news of its use, and has its workers give way to all else: here, to the load.
_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
# What rounding makes of a quality in [0, 1], in bfloat16 and with others in a call.
_AGREE = 0.02


def run_module(module: str, *arguments: str) -> dict[str, Any]:
    """What a module of this package prints as JSON, in a process of its own.

    Raises:
        NotMeasured: it fails, and why.
    """
    command = [sys.executable, "-m", f"benchmarks.peers.{module}", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment({}),
            capture_output=True,
            text=True,
            check=False,
            timeout=_MEASURE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise NotMeasured(f"not done in {_MEASURE_SECONDS:.0f} s") from error
    if done.returncode:
        raise NotMeasured(last_line(done.stderr))
    found: dict[str, Any] = json.loads(last_line(done.stdout))
    return found


def environment(chosen: Mapping[str, str]) -> dict[str, str]:
    """That of this process, but for what is chosen for each server."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AGIQA_", "OMP_NUM_"))}
    return kept | _RAY | chosen


@dataclass(frozen=True)
class Contest:
    """Attributes:
    files: a folder of images.
    log: what the server prints that runs.
    clients: that send at once.
    images: that are measured.
    qualities: of the first files, as the bare scorer has them.
    """

    files: Path
    log: Path
    clients: int
    images: int
    qualities: Sequence[float]

    def measure(self, entrant: Entrant, python: Path) -> Seen:
        """One server.

        Raises:
            NotMeasured: it doesn't start or doesn't answer, or its scores are others.
        """
        server, port = entrant.server, free_port()
        chosen = replace(entrant, setup=replace(entrant.setup, port=port)).environment()
        url = f"http://127.0.0.1:{port}{server.path}"
        options = [f"--clients={self.clients}", f"--count={self.images}"]
        options += ["--form"] if server.form else []
        with running([str(python), "-m", *server.module], chosen, self.log) as pid:
            self._wait_until_up(pid, url, form=server.form)
            found = run_module("clients", url, str(self.files), f"--pid={pid}", *options)
        seen = Seen(**found)
        apart = max(abs(a - b) for a, b in zip(seen.qualities, self.qualities, strict=True))
        if apart > _AGREE:
            raise NotMeasured(f"its scores differ from the scorer's by up to {apart:.3f}")
        return seen

    def _wait_until_up(self, pid: int, url: str, *, form: bool) -> None:
        image = min(self.files.iterdir()).read_bytes()
        refusals: list[str] = []

        def answers() -> bool:
            if not is_alive(pid):
                raise NotMeasured(f"it ended: {last_line(self.log.read_text(errors='replace'))}")
            try:
                with closing(Client(url, form=form)) as client:
                    client.score(image)
            except (OSError, http.client.HTTPException, RuntimeError) as error:
                refusals.append(str(error))
                return False
            return True

        def is_idle() -> bool:
            before = used(pid)
            time.sleep(_IDLE_SECONDS)
            return used(pid) - before < _IDLE * _IDLE_SECONDS

        if wait_for(answers, _START_SECONDS, step=0.2) is None:
            raise NotMeasured(f"no score in {_START_SECONDS:.0f} s: {refusals[-1]}")
        wait_for(is_idle, _END_SECONDS)


@contextmanager
def running(command: Sequence[str], chosen: Mapping[str, str], log: Path) -> Iterator[int]:
    """Starts a server, and ends all that it has started; its process."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(chosen),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        everything = tree(process.pid)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        for pid in everything:  # some leave theirs behind
            kill_tree(pid)
        process.wait()
