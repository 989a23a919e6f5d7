from pathlib import Path

import pytest

from model.methods.vocabulary import DISTORTIONS, SCENES
from tests.figures import LIVE_CHALLENGE
from tests.training.miniature import write_agiqa3k, write_live_challenge
from training.data import datasets
from training.data.readers import live_challenge
from training.errors import DataError


def test_scores_and_labels_are_read_under_the_names_of_mp_iqe(tmp_path: Path) -> None:
    samples = datasets.read(write_live_challenge(tmp_path, images=6))
    assert len(samples) == 6
    assert {s.dataset for s in samples} == {"LIVE-Challenge"}
    assert [s.scenes for s in samples[:3]] == [
        ("landscape",),
        ("human", "indoor scene"),
        ("still-life", "night scene", "others"),
    ]
    assert [s.distortion for s in samples[:3]] == ["blur", "others", "under-exposure"]
    assert all(0 <= s.mos <= 1 and s.mos_align is None and not s.source for s in samples)
    assert len({s.group for s in samples}) == 6


def test_an_unknown_label_is_named_with_its_row_and_column(tmp_path: Path) -> None:
    write_live_challenge(tmp_path, images=2)
    with (tmp_path / "labels.csv").open("a") as table:
        table.write("Images/0.JPG,50,fog,landscape\n")
    with pytest.raises(DataError, match=r"labels\.csv row 4, column distortion .*fog"):
        live_challenge.annotations(tmp_path)


def test_a_missing_column_and_missing_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,mos,scene\nx.jpg,3,human\n")
    with pytest.raises(DataError, match="distortion"):
        live_challenge.annotations(tmp_path)
    (tmp_path / "labels.csv").write_text("image,mos,distortion,scene\nx.jpg,3,,human\n")
    with pytest.raises(DataError, match="none of the 1 images"):
        datasets.read(tmp_path)


def test_a_folder_is_recognised_by_its_table(tmp_path: Path) -> None:
    photographs = datasets.read(write_live_challenge(tmp_path / "a", images=3))
    generated = datasets.read(write_agiqa3k(tmp_path / "b", prompts=1))
    assert {s.dataset for s in photographs} == {"LIVE-Challenge"}
    assert {s.dataset for s in generated} == {"AGIQA-3K"}
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match=r"data\.csv .*labels\.csv"):
        datasets.read(tmp_path / "c")


@pytest.mark.skipif(not LIVE_CHALLENGE.is_dir(), reason="LIVE-Challenge is not beside the checkout")
def test_the_real_folder_is_read_whole() -> None:
    samples = datasets.read(LIVE_CHALLENGE)
    assert len(samples) == 929
    assert {scene for s in samples for scene in s.scenes} == set(SCENES)
    assert {s.distortion for s in samples} < set(DISTORTIONS)
    assert max(len(s.scenes) for s in samples) == 3
