"""Noise: standard errors against the bootstrap, epoch noise against noise that was put in."""

import math
import statistics

import numpy as np
import pytest

from objectives.api import Counts
from objectives.metrics import class_scores, make_metric
from sweeps.analysis.noise import (
    epoch_noise,
    epochs_to_best,
    macro_f1_error,
    macro_f1_error_from_f1,
    macro_f1_error_from_scores,
    moving_median,
    neighbour_correlation,
)

# Validation sets of the shipped objectives, at scores that their models reach.
CNN = np.array([[97, 20, 8, 25], [25, 700, 5, 170], [6, 10, 50, 24], [30, 200, 20, 1610]])
MLP = np.array([[4550, 394], [596, 972]])
RNN = np.array([[41, 1, 2, 1], [1, 42, 1, 1], [3, 0, 42, 0], [1, 2, 0, 42]])


@pytest.mark.parametrize("confusion", [CNN, MLP, RNN])
def test_error_equals_the_bootstrap(confusion: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    total = int(confusion.sum())
    draws = rng.multinomial(total, confusion.ravel() / total, size=4000)
    macro_f1 = make_metric("macro-f1", [str(i) for i in range(len(confusion))])
    tables = (draw.reshape(confusion.shape) for draw in draws)
    scores = [macro_f1.score(Counts.of_matrix(table)) for table in tables]
    assert macro_f1_error(confusion) == pytest.approx(np.std(scores), rel=0.06)


@pytest.mark.parametrize("confusion", [CNN, MLP, RNN])
def test_error_from_class_scores_is_near_that_of_the_table(confusion: np.ndarray) -> None:
    found = class_scores(Counts.of_matrix(confusion))
    args = (found.precision.tolist(), found.recall.tolist(), found.support.tolist())
    exact = len(confusion) == 2  # the margins of two classes leave no choice
    rel = 1e-9 if exact else 0.02
    error = macro_f1_error_from_scores(*args)
    assert error == pytest.approx(macro_f1_error(confusion), rel=rel)
    by_f1 = macro_f1_error_from_f1(found.f1.tolist(), args[2])
    assert by_f1 == pytest.approx(macro_f1_error(confusion), rel=0.1)


def test_rare_class_makes_a_score_noisy() -> None:
    rare = macro_f1_error_from_f1([0.6, 0.99], [30, 3000])
    common = macro_f1_error_from_f1([0.8, 0.8], [1515, 1515])
    assert rare > 3 * common


def test_perfect_score_has_an_error() -> None:
    assert 0.001 < macro_f1_error(np.diag([45, 45, 45, 45])) < 0.02


def test_class_that_is_never_predicted_is_scored() -> None:
    error = macro_f1_error_from_scores([0.8, 0.0], [1.0, 0.0], [80, 20])
    assert 0.0 < error < 0.05


def test_no_examples_have_no_error() -> None:
    assert math.isnan(macro_f1_error(np.zeros((3, 3))))
    assert math.isnan(macro_f1_error_from_f1([0.5, 0.5], [0, 0]))


def test_epoch_noise_is_the_noise_that_was_put_in() -> None:
    rng = np.random.default_rng(5)
    line = 0.7 - 0.4 * np.exp(-np.arange(997) / 100)
    assert epoch_noise(line + 0.01 * rng.standard_normal(997)) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], 0.0),  # a straight line has no noise
        ([0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], 0.0),  # one steep epoch is not noise
        ([0.3, math.nan, 0.3, 0.3], math.nan),  # three scores tell nothing
    ],
)
def test_epoch_noise_of_short_curves(curve: list[float], expected: float) -> None:
    assert epoch_noise(curve) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_correlation_is_that_of_a_series_with_a_memory() -> None:
    rng = np.random.default_rng(7)
    values = [0.0]
    for shock in rng.standard_normal(1999):
        values.append(0.6 * values[-1] + shock)
    assert neighbour_correlation(values) == pytest.approx(0.6, abs=0.06)
    assert neighbour_correlation(rng.standard_normal(1999)) < 0.06
    assert neighbour_correlation([0.0, 0.0, 0.0, 0.0]) == 0.0


def test_median_drops_one_wild_epoch_and_keeps_the_ends() -> None:
    assert moving_median([1.0, 2.0, 9.0, 3.0, 4.0]).tolist() == [1.0, 2.0, 3.0, 4.0, 4.0]


@pytest.mark.parametrize("epochs", [0, 1, 2, 3, 4, 5, 17])
def test_moving_median_has_as_many_neighbours_on_both_sides(epochs: int) -> None:
    values = np.random.default_rng(43).standard_normal(epochs).tolist()
    expected = []
    for i in range(epochs):
        side = min(2, i, epochs - 1 - i)
        expected.append(statistics.median(values[i - side : i + side + 1]))
    assert moving_median(values, 5).tolist() == expected


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.2, 0.5, 0.7], 3),  # too few for a noise: the best one itself
        ([0.5, 0.7, 0.7, 0.7, 0.7], 2),
        ([0.5, 0.69, 0.7, 0.69, 0.7, 0.69, 0.705], 3),  # noise of 0.01: 0.69 is just below it
        ([math.nan, 0.4, math.nan, 0.3], 2),
        ([math.nan], None),
        ([], None),
    ],
)
def test_epochs_to_best_allow_for_the_noise_between_epochs(
    curve: list[float], expected: int | None
) -> None:
    assert epochs_to_best(curve) == expected
