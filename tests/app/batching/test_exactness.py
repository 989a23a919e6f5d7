"""Batched == single through the worker's own code, for each dtype."""

import dataclasses
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.batching.scheduler import Fault
from app.device.arena import Arena, Slot
from app.device.messages import BatchFailed, Done, Piece, Run, WorkerSettings
from app.worker import Worker
from model.preprocess.crops import CropPlanner
from model.scores import Score
from tests.app.pictures import picture

# bfloat16 keeps 8 bits: batches of other sizes add up in another order.
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
SIZES = [(512, 512), (300, 260), (900, 230), (64, 64)]
PROMPTS = ["a wave", None, "a portrait, long-shot", "a wave"]


class Desk:
    """A worker and its shared memory, in this process."""

    def __init__(self, bundled: Path, dtype: str) -> None:
        self.arena = Arena(16 * 2**20)
        settings = WorkerSettings(
            (str(bundled),), "cpu", dtype, 1, self.arena.size, "warning", "text"
        )
        self.worker = Worker(settings, mmap.mmap(self.arena.fd, self.arena.size))
        (self.model,) = self.worker.ready().models
        self.planner = CropPlanner(self.model.config, self.model.policy)

    def pieces(self) -> list[Piece]:
        made = []
        for i, (size, prompt) in enumerate(zip(SIZES, PROMPTS, strict=True)):
            layout = self.planner.plan(*size, prompt=prompt)
            crops = self.planner.cut(picture(*size, seed=i), layout)
            slot = self.arena.allocate(crops.nbytes)
            assert slot
            self.arena.crops(slot, crops.shape)[:] = crops
            made.append(Piece(slot, layout, prompt, 0, layout.rows, completes=True))
        return made

    def run(self, pieces: Sequence[Piece]) -> tuple[object, ...]:
        done = self.worker.answer(Run(0, self.model.key, tuple(pieces)))
        assert isinstance(done, Done), done
        return tuple(done.outcome.results)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def desk(request: pytest.FixtureRequest, bundled: Path) -> Desk:
    return Desk(bundled, request.param)


def assert_same(one: object, other: object, dtype: str) -> None:
    assert isinstance(one, Score)
    assert isinstance(other, Score)
    for head in ("quality", "alignment", "consistency"):
        a, b = getattr(one, head), getattr(other, head)
        assert (a is None) == (b is None)
        assert a is None or a == pytest.approx(b, abs=TOLERANCE[dtype])


def test_images_scored_together_get_the_scores_that_they_get_alone(desk: Desk) -> None:
    pieces = desk.pieces()
    together = desk.run(pieces)
    for piece, shared in zip(pieces, together, strict=True):
        assert_same(shared, desk.run([piece])[0], desk.model.dtype)


def test_an_image_split_over_batches_gets_the_score_that_it_gets_whole(desk: Desk) -> None:
    whole = desk.pieces()[0]
    alone = desk.run([whole])[0]
    before: list[Any] = []
    for start in range(0, whole.stop, 7):
        stop = min(start + 7, whole.stop)
        last = stop == whole.stop
        part = dataclasses.replace(whole, start=start, stop=stop, completes=last)
        part = dataclasses.replace(part, before=tuple(before) if last else ())
        (result,) = desk.run([part])
        before.append(result)
    assert_same(before[-1], alone, desk.model.dtype)


def test_a_batch_that_cannot_be_computed_is_an_answer_too(desk: Desk) -> None:
    (piece, *_) = desk.pieces()
    broken = dataclasses.replace(piece, slot=Slot(0, 64, 1 << 40))
    answer = desk.worker.answer(Run(7, desk.model.key, (broken,)))
    assert isinstance(answer, BatchFailed)
    assert (answer.number, answer.fault) == (7, Fault.INFERENCE)
