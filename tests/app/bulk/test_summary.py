"""What a run says while it goes on and when it ends."""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from app.bulk.progress import Progress, duration
from app.bulk.rows import Item, Row, failed, scored
from app.bulk.setup import LocalSetup
from app.bulk.summary import as_text, summarise
from tests.app.bulk.scored import MODEL, agiqa
from tests.app.pictures import encoded


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def row(name: str, quality: float) -> Row:
    return scored(Item(Path(name)), MODEL, {"quality": quality, "crops": 1})


def broken(name: str, code: str = "unreadable_image") -> Row:
    return failed(Item(Path(name)), MODEL, code, "It is broken.")


def test_a_bar_counts_tells_failures_and_is_gone_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with contextlib.closing(Progress(3, quiet=False, to_terminal=False)) as bar:
        for number in range(3):
            bar.step(failed=number == 1)
    written = terminal.getvalue()
    assert "0/3" in written
    assert "images/s" in written
    assert written.endswith("\r"), "the line is cleared, and the cursor at its start"
    assert not written.rstrip("\r").rpartition("\r")[2].strip()


def test_no_bar_is_drawn_among_rows_on_a_terminal_or_when_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for silent in (
        Progress(2, quiet=False, to_terminal=True),
        Progress(2, quiet=True, to_terminal=False),
    ):
        with contextlib.closing(silent):
            silent.step(failed=True)
    assert terminal.getvalue() == ""


def test_a_log_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(Progress(3, quiet=False, to_terminal=False, interval=0)) as lines:
        for number in range(3):
            lines.step(failed=number == 1)
    written = capsys.readouterr().err
    assert "\r" not in written
    shown = r"(\d) of 3 images, [\d.?]+ ?images/s, [\d:?]+ left(, 1 failed)?"
    found = [re.fullmatch(shown, line) for line in written.splitlines()]
    assert all(found)
    assert [(match[1], bool(match[2])) for match in found if match][-2:] == [
        ("2", True),
        ("3", True),
    ]


@pytest.mark.parametrize("quiet", [False, True], ids=["short", "quiet"])
def test_a_short_or_a_quiet_run_adds_nothing_to_a_log(
    capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    interval = 0 if quiet else 30
    bar = Progress(3, quiet=quiet, to_terminal=False, interval=interval)
    with contextlib.closing(bar):
        bar.step(failed=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (3600, "1 h 0 min")],
)
def test_times_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_figures_are_of_the_rows_with_scores() -> None:
    rows = [row(f"{n}.png", n / 100) for n in range(101)]
    summed = summarise([*rows, broken("x.png"), broken("y.png"), broken("z.png", "deadline")])
    assert (summed.images, summed.scored) == (104, 101)
    assert summed.failures == {"unreadable_image": 2, "deadline": 1}
    quality = summed.heads["quality"]
    assert list(summed.heads) == ["quality"]
    found = (quality.mean, quality.median, quality.p5, quality.p95)
    assert found == pytest.approx((0.5, 0.5, 0.05, 0.95))
    assert sum(quality.bins) == 101


def test_the_worst_are_listed_in_order_and_as_many_as_wanted() -> None:
    rows = [row("b.png", 0.2), row("a.png", 0.2), broken("x.png"), row("c.png", 0.9)]
    text = as_text(rows, 2.0, 2, worst=2)
    assert "2 images in 2.0 s (1.0 images/s); 4 with those of before" in text
    assert "failed: 1 unreadable_image" in text
    assert re.findall(r"  0\.\d{3}  (\w\.png)", text) == ["a.png", "b.png"]
    assert "worst" not in as_text(rows, 2.0, 2, worst=0)
    failed_alone = as_text([broken("x.png")], 1.0, 1, worst=5)
    assert failed_alone.splitlines()[0].startswith("1 images in 1.0 s")


def test_an_interrupt_while_the_model_loads_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalSetup, "connect", interrupted)
    (tmp_path / "a.png").write_bytes(encoded())
    result = agiqa("score", tmp_path, "-o", tmp_path / "scores.csv")
    assert result.exit_code == 130
    assert result.stderr == "stopped\n"
    assert not (tmp_path / "scores.csv").exists()
