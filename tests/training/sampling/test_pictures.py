from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.config import CropPolicy
from training.data.samples import Sample
from training.errors import DataError
from training.sampling.pictures import Pictures, Shelf

POLICY = CropPolicy(size=32, stride=24, max_side=64)


def write(folder: Path, count: int, size: tuple[int, int] = (48, 40)) -> list[Sample]:
    samples = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.new("RGB", size, (number, 0, 0)).save(path)
        samples.append(Sample("A", path, path.name, 0.5))
    return samples


def test_pictures_have_the_size_that_the_windows_see_and_the_whole_image(tmp_path: Path) -> None:
    (sample,) = write(tmp_path, 1, (200, 100))
    picture = Pictures(POLICY, (1.0, 1.5))[sample.path]
    assert picture.pixels.shape == (32, 64, 3)
    assert [whole.shape for whole in picture.wholes] == [(3, 32, 32), (3, 48, 48)]
    assert picture.size == 32 * 64 * 3 + 3 * 32 * 32 + 3 * 48 * 48


def test_memory_holds_no_more_than_the_limit_and_the_rest_is_still_read(tmp_path: Path) -> None:
    samples = write(tmp_path, 5)
    one = 48 * 40 * 3
    pictures = Pictures(POLICY, (), limit=3 * one)
    pictures.warm(samples)
    assert len(pictures) == 3
    for number, sample in enumerate(samples):
        assert pictures[sample.path].pixels[0, 0, 0] == number
    assert len(pictures) == 3


def test_a_kept_picture_is_not_decoded_again(tmp_path: Path) -> None:
    (sample,) = write(tmp_path, 1)
    pictures = Pictures(POLICY)
    first = pictures[sample.path]
    sample.path.unlink()
    assert pictures[sample.path] is first


def test_an_unreadable_image_is_named_with_the_command_that_finds_all(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 nothing")
    with pytest.raises(DataError, match=r"broken\.jpg can't be read .*agiqa data check"):
        Pictures(POLICY)[path]
    with pytest.raises(DataError, match=r"absent\.jpg can't be read"):
        Pictures(POLICY)[tmp_path / "absent.jpg"]


def test_runs_that_look_alike_share_their_pictures() -> None:
    shelf = Shelf()
    first = shelf.pictures(POLICY, (1.0,), 100)
    assert shelf.pictures(POLICY, (1.0,), 100) is first
    assert shelf.pictures(POLICY, (), 100) is first  # looks at less
    assert shelf.pictures(POLICY, (1.0, 1.3), 100) is not first
    assert shelf.pictures(CropPolicy(size=16), (1.0,), 100) is not first
    rounds = [shelf.pictures(CropPolicy.random(32, seed=seed), (), 100) for seed in range(3)]
    assert rounds[1] is rounds[2] is rounds[0]  # windows alone differ


def test_what_several_threads_read_at_once_is_kept_once(tmp_path: Path) -> None:
    samples = write(tmp_path, 4)
    pictures = Pictures(POLICY, ())
    pictures.warm(samples * 3)
    assert len(pictures) == 4
    assert all(isinstance(pictures[s.path].pixels, np.ndarray) for s in samples)
