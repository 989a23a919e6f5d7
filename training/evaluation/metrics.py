"""Figures of agreement with opinion scores."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

FloatList = Sequence[float] | np.ndarray


def srcc(predicted: FloatList, mos: FloatList) -> float:
    """Spearman's rank correlation in [-1, 1]."""
    return float(stats.spearmanr(predicted, mos).statistic)


def plcc(predicted: FloatList, mos: FloatList) -> float:
    """Pearson's correlation in [-1, 1] of the raw scores; no curve is fitted first."""
    return float(stats.pearsonr(predicted, mos).statistic)


def krcc(predicted: FloatList, mos: FloatList) -> float:
    """Kendall's tau-b in [-1, 1]."""
    return float(stats.kendalltau(predicted, mos).statistic)


def rmse(predicted: FloatList, mos: FloatList) -> float:
    """Root of the mean squared error, in the unit of the scores."""
    return float(np.sqrt(np.mean((np.asarray(predicted) - np.asarray(mos)) ** 2)))


def agreement(predicted: FloatList, mos: FloatList) -> dict[str, float]:
    """SRCC, PLCC (raw), KRCC and RMSE."""
    return {f.__name__: f(predicted, mos) for f in (srcc, plcc, krcc, rmse)}


def srcc_interval(
    predicted: FloatList, mos: FloatList, seed: int = 0, rounds: int = 1000
) -> tuple[float, float]:
    """95 % bootstrap interval of the SRCC, resampling images."""
    rng = np.random.default_rng(seed)
    a, b = np.asarray(predicted), np.asarray(mos)
    draws = (rng.integers(0, len(a), len(a)) for _ in range(rounds))
    low, high = np.quantile([srcc(a[i], b[i]) for i in draws], [0.025, 0.975])
    return float(low), float(high)


def within(groups: Sequence[str], predicted: FloatList, mos: FloatList) -> Mapping[str, float]:
    """SRCC inside each group (generator, say)."""
    a, b, g = np.asarray(predicted), np.asarray(mos), np.asarray(groups)
    return {name: srcc(a[g == name], b[g == name]) for name in sorted(set(groups))}
