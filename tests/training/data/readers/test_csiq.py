from pathlib import Path

import pytest

from tests.training.photograph_sets import write_csiq
from training.data import datasets
from training.data.readers import csiq
from training.errors import DataError


def test_every_line_is_read_with_low_dmos_as_good_scores(tmp_path: Path) -> None:
    samples = csiq.annotations(write_csiq(tmp_path, images=0))
    assert len(samples) == 866
    lines = (tmp_path / "csiq_label.txt").read_text().splitlines()
    assert [s.path.name for s in samples] == [line.split()[0] for line in lines]
    assert [s.mos for s in samples] == pytest.approx([1 - float(x.split()[1]) for x in lines])


def test_the_name_tells_reference_and_distortion(tmp_path: Path) -> None:
    samples = csiq.annotations(write_csiq(tmp_path, images=0))
    assert len({s.group for s in samples}) == 30
    assert samples[7].group == "photo_1"
    assert {(s.path.name.split(".")[1], s.distortion) for s in samples} == {
        ("AWGN", "noise"),
        ("BLUR", "blur"),
        ("contrast", "contrast"),
        ("fnoise", "noise"),
        ("JPEG", "JPEG compression"),
        ("jpeg2000", "JPEG2000 compression"),
    }


def test_images_are_found_in_folders_by_distortion_and_in_one_folder(tmp_path: Path) -> None:
    samples = datasets.read(write_csiq(tmp_path, images=12))
    assert len(samples) == 12
    assert {s.dataset for s in samples} == {"CSIQ"}
    (tmp_path / "dst_imgs_all").mkdir()
    for sample in samples[::2]:
        sample.path.rename(tmp_path / "dst_imgs_all" / sample.path.name)
    for sample in samples[1::2]:
        sample.path.rename(tmp_path / "dst_imgs" / sample.path.name)
    moved = datasets.read(tmp_path)
    assert [s.path.name for s in moved] == [s.path.name for s in samples]
    assert {s.path.parent.name for s in moved} == {"dst_imgs_all", "dst_imgs"}


@pytest.mark.parametrize(
    "line",
    [
        "photo_1.fog.1.png 0.5",
        "photo_1.AWGN.1.png",
        "photo_1.AWGN.1.png 0.5 0.5",
        "photo_1.AWGN.1.png 5.5",
        "photo_1.AWGN.1.png good",
        "photo_1.png 0.5",
    ],
)
def test_a_line_that_cant_be_read_is_named(tmp_path: Path, line: str) -> None:
    table = write_csiq(tmp_path, images=0) / "csiq_label.txt"
    lines = table.read_text().splitlines()
    lines[4] = line
    table.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"csiq_label\.txt (row|.* in line) 5, (column|saw)"):
        csiq.annotations(tmp_path)


def test_a_part_of_the_table_and_none_at_all_are_refused(tmp_path: Path) -> None:
    table = write_csiq(tmp_path, images=0) / "csiq_label.txt"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:800]))
    with pytest.raises(DataError, match="CSIQ has 866 images, but its table 800 rows"):
        csiq.annotations(tmp_path)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="can't be read as a CSV"):
        csiq.annotations(tmp_path)
    table.unlink()
    with pytest.raises(DataError, match=r"no csiq_label\.txt: take it from"):
        csiq.annotations(tmp_path)


def test_an_image_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    table = write_csiq(tmp_path, images=0) / "csiq_label.txt"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *lines[:-1]]))
    with pytest.raises(DataError, match="866 rows of 865"):
        csiq.annotations(tmp_path)
