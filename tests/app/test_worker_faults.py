"""What the worker makes of errors and of results that are no numbers: a scorer that computes, until
the test has it fail.
"""

import math
import mmap
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import model
from app.batching.errors import BadField, InferenceFailed
from app.batching.jobs import Fault
from app.device.arena import Arena
from app.device.messages import BatchFailed, Done, Piece, Run, WorkerSettings
from app.device.prompts import in_steps, prompt_bytes
from app.worker import DeviceLost, Worker, start_failure
from model.errors import CheckpointError
from model.preprocess.crops import Layout
from model.scorer import Scorer
from model.scores import Score
from tests.model import tiny

FRUITLESS = 8


class Faulty:
    """A scorer whose verbs the test replaces; otherwise as the real one."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.device = scorer.device
        self.forward: Callable[..., np.ndarray] = scorer.forward
        self.embed: Callable[..., torch.Tensor] = scorer.embed
        self.reduce: Callable[..., Score] = scorer.reduce

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)


class Desk:
    """A worker with one such scorer, and images in its shared memory."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = Faulty(scorer)
        self.arena = Arena(16 * 2**20)
        self.steps: list[float] = []
        settings = WorkerSettings(("x",), "cpu", "float32", None, self.arena.size, "info", "text")
        self.worker = Worker(
            settings,
            mmap.mmap(self.arena.fd, self.arena.size),
            step=self.steps.append,
            load=lambda *_, **__: [cast(Scorer, self.scorer)],
        )
        (self.model,) = self.worker.ready().models

    def piece(self, prompt: str | None = None, seed: int = 0, **changes: Any) -> Piece:
        image = tiny.picture(300, 260, seed=seed)
        heads = ("quality", "consistency") if prompt else ("quality",)
        layout: Layout = self.scorer.planner.plan(*image.size, heads, prompt)
        crops = self.scorer.planner.cut(image, layout)
        slot = self.arena.allocate(crops.nbytes)
        assert slot is not None
        self.arena.crops(slot, crops.shape)[:] = crops
        return replace(Piece(slot, layout, prompt, 0, layout.rows, completes=True), **changes)

    def answer(self, *pieces: Piece) -> Done | BatchFailed:
        return self.worker.answer(Run(0, self.model.key, pieces))

    def results(self, *pieces: Piece) -> list[Any]:
        done = self.answer(*pieces)
        assert isinstance(done, Done), done
        return list(done.outcome.results)


@pytest.fixture(scope="module")
def scorer(bundled: Path) -> Scorer:
    return model.load(str(bundled), device="cpu", dtype="float32")


@pytest.fixture
def desk(scorer: Scorer) -> Iterator[Desk]:
    desk = Desk(scorer)
    yield desk
    desk.arena.close()


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


def too_large(*_: object) -> Any:
    return torch.empty(1 << 60, dtype=torch.uint8).numpy()


def as_noise_too(desk: Desk, verb: Callable[..., Any]) -> None:
    """Whatever the worker computes fails: images, and the noise it tries itself out with."""
    desk.scorer.forward = verb


def test_what_the_cpu_allocator_refuses_is_a_lack_of_memory(desk: Desk) -> None:
    desk.scorer.forward = too_large
    answer = desk.answer(desk.piece())
    assert isinstance(answer, BatchFailed)
    assert answer.fault is Fault.OUT_OF_MEMORY


@pytest.mark.parametrize("verb", ["embed", "reduce"])
def test_a_lack_of_memory_for_the_prompts_is_one_too(verb: str, desk: Desk) -> None:
    setattr(desk.scorer, verb, too_large)
    desk.scorer.reduce = too_large  # which embeds again
    answer = desk.answer(desk.piece("a fox"))
    assert isinstance(answer, BatchFailed)
    assert answer.fault is Fault.OUT_OF_MEMORY


@pytest.mark.parametrize("verb", ["forward", "embed", "reduce"])
def test_an_error_that_outlasts_the_batch_ends_the_worker(verb: str, desk: Desk) -> None:
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    setattr(desk.scorer, verb, raising(error))
    with pytest.raises(DeviceLost, match="illegal memory access"):
        desk.answer(desk.piece("a fox"))


def test_a_device_that_fails_its_trial_after_an_error_ends_the_worker(desk: Desk) -> None:
    error = torch.AcceleratorError("CUDA error: unknown error")
    desk.scorer.forward = raising(error)
    answer = desk.answer(desk.piece())  # the CPU computes the trial
    assert isinstance(answer, BatchFailed)
    assert answer.fault is Fault.INFERENCE
    desk.scorer.device = torch.device("meta")  # computes nothing
    with pytest.raises(DeviceLost, match="unknown error"):
        desk.answer(desk.piece())


def test_many_failures_in_a_row_end_a_worker_that_can_not_compute_noise_either(desk: Desk) -> None:
    as_noise_too(desk, raising(RuntimeError("no kernel for this")))
    piece = desk.piece()
    for _ in range(FRUITLESS - 1):
        assert isinstance(desk.answer(piece), BatchFailed)
    with pytest.raises(DeviceLost, match="no kernel for this"):
        desk.answer(piece)


def test_many_images_in_a_row_that_fail_do_not_end_a_worker_that_computes_noise(
    desk: Desk,
) -> None:
    desk.scorer.reduce = raising(RuntimeError("an odd image"))
    piece = desk.piece()
    for _ in range(3 * FRUITLESS):
        assert isinstance(desk.results(piece)[0], InferenceFailed)


def test_a_device_that_gives_no_numbers_any_more_ends_the_worker(desk: Desk) -> None:
    rows = desk.scorer.forward
    as_noise_too(desk, lambda *a: np.full_like(rows(*a), math.nan))
    piece = desk.piece()
    for _ in range(FRUITLESS - 1):
        assert isinstance(desk.results(piece)[0], InferenceFailed)
    with pytest.raises(DeviceLost, match="not a number"):
        desk.answer(piece)


def test_only_the_image_whose_rows_are_no_numbers_fails(desk: Desk) -> None:
    pieces = [desk.piece(seed=i) for i in range(3)]
    own = pieces[0].layout.rows
    rows = desk.scorer.forward

    def broken(*arguments: Any) -> np.ndarray:
        result = rows(*arguments)
        result[own] = math.inf  # the first row of the second image
        return result

    desk.scorer.forward = broken
    first, second, third = desk.results(*pieces)
    assert isinstance(second, InferenceFailed)
    assert isinstance(first, Score)
    assert isinstance(third, Score)


def test_a_slice_whose_rows_are_no_numbers_fails_before_its_image_is_complete(desk: Desk) -> None:
    rows = desk.scorer.forward
    part = desk.piece(stop=1, completes=False)
    desk.scorer.forward = lambda *a: np.full_like(rows(*a), math.nan)
    assert isinstance(desk.results(part)[0], InferenceFailed)


BROKEN_SCORES = {
    "quality": Score(1, quality=math.nan),
    "alignment": Score(1, quality=0.5, alignment=math.inf),
    "scene": Score(1, quality=0.5, scene={"animal": math.nan}),
    "attributes": Score(1, quality=0.5, attributes={"bright": math.nan}),
    "crops": Score(1, quality=0.5, crop_quality=(0.5, math.nan)),
}


@pytest.mark.parametrize("score", BROKEN_SCORES.values(), ids=BROKEN_SCORES)
def test_a_score_that_is_no_number_is_a_failure(score: Score, desk: Desk) -> None:
    desk.scorer.reduce = lambda *_: score
    assert isinstance(desk.results(desk.piece())[0], InferenceFailed)


def test_a_model_whose_warm_up_gives_no_numbers_is_never_ready(desk: Desk) -> None:
    rows = desk.scorer.forward
    desk.scorer.forward = lambda *a: np.full_like(rows(*a), math.nan)
    with pytest.raises(CheckpointError) as refusal:
        desk.worker.ready()
    message = start_failure(refusal.value).message
    assert "not a number" in message
    assert desk.scorer.config.name in message


def test_one_whose_text_features_are_no_numbers_is_not_either(desk: Desk) -> None:
    desk.scorer.embed = lambda prompts: torch.full((len(prompts), 4), math.nan)
    with pytest.raises(CheckpointError, match="text features"):
        desk.worker.ready()


def test_prompts_are_embedded_in_steps_that_say_how_long_they_should_take(desk: Desk) -> None:
    long, short = "landscape " * 380, "a hen"
    desk.results(
        *(desk.piece(prompt, seed=i) for i, prompt in enumerate([long, short, long + "."]))
    )
    assert len(desk.steps) == 2
    assert all(seconds > 0 for seconds in desk.steps)


def test_only_the_image_whose_prompt_is_too_long_is_refused(desk: Desk) -> None:
    long = "x " * 513
    done = desk.answer(desk.piece("a fox"), desk.piece(long, seed=1), desk.piece("a hen", seed=2))
    assert isinstance(done, Done)
    first, second, third = pickle.loads(pickle.dumps(done)).outcome.results
    assert isinstance(first, Score)
    assert isinstance(third, Score)
    assert isinstance(second, BadField)
    assert second.detail == (
        "The prompt has 513 tokens (words and parts of words), 512 at most; shorten it."
    )
    assert done.outcome.cached_prompts + done.outcome.new_prompts == 2
    assert done.outcome.prompt_bytes == 2 * prompt_bytes("a fox")


def test_an_image_whose_prompt_is_too_long_ends_with_its_first_slice(desk: Desk) -> None:
    part = desk.piece("x " * 513, stop=1, completes=False)
    assert isinstance(desk.results(part)[0], BadField)


def test_a_prompt_that_no_head_reads_may_be_of_any_length(desk: Desk) -> None:
    piece = replace(desk.piece(), prompt="x " * 513)
    assert isinstance(desk.results(piece)[0], Score)


def test_many_refused_prompts_in_a_row_say_nothing_about_the_device(desk: Desk) -> None:
    piece = desk.piece("x " * 513)
    rows, calls = desk.scorer.forward, []

    def counted(*arguments: Any) -> np.ndarray:
        calls.append(arguments)
        return rows(*arguments)

    desk.scorer.forward = counted
    for _ in range(2 * FRUITLESS):
        assert isinstance(desk.results(piece)[0], BadField)
    assert len(calls) == 2 * FRUITLESS  # the worker did not try itself out


def test_steps_hold_some_kilobytes_or_one_prompt() -> None:
    prompts = ["a" * 3000, "b" * 1000, "c" * 1000, "d" * 9000, "e"]
    parts = list(in_steps(prompts))
    assert [prompt for part in parts for prompt in part] == prompts
    assert [len(part) for part in parts] == [2, 1, 1, 1]
    assert list(in_steps([])) == []
