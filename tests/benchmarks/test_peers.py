"""Servers are measured alike, and none is left out in silence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.peers import report
from benchmarks.peers.__main__ import main
from benchmarks.peers.bare import Loop, Loops
from benchmarks.peers.clients import Seen, Window, used
from benchmarks.peers.contest import Contest
from benchmarks.peers.entrants import SERVERS, Entrant, Server, entrants
from benchmarks.peers.environments import NotMeasured, interpreter
from benchmarks.peers.plot import svg
from benchmarks.peers.setups import Setup, shapes
from tests.benchmarks.fake_peer import quality

FAKE = Server("fake", ("tests.benchmarks.fake_peer",))
MACHINE = {"cpu": "a CPU", "cores": 2, "precision": "float32", "python": "3", "torch": "2"}


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    files = tmp_path / "files"
    files.mkdir()
    uploads = [bytes(100_000 * (i + 1)) for i in range(4)]
    for i, upload in enumerate(uploads):
        (files / f"{i}.jpg").write_bytes(upload)
    return Contest(files, tmp_path / "log", 3, 8, [quality(upload) for upload in uploads])


@pytest.mark.integration
@pytest.mark.parametrize("form", [False, True])
def test_a_server_is_measured_by_the_answers_between_warm_up_and_end(
    contest: Contest, form: bool
) -> None:
    entrant = Entrant(Server(FAKE.name, FAKE.module, form=form), Setup())
    seen = contest.measure(entrant, Path(sys.executable))
    assert seen.qualities == contest.qualities
    assert len(seen.times) == contest.images
    assert len(seen.lone) == 4
    assert seen.rate > 0
    assert seen.cpu >= 0


@pytest.mark.integration
def test_a_server_with_other_scores_is_not_measured(contest: Contest) -> None:
    other = Contest(contest.files, contest.log, 3, 8, [0.9] * 4)
    with pytest.raises(NotMeasured, match=r"differ from the scorer's by up to 0\.8"):
        other.measure(Entrant(FAKE, Setup()), Path(sys.executable))


@pytest.mark.integration
def test_a_server_that_ends_is_not_measured_and_its_last_line_is_the_reason(
    contest: Contest,
) -> None:
    nobody = Server("nobody", ("tests.benchmarks.no_such_peer",))
    with pytest.raises(NotMeasured, match=r"No module named tests\.benchmarks\.no_such_peer"):
        contest.measure(Entrant(nobody, Setup()), Path(sys.executable))


def test_answers_before_and_behind_the_window_do_not_count() -> None:
    window = Window(os.getpid(), before=2, count=3)
    for seconds in range(7):
        assert window.is_over == (seconds >= 5)
        window.add(seconds)
    assert window.times == [2, 3, 4]
    assert len(window.marks) == 2


def test_the_time_of_a_core_is_that_of_all_processes_of_a_server() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()
        assert used(child.pid) >= 0.25
        assert used(os.getpid()) >= used(child.pid)
        child.stdin.write(b"\n")


def test_each_set_up_fills_the_cores_and_only_those_that_batch_are_tried_with_batches() -> None:
    assert shapes(1) == [(1, 1)]
    found = entrants(list(SERVERS.values()), 4, [1, 8], "float32")
    setups = {
        name: [e.setup.label for e in found if e.server is server]
        for name, server in SERVERS.items()
    }
    assert setups["agiqa"] == ["default", "1 x 4", "4 x 1"]
    assert setups["fastapi"] == ["1 x 4", "4 x 1"]
    assert setups["mosec"][:2] == ["1 x 4", "1 x 4, up to 8 together"]
    assert len(setups["litserve"]) == len(setups["ray"]) == 4
    default, _, spread = (e.environment() for e in found[:3])
    assert not {"AGIQA_WORKERS", "AGIQA_THREADS", "OMP_NUM_THREADS"} & set(default)
    assert (spread["AGIQA_WORKERS"], spread["AGIQA_THREADS"]) == ("4", "1")


def outcome() -> report.Outcome:
    """Two servers, three rounds, of which one is slower."""
    found = report.Outcome(missing={"Ray Serve": "no such package"})
    for rate in (50.0, 40.0, 51.0):
        loops = [Loop(1, rate, 0.02, 0.02), Loop(8, rate - 10, 0.02, 0.2)]
        found.bare.setdefault((1, 2), []).append(Loops(loops, [0.5], "float32"))
        seen = [
            Seen(rate * part, 0.02, [0.1] * 98 + [0.5] * 2, [0.03], [0.5]) for part in (0.9, 0.5)
        ]
        setups = [Setup(1, 2), Setup(2, 1, batch=8)]
        for setup, one in zip(setups, seen, strict=True):
            found.seen.setdefault(Entrant(FAKE, setup), []).append(one)
    return found


def test_the_table_has_medians_ranges_and_what_was_not_measured() -> None:
    text = report.markdown(outcome(), MACHINE)
    assert "a CPU, 2 cores, float32" in text
    assert "of the bare loop (50.0)" in text
    best = (
        "| **fake** | 1 x 2 |  | 45.0 (36.0 to 45.9) | 0.90 | 100 (100 to 100) | 500 (500 to 500)"
    )
    assert best in text
    assert "| fake | 2 x 1 | 8 | 25.0 (20.0 to 25.5) | 0.50 |" in text
    alone = "| the bare loop | 1 x 2 | 1 | 50.0 (40.0 to 51.0) | 1.00 |  |  | 20.0 (20.0 to 20.0) |"
    assert alone in text
    assert "| 8 in a call | 40.0 (30.0 to 41.0) |" in text
    assert "not measured: Ray Serve: no such package" in text


def test_the_plot_has_a_bar_for_each_shape() -> None:
    found = outcome()
    root = ElementTree.fromstring(svg(found.rows, found.most, "a CPU & more"))
    bars = [e for e in root.iter() if e.get("class") == "bar"]
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths[1] / widths[0] == pytest.approx(25 / 45, abs=0.01)


@pytest.mark.slow
def test_a_rival_that_can_not_be_installed_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotMeasured, match="no-such-rival==1"):
        interpreter(tmp_path / "venv", "no-such-rival==1")


@pytest.mark.slow
@pytest.mark.integration
def test_plain_fastapi_is_measured_beside_the_bare_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--images", "4", "--clients", "2", "--rounds", "1", "--cores", "1"]
    main(["--only", "fastapi", *few, "--dtype", "float32", "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    assert f"| **{SERVERS['fastapi'].name}** | 1 x 1 |" in printed
    assert "not measured" not in printed
    written = json.loads((tmp_path / "peers.json").read_text())
    assert written["machine"]["precision"] == "float32 on cpu"
    assert written["servers"][0]["rate"][0] > 0
    assert [loop["rounds"][0]["together"] for loop in written["bare"]] == [1, 2, 4, 8, 16]
    assert (tmp_path / "peers.svg").is_file()
