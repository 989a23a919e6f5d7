from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tests.training.photograph_sets import LIVE_FOLDERS, write_live
from training.data import datasets
from training.data.readers import live
from training.errors import DataError


def test_undistorted_images_are_dropped_and_the_order_of_the_folders_tells_the_file(
    tmp_path: Path,
) -> None:
    samples = live.annotations(write_live(tmp_path, images=0))
    assert len(samples) == 779
    names = [f"{s.path.parent.name}/{s.path.name}" for s in samples]
    assert names == [
        f"{kind}/img{number}.bmp"
        for kind, (_, distorted) in LIVE_FOLDERS.items()
        for number in range(1, distorted + 1)
    ]


def test_a_low_dmos_is_a_good_score_and_none_is_clipped(tmp_path: Path) -> None:
    samples = live.annotations(write_live(tmp_path, images=0))
    stored = loadmat(tmp_path / "dmos_realigned.mat")
    dmos = stored["dmos_new"][stored["orgs"] == 0]
    assert dmos.min() < 0
    assert dmos.max() > 110
    assert [s.mos for s in samples] == pytest.approx(list((115 - dmos) / 120))
    assert len({s.mos for s in samples}) == 779


def test_a_reference_is_a_group_and_the_folder_tells_the_distortion(tmp_path: Path) -> None:
    samples = live.annotations(write_live(tmp_path, images=0))
    assert len({s.group for s in samples}) == 29
    assert samples[0].group == "reference01.bmp"
    assert {(s.path.parent.name, s.distortion) for s in samples} == {
        ("jp2k", "JPEG2000 compression"),
        ("jpeg", "JPEG compression"),
        ("wn", "noise"),
        ("gblur", "blur"),
        ("fastfading", "JPEG2000 compression"),
    }


def test_only_images_that_are_there_are_read_whatever_the_case_of_their_ending(
    tmp_path: Path,
) -> None:
    write_live(tmp_path, images=10)
    first = tmp_path / "jp2k" / "img1.bmp"
    first.rename(first.with_suffix(".BMP"))
    samples = datasets.read(tmp_path)
    assert len(samples) == 10
    assert {s.dataset for s in samples} == {"LIVE"}
    assert samples[0].path == first.with_suffix(".BMP")


def test_scores_of_another_number_of_images_are_refused(tmp_path: Path) -> None:
    write_live(tmp_path, images=0)
    stored = loadmat(tmp_path / "dmos_realigned.mat")
    savemat(
        tmp_path / "dmos_realigned.mat",
        {"dmos_new": stored["dmos_new"][:, :460], "orgs": stored["orgs"][:, :460]},
    )
    with pytest.raises(DataError, match=r"460, 460, 982 .* not 982 each: take"):
        live.annotations(tmp_path)


def test_another_number_of_undistorted_images_is_refused(tmp_path: Path) -> None:
    write_live(tmp_path, images=0)
    stored = loadmat(tmp_path / "dmos_realigned.mat")
    savemat(
        tmp_path / "dmos_realigned.mat",
        {"dmos_new": stored["dmos_new"], "orgs": np.zeros_like(stored["orgs"])},
    )
    with pytest.raises(DataError, match="LIVE has 779 images, but its table 982"):
        live.annotations(tmp_path)


def test_a_score_of_another_scale_names_its_row(tmp_path: Path) -> None:
    write_live(tmp_path, images=0)
    stored = loadmat(tmp_path / "dmos_realigned.mat")
    stored["dmos_new"][0, 2] = 400
    savemat(
        tmp_path / "dmos_realigned.mat", {"dmos_new": stored["dmos_new"], "orgs": stored["orgs"]}
    )
    with pytest.raises(
        DataError, match=r"dmos_realigned\.mat row 3, column dmos_new .*LIVE has .* not 400"
    ):
        live.annotations(tmp_path)


@pytest.mark.parametrize("name", ["dmos_realigned.mat", "refnames_all.mat"])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    file = write_live(tmp_path, images=0) / name
    content = file.read_bytes()
    for damaged in (b"", b"no MATLAB file", content[:200], content[: len(content) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{name} can't be read .*: take it"):
            live.annotations(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=f"has no {name}"):
        live.annotations(tmp_path)


def test_a_file_with_other_variables_is_refused(tmp_path: Path) -> None:
    write_live(tmp_path, images=0)
    savemat(tmp_path / "refnames_all.mat", {"names": np.zeros((1, 982))})
    with pytest.raises(DataError, match=r"refnames_all\.mat has no variable refnames_all"):
        live.annotations(tmp_path)


def test_a_file_with_text_in_place_of_numbers_is_refused(tmp_path: Path) -> None:
    write_live(tmp_path, images=0)
    savemat(tmp_path / "dmos_realigned.mat", {"dmos_new": "good", "orgs": np.zeros((1, 982))})
    with pytest.raises(DataError, match="lists 1, 982, 982 scores"):
        live.annotations(tmp_path)
