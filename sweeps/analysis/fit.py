"""One smooth line through a learning curve.

The line is a mean over shapes that learning curves have, power laws, logarithms and exponential
rises (Domhan, Springenberg and Hutter 2015; Viering and Loog 2023, "The shape of learning
curves"), with or without a slow trend beside them, weighed by how well they fit (Akaike weights:
Burnham and Anderson 2002). Knows curves of numbers alone. Shapes: E epochs, M shapes, K terms of
a shape.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Fewest epochs of a line, and of a prediction.
MIN_FIT, MIN_OUTLOOK = 5, 8
#: Epochs of one rate before a change that counts as a step of a schedule.
_STEADY_EPOCHS = 4
#: Largest correlation of neighbouring epochs that is believed: 20 epochs are worth one.
_LARGEST_MEMORY = 0.9
# A wild epoch is cut at 4 robust deviations from its neighbours (of white noise 1 in 16,000 is
# further), the first quarter at 10 ranges of the rest.
_CUT, _REACH = 4.0, 10.0
# The median of |x| of a standard normal x.
_MEDIAN_OF_ABSOLUTE = 0.6744897501960817
_TINY = 1e-6
#: Shapes of a curve: powers of the epoch (-1 a straight line, 0 the logarithm), and exponential
#: rises with time constants from one epoch to twice as many as there are.
_POWERS = (-1.0, 0.0, 0.5, 1.0, 2.0)
_EXPONENTIALS = 10


@dataclass(frozen=True, slots=True)
class Fit:
    """The line through a curve after the last change of its learning rate.

    Attributes:
        level: The line at the last epoch.
        level_error: Standard error of it; the correlation of neighbours is allowed for.
        slope: Rise of the line an epoch, at the last epoch.
        slope_error: Standard error of it, likewise.
        noise: Standard deviation of the epochs around the line.
        memory: Correlation of neighbouring epochs around the line, 0 to 0.9.
        since: First epoch of the line, from 1.
        line: The line at each epoch from ``since``.
    """

    level: float
    level_error: float
    slope: float
    slope_error: float
    noise: float
    memory: float
    since: int
    line: tuple[float, ...]

    @property
    def peak(self) -> float:
        """The highest point of the line."""
        return max(self.line)

    @property
    def peak_epoch(self) -> int:
        """The epoch of the highest point, from 1."""
        return self.since + self.line.index(max(self.line))

    @property
    def is_falling(self) -> bool:
        """Whether the line falls at the end, by two standard errors of its slope."""
        return -self.slope > 2 * self.slope_error


def fit_curve(curve: Sequence[float], rates: Sequence[float] = ()) -> Fit | None:
    """Return the line through a curve.

    Args:
        curve: A score or a loss per epoch, (E,); what is missing takes the value before it.
        rates: Learning rate of each epoch, (E,); empty: it never changes.

    Returns:
        None with fewer than 5 epochs since the rate changed, or where half of them are missing.
    """
    found = fit_line(curve, rates)
    return None if found is None else found[0]


def last_step(rates: Sequence[float]) -> int:
    """Return the first epoch of the present learning rate, from 1.

    A change counts where the rate had been the same for 4 epochs: warm-up, cosine and a line
    search move it in every epoch, and a curve follows them smoothly.
    """
    values = np.asarray(rates, dtype=np.float64)
    is_same = np.abs(np.diff(values)) <= _TINY * np.abs(values[:-1])
    if len(is_same) < _STEADY_EPOCHS or is_same.all():
        return 1
    steady = np.lib.stride_tricks.sliding_window_view(is_same[:-1], _STEADY_EPOCHS - 1).all(axis=1)
    steps = steady & ~is_same[_STEADY_EPOCHS - 1 :] & np.isfinite(values[_STEADY_EPOCHS:])
    return int(np.flatnonzero(steps).max(initial=-_STEADY_EPOCHS)) + _STEADY_EPOCHS + 1


def fit_line(curve: Sequence[float], rates: Sequence[float]) -> tuple[Fit, Floats] | None:
    """Return the line, and the curve from its first epoch with nothing missing."""
    since = last_step(rates)
    values = np.asarray(curve, dtype=np.float64)[since - 1 :]
    n, present = len(values), np.isfinite(values)
    if n < MIN_FIT or 2 * present.sum() <= n:
        return None
    values = _fill(values, present)
    shapes = make_shapes(n, n)
    seen = _tame(values)
    level = seen.mean()
    terms = shapes.terms @ ((seen - level) * shapes.roots)
    squares = np.maximum(((seen - level) ** 2 * shapes.weights).sum() - (terms**2).sum(axis=1), 0)
    best = int((squares * shapes.penalties).argmin())
    residuals = seen - level - (shapes.lines[best] @ terms[best])
    memory, fewer = _memory(residuals)
    free = max(n - shapes.sizes[best], 1)
    variance = max(float(squares[best]) / max(shapes.weights.sum() * free / n, 1.0), 1e-14)
    weights = _akaike(squares, variance, fewer, shapes)
    ends = (shapes.ends * terms).sum(axis=1)
    slopes = (shapes.slopes * terms).sum(axis=1)
    end, slope = float(weights @ ends), float(weights @ slopes)
    end_spread = variance * fewer * (shapes.ends**2).sum(axis=1) + (ends - end) ** 2
    slope_spread = variance * fewer * (shapes.slopes**2).sum(axis=1) + (slopes - slope) ** 2
    line = level + np.einsum("m,met,mt->e", weights, shapes.lines, terms)
    fit = Fit(
        level=level + end,
        level_error=math.sqrt(float(weights @ end_spread)),
        slope=slope,
        slope_error=math.sqrt(float(weights @ slope_spread)),
        noise=math.sqrt(variance),
        memory=memory,
        since=since,
        line=tuple(line.tolist()),
    )
    return fit, values


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes that a curve of E epochs may have.

    Attributes:
        terms: Weighted orthonormal terms of each shape, (M, K, E).
        lines: What each term adds at each epoch, (M, E, K).
        future: The same at the epochs after the last, (M, E', K).
        ends: The same at the last epoch, (M, K).
        slopes: Its rise an epoch there, (M, K).
        sizes: Terms of each shape, (M,).
        penalties: What a shape's squares are multiplied by for its terms, (M,).
        roots: Roots of the weights, (E,).
        weights: Weight of each epoch, (E,): the first quarter weighs less.
    """

    terms: Floats
    lines: Floats
    future: Floats
    ends: Floats
    slopes: Floats
    sizes: npt.NDArray[np.int64]
    penalties: Floats
    roots: Floats
    weights: Floats


@functools.lru_cache(maxsize=256)
def make_shapes(n: int, ahead: int) -> Shapes:
    """Return the shapes of a curve of ``n`` epochs, and of so many after them."""
    epochs = np.arange(1, n + ahead + 1, dtype=np.float64)
    weights = np.minimum(1.0, epochs[:n] / (n / 4))
    roots = np.sqrt(weights)
    rises = [-(epochs**-power) if power else np.log(epochs) for power in _POWERS]
    scales = np.geomspace(min(1.0, n / 8), 2.0 * n, _EXPONENTIALS)
    decays = [-np.exp(-epochs / scale) for scale in scales]
    one, trend = np.ones_like(epochs), np.log(epochs)
    designs = [[one], *([one, rise] for rise in (*rises, *decays))]
    if n >= MIN_OUTLOOK:
        designs += [[one, decay, trend] for decay in decays]
    size = max(map(len, designs))
    lines = np.zeros((len(designs), n + ahead, size))
    for index, columns in enumerate(designs):
        design = np.stack(columns, axis=1)
        _, triangle = np.linalg.qr(design[:n] * roots[:, None])
        lines[index, :, : len(columns)] = design @ np.linalg.pinv(triangle)
    sizes = np.array([len(columns) for columns in designs])
    slopes = lines[:, n - 1] - lines[:, n - 2]
    return Shapes(
        terms=np.ascontiguousarray((lines[:, :n] * roots[:, None]).transpose(0, 2, 1)),
        lines=np.ascontiguousarray(lines[:, :n]),
        future=np.ascontiguousarray(lines[:, n:]),
        ends=lines[:, n - 1],
        slopes=slopes,
        sizes=sizes,
        penalties=np.exp(2.0 * sizes / n),
        roots=roots,
        weights=weights,
    )


def _akaike(squares: Floats, variance: float, fewer: float, shapes: Shapes) -> Floats:
    losses = squares / (2 * variance * fewer) + shapes.sizes
    weights: Floats = np.exp(losses.min() - losses)
    weights /= weights.sum()
    return weights


def _tame(values: Floats) -> Floats:
    """Return the curve with wild epochs moved towards the median of their neighbours.

    The first quarter is also kept within ten ranges of the rest: a first loss of 900 beside 2.3
    would decide over every shape.
    """
    if len(values) < MIN_OUTLOOK:
        return values
    rest = values[len(values) // 4 :]
    reach = _REACH * float(np.ptp(rest)) + _TINY
    values = np.clip(values, rest.min() - reach, rest.max() + reach)
    padded = np.pad(values, 2, mode="reflect", reflect_type="odd")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    far = values - middle
    limit = _CUT * float(np.median(np.abs(far))) / _MEDIAN_OF_ABSOLUTE + _TINY
    tamed: Floats = middle + np.clip(far, -limit, limit)
    return tamed


def _fill(values: Floats, present: npt.NDArray[np.bool_]) -> Floats:
    """Return the values with each missing one replaced by the one before it, or the first."""
    index = np.maximum.accumulate(np.where(present, np.arange(len(values)), -1))
    filled: Floats = values[np.where(index < 0, int(present.argmax()), index)]
    return filled


def _memory(residuals: Floats) -> tuple[float, float]:
    """Return the correlation of neighbours, and how many epochs are worth one.

    The latter is (1 + r) / (1 - r) (Santer et al. 2000, J. Geophys. Res. 105), or what the means
    of blocks say, which also see a slow wander.
    """
    n, squares = len(residuals), float((residuals**2).sum())
    if n < MIN_OUTLOOK or squares < 1e-14:
        return 0.0, 1.0
    found = float((residuals[1:] * residuals[:-1]).sum()) / squares
    # Residuals of a fit of a few epochs are correlated by about -1 / E less than the noise.
    memory = min(max(found + 1.0 / n, 0.0), _LARGEST_MEMORY)
    length = round(math.sqrt(n))
    means = residuals[n % length :].reshape(-1, length).mean(axis=1)
    of_blocks = float((means**2).mean()) * length * n / squares
    return memory, max((1 + memory) / (1 - memory), of_blocks)
