"""Scores from a confusion matrix, by scikit-learn's definitions. Knows no torch.

Shapes: C classes; rows are the true class, columns the predicted one.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of each class, (C,), and their mean.

    Attributes:
        precision: Right predictions / predictions of the class, 0 where it was never predicted.
        recall: Right predictions / examples of the class, 0 where it has no example.
        f1: Harmonic mean of the two, 0 where both are 0 (``zero_division=0``).
        support: Examples of the class.
        score: Mean F1 over the classes that were seen or predicted, 0.0 if there is none: as
            ``sklearn.metrics.f1_score(average="macro", zero_division=0)``, which does not count a
            class that neither stands in the targets nor was predicted.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    support: npt.NDArray[np.int64]
    score: float


def class_scores(confusion: npt.NDArray[np.int64]) -> ClassScores:
    """Return the scores of each class of a confusion matrix, (C, C)."""
    right = np.diagonal(confusion).astype(np.float64)
    support = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    f1 = _ratio(2 * right, support + predicted)
    present = (support + predicted) > 0
    return ClassScores(
        precision=_ratio(right, predicted),
        recall=_ratio(right, support),
        f1=f1,
        support=support,
        score=float(f1[present].mean()) if present.any() else 0.0,
    )


def _ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
