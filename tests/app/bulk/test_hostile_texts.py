"""Names and prompts that are made to be run by a spreadsheet or a terminal, and files that never
end.
"""

import csv
import os
import sys
from pathlib import Path

import click
import pytest

from app.bulk.errors import CannotScore
from app.bulk.prompts import with_prompts
from app.bulk.rows import Item, scored
from app.bulk.run import SOME_FAILED, Job, run
from app.bulk.summary import as_text
from app.bulk.tables import opened, read
from app.cli.errors import as_messages
from tests.app.bulk.scored import MODEL, Pretended

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''@x"]
HARMLESS = ["a fox", "'quoted'", "1-1", "ü=1", "'"]
CLEAR = "\x1b[2J\x1b]0;owned\x07.png"


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_texts_come_back_as_they_were(tmp_path: Path, form: str) -> None:
    out = tmp_path / f"scores.{form}"
    rows = [
        scored(Item(Path(text), text), MODEL, {"quality": 0.5}) | {"detail": text}
        for text in FORMULAS + HARMLESS
    ]
    with opened(out) as write:
        for row in rows:
            write(row)
    assert read(out) == rows


def test_no_cell_of_csv_begins_as_a_formula_but_numbers_do_as_they_are(tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    with opened(out) as write:
        for text in FORMULAS + HARMLESS:
            row = scored(Item(Path(text), text), MODEL, {"quality": 0.5})
            write(row | {"mos": -1.5, "detail": text})
    with out.open(newline="", encoding="utf-8") as lines:
        cells = list(csv.DictReader(lines))
    assert len(cells) == len(FORMULAS + HARMLESS)
    for row, text in zip(cells, FORMULAS + HARMLESS, strict=True):
        for column in ("path", "prompt", "detail"):
            assert row[column][0] not in "=+-@\t\r\n"
            assert row[column] == (f"'{text}" if text in FORMULAS else text)
        assert row["mos"] == "-1.5"


def test_a_table_of_before_is_read_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    with opened(out) as write:
        write(scored(Item(Path("a.png"), "a fox"), MODEL, {}))
    out.write_text(out.read_text().replace("a fox", "=1+1"))
    assert [row["prompt"] for row in read(out)] == ["=1+1"]


def test_the_summary_shows_escape_sequences_and_does_not_send_them() -> None:
    row = scored(Item(Path(CLEAR)), MODEL, {"quality": 0.1})
    text = as_text([row, row | {"path": "a\nb.png"}], 1.0, 2, worst=2)
    assert text.replace("\n", "").isprintable()
    assert r"\x1b[2J\x1b]0;owned\x07.png" in text
    assert r"0.100  a\nb.png" in text


def test_messages_show_escape_sequences_and_do_not_send_them() -> None:
    with pytest.raises(click.ClickException) as refusal, as_messages(CannotScore):
        raise CannotScore(f"{CLEAR}: no such file")
    assert refusal.value.message.isprintable()


def test_rows_on_a_terminal_show_escape_sequences_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / CLEAR).touch()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    run(Job(paths=[str(tmp_path)], quiet=True), Pretended)
    assert r"\x1b[2J" in capsys.readouterr().out


def test_a_pipe_that_is_named_like_an_image_is_a_row_and_is_not_read(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    (tmp_path / "b.png").unlink()
    os.mkfifo(tmp_path / "b.png")
    out, scoring = tmp_path / "scores.jsonl", Pretended()
    job = Job(paths=[str(tmp_path), "/dev/zero"], prompts="embedded", out=out, quiet=True)
    assert run(job, lambda: scoring) == SOME_FAILED
    assert scoring.asked == ["a.png", "c.png"]
    codes = {Path(row["path"]).name: row["code"] for row in read(out)}
    special = "unreadable_file"
    assert list(codes) == ["a.png", "b.png", "c.png", "zero"]
    assert codes == {"a.png": None, "b.png": special, "c.png": None, "zero": special}


def test_a_pipe_beside_an_image_is_no_prompt(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(CannotScore, match="no regular file"):
        with_prompts([tmp_path / "a.png"], "beside", None)
