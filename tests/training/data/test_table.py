from pathlib import Path
from typing import Any

import pytest

from tests.training.generated_sets import write_table
from training.data import table
from training.data.samples import Sample
from training.errors import DataError

FULL = """image,mos,mos_align,prompt,group,split,scene,distortion,note
a/1.png,1,5,a cat,cats,training,human;indoor,JPEG compression,x
a/2.png,5,,,,val,,,
b/3.png,3,2,a dog,,test,night scene,noise,
"""


def read(folder: Path, low: float = 1, high: float = 5, **options: Any) -> list[Sample]:
    return table.table_set("mine", low, high, **options).annotations(folder)


def test_every_column_is_read_and_empty_cells_tell_nothing(tmp_path: Path) -> None:
    one, two, three = read(write_table(tmp_path, FULL))
    assert one == Sample(
        dataset="mine",
        path=tmp_path / "a" / "1.png",
        group="cats",
        mos=0.0,
        mos_align=1.0,
        prompt="a cat",
        scenes=("human", "indoor scene"),
        distortion="JPEG compression",
        part="train",
    )
    assert two == Sample("mine", tmp_path / "a" / "2.png", "a/2.png", 1.0, part="validation")
    assert (three.mos, three.mos_align) == (0.5, 0.25)
    assert (three.group, three.part) == ("a dog", "test")
    assert three.path.is_file()


def test_the_tables_of_pyiqa_are_understood(tmp_path: Path) -> None:
    write_table(tmp_path / "a", "ref_name,dist_name,dmos,std\nI1.bmp,I1_1.bmp,0.25,1\n")
    (one,) = read(tmp_path / "a", 0, 1, lower_better=True)
    assert (one.path.name, one.group, one.mos) == ("I1_1.bmp", "I1.bmp", 0.75)
    write_table(tmp_path / "b", "img_name,mos,std\n100.bmp,32.5,19\n")
    (other,) = read(tmp_path / "b", 0, 100)
    assert (other.path.name, other.group, other.mos) == ("100.bmp", "100.bmp", 0.325)


def test_images_are_relative_to_the_table_that_is_named(tmp_path: Path) -> None:
    write_table(tmp_path, "image,mos\nx.png,1\n", "meta/one.csv")
    write_table(tmp_path, "image,mos\nx.png,2\n", "two.csv")
    data = table.table_set("mine", 0, 4, file="meta/one.csv")
    assert [s.path for s in data.annotations(tmp_path)] == [tmp_path / "meta" / "x.png"]
    assert data.is_in(tmp_path)
    assert not data.is_in(tmp_path / "meta")


def test_the_only_table_that_lists_images_is_found(tmp_path: Path) -> None:
    write_table(tmp_path, "image,mos\nx.png,1\n")
    (tmp_path / "notes.csv").write_text("who,what\nme,that\n")
    (tmp_path / "empty.csv").write_text("")
    assert table.find(tmp_path) == "mine.csv"
    write_table(tmp_path, "img_name,mos\nx.png,1\n", "other.csv")
    with pytest.raises(DataError, match=r"several .*mine\.csv, other\.csv"):
        table.find(tmp_path)


def test_a_folder_without_a_table_says_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,score\nx.png,1\n")
    with pytest.raises(DataError, match="image/img_name/dist_name and mos/dmos"):
        table.find(tmp_path)
    with pytest.raises(DataError, match="lacks the columns mos"):
        table.table_set("mine", 0, 1, file="labels.csv").annotations(tmp_path)
    with pytest.raises(DataError, match=r"has no gone\.csv"):
        table.table_set("mine", 0, 1, file="gone.csv").annotations(tmp_path)


def test_the_observed_range_is_that_of_both_scores_as_they_stand(tmp_path: Path) -> None:
    write_table(tmp_path, "image,mos,mos_align\nx.png,3.5,9\ny.png,-2,\n")
    assert table.observed(tmp_path, "mine.csv") == (-2, 9)
    (tmp_path / "mine.csv").write_text("image,mos\nx.png,good\n")
    with pytest.raises(DataError, match=r"row 2, column mos is"):
        table.observed(tmp_path, "mine.csv")
    (tmp_path / "mine.csv").write_text("image,mos\n")
    with pytest.raises(DataError, match="no opinion score"):
        table.observed(tmp_path, "mine.csv")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x.png,7,,", "from 1 to 5, not 7"),
        ("x.png,nan,,", "not nan"),
        ("x.png,,,", "column mos "),
        (",3,,", "names no image"),
        ("x.png,3,fog,", "unknown scene 'fog'"),
        ("x.png,3,,fog", "unknown distortion 'fog'"),
    ],
    ids=["another scale", "no number", "no score", "no image", "scene", "distortion"],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, row: str, words: str) -> None:
    write_table(tmp_path, f"image,mos,scene,distortion\n{row}\n")
    with pytest.raises(DataError, match=rf"mine\.csv row 2, .*{words}"):
        read(tmp_path)


def test_a_scale_needs_an_extent() -> None:
    with pytest.raises(DataError, match="from 5 to 5"):
        table.table_set("mine", 5, 5)


def test_text_in_another_encoding_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(b"image,mos\ncaf\xe9.png,1\n")
    with pytest.raises(DataError, match="can't be read as a CSV"):
        table.observed(tmp_path, "mine.csv")
