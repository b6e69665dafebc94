"""Metrics: equal to scikit-learn's over the classes that validation has, whatever is predicted."""

import json
import math
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from objectives.api import Counts, Data, DataFacts, Split
from objectives.metrics import (
    METRICS,
    check_metric,
    class_scores,
    make_metric,
    measure_data,
)

NUM_CLASSES = 5
NAMES = ("ham", "spam", "eggs", "none of these", "f1:odd")

Pairs = list[tuple[int, int]]

TABLES: list[Pairs] = [
    [(i, i) for i in range(NUM_CLASSES)],
    [(i, (i + 1) % NUM_CLASSES) for i in range(NUM_CLASSES)],  # nothing right
    [(0, 1), (0, 0), (2, 2), (3, 3), (4, 0)],  # class 1 predicted, absent in the targets
    [(0, 0), (1, 0), (2, 2)],  # classes 3 and 4 absent in both
    [(i, 3) for i in range(NUM_CLASSES)],  # one class predicted
    [(2, 2)],  # one example
    [(2, 3)],
    [(2, i) for i in range(NUM_CLASSES)],  # one class in the targets
]


def counts_of(pairs: Pairs) -> Counts:
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for target, prediction in pairs:
        matrix[target, prediction] += 1
    return Counts.of_matrix(matrix)


def sklearn_scores(pairs: Pairs) -> dict[str, float]:
    """The score of each metric, over the classes that stand in the targets."""
    targets, predictions = (list(each) for each in zip(*pairs, strict=True))
    f1 = {"labels": sorted(set(targets)), "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of predictions that stand nowhere in targets
        return {
            "macro-f1": sklearn_metrics.f1_score(targets, predictions, average="macro", **f1),
            "weighted-f1": sklearn_metrics.f1_score(
                targets, predictions, average="weighted", **f1
            ),
            "accuracy": sklearn_metrics.accuracy_score(targets, predictions),
            "balanced-accuracy": sklearn_metrics.balanced_accuracy_score(targets, predictions),
            "mcc": sklearn_metrics.matthews_corrcoef(targets, predictions),
        } | {
            f"f1:{name}": sklearn_metrics.f1_score(
                targets, predictions, labels=[index], average="macro", zero_division=0
            )
            for index, name in enumerate(NAMES)
        }


def assert_equals_sklearn(pairs: Pairs) -> None:
    counts, expected = counts_of(pairs), sklearn_scores(pairs)
    assert set(METRICS) < set(expected)
    for name, score in expected.items():
        # The last bits: scikit-learn sums in another order.
        ours = make_metric(name, NAMES).score(counts)
        assert ours == pytest.approx(score, rel=1e-12, abs=1e-15), name
    scores = class_scores(counts)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        *zip(*pairs, strict=True), labels=range(NUM_CLASSES), zero_division=0
    )
    np.testing.assert_allclose(scores.precision, precision, rtol=1e-14)
    np.testing.assert_allclose(scores.recall, recall, rtol=1e-14)
    np.testing.assert_allclose(scores.f1, f1, rtol=1e-14)
    assert scores.support.tolist() == support.tolist()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1)),
        min_size=1,
        max_size=40,
    )
)
def test_scores_equal_those_of_sklearn(pairs: Pairs) -> None:
    assert_equals_sklearn(pairs)


@pytest.mark.parametrize("pairs", TABLES)
def test_edge_tables_equal_those_of_sklearn(pairs: Pairs) -> None:
    assert_equals_sklearn(pairs)


def test_scores_by_hand() -> None:
    counts = Counts.of_matrix(np.array([[3, 1], [2, 4]]))
    scores = class_scores(counts)
    assert scores.precision.tolist() == pytest.approx([3 / 5, 4 / 5])
    assert scores.recall.tolist() == pytest.approx([3 / 4, 4 / 6])
    assert scores.f1.tolist() == pytest.approx([6 / 9, 8 / 11])
    assert scores.support.tolist() == [4, 6]
    hand = {
        "macro-f1": (6 / 9 + 8 / 11) / 2,
        "weighted-f1": (4 * 6 / 9 + 6 * 8 / 11) / 10,
        "accuracy": 7 / 10,
        "balanced-accuracy": (3 / 4 + 4 / 6) / 2,
        "mcc": (3 * 4 - 1 * 2) / (5 * 4 * 6 * 5) ** 0.5,
        "f1:b": 8 / 11,
    }
    for name, score in hand.items():
        assert make_metric(name, ("a", "b")).score(counts) == pytest.approx(score)


def test_false_prediction_of_an_absent_class_does_not_change_the_number_of_classes() -> None:
    without = counts_of([(0, 0)] * 30 + [(1, 1)] * 11)
    beside = counts_of([(0, 0)] * 29 + [(0, 4)] + [(1, 1)] * 11)
    macro_f1 = make_metric("macro-f1", NAMES)
    assert macro_f1.score(without) == 1.0
    assert macro_f1.score(beside) == pytest.approx((58 / 59 + 1) / 2)


@pytest.mark.parametrize("name", [*METRICS, "f1:spam"])
def test_no_example_scores_zero(name: str) -> None:
    nothing: npt.NDArray[np.int64] = np.zeros(NUM_CLASSES, dtype=np.int64)
    assert make_metric(name, NAMES).score(Counts(nothing, nothing, nothing)) == 0.0


def test_mcc_of_many_examples_does_not_overflow() -> None:
    half = 2_000_000_000
    counts = Counts.of_matrix(np.array([[half, 0], [0, half]]))
    assert make_metric("mcc", ("a", "b")).score(counts) == 1.0


@pytest.mark.parametrize("pairs", TABLES)
def test_no_score_is_below_the_lowest(pairs: Pairs) -> None:
    for name in METRICS:
        metric = make_metric(name, NAMES)
        assert metric.lowest <= metric.score(counts_of(pairs)) <= 1.0
    nothing_right = counts_of([(0, 1), (1, 0)])
    assert make_metric("mcc", NAMES).score(nothing_right) == make_metric("mcc", NAMES).lowest


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("macrof1", "is unknown: 'macrof1'; did you mean 'macro-f1'? Known: "),
        ("f1", "is unknown: 'f1'; "),
        ("f1:", "is unknown: 'f1:'; did you mean 'f1:CLASS'? Known: "),
        ("auc", "is unknown: 'auc'; "),
    ],
)
def test_unknown_metric_is_refused_without_data(name: str, line: str) -> None:
    for check in (check_metric, lambda name: make_metric(name, NAMES)):
        with pytest.raises(ValueError, match="is unknown") as caught:
            check(name)
        assert str(caught.value).startswith(line)
        assert "\n" not in str(caught.value)


def test_unknown_class_is_refused_with_the_nearest() -> None:
    check_metric("f1:spma")
    with pytest.raises(ValueError, match="names no class") as caught:
        make_metric("f1:spma", NAMES)
    known = "did you mean 'spam'? Known: eggs, f1:odd, ham, none of these, spam"
    assert str(caught.value) == f"'f1:spma' names no class of the data; {known}"


def test_label_of_a_class_s_metric_names_it() -> None:
    metric = make_metric("f1:f1:odd", NAMES)
    assert (metric.name, metric.label) == ("f1:f1:odd", "F1 of f1:odd")


def test_data_are_measured_by_hand() -> None:
    def split(targets: Any) -> Split:
        return Split(inputs=(np.zeros((len(targets), 3)),), targets=np.array(targets))

    validation, test = split([0, 1, 2]), split([1])
    hard = measure_data(Data(split([0, 0, 1, 0]), validation, test, class_names=("a", "b", "c")))
    assert hard == DataFacts(4, 3, (0.75, 0.25, 0.0), 0.0)
    chances = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], dtype=np.float32)
    soft = measure_data(Data(split(chances), validation, test, class_names=("a", "b", "c")))
    assert soft.train_shares == (0.75, 0.25, 0.0)
    # Half of the targets are one class, and half are a fair coin: log(2) nats.
    assert soft.target_entropy == pytest.approx(math.log(2) / 2)


def test_metrics_need_no_torch() -> None:
    code = "import sys, json, objectives.metrics; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
