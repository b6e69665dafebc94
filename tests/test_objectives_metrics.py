import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from objectives.training.metrics import class_scores

NUM_CLASSES = 5


def assert_equals_sklearn(pairs: list[tuple[int, int]]) -> None:
    targets = [target for target, _ in pairs]
    predictions = [prediction for _, prediction in pairs]
    scores = class_scores(confusion_matrix(targets, predictions, labels=range(NUM_CLASSES)))
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, predictions, labels=range(NUM_CLASSES), zero_division=0
    )
    # The last bit: scikit-learn sums in another order.
    np.testing.assert_allclose(scores.precision, precision, rtol=1e-14)
    np.testing.assert_allclose(scores.recall, recall, rtol=1e-14)
    np.testing.assert_allclose(scores.f1, f1, rtol=1e-14)
    assert scores.support.tolist() == support.tolist()
    # Without `labels`, scikit-learn means the classes that it sees.
    score = f1_score(targets, predictions, average="macro", zero_division=0)
    assert scores.score == pytest.approx(score, rel=1e-14)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1)),
        min_size=1,
        max_size=40,
    )
)
def test_scores_equal_those_of_sklearn(pairs: list[tuple[int, int]]) -> None:
    assert_equals_sklearn(pairs)


@pytest.mark.parametrize(
    "pairs",
    [
        [(i, i) for i in range(NUM_CLASSES)],
        [(i, (i + 1) % NUM_CLASSES) for i in range(NUM_CLASSES)],  # nothing right
        [(0, 1), (0, 0), (2, 2), (3, 3), (4, 0)],  # class 1 predicted, absent in the targets
        [(0, 0), (1, 0), (2, 2)],  # classes 3 and 4 absent in both
        [(i, 3) for i in range(NUM_CLASSES)],  # one class predicted
        [(2, 2)],  # one example
        [(2, 3)],
    ],
)
def test_edge_tables_equal_those_of_sklearn(pairs: list[tuple[int, int]]) -> None:
    assert_equals_sklearn(pairs)


def test_scores_by_hand() -> None:
    confusion: npt.NDArray[np.int64] = np.array([[3, 1], [2, 4]])
    scores = class_scores(confusion)
    assert scores.precision.tolist() == pytest.approx([3 / 5, 4 / 5])
    assert scores.recall.tolist() == pytest.approx([3 / 4, 4 / 6])
    assert scores.f1.tolist() == pytest.approx([6 / 9, 8 / 11])
    assert scores.support.tolist() == [4, 6]
    assert scores.score == pytest.approx((6 / 9 + 8 / 11) / 2)


def test_empty_table_scores_zero() -> None:
    scores = class_scores(np.zeros((3, 3), dtype=np.int64))
    assert scores.score == 0.0
    assert scores.f1.tolist() == [0.0, 0.0, 0.0]
    assert scores.support.tolist() == [0, 0, 0]
