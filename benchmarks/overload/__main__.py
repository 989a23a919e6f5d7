"""Goodput and p99 against the offered load, simulated: this service's rule, that of 0.5.0, CoDel.

    python -m benchmarks.overload [--plot docs/images]

The service's own admission, scheduler, rates and lane run under a made-up clock, around a device
and decoders that are figures; requests come at random times, whatever becomes of the ones before.
The same figures come each time.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.overload import plot
from benchmarks.overload.machine import Machine
from benchmarks.overload.measure import Figures, capacity, overloaded
from benchmarks.overload.rules import RULES
from benchmarks.overload.service import OURS, Request

LOADS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
_SECONDS = 60.0
_IMAGE = Request(0.0)
_CALM = Machine()
_NEIGHBOUR_EVERY = 20.0
_NEIGHBOUR_STAYS = 6.0


def neighbour(now: float) -> float:
    """The pace beside a process that comes every 20 seconds, for 6, and takes more than half."""
    return 2.5 if now % _NEIGHBOUR_EVERY < _NEIGHBOUR_STAYS else 1.0


def costly(now: float) -> float:
    """Seconds of a byte of a prompt, of which there are 40, beside 50 ms of the image's rows."""
    del now
    return 0.025 / 40


WEATHERS = {
    "calm": (_CALM, _IMAGE, LOADS),
    "a neighbour for 6 of 20 s, 2.5 times as slow": (
        replace(_CALM, pace=neighbour),
        _IMAGE,
        (1.0, 3.0, 10.0),
    ),
    "prompts that take as long as half an image": (
        replace(_CALM, per_prompt_byte=costly),
        replace(_IMAGE, prompt=40),
        (1.0, 3.0, 10.0),
    ),
}


def main() -> None:
    """Prints the tables; writes the plots."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="for the two SVG files")
    folder = parser.parse_args().plot
    calm: dict[str, list[plot.Point]] = {}
    for name, (machine, kind, loads) in WEATHERS.items():
        most = capacity(OURS, machine, kind, _SECONDS)
        print(f"\n{name}: {most:.1f} images/s in a closed loop")
        print(f"{'offered':>8}" + "".join(f"{rule.name:>28}" for rule in RULES))
        for load in loads:
            found = [overloaded(r, machine, kind, load * most, _SECONDS) for r in RULES]
            print(f"{load:7g}x" + "".join(f"{_cell(f, most):>28}" for f in found), flush=True)
            if machine is _CALM:
                for rule, f in zip(RULES, found, strict=True):
                    point = plot.Point(load, f.goodput / most, f.p99 / kind.patience)
                    calm.setdefault(rule.name, []).append(point)
    print("\nof the capacity served in time; of what was admitted, late; p99 of what was served")
    if folder:
        plot.write(folder, calm)


def _cell(found: Figures, most: float) -> str:
    return f"{found.goodput / most:4.0%} {found.late:6.1%} late {found.p99:5.2f} s"


if __name__ == "__main__":
    main()
