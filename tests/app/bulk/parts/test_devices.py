"""A process for each device, of which one is killed, and then the run itself."""

import os
import signal
from pathlib import Path

from tests.app.bulk.parts.many import (
    Log,
    ended,
    manifest,
    rows,
    run,
    started,
    until,
    until_gone,
)

TWO = "cpu,cpu"
UNIT = 50


def test_a_killed_worker_ends_the_run_and_the_same_command_goes_on(tmp_path: Path) -> None:
    images, log = manifest(tmp_path / "images.parquet", 1_000), Log(tmp_path)
    out = tmp_path / "out"
    with log.held(4):
        job = started(images, out, UNIT, TWO, log)
        until(lambda: len(log.begun()) == 6, job)
        workers = {pid for pid, _ in log.begun()}
        assert len(workers) == 2
        os.kill(workers.pop(), signal.SIGKILL)
        until_gone(workers.pop())  # not kept by a unit that it was in
    code, text = ended(job)
    assert code == 3
    assert "a process could not load the model, or died" in text
    assert "the same command goes on" in text
    again = started(images, out, UNIT, TWO, log)
    assert ended(again)[0] == 0
    assert run([images], tmp_path / "whole", UNIT) == 0
    assert rows(out) == rows(tmp_path / "whole")
    assert log.again() <= 2


def test_the_workers_of_a_run_that_is_killed_end_too(tmp_path: Path) -> None:
    images, log = manifest(tmp_path / "images.parquet", 300), Log(tmp_path)
    with log.held(0):
        job = started(images, tmp_path / "out", UNIT, TWO, log)
        until(lambda: len(log.begun()) == 2, job)
        job.kill()
        ended(job)
        for pid, _ in log.begun():
            until_gone(pid)
