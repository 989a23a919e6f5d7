"""Many images through one scorer: what the pipeline gives is what the scorer gives."""

import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import model
from model.config import CropPolicy, Head
from model.decoding.cropping import crop_here
from model.decoding.decoder import DecodeLimits
from model.errors import ImageError, InferenceError, UnreadableImage, UnsupportedImage
from model.methods.clip_iqa import ClipIqa, ClipIqaOptions
from model.pipeline import Pipeline, Room, RunEnded
from model.preprocess import images
from model.scorer import Scorer
from model.scores import Score
from tests.model import tiny
from tests.model.clip.test_resnet import resnet_clip

SIZES = ((300, 260), (224, 224), (500, 300), (90, 120), (300, 260), (640, 480))
BAD = 3
QUALITY: tuple[Head, ...] = ("quality",)
# Rounding of float32 sums, of scores in [0, 1].
CLOSE = 2e-6

File = tuple[Path, str | None]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return model.load("tiny-clip-agiqa", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[File]:
    """Images of several sizes, some with a prompt; the fourth is none."""
    folder = tmp_path_factory.mktemp("images")
    files: list[File] = []
    for number, size in enumerate(SIZES):
        file = folder / f"{number}.png"
        tiny.picture(*size, seed=number).save(file)
        files.append((file, f"picture {number}" if number % 3 else None))
    (folder / "bad.png").write_bytes(b"<svg/>")
    files.insert(BAD, (folder / "bad.png", "a drawing"))
    return files


class Watched:
    """A scorer that counts the rows of each call of the network, and fails as ``fails`` does."""

    def __init__(self, scorer: Scorer, fails: Callable[[int], None] = lambda rows: None) -> None:
        self._scorer = scorer
        self._fails = fails
        self.rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def forward(
        self, crops: np.ndarray, row_crop: Sequence[int], row_pass: Sequence[int]
    ) -> np.ndarray:
        self.rows.append(len(row_crop))
        self._fails(len(row_crop))
        return self._scorer.forward(crops, row_crop, row_pass)


def watched(scorer: Scorer, fails: Callable[[int], None] = lambda rows: None) -> Any:
    return Watched(scorer, fails)


def assert_as_the_scorer(
    results: Sequence[tuple[int, Score | Exception]],
    files: Sequence[File],
    scorer: Scorer,
    heads: Sequence[Head] | None = None,
) -> None:
    assert [number for number, _ in results] == list(range(len(files)))
    for (file, prompt), (_, result) in zip(files, results, strict=True):
        if file.name == "bad.png":
            assert isinstance(result, UnsupportedImage)
            continue
        assert isinstance(result, Score), result
        single = scorer.score(file, prompt, heads)
        assert result.crops == single.crops
        assert result.crop_quality == pytest.approx(single.crop_quality, abs=CLOSE)
        for head in ("quality", "alignment", "consistency"):
            value = getattr(single, head)
            expected = value if value is None else pytest.approx(value, abs=CLOSE)
            assert getattr(result, head) == expected


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_scores_are_those_of_the_scorer_in_the_order_of_the_files(
    scorer: Scorer, files: list[File], rows: int
) -> None:
    assert_as_the_scorer(list(Pipeline(scorer, rows=rows).score(files)), files, scorer)


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_calls_side_by_side_give_the_same_scores_in_the_same_order(
    scorer: Scorer, files: list[File], rows: int
) -> None:
    pipeline = Pipeline(scorer, rows=rows, side_by_side=3)
    assert_as_the_scorer(list(pipeline.score(files * 2)), files * 2, scorer)


def test_as_many_calls_are_computed_at_once_as_may_be(scorer: Scorer, files: list[File]) -> None:
    together = threading.Barrier(2, timeout=30)

    def wait(_: int) -> None:
        together.wait()

    network = watched(scorer, wait)
    two = [files[0]] * 2
    # A call that waited for the other one would break the barrier, and fail.
    results = list(Pipeline(network, rows=1000, side_by_side=2).score(two, QUALITY))
    assert_as_the_scorer(results, two, scorer, QUALITY)


def test_what_is_left_in_the_end_is_shared_out(scorer: Scorer, files: list[File]) -> None:
    network = watched(scorer)
    list(Pipeline(network, rows=1000, side_by_side=2).score([files[0]] * 4, QUALITY))
    each = scorer.plan(*SIZES[0], QUALITY).rows
    assert sorted(network.rows) == [each, each, 2 * each]


def test_images_whose_rows_are_larger_than_a_call_are_computed_alone(files: list[File]) -> None:
    """Several of them at once might not fit into the memory."""
    config = tiny.config_of(
        ClipIqaOptions(attributes=()),
        method="clip-iqa",
        heads=("quality",),
        crop_policy=CropPolicy.whole(),
    )
    iqa = ClipIqa(resnet_clip(), ClipIqaOptions(attributes=())).eval()
    whole = Scorer(config, iqa, device="cpu", dtype="float32")
    threads: set[threading.Thread] = set()
    network = watched(whole, lambda _: threads.add(threading.current_thread()))
    large = [(files[-1][0], None)] * 4
    assert whole.plan(*SIZES[-1], QUALITY).row_cost > 1
    results = list(Pipeline(network, rows=1, side_by_side=2).score(large, QUALITY))
    assert_as_the_scorer(results, large, whole, QUALITY)
    assert threads == {threading.current_thread()}


def test_the_rows_of_an_image_can_be_reduced_with_another_prompt(
    scorer: Scorer, files: list[File]
) -> None:
    ((_, computed),) = Pipeline(scorer).compute(files[1:2])
    assert not isinstance(computed, Exception)
    for prompt in ("picture 1", "a cat"):
        reduced = scorer.reduce(computed.rows, computed.layout, prompt).consistency
        single = scorer.score(files[1][0], prompt).consistency
        assert reduced == pytest.approx(single, abs=CLOSE)


def test_heads_that_were_not_chosen_are_not_computed(scorer: Scorer, files: list[File]) -> None:
    network = watched(scorer)
    results = list(Pipeline(network, rows=1000).score(files, QUALITY))
    assert_as_the_scorer(results, files, scorer, QUALITY)
    assert sum(network.rows) == sum(scorer.plan(*size, QUALITY).cost for size in SIZES)


def test_rows_of_several_images_share_a_call_up_to_the_budget(
    scorer: Scorer, files: list[File]
) -> None:
    good = [(file, prompt) for file, prompt in files if file.name != "bad.png"] * 3
    network = watched(scorer)
    assert len(list(Pipeline(network, rows=60).score(good))) == len(good)
    assert max(network.rows) <= 60
    assert len(network.rows) < len(good)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ..."),
        MemoryError(),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate ..."),
    ],
    ids=["cuda", "python", "mps", "cpu"],
)
def test_a_network_that_runs_out_of_memory_gets_less_at_once(
    error: Exception, scorer: Scorer, files: list[File]
) -> None:
    def short_of_memory(rows: int) -> None:
        if rows > 5:
            raise error

    network = watched(scorer, short_of_memory)
    results = list(Pipeline(network, rows=64, side_by_side=1).score(files))
    assert_as_the_scorer(results, files, scorer)
    # What was learned once holds for the images to come: 64, 32, 16, 8, and never again over 5.
    assert sum(rows > 5 for rows in network.rows) <= 4


@pytest.mark.parametrize("error", [RuntimeError("no kernel for this"), MemoryError()])
def test_an_image_that_the_network_fails_on_is_found_among_the_others(
    error: Exception, scorer: Scorer, files: list[File]
) -> None:
    most = scorer.plan(*SIZES[-1], QUALITY).rows if isinstance(error, RuntimeError) else 1
    good = [file for file in files if file[0].name != "bad.png"]

    def breaks(rows: int) -> None:
        if rows >= most:
            raise error

    results = list(Pipeline(watched(scorer, breaks), rows=1000).score(good, QUALITY))
    (_, last) = results[-1]
    assert isinstance(last, InferenceError)
    assert last.__cause__ is error
    if isinstance(error, RuntimeError):
        assert_as_the_scorer(results[:-1], good[:-1], scorer, QUALITY)
    else:  # a network without memory for a single row
        assert all(isinstance(result, InferenceError) for _, result in results)


def test_what_an_image_lacks_is_its_result(scorer: Scorer, files: list[File]) -> None:
    unprompted, gone = (files[0][0], None), (Path("gone.png"), "a cat")
    both = Pipeline(scorer).score([unprompted, gone], ("quality", "consistency"))
    (_, first), (_, second) = both
    assert isinstance(first, ValueError)
    assert "needs the prompt" in str(first)
    assert isinstance(second, FileNotFoundError)


def test_no_files_give_no_scores(scorer: Scorer) -> None:
    assert list(Pipeline(scorer).score([])) == []


def test_images_larger_than_the_room_pass_one_after_another(
    scorer: Scorer, files: list[File]
) -> None:
    narrow = Pipeline(scorer, threads=3, ahead_bytes=1)
    assert_as_the_scorer(list(narrow.score(files * 2)), files * 2, scorer)


def test_decoding_in_processes_gives_the_same_scores(scorer: Scorer, files: list[File]) -> None:
    apart = Pipeline(scorer, threads=2, limits=DecodeLimits(cpu_seconds=60))
    assert_as_the_scorer(list(apart.score(files)), files, scorer)


def test_an_image_that_costs_more_than_it_may_is_one_row_and_the_run_goes_on(
    scorer: Scorer, files: list[File], tmp_path: Path
) -> None:
    tiny.picture(4000, 3000).save(tmp_path / "large.png")
    mixed = [files[0], (tmp_path / "large.png", None), files[1]]
    limits = DecodeLimits(cpu_seconds=60, memory=1)  # beside what is for cutting windows
    (_, first), (_, large), (_, last) = Pipeline(scorer, threads=2, limits=limits).score(mixed)
    assert isinstance(first, Score)
    assert isinstance(large, UnreadableImage)
    assert isinstance(last, Score)


def test_a_decoder_s_bug_costs_its_image_alone(
    scorer: Scorer, files: list[File], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise struct.error("required argument is not an integer")

    with monkeypatch.context() as patch:
        patch.setattr(images, "decode", bug)
        results = list(Pipeline(scorer).score(files))
    assert [number for number, _ in results] == list(range(len(files)))
    assert all(isinstance(result, ImageError) for _, result in results)


def test_leaving_early_stops_the_threads(scorer: Scorer, files: list[File]) -> None:
    before = set(threading.enumerate())
    results = Pipeline(scorer, threads=2, rows=1, ahead_bytes=1).score(files * 20)
    next(results)
    started = set(threading.enumerate()) - before
    assert started
    results.close()
    for thread in started:
        thread.join(30)
        assert not thread.is_alive()


def test_room_bounds_what_is_ahead_but_lets_the_next_one_in() -> None:
    room = Room(10)
    room.enter(0, 50)
    entered = threading.Event()

    def enter() -> None:
        room.enter(2, 5)
        entered.set()

    later = threading.Thread(target=enter)
    later.start()
    assert not entered.wait(0.05)
    room.leave(0)
    room.enter(1, 50)
    assert not entered.is_set()
    room.leave(1)
    later.join(30)
    assert entered.is_set()


def test_a_closed_room_lets_nobody_wait() -> None:
    room = Room(10)
    room.enter(0, 10)
    ended: list[str] = []

    def wait() -> None:
        with pytest.raises(RunEnded):
            room.enter(5, 10)
        ended.append("ended")

    waiting = threading.Thread(target=wait)
    waiting.start()
    room.close()
    waiting.join(30)
    assert ended == ["ended"]


def test_an_image_that_nobody_waits_for_any_more_is_no_fault(
    scorer: Scorer, files: list[File], caplog: pytest.LogCaptureFixture
) -> None:
    room = Room(10)
    room.close()
    decoded = Pipeline(scorer)._decode(0, *files[0], QUALITY, room, crop_here)
    assert isinstance(decoded, RunEnded)
    assert not caplog.records
