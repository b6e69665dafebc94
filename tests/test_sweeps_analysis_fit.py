"""The line through a curve, and what the bootstrap of its residuals says, where truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.analysis.fit import fit_curve, last_step
from sweeps.analysis.outlook import look_ahead

NAN = math.nan


def wander(rng: np.random.Generator, epochs: int, memory: float) -> np.ndarray:
    """A series of standard deviation 1 whose neighbours are correlated."""
    values = [rng.standard_normal()]
    for shock in rng.standard_normal(epochs - 1) * math.sqrt(1 - memory**2):
        values.append(memory * values[-1] + shock)
    return np.array(values)


def test_curve_of_a_thousand_epochs_needs_those_until_it_is_flat() -> None:
    epochs = np.arange(1, 1001)
    needed = []
    for seed in range(7):
        rng = np.random.default_rng(seed)
        noise = 0.01 * wander(rng, 1000, 0.99) + 0.004 * rng.standard_normal(1000)
        found = look_ahead((0.8 - 0.5 * np.exp(-epochs / 15) + noise).tolist(), error=0.01)
        assert found is not None
        needed.append(found[1].epochs_needed)
    # exp(-60 / 15) of 0.5 is 0.009: one standard error from the end at epoch 59.
    assert 45 <= np.median(needed) <= 75
    assert max(needed) < 200


def test_trials_flat_from_epoch_4_need_15_epochs_at_most() -> None:
    for seed in range(24):
        rng = np.random.default_rng(seed)
        line = np.array([0.5, 0.6, 0.7] + [0.8] * 97)
        found = look_ahead((line + 0.006 * rng.standard_normal(100)).tolist(), error=0.006)
        assert found is not None
        assert 3 <= found[1].epochs_needed <= 15
        assert found[1].gain_probability < 1 / 3


def test_noise_and_its_memory_are_those_that_were_put_in() -> None:
    rng = np.random.default_rng(3)
    line = 0.8 - 0.4 * np.exp(-np.arange(500) / 20)
    for memory in (0.0, 0.6):
        fit = fit_curve((line + 0.01 * wander(rng, 500, memory)).tolist())
        assert fit is not None
        assert fit.noise == pytest.approx(0.01, rel=0.15)
        assert fit.memory == pytest.approx(memory, abs=0.12)
        assert fit.level == pytest.approx(0.8, abs=3 * fit.level_error)


def test_error_of_the_slope_covers_flat_curves_with_a_memory() -> None:
    rng = np.random.default_rng(5)
    fits = [fit_curve((0.8 + 0.01 * wander(rng, 60, 0.5)).tolist()) for _ in range(200)]
    far = [abs(fit.slope) > 2 * fit.slope_error for fit in fits if fit is not None]
    assert len(far) == 200
    assert np.mean(far) < 0.1


def test_wild_epochs_do_not_move_the_line() -> None:
    curve = [0.8 - 0.5 * math.exp(-epoch / 5) for epoch in range(1, 41)]
    wild = [*curve[:20], 0.05, *curve[21:]]
    fit = fit_curve(wild)
    assert fit is not None
    assert fit.level == pytest.approx(0.8, abs=0.005)
    # A first loss of 900 is no part of a line that ends at 2.3.
    losses = [900.0, *(2.3 + 0.01 * (-1) ** epoch for epoch in range(24))]
    fit = fit_curve(losses)
    assert fit is not None
    assert fit.level == pytest.approx(2.3, abs=0.02)


def test_line_begins_where_a_step_changed_the_rate() -> None:
    curve = [0.6] * 20 + [0.7, 0.74, 0.76, 0.77] + [0.775] * 10
    rates = [0.1] * 20 + [0.01] * 14
    fit = fit_curve(curve, rates)
    assert fit is not None
    assert fit.since == 21
    assert fit.level == pytest.approx(0.775, abs=0.005)
    assert look_ahead(curve[:24], error=0.01, rates=rates[:24]) is None  # 4 epochs since


@pytest.mark.parametrize(
    ("rates", "since"),
    [
        ([], 1),
        ([0.1] * 30, 1),
        ([0.1] * 10 + [0.01] * 10 + [0.001] * 10, 21),
        ([0.05 * (1 + math.cos(math.pi * epoch / 30)) for epoch in range(30)], 1),  # cosine
        ([0.02, 0.04, 0.06, 0.08] + [0.1] * 26, 1),  # warm-up
        ([0.1 * 0.9**epoch for epoch in range(30)], 1),  # each epoch
        ([0.1 * 0.9 ** (epoch // 2) for epoch in range(30)], 1),  # every other epoch
        ([0.3, 0.2, 0.31, 0.25, 0.22] * 6, 1),  # a line search
        ([NAN] * 30, 1),
    ],
)
def test_smooth_schedule_is_no_sequence_of_steps(rates: list[float], since: int) -> None:
    assert last_step(rates) == since


def test_gain_is_above_the_best_epoch_and_no_score_is_above_1() -> None:
    rising = [1 - 0.9 * 0.97**epoch for epoch in range(30)]
    found = look_ahead(rising, error=0.01)
    assert found is not None
    outlook = found[1]
    assert outlook.gain_probability > 0.8
    assert outlook.gain_low <= outlook.gain <= outlook.gain_high <= 1 - max(rising)
    perfect = look_ahead([0.8, 0.97] + [1.0] * 8, error=0.01)
    assert perfect is not None
    assert (perfect[1].gain, perfect[1].gain_high, perfect[1].gain_probability) == (0, 0, 0)


def test_gain_that_is_promised_comes_on_average() -> None:
    rng = np.random.default_rng(5)
    rise = 1 - np.exp(-np.arange(60) / 12)
    said, came = [], []
    for index in range(80):
        scores = 0.5 + 0.25 * rise + 0.0075 * wander(rng, 60, 0.6)
        falls = [None, fit_curve((1.2 - 0.3 * rise[:30]).tolist())][index % 2]
        found = look_ahead(scores[:30].tolist(), error=0.0165, val=falls)
        assert found is not None
        said.append(found[1].gain)
        came.append(scores.max() - scores[:30].max())
    assert float(np.mean(said)) == pytest.approx(np.mean(came), rel=0.2)


def test_luck_of_the_best_epoch_is_that_of_a_maximum() -> None:
    # The expected maximum of 50 standard normal numbers is 2.249 (Harter 1961).
    luck = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = look_ahead((0.7 + 0.01 * rng.standard_normal(50)).tolist(), error=0.01)
        assert found is not None
        luck.append(found[1].luck)
    assert np.mean(luck) == pytest.approx(0.02249, rel=0.15)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=40), st.floats(0.001, 0.1))
def test_any_curve_has_finite_numbers_or_none(scores: list[float], error: float) -> None:
    found = look_ahead(scores, error=error)
    if found is not None:
        fit, outlook = found
        assert all(map(math.isfinite, (fit.level, fit.slope, fit.slope_error, fit.noise)))
        assert 0 <= outlook.gain_low <= outlook.gain_high <= 1
        assert 0 <= outlook.gain_probability <= 1
        assert 1 <= outlook.epochs_needed <= len(scores)


@pytest.mark.parametrize("scores", [[], [0.5], [0.1, 0.2, 0.3, 0.4], [NAN] * 20])
def test_few_epochs_have_no_line(scores: list[float]) -> None:
    assert fit_curve(scores) is None
