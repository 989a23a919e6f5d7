"""The worker's loop, and what it keeps of its memory."""

import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app import worker
from app.batching.batcher import Outcome
from app.device.lifeline import Heartbeat
from app.device.messages import Done, Run


def test_it_looks_at_its_memory_behind_each_batch_once_that_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours: Connection[Any, Any]
    theirs: Connection[Any, Any]
    ours, theirs = Pipe()
    answered: list[bool] = []

    def look() -> None:
        answered.append(ours.poll(60))
        ours.recv()

    monkeypatch.setattr(worker, "Tidying", lambda: SimpleNamespace(look=look))
    computes = SimpleNamespace(
        stages=False,
        answer=lambda run: Done(run.number, Outcome([], seconds=0.0)),
        measuring=lambda _: iter(()),
    )
    heartbeat = Heartbeat(theirs)
    arguments = (cast(worker.Worker, computes), theirs, heartbeat)
    loop = threading.Thread(target=worker.serve, args=arguments)
    loop.start()
    for number in range(3):
        ours.send(Run(number, "m", ()))
    ours.send(None)
    loop.join(60)
    assert answered == [True] * 3
    ours.close()
    theirs.close()
