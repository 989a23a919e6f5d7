"""Past one device, on paper and with lanes that sleep.

    python -m benchmarks.scaling [--only paper | queues | lanes]
        [--efficiency 0.5] [--carried 350] [--decode 4.8] [--price 1] [--load 0.8]
        [--lanes 1 2 4] [--seconds 5] [--clients 16] [--rounds 1]

The paper and the queues take seconds. The lanes are measured: see ``benchmarks.scaling.lanes``.
"""

import argparse
from collections.abc import Sequence

from benchmarks.scaling import lanes
from benchmarks.scaling.paper import (
    NETWORKS,
    PEAKS,
    SIZES,
    Assumed,
    Device,
    Measured,
    measure,
    on_paper,
    table,
)
from benchmarks.scaling.queueing import CHOICES, Seconds, simulate

REPLICAS = (10, 100, 1000)
# For each replica, so that the queues of many get as long as those of few.
_REQUESTS = 200
_LEAST_REQUESTS = 40_000


def devices(assumed: Assumed) -> str:
    """A line for each network and GPU; the bundled model is too small even for the smallest."""
    header = (
        *("network", "GPU", "rows/s", "images/s", "crops, GB/s"),
        *("decode cores", "API processes", "price of a million images"),
    )
    lines = [
        (f"{network.name}, {network.backbone}", gpu, *_cells(on_paper(network, peak, assumed)))
        for network in NETWORKS
        for gpu, peak in PEAKS.items()
        if network.backbone != "own" or peak == min(PEAKS.values())
    ]
    return table([header, *lines])


def _cells(device: Device) -> list[str]:
    return [
        f"{device.rows:,.0f}",
        f"{device.images:,.0f}",
        f"{device.crops / 1e9:.1f}",
        f"{device.decoders:.1f}",
        f"{device.processes:.1f}",
        f"{device.price:.2f}",
    ]


def queues(times: Seconds, load: float) -> str:
    """Milliseconds from arrival to answer by the choice of the replica, and in the parts of the
    mean time that a request takes of its replica.
    """
    lines: list[tuple[str, ...]] = [("replicas", *CHOICES)]
    mean = float(times.mean())
    for count in REPLICAS:
        requests = max(_LEAST_REQUESTS, _REQUESTS * count)
        cells = []
        for choose in CHOICES.values():
            p99 = simulate(count, times, load, choose, requests).p99()
            cells.append(f"{p99 * 1e3:.0f} ms, {p99 / mean:.1f}x")
        lines.append((str(count), *cells))
    return table(lines)


def _measured(seen: Measured) -> str:
    found = zip(SIZES, seen.rows, seen.times.tolist(), strict=True)
    header = ("image", "rows", "crops and network, ms of a core")
    lines = [
        (f"{width} x {height}", str(rows), f"{seconds * 1e3:.0f}")
        for (width, height), rows, seconds in found
    ]
    return table([header, *lines])


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints what is asked for, all of it by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("paper", "queues", "lanes"))
    parser.add_argument("--efficiency", type=float, default=0.5, help="part of the peak")
    parser.add_argument("--carried", type=float, default=350.0, help="by an API process, images/s")
    parser.add_argument("--decode", type=float, default=4.8, help="ms of a core for an image")
    parser.add_argument("--price", type=float, default=1.0, help="of a device's hour")
    parser.add_argument("--load", type=float, default=0.8, help="of the replicas in the queues")
    lanes.add_options(parser)
    given = parser.parse_args(arguments)
    if given.only != "lanes":
        _paper(given)
    if given.only in {None, "lanes"}:
        lanes.run(given)


def _paper(given: argparse.Namespace) -> None:
    seen = measure()
    print(
        f"{_measured(seen)}\n\na core of this CPU: {seen.rows_per_second:.0f} rows/s\n", flush=True
    )
    if given.only != "queues":
        assumed = Assumed(given.efficiency, given.decode / 1e3, given.carried, given.price)
        print(f"{devices(assumed)}\n", flush=True)
    if given.only != "paper":
        print(f"p99 at load {given.load:g}\n\n{queues(seen.times, given.load)}\n", flush=True)


if __name__ == "__main__":
    main()
