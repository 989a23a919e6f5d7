"""Batches whose crops are copied before their turn, with a device that is the same memory."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

import model
from app.batching.batcher import Outcome
from app.device.arena import Arena
from app.device.messages import Done, Piece, Run, WorkerSettings
from app.worker import Worker
from model.scorer import Scorer
from model.staging import Staged, Staging
from tests.model import tiny

MODEL = "tiny-mpiqe"


class InPlace(Staged):
    def __init__(self, crops: np.ndarray) -> None:
        self._crops = crops

    def pixels(self) -> Tensor:
        return torch.from_numpy(self._crops)


class Copies:
    """Implements ``Staging``; ``fault`` may raise."""

    def __init__(self) -> None:
        self.fault: Callable[[], None] = lambda: None

    def join(self, crops: Sequence[np.ndarray]) -> Staged:
        self.fault()
        return InPlace(np.concatenate(crops))


class Desk:
    """A worker that stages, and one image in its shared memory."""

    def __init__(self, scorer: Scorer) -> None:
        self.arena = Arena(16 * 2**20)
        self.copies = Copies()
        self.worker = Worker(
            WorkerSettings((MODEL,), "cpu", "float32", None, self.arena.size, "info", "text"),
            mmap.mmap(self.arena.fd, self.arena.size),
            load=lambda *_, **__: [scorer],
            staging=lambda _: cast(Staging, self.copies),
        )
        (loaded,) = self.worker.ready().models
        image = tiny.picture(300, 260)
        layout = scorer.planner.plan(*image.size, ("quality",))
        crops = scorer.planner.cut(image, layout)
        slot = self.arena.allocate(crops.nbytes)
        assert slot is not None
        self.crops = self.arena.crops(slot, crops.shape)
        self.crops[:] = crops
        self.run = Run(7, loaded.key, (Piece(slot, layout, None, 0, layout.rows, completes=True),))

    def outcome(self) -> Outcome:
        done = self.worker.answer(self.run)
        assert isinstance(done, Done), done
        return done.outcome

    def score(self) -> Any:
        return self.outcome().results[0]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return model.load(MODEL, device="cpu", dtype="float32")


@pytest.fixture
def desk(scorer: Scorer) -> Iterator[Desk]:
    made = Desk(scorer)
    yield made
    made.arena.close()


def test_what_was_copied_before_its_turn_is_what_is_computed(desk: Desk) -> None:
    without = desk.score()
    desk.worker.stage(desk.run)
    desk.crops[:] = 0  # whose slot it is by now does not matter any more
    assert desk.score() == without
    assert desk.score() != without  # a copy is for one batch


def test_a_copy_that_fails_is_made_again_in_its_turn(desk: Desk) -> None:
    without = desk.score()

    def fail() -> None:
        raise RuntimeError("no pinned memory")

    desk.copies.fault = fail
    desk.worker.stage(desk.run)
    assert desk.score() == without


def test_nothing_stays_of_a_batch_whose_model_is_gone(desk: Desk) -> None:
    desk.worker.stage(desk.run)
    desk.worker._scorers, kept = {}, desk.worker._scorers
    desk.outcome()
    desk.worker._scorers = kept
    before = desk.score()
    desk.crops[:] = 0
    assert desk.score() != before


def test_other_messages_need_no_copy_and_a_batch_says_where_it_was_computed(desk: Desk) -> None:
    desk.worker.stage(None)
    assert desk.worker.stages
    assert desk.outcome().device == "cpu"
