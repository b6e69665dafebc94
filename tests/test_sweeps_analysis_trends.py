"""Trends: predictions are compared with what the known line really does."""

import math

import numpy as np
import pytest

from sweeps.analysis.trends import Gain, allow_for_noise, count_from_best, fit_slope, predict_gain

EPOCHS = 60
TIME = np.arange(1, 2 * EPOCHS + 1)
LINES = {
    "power": 0.8 - 0.5 * TIME**-0.5,
    "logarithm": 0.3 + 0.08 * np.log(TIME),
    "exponential": 0.75 - 0.4 * np.exp(-TIME / 40),
    "line": 0.2 + 0.003 * TIME,
    "flat": 0.7 - 0.4 * np.exp(-TIME / 4),
}


@pytest.mark.parametrize("name", LINES)
def test_interval_holds_the_true_gain(name: str) -> None:
    line = LINES[name]
    truth = line[-1] - line[EPOCHS - 1]
    rng = np.random.default_rng(11)
    inside = 0
    for _ in range(60):
        gain = predict_gain(line[:EPOCHS] + 0.01 * rng.standard_normal(EPOCHS))
        assert gain is not None
        inside += gain.low - 0.005 <= truth <= gain.high + 0.005
    assert inside >= 45  # of the 54 that a 90 % interval promises: the true shape is not known


def test_prediction_without_noise_is_the_line() -> None:
    gain = predict_gain(LINES["logarithm"][:EPOCHS])
    assert gain is not None
    assert gain.expected == pytest.approx(0.08 * math.log(2), abs=0.002)
    assert gain.low <= gain.expected <= gain.high


@pytest.mark.parametrize("curve", [[], [0.5] * 7, [0.5] * 7 + [math.nan]])
def test_short_curve_is_not_predicted(curve: list[float]) -> None:
    assert predict_gain(curve) is None


def test_exact_plateau_promises_nothing() -> None:
    gain = predict_gain([0.5] * 23)
    assert gain is not None
    assert abs(gain.low) < 1e-3
    assert abs(gain.high) < 1e-3


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.5] * 5 + [0.6] * 5, (0.02, 0.01, 0.05)),  # its line is at its best
        ([0.5] * 5 + [0.6] * 5 + [0.57] * 5, (0.0, 0.0, 0.02)),  # it must come back by 0.03 first
        ([0.9] * 5 + [0.98] * 5, (0.02, 0.01, 0.02)),  # no score is above 1
        ([1.0, 0.9, 0.95, 0.97, 0.98, 0.98], (0.0, 0.0, 0.0)),
    ],
)
def test_gain_is_what_the_best_epoch_would_gain(
    curve: list[float], expected: tuple[float, float, float]
) -> None:
    found = count_from_best(Gain(0.02, 0.01, 0.05), curve)
    assert (found.expected, found.low, found.high) == pytest.approx(expected)
    assert "-" not in f"{found.expected:.3f} {found.low:.3f}"


def test_interval_of_the_best_epoch_allows_for_its_luck() -> None:
    # Neighbours 0.02 apart: the distance to their mean is 0.02, its noise 0.02 / 0.6745 / 1.2247.
    curve = [0.5, 0.52] * 6
    gain = allow_for_noise(Gain(0.03, 0.028, 0.032), curve)
    assert gain.expected == 0.03
    assert (gain.low, gain.high) == pytest.approx((0.028 - 0.02421, 0.032 + 0.02421), abs=1e-5)
    assert allow_for_noise(Gain(0.0, 0.0, 0.0), [0.98, 1.0] * 6).high == 0
    assert allow_for_noise(Gain(0.0, 0.0, 0.0), curve).low == 0


def test_slope_has_the_error_of_least_squares() -> None:
    curve = [0.1, 0.3, 0.2, 0.4, 0.3]
    slope = fit_slope(curve)
    # By hand: 0.05 an epoch; residuals -0.06, 0.09, -0.06, 0.09, -0.06; sqrt(0.027 / 3 / 10).
    assert slope.per_epoch == pytest.approx(0.05)
    assert slope.error == pytest.approx(0.03)


def test_memory_makes_a_slope_less_sure() -> None:
    rng = np.random.default_rng(13)
    white = rng.standard_normal(400)
    slow = np.repeat(white[:100], 4)
    assert fit_slope(slow).error > 1.8 * fit_slope(white).error


@pytest.mark.parametrize(
    ("curve", "expected"),
    [([1.0, 2.0, 3.0, 4.0], 1e9), ([0.4] * 5, 0.0), ([0.1, 0.2, 0.3], 0.0)],
)
def test_sureness_of_exact_lines(curve: list[float], expected: float) -> None:
    assert min(fit_slope(curve).errors_from_zero, 1e9) == pytest.approx(expected, rel=1)
