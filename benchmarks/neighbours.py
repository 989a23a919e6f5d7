"""Rows per second of a network beside busy loops, for each way in which its threads may wait for
each other:

    python -m benchmarks.neighbours [--checkpoint tiny-mpiqe] [--rows 9,18,36,72,144]
                                    [--loops 0,1,2] [--seconds 3] [--settings default,...]

Each figure is of a process of its own, since OpenMP reads its variables once. It takes as many
threads as it may use cores, as the service's worker does. Prints a Markdown table; docs/decisions
quotes it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks.drills.load.burner import busy_loops, cores

# Name -> variables; all others of OpenMP are taken away.
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=4000": {"GOMP_SPINCOUNT": "4000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
_OF_OPENMP = ("OMP_", "GOMP_", "KMP_")
_START_SECONDS = 120.0


def main(arguments: list[str] | None = None) -> None:
    """Prints the table."""
    options = _parser().parse_args(arguments)
    if options.child:
        rates = measure(options.checkpoint, options.rows, options.seconds)
        sys.stdout.write(json.dumps(rates))
        return
    print(f"{options.checkpoint}, rows per second on {cores()} cores:\n")
    print("| setting | busy loops | " + " | ".join(f"{n} rows" for n in options.rows) + " |")
    print("|---" * (2 + len(options.rows)) + "|")
    for loops in options.loops:
        for name in options.settings:
            with busy_loops(loops):
                rates = _apart(options, SETTINGS[name])
            figures = " | ".join(f"{rate:.0f}" for rate in rates)
            print(f"| {name} | {loops} | {figures} |", flush=True)


def measure(checkpoint: str, rows: Sequence[int], seconds: float) -> list[float]:
    """Rows per second, here, of calls of so many rows each."""
    # Not above: the busy loops import this module, too.
    import numpy as np

    import model
    from model.scorer import limit_threads

    limit_threads()
    scorer = model.load(checkpoint, device="cpu")
    layout = scorer.plan(512, 512, ("quality",))
    rates = []
    for count in rows:
        random = np.random.default_rng(0)
        crops = random.integers(0, 256, (count, *layout.array_shape[1:]), np.uint8)
        row_pass = [layout.row_pass[0]] * count
        scorer.forward(crops, range(count), row_pass)
        begin, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - begin < seconds:
            scorer.forward(crops, range(count), row_pass)
            calls += 1
        rates.append(count * calls / (time.perf_counter() - begin))
    return rates


def _apart(options: argparse.Namespace, variables: Mapping[str, str]) -> list[float]:
    """``measure`` in a process with these variables."""
    others = {k: v for k, v in os.environ.items() if not k.startswith(_OF_OPENMP)}
    command = [sys.executable, "-m", "benchmarks.neighbours", "--child"]
    command += ["--checkpoint", options.checkpoint, "--seconds", str(options.seconds)]
    command += ["--rows", ",".join(map(str, options.rows))]
    done = subprocess.run(
        command,
        env=others | variables,
        stdout=subprocess.PIPE,
        check=True,
        timeout=_START_SECONDS + 10 * len(options.rows) * options.seconds,
    )
    rates: list[float] = json.loads(done.stdout)
    return rates


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="tiny-mpiqe")
    parser.add_argument("--rows", type=_numbers, default=[9, 18, 36, 72, 144])
    parser.add_argument("--loops", type=_numbers, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each figure")
    parser.add_argument("--settings", type=_settings, default=list(SETTINGS))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _settings(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SETTINGS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(SETTINGS)}")
    return names


if __name__ == "__main__":
    main()
