"""The judge of epochs: which numbers it judges by, and whom it compares with whom."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

import sweeps
from objectives.api import Counts, EpochReport, find_fusion_key
from objectives.metrics import make_metric
from search_spaces.hparams import Hparams
from storage.records import HeldStop
from sweeps.config.settings import SweepConfig
from sweeps.curves import best_epoch
from sweeps.outcomes import Outcome
from sweeps.running.judge import Judge
from sweeps.running.sampling import Sampled
from sweeps.running.stopping import Decision
from sweeps.running.trial import Curve, Trial

CLASSES = ("a", "b")
NAN = math.nan
RULES = ("max_epochs=12", "patience=4", "prune_patience=4", "pruner.name=median")
#: Rungs at epochs 2 and 6.
HALVING = ("pruner.name=halving", "pruner.min_epochs=2", "pruner.reduction_factor=3")


def make_judge(*overrides: str, metric: str = "macro-f1") -> tuple[SweepConfig, Judge]:
    config = sweeps.load_config("relation-cnn", (*RULES, *overrides), metric=metric)
    metric_of = make_metric(metric, CLASSES)
    return config, Judge(config, metric_of, len(CLASSES), num_validation=10_000)


def make_trial(number: int, scores: Sequence[float] = (), outcome: Outcome | None = None) -> Trial:
    params = {"optimizer": "adam", "learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99}
    params |= {"batch_size": 50, "class_weights": "none", "model": {}}
    hparams = Hparams.model_validate(params)
    losses = [0.5] * len(scores), [0.6] * len(scores)
    curve = Curve(*losses, list(scores), best_epoch=best_epoch(scores))
    key = find_fusion_key(hparams)
    return Trial(number, 7, hparams, Sampled({}, {}), key, curve, outcome)


def run(judge: Judge, number: int, scores: Sequence[float]) -> tuple[int, Decision]:
    """Return the epoch at which a trial with these scores ends, and why."""
    trial = make_trial(number)
    for epoch, score in enumerate(scores, start=1):
        trial.curve.train_losses.append(0.5)
        trial.curve.val_losses.append(0.6)
        trial.curve.scores.append(score)
        decision = judge.decide(trial)
        if decision is not None:
            return epoch, decision
    raise AssertionError("the trial never ended")


def report(val_loss: float) -> EpochReport:
    counts = Counts.of_matrix(np.array([[3, 2], [1, 5]]))
    return EpochReport(0, 1, 0.5, val_loss, counts, 0.1, 1.0, 0.25)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("accuracy", 8 / 11), ("balanced-accuracy", (3 / 5 + 5 / 6) / 2), ("f1:b", 10 / 13)],
)
def test_score_is_the_studys_metric(metric: str, expected: float) -> None:
    _, judge = make_judge(metric=metric)
    assert judge.score(report(0.6)) == pytest.approx(expected)


@pytest.mark.parametrize("val_loss", [NAN, math.inf])
def test_epoch_whose_loss_is_no_number_has_no_score(val_loss: float) -> None:
    _, judge = make_judge()
    assert math.isnan(judge.score(report(val_loss)))


def test_reason_names_the_metric() -> None:
    _, judge = make_judge(metric="balanced-accuracy")
    label = make_metric("balanced-accuracy", CLASSES).label
    _, decision = run(judge, 0, [0.5] * 5)
    assert decision.reason == f"{label} has not risen by more than 0.001 for 4 epochs; " + (
        "best 0.5000 at epoch 1"
    )


def test_trials_are_compared_with_those_that_ended_in_this_run_and_in_earlier_ones() -> None:
    low = [0.1 + 0.01 * epoch for epoch in range(12)]
    _, judge = make_judge()
    for number in range(3):
        run(judge, number, [0.8] * 5)
    for number in range(3, 5):
        judge.remember(make_trial(number, [0.8] * 5, Outcome.STALLED))
    assert run(judge, 5, low)[1].outcome is Outcome.BEHIND
    _, fresh = make_judge()
    assert run(fresh, 5, low)[1].outcome is Outcome.EXHAUSTED


def test_diverged_and_failed_trials_are_compared_with_nobody() -> None:
    _, judge = make_judge()
    for number, outcome in enumerate([Outcome.DIVERGED, Outcome.FAILED, Outcome.BEHIND] * 5):
        judge.remember(make_trial(number, [0.9] * 5, outcome))
    low = [0.1 + 0.01 * epoch for epoch in range(12)]
    assert run(judge, 20, low)[1].outcome is Outcome.EXHAUSTED


def test_trials_of_an_epoch_are_compared_with_each_other_and_the_weak_ones_pause() -> None:
    _, judge = make_judge(*HALVING)
    curves = {0: [0.2, 0.3], 1: [0.8, 0.9], 2: [0.4, 0.5], 3: [0.9]}  # trial 3 is at no rung
    trials = [make_trial(number, scores) for number, scores in curves.items()]
    assert [each.number for each in judge.pause(trials)] == [0, 2]
    reason = "place 3 of 3 at epoch 2, where the best one goes on; best 0.3000 at epoch 2"
    assert judge.explain_pause(trials[0]) == reason
    assert judge.rungs is not None
    assert judge.rungs.best_paused() == 2


def test_without_rungs_nobody_pauses() -> None:
    _, judge = make_judge()
    assert judge.rungs is None
    assert judge.pause([make_trial(0, [0.1, 0.1]), make_trial(1, [0.9, 0.9])]) == []


def test_trial_that_ends_at_a_rung_is_compared_with_but_does_not_pause() -> None:
    _, judge = make_judge(*HALVING)
    ending, ended = make_trial(0, [0.1, 0.1]), make_trial(1, [0.1, NAN], Outcome.DIVERGED)
    ending.ending = Decision(Outcome.STALLED, "its weights are being written")
    others = [make_trial(2, [0.9, 0.9]), make_trial(3, [0.5, 0.5])]
    # Of four the best two go on; without those that end the third would pause.
    assert judge.pause([ending, ended, *others]) == []
    assert judge.rungs is not None
    assert judge.rungs.paused == set()


@pytest.mark.parametrize(
    ("outcome", "is_paused"),
    [(Outcome.PAUSED, True), (Outcome.STALLED, False), (None, False)],
)
def test_rungs_know_the_trials_of_an_earlier_run(outcome: Outcome | None, is_paused: bool) -> None:
    paused = []
    for num_stored in (0, 5):
        _, judge = make_judge(*HALVING)
        judge.remember(make_trial(0, [0.9] * 5, Outcome.STALLED))
        for number in range(1, 1 + num_stored):
            judge.remember(make_trial(number, [0.1, 0.1], outcome))
        assert judge.rungs is not None
        assert judge.rungs.paused == (set(range(1, 1 + num_stored)) if is_paused else set())
        paused.append(bool(judge.pause([make_trial(9, [0.5, 0.5])])))
    # Second of two pauses, second of seven goes on.
    assert paused == [True, False]


def test_audited_trial_does_not_pause_and_is_never_compared_again() -> None:
    _, judge = make_judge(*HALVING, "audit=0.999")
    best, weak = make_trial(1, [0.9, 0.9]), make_trial(2, [0.1, 0.1])
    assert judge.pause([best, weak]) == []
    assert (best.held, weak.held) == (None, HeldStop(2, "behind", 2, 0.1))
    assert judge.rungs is not None
    assert judge.rungs.paused == set()
    weak.curve.scores[:] = [0.1, 0.1, *[0.95] * 4]
    assert judge.pause([weak]) == []
    middling = make_trial(3, [0.9, 0.9, 0.5, 0.5, 0.5, 0.5])
    assert judge.pause([middling]) == []  # the only one that has reached epoch 6
    assert middling.held is None


@pytest.mark.parametrize(("epoch", "outcome"), [(5, Outcome.EXHAUSTED), (12, Outcome.BEHIND)])
def test_held_back_trial_of_an_earlier_run_counts_as_it_would_have_ended(
    epoch: int, outcome: Outcome
) -> None:
    _, judge = make_judge()
    late = [0.5, 0.5, 0.5, 0.5, 0.5, 0.9, *[0.9] * 6]
    for number in range(5):
        trial = make_trial(number, late, Outcome.EXHAUSTED)
        trial.held = HeldStop(number, "stalled", epoch, 0.5)
        judge.remember(trial)
    rising = [0.51 + 0.01 * epoch for epoch in range(12)]
    assert run(judge, 9, rising)[1].outcome is outcome


def test_held_back_trial_counts_as_it_would_have_ended() -> None:
    _, judge = make_judge("audit=0.999")
    late = [0.5, 0.7, 0.6, 0.6, 0.6, 0.6, 0.9, 0.95, 0.95, 0.95, 0.95, 0.95]
    for number in range(5):
        epoch, decision = run(judge, number, late)
        assert (epoch, decision.outcome) == (12, Outcome.EXHAUSTED)
    middling = make_trial(5, [0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77, 0.78, 0.79])
    assert judge.decide(middling) is None  # above 0.7, below 0.95
    assert middling.held is None


@pytest.mark.parametrize(
    ("outcome", "epochs", "is_held"),
    [
        (Outcome.STALLED, 7, True),
        (Outcome.BEHIND, 7, True),
        (Outcome.EXHAUSTED, 12, False),
        (Outcome.DIVERGED, 7, False),
        (Outcome.FAILED, 7, False),
        (Outcome.STALLED, 12, False),  # nothing is left to run
    ],
)
def test_only_stops_with_epochs_left_are_held_back(
    outcome: Outcome, epochs: int, is_held: bool
) -> None:
    _, judge = make_judge("audit=0.999")
    trial = make_trial(7, [0.30, 0.70, *[0.60] * 10][:epochs])
    assert judge.hold_back(trial, outcome) is is_held
    assert trial.held == (HeldStop(7, outcome.value, epochs, 0.70) if is_held else None)


@pytest.mark.parametrize(
    ("last", "epoch", "outcome"), [(0.6, 12, Outcome.EXHAUSTED), (NAN, 8, Outcome.DIVERGED)]
)
def test_trial_that_is_held_back_ends_at_the_last_epoch_or_where_it_diverges(
    last: float, epoch: int, outcome: Outcome
) -> None:
    _, judge = make_judge("audit=0.999", "pruner.n_startup_trials=1")
    scores = [0.30, 0.70, *[0.60] * 10]
    trial = make_trial(7)
    for i in range(1, epoch + 1):
        trial.curve.scores.append(scores[i - 1])
        trial.curve.train_losses.append(0.5 if i < 8 else last)
        trial.curve.val_losses.append(0.5)
        decision = judge.decide(trial)
        assert (decision is None) == (i < epoch)
    assert decision is not None
    assert decision.outcome is outcome
