"""The command line, on the bundled model."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import find_images, main
from tests.app.pictures import SVG, encoded, picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "deeper").mkdir(parents=True)
    (images / "a.png").write_bytes(encoded(picture(seed=1)))
    (images / "deeper" / "b.jpg").write_bytes(encoded(picture(seed=2), "JPEG"))
    (images / "notes.txt").write_text("no image")
    return images


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_folder_is_scored_to_the_bottom_into_a_table(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    result = run("score", folder, "-o", out)
    assert result.exit_code == 0, result.output
    table = rows(out)
    assert [Path(row["path"]).name for row in table] == ["a.png", "b.jpg"]
    for row in table:
        assert 0 <= float(row["quality"]) <= 1
        assert 0 <= float(row["alignment"]) <= 1
        assert row["consistency"] == row["code"] == ""


def test_a_bad_image_is_a_row_and_the_exit_code_says_so(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.png").write_bytes(SVG)
    out = tmp_path / "scores.jsonl"
    result = run("score", folder, "--heads", "quality", "-o", out)
    assert result.exit_code == 3
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    by_name = {Path(line["path"]).name: line for line in lines}
    assert by_name["bad.png"]["code"] == "unsupported_image"
    assert by_name["a.png"]["quality"] is not None
    assert by_name["a.png"]["alignment"] is None


def test_resume_scores_only_what_is_not_there_yet(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    run("score", folder / "a.png", "--heads", "quality", "-o", out)
    before = out.read_text()
    result = run("score", folder, "--heads", "quality", "-o", out, "--resume")
    assert result.exit_code == 0, result.output
    assert out.read_text().startswith(before)
    assert len(rows(out)) == 2


def test_prompts_come_from_a_table_or_hold_for_all(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("image,prompt\na.png,a wave\n")
    out = tmp_path / "scores.csv"
    run("score", folder, "--prompts", table, "-o", out)
    first, second = rows(out)
    assert first["consistency"]
    assert not second["consistency"]
    run("score", folder, "--prompt", "a wave", "-o", out)
    assert all(row["consistency"] for row in rows(out))


def test_globs_and_repeated_files_count_once(folder: Path) -> None:
    found = find_images([str(folder / "*.png"), str(folder / "a.png"), str(folder)])
    assert [path.name for path in found] == ["a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "nowhere"], "nowhere: no such file"),
        (["score", ".", "--checkpoint", "huge"], "no checkpoint 'huge'"),
        (["score", ".", "-o", "scores.xml"], ".csv or a .jsonl"),
        (["serve", "--config", "nowhere.toml"], "no settings file"),
        (["train", "nothing"], "no recipe 'nothing'"),
    ],
    ids=["path", "checkpoint", "output", "config", "recipe"],
)
def test_a_mistake_is_one_clear_sentence(
    arguments: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_commands_of_the_training_package_join() -> None:
    output = run("--help").output
    own = ("serve", "score", "models", "push", "assemble", "import-official")
    for command in (*own, "train", "evaluate"):
        assert command in output


def test_help_comes_without_torch() -> None:
    code = (
        "import sys, click.testing, app.cli; "
        "result = click.testing.CliRunner().invoke(app.cli.main, ['assemble', '--help']); "
        "print(result.exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]


@pytest.mark.parametrize("kind", ["official", "liqe", "random"])
def test_another_crop_policy_can_be_asked_for(folder: Path, kind: str) -> None:
    image = folder / "a.png"
    own = run("score", image, "--heads", "quality")
    other = run("score", image, "--heads", "quality", "--crop-policy", kind)
    assert other.exit_code == 0, other.output
    assert other.output != own.output
