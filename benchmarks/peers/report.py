"""What came out: a table for people, and JSON."""

import importlib.metadata
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.overload.measure import quantile
from benchmarks.peers.bare import Loop, Loops
from benchmarks.peers.clients import Seen
from benchmarks.peers.entrants import Entrant
from benchmarks.peers.setups import Setup
from benchmarks.scaling.paper import table
from model.resources import usable_cores

# Of a bare loop: images in a call, and processes and threads.
_Place = tuple[int, tuple[int, int]]


@dataclass(frozen=True)
class Row:
    """A server in a set-up; a number for each round.

    Attributes:
        rate: images per second.
        p50, p99: ms of a request among others.
        lone: ms of a request that has the server for itself, the median.
        cpu: ms of a core per image.
    """

    server: str
    setup: Setup
    rate: list[float]
    p50: list[float]
    p99: list[float]
    lone: list[float]
    cpu: list[float]

    @property
    def median_rate(self) -> float:
        return statistics.median(self.rate)


@dataclass
class Outcome:
    """All rounds.

    Attributes:
        bare: by processes and threads, the loops of each round.
        seen: what each round has shown of an entrant.
        missing: what was not measured, and why.
    """

    bare: dict[tuple[int, int], list[Loops]] = field(default_factory=dict)
    seen: dict[Entrant, list[Seen]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        return [
            Row(
                entrant.server.name,
                entrant.setup,
                [seen.rate for seen in rounds],
                [1e3 * quantile(seen.times, 0.5) for seen in rounds],
                [1e3 * quantile(seen.times, 0.99) for seen in rounds],
                [1e3 * statistics.median(seen.lone) for seen in rounds],
                [1e3 * seen.cpu for seen in rounds],
            )
            for entrant, rounds in self.seen.items()
        ]

    @property
    def loops(self) -> dict[_Place, list[Loop]]:
        """The bare loop in each round, by images in a call, and processes and threads."""
        found: dict[_Place, list[Loop]] = {}
        for shape, rounds in self.bare.items():
            for loop in (loop for one in rounds for loop in one.loops):
                found.setdefault((loop.together, shape), []).append(loop)
        return found

    @property
    def best_loop(self) -> _Place:
        """The set-up of the bare loop with the most images per second."""
        return max(self.loops, key=lambda place: _rate(self.loops[place]))

    @property
    def most(self) -> float:
        """Images per second of the bare loop in its best set-up."""
        return _rate(self.loops[self.best_loop])


def _rate(loops: Sequence[Loop]) -> float:
    return statistics.median(loop.rate for loop in loops)


def best_of_each(rows: Sequence[Row], *, by_shape: bool = False) -> list[Row]:
    """The set-up with the most images per second of each server, or of each of its shapes."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.server, row.setup.shape if by_shape else "")
        if key not in best or row.median_rate > best[key].median_rate:
            best[key] = row
    return list(best.values())


def shown(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the range where there are several."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown(outcome: Outcome, machine: Mapping[str, Any]) -> str:
    """All tables, and what is not in them."""
    where = "{cpu}, {cores} cores, {precision}; torch {torch}, Python {python}".format(**machine)
    parts = [where, _servers(outcome), _loops(outcome)]
    parts += ["\n".join(f"not measured: {name}: {why}" for name, why in outcome.missing.items())]
    return "\n\n".join(filter(None, parts))


def _servers(outcome: Outcome) -> str:
    most = outcome.most
    header = (
        *("server", "processes x threads", "together", "images/s"),
        *(f"of the bare loop ({most:.1f})", "p50 ms", "p99 ms", "lone ms", "CPU ms per image"),
    )
    rows = outcome.rows
    best = best_of_each(rows)
    lines = [
        (
            f"**{row.server}**" if row in best else row.server,
            row.setup.shape,
            str(row.setup.batch) if row.setup.batch > 1 else "",
            shown(row.rate, 1),
            f"{row.median_rate / most:.2f}",
            *(shown(values) for values in (row.p50, row.p99)),
            *(shown(values, 1) for values in (row.lone, row.cpu)),
        )
        for row in rows
    ]
    return (
        table([header, _best_loop(outcome), *lines])
        + "\n\nIn bold: the best set-up of each server."
    )


def _best_loop(outcome: Outcome) -> tuple[str, ...]:
    """Alone, an image has one process on all cores, as a lone request may."""
    together, (processes, threads) = outcome.best_loop
    loops = outcome.loops[outcome.best_loop]
    alone = outcome.loops[min(outcome.loops)]
    return (
        *("the bare loop", f"{processes} x {threads}", str(together)),
        *(shown([loop.rate for loop in loops], 1), "1.00", "", ""),
        shown([1e3 * loop.call for loop in alone], 1),
        shown([1e3 * loop.cpu for loop in loops], 1),
    )


def _loops(outcome: Outcome) -> str:
    loops = outcome.loops
    header = ("images/s of the bare loop", *(f"{p} x {t}" for p, t in outcome.bare))
    lines = []
    for count in dict.fromkeys(count for count, _ in loops):
        rates = ([loop.rate for loop in loops[count, shape]] for shape in outcome.bare)
        lines.append((f"{count} in a call", *(shown(values, 1) for values in rates)))
    return table([header, *lines])


def machine(precision: str) -> dict[str, Any]:
    """What the figures hang on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": next(names, platform.machine()),
        "cores": usable_cores(),
        "precision": precision,
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
    }


def document(outcome: Outcome, machine: Mapping[str, Any]) -> dict[str, Any]:
    """For JSON."""
    return {
        "machine": dict(machine),
        "servers": [asdict(row) for row in outcome.rows],
        "bare": [
            {"processes": p, "threads": t, "rounds": [asdict(loop) for loop in loops]}
            for (_, (p, t)), loops in outcome.loops.items()
        ],
        "missing": outcome.missing,
    }
