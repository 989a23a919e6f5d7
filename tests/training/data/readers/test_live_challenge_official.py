from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tests.training.miniature import write_live_challenge
from tests.training.photograph_sets import write_live_challenge_release
from training.data import datasets
from training.data.readers import live_challenge
from training.errors import DataError


def test_the_seven_training_images_are_dropped_with_their_scores(tmp_path: Path) -> None:
    samples = live_challenge.annotations(write_live_challenge_release(tmp_path, images=0))
    assert len(samples) == 1162
    assert samples[0].path == tmp_path / "Images" / "1.bmp"
    scores = loadmat(tmp_path / "Data" / "AllMOS_release.mat")["AllMOS_release"][0, 7:]
    assert [s.mos for s in samples] == pytest.approx(list(scores / 100))
    assert len({s.group for s in samples}) == 1162


def test_the_release_is_the_same_set_as_the_folder_with_labels(tmp_path: Path) -> None:
    release = datasets.read(write_live_challenge_release(tmp_path / "a", images=5))
    labelled = datasets.read(write_live_challenge(tmp_path / "b", images=3))
    assert len(release) == 5
    assert {s.dataset for s in [*release, *labelled]} == {"LIVE-Challenge"}


def test_labels_go_before_the_release_where_both_are_there(tmp_path: Path) -> None:
    write_live_challenge_release(tmp_path, images=2)
    write_live_challenge(tmp_path, images=3)
    assert all(s.scenes for s in datasets.read(tmp_path))


def test_the_case_of_an_ending_may_change(tmp_path: Path) -> None:
    write_live_challenge_release(tmp_path, images=3)
    first = tmp_path / "Images" / "1.bmp"
    first.rename(first.with_suffix(".BMP"))
    assert len(datasets.read(tmp_path)) == 3


def test_another_number_of_images_is_refused(tmp_path: Path) -> None:
    write_live_challenge_release(tmp_path, images=0)
    savemat(tmp_path / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.full((1, 1162), 50.0)})
    with pytest.raises(DataError, match="1169 images and 1162 scores, not 1169 each: take"):
        live_challenge.annotations(tmp_path)


@pytest.mark.parametrize("name", ["AllImages_release.mat", "AllMOS_release.mat"])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    file = write_live_challenge_release(tmp_path, images=0) / "Data" / name
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=f"{name} can't be read"):
        live_challenge.annotations(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=f"has no {name}"):
        live_challenge.annotations(tmp_path)


def test_a_folder_without_either_layout_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no labels\.csv"):
        live_challenge.annotations(tmp_path)
