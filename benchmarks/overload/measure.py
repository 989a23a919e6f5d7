"""What a rule makes of a load."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.overload.clock import run
from benchmarks.overload.machine import Machine
from benchmarks.overload.service import Answer, Request, Rule, SimulatedService, poisson

_CLIENTS = 16
_CAPACITY_SECONDS = 20.0


@dataclass(frozen=True)
class Figures:
    """Attributes:
    goodput: images per second that were served in time while the load lasted.
    late: of what was admitted, the part that ended in no answer.
    p99: of the seconds of what was served.
    """

    goodput: float
    late: float
    p99: float


def figures(answers: Iterable[Answer], seconds: float, end: float) -> Figures:
    """Of a load that lasted ``seconds``, until ``end``."""
    answers = list(answers)
    served = [answer for answer in answers if answer.served]
    late = sum(answer.late for answer in answers)
    in_time = sum(end - seconds <= answer.at <= end for answer in served)
    return Figures(
        in_time / seconds,
        late / max(1, late + len(served)),
        quantile([answer.seconds for answer in served], 0.99),
    )


def quantile(values: Sequence[float], part: float) -> float:
    """The least value that so many are not above; NaN of none."""
    return sorted(values)[math.ceil(part * len(values)) - 1] if values else math.nan


def capacity(rule: Rule, machine: Machine, kind: Request, seconds: float) -> float:
    """Images per second of a closed loop of 16 clients."""

    async def measured() -> float:
        service = SimulatedService(rule, machine)
        rate = await service.closed_loop(kind, _CLIENTS, seconds)
        await service.end()
        return rate

    return run(measured())


def overloaded(
    rule: Rule, machine: Machine, kind: Request, rate: float, seconds: float, seed: int = 0
) -> Figures:
    """So many requests a second, of a service that knows its rates from a closed loop before."""

    async def measured() -> Figures:
        service = SimulatedService(rule, machine, seed)
        await service.closed_loop(kind, _CLIENTS, _CAPACITY_SECONDS)
        await service.idle()
        service.answers.clear()
        start = service.clock()
        await service.play(poisson(kind, rate, seconds, seed))
        await service.end()
        return figures(service.answers, seconds, start + seconds)

    return run(measured())
