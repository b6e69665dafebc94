"""How much of a score is luck: the validation set's own noise, and the noise between epochs.

Knows counts and curves; knows no trial and no rule. Shapes: E epochs, C classes, N examples.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Standard errors that two scores must be apart to be told apart, as everywhere in statistics.
TIE_ERRORS = 2.0
_FITTING_ROUNDS = 100
# Share of a factor that a round may still change; most tables are there after 20 to 40 rounds.
_FITTED = 1e-12
# The median of |x| of a standard normal x.
_MEDIAN_OF_ABSOLUTE = 0.6744897501960817
#: Largest correlation of neighbouring epochs that is believed: 0.9 is an effective twentieth.
_LARGEST_CORRELATION = 0.9


def macro_f1_error(confusion: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> float:
    """Return the standard error of a validation macro-F1, by the delta method.

    The N examples are a sample: another sample of as many would give another score. With
    F_k = 2 TP_k / D_k and D_k = examples + predictions of class k, an example of class t that is
    predicted as p moves F_k by ``(2 [t = p = k] - F_k ([t = k] + [p = k])) / D_k``; the mean of
    these over the classes is its influence, and the root of the summed squares is the error
    (Takahashi et al. 2022, "Confidence interval for micro-averaged F1 and macro-averaged F1
    scores", Applied Intelligence 52, which does the same with counts).

    Args:
        confusion: Counts, rows the true class, columns the predicted one, (C, C). Half a right
            and half a wrong example are added to each class that has any (Jeffreys' prior), or a
            score of 1 would have no error.

    Returns:
        NaN for a table without examples. It is the error against other examples. Epochs of one
        trial are scored on the same examples, most of which keep their prediction, so they
        differ by less.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    present = counts.sum(axis=1) > 0
    if not present.any():
        return math.nan
    counts = counts + _half_examples(counts, present)
    both = counts.sum(axis=0) + counts.sum(axis=1)
    right = np.diagonal(counts)
    scored = both > 0
    f1 = np.divide(2 * right, both, out=np.zeros_like(right), where=scored)
    lost = np.divide(f1, both, out=np.zeros_like(right), where=scored)
    influence = -(lost[:, None] + lost[None, :])
    gained = np.divide(2.0, both, out=np.zeros_like(right), where=scored)
    influence[np.diag_indices_from(influence)] += gained
    influence /= scored.sum()
    return math.sqrt(float((counts * influence**2).sum()))


def macro_f1_error_from_scores(
    precision: Sequence[float], recall: Sequence[float], support: Sequence[int]
) -> float:
    """Return the standard error of a macro-F1 from the scores of each class.

    What ``class_scores`` stores has no confusion matrix. Its margins follow (right = recall *
    support, predicted = right / precision), and the errors are spread over the cells off the
    diagonal as evenly as the margins allow (iterative proportional fitting, Deming and Stephan
    1940); for two classes that is exact.

    Args:
        precision: Precision of each class, (C,); missing counts as 0.
        recall: Recall of each class, (C,); missing counts as 0.
        support: Validation examples of each class, (C,).

    Returns:
        NaN where there are no examples.
    """
    examples = np.asarray(support, dtype=np.float64)
    found = np.nan_to_num(np.asarray(recall, dtype=np.float64))
    exact = np.nan_to_num(np.asarray(precision, dtype=np.float64))
    right = found * examples
    predicted = np.divide(right, exact, out=np.zeros_like(right), where=exact > 0)
    missed, claimed = examples - right, predicted - right
    # A class without a right prediction has precision 0, however often it was predicted.
    unknown = (exact == 0) & (examples > 0)
    left = max(missed.sum() - claimed.sum(), 0.0)
    if unknown.any():
        claimed = np.where(unknown, left / unknown.sum(), claimed)
    return macro_f1_error(_spread(missed, claimed) + np.diag(right))


def macro_f1_error_from_f1(class_f1: Sequence[float], support: Sequence[int]) -> float:
    """Return the standard error of a macro-F1 from each class's F1 alone.

    An epoch record has no more. The errors are spread over a table that gives every class its F1:
    with e_k missed and c_k wrongly claimed, ``e_k (2 - F_k) + c_k F_k = 2 s_k (1 - F_k)``, reached
    by scaling its rows in turn.

    Args:
        class_f1: F1 of each class, (C,); missing counts as 0.
        support: Validation examples of each class, (C,).

    Returns:
        NaN where there are no examples. Which classes are confused with which is a guess, so it
        is right to about a tenth; too large rather than too small where the F1 fit no table.
    """
    examples = np.asarray(support, dtype=np.float64)
    f1 = np.nan_to_num(np.asarray(class_f1, dtype=np.float64))
    table = _spread_errors(f1, examples)
    fitted = macro_f1_error(table + np.diag(examples - table.sum(axis=1)))
    # Where no table has these F1, as with one guess for all classes, each class's own error is
    # the least: that of equal precision and recall, F (1 - F) (1 - F / 2) / s.
    present = examples > 0
    own = (f1[present] * examples[present] + 0.5) / (examples[present] + 1)
    variances = own * (1 - own) * (1 - own / 2) / examples[present]
    return max(fitted, math.sqrt(float(variances.sum())) / max(int(present.sum()), 1))


def epoch_noise(curve: Sequence[float] | Floats) -> float:
    """Return the standard deviation of a curve around whatever smooth line it follows.

    From each epoch's distance to the mean of its two neighbours, whose variance is 1.5 times that
    of the noise (Gasser, Sroka and Jennen-Steinmetz 1986, Biometrika 73); by the median of the
    absolute distances, so that the steep first epochs do not count as noise.

    Args:
        curve: A score or a loss per epoch, (E,); missing ones are left out.

    Returns:
        NaN with fewer than 4 epochs. White noise is measured right; swings that last many epochs
        are not noise but part of the line.
    """
    values = finite(curve)
    if len(values) < 4:
        return math.nan
    distances = values[1:-1] - (values[:-2] + values[2:]) / 2
    return float(np.median(np.abs(distances))) / _MEDIAN_OF_ABSOLUTE / math.sqrt(1.5)


def epochs_to_best(curve: Sequence[float] | Floats) -> int | None:
    """Return the first epoch that is no further below the best than the noise between epochs.

    Args:
        curve: A score per epoch, (E,), NaN where it is missing.

    Returns:
        Counted from 1; the best epoch itself with fewer than 4; None if no epoch has a score.
    """
    values = np.asarray(curve, dtype=np.float64)
    if not np.isfinite(values).any():
        return None
    noise = epoch_noise(values)
    wanted = float(np.nanmax(values)) - (0.0 if math.isnan(noise) else noise)
    return int(np.argmax(np.nan_to_num(values, nan=-math.inf) >= wanted)) + 1


def neighbour_correlation(residuals: Sequence[float] | Floats) -> float:
    """Return the correlation of neighbouring residuals, in [0, 0.9]; 0 with fewer than 4."""
    values = finite(residuals)
    spread = float((values**2).sum())
    if len(values) < 4 or spread == 0:
        return 0.0
    found = float((values[1:] * values[:-1]).sum()) / spread
    return min(max(found, 0.0), _LARGEST_CORRELATION)


def moving_median(curve: Sequence[float] | Floats, width: int = 3) -> Floats:
    """Return each epoch's median with its neighbours, fewer at the ends, (E,).

    Args:
        curve: A number per epoch, (E,), none missing.
        width: Epochs a median, odd.
    """
    values = np.asarray(curve, dtype=np.float64)
    medians = values.copy()
    # As many on both sides: at an end a lopsided median would follow a rise too late.
    for side in range(1, min(width // 2, (len(values) - 1) // 2) + 1):
        windows = np.lib.stride_tricks.sliding_window_view(values, 2 * side + 1)
        medians[side : len(values) - side] = np.median(windows, axis=1)
    return medians


def finite(curve: Sequence[float] | Floats) -> Floats:
    """Return the curve's finite values."""
    values = np.asarray(curve, dtype=np.float64)
    kept: Floats = values[np.isfinite(values)]
    return kept


def _spread_errors(f1: Floats, examples: Floats) -> Floats:
    """Return a table of errors, nothing on its diagonal, that gives each class its F1, (C, C).

    Rows alone are scaled, so what is kept of each round is one factor a row.
    """
    wanted = 2 * examples * (1 - f1)
    table = np.outer(wanted, wanted) / max(float(wanted.sum()), 1.0) / 2
    np.fill_diagonal(table, 0.0)
    rows, weights = table.sum(axis=1), 2 - f1
    factors = np.ones_like(f1)
    for _ in range(_FITTING_ROUNDS):
        before, missed = factors, factors * rows
        reached = missed * weights + (factors @ table) * f1
        # A row without errors stays so, whatever its factor.
        factors = factors * wanted / np.where(reached > 0, reached, math.inf)
        factors = np.minimum(factors, examples / np.where(rows > 0, rows, math.inf))
        if (np.abs(factors - before) <= _FITTED * factors.max(initial=0.0)).all():
            break
    fitted: Floats = table * factors[:, None]
    return fitted


def _half_examples(counts: Floats, present: npt.NDArray[np.bool_]) -> Floats:
    """Return half a right example a class, and half a wrong one spread over its other columns."""
    classes = len(counts)
    extra = np.full((classes, classes), 0.5 / max(classes - 1, 1))
    extra[np.diag_indices_from(extra)] = 0.5
    rows: Floats = extra * present[:, None]
    return rows


def _spread(missed: Floats, claimed: Floats) -> Floats:
    """Return a table with these margins, as near as can be, and nothing on its diagonal."""
    table = np.outer(missed, claimed)
    np.fill_diagonal(table, 0.0)
    for _ in range(_FITTING_ROUNDS):
        for axis, wanted in ((1, missed), (0, claimed)):
            present = table.sum(axis=axis)
            scale = np.divide(wanted, present, out=np.zeros_like(wanted), where=present > 0)
            table = table * np.expand_dims(scale, axis)
    return table
