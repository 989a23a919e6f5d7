"""The worker's own code with several models, and with rows of unlike shape."""

import dataclasses
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import model
from app.batching.jobs import Job, Slice
from app.device.arena import Arena, Slot
from app.device.messages import Done, Piece, Ready, Run, WorkerSettings
from app.worker import Worker, start_failure
from model.errors import ModelError
from model.preprocess.crops import CropPlanner
from model.scorer import Scorer
from model.scores import Score
from tests.app import miniatures
from tests.model import tiny

CLOSE = 1e-5


def settings(*models: Path, arena_bytes: int = 4096) -> WorkerSettings:
    names = tuple(map(str, models))
    return WorkerSettings(names, "cpu", "float32", None, arena_bytes, "warning", "text")


class Desk:
    """A worker with all the models, its shared memory, and the bare scorers to compare with."""

    def __init__(self, folders: list[Path]) -> None:
        self.arena = Arena(16 * 2**20)
        segment = mmap.mmap(self.arena.fd, self.arena.size)
        self.worker = Worker(settings(*folders, arena_bytes=self.arena.size), segment)
        self.ready: Ready = self.worker.ready()
        self.keys = {m.config.name: m.key for m in self.ready.models}
        self.planners = {m.config.name: CropPlanner(m.config, m.policy) for m in self.ready.models}
        self.bare = {f.name: model.load(str(f), device="cpu", dtype="float32") for f in folders}

    def piece(self, name: str, image: Image.Image) -> Piece:
        layout = self.planners[name].plan(*image.size, ("quality",))
        crops = self.planners[name].cut(image, layout)
        slot = self.arena.allocate(crops.nbytes)
        assert slot
        self.arena.crops(slot, crops.shape)[:] = crops
        return Piece(slot, layout, None, 0, layout.rows, completes=True)

    def run(self, name: str, *pieces: Piece) -> list[Score]:
        done = self.worker.answer(Run(0, self.keys[name], pieces))
        assert isinstance(done, Done), done
        assert all(isinstance(result, Score) for result in done.outcome.results)
        return list(done.outcome.results)


@pytest.fixture(scope="module")
def desk(hub_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("models")
    desk = Desk(
        [
            miniatures.photograph_model(folder / "photo"),
            miniatures.generated_image_model(folder / "generated"),
            miniatures.whole_image_model(folder / "whole"),
        ]
    )
    yield desk
    desk.arena.close()


def test_every_model_is_warmed_up_and_timed_under_its_name(desk: Desk) -> None:
    assert [m.config.name for m in desk.ready.models] == ["photo", "generated", "whole"]
    assert set(desk.ready.timings) == {"photo", "generated", "whole"}
    for timings in desk.ready.timings.values():
        assert [rows for rows, _ in timings] == [1, 5, 5]
        assert all(seconds > 0 for _, seconds in timings)


def test_models_whose_crops_lie_side_by_side_each_give_their_own_scores(desk: Desk) -> None:
    images = [tiny.picture(512, 300, seed=i) for i in range(2)]
    names = ["photo", "generated", "whole"]
    pieces = {(n, i): desk.piece(n, image) for i, image in enumerate(images) for n in names}
    for (name, i), piece in pieces.items():
        (score,) = desk.run(name, piece)
        alone = desk.bare[name].score(images[i], heads=["quality"])
        assert score.quality == pytest.approx(alone.quality, abs=CLOSE)
    scores = {n: desk.run(n, pieces[n, 0])[0].quality for n in names}
    assert len(set(scores.values())) == 3


def test_scenes_distortions_and_attributes_come_back_from_the_methods_that_have_them(
    desk: Desk,
) -> None:
    image = tiny.picture(300, 260)
    photo, generated, whole = (
        desk.run(name, desk.piece(name, image))[0] for name in ("photo", "generated", "whole")
    )
    assert photo.scene == pytest.approx(desk.bare["photo"].score(image).scene, abs=CLOSE)
    assert photo.distortion is not None
    assert sum(photo.distortion.values()) == pytest.approx(1, abs=1e-4)
    assert photo.attributes is None
    assert (generated.scene, generated.distortion, generated.attributes) == (None, None, None)
    assert whole.attributes == pytest.approx(desk.bare["whole"].score(image).attributes, abs=CLOSE)


@pytest.mark.parametrize(
    "size", [(224, 224), (300, 260), (260, 300), (900, 300)], ids=lambda s: f"{s[0]}x{s[1]}"
)
def test_a_whole_image_is_read_in_its_own_shape(desk: Desk, size: tuple[int, int]) -> None:
    image = tiny.picture(*size)
    piece = desk.piece("whole", image)
    assert piece.layout.shape == (size[1], size[0]) or max(size) > 640
    (score,) = desk.run("whole", piece)
    assert score.quality == pytest.approx(desk.bare["whole"].score(image).quality, abs=CLOSE)


def test_whole_images_of_one_shape_share_a_batch(desk: Desk) -> None:
    images = [tiny.picture(300, 260, seed=i) for i in range(3)]
    together = desk.run("whole", *(desk.piece("whole", image) for image in images))
    alone = [desk.bare["whole"].score(image).quality for image in images]
    assert [score.quality for score in together] == pytest.approx(alone, abs=CLOSE)
    assert np.ptp(np.array(alone, float)) > 10 * CLOSE


def test_two_models_of_one_name_are_refused_at_start(tmp_path: Path, bundled: Path) -> None:
    first = miniatures.photograph_model(tmp_path / "one" / "same")
    other = miniatures.photograph_model(tmp_path / "two" / "same")
    with pytest.raises(ModelError, match="two of the models are named 'same'") as refusal:
        Worker(settings(bundled, first, other), mmap.mmap(-1, 4096))
    assert str(first) in str(refusal.value)
    assert str(other) in str(refusal.value)


def test_the_model_that_keeps_the_worker_from_starting_is_named(
    tmp_path: Path, bundled: Path
) -> None:
    broken = miniatures.photograph_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(
        (bundled / "model.safetensors").read_bytes()  # of another network
    )
    with pytest.raises(ModelError) as refusal:
        Worker(settings(bundled, broken), mmap.mmap(-1, 4096))
    assert f"while loading {broken}" in start_failure(refusal.value).message


def test_a_model_that_fails_its_warm_up_is_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(desk.worker._scorers[desk.keys["generated"]], "forward", no_memory)
    with pytest.raises(RuntimeError) as refusal:
        desk.worker.ready()
    assert start_failure(refusal.value).message == "no memory (while warming up generated)"


def test_a_slice_of_a_job_keeps_where_its_crops_lie_and_their_layout(desk: Desk) -> None:
    layout = desk.planners["photo"].plan(600, 400, ("quality",))
    whole = Piece(Slot(640, 640, 1), layout, None, 0, 5, completes=True)
    before = np.zeros((1, 2), np.float32)
    job = Job("m", 5, 9.0, whole, print, partial=[before])
    first, last = Piece.of(Slice(job, 0, 2)), Piece.of(Slice(job, 2, 5))
    assert first == dataclasses.replace(whole, stop=2, completes=False)
    assert last == dataclasses.replace(whole, start=2, before=(before,))


def test_the_service_s_limit_of_tokens_is_the_scorer_s(bundled: Path) -> None:
    limited = dataclasses.replace(settings(bundled), max_prompt_tokens=7)
    limits: list[int] = []

    def load(names: Sequence[str], **options: Any) -> list[Scorer]:
        scorers = Scorer.load_several(names, **options)
        limits.extend(scorer.max_prompt_tokens for scorer in scorers)
        return scorers

    Worker(limited, mmap.mmap(-1, 4096), load=load)
    assert limits == [7]
