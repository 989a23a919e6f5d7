"""Open-loop load on a running service, or on one that is started for it, from a process of its own.

    python -m benchmarks.drills.openloop [--url URL] [--rate 3x] [--seconds 20] [--mix small]

First a closed loop of 16 clients: its images per second are the capacity. Then requests at the
rate (``3x`` that capacity, or ``40`` per second), whatever becomes of them; their seconds count
from when they were due. Last the capacity again, while a process burns what the generator burned.
"""

import argparse
import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.drills import processes
from benchmarks.drills.load.figures import cpu_per_refusal
from benchmarks.drills.load.loads import AS_SHIPPED, Loaded, closed, opened
from benchmarks.drills.load.mix import MIXES
from benchmarks.drills.service import service


def main() -> None:
    """Prints the figures of the three loads."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="of a running service; none: one is started")
    parser.add_argument("--rate", default="3x")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--mix", default="small", choices=sorted(MIXES))
    arguments = parser.parse_args()
    mix = MIXES[arguments.mix]()
    with _target(arguments.url) as (url, pid):
        watch = processes.tree(pid) if pid else []
        calm = closed(url, mix, arguments.seconds / 2, watch=watch)
        capacity = calm.figures.goodput
        print(f"capacity   {calm.figures}; {_cpu(calm, pid)}", flush=True)
        rate = _rate(arguments.rate, capacity)
        crowd = opened(url, mix, rate, arguments.seconds, watch=watch, come_back=40)
        print(f"{rate:6.1f}/s   {crowd.figures}; {_cpu(crowd, pid)}", flush=True)
        _print_refusals(calm, crowd, pid)
        extra = max(0.0, crowd.generator_share - calm.generator_share)
        again = closed(url, mix, arguments.seconds / 2, burning=extra)
        print(f"capacity   {again.figures} beside {extra:.1%} of a core that is burned")
        shares = [crowd.figures.goodput / max(1e-9, c) for c in (capacity, again.figures.goodput)]
        print(
            f"goodput    {shares[0]:.1%} of the capacity, "
            f"{shares[1]:.1%} of that beside the stand-in"
        )


def _print_refusals(calm: Loaded, crowd: Loaded, pid: int) -> None:
    figures = crowd.figures
    if pid:
        seconds = cpu_per_refusal(calm.sent, calm.figures, crowd.sent, figures, pid)
        print(f"           {1e3 * seconds:.2f} ms of the service's CPU per refusal")
    print(f"           Retry-After: {figures.waits()}")
    print(
        f"           {len(figures.come_back)} came back in their time, {figures.back_served:.0%} "
        f"were served; {figures.bytes_per_refusal / 1024:.0f} KiB sent per refused body; "
        f"the generator was late by {1e3 * figures.lag(0.5):.1f} ms (p50), "
        f"{1e3 * figures.lag(0.99):.0f} ms (p99)"
    )


def _cpu(loaded: Loaded, pid: int) -> str:
    text = f"the generator took {loaded.cores}"
    if pid:
        shares: dict[str, float] = defaultdict(float)
        for each, seconds in loaded.sent.watched.items():
            shares["api" if each == pid else processes.role(each)] += seconds
        parts = [f"{name} {s / loaded.sent.seconds:.2f}" for name, s in shares.items() if s]
        text += f", the service's processes of one core: {', '.join(parts)}"
    return text


def _rate(text: str, capacity: float) -> float:
    rate = float(text[:-1]) * capacity if text.endswith("x") else float(text)
    if rate <= 0:
        raise SystemExit("nothing was served, so there is no rate to load it with")
    return rate


@contextlib.contextmanager
def _target(url: str | None) -> Iterator[tuple[str, int]]:
    """The service, and the process that answers; 0 where it is not to be found."""
    if url:
        yield url, processes.listener(urlsplit(url).port or 80)
        return
    with tempfile.TemporaryDirectory() as folder, service(Path(folder), AS_SHIPPED) as running:
        yield running.url, running.pid


if __name__ == "__main__":
    main()
