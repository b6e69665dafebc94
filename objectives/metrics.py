"""The metrics that a study can be judged by: functions of the counts of each class, by name.

Equal to scikit-learn's over the classes that have examples in validation, so that every epoch and
every trial of a study is divided by the same number of classes. Knows no torch.
Shapes: N examples, C classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import MAX_MATRIX_CLASSES, Counts, Data, DataFacts
from objectives.metric_names import F1_OF, METRICS, check_metric, label_metric
from search_spaces.mistakes import suggest_names


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of each class, (C,); 0 where nothing was there to count (``zero_division=0``).

    Attributes:
        precision: Right predictions / predictions of the class.
        recall: Right predictions / examples of the class.
        f1: Harmonic mean of the two.
        support: Examples of the class.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    support: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a study's score is; higher is better.

    Attributes:
        name: As a configuration names it.
        label: As a person reads it.
        lowest: Smallest score there can be.
        class_index: The class whose F1 it is, or None.
    """

    name: str
    label: str
    lowest: float = 0.0
    class_index: int | None = None

    def score(self, counts: Counts) -> float:
        """Return the score of one epoch; 0.0 where the metric has nothing to divide by."""
        if self.class_index is not None:
            return float(class_scores(counts).f1[self.class_index])
        return _SCORES[self.name](counts)


def make_metric(name: str, class_names: Sequence[str]) -> Metric:
    """Return the metric of a name, "f1:CLASS" for the F1 of one of the data's classes.

    Raises:
        ValueError: If there is no such metric or no such class; one line suggests a name.
    """
    check_metric(name)
    if name in METRICS:
        return Metric(name, label_metric(name), lowest=-1.0 if name == "mcc" else 0.0)
    class_name = name.removeprefix(F1_OF)
    if class_name not in class_names:
        way_out = suggest_names(class_name, class_names)
        raise ValueError(f"{name!r} names no class of the data; {way_out}")
    return Metric(name, label_metric(name), class_index=list(class_names).index(class_name))


def check_labels_metric(name: str) -> None:
    """Check that a metric can judge examples of several labels each.

    Raises:
        ValueError: If it needs one class for each example.
    """
    if name in _ONE_CLASS:
        others = [metric for metric in METRICS if metric not in _ONE_CLASS]
        expected = f"expected {', '.join(others)} or {F1_OF}CLASS"
        raise ValueError(f"{name} needs one class an example, these have several; {expected}")


def count_predictions(
    true: npt.NDArray[Any], predicted_N: npt.NDArray[Any], *, num_classes: int
) -> Counts:
    """Return what was right and what was predicted, by class.

    Args:
        true: Class of each example, (N,), or which labels it has, (N, C).
        predicted_N: The predicted class, or a number with a bit for each label.
        num_classes: C.
    """
    predicted_N = predicted_N.astype(np.int64)
    if true.ndim == 2:
        predicted_NC = (predicted_N[:, None] >> np.arange(num_classes)) & 1 == 1
        right_C = (predicted_NC & true).sum(axis=0)
        return Counts(right_C, true.sum(axis=0), predicted_NC.sum(axis=0))
    true_N = true
    if num_classes <= MAX_MATRIX_CLASSES:
        cells = np.bincount(true_N * num_classes + predicted_N, minlength=num_classes**2)
        return Counts.of_matrix(cells.reshape(num_classes, num_classes))
    right_N = true_N[true_N == predicted_N]
    of_each = (right_N, true_N, predicted_N)
    return Counts(*(np.bincount(classes_N, minlength=num_classes) for classes_N in of_each))


def class_scores(counts: Counts) -> ClassScores:
    """Return the scores of each class."""
    right = counts.right.astype(np.float64)
    return ClassScores(
        precision=_ratio(right, counts.predicted),
        recall=_ratio(right, counts.support),
        f1=_ratio(2 * right, counts.support + counts.predicted),
        support=counts.support,
    )


def measure_data(data: Data) -> DataFacts:
    """Return what a score and a loss on this data set are judged by."""
    targets = data.train.targets
    entropy = 0.0
    if targets.ndim == 1:
        counts = np.bincount(targets.astype(np.int64), minlength=len(data.class_names))
        shares = counts / max(len(targets), 1)
    else:
        chances = targets.astype(np.float64)
        shares = chances.mean(axis=0)
        logs = np.log(chances, out=np.zeros_like(chances), where=chances > 0)
        entropy = max(float(-(chances * logs).sum(axis=1).mean()), 0.0)
    return DataFacts(
        num_train=len(targets),
        num_validation=len(data.validation.targets),
        train_shares=tuple(float(share) for share in shares),
        target_entropy=entropy,
    )


def count_classes(targets: npt.NDArray[Any], num_classes: int) -> npt.NDArray[np.int64]:
    """Return how many examples each class or label has, (C,)."""
    if targets.dtype == np.bool_:
        counts_C: npt.NDArray[np.int64] = targets.sum(axis=0)
        return counts_C
    return np.bincount(find_classes(targets), minlength=num_classes)


def find_classes(targets: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the class of each example, (N,); of a distribution the likeliest, the earliest."""
    classes = targets if targets.ndim == 1 else targets.argmax(axis=1)
    return classes.astype(np.int64)


def _ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _macro_f1(counts: Counts) -> float:
    return _mean_of_present(class_scores(counts).f1, counts)


def _weighted_f1(counts: Counts) -> float:
    total = int(counts.support.sum())
    return float(class_scores(counts).f1 @ counts.support) / total if total else 0.0


def _accuracy(counts: Counts) -> float:
    total = int(counts.support.sum())
    return int(counts.right.sum()) / total if total else 0.0


def _balanced_accuracy(counts: Counts) -> float:
    return _mean_of_present(class_scores(counts).recall, counts)


def _mcc(counts: Counts) -> float:
    # Python's whole numbers: the products of counts of a large data set do not fit into int64.
    support, predicted = counts.support.tolist(), counts.predicted.tolist()
    total, right = sum(support), int(counts.right.sum())
    covariance = right * total - sum(s * p for s, p in zip(support, predicted, strict=True))
    spread = (total**2 - sum(s * s for s in support)) * (total**2 - sum(p * p for p in predicted))
    return covariance / math.sqrt(spread) if spread else 0.0


def _mean_of_present(scores: npt.NDArray[np.float64], counts: Counts) -> float:
    present = counts.support > 0
    return float(scores[present].mean()) if present.any() else 0.0


#: Metrics of examples that have one class each.
_ONE_CLASS = ("accuracy", "mcc")
_SCORES: Mapping[str, Callable[[Counts], float]] = {
    "macro-f1": _macro_f1,
    "accuracy": _accuracy,
    "weighted-f1": _weighted_f1,
    "balanced-accuracy": _balanced_accuracy,
    "mcc": _mcc,
}
