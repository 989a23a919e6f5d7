"""Figures of agreement with opinion scores, and how sure they are.

SRCC and KRCC compare ranks. PLCC and RMSE compare values: of the raw scores, or (``_vqeg``) after
the four-parameter logistic of the Video Quality Experts Group has carried the predictions onto the
opinion scale, as papers of the field do. Say which: the curve flatters, and hides a wrong scale.

A correlation is nan where it isn't defined: under two images, one side constant (but for rounding),
or a value that isn't finite.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats
from scipy.special import expit

FloatList = Sequence[float] | np.ndarray
Metric = Callable[[FloatList, FloatList], float]

# Spread over size, under which an array is constant but for rounding.
_ROUNDING = 1e-11
# Where the fit looks for its start, on predictions of mean 0 and deviation 1.
_SLOPES = (0.5, 1.0, 2.0, 4.0, 8.0)
_CENTRES = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles
# A logistic of this slope differs from a line by 1e-8 of a deviation at ten deviations.
_STRAIGHT = 1e-5
# Sum of squares under which a curve is flat over the data but for rounding.
_FLAT = 1e-20


def srcc(predicted: FloatList, mos: FloatList) -> float:
    """Spearman's rank correlation in [-1, 1]."""
    return _correlation(stats.spearmanr, predicted, mos)


def plcc(predicted: FloatList, mos: FloatList) -> float:
    """Pearson's correlation in [-1, 1] of the raw scores; no curve is fitted first."""
    return _correlation(stats.pearsonr, predicted, mos)


def plcc_vqeg(predicted: FloatList, mos: FloatList) -> float:
    """Pearson's correlation after ``fit_logistic`` on the same images: in [0, 1], since the curve
    turns a falling relation round.
    """
    x, y = _floats(predicted), _floats(mos)
    return float("nan") if _constant(x) or _constant(y) else plcc(fit_logistic(x, y)(x), y)


def krcc(predicted: FloatList, mos: FloatList) -> float:
    """Kendall's tau-b in [-1, 1]."""
    return _correlation(stats.kendalltau, predicted, mos)


def rmse(predicted: FloatList, mos: FloatList) -> float:
    """Root of the mean squared error, in the unit of the scores."""
    return float(np.sqrt(np.mean((np.asarray(predicted) - np.asarray(mos)) ** 2)))


def rmse_vqeg(predicted: FloatList, mos: FloatList) -> float:
    """RMSE after ``fit_logistic`` on the same images, in the unit of ``mos``; of constant
    predictions, the deviation of ``mos``. nan where a value isn't finite.
    """
    if not (np.isfinite(predicted).all() and np.isfinite(mos).all()):
        return float("nan")
    return rmse(fit_logistic(predicted, mos)(predicted), mos)


AGREEMENT: tuple[Metric, ...] = (srcc, plcc, plcc_vqeg, krcc, rmse, rmse_vqeg)


def agreement(predicted: FloatList, mos: FloatList) -> dict[str, float]:
    """SRCC, PLCC, KRCC and RMSE; PLCC and RMSE raw and, as ``_vqeg``, after the logistic."""
    return {metric.__name__: metric(predicted, mos) for metric in AGREEMENT}


@dataclass(frozen=True, slots=True)
class Logistic:
    """f(x) = (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2, the curve of VQEG's report (2000).

    ``parameters``: b1 to b4; b1 < b2 where the relation falls. ``converged``: False if the best
    curve found was still improving, or if no curve was better than the least-squares line; then the
    parameters are those of a logistic so wide that it is this line over the data.
    """

    parameters: tuple[float, float, float, float]
    converged: bool

    def __call__(self, predicted: FloatList) -> np.ndarray:
        """Predictions of any shape on the opinion scale, same shape."""
        b1, b2, b3, b4 = self.parameters
        return (b1 - b2) * expit((_floats(predicted) - b3) / abs(b4)) + b2


# By hand: one start of scipy's curve_fit hangs on units and direction, which this fit does not.
def fit_logistic(predicted: FloatList, mos: FloatList) -> Logistic:
    """The least-squares logistic (Levenberg-Marquardt from the best of 25 starts). Whatever the
    units of both lists, and whichever way predictions point, the fitted values are the same.

    Constant predictions, or constant opinions, give the mean opinion (not converged).

    Raises:
        ValueError: lists of unequal length, empty, or with values that aren't finite.
    """
    x, y = _floats(predicted), _floats(mos)
    if x.shape != y.shape or not x.size or not np.isfinite([x, y]).all():
        raise ValueError("a logistic needs two lists of finite scores, of one length")
    if _constant(x) or _constant(y):
        return Logistic((float(y.mean()), float(y.mean()), float(x.mean()), 1.0), converged=False)
    z, t = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    (low, rise, slope, centre), converged = _fit_standard(z, t)
    parameters = (
        float(y.mean() + y.std() * (low + rise)),
        float(y.mean() + y.std() * low),
        float(x.mean() + x.std() * centre),
        float(x.std() / slope),
    )
    return Logistic(parameters, converged)


def _fit_standard(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, bool]:
    """(low, rise, slope, centre) of low + rise / (1 + exp(-slope (z - centre))), for arrays of mean
    0 and deviation 1; and whether the search ended at a curve.

    Only the slope (by its logarithm) and the centre are searched for: the best rise and low to each
    are linear regression (variable projection, with Kaufman's Jacobian). A search for all four
    crawls where the points lie near a line, since there they run off to infinity together.
    """
    tilt = float(np.mean(z * t))  # of the least-squares line through (0, 0)
    line = np.array([-2 * tilt / _STRAIGHT, 4 * tilt / _STRAIGHT, _STRAIGHT, 0.0])
    if len(z) <= len(line):  # no more images than parameters: any curve would do
        return line, False

    def errors(curve: np.ndarray) -> np.ndarray:
        _, spread, rise = _suited(z, t, _slope(curve[0]), curve[1])
        return rise * spread - t

    def slopes(curve: np.ndarray) -> np.ndarray:  # [images, 2]
        k = _slope(curve[0])
        s, spread, rise = _suited(z, t, k, curve[1])
        steep = rise * k * s * (1 - s)
        by = np.stack([steep * (z - curve[1]), -steep], 1)
        by -= by.mean(0)
        return by - np.outer(spread, spread @ by) / max(spread @ spread, _FLAT)

    found = optimize.least_squares(errors, _start(z, t), jac=slopes, method="lm", max_nfev=200)
    if 2 * found.cost / len(z) >= 1 - tilt**2 - 1e-9:
        return line, False
    slope, centre = _slope(found.x[0]), found.x[1]
    s, _, rise = _suited(z, t, slope, centre)
    return np.array([-rise * s.mean(), rise, slope, centre]), bool(found.success)


def _slope(logarithm: float) -> float:
    return float(np.exp(np.clip(logarithm, -9.0, 12.0)))


def _suited(
    z: np.ndarray, t: np.ndarray, slope: float, centre: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """The logistic from 0 to 1 at each z, the same less its mean, and the rise that brings it
    nearest to t (0 where it is flat).
    """
    s = expit(slope * (z - centre))
    spread = s - s.mean()
    power = float(spread @ spread)
    return s, spread, float(spread @ t) / power if power > _FLAT else 0.0


def _start(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The best of some slopes (as logarithm) and centres."""
    starts = [(k, m) for k in _SLOPES for m in np.quantile(z, _CENTRES)]
    scores = []
    for slope, centre in starts:
        _, spread, rise = _suited(z, t, slope, centre)
        scores.append(rise * float(spread @ t))
    slope, centre = starts[int(np.argmax(scores))]
    return np.array([np.log(slope), centre])


def interval(
    metric: Metric,
    predicted: FloatList,
    mos: FloatList,
    seed: int = 0,
    rounds: int = 1000,
    groups: Sequence[str] | None = None,
) -> tuple[float, float]:
    """95 % bootstrap interval of a metric, resampling ``groups`` with all of their images (cluster
    bootstrap): scores of one prompt or reference hang together. None: every image is its own group.

    The ``_vqeg`` metrics fit their curve anew in every round, at some 8 ms: 200 rounds do for them,
    the others take 1 ms. Rounds in which the metric isn't defined (a draw of one image alone, say)
    are left out; where it never is, or there is one group only, both ends are nan.
    """
    a, b = np.asarray(predicted), np.asarray(mos)
    return _middle(lambda i: metric(a[i], b[i]), _members(groups, len(b)), seed, rounds)


def difference_interval(
    metric: Metric,
    one: FloatList,
    other: FloatList,
    mos: FloatList,
    seed: int = 0,
    rounds: int = 1000,
    groups: Sequence[str] | None = None,
) -> tuple[float, float]:
    """95 % bootstrap interval of metric(one) - metric(other) on the same draws of ``groups`` (as
    ``interval``): without 0 inside, the two differ by more than the choice of images explains.

    Rounds in which either isn't defined are left out.
    """
    a, b, truth = np.asarray(one), np.asarray(other), np.asarray(mos)

    def difference(i: np.ndarray) -> float:
        return metric(a[i], truth[i]) - metric(b[i], truth[i])

    return _middle(difference, _members(groups, len(truth)), seed, rounds)


def mean_interval(
    values: FloatList, seed: int = 0, rounds: int = 1000, groups: Sequence[str] | None = None
) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of one value per image, resampling as ``interval``."""
    a = np.asarray(values)
    return _middle(lambda i: float(a[i].mean()), _members(groups, len(a)), seed, rounds)


def within(groups: Sequence[str], predicted: FloatList, mos: FloatList) -> Mapping[str, float]:
    """SRCC inside each group (generator, say)."""
    a, b, g = np.asarray(predicted), np.asarray(mos), np.asarray(groups)
    return {name: srcc(a[g == name], b[g == name]) for name in sorted(set(groups))}


def without(groups: Sequence[str], predicted: FloatList, mos: FloatList) -> Mapping[str, float]:
    """SRCC of all images but each group's (jackknife): a group whose absence changes it carries or
    spoils the figure. nan where nothing is left.
    """
    a, b, g = np.asarray(predicted), np.asarray(mos), np.asarray(groups)
    return {name: srcc(a[g != name], b[g != name]) for name in sorted(set(groups))}


def _members(groups: Sequence[str] | None, images: int) -> list[np.ndarray]:
    """The places of each group's images, the groups in the order in which they first come."""
    if groups is None:
        return list(np.arange(images)[:, None])
    places: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    return [np.array(several) for several in places.values()]


def _middle(
    figure: Callable[[np.ndarray], float], members: Sequence[np.ndarray], seed: int, rounds: int
) -> tuple[float, float]:
    """The middle 95 % of a figure's finite values over draws of the groups."""
    if len(members) < 2:
        return float("nan"), float("nan")

    def drawn(groups: np.ndarray) -> float:
        return figure(np.concatenate([members[int(group)] for group in groups]))

    places, rng = np.arange(len(members)), np.random.default_rng(seed)
    with warnings.catch_warnings():
        # scipy's own interval is nan if one draw's figure is, and it warns; only its draws count.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        values = stats.bootstrap(
            (places,), drawn, vectorized=False, n_resamples=rounds, method="percentile", rng=rng
        ).bootstrap_distribution
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)


def _correlation(statistic: Callable[..., Any], predicted: FloatList, mos: FloatList) -> float:
    x, y = _floats(predicted), _floats(mos)
    return float("nan") if _constant(x) or _constant(y) else float(statistic(x, y).statistic)


def _constant(values: np.ndarray) -> bool:
    """Whether there is no spread to speak of: scipy would warn, and answer nan or noise."""
    if len(values) < 2 or not np.isfinite(values).all():
        return True
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())


def _floats(values: FloatList) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
