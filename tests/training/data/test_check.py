from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.training.generated_sets import write_agiqa1k, write_image, write_table
from tests.training.miniature import write_agiqa3k, write_live_challenge
from training.commands.data import data
from training.data import check_report, table
from training.data.check import Findings, check
from training.data.datasets import which
from training.errors import DataError

ROWS = """image,mos,group
a.png,1,one
b.png,2,one
c.png,5,two
d.png,5,two
"""


def run(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(data, ["check", str(folder), *options])


def found(folder: Path, *, lower_better: bool = False, quick: bool = False) -> Findings:
    declared = table.table_set("mine", 1, 5, lower_better=lower_better)
    return check(folder, declared, quick=quick)


def row(findings: Findings, name: str) -> str:
    """What the report says of one thing."""
    return next(r for line in check_report.lines(findings) if (r := line).startswith(name))


def test_a_whole_set_is_described_and_usable(tmp_path: Path) -> None:
    done = run(write_agiqa3k(tmp_path, prompts=3))
    assert done.exit_code == 0
    for line in (
        "AGIQA-3K",
        "9 rated images of 2982 as distributed",
        "64 x 64 (9)",
        "3 by prompt, images in each: 3",
        "AttnGAN normal (3), sd1.5 lowstep (3), midjourney normal (3)",
        "quality       9 scores from",
        "alignment     9 scores from",
        "scale 0 to 5, high = better",
        "usable: every listed image is there",
    ):
        assert line in done.output


def test_labels_are_counted(tmp_path: Path) -> None:
    done = run(write_live_challenge(tmp_path, images=6))
    assert "scenes of 6 images, a distortion of 6" in done.output
    assert "alignment " not in done.output


def test_missing_images_are_named_and_fail(tmp_path: Path) -> None:
    write_agiqa3k(tmp_path, prompts=4)
    for image in sorted((tmp_path / "img").iterdir())[:7]:
        image.unlink()
    done = run(tmp_path)
    assert done.exit_code == 1
    assert "missing       7: img/AttnGAN_normal_000.jpg, " in done.output
    assert " and 2 more" in done.output
    assert "not usable" in done.output


def test_a_file_that_cannot_be_decoded_is_named_with_the_reason(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-30])
    (tmp_path / "b.png").write_bytes(b"no image")
    findings = found(tmp_path)
    line = row(findings, "unreadable")
    assert line.startswith("unreadable    2: a.png: The image is broken or cut off, b.png: This is")
    assert not findings.usable
    assert findings.sizes == {(40, 32): 2}


def test_a_quick_check_reads_headers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path, ROWS)
    monkeypatch.setattr("model.preprocess.images.decode", lambda content: pytest.fail("decoded"))
    (tmp_path / "b.png").write_bytes(b"no image")
    findings = found(tmp_path, quick=True)
    assert [look.path.name for look in findings.broken] == ["b.png"]
    assert findings.sizes == {(40, 32): 3}


def test_sizes_are_those_of_upright_images(tmp_path: Path) -> None:
    write_table(tmp_path, "image,mos\na.jpg,1\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 32)).save(tmp_path / "a.jpg", exif=exif)
    assert found(tmp_path).sizes == {(32, 40): 1}


def test_an_image_that_is_listed_twice_fails(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS + "a.png,3,one\n")
    findings = found(tmp_path)
    assert row(findings, "listed twice").endswith("1: a.png")
    assert len(findings.files) == 4
    assert not findings.usable


def test_equal_files_are_told_and_those_of_several_groups_by_name(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS)
    assert row(found(tmp_path), "same files").endswith("none")
    write_image(tmp_path / "b.png", 0)
    assert row(found(tmp_path), "same files").endswith("2 files are 1 pictures")
    write_image(tmp_path / "d.png", 0)
    findings = found(tmp_path)
    assert row(findings, "same files").endswith(
        "3 files are 1 pictures; a split may tear apart 1: a.png = b.png = d.png"
    )
    assert findings.usable


def test_scores_are_shown_on_the_sets_own_scale_and_direction(tmp_path: Path) -> None:
    findings = found(write_table(tmp_path, ROWS), lower_better=True)
    assert findings.samples[0].mos == 1.0
    assert row(findings, "quality").endswith(
        "4 scores from 1 to 5, mean 3.25; scale 1 to 5, low = better"
    )
    bars = [line for line in check_report.lines(findings) if "|" in line]
    assert len(bars) == 20
    assert bars[0].split() == ["1", "|" + "#" * 20, "1"]
    assert bars[5].split() == ["2", "|" + "#" * 20, "1"]
    assert bars[19].split() == ["4.8", "|" + "#" * 40, "2"]


def test_the_plot_is_written(tmp_path: Path) -> None:
    write_agiqa3k(tmp_path, prompts=2)
    picture = tmp_path / "scores.png"
    done = run(tmp_path, "--quick", "--plot", str(picture))
    assert done.exit_code == 0
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.width > 2 * image.height  # quality and alignment, side by side


def test_a_plot_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    write_agiqa3k(tmp_path, prompts=1)
    for name in ("scores.nonsense", "nowhere/scores.png"):
        done = run(tmp_path, "--plot", str(tmp_path / name))
        assert done.exit_code == 1
        assert "Error: " in done.output


def test_the_scale_of_a_table_is_never_guessed(tmp_path: Path) -> None:
    done = run(write_table(tmp_path, ROWS))
    assert done.exit_code == 1
    assert "mine.csv lists images with scores from 1 to 5" in done.output
    assert "--range LOW HIGH" in done.output
    assert "|" not in done.output


def test_a_declared_scale_and_direction_are_used(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS)
    done = run(tmp_path, "--range", "0", "10", "--lower-better")
    assert done.exit_code == 0
    assert "4 rated images\n" in done.output
    assert "scores from 1 to 5, mean 3.25; scale 0 to 10, low = better" in done.output
    assert run(tmp_path, "--range", "0", "4").exit_code == 1
    assert run(tmp_path, "--lower-better").exit_code == 2


def test_a_declared_scale_asks_for_the_table_even_of_a_known_set(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,mos\nx.png,3\n")
    assert which(tmp_path, None, False).name == "LIVE-Challenge"
    assert which(tmp_path, (1, 5), False).name == tmp_path.name


def test_one_of_several_tables_is_named(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS)
    write_table(tmp_path, "image,mos\na.png,7\n", "other.csv")
    assert "mine.csv, other.csv" in run(tmp_path, "--range", "1", "9").output
    done = run(tmp_path, "--range", "1", "9", "--table", "other.csv")
    assert done.exit_code == 0
    assert "1 rated images" in done.output
    assert "scores from 7 to 7" in run(tmp_path, "--table", "other.csv").output


def test_a_folder_that_is_nothing_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.csv \(AGIQA-3K\).* and .* has no CSV with"):
        which(tmp_path, None, False)
    assert run(tmp_path).exit_code == 1


def test_rows_that_a_reader_leaves_out_show_against_the_distribution(tmp_path: Path) -> None:
    done = run(write_agiqa1k(tmp_path))
    assert done.exit_code == 0
    assert "5 rated images of 1080 as distributed" in done.output
