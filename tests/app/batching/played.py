"""Requests played to the simulated service under a made-up clock, and what became of them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from benchmarks.overload.clock import run
from benchmarks.overload.machine import Machine
from benchmarks.overload.measure import Figures, figures, quantile
from benchmarks.overload.service import OURS, Answer, Request, SimulatedService

IMAGE = Request(0.0)
CALM = Machine()
SECONDS = 40.0
# The clock when the first request can come: before it, a closed loop of images was answered.
START = 30.0


def played(
    requests: Iterable[Request], machine: Machine = CALM, *, warmed: bool = True
) -> list[Answer]:
    """What becomes of requests, whose times count from ``START``."""

    async def play() -> list[Answer]:
        service = SimulatedService(OURS, machine)
        if warmed:
            await service.closed_loop(IMAGE, 16, 20.0)
            await service.idle()
            service.answers.clear()
        shift = START - service.clock()
        await service.play(
            replace(request, at=request.at + shift)
            for request in sorted(requests, key=lambda request: request.at)
        )
        await service.end()
        assert not service.admission.cost  # all was given back
        return service.answers

    return run(play())


def figures_of(answers: Iterable[Answer], seconds: float = SECONDS, since: float = 0.0) -> Figures:
    """Of what came in ``seconds``, from ``since`` on."""
    return figures(answers, seconds, START + since + seconds)


def came(answers: Iterable[Answer], since: float, until: float) -> list[Answer]:
    """Those whose requests came in that time."""
    return [answer for answer in answers if since <= answer.came - START < until]


def of(answers: Iterable[Answer], owner: str) -> list[Answer]:
    """Those of one sender."""
    return [answer for answer in answers if answer.request.sender.owner == owner]


def assert_promises(answers: Sequence[Answer], patience: float = 0.5) -> None:
    """At most 1 % of what was admitted is late, and p99 of what was served is that part of the
    deadline.
    """
    assert figures_of(answers).late <= 0.01
    parts = [answer.seconds / answer.request.patience for answer in answers if answer.served]
    assert quantile(parts, 0.99) <= patience
