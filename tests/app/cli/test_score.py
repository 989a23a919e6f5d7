"""``agiqa score`` on the bundled model, end to end."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result

import model
from app.bulk.rows import COLUMNS
from tests.app.bulk.scored import agiqa, image_folder, table
from tests.app.pictures import SVG, encoded, picture


@pytest.fixture(scope="module", autouse=True)
def each_model_is_loaded_once() -> Iterator[None]:
    """Scorers keep nothing of an image, so tests may share them."""
    loaded: dict[tuple[object, ...], object] = {}
    load = model.load

    def load_once(*arguments: object) -> object:
        if arguments not in loaded:
            loaded[arguments] = load(*arguments)  # type: ignore[arg-type]
        return loaded[arguments]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "load", load_once)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path, Path]:
    """One run with all that there is: good and bad images, a prompt, every output."""
    place = tmp_path_factory.mktemp("run")
    folder = image_folder(place)
    (folder / "bad.png").write_bytes(SVG)
    out, report = place / "scores.csv", place / "report.html"
    options = ("--prompt", "a wave", "-o", out, "--report", report)
    pinned = ("--device", "cpu", "--dtype", "float32")
    return agiqa("score", folder, *options, *pinned), out, report


def test_a_folder_is_scored_to_the_bottom_into_a_table(
    whole_run: tuple[Result, Path, Path],
) -> None:
    _, out, _ = whole_run
    rows = table(out)
    assert [Path(row["path"]).name for row in rows] == ["a.png", "bad.png", "b.jpg"]
    for row in (rows[0], rows[2]):
        heads = ("quality", "alignment", "consistency")
        assert all(0 <= float(row[head]) <= 1 for head in heads)
        assert float(row["mos"]) == pytest.approx(5 * float(row["quality"]), abs=1e-4)
        assert row["prompt"] == "a wave"
        assert row["code"] == row["detail"] == ""


def test_the_first_six_columns_are_where_scripts_look_for_them(
    whole_run: tuple[Result, Path, Path],
) -> None:
    _, out, _ = whole_run
    first, *_ = csv.reader(io.StringIO(out.read_text()))
    assert first[:6] == ["path", "quality", "alignment", "consistency", "code", "detail"]
    assert tuple(first) == COLUMNS


def test_a_bad_image_is_a_row_and_the_exit_code_says_so(
    whole_run: tuple[Result, Path, Path],
) -> None:
    result, out, _ = whole_run
    assert result.exit_code == 3, result.output
    assert "1 of 3 images could not be scored" in result.stderr
    bad = table(out)[1]
    assert bad["code"] == "unsupported_image"
    assert "JPEG" in bad["detail"]
    assert bad["quality"] == ""


def test_the_summary_tells_figures_and_the_worst_images(
    whole_run: tuple[Result, Path, Path],
) -> None:
    result, out, _ = whole_run
    worst, best = sorted(float(row["quality"]) for row in table(out) if row["quality"])
    assert f"{(worst + best) / 2:.3f}" in result.stderr
    listed = result.stderr.split("worst quality:")[1].split()
    assert listed[0] == f"{worst:.3f}"
    assert "failed: 1 unsupported_image" in result.stderr


def test_the_report_is_written_beside(whole_run: tuple[Result, Path, Path]) -> None:
    result, _, report = whole_run
    assert f"wrote {report}" in result.stderr
    text = report.read_text()
    assert "tiny-clip-agiqa" in text
    assert "0.792 (0.737 to 0.834)" in text, "the interval of the checkpoint's metrics.json"


def test_scores_are_those_of_the_scorer(whole_run: tuple[Result, Path, Path]) -> None:
    _, out, _ = whole_run
    scorer = model.load("tiny-clip-agiqa", "cpu", "float32")
    for row in (table(out)[0], table(out)[2]):
        expected = scorer.score(row["path"], "a wave")
        for head in ("quality", "alignment", "consistency"):
            assert float(row[head]) == pytest.approx(getattr(expected, head), abs=1e-5)


def test_json_lines_and_parquet_hold_the_same_rows(folder: Path, tmp_path: Path) -> None:
    lines, parquet = tmp_path / "scores.jsonl", tmp_path / "scores.parquet"
    for out in (lines, parquet):
        result = agiqa("score", folder, "--heads", "quality", "-o", out)
        assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["alignment"] is None
    assert pq.read_table(parquet).to_pylist() == rows
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []


def test_without_an_output_the_rows_alone_go_to_standard_output(folder: Path) -> None:
    result = agiqa("score", folder, "--heads", "quality", "-q")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b.jpg"]
    assert result.stderr == ""


def test_photographs_are_told_with_scene_and_distortion(folder: Path) -> None:
    result = agiqa("score", folder / "a.png", "--checkpoint", "tiny-mpiqe")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    expected = model.load("tiny-mpiqe").score(str(folder / "a.png"))
    assert expected.scene
    assert expected.distortion
    assert row["scene"] == max(expected.scene, key=expected.scene.__getitem__)
    assert row["distortion"] == max(expected.distortion, key=expected.distortion.__getitem__)
    assert row["model"] == "tiny-mpiqe"


def test_a_list_comes_on_standard_input(folder: Path) -> None:
    listed = f"{folder / 'a.png'}\n\n{folder / 'deeper' / 'b.jpg'}\n".encode()
    by_line = agiqa("score", "-", "--heads", "quality", given=listed)
    by_null = agiqa(
        "score", "-", "-0", "--heads", "quality", given=listed.strip().replace(b"\n\n", b"\0")
    )
    assert by_line.exit_code == by_null.exit_code == 0, by_line.output + by_null.output
    assert by_line.stdout.count("\n") == 3
    assert by_line.stdout == by_null.stdout


def test_those_who_know_pyiqa_may_write_as_they_do(folder: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    agiqa("score", folder, "--checkpoint", "tiny-mpiqe", "-o", ours)
    result = agiqa("score", "tiny-mpiqe", "-t", folder, "-v", "--save_file", theirs)
    assert result.exit_code == 0, result.output
    assert theirs.read_text() == ours.read_text()
    assert " mean " in result.stderr


@pytest.mark.parametrize("kind", ["official", "liqe", "random"])
def test_another_crop_policy_can_be_asked_for(folder: Path, kind: str) -> None:
    image = folder / "a.png"
    own = agiqa("score", image, "--heads", "quality")
    other = agiqa("score", image, "--heads", "quality", "--crop-policy", kind)
    assert other.exit_code == 0, other.output
    (mine,) = csv.DictReader(io.StringIO(own.stdout))
    (row,) = csv.DictReader(io.StringIO(other.stdout))
    assert row["crop_policy"] == kind
    assert row["quality"] != mine["quality"]


def test_a_quality_that_is_too_low_is_an_exit_code(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(encoded(picture(seed=1)))
    common = ("score", image, "--heads", "quality")
    assert agiqa(*common, "--fail-under", 0, "--fail-under-mean", 0).exit_code == 0
    low = agiqa(*common, "--fail-under", 1)
    assert low.exit_code == 4
    assert "1 of 1 images have a quality under 1" in low.stderr
    assert agiqa(*common, "--fail-under-mean", 1).exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file"),
        ([], "name the images"),
        ([".", "--checkpoint", "huge"], "no checkpoint 'huge'"),
        ([".", "-o", "scores.xml"], ".csv or a .jsonl"),
        ([".", "-o", "nowhere/scores.csv"], "no folder nowhere"),
        ([".", "--report", "nowhere/report.html"], "no folder nowhere"),
        ([".", "--resume"], "name it with -o"),
        ([".", "-o", "s.csv", "--resume", "--overwrite"], "give one of them"),
        ([".", "--heads", "beauty"], "'beauty' is none of"),
        ([".", "--heads", "consistency"], "--prompt or --prompts"),
        ([".", "--heads", "alignment", "-m", "tiny-mpiqe"], "has no head 'alignment'"),
        ([".", "--heads", "alignment", "--fail-under", "0.5"], "needs the head quality"),
        ([".", "--prompts", "nowhere.csv"], "nowhere.csv: No such file"),
        ([".", "--null"], "give '-' as a path"),
        ([".", "--device", "abacus"], "abacus"),
        ([".", "--concurrency", "4"], "--concurrency: only with --server"),
        ([".", "--server", "http://127.0.0.1:9", "--dtype", "float32"], "--dtype: with --server"),
        (["tiny-mpiqe", "more", "-t", "."], "one at a time"),
        (["tiny-mpiqe", "-m", "tiny-mpiqe", "-t", "."], "leave out --checkpoint"),
    ],
    ids=lambda given: None if isinstance(given, str) else " ".join(given) or "nothing",
)
def test_a_mistake_is_one_clear_sentence(
    arguments: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = agiqa("score", *arguments)
    assert result.exit_code == 1, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert {path.name for path in folder.iterdir()} == {"a.png", "deeper", "notes.txt"}
