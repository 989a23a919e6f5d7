"""The real service in a process of its own, for the tests that speak HTTP with it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.device.template import TEMPLATE_NAME
from app.service import MEASURED_SOON

START_SECONDS = 120.0
AUTO = {"AGIQA_DEVICE": "auto", "AGIQA_DTYPE": "auto"}


@dataclass
class Running:
    """A started service, and a client for it."""

    url: str
    process: "subprocess.Popen[bytes]"
    client: httpx.Client
    log: Path

    @property
    def worker_pids(self) -> list[int]:
        """The process on the device, of the service's children."""
        return self._children("app.worker")

    @property
    def decoder_pids(self) -> list[int]:
        """The processes that decode."""
        return self._children("model.decoding.process")

    def _children(self, module: str) -> list[int]:
        # Each thread has its own list of those that it started.
        lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [pid for children in lists for pid in children.read_text().split()]
        # Of a first worker that has ended, its template may be left.
        pids = [p for p in pids if Path(f"/proc/{p}/comm").read_text().strip() != TEMPLATE_NAME]
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in pids}
        return [int(pid) for pid, command in commands.items() if module.encode() in command]

    def metric(self, name: str, **labels: str) -> float:
        """The value of one series; 0 if it is not there."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.client.get("/metrics").text.splitlines():
            match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if match and wanted <= set((match[1] or "").split(",")):
                return float(match[2])
        return 0.0

    def wait_until(self, what: Any, seconds: float = 30.0) -> None:
        """Waits until ``what()`` is true."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def wait_until_ready(self) -> None:
        """Waits for /readyz."""
        self.wait_until(lambda: self.client.get("/readyz").status_code == 200, START_SECONDS)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    wait: bool = True,
    port: int | None = None,
    module: Sequence[str] = ("app.cli.main", "serve", "--port"),
) -> Iterator[Running]:
    """Starts ``agiqa serve``, or another module, on that port, a free one if it is None, and ends
    it afterwards. A variable of ``environment`` that is empty is not set.
    """
    port, log = port or free_port(), folder / "service.log"
    variables = {k: v for k, v in os.environ.items() if not k.startswith("AGIQA_")}
    # One model starts faster than the default two.
    variables |= {"AGIQA_MODELS": "tiny-clip-agiqa"}
    variables |= {"AGIQA_MAX_CROP_MIB": "64", "AGIQA_THREADS": "1"}
    # Figures are compared; pass AUTO where they are to be those of the machine.
    variables |= {"AGIQA_DEVICE": "cpu", "AGIQA_DTYPE": "float32", **(environment or {})}
    variables = {name: value for name, value in variables.items() if value}
    command = [sys.executable, "-m", *module, str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=60) as client:
        running = Running(url, process, client, log)
        try:
            running.wait_until(
                lambda: _listens(client) or process.poll() is not None, START_SECONDS
            )
            if wait:
                running.wait_until_ready()
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(60)


def is_complete(url: str) -> bool:
    """Whether it is ready, and all workers are up that there will be."""
    try:
        answer = httpx.get(f"{url}/readyz?verbose", trust_env=False)
    except httpx.TransportError:
        return False
    seen = answer.json()
    is_up = all(worker["up"] for worker in seen.get("workers", ()))
    return answer.status_code == 200 and is_up and seen.get("sharing") != MEASURED_SOON


def _listens(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False
