"""What a person's ``load`` may return: it becomes the arrays that are trained on.

What it may not return stands in ``test_sweeps_cli_wrong_inputs.py``.
"""

import numpy as np
import pytest
import torch

from objectives.api import Data, Split
from objectives.data.checks import checked, describe_classes
from objectives.lanes.trainer import fingerprint

N, F, L = 5, 3, 7
TARGETS = np.array([0, 1, 0, 1, 1])


def make(inputs: object, targets: object = TARGETS, lengths: object = None) -> Data:
    split = Split(inputs, targets, lengths)  # type: ignore[arg-type]
    return Data(split, split, split, ["no", "yes"], {"words": 3})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "inputs",
    [
        (np.ones((N, F)),),
        [np.ones((N, F), dtype=np.float16)],
        np.ones((N, F)),  # not in a tuple
        (torch.ones(N, F, dtype=torch.float64),),
        ([[1.0] * F] * N,),
    ],
)
def test_floats_become_float32_arrays(inputs: object) -> None:
    data = checked(make(inputs), "mine.py")
    (array,) = data.train.inputs
    np.testing.assert_array_equal(array, np.ones((N, F), dtype=np.float32), strict=True)
    assert (data.class_names, data.extras) == (("no", "yes"), {"words": 3})


@pytest.mark.parametrize(
    "targets",
    [TARGETS, TARGETS.astype(np.int8), TARGETS == 1, list(TARGETS), torch.tensor(TARGETS)],
)
def test_classes_become_int64(targets: object) -> None:
    data = checked(make((np.ones((N, F)),), targets), "mine.py")
    np.testing.assert_array_equal(data.test.targets, TARGETS.astype(np.int64), strict=True)


def test_class_distributions_stay_distributions() -> None:
    soft = np.array([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])
    data = checked(make((np.ones((N, F)),), soft), "mine.py")
    np.testing.assert_array_equal(data.train.targets, soft.astype(np.float32), strict=True)


def test_whole_numbers_stay_whole() -> None:
    data = checked(make((np.ones((N, L), dtype=np.int32),)), "mine.py")
    assert data.train.inputs[0].dtype == np.int32


def test_padded_sequences_may_be_longer_in_another_split() -> None:
    short = Split((np.ones((N, L, F)),), TARGETS, np.full(N, L))
    long = Split((np.ones((N, L + 4, F)),), TARGETS, np.full(N, L + 4))
    data = checked(Data(short, long, long, ("no", "yes")), "mine.py")
    assert data.validation.inputs[0].shape == (N, L + 4, F)


def test_test_split_may_be_empty() -> None:
    train = Split((np.ones((N, F)),), TARGETS)
    test = Split((np.ones(0),), np.array([]))
    assert len(checked(Data(train, train, test, ("no", "yes")), "mine.py").test.targets) == 0


def test_fingerprint_of_extras_is_the_same_in_each_process() -> None:
    class Thing:
        pass

    train = Split((np.ones((N, F)),), TARGETS)
    prints = {
        fingerprint(Data(train, train, train, ("no", "yes"), {"thing": Thing(), "words": words}))
        for words in ({"a", "b", "c"}, {"c", "b", "a"})
    }
    assert len(prints) == 1


@pytest.mark.parametrize("is_soft", [False, True])
def test_classes_with_too_few_examples_are_told(is_soft: bool) -> None:
    names = ("ham", "spam", "eggs", "none", "toast")

    def split(*classes: int) -> Split:
        soft = (np.eye(5, dtype=np.float32)[list(classes)] + 0.25) / 2.25
        return Split((np.zeros((len(classes), 3)),), soft if is_soft else np.array(classes))

    # Class 3 stands nowhere, class 4 in validation alone.
    data = Data(split(0, 1, 2, 1), split(0, 4, 0), split(1), names)
    assert describe_classes(data) == [
        "validation has no example of 'spam', 'eggs': no score counts them",
        "2 examples or fewer: 'eggs'; so few tell nothing of a class",
    ]
    assert describe_classes(Data(split(*[0, 1] * 3), split(0, 1), split(), names)) == []
