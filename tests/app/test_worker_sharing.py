"""How the worker measures the sharing of a CPU: after it is ready, between its batches."""

import mmap
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import model
from app.batching.lending import Lending
from app.device.arena import Arena
from app.device.messages import Sharing, WorkerSettings
from app.worker import Worker
from model.core_share import CoreTimes
from model.errors import CheckpointError
from model.scorer import Scorer

PARTS = 3


def parts(
    _: Scorer, most: int, enough: float, begins: Callable[[], None]
) -> Generator[None, None, CoreTimes]:
    assert enough < 1
    for _part in range(PARTS):
        begins()
        yield
    return CoreTimes(4, most, alone=1.0, shared=1.6)


@pytest.fixture(scope="module")
def scorer(bundled: Path) -> Scorer:
    return model.load(str(bundled), device="cpu", dtype="float32")


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena(2**20)
    yield arena
    arena.close()


def worker(scorer: Scorer, arena: Arena, most_workers: int, **given: Any) -> Worker:
    settings = WorkerSettings(
        *(("x",), "cpu", "float32", None, arena.size, "info", "text"), most_workers=most_workers
    )
    segment = mmap.mmap(arena.fd, arena.size)
    return Worker(settings, segment, load=lambda *_, **__: [scorer], **given)


def test_it_sends_what_it_measured_after_the_last_part(
    scorer: Scorer, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.worker.measuring", parts)
    sent: list[Any] = []
    steps: list[float] = []
    two = worker(scorer, arena, 2, step=steps.append)
    ready = two.ready()
    assert ready.measures
    measuring = two.measuring(sent.append)
    for _ in range(PARTS):
        next(measuring)
        assert not sent
    assert not list(measuring)
    # So that it is not taken for one that hangs, when a batch waits.
    (timings,) = ready.timings.values()
    assert steps == [3 * max(seconds for _, seconds in timings)] * PARTS
    assert sent == [Sharing(Lending(cores=4, workers=2, speedup=1.6, gain=1.25))]


def test_one_that_may_have_no_others_measures_nothing(
    scorer: Scorer, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.worker.measuring", parts)
    sent: list[Any] = []
    one = worker(scorer, arena, 1)
    assert not one.ready().measures
    assert not list(one.measuring(sent.append))
    assert not sent


def test_one_that_can_t_measure_serves_alone(
    scorer: Scorer,
    arena: Arena,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: Any) -> Generator[None, None, CoreTimes]:
        yield
        raise CheckpointError("no number")

    monkeypatch.setattr("app.worker.measuring", fails)
    sent: list[Any] = []
    assert list(worker(scorer, arena, 2).measuring(sent.append)) == [None]
    assert [message.lending.workers for message in sent] == [1]
    assert "can't be measured" in caplog.text
