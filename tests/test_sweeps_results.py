"""A trial's result from its curve: the confusion matrix is that of the best epoch, if small."""

import numpy as np
import pytest

from objectives.api import EpochReport
from sweeps import results
from sweeps.stopping import Decision, Outcome

ENDED = Decision(Outcome.STALLED, "it stalled")


def report(epoch: int, confusion: np.ndarray) -> EpochReport:
    return EpochReport(
        slot=0,
        epoch=epoch,
        train_loss=0.7,
        val_loss=0.6,
        confusion=confusion,
        learning_rate=0.01,
        grad_norm=1.0,
        seconds=0.1,
    )


def test_confusion_is_that_of_the_best_epoch() -> None:
    curve = results.Curve()
    for epoch, score in enumerate((0.3, 0.7, 0.5), start=1):
        counts = np.array([[epoch, 2], [3, 5]], dtype=np.int64)
        curve.add(report(epoch, counts), score)
    assert results.trial_result(ENDED, curve).confusion == ((2, 2), (3, 5))


def test_trial_without_an_epoch_has_no_confusion() -> None:
    assert results.trial_result(ENDED, results.Curve()).confusion is None


@pytest.mark.parametrize(("num_classes", "is_stored"), [(50, True), (51, False)])
def test_confusion_of_many_classes_is_not_stored(num_classes: int, is_stored: bool) -> None:
    curve = results.Curve()
    curve.add(report(1, np.eye(num_classes, dtype=np.int64)), 1.0)
    assert (results.trial_result(ENDED, curve).confusion is not None) == is_stored
