"""A worker that starts before its supervisor is there, with a stub in place of the real one."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.device import template
from app.device.arena import Arena
from app.device.launch import VARIABLES, EarlyWorker, variables_for
from app.device.messages import WorkerSettings
from app.device.supervisor import WorkerDevice
from app.device.template import Forked, Template
from tests.app.device.supervised import Started, stub, within_time
from tests.app.fake_device import until


@pytest.fixture(autouse=True)
def inherits_nothing_later() -> Iterator[None]:
    """The process of the tests is the API process's stand-in: it inherits what is left of a first
    worker, and of no other test's processes.
    """
    yield
    template._control(template._PR_SET_CHILD_SUBREAPER, 0)


@contextlib.asynccontextmanager
async def begun_early(folder: Path, early: EarlyWorker, on: str = "cpu") -> AsyncIterator[Started]:
    """A device that may have that worker."""
    (folder / "orders").touch()
    arena = Arena(4096)
    settings = WorkerSettings(("stub",), on, "float32", 1, 4096, "info", "json", 60.0)
    device = WorkerDevice(settings, arena, stub(folder), early)
    changes: asyncio.Queue[tuple[object, str]] = asyncio.Queue()
    task = asyncio.create_task(device.start(lambda *change: changes.put_nowait(change)))
    try:
        yield Started(device, changes, task)  # type: ignore[arg-type]
    finally:
        await device.stop()
        await asyncio.wait([task])
        arena.close()


def process_of(early: EarlyWorker) -> int:
    assert early._process is not None
    return early._process.pid


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def is_forked(started: Started) -> bool:
    assert started.device._life is not None
    return isinstance(started.device._life.process._process, Forked)


def parent_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("PPid:")))


forks = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")


def test_the_first_worker_is_the_early_one_and_the_next_is_not(tmp_path: Path) -> None:
    async def test() -> None:
        with contextlib.closing(EarlyWorker(stub(tmp_path))) as early:
            pid = process_of(early)
            async with begun_early(tmp_path, early) as started:
                await started.heard("started")
                assert await started.pid_of_a_batch() == started.pid == pid
                os.kill(pid, signal.SIGKILL)
                assert await started.heard("started") == ["killed", "started"]
                assert await started.pid_of_a_batch() != pid

    within_time(test)


def test_a_second_device_starts_a_worker_of_its_own(tmp_path: Path) -> None:
    async def test() -> None:
        with contextlib.closing(EarlyWorker(stub(tmp_path))) as early:
            async with begun_early(tmp_path, early) as one, begun_early(tmp_path, early) as other:
                await one.heard("started")
                await other.heard("started")
                assert one.pid != other.pid

    within_time(test)


@forks
def test_workers_after_the_first_are_forked_and_belong_to_us(tmp_path: Path) -> None:
    async def test() -> None:
        with contextlib.closing(EarlyWorker(stub(tmp_path))) as early:
            async with begun_early(tmp_path, early) as one, begun_early(tmp_path, early) as other:
                await one.heard("started")
                await other.heard("started")
                assert not is_forked(one)
                assert is_forked(other)
                assert parent_of(other.pid) == os.getpid()
                assert await other.pid_of_a_batch() == other.pid

    within_time(test)


@forks
def test_a_forked_worker_that_dies_is_known_for_how_and_forked_again(tmp_path: Path) -> None:
    async def test() -> None:
        with contextlib.closing(EarlyWorker(stub(tmp_path))) as early:
            async with begun_early(tmp_path, early) as started:
                await started.heard("started")
                first = started.pid
                os.kill(first, signal.SIGKILL)
                assert await started.heard("started") == ["killed", "started"]
                for number, reason in ((signal.SIGKILL, "killed"), (signal.SIGSEGV, "segfault")):
                    assert is_forked(started)
                    pid = await started.pid_of_a_batch()
                    os.kill(pid, number)
                    assert await started.heard("started") == [reason, "started"]
                    assert not is_there(pid)

    within_time(test)


@forks
def test_a_forked_worker_that_hangs_is_killed(tmp_path: Path) -> None:
    async def test() -> None:
        with contextlib.closing(EarlyWorker(stub(tmp_path))) as early:
            async with begun_early(tmp_path, early) as one, begun_early(tmp_path, early) as other:
                await one.heard("started")
                await other.heard("started")
                assert other.device._life is not None
                process, pid = other.device._life.process, other.pid
                os.kill(pid, signal.SIGSTOP)
                process.signal(signal.SIGKILL)
                assert await process.ends_within(60)
                assert (process.exit_code, process.killed) == (-signal.SIGKILL, True)
                assert not is_there(pid)

    within_time(test)


@forks
def test_workers_on_a_gpu_are_processes_of_their_own(tmp_path: Path) -> None:
    async def test() -> None:
        with contextlib.closing(EarlyWorker(stub(tmp_path))) as early:
            async with begun_early(tmp_path, early) as one:
                await one.heard("started")
                await until(lambda: early.template.look() is not None)
                assert early.template.look()
                async with begun_early(tmp_path, early, "cuda:0") as other:
                    await other.heard("started")
                    assert not is_forked(other)

    within_time(test)


@forks
def test_without_the_template_workers_are_new_processes(tmp_path: Path) -> None:
    async def test() -> None:
        with contextlib.closing(EarlyWorker(stub(tmp_path))) as early:
            async with begun_early(tmp_path, early) as one:
                await one.heard("started")
                early.template.close()
                os.kill(one.pid, signal.SIGKILL)
                assert await one.heard("started") == ["killed", "started"]
                assert not is_forked(one)

    within_time(test)


@forks
def test_a_template_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.device.template._FORK_SECONDS", 0.01)
    silent = Template()
    with silent.begin() as end:
        end.sendall(b"r")
        with pytest.raises(OSError, match="no worker was forked"):
            silent.fork(())
    assert silent.fork(()) is None


def test_an_early_worker_that_has_ended_is_replaced_without_a_word(tmp_path: Path) -> None:
    async def test() -> None:
        early = EarlyWorker(["false"])
        assert early._process is not None
        early._process.wait()
        with contextlib.closing(early):
            async with begun_early(tmp_path, early) as started:
                assert await started.heard("started") == ["started"]

    within_time(test)


@pytest.mark.parametrize(
    ("given", "environment", "cores", "spins"),
    [
        ({}, {}, 2, "10000"),
        ({"workers": None, "device": None, "config": None}, {}, 8, "10000"),
        ({"device": "cpu"}, {"AGIQA_DEVICE": "cuda"}, 2, "10000"),
        ({}, {"AGIQA_DEVICE": "auto"}, 2, "10000"),
        ({"workers": 1}, {}, 2, "1000"),
        ({}, {"AGIQA_WORKERS": "1"}, 2, "1000"),
        ({}, {"AGIQA_THREADS": "2"}, 2, "1000"),
        ({"config": Path("agiqa.toml")}, {}, 2, "1000"),  # it may say how many workers there are
        ({}, {"AGIQA_DEVICE": "cuda"}, 2, "1000"),
        ({}, {}, 16, "1000"),  # eight workers of two threads each, which wait for each other
    ],
)
def test_threads_spin_for_longer_where_several_are_lent_alone(
    given: dict[str, object],
    environment: dict[str, str],
    cores: int,
    spins: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("WORKERS", "THREADS", "DEVICE", "CONFIG"):
        monkeypatch.delenv(f"AGIQA_{name}", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = variables_for(given, cores)
    assert found["GOMP_SPINCOUNT"] == spins
    assert {**found, "GOMP_SPINCOUNT": "1000"} == VARIABLES


def test_all_workers_have_the_variables_of_the_early_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)

    def environment_of(pid: int) -> list[str]:
        return Path(f"/proc/{pid}/environ").read_text().split("\0")

    async def test() -> None:
        variables = {"GOMP_SPINCOUNT": "10000"}
        early = EarlyWorker(stub(tmp_path), variables)
        early.template.close()  # nothing is forked: the next one is started anew
        with contextlib.closing(early):
            async with begun_early(tmp_path, early) as one, begun_early(tmp_path, early) as other:
                for started in (one, other):
                    await started.heard("started")
                    assert "GOMP_SPINCOUNT=10000" in environment_of(started.pid)
                assert not is_forked(other)

    within_time(test)


def test_a_worker_that_nobody_takes_ends(tmp_path: Path) -> None:
    (tmp_path / "orders").touch()
    early = EarlyWorker(stub(tmp_path))
    pid = process_of(early)
    assert is_there(pid)
    early.close()
    assert not is_there(pid)
    assert early.take((0, 1)) is None


def test_the_time_of_a_load_counts_from_the_early_start(tmp_path: Path) -> None:
    async def test() -> None:
        with contextlib.closing(EarlyWorker(stub(tmp_path))) as early:
            async with begun_early(tmp_path, early) as started:
                await started.heard("started")
                assert started.device._life is not None
                assert started.device._life.started == early.started

    within_time(test)


@pytest.mark.integration
def test_a_service_that_can_not_start_leaves_no_worker_behind(tmp_path: Path) -> None:
    async def test() -> None:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "app.cli.main",
                "serve",
                "--config",
                str(tmp_path / "nowhere.toml"),
            ),
            stderr=asyncio.subprocess.PIPE,
        )
        # Whoever holds the pipe open still lives.
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert b"no settings file" in errors
        assert b"Traceback" not in errors

    within_time(test)
