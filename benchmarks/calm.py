"""Whether the service is as fast as another checkout of it, in calm weather, or beside busy loops.

    python -m benchmarks.calm CHECKOUT [--rounds 5] [--images 120] [--clients 16] [--busy 0]

Both services run on the same machine with the same settings, each from its checkout's `.venv`; one
is asked while the other rests, by turns. Prints images per second under saturation, and the median
milliseconds of a lone request, as ratios of this checkout to the other one, round by round.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.drills.load.burner import busy_loops
from benchmarks.service import lone, make_files, saturated
from tests.app.server import free_port, is_complete

HERE = Path(__file__).parent.parent
_START_SECONDS = 120.0
# Lone requests of a round.
_LONE = 30


@contextlib.contextmanager
def service(checkout: Path, log: Path, **settings: str) -> Iterator[str]:
    """The address of that checkout's service, with these variables besides."""
    port = free_port()
    variables = {k: v for k, v in os.environ.items() if not k.startswith("AGIQA_")}
    variables |= {"AGIQA_MODELS": "tiny-clip-agiqa", "AGIQA_DEVICE": "cpu"} | settings
    command: list[str | Path] = [checkout / ".venv/bin/agiqa", "serve", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=variables, cwd=checkout, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + _START_SECONDS
        while not is_complete(url):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{checkout}: no service; {log.read_text()[-1000:]}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def one_round(url: str, files: list[Path], clients: int) -> tuple[float, float]:
    """Images per second, and milliseconds of a lone request."""
    rate, _ = saturated(url, files, clients)
    return rate, 1e3 * statistics.median(lone(url, files[:_LONE]))


def main() -> None:
    """Prints every round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="of what is compared with, `make serve` done")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--busy", type=int, default=0, help="loops that use the same cores")
    given = parser.parse_args()
    rates: list[float] = []
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_files(folder, given.images)
        with (
            service(given.checkout.resolve(), folder / "before.log") as before,
            service(HERE, folder / "after.log") as after,
            busy_loops(given.busy),
        ):
            for url in (before, after):
                saturated(url, files, given.clients)  # warm
            for number in range(given.rounds):
                # Whoever goes first goes second the next time.
                turns = (before, after) if number % 2 else (after, before)
                found = {url: one_round(url, files, given.clients) for url in turns}
                (old_rate, old_wait), (rate, wait) = found[before], found[after]
                rates.append(rate / old_rate)
                waits.append(wait - old_wait)
                print(
                    f"round {number + 1}: {old_rate:.1f} -> {rate:.1f} images/s, "
                    f"a lone request {old_wait:.1f} -> {wait:.1f} ms",
                    flush=True,
                )
    print(
        f"throughput {statistics.median(rates):.2f} of {given.checkout.name}'s "
        f"({min(rates):.2f} to {max(rates):.2f}); "
        f"a lone request {statistics.median(waits):+.1f} ms"
    )


if __name__ == "__main__":
    main()
