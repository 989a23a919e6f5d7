"""The image's command with a read-only root, as another user and within the limits of compose."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.pictures import encoded, picture
from tests.app.server import START_SECONDS, free_port
from tests.docker import sandbox

WHY_NOT = sandbox.refusal()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]


class Confined:
    """The service in its sandbox."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process, self.log = process, log
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    @property
    def pid(self) -> int:
        """Of the service, as seen from outside."""
        (pid,) = sandbox.children(self.process.pid)
        return pid

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Confined]:
    port, log = free_port(), tmp_path_factory.mktemp("sandbox") / "service.log"
    with sandbox.sandboxed(log, AGIQA_PORT=str(port), AGIQA_DEVICE="cpu") as process:
        service = Confined(process, port, log)
        end = time.monotonic() + START_SECONDS
        while not service.is_ready():
            assert time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.1)
        yield service
        service.client.close()


def test_it_scores_with_both_bundled_models(confined: Confined) -> None:
    image = {"image": encoded(picture(224, 224))}
    assert 0 <= confined.client.post("/score", files=image).json()["quality"] <= 1
    form = {"prompt": "a red fox"}
    answer = confined.client.post("/score-agi", files=image, data=form)
    assert 0 <= answer.json()["consistency"] <= 1


def test_it_is_that_user_without_capabilities_and_can_write_to_memory_alone(
    confined: Confined,
) -> None:
    for pid in sandbox.tree(confined.pid):
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["NoNewPrivs"].strip() == "1"
        inside = Path(f"/proc/{pid}/uid_map").read_text().split()[0]
        assert inside == sandbox.AGIQA["user"].split(":")[0]
        mounts = [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
        writable = {
            where: kind for _, where, kind, flags, *_ in mounts if "ro" not in flags.split(",")
        }
        assert writable.pop("/proc", "proc") == "proc"
        assert {kind for where, kind in writable.items() if not where.startswith("/dev/")} <= {
            "tmpfs"
        }


def test_its_threads_and_memory_fit_the_limits(confined: Confined) -> None:
    assert sandbox.tasks(confined.pid) <= sandbox.AGIQA["pids_limit"]
    limits = Path(f"/proc/{confined.pid}/limits").read_text()
    assert f"{sandbox.AGIQA['ulimits']['nofile']} " in limits
    resident = 0
    for pid in sandbox.tree(confined.pid):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        (pss,) = [int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")]
        resident += pss * 1024
    assert resident < int(sandbox.AGIQA["mem_limit"].removesuffix("g")) * 2**30


def test_as_the_first_process_it_heeds_sigterm_and_ends_in_order_while_it_loads(
    tmp_path: Path,
) -> None:
    port, log = free_port(), tmp_path / "service.log"
    with sandbox.sandboxed(log, AGIQA_PORT=str(port), AGIQA_DEVICE="cpu") as process:
        end = time.monotonic() + START_SECONDS
        while not sandbox.children(process.pid) or "loading" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        (pid,) = sandbox.children(process.pid)
        os.kill(pid, signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
