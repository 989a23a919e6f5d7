import numpy as np
import pytest
from scipy import stats
from scipy.optimize import curve_fit

from training.evaluation.metrics import (
    agreement,
    difference_interval,
    fit_logistic,
    interval,
    krcc,
    plcc,
    plcc_vqeg,
    rmse,
    rmse_vqeg,
    srcc,
    within,
    without,
)

TRUE = (0.9, 0.1, 0.4, 0.12)


def logistic(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    return (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4))) + b2


def noisy(noise: float, images: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    x = rng.random(images)
    return x, logistic(x, *TRUE) + rng.normal(0, noise, images)


def test_a_noiseless_logistic_is_found_again() -> None:
    x, y = noisy(0.0)
    fitted = fit_logistic(x, y)
    assert fitted.converged
    assert fitted.parameters == pytest.approx(TRUE, abs=1e-9)
    assert fitted(x) == pytest.approx(y, abs=1e-12)


def test_the_fit_is_as_good_as_scipys_from_the_usual_start() -> None:
    x, y = noisy(0.1)
    start = [y.max(), y.min(), x.mean(), x.std() / 4]
    theirs, _ = curve_fit(logistic, x, y, p0=start, maxfev=20000)
    assert fit_logistic(x, y).parameters == pytest.approx(theirs, rel=1e-4)
    reached = plcc_vqeg(x, y)
    assert reached == pytest.approx(np.corrcoef(logistic(x, *theirs), y)[0, 1], abs=1e-8)
    assert reached > plcc(x, y) + 0.01


@pytest.mark.parametrize(
    ("scale", "shift"),
    [(100, 0), (-1, 1), (-100, 30), (1e-6, 0), (1, 1000)],
    ids=["0 to 100", "lower is better", "lower is better of 100", "tiny", "far off"],
)
def test_the_fitted_values_do_not_hang_on_the_units_of_the_predictions(
    scale: float, shift: float
) -> None:
    x, y = noisy(0.1)
    other = scale * x + shift
    fitted = fit_logistic(other, 50 * y + 20)
    assert fitted.converged
    assert (fitted(other) - 20) / 50 == pytest.approx(fit_logistic(x, y)(x), abs=1e-6)
    assert (fitted.parameters[0] > fitted.parameters[1]) == (scale > 0)
    assert fitted.parameters[3] > 0


@pytest.mark.parametrize("images", [2, 3, 4, 50])
def test_where_no_curve_beats_the_line_the_line_is_the_fit(images: int) -> None:
    x = np.random.default_rng(images).random(images)
    y = 3 - 2 * x
    fitted = fit_logistic(x, y)
    assert not fitted.converged
    assert fitted(x) == pytest.approx(y, abs=1e-8)


def test_a_few_images_on_no_line_get_the_least_squares_line() -> None:
    x, y = [0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 1.0, 1.0]  # a curve could meet all four
    fitted = fit_logistic(x, y)
    assert not fitted.converged
    assert fitted(x) == pytest.approx(np.polyval(np.polyfit(x, y, 1), x), abs=1e-8)


@pytest.mark.parametrize(
    "shape",
    [np.exp, lambda x: -np.log(x + 0.01), lambda x: 1.0 * (x > 0.5), lambda x: (x - 0.5) ** 2],
    ids=["exponential", "logarithm", "step", "parabola"],
)
def test_awkward_relations_are_fitted_at_least_as_well_as_by_a_line(shape: object) -> None:
    x = np.random.default_rng(0).random(200)
    y = shape(x)
    assert plcc_vqeg(x, y) >= abs(plcc(x, y))
    line = np.polyval(np.polyfit(x, y, 1), x)
    assert rmse_vqeg(x, y) < rmse(line, y)


@pytest.mark.parametrize("centre", [0.1, 0.5, 0.85, 0.95])
@pytest.mark.parametrize("width", [0.3, 0.05, 0.01], ids=["wide", "steep", "steeper"])
def test_the_search_finds_the_bend_wherever_it_is(centre: float, width: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.random(300)
    truth = logistic(x, 1.0, 0.0, centre, width)
    y = truth + rng.normal(0, 0.05, 300)
    assert rmse_vqeg(x, y) <= rmse(truth, y)


def test_predictions_with_wild_outliers_are_fitted_without_overflow() -> None:
    x = np.random.default_rng(0).standard_cauchy(200) * 1e6
    y = np.sign(x) * 0.3 + 0.5
    assert plcc_vqeg(x, y) > 0.99


@pytest.mark.parametrize(
    ("predicted", "mos"),
    [([1.0, 2.0], [1.0]), ([], []), ([1.0, np.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0, np.inf])],
    ids=["lengths", "empty", "nan", "infinite"],
)
def test_lists_that_no_curve_can_be_fitted_to_are_refused(
    predicted: list[float], mos: list[float]
) -> None:
    with pytest.raises(ValueError, match="two lists of finite scores"):
        fit_logistic(predicted, mos)


def test_correlations_of_constants_are_nan_without_a_warning() -> None:
    flat, mos = [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3], [1.0, 2.0, 3.0, 4.0, 5.0]  # flat but for rounding
    for figures in (agreement(flat, mos), agreement([0.3] * 5, mos)):
        assert all(np.isnan(figures[name]) for name in ("srcc", "plcc", "plcc_vqeg", "krcc"))
        assert figures["rmse_vqeg"] == pytest.approx(np.sqrt(2))  # the deviation of 1 to 5
        assert figures["rmse"] == pytest.approx(np.sqrt(2 + 2.7**2))
    assert all(np.isnan(metric(mos, flat)) for metric in (srcc, plcc, plcc_vqeg, krcc))
    assert fit_logistic(flat, mos)(flat) == pytest.approx(3.0)


@pytest.mark.parametrize("metric", [srcc, plcc, plcc_vqeg, krcc])
@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, np.nan]], ids=["none", "one", "nan"])
def test_correlations_that_are_not_defined_are_nan(metric, values: list[float]) -> None:  # type: ignore[no-untyped-def]
    assert np.isnan(metric(values, [1.0, 2.0, 3.0][: len(values)]))


@pytest.mark.parametrize("lists", [([1.0, np.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0, np.nan])])
def test_the_fitted_error_of_scores_that_are_not_finite_is_nan(
    lists: tuple[list[float], ...],
) -> None:
    assert np.isnan(rmse_vqeg(*lists))


def test_agreement_tells_raw_and_fitted_figures_apart() -> None:
    x, y = noisy(0.05)
    figures = agreement(100 * x, y)
    assert list(figures) == ["srcc", "plcc", "plcc_vqeg", "krcc", "rmse", "rmse_vqeg"]
    assert figures["srcc"] == stats.spearmanr(x, y).statistic
    assert figures["plcc"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert figures["krcc"] == stats.kendalltau(x, y).statistic
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean((100 * x - y) ** 2)))
    assert 0.04 < figures["rmse_vqeg"] < 0.06  # the noise


def by_hand(figure, seed: int, images: int, rounds: int = 1000) -> list[float]:  # type: ignore[no-untyped-def]
    """The bootstrap as the cards were made with it: one generator, one draw a round."""
    rng = np.random.default_rng(seed)
    values = [figure(rng.integers(0, images, images)) for _ in range(rounds)]
    return list(np.quantile(values, [0.025, 0.975]))


def test_the_interval_of_the_srcc_is_the_one_that_cards_were_made_with() -> None:
    x, y = noisy(0.2, 60)
    expected = by_hand(lambda i: stats.spearmanr(x[i], y[i]).statistic, 3, 60)
    assert list(interval(srcc, x, y, 3)) == expected


def test_images_of_one_group_are_drawn_together_or_not_at_all() -> None:
    x, y = noisy(0.2, 60)
    groups = [f"prompt {n % 6}" for n in range(60)]
    places = [np.arange(n, 60, 6) for n in range(6)]

    def of_groups(drawn: np.ndarray) -> float:
        images = np.concatenate([places[n] for n in drawn])
        return float(stats.spearmanr(x[images], y[images]).statistic)

    expected = by_hand(of_groups, seed=3, images=6, rounds=200)
    assert interval(srcc, x, y, 3, 200, groups) == pytest.approx(tuple(expected))
    alone = [str(n) for n in range(60)]
    assert interval(srcc, x, y, 3, 200, alone) == interval(srcc, x, y, 3, 200)
    assert np.isnan(interval(srcc, x, y, groups=["the same"] * 60)).all()


def test_scores_that_hang_together_within_a_group_have_a_wider_interval() -> None:
    rng = np.random.default_rng(0)
    place = np.repeat(np.arange(20), 10)
    mos = rng.random(20)[place]
    predicted = mos + rng.normal(0, 0.3, 20)[place] + rng.normal(0, 0.01, 200)
    groups = [str(group) for group in place]
    wide, narrow = interval(srcc, predicted, mos, groups=groups), interval(srcc, predicted, mos)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    other = mos + rng.normal(0, 0.3, 20)[place]
    apart = difference_interval(srcc, predicted, other, mos, groups=groups)
    near = difference_interval(srcc, predicted, other, mos)
    assert apart[1] - apart[0] > 2 * (near[1] - near[0])


@pytest.mark.parametrize("metric", [plcc, plcc_vqeg, krcc, rmse, rmse_vqeg])
def test_every_metric_has_an_interval_that_holds_it(metric) -> None:  # type: ignore[no-untyped-def]
    x, y = noisy(0.1, 80)
    low, high = interval(metric, x, y, rounds=100)
    assert low < metric(x, y) < high
    assert (low, high) == interval(metric, x, y, rounds=100)
    assert (low, high) != interval(metric, x, y, seed=1, rounds=100)


def test_draws_without_a_correlation_are_left_out() -> None:
    low, high = interval(srcc, [1.0, 2.0], [1.0, 2.0], rounds=50)  # half the draws are constant
    assert (low, high) == pytest.approx((1.0, 1.0))
    assert np.isnan(interval(srcc, [1.0, 1.0], [1.0, 2.0], rounds=50)).all()


def test_the_difference_is_drawn_on_the_same_images_for_both() -> None:
    rng = np.random.default_rng(1)
    mos = rng.random(100)
    shared = mos + rng.normal(0, 0.3, 100)
    good, bad = shared, shared + rng.normal(0, 0.3, 100)
    expected = by_hand(
        lambda i: (
            stats.spearmanr(good[i], mos[i]).statistic - stats.spearmanr(bad[i], mos[i]).statistic
        ),
        seed=5,
        images=100,
        rounds=200,
    )
    low, high = difference_interval(srcc, good, bad, mos, 5, 200)
    assert [low, high] == pytest.approx(expected)
    assert 0 < low < srcc(good, mos) - srcc(bad, mos) < high
    assert (
        interval(srcc, bad, mos, 5, 200)[1] > interval(srcc, good, mos, 5, 200)[0]
    )  # these overlap
    assert difference_interval(srcc, bad, good, mos, 5, 200) == pytest.approx((-high, -low))
    assert difference_interval(srcc, good, good, mos, rounds=50) == (0.0, 0.0)


def test_without_leaves_each_group_out_in_turn() -> None:
    groups = ["a", "a", "b", "b", "b"]
    predicted, mos = [2.0, 1.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    left = without(groups, predicted, mos)
    assert left == {"a": pytest.approx(1.0), "b": pytest.approx(-1.0)}
    assert within(groups, predicted, mos) == {"a": left["b"], "b": left["a"]}
    assert np.isnan(without(["a"] * 5, predicted, mos)["a"])
