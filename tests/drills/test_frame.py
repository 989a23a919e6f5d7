"""A broken promise is seen, a hang ends, and the table and the exit status say so."""

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.drills import __main__ as command
from benchmarks.drills.frame import Drill, Report, Verdict, drills_of, run_all, table


def drill(run: Callable[[Report], object], seconds: int = 20) -> Drill:
    return Drill("example", run, seconds=seconds, short_seconds=seconds)


def verdicts(report: Report) -> list[Verdict]:
    return [finding.verdict for finding in report.findings]


def test_counts_are_judged_in_both_forms_and_timings_in_the_full_one_alone() -> None:
    def run(report: Report) -> None:
        report.check("nothing is lost", "1 of 3", holds=False)
        report.timing("within a second", "2 s", holds=False)

    (full,) = run_all([drill(run)], short=False)
    (short,) = run_all([drill(run)], short=True)
    assert verdicts(full) == [Verdict.BROKEN, Verdict.BROKEN]
    assert verdicts(short) == [Verdict.BROKEN, Verdict.NOT_JUDGED]


def test_each_promise_is_a_line_with_its_figure(capsys: pytest.CaptureFixture[str]) -> None:
    run_all([drill(lambda report: report.check("all answered", "9 of 9", holds=True))], short=True)
    assert capsys.readouterr().out == "ok    example: all answered: 9 of 9\n"


def test_a_drill_that_hangs_is_ended_and_the_next_one_runs() -> None:
    hang, fine = drill(lambda _: threading.Event().wait(), seconds=1), drill(lambda _: None)
    outer, _ = signal.getitimer(signal.ITIMER_REAL)
    first, second = run_all([hang, fine], short=False)
    assert first.broken
    assert "not within 1 s" in first.findings[0].figure
    assert not second.broken
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    assert bool(left) == bool(outer)  # a limit around it goes on to count


def test_a_drill_that_raises_is_a_broken_promise() -> None:
    def run(_: Report) -> None:
        raise RuntimeError("no service")

    (report,) = run_all([drill(run)], short=False)
    assert report.broken
    assert "no service" in report.findings[0].figure


def test_what_cannot_be_looked_at_breaks_nothing() -> None:
    (report,) = run_all([drill(lambda r: r.unknown("two replicas", "no nginx"))], short=False)
    assert not report.broken
    assert report.as_json()["findings"][0]["verdict"] == "?"


def test_the_table_counts_what_each_drill_found() -> None:
    def run(report: Report) -> None:
        report.check("one", 1, holds=True)
        report.check("two", 2, holds=False)
        report.unknown("three", "no such metric")

    lines = table(run_all([drill(run)], short=False)).splitlines()
    assert lines[1].split() == ["example", "1", "1", "0", "1", "0"]


@pytest.mark.parametrize("broken", [False, True])
def test_the_command_fails_where_a_promise_was_broken(
    broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [drill(lambda report: report.check("it holds", 1, holds=not broken))]
    monkeypatch.setattr(command, "drills_of", lambda _: known)
    out = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["drills", "--short", "--json", str(out)])
    assert command.main() == int(broken)
    (report,) = json.loads(out.read_text())
    assert report["drill"] == "example"


def test_every_module_of_a_part_holds_a_drill_of_its_own_name() -> None:
    drills = drills_of("trusted")
    folder = Path(command.__file__).parent / "trusted"
    assert {d.name for d in drills} == {path.stem for path in folder.glob("[!_]*.py")}
    assert sum(d.seconds for d in drills) >= sum(d.short_seconds for d in drills)
