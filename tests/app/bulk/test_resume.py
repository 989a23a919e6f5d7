"""Runs that stop and go on, and what happens to an OUT that is there."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.bulk.errors import CannotScore, Stopped
from app.bulk.rows import Scoring
from app.bulk.run import INTERRUPTED, Job, run
from app.bulk.tables import read
from tests.app.bulk.scored import MODEL, Pretended, agiqa, empty_files
from tests.app.pictures import encoded, picture

NAMES = ("a.png", "b.png", "c.png", "d.png")
FORMATS = pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])


@pytest.fixture
def out(tmp_path: Path, form: str) -> Path:
    return tmp_path / f"scores.{form}"


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    return [str(file) for file in empty_files(tmp_path, *NAMES)]


def does(scoring: Scoring) -> Callable[[], Scoring]:
    return lambda: scoring


def run_with(scoring: Scoring, images: list[str], out: Path, **options: object) -> int:
    return run(Job(paths=images, out=out, quiet=True, **options), does(scoring))  # type: ignore[arg-type]


def paths_in(out: Path) -> list[str]:
    return [Path(row["path"]).name for row in read(out)]


@FORMATS
def test_ctrl_c_keeps_the_rows_and_resume_goes_on(
    images: list[str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = out.with_name(f"whole{out.suffix}")
    run_with(Pretended(), images, whole)
    assert run_with(Pretended(stop_at=2), images, out) == INTERRUPTED
    assert "2 of 4 images are done" in capsys.readouterr().err
    rest = Pretended()
    assert run_with(rest, images, out, resume=True) == 0
    assert rest.asked == ["c.png", "d.png"]
    assert read(out) == read(whole)
    assert sorted(p.name for p in out.parent.iterdir() if p.suffix != ".png") == sorted(
        [out.name, whole.name]
    )


@FORMATS
def test_resume_of_a_whole_run_scores_nothing(images: list[str], out: Path) -> None:
    run_with(Pretended(), images, out)
    before = read(out)
    again = Pretended()
    assert run_with(again, images, out, resume=True) == 0
    assert again.asked == []
    assert read(out) == before


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_last_line_that_is_cut_off_is_scored_again(
    images: list[str], out: Path, cut: int
) -> None:
    job = {"prompt": 'a "quoted"\nprompt, on two lines'}
    run_with(Pretended(), images, out, **job)
    whole = out.read_bytes()
    out.write_bytes(whole[:-cut])
    rest = Pretended()
    assert run_with(rest, images, out, resume=True, **job) == 0
    assert rest.asked == ["d.png"]
    assert out.read_bytes() == whole


@FORMATS
def test_what_may_pass_is_tried_again_and_bad_images_are_not(images: list[str], out: Path) -> None:
    codes = {"b.png": "overloaded", "c.png": "unreadable_image"}
    assert run_with(Pretended(codes=codes), images, out) == 3
    rest = Pretended()
    assert run_with(rest, images, out, resume=True) == 3
    assert rest.asked == ["b.png"]
    by_name = {Path(row["path"]).name: row["code"] for row in read(out)}
    assert by_name == {"a.png": None, "b.png": None, "c.png": "unreadable_image", "d.png": None}


@pytest.mark.parametrize("form", ["csv"])
@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"name": "other"}, {}, "the model pretender 1 (grid), this run would use other 1"),
        ({"revision": "2"}, {}, "would use pretender 2"),
        ({"crop_policy": "official"}, {}, "would use pretender 1 (official)"),
        ({}, {"prompt": "a dog"}, "other prompts"),
        ({}, {"heads": ("quality",), "prompt": "a cat"}, "the heads quality,alignment,consistency"),
    ],
    ids=["model", "revision", "crop policy", "prompt", "heads"],
)
def test_resume_with_another_set_up_is_refused(
    images: list[str],
    out: Path,
    change: dict[str, str],
    options: dict[str, object],
    message: str,
) -> None:
    run_with(Pretended(), images, out, prompt="a cat")
    before = out.read_bytes()
    other = Pretended(replace(MODEL, **change))  # type: ignore[arg-type]
    with pytest.raises(CannotScore) as refused:
        run_with(other, images, out, resume=True, **{"prompt": "a cat", **options})
    assert message in str(refused.value)
    assert other.asked == []
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("csv", "path,quality\na.png,0.5\n"),
        ("csv", "path,quality\n"),
        ("jsonl", '{"path": "a.png"}\n'),
        ("jsonl", "no json\n"),
        ("jsonl", "[1]\n"),
        ("parquet", "no parquet"),
    ],
)
def test_a_file_that_is_something_else_is_not_resumed(
    images: list[str], out: Path, content: str
) -> None:
    out.write_text(content)
    with pytest.raises(CannotScore, match=r"other columns|can't be read"):
        run_with(Pretended(), images, out, resume=True)
    assert out.read_text() == content


@FORMATS
def test_an_output_that_is_there_is_kept_under_another_name(
    images: list[str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in (1, 2, 3):
        run_with(Pretended(), images[:count], out)
    assert paths_in(out) == ["a.png", "b.png", "c.png"]
    assert paths_in(out.with_name(f"scores.1{out.suffix}")) == ["a.png"]
    assert paths_in(out.with_name(f"scores.2{out.suffix}")) == ["a.png", "b.png"]
    assert f"kept as {out.with_name(f'scores.1{out.suffix}')}" in capsys.readouterr().err


@FORMATS
def test_overwrite_replaces_it(images: list[str], out: Path) -> None:
    run_with(Pretended(stop_at=1), images, out)
    run_with(Pretended(), images[2:], out, overwrite=True)
    assert paths_in(out) == ["c.png", "d.png"]
    assert [p.name for p in out.parent.iterdir() if p.suffix != ".png"] == [out.name]


@pytest.mark.parametrize("form", ["parquet"])
def test_rows_of_a_stopped_parquet_run_are_not_lost_without_resume(
    images: list[str], out: Path
) -> None:
    run_with(Pretended(stop_at=2), images, out)
    run_with(Pretended(), images, out)
    kept = out.with_name("scores.parquet.partial.1.jsonl")
    assert len(read(kept)) == 2
    assert pq.read_table(out).num_rows == 4


@pytest.mark.parametrize("form", ["csv"])
def test_a_service_that_is_gone_stops_the_run(
    images: list[str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Pretended(stop_at=1, stop=Stopped("no service answers at http://here any more"))
    assert run_with(gone, images, out) == 3
    errors = capsys.readouterr().err
    assert "no service answers" in errors
    assert "--resume" in errors


@pytest.mark.parametrize("form", ["csv"])
def test_hostile_names_survive_the_way_to_a_file_and_back(tmp_path: Path, out: Path) -> None:
    names = ["a\nb.png", 'a"b.png', "a\rb.png", "ü,;.png", os.fsdecode(b"caf\xe9.png"), "=1+1.png"]
    images = [str(file) for file in empty_files(tmp_path / "in", *names)]
    run_with(Pretended(), images, out)
    with out.open(newline="", encoding="utf-8") as lines:
        assert len(list(csv.reader(lines))) == 1 + len(names)
    again = Pretended()
    run_with(again, images, out, resume=True)
    assert again.asked == []


def started(images: Path, out: Path, *options: str) -> "subprocess.Popen[str]":
    """A run in a process of its own that has scored some images, but not all."""
    command = [sys.executable, "-m", "app.cli.main", "score", str(images), "-o", str(out), *options]
    process = subprocess.Popen(
        [*command, "--heads", "quality", "--device", "cpu"],
        stderr=subprocess.PIPE,
        text=True,
        # Of a test run in the background it would inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    before = rows_in(out)
    end = time.monotonic() + 120
    while rows_in(out) < before + 3:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def rows_in(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.is_file() else 0


@pytest.mark.integration
@pytest.mark.slow
def test_a_real_run_stops_at_ctrl_c_survives_a_kill_and_ends_whole(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "scores.jsonl"
    images.mkdir()
    data = encoded(picture(600, 600), "JPEG")
    for number in range(80):
        (images / f"{number:03}.jpg").write_bytes(data)

    process = started(images, out)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "go on with the same command and --resume" in errors
    assert "Traceback" not in errors
    kept = out.read_text()
    assert 3 <= kept.count("\n") < 80

    process = started(images, out, "--resume")
    process.kill()
    process.communicate(timeout=60)
    assert out.read_text().startswith(kept)
    assert rows_in(out) < 80

    for file in sorted(images.iterdir())[rows_in(out) + 4 :]:
        file.unlink()
    result = agiqa("score", images, "-o", out, "--resume", "--heads", "quality", "--device", "cpu")
    assert result.exit_code == 0, result.output
    paths = [json.loads(line)["path"] for line in out.read_text().splitlines()]
    assert paths == sorted(str(file) for file in images.iterdir())
