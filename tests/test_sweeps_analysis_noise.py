"""Errors of scores, against the bootstrap and against derivatives by hand."""

import math

import numpy as np
import pytest

from objectives.api import Counts
from objectives.metrics import make_metric
from sweeps.analysis.noise import count_confusion, find_influences, guess_score, score_error

# Validation sets of the shipped objectives, at scores that their models reach.
CNN = np.array([[97, 20, 8, 25], [25, 700, 5, 170], [6, 10, 50, 24], [30, 200, 20, 1610]])
MLP = np.array([[4550, 394], [596, 972]])
RNN = np.array([[41, 1, 2, 1], [1, 42, 1, 1], [3, 0, 42, 0], [1, 2, 0, 42]])
#: The case in which an error from the F1 alone is 46 % off.
SKEWED = np.array([[1900, 90, 10], [12, 25, 3], [1, 2, 7]])
METRICS = ["macro-f1", "accuracy", "weighted-f1", "balanced-accuracy", "mcc", "f1:1"]


@pytest.mark.parametrize("metric_name", METRICS)
@pytest.mark.parametrize("confusion", [CNN, MLP, RNN, SKEWED])
def test_error_equals_the_bootstrap(confusion: np.ndarray, metric_name: str) -> None:
    rng = np.random.default_rng(3)
    total = int(confusion.sum())
    metric = make_metric(metric_name, [str(i) for i in range(len(confusion))])
    # Half an example a class more, as the error has: of 10 examples that is not nothing.
    extra = np.full(confusion.shape, 0.5 / (len(confusion) - 1))
    np.fill_diagonal(extra, 0.5)
    shares = (confusion + extra) / (confusion + extra).sum()
    draws = rng.multinomial(total, shares.ravel(), size=2500)
    scores = [metric.score(Counts.of_matrix(draw.reshape(confusion.shape))) for draw in draws]
    assert score_error(confusion, metric) == pytest.approx(np.std(scores), rel=0.08)


def test_influence_is_the_derivative_of_the_score() -> None:
    metric = make_metric("accuracy", ["a", "b", "c"])
    found = find_influences(1000 * SKEWED, metric)
    # Accuracy R / N moves by (1 - R / N) / N for a right example, by -R / N / N for another.
    total, share = 1000 * SKEWED.sum(), np.trace(SKEWED) / SKEWED.sum()
    assert found[0, 0] == pytest.approx((1 - share) / total, rel=1e-3)
    assert found[0, 2] == pytest.approx(-share / total, rel=1e-3)


def test_error_of_a_difference_is_that_of_examples_scored_twice() -> None:
    rng = np.random.default_rng(5)
    targets = rng.integers(0, 3, 997).astype(np.uint8)
    first = np.where(rng.random(997) < 0.2, rng.integers(0, 3, 997), targets).astype(np.uint8)
    second = np.where(rng.random(997) < 0.1, rng.integers(0, 3, 997), first).astype(np.uint8)
    metric = make_metric("macro-f1", ["a", "b", "c"])
    values = []
    for predicted in (first, second):
        influences = find_influences(count_confusion(targets, predicted, 3), metric)
        values.append(influences[targets, predicted])
    error = math.sqrt(((values[0] - values[1]) ** 2).sum())
    differences = []
    for _ in range(1500):
        drawn = rng.integers(0, 997, 997)
        tables = [count_confusion(targets[drawn], each[drawn], 3) for each in (first, second)]
        scores = [metric.score(Counts.of_matrix(table)) for table in tables]
        differences.append(scores[0] - scores[1])
    assert error == pytest.approx(np.std(differences), rel=0.08)


def test_perfect_score_has_an_error() -> None:
    metric = make_metric("macro-f1", list("abcd"))
    assert 0.001 < score_error(np.diag([45, 45, 45, 45]), metric) < 0.02


def test_class_without_examples_has_no_part_in_the_error() -> None:
    metric = make_metric("macro-f1", list("abc"))
    absent = np.zeros((3, 3), dtype=np.int64)
    absent[:2, :2] = MLP
    two = score_error(MLP, make_metric("macro-f1", list("ab")))
    assert score_error(absent, metric) == pytest.approx(two, rel=0.01)


def test_no_examples_have_no_error() -> None:
    assert math.isnan(
        score_error(np.zeros((3, 3), dtype=np.int64), make_metric("mcc", list("abc")))
    )


@pytest.mark.parametrize(
    ("metric_name", "shares", "expected"),
    [
        ("macro-f1", (500, 500), 0.5),  # by lot: always one class has 1 / 3
        ("accuracy", (90, 10), 0.9),  # always the largest
        ("balanced-accuracy", (90, 10), 0.5),
        ("mcc", (90, 10), 0.0),
        ("f1:1", (90, 10), 2 / 11),  # always that class: precision 0.1, recall 1
    ],
)
def test_guess_is_the_best_that_looks_at_no_example(
    metric_name: str, shares: tuple[int, ...], expected: float
) -> None:
    found = guess_score(shares, make_metric(metric_name, ["0", "1"]))
    assert found == pytest.approx(expected, abs=1e-6)
