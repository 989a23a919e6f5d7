import csv
from collections import Counter
from pathlib import Path

import pytest

from tests.training.photograph_sets import write_koniq10k
from training.data import datasets
from training.data.readers import koniq10k
from training.errors import DataError


def _column(table: Path, name: str) -> list[float]:
    with table.open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_the_authors_split_is_the_part_of_each_image(tmp_path: Path) -> None:
    samples = koniq10k.annotations(write_koniq10k(tmp_path, images=0))
    assert len(samples) == 10073
    assert Counter(s.part for s in samples) == {"train": 3358, "validation": 3358, "test": 3357}
    assert [s.part for s in samples[:3]] == ["train", "validation", "test"]
    assert len({s.group for s in samples}) == 10073


def test_scores_of_a_hundred_and_of_five_are_told_apart(tmp_path: Path) -> None:
    samples = koniq10k.annotations(write_koniq10k(tmp_path / "a", images=0))
    listed = _column(tmp_path / "a" / "koniq10k_distributions_sets.csv", "MOS")
    assert [s.mos for s in samples] == pytest.approx([score / 100 for score in listed])

    samples = koniq10k.annotations(write_koniq10k(tmp_path / "b", 0, sets=False, zscore=False))
    listed = _column(tmp_path / "b" / "koniq10k_scores_and_distributions.csv", "MOS")
    assert max(listed) <= 5
    assert [s.mos for s in samples] == pytest.approx([(score - 1) / 4 for score in listed])
    assert {s.part for s in samples} == {""}


def test_both_tables_give_the_same_scores(tmp_path: Path) -> None:
    split = koniq10k.annotations(write_koniq10k(tmp_path / "a", images=0))
    other = koniq10k.annotations(write_koniq10k(tmp_path / "b", images=0, sets=False))
    assert [s.mos for s in other] == pytest.approx([s.mos for s in split])


def test_images_are_found_at_either_size(tmp_path: Path) -> None:
    samples = datasets.read(write_koniq10k(tmp_path, images=4))
    assert len(samples) == 4
    assert {s.dataset for s in samples} == {"KonIQ-10k"}
    assert {s.path.parent.name for s in samples} == {"1024x768"}
    (tmp_path / "1024x768").rename(tmp_path / "512x384")
    assert {s.path.parent.name for s in datasets.read(tmp_path)} == {"512x384"}


@pytest.mark.parametrize("lowest", ["-3", "140"])
def test_scores_of_neither_scale_are_refused(tmp_path: Path, lowest: str) -> None:
    table = write_koniq10k(tmp_path, images=0) / "koniq10k_distributions_sets.csv"
    lines = table.read_text().splitlines()
    cells = lines[5].split(",")
    lines[5] = ",".join([*cells[:7], lowest, *cells[8:]])
    table.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"neither of 0\.\.100 nor of 1\.\.5"):
        koniq10k.annotations(tmp_path)


@pytest.mark.parametrize("row", ["a.jpg,50,fourth", "a.jpg,nan,test", "a.jpg,good,test"])
def test_a_row_that_cant_be_read_is_named(tmp_path: Path, row: str) -> None:
    table = tmp_path / "koniq10k_distributions_sets.csv"
    table.write_text(f"image_name,MOS,set\n{row}\n")
    with pytest.raises(
        DataError, match=r"koniq10k_distributions_sets\.csv row 2, column (MOS|set) is"
    ):
        koniq10k.annotations(tmp_path)


def test_a_table_without_the_split_or_with_few_rows_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "koniq10k_distributions_sets.csv"
    table.write_text("image_name,MOS\na.jpg,50\n")
    with pytest.raises(DataError, match="lacks the columns set"):
        koniq10k.annotations(tmp_path)
    table.write_text("image_name,MOS,set\na.jpg,50,test\n")
    with pytest.raises(DataError, match="KonIQ-10k has 10073 images, but its table 1 row"):
        koniq10k.annotations(tmp_path)
    table.unlink()
    with pytest.raises(DataError, match=r"has no koniq10k_scores_and_distributions\.csv"):
        koniq10k.annotations(tmp_path)
