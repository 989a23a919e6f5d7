from pathlib import Path

import openpyxl
import pytest

from tests.training.generated_sets import TWICE, write_agiqa1k
from training.data import datasets
from training.data.readers import agiqa1k
from training.errors import DataError


@pytest.mark.parametrize("images", ["file", "", "img", "images"])
def test_scores_prompts_and_generators_are_read(tmp_path: Path, images: str) -> None:
    samples = datasets.read(write_agiqa1k(tmp_path, images=images))
    assert {s.dataset for s in samples} == {"AGIQA-1K"}
    assert [s.path.name for s in samples] == [
        "deepai_0_3_0_0.jpg",
        "deepai_0_3_1_0.jpg",
        "dreamStudio_0_3_0_0.jpg",
        "dreamStudio_0_3_1_0.jpg",
        "deepai_11_14_0_1.jpg",
    ]
    assert [s.mos for s in samples] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert [s.generator for s in samples] == ["deepai"] * 2 + ["dreamStudio"] * 2 + ["deepai"]
    assert samples[4].prompt == "prompt of deepai_11_14_0_1,"
    assert all(s.mos_align is None and not s.part for s in samples)


def test_an_object_is_one_group_whatever_the_place_the_style_and_the_generator(
    tmp_path: Path,
) -> None:
    samples = datasets.read(write_agiqa1k(tmp_path))
    assert [s.group for s in samples] == ["object 0 3"] * 4 + ["object 11 14"]


def test_an_image_with_two_scores_is_left_out_and_one_that_is_only_repeated_is_not(
    tmp_path: Path,
) -> None:
    table = write_agiqa1k(tmp_path) / "AIGC_MOS_Zscore.xlsx"
    assert TWICE not in {s.path.name for s in agiqa1k.annotations(tmp_path)}
    assert (tmp_path / "file" / TWICE).is_file()
    book = openpyxl.load_workbook(table)
    sheet = book.worksheets[0]
    sheet["C7"], sheet["C8"] = 2.5, 2.5
    book.save(table)
    names = [s.path.name for s in agiqa1k.annotations(tmp_path)]
    assert names.count(TWICE) == 1
    assert len(names) == 6


@pytest.mark.parametrize(
    ("cell", "value", "words"),
    [
        ("C3", None, "row 3, column MOS is not as distributed"),
        ("C4", 77, "row 4, column MOS .*from 0 to 5, not 77"),
        ("A5", "bird.jpg", "row 5, column Image"),
        ("B1", "Text", "lacks the columns Prompt"),
    ],
    ids=["no score", "another scale", "another name", "no column"],
)
def test_a_broken_sheet_says_where(tmp_path: Path, cell: str, value: object, words: str) -> None:
    table = write_agiqa1k(tmp_path) / "AIGC_MOS_Zscore.xlsx"
    book = openpyxl.load_workbook(table)
    book.worksheets[0][cell].value = value
    book.save(table)
    with pytest.raises(DataError, match=words):
        agiqa1k.annotations(tmp_path)


def test_a_file_that_is_no_spreadsheet_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no AIGC_MOS_Zscore\.xlsx"):
        agiqa1k.annotations(tmp_path)
    (tmp_path / "AIGC_MOS_Zscore.xlsx").write_text("Image,Prompt,MOS")
    with pytest.raises(DataError, match="can't be read as a spreadsheet"):
        agiqa1k.annotations(tmp_path)
