from pathlib import Path, PurePosixPath

import pytest

from model.methods.vocabulary import DISTORTIONS, SCENES
from tests.training.photograph_sets import write_bid, write_liqe_labels, write_live
from training.data.readers import bid, labels, live
from training.data.readers.liqe_labels import (
    Labels,
    key_of,
    read_labels,
    read_parts,
    with_labels,
    with_parts,
)
from training.errors import DataError

PHOTOGRAPHS = [
    ("ImageDatabase/DatabaseImage0001.JPG", "realistic blur", ("human", "night")),
    ("ImageDatabase/DatabaseImage0002.JPG", "other realistic", ("still_life",)),
    ("ImageDatabase/DatabaseImage0003.JPG", "overexposure", ("indoor", "plant", "others")),
    ("ImageDatabase/DatabaseImage0004.JPG", "realistic noise", ("animal",)),
    ("ImageDatabase/DatabaseImage0005.JPG", "underexposure", ("landscape",)),
]
# As LIQE's files have it: fastfading/img1 and wn/img1 show different references.
LIVE = [
    ("wn/img1.bmp", "white noise", ("animal", "plant")),
    ("jpeg/img1.bmp", "jpeg compression", ("human",)),
    ("fastfading/img1.bmp", "white noise", ("animal", "plant")),
    ("jp2k/img1.bmp", "jpeg2000 compression", ("landscape",)),
    ("gblur/img1.bmp", "gaussian blur", ("cityscape",)),
]


def test_labels_are_read_under_the_names_of_mp_iqe(tmp_path: Path) -> None:
    found = read_labels(write_liqe_labels(tmp_path, "BID", PHOTOGRAPHS))
    assert found["databaseimage0001.jpg"] == Labels(("human", "night scene"), "blur")
    assert found["databaseimage0002.jpg"] == Labels(("still-life",), "others")
    assert found["databaseimage0003.jpg"].scenes == ("indoor scene", "plant", "others")
    assert [label.distortion for label in found.values()] == [
        "under-exposure",
        "blur",
        "others",
        "over-exposure",
        "noise",
    ]


def test_labels_join_a_set_by_file_name_wherever_its_images_lie(tmp_path: Path) -> None:
    folder = write_liqe_labels(tmp_path, "BID", PHOTOGRAPHS)
    samples = with_labels(bid.annotations(write_bid(tmp_path / "flat", images=0)), folder)
    assert len(samples) == 586
    assert samples[3].scenes == ("animal",)
    assert samples[3].distortion == "noise"
    assert [bool(s.scenes) for s in samples] == [True] * 5 + [False] * 581


def test_images_of_live_go_by_folder_and_name(tmp_path: Path) -> None:
    found = read_labels(write_liqe_labels(tmp_path, "databaserelease2", LIVE))
    assert found["jpeg/img1.bmp"] == Labels(("human",), "JPEG compression")
    assert found["jp2k/img1.bmp"] == Labels(("landscape",), "JPEG2000 compression")


def test_fast_fading_is_no_noise_and_shows_what_its_reference_shows(tmp_path: Path) -> None:
    samples = live.annotations(write_live(tmp_path / "live", images=0))
    by_key = {key_of(sample.path): sample for sample in samples}
    faded = by_key["fastfading/img1.bmp"]
    sibling = next(s for s in samples if s.group == faded.group and s.path.parent.name == "jpeg")
    rows = [*LIVE, (f"jpeg/{sibling.path.name}", "jpeg compression", ("night", "cityscape"))]
    folder = write_liqe_labels(tmp_path, "databaserelease2", rows)
    assert "fastfading/img1.bmp" not in read_labels(folder)
    labelled = {key_of(sample.path): sample for sample in with_labels(samples, folder)}
    assert labelled["fastfading/img1.bmp"].distortion == "JPEG2000 compression"
    assert labelled["fastfading/img1.bmp"].scenes == ("night scene", "cityscape")
    assert labelled["wn/img1.bmp"].distortion == "noise"
    assert labelled["wn/img1.bmp"].scenes == ("animal", "plant")


def test_a_distortion_that_the_set_itself_tells_stays(tmp_path: Path) -> None:
    samples = live.annotations(write_live(tmp_path / "live", images=0))
    rows = [("wn/img1.bmp", "gaussian blur", ("human",))]
    labelled = with_labels(samples, write_liqe_labels(tmp_path, "databaserelease2", rows))
    assert [s.distortion for s in labelled] == [s.distortion for s in samples]


def test_scenes_on_which_a_group_disagrees_are_not_inherited(tmp_path: Path) -> None:
    samples = live.annotations(write_live(tmp_path / "live", images=0))
    group = [s for s in samples if s.group == samples[0].group][:3]
    keys = [key_of(sample.path) for sample in group]
    rows = [(keys[0], "white noise", ("human",)), (keys[1], "white noise", ("animal",))]
    labelled = with_labels(group, write_liqe_labels(tmp_path, "databaserelease2", rows))
    assert [s.scenes for s in labelled] == [("human",), ("animal",), ()]


def test_all_distortions_of_the_label_files_have_a_name() -> None:
    liqe = [
        *("jpeg2000 compression", "jpeg compression", "white noise", "gaussian blur"),
        *("fastfading", "fnoise", "contrast", "lens", "motion", "diffusion", "shifting"),
        *("color quantization", "oversaturation", "desaturation", "white with color", "impulse"),
        *("multiplicative", "white noise with denoise", "brighten", "darken"),
        *("shifting the mean", "jitter", "noneccentricity patch", "pixelate", "quantization"),
        *("color blocking", "sharpness", "realistic blur", "realistic noise", "underexposure"),
        *("overexposure", "realistic contrast change", "other realistic"),
    ]
    assert len(liqe) == 33
    assert {labels.distortion_named(name) for name in liqe} == set(DISTORTIONS)
    assert [labels.scene_named(name) for name in SCENES] == list(SCENES)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a.jpg", "fog", ("human",)), "line 1: unknown distortion 'fog'"),
        (("a.jpg", "contrast", ("sea",)), "line 1: unknown scene 'sea'"),
        (("a.jpg\tb", "contrast", ("human",)), "line 1 has 7 fields between tabs, not 6"),
    ],
    ids=["distortion", "scene", "fields"],
)
def test_an_unknown_label_is_named_with_its_line(
    tmp_path: Path, row: tuple[str, str, tuple[str, ...]], message: str
) -> None:
    folder = write_liqe_labels(tmp_path, "BID", [row])
    with pytest.raises(DataError, match=f"bid_train_clip.txt {message}"):
        read_labels(folder)


def test_a_split_tells_the_part_of_each_image(tmp_path: Path) -> None:
    write_liqe_labels(tmp_path, "BID", PHOTOGRAPHS, split=1)
    folder = write_liqe_labels(tmp_path, "BID", PHOTOGRAPHS[::-1], split=10)
    names = [key_of(PurePosixPath(path)) for path, _, _ in PHOTOGRAPHS]
    parts = ["train", "train", "train", "validation", "test"]
    assert read_parts(folder, 1) == dict(zip(names, parts, strict=True))
    assert read_parts(folder, 10) == dict(zip(names[::-1], parts, strict=True))
    with pytest.raises(DataError, match=r"has no 2/\*_train_clip\.txt"):
        read_parts(folder, 2)


def test_a_split_leaves_out_the_images_that_it_lacks(tmp_path: Path) -> None:
    folder = write_liqe_labels(tmp_path, "BID", PHOTOGRAPHS)
    samples = with_parts(bid.annotations(write_bid(tmp_path / "bid", images=0)), folder, 1)
    assert [s.part for s in samples] == ["train", "train", "train", "validation", "test"]


def test_fast_fading_has_its_part_though_not_its_labels(tmp_path: Path) -> None:
    folder = write_liqe_labels(tmp_path, "databaserelease2", LIVE)
    assert read_parts(folder, 1)["fastfading/img1.bmp"] == "train"


def test_labels_of_another_set_are_refused(tmp_path: Path) -> None:
    folder = write_liqe_labels(tmp_path, "BID", PHOTOGRAPHS)
    samples = live.annotations(write_live(tmp_path / "live", images=0))
    with pytest.raises(DataError, match="has 5 images, but none of the 779 of LIVE"):
        with_labels(samples, folder)
    with pytest.raises(DataError, match="has 5 images, but none of the 779 of LIVE"):
        with_parts(samples, folder, 1)


def test_a_folder_without_label_files_is_told_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \*_clip\.txt: take IQA_Database"):
        read_labels(tmp_path)
