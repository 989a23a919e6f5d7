"""What a row costs by how many share a call of the network: a straight line without a cliff?

    python -m benchmarks.rows [MODEL] [--dtype auto] [--threads N] [--most 256]

Prints milliseconds per row from 1 row on, each size twice the one before; how well a straight line
fits the seconds (r^2); and the worst ratio of a size's cost per row to that of half of it. The
memory that is freed is kept, as the service does; `--plain`: as the C library does of itself.
"""

import argparse
import statistics

import numpy as np
import torch

import model
from benchmarks.timing import seconds
from model.scorer import Scorer, limit_threads

_ROUNDS = 5


def costs(scorer: Scorer, most: int) -> dict[int, float]:
    """Median seconds of a call, by its rows."""
    size = scorer.planner.policy.size
    rng = np.random.default_rng(0)
    found: dict[int, list[float]] = {}
    for _ in range(1 + _ROUNDS):
        rows = 1
        while rows <= most:
            crops = rng.integers(0, 256, (rows, 3, size, size), np.uint8)
            passes = [0] * rows
            took = seconds(lambda c=crops, p=passes: scorer.forward(c, range(len(p)), p))  # type: ignore[misc]
            found.setdefault(rows, []).append(took)
            rows *= 2
    return {rows: statistics.median(took[1:]) for rows, took in found.items()}


def straightness(found: dict[int, float]) -> float:
    """r^2 of the line that fits the seconds best."""
    rows, took = np.array(list(found)), np.array(list(found.values()))
    line = np.polynomial.Polynomial.fit(rows, took, 1)
    return float(1 - ((took - line(rows)) ** 2).sum() / ((took - took.mean()) ** 2).sum())


def worst_doubling(found: dict[int, float]) -> float:
    """The largest ratio of a size's seconds per row to that of half of it."""
    return max(found[rows] / 2 / found[rows // 2] for rows in found if rows > 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="tiny-clip-agiqa")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--most", type=int, default=256)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    if given.plain:
        torch.set_num_threads(given.threads or torch.get_num_threads())
    else:
        limit_threads(given.threads)
    scorer = model.load(given.model, device="cpu", dtype=given.dtype)
    found = costs(scorer, given.most)
    print(f"{given.model}, {scorer.precision}, threads: {torch.get_num_threads()}")
    for rows, took in found.items():
        print(f"{rows:4d} rows {1e3 * took / rows:7.2f} ms a row")
    print(f"r^2 of a straight line {straightness(found):.4f}")
    print(f"a row of a size beside a row of half of it: at worst {worst_doubling(found):.2f}")


if __name__ == "__main__":
    main()
