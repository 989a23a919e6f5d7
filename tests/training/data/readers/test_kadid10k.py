import csv
from pathlib import Path

import pytest

from model.methods.vocabulary import DISTORTIONS
from tests.training.photograph_sets import write_kadid10k
from training.data import datasets
from training.data.readers import kadid10k
from training.errors import DataError


def test_the_column_dmos_is_read_as_better_when_high(tmp_path: Path) -> None:
    samples = kadid10k.annotations(write_kadid10k(tmp_path, images=0))
    assert len(samples) == 10125
    with (tmp_path / "dmos.csv").open(newline="") as file:
        listed = [float(row["dmos"]) for row in csv.DictReader(file)]
    assert [s.mos for s in samples] == pytest.approx([(score - 1) / 4 for score in listed])


def test_groups_are_references_and_numbers_tell_the_distortion(tmp_path: Path) -> None:
    samples = kadid10k.annotations(write_kadid10k(tmp_path, images=0))
    assert len({s.group for s in samples}) == 81
    assert samples[0].group == "I01.png"
    of_number = {s.path.name.split("_")[1]: s.distortion for s in samples}
    assert len(of_number) == 25
    assert set(of_number.values()) == set(DISTORTIONS)
    for number, distortion in {
        "01": "blur",
        "04": "color-related",
        "09": "JPEG2000 compression",
        "10": "JPEG compression",
        "11": "noise",
        "16": "over-exposure",
        "17": "under-exposure",
        "18": "others",
        "20": "spatially-localized",
        "22": "quantization",
        "25": "contrast",
    }.items():
        assert of_number[number] == distortion


def test_images_are_found_below_images_and_beside_the_table(tmp_path: Path) -> None:
    samples = datasets.read(write_kadid10k(tmp_path, images=4))
    assert len(samples) == 4
    assert {s.dataset for s in samples} == {"KADID-10k"}
    samples[0].path.rename(tmp_path / samples[0].path.name.replace("png", "PNG"))
    assert len(datasets.read(tmp_path)) == 4


@pytest.mark.parametrize(
    "row", ["I01_26_01.png,I01.png,3,0.5", "I01.png,I01.png,3,0.5", "I01_01_01.png,I01.png,9,0.5"]
)
def test_a_row_that_cant_be_read_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "dmos.csv").write_text(f"dist_img,ref_img,dmos,var\n{row}\n")
    with pytest.raises(DataError, match=r"dmos\.csv row 2, column (dist_img|dmos) is"):
        kadid10k.annotations(tmp_path)


def test_a_part_of_the_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dmos.csv").write_text("dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,3,0.5\n")
    with pytest.raises(DataError, match="KADID-10k has 10125 images, but its table 1 row"):
        kadid10k.annotations(tmp_path)
