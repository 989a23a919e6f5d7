"""Interleaved timing: machines drift, so rivals take turns and ratios are taken pair by pair."""

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratios(ours: Callable[[], object], rival: Callable[[], object], rounds: int) -> list[float]:
    """Rival's time / our time, after one warm-up each, in ``rounds`` turns."""
    ours(), rival()
    return [seconds(rival) / seconds(ours) for _ in range(rounds)]


def shown(values: list[float], unit: str = "x") -> str:
    middle = statistics.median(values)
    return f"{middle:.2f}{unit} (median of {len(values)}; {min(values):.2f} to {max(values):.2f})"
