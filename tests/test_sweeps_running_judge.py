"""The judge of epochs: which numbers it judges by, and whom it compares with whom."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

import sweeps
from objectives.api import Counts, EpochReport, find_fusion_key
from objectives.metrics import make_metric
from search_spaces.hparams import Hparams
from sweeps.config import SweepConfig
from sweeps.outcomes import Outcome
from sweeps.running.judge import Judge
from sweeps.running.sampling import Sampled
from sweeps.running.stopping import Decision
from sweeps.running.trial import Curve, Trial

CLASSES = ("a", "b")
NAN = math.nan
RULES = ("max_epochs=12", "patience=4", "prune_patience=4")


def make_judge(*overrides: str, metric: str = "macro-f1") -> tuple[SweepConfig, Judge]:
    config = sweeps.load_config("relation-cnn", (*RULES, *overrides), metric=metric)
    return config, Judge(config, make_metric(metric, CLASSES), len(CLASSES))


def make_trial(number: int, scores: Sequence[float] = ()) -> Trial:
    params = {"optimizer": "adam", "learning_rate": 0.01, "betas": [0.9, 0.99]}
    params |= {"batch_size": 50, "class_weights": "none", "model": {}}
    hparams = Hparams.model_validate(params)
    curve = Curve([0.5] * len(scores), [0.6] * len(scores), list(scores))
    return Trial(number, 7, hparams, Sampled({}, {}), find_fusion_key(hparams), curve)


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
        stored = make_trial(number, [0.8] * 5)
        judge.remember(stored, Outcome.STALLED, stored.epochs)
    assert run(judge, 5, low)[1].outcome is Outcome.BEHIND
    _, fresh = make_judge()
    assert run(fresh, 5, low)[1].outcome is Outcome.EXHAUSTED


def test_diverged_and_failed_trials_are_compared_with_nobody() -> None:
    _, judge = make_judge()
    for number, outcome in enumerate([Outcome.DIVERGED, Outcome.FAILED] * 5):
        judge.remember(make_trial(number, [0.9] * 5), outcome, 5)
    low = [0.1 + 0.01 * epoch for epoch in range(12)]
    assert run(judge, 10, low)[1].outcome is Outcome.EXHAUSTED


def test_halving_compares_with_trials_that_an_earlier_run_found_behind() -> None:
    halving = ("pruner.name=halving", "pruner.min_epochs=2", "pruner.reduction_factor=3")
    rising = [0.5 + 0.01 * epoch for epoch in range(12)]
    ends = []
    for num_behind in (0, 5):
        _, judge = make_judge(*halving)
        judge.remember(make_trial(0, [0.9] * 5), Outcome.STALLED, 5)
        for number in range(1, 1 + num_behind):
            judge.remember(make_trial(number, [0.1, 0.1]), Outcome.BEHIND, 2)
        ends.append(run(judge, 9, rising)[0])
    # Second of two is behind at the first rung; second of seven goes on.
    assert ends[0] == 2 < ends[1]


def test_held_back_trial_counts_as_it_would_have_ended() -> None:
    _, judge = make_judge("audit=0.999")
    late = [0.5, 0.7, 0.6, 0.6, 0.6, 0.6, 0.9, 0.95, 0.95, 0.95, 0.95, 0.95]
    for number in range(5):
        epoch, decision = run(judge, number, late)
        assert (epoch, decision.outcome) == (12, Outcome.EXHAUSTED)
    middling = make_trial(5, [0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77, 0.78, 0.79])
    assert judge.decide(middling) is None  # above 0.7, below 0.95
    assert middling.held is None
