"""Where a curve is heading: its slope, and what twice the epochs would give, with an interval.

Knows curves of numbers alone. Shapes: E epochs, M shapes of a curve.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.analysis.noise import Floats, epoch_noise, finite, neighbour_correlation

#: Fewest epochs that a prediction is made from.
MIN_EPOCHS = 8
#: Powers of the epoch: a - b * epoch ** -power; -1 is a straight line, 0 the logarithm.
_POWERS = (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
#: Exponential rises: a - b * exp(-rate * epoch / E).
_RATES = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0)
_LOW, _HIGH = 0.05, 0.95
_ROUNDING = 1e-12
# Weight of a shape that counts as none; how near a quantile is found, in points of the score.
_NO_WEIGHT, _NEAR = 1e-13, 1e-11
_HALVINGS = 60
# Fewest epochs whose median is a curve's level.
_SMOOTH_EPOCHS = 5


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line through some epochs.

    Attributes:
        per_epoch: Rise an epoch.
        error: Its standard error, correlated neighbours allowed for.
    """

    per_epoch: float
    error: float

    @property
    def errors_from_zero(self) -> float:
        """The slope in standard errors; infinite for an exact line."""
        if self.error == 0:
            return math.copysign(math.inf, self.per_epoch) if self.per_epoch else 0.0
        return self.per_epoch / self.error


@dataclass(frozen=True, slots=True)
class Gain:
    """What more epochs would add to a curve, in points of the score.

    Attributes:
        expected: Mean of the prediction.
        low: It is below this with 5 % probability.
        high: It is above this with 5 % probability.
    """

    expected: float
    low: float
    high: float


def fit_slope(curve: Sequence[float] | Floats) -> Slope:
    """Return the straight line of a curve by least squares.

    Its standard error is that of independent residuals times sqrt((1 + r) / (1 - r)) for their
    correlation r with the next epoch's (Santer et al. 2000, J. Geophys. Res. 105, for trends of
    series with a memory): a trial scored on the same examples each epoch has one.

    Args:
        curve: A number per epoch, (E,); what is missing is left out.

    Returns:
        0 with an infinite error for fewer than 4 epochs.
    """
    values = finite(curve)
    n = len(values)
    if n < 4:
        return Slope(0.0, math.inf)
    epochs = np.arange(n, dtype=np.float64) - (n - 1) / 2
    spread = float((epochs**2).sum())
    slope = float((epochs * values).sum()) / spread
    residuals = values - values.mean() - slope * epochs
    memory = neighbour_correlation(residuals)
    scatter = math.sqrt(float((residuals**2).sum()) / (n - 2) / spread)
    if max(scatter, abs(slope)) < _ROUNDING:
        return Slope(0.0, 0.0)
    return Slope(slope, scatter * math.sqrt((1 + memory) / (1 - memory)))


def predict_gain(curve: Sequence[float] | Floats, factor: float = 2.0) -> Gain | None:
    """Return what ``factor`` times the epochs would add to a curve's smooth line.

    Least squares of power laws, a logarithm and exponential rises (Domhan, Springenberg and
    Hutter 2015, "Speeding up automatic hyperparameter optimization ... by extrapolation of
    learning curves"; Viering and Loog 2023, "The shape of learning curves") to the last three
    quarters of the epochs, weighed by exp(-squares / (2 variance)) (Akaike weights: Burnham and
    Anderson 2002), each with the normal distribution of its extrapolation. The variance is that
    of the best fit, and counts neighbours that are alike as fewer epochs. Of 480 drawn curves of
    20 to 120 epochs (power law, logarithm, two exponentials; noise 0.01) 90 % had their true gain
    inside the interval.

    Args:
        curve: Validation score per epoch, (E,); missing ones are left out.
        factor: Epochs to predict, as a multiple of E, above 1.

    Returns:
        None with fewer than ``MIN_EPOCHS`` epochs. Nothing is known of what no shape here does,
        such as a second rise after a plateau.
    """
    values = finite(curve)
    total = len(values)
    if total < MIN_EPOCHS:
        return None
    first = total // 4
    seen = values[first:]
    shapes = _shapes(total, first, factor * total)
    rises = (shapes.centred * seen).sum(axis=1) / shapes.spreads
    residuals = seen - seen.mean() - rises[:, None] * shapes.centred
    squares = (residuals**2).sum(axis=1)
    best = int(squares.argmin())
    # The noise between neighbours may be far below the misfit of every shape, and never above.
    noise = epoch_noise(seen)
    variance = max(float(squares[best]) / (len(seen) - 2), (0.5 * noise) ** 2, 1e-12)
    memory = neighbour_correlation(residuals[best])
    fewer = (1 + memory) / (1 - memory)
    weights = np.exp(-(squares - squares.min()) / (2 * variance * fewer))
    weights /= weights.sum()
    means = rises * shapes.distances
    errors = np.abs(shapes.distances) * np.sqrt(variance * fewer / shapes.spreads)
    low, high = (_mixture_quantile(means, errors, weights, share) for share in (_LOW, _HIGH))
    # No score is above 1, whatever a line promises.
    most = max(1.0 - float(seen[-1]), 0.0)
    expected = min(float((weights * means).sum()), most)
    return Gain(expected, min(low, most), min(high, most))


def count_from_best(gain: Gain, curve: Sequence[float] | Floats) -> Gain:
    """Return what more epochs would add to the best epoch's score, from what the line gains.

    The best epoch stands, whatever comes later, so nothing is below 0; no score is above 1, so
    nothing is above what the best lacks of it; and a line that has fallen must first come back:
    the highest median of a tenth of the epochs, at least 5, less the last one is taken off. The
    luck that the best epoch has above its line is left out on both sides, as later epochs will
    have as much.

    Args:
        gain: ``predict_gain`` of the curve.
        curve: Validation score per epoch, (E,); missing ones are left out.
    """
    values = finite(curve)
    width = min(max(_SMOOTH_EPOCHS, len(values) // 10), len(values))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)
    fallen = float(medians.max() - medians[-1])
    most = max(1.0 - float(values.max()), 0.0)
    low, mean, high = (
        # Not -0.0 either, which would be printed as it is.
        max(min(each - fallen, most), 0.0) + 0.0
        for each in (gain.low, gain.expected, gain.high)
    )
    return Gain(mean, low, high)


def allow_for_noise(gain: Gain, curve: Sequence[float] | Floats) -> Gain:
    """Return an interval for the best epoch's gain, from that of the line it is around.

    Which epoch is the best is partly luck, before and after: the noise between epochs is added at
    both ends, within 0 and what the best epoch lacks of 1. Of 50 predictions from the first parts
    of real trials (the studies of the README, 8 to 20 epochs) 64 % of the true gains were inside
    the line's interval and 92 % are inside this one (``tests/benchmarks/bench_predictions.py``).

    Args:
        gain: ``count_from_best`` of the curve.
        curve: Validation score per epoch, (E,); missing ones are left out.
    """
    values = finite(curve)
    noise = epoch_noise(values)
    if math.isnan(noise):
        return gain
    most = max(1.0 - float(values.max()), 0.0)
    return Gain(gain.expected, max(gain.low - noise, 0.0), min(gain.high + noise, most))


@dataclass(frozen=True, slots=True)
class _Shapes:
    """The shapes that a curve of E epochs may have, over its last K epochs.

    Attributes:
        centred: What each shape does there, less its mean, (M, K).
        spreads: Sums of its squares, (M,).
        distances: How far each shape goes on from the last epoch to the predicted one, (M,).
    """

    centred: Floats
    spreads: Floats
    distances: Floats


@functools.lru_cache(maxsize=64)
def _shapes(total: int, first: int, end: float) -> _Shapes:
    """Return the shapes over the epochs after the ``first`` of ``total``, and on to ``end``."""
    epochs = np.append(np.arange(first + 1, total + 1, dtype=np.float64), end)
    powers = [-(epochs**-power) if power else np.log(epochs) for power in _POWERS]
    rises = [-np.exp(-rate * epochs / total) for rate in _RATES]
    shapes = np.array([*powers, *rises])
    seen = shapes[:, :-1]
    centred = seen - seen.mean(axis=1, keepdims=True)
    return _Shapes(centred, (centred**2).sum(axis=1), shapes[:, -1] - shapes[:, -2])


def _mixture_quantile(means: Floats, errors: Floats, weights: Floats, share: float) -> float:
    """Return the quantile of a mixture of normal distributions, by bisection, to 1e-11."""
    widest = float(errors.max()) * 6 + 1e-9
    low, high = float(means.min()) - widest, float(means.max()) + widest
    scales = np.maximum(errors, 1e-12) * math.sqrt(2)
    # Plain numbers: there are few that weigh anything, and an array of 15 costs more than they.
    kept = weights > _NO_WEIGHT
    parts = list(zip(weights[kept] / 2, means[kept], scales[kept], strict=True))
    parts = [(float(weight), float(mean), float(scale)) for weight, mean, scale in parts]
    for _ in range(_HALVINGS):
        if high - low <= _NEAR:
            break
        middle = (low + high) / 2
        if sum([w * math.erfc((mean - middle) / scale) for w, mean, scale in parts]) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2
