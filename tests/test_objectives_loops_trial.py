"""A trial of an own loop tells the loop when it ends, and puts together what the loop records."""

import itertools
import math

import pytest
import torch
from sklearn.metrics import f1_score

from objectives.api import EpochReport
from objectives.loops.trial import LoopError, Order, OwnTrial, TrialPaused


class Script:
    """Answers with an order an epoch, and keeps the reports."""

    def __init__(self, *orders: Order) -> None:
        self.orders = itertools.chain(orders, itertools.repeat(Order.GO_ON))
        self.reports: list[EpochReport] = []

    def take(self, trial: OwnTrial, report: EpochReport) -> Order:
        self.reports.append(report)
        return next(self.orders)


def make(*orders: Order, max_epochs: int = 5, **given: object) -> tuple[OwnTrial, Script]:
    script = Script(*orders)
    return OwnTrial({"gamma": 2.0}, script, max_epochs=max_epochs, **given), script


@pytest.mark.parametrize(("orders", "epochs"), [((), 5), ((Order.GO_ON, Order.STOP), 2)])
def test_loop_ends_by_itself(orders: tuple[Order, ...], epochs: int) -> None:
    trial, script = make(*orders)
    seen = []
    for epoch in trial.epochs():
        trial.record(score=0.1 * epoch)
        seen.append(epoch)
    assert seen == [report.epoch for report in script.reports] == [*range(1, epochs + 1)]


def test_pause_ends_the_loop_from_outside() -> None:
    trial, _ = make(Order.PAUSE)
    epochs = trial.epochs()
    next(epochs)
    trial.record(score=0.5)
    with pytest.raises(TrialPaused):
        next(epochs)
    assert not issubclass(TrialPaused, Exception), "except Exception of a loop must not stop it"


def test_parts_of_an_epoch_are_put_together() -> None:
    trial, script = make(class_names=("a", "b", "c"))
    targets, predictions = [0, 1, 2, 2, 1, 0, 0], [0, 2, 2, 2, 1, 1, 0]
    for _ in trial.epochs():
        trial.record(torch.tensor(targets[:5]), predictions[:5], train_loss=2.0, val_loss=1.0)
        trial.record(targets[5:], torch.tensor(predictions[5:]), train_loss=2.0, val_loss=8.0)
        break
    trial.end()
    (report,) = script.reports
    assert report.score == pytest.approx(f1_score(targets, predictions, average="macro"))
    assert report.val_loss == pytest.approx(3.0)  # five examples at 1 and two at 8
    assert report.counts.matrix.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 2]]


def test_loss_that_is_no_number_is_told_from_one_that_is_not_told() -> None:
    trial, script = make()
    for _ in trial.epochs():
        trial.record(score=0.5, val_loss=torch.tensor(math.nan))
    assert math.isnan(script.reports[0].train_loss)
    assert script.reports[0].val_loss == math.inf


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "needs targets and predictions, or score="),
        ({"targets": [0, 1]}, "takes both"),
        ({"targets": [0, 1], "predictions": [0]}, "2 targets and 1 predictions"),
        ({"targets": [0, 1], "predictions": torch.rand(2, 3)}, "argmax of each row"),
        ({"targets": [0, 1], "predictions": [0.5, 1.0]}, "whole numbers from 0"),
        ({"targets": [-1, 1], "predictions": [0, 1]}, "whole numbers from 0"),
        ({"targets": [0, 3], "predictions": [0, 1]}, "class 3, and class_names has 2"),
        ({"targets": [], "predictions": []}, "targets are empty"),
    ],
)
def test_wrong_record_is_refused_with_the_way_out(given: dict[str, object], expected: str) -> None:
    trial, _ = make(class_names=("a", "b"))
    next(trial.epochs())
    with pytest.raises(LoopError, match=expected):
        trial.record(**given)


def test_wrong_use_is_refused_with_the_way_out() -> None:
    trial, _ = make()
    with pytest.raises(LoopError, match="inside the loop"):
        trial.record(score=0.5)
    with pytest.raises(LoopError, match="did you mean 'gamma'"):
        trial.params["gama"]
    with pytest.raises(LoopError, match="int has no state_dict"):
        trial.checkpoint(3)
    with pytest.raises(LoopError, match=r"epoch 1 ended without trial.record"):
        for _ in trial.epochs():
            pass


def test_restored_trial_goes_on_after_its_epochs() -> None:
    trial, script = make()
    layer = torch.nn.Linear(2, 3)
    trial.restore({"epochs": 3, "parts": [{"weight": torch.ones(3, 2), "bias": torch.ones(3)}]})
    trial.checkpoint(layer)
    for _ in trial.epochs():
        trial.record(score=0.5)
    assert [report.epoch for report in script.reports] == [4, 5]
    assert torch.equal(layer.weight, torch.ones(3, 2))
