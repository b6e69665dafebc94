"""How far a score is from that of another validation set, by influence values.

A metric is a function S of the confusion matrix n that does not change when all counts are
doubled, so its influence values ``dS / dn`` sum to 0 over the examples, and the variance of S is
the sum of their squares (the infinitesimal jackknife: Efron 1982; the same as Takahashi et al.
2022, "Confidence interval for micro-averaged F1 and macro-averaged F1 scores", Applied
Intelligence 52). Trials are scored on the same examples: with influences a and b of two trials
the variance of their difference is ``sum((a - b) ** 2)``.

Shapes: N examples, C classes.
"""

import math

import numpy as np
import numpy.typing as npt

from objectives.api import Counts
from objectives.metrics import Metric

Floats = npt.NDArray[np.float64]

# Counts are scored as whole numbers of millionths, and derived by a step of a thousandth.
_UNIT, _STEP = 1_000_000, 1_000


def count_confusion(
    targets_N: npt.NDArray[np.uint8], predictions_N: npt.NDArray[np.uint8], num_classes: int
) -> npt.NDArray[np.int64]:
    """Return the confusion matrix, rows the true class, (C, C)."""
    cells = targets_N.astype(np.int64) * num_classes + predictions_N
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def find_influences(confusion: npt.NDArray[np.int64], metric: Metric) -> Floats:
    """Return what one more example of each true and predicted class adds to a score, (C, C).

    ``influences[targets_N, predictions_N]`` are the influence values of the examples. A metric
    depends on what is right, true and predicted of each class, so 3 C derivatives are enough.

    Args:
        confusion: Counts, rows the true class, columns the predicted class, (C, C). Half a right
            and half a wrong example are added to each class that has any (Jeffreys' prior), or a
            score of 1 would have no error.
        metric: The study's.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    counts = np.rint(_UNIT * (counts + _half_examples(counts))).astype(np.int64)
    parts = [np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)]
    score = metric.score(Counts(*parts))
    by_part = np.zeros((3, len(counts)))
    for part in range(3):
        for index in range(len(counts)):
            moved = [each.copy() for each in parts]
            moved[part][index] += _STEP
            by_part[part, index] = metric.score(Counts(*moved)) - score
    right, true, predicted = by_part * (_UNIT / _STEP)
    # A class without examples is not scored: its first example would change the mean.
    true = np.where(parts[1] > 0, true, 0.0)
    influences: Floats = true[:, None] + predicted[None, :] + np.diag(right)
    return influences


def score_error(confusion: npt.NDArray[np.int64], metric: Metric) -> float:
    """Return the standard error of a score: against another validation set of this size.

    Epochs of one trial are scored on the same examples, most of which keep their prediction, so
    they differ by less. NaN without examples.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    if not counts.any():
        return math.nan
    weights = counts + _half_examples(counts)
    return math.sqrt(float((weights * find_influences(confusion, metric) ** 2).sum()))


def guess_score(shares: npt.ArrayLike, metric: Metric) -> float:
    """Return the best score without looking at an example: one class always, or classes by lot.

    Args:
        shares: Share, or number, of the examples of each class, (C,).
        metric: The study's.
    """
    true = np.asarray(shares, dtype=np.float64)
    true = true / true.sum()
    guesses = [true, np.full(len(true), 1 / len(true)), np.eye(len(true))[int(true.argmax())]]
    if metric.class_index is not None:
        guesses.append(np.eye(len(true))[metric.class_index])
    tables = [np.rint(_UNIT * np.outer(true, guess)).astype(np.int64) for guess in guesses]
    return max(metric.score(Counts.of_matrix(table)) for table in tables)


def _half_examples(counts: Floats) -> Floats:
    """Return half a right example a class, and half a wrong one spread over its other columns."""
    classes = len(counts)
    extra = np.full((classes, classes), 0.5 / max(classes - 1, 1))
    extra[np.diag_indices_from(extra)] = 0.5
    rows: Floats = extra * (counts.sum(axis=1) > 0)[:, None]
    return rows
