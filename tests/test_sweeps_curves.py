"""Facts about learning curves, by hand and against slow definitions written differently."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.curves import (
    best_epoch,
    epochs_since_best,
    epochs_to_fraction,
    running_best,
    tail_mean,
)

NAN = math.nan

# A coarse grid, so that ties, plateaus and rises of exactly min_delta are common.
scores = st.sampled_from([0.0, 0.25, 0.5, 0.53125, 0.5625, 0.75, 1.0, NAN])
curves = st.lists(scores, max_size=12)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([], None),
        ([NAN, NAN], None),
        ([0.2, 0.6, 0.4], 2),
        ([0.2, 0.6, 0.6], 2),  # the earliest on ties
        ([NAN, 0.0, NAN], 2),  # NaN never best, 0 is a score
        ([0.1, NAN, 0.3], 3),
    ],
)
def test_best_epoch_is_the_earliest_maximum(curve: list[float], expected: int | None) -> None:
    assert best_epoch(curve) == expected


@pytest.mark.parametrize(
    ("curve", "min_delta", "expected"),
    [
        ([], 0.0, 0),
        ([0.4], 0.0, 0),
        ([0.3, 0.3, 0.3], 0.0, 2),  # exact plateau
        ([0.30, 0.31, 0.32], 0.05, 2),  # creeps by less than min_delta
        ([0.30, 0.31, 0.32, 0.36], 0.05, 0),  # beats the first epoch's, not the one before
        ([0.3, NAN, NAN], 0.0, 2),  # diverged
        ([NAN, NAN], 0.0, 2),  # never had a best
        ([NAN, 0.0], 0.5, 0),  # the first score is a best, 0 included
        ([0.25, 0.5], 0.25, 1),  # exactly min_delta is not more
        ([0.5, 0.2, 0.9, 0.1], 0.0, 1),
    ],
)
def test_epochs_since_best_follows_keras(
    curve: list[float], min_delta: float, expected: int
) -> None:
    assert epochs_since_best(curve, min_delta) == expected


@given(curves, st.sampled_from([0.0, 0.03125, 0.25]))
def test_epochs_since_best_equals_keras_early_stopping(
    curve: list[float], min_delta: float
) -> None:
    # keras/src/callbacks/early_stopping.py, on_epoch_end, mode max.
    wait, best = 0, -math.inf
    for current in curve:
        wait += 1
        if current - min_delta > best:
            best = current
            wait = 0
    assert epochs_since_best(curve, min_delta) == wait


@given(curves)
def test_best_epoch_equals_a_sort(curve: list[float]) -> None:
    ranked = sorted((-score, epoch) for epoch, score in enumerate(curve, 1) if score == score)
    assert best_epoch(curve) == (ranked[0][1] if ranked else None)


@given(curves)
def test_running_best_equals_the_best_of_each_prefix(curve: list[float]) -> None:
    def best_of(prefix: Sequence[float]) -> float | None:
        return max((score for score in prefix if score == score), default=None)

    found = [None if math.isnan(score) else score for score in running_best(curve)]
    assert found == [best_of(curve[: epoch + 1]) for epoch in range(len(curve))]


@given(curves, st.sampled_from([0.5, 0.95, 1.0]))
def test_epochs_to_fraction_equals_its_definition(curve: list[float], fraction: float) -> None:
    real = [(epoch, score) for epoch, score in enumerate(curve, 1) if score == score]
    reached = [
        epoch for epoch, score in real if score >= fraction * max(score for _, score in real)
    ]
    assert epochs_to_fraction(curve, fraction) == min(reached, default=None)


@given(curves.filter(lambda curve: best_epoch(curve) is not None))
def test_whole_fraction_is_the_best_epoch(curve: list[float]) -> None:
    assert epochs_to_fraction(curve, 1.0) == best_epoch(curve)


@pytest.mark.parametrize(
    ("curve", "n", "expected"),
    [
        ([], 5, None),
        ([NAN, NAN], 5, None),
        ([0.9, 0.25, 0.5], 2, 0.375),
        ([0.25, 0.5], 5, 0.375),  # shorter than the tail
        ([0.9, 0.5, NAN], 2, 0.5),  # NaN is left out
        ([0.9, 0.5, NAN, NAN], 2, None),  # of the tail, not of the curve
    ],
)
def test_tail_mean_averages_the_last_epochs(
    curve: list[float], n: int, expected: float | None
) -> None:
    assert tail_mean(curve, n) == expected


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"min_delta must be >= 0, got -0\.1"):
        epochs_since_best([0.5], -0.1)
    with pytest.raises(ValueError, match="fraction must be in"):
        epochs_to_fraction([0.5], 0.0)
    with pytest.raises(ValueError, match="n must be >= 1"):
        tail_mean([0.5], 0)


def test_share_of_a_best_score_below_zero_is_reached_at_the_best_epoch() -> None:
    # Matthews correlation: 0.95 of -0.4 would lie above every score.
    assert epochs_to_fraction([-0.9, -0.4, -0.5], 0.95) == 2
