"""What twice the epochs would bring, by one block bootstrap of the residuals of a score's line.

Knows curves of numbers alone. Shapes: E epochs, R replicates.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeps.analysis.fit import MIN_OUTLOOK, Fit, Floats, Shapes, fit_line, make_shapes

#: Ten of them are beyond each end of the interval.
_REPLICATES = 200
_LOW, _HIGH = 0.05, 0.95
#: The probability of a gain above one error, as a logistic function: a constant, the log odds of
#: the bootstrap, and the fall of the validation loss in its own standard errors. Fitted to 1,194
#: cut curves of mnist1d and relations (``tests/benchmarks/bench_verdicts.py`` scores it on
#: others); without the last term the Brier score there is 0.163 instead of 0.147.
_LOGISTIC = (-0.4, 0.34, 0.21)
#: Errors of its slope that a fall of the validation loss counts at most, and usually has.
_MOST_FALL, _USUAL_FALL = 5.0, 2.0
#: Share of the gain beyond one error that came of what the lines promise, on the same curves.
_CAME_TRUE = 0.64
#: A gain that no shape expects, in standard errors of the score: 2 to 8 do as well.
_SURPRISE = 4.0
#: The least noise that stands in for an unknown error: a constant score has none, but a fifth of
#: the tables' trials whose first 8 to 25 scores were all equal gained more than an error.
FINEST = 0.0005


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a block bootstrap of a score's residuals says, in points of the score.

    Attributes:
        luck: How far the best epoch stands above the line, on average.
        gain: Best score after twice the epochs, minus the best now; the mean, less what such lines
            promise too much.
        gain_low: It is below this with 5 % probability.
        gain_high: It is above this with 5 % probability.
        gain_probability: Probability that it is above one standard error of the score.
        epochs_needed: First epoch where the line is within a standard error of its end, from 1.
    """

    luck: float
    gain: float
    gain_low: float
    gain_high: float
    gain_probability: float
    epochs_needed: int


def look_ahead(
    scores: Sequence[float],
    *,
    error: float,
    rates: Sequence[float] = (),
    val: Fit | None = None,
    highest: float = 1.0,
) -> tuple[Fit, Outlook] | None:
    """Return the line through a trial's scores, and what twice the epochs would bring.

    Args:
        scores: Score per epoch, (E,).
        error: Standard error of the score; the noise between epochs stands in for NaN.
        rates: Learning rate of each epoch, (E,); empty: it never changes.
        val: The line through the validation losses; None: it falls as usual.
        highest: Highest score there can be.

    Returns:
        None with fewer than 8 epochs since the rate changed.
    """
    found = fit_line(scores, rates)
    if found is None or len(found[0].line) < MIN_OUTLOOK:
        return None
    fit, values = found
    line, ahead = np.array(fit.line), len(scores)
    # The steep first epochs are where a shape fits worst: their distances are no noise.
    residuals = (values - line)[len(line) // 4 :]
    residuals = residuals - residuals.mean()
    length = _block_length(len(residuals), fit.memory)
    drawn = residuals[_blocks(len(residuals), len(line) + ahead, length)]
    again, later = line + drawn[:, : len(line)], drawn[:, len(line) :]
    luck = float((again.max(axis=1) - line[again.argmax(axis=1)]).mean())
    future = (_extrapolate(make_shapes(len(line), ahead), again) + later).max(axis=1)
    best = float(np.nanmax(np.asarray(scores, dtype=np.float64)))
    tolerance = max(fit.noise, FINEST) if math.isnan(error) else error
    gains, weights = _calibrate(future - best, tolerance, highest - best, val)
    low, high = _quantiles(gains, weights, (_LOW, _HIGH))
    outlook = Outlook(
        luck=luck,
        gain=float(weights @ np.fmin(gains, tolerance + _CAME_TRUE * (gains - tolerance))),
        gain_low=low,
        gain_high=high,
        gain_probability=float(weights @ (gains > tolerance)),
        epochs_needed=fit.since + int(np.argmax(line >= fit.level - tolerance)),
    )
    return fit, outlook


def _extrapolate(shapes: Shapes, drawn_RE: Floats) -> Floats:
    """Return each replicate's line at the epochs after the last, (R, E')."""
    levels = drawn_RE.mean(axis=1, keepdims=True)
    centred = (drawn_RE - levels) * shapes.roots
    m, k, n = shapes.terms.shape
    # Products so small are computed by one thread: two that wait for each other took 3 to 9 times
    # as long on 2 cores.
    parts = centred.reshape(-1, 10, n) @ shapes.terms.reshape(m * k, n).T
    terms = parts.reshape(len(drawn_RE), m, k)
    squares = (centred**2).sum(axis=1)[:, None] - (terms**2).sum(axis=2)
    best = (np.maximum(squares, 0) * shapes.penalties).argmin(axis=1)
    chosen = terms[np.arange(len(best)), best]
    lines: Floats = levels + np.einsum("rek,rk->re", shapes.future[best], chosen)
    return lines


def _calibrate(
    gains_R: Floats, tolerance: float, most: float, val: Fit | None
) -> tuple[Floats, Floats]:
    """Return gains of the best score, (R',), and their probabilities, (R',).

    The bootstrap knows shapes and noise, not that a plateau may end: of gains that it gives less
    than 5 %, a fifth came true. So it is weighed by what came of real curves (``_LOGISTIC``), and
    two outcomes are added that it may lack: none, and one of four errors.
    """
    most = max(most, 0.0)
    gains = np.clip(np.append(gains_R, (0.0, _SURPRISE * tolerance)), 0.0, most)
    is_gain = gains > tolerance
    share = float(is_gain.mean())
    if share == 0.0:
        return gains, np.full(len(gains), 1 / len(gains))
    falls = _USUAL_FALL
    if val is not None:
        falls = -val.slope / max(val.slope_error, 1e-6 * abs(val.level), 1e-12)
    constant, of_share, of_falls = _LOGISTIC
    known = min(max(share, 0.01), 0.99)
    odds = constant + of_share * math.log(known / (1 - known))
    odds += of_falls * min(max(falls, -_MOST_FALL), _MOST_FALL)
    probability = 1 / (1 + math.exp(-odds))
    weights = np.where(is_gain, probability / share, (1 - probability) / max(1 - share, 1e-9))
    return gains, weights / len(gains)


def _quantiles(values: Floats, weights: Floats, shares: Sequence[float]) -> list[float]:
    """Return the values below which these shares of the weight are."""
    order = np.argsort(values)
    sums = np.cumsum(weights[order])
    at = np.searchsorted(sums, np.array(shares) * sums[-1])
    found: list[float] = values[order][np.minimum(at, len(values) - 1)].tolist()
    return found


def _block_length(n: int, memory: float) -> int:
    """Return the length of the blocks: the optimum for a series with this memory.

    Politis and White 2004, "Automatic block-length selection for the dependent bootstrap".
    """
    wanted = (2 * memory / (1 - memory**2)) ** (2 / 3) * (1.5 * n) ** (1 / 3)
    return int(min(max(round(wanted), 1), max(n // 3, 1)))


@functools.lru_cache(maxsize=64)
def _blocks(n: int, total: int, length: int) -> npt.NDArray[np.int64]:
    """Return epochs to draw, whole blocks of a circle after each other, (R, total)."""
    rng = np.random.default_rng(7)
    starts = rng.integers(0, n, size=(_REPLICATES, -(-total // length)))
    drawn = (starts[:, :, None] + np.arange(length)) % n
    return drawn.reshape(_REPLICATES, -1)[:, :total]
