"""What a sweep says of its epochs, its class weights and its overfitting, on literal frames."""

import json
import shlex
from typing import Any

import pandas as pd
import pytest

from sweeps.analysis import advice, epoch_advice, fit_advice
from sweeps.analysis.findings import TrialCurve
from sweeps.analysis.loss_rules import find_overfit
from sweeps.analysis.range_advice import Advice
from sweeps.config_files import load_config

PARAMS: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.01, "dropout": 0.2}


def results(scores: list[float], **columns: Any) -> pd.DataFrame:
    n = len(scores)
    frame = {
        "trial": range(n),
        "outcome": ["stalled"] * n,
        "best_score": scores,
        "best_epoch": [9] * n,
        "best_val_loss": [0.6] * n,
        "epochs_run": [23] * n,
        "would_stop_epoch": [pd.NA] * n,
        "would_stop_outcome": [pd.NA] * n,
        "optimizer": ["adam"] * n,
        "params": [json.dumps(PARAMS)] * n,
    }
    return pd.DataFrame(frame | columns)


def judged(*verdicts: str, needed: int = 10) -> pd.DataFrame:
    n = len(verdicts)
    columns = {"verdicts": verdicts, "epochs_needed": [needed] * n, "evidence": "", "advice": ""}
    return pd.DataFrame({"trial": range(n), **columns, "sampling_error": [0.014] * n})


def option_of(found: Advice | None) -> str:
    """The option, which `bestepoch run` takes."""
    assert found is not None
    assert found.option is not None
    words = shlex.split(found.option)
    for name in ("relation-cnn", "tabular-mlp", "sequence-rnn"):
        load_config(name, words[1::2])
    assert set(words[::2]) == {"--set"}
    return found.option


def test_best_trials_that_patience_ended_while_they_rose_get_more_of_it() -> None:
    frame = results([0.9, 0.895, 0.89, 0.5])
    rising = judged("converged", "still improving", "oscillating, still improving", "converged")
    found = epoch_advice.plan_epochs(frame, rising, max_epochs=40, patience=6)
    assert found is not None
    assert option_of(found.advice) == "--set patience=12"
    assert found.cap == 40
    assert "the patience of 6 epochs ended 2 of the 3 best trials (1 and 2)" in found.text
    # The pruner ended them: more patience would change nothing.
    pruned = frame.assign(outcome="behind")
    plan = epoch_advice.plan_epochs(pruned, rising, max_epochs=40, patience=6)
    assert plan is not None
    assert plan.advice is None
    # One alone may be called improving by chance.
    one = judged("converged", "still improving", "converged", "converged")
    assert epoch_advice.find_low_patience(frame, one, patience=6) is None
    # The winner itself is asked alone.
    winner = judged("still improving", "converged", "converged", "converged")
    assert epoch_advice.find_low_patience(frame, winner, patience=6) is not None


def test_audited_trials_that_improve_at_the_last_epoch_are_stopped_by_patience() -> None:
    held = {"would_stop_epoch": [9] * 3, "would_stop_outcome": ["stalled"] * 3}
    frame = results([0.9, 0.895, 0.89], outcome=["exhausted"] * 3, best_epoch=[12] * 3, **held)
    rising = judged(*["still improving"] * 3)
    plan = epoch_advice.plan_epochs(frame, rising, max_epochs=23, patience=6)
    assert plan is not None
    assert option_of(plan.advice) == "--set patience=12"
    assert "would have without the audit" in plan.text
    # No better score in all the epochs after: patience was right.
    right = epoch_advice.plan_epochs(frame.assign(best_epoch=3), rising, max_epochs=23, patience=6)
    assert right is not None
    assert right.advice is None


def test_trial_that_would_surely_overtake_the_best_asks_for_more_epochs() -> None:
    frame = results([0.9, 0.8, 0.8, 0.7], outcome=["stalled"] * 3 + ["exhausted"])
    verdicts = judged(*["converged"] * 3, "still improving")
    sure = verdicts.assign(predicted_gain_low=[0.0, 0.0, 0.0, 0.25])
    plan = epoch_advice.plan_epochs(frame, sure, max_epochs=23)
    assert plan is not None
    assert option_of(plan.advice) == "--set max_epochs=46"
    assert plan.text.startswith("trial 3, which may then lead, reached max_epochs = 23")
    unsure = verdicts.assign(predicted_gain_low=[0.0, 0.0, 0.0, 0.15])
    assert epoch_advice.find_low_cap(frame, unsure, max_epochs=23) is None


def test_cap_is_not_called_enough_where_noise_hides_how_the_best_goes_on() -> None:
    frame = results([0.9, 0.8, 0.8], outcome=["exhausted"] * 3)
    verdicts = judged("too short", "converged", "converged")
    plan = epoch_advice.plan_epochs(frame, verdicts, max_epochs=13)
    assert plan is not None
    assert plan.advice is None
    assert "noise hides whether the best one still rises: max_epochs = 26 would tell" in plan.text


def test_two_trials_near_the_best_that_were_cut_off_double_the_cap() -> None:
    scores, ends = [0.9, 0.8, 0.8, 0.895, 0.89], ["stalled"] * 3 + ["exhausted"] * 2
    verdicts = judged(*["converged"] * 3, *["still improving"] * 2)
    plan = epoch_advice.plan_epochs(results(scores, outcome=ends), verdicts, max_epochs=23)
    assert plan is not None
    assert (plan.cap, option_of(plan.advice)) == (46, "--set max_epochs=46")
    assert "of the 5 best trials" not in plan.text
    assert "2 of the 3 best trials (3 and 4) reached max_epochs = 23" in plan.text


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("stalled", "no trial reached max_epochs = 23 by itself, so it need not change"),
        ("exhausted", "within the noise of their best by epoch 17: max_epochs = 23 is enough"),
    ],
)
def test_cap_that_hardly_differs_is_nothing_to_change(outcome: str, said: str) -> None:
    frame = results([0.9] * 7, outcome=[outcome] * 7)
    plan = epoch_advice.plan_epochs(frame, judged(*["converged"] * 7, needed=17), max_epochs=23)
    assert plan is not None
    assert (plan.cap, plan.advice, plan.note) == (23, None, "")
    assert said in plan.text


def test_cap_that_no_trial_reached_is_said_to_have_been_high() -> None:
    frame = results([0.9] * 7, outcome=["stalled"] * 7)
    plan = epoch_advice.plan_epochs(frame, judged(*["converged"] * 7, needed=12), max_epochs=1000)
    assert plan is not None
    assert (plan.cap, plan.advice) == (1000, None)
    assert "so it need not change" in plan.text
    assert "their best by epoch 12, and 15 would have done." in plan.text


def test_lower_cap_says_how_it_comes_about_and_is_never_below_8() -> None:
    frame = results([0.9] * 7, outcome=["exhausted"] * 7, best_epoch=[3] * 7)
    spike = judged(*["converged"] * 7, needed=3)
    plan = epoch_advice.plan_epochs(frame, spike, max_epochs=40)
    assert plan is not None
    assert (plan.cap, option_of(plan.advice)) == (8, "--set max_epochs=8")
    assert plan.note == epoch_advice.CAP_NOTE
    late = epoch_advice.plan_epochs(frame.assign(best_epoch=29), spike, max_epochs=40)
    assert late is not None
    assert late.cap == 29


def test_classes_given_up_ask_for_balanced_weights() -> None:
    frame, half = results([0.7] * 4), judged("class collapse", "overfit, class collapse", "", "")
    assert option_of(fit_advice.find_collapse(frame, {}, half)) == (
        "--set space.class_weights=balanced"
    )
    assert fit_advice.find_collapse(frame, {"class_weights": "balanced"}, half) is None
    fewer = judged("class collapse", "converged", "converged", "converged")
    assert fit_advice.find_collapse(frame, {}, fewer) is None
    balanced = frame.assign(params=json.dumps(PARAMS | {"class_weights": "balanced"}))
    space = {"class_weights": ["none", "balanced"]}
    assert fit_advice.find_collapse(balanced, space, half) is None


def overfit(has_fallen: bool) -> str:
    """What the verdict says of a curve whose validation loss rises, with the score or without."""
    fall = 0.02 if has_fallen else 0.0
    curve = TrialCurve(
        trial=0,
        train_losses=tuple(1.0 - 0.04 * epoch for epoch in range(20)),
        val_losses=tuple(0.5 + 0.1 * abs(epoch - 5) for epoch in range(20)),
        scores=tuple(0.8 - fall * max(0, epoch - 5) for epoch in range(20)),
        supports=(310, 410),
    )
    found = find_overfit(curve)
    assert found is not None
    return found.evidence


@pytest.mark.parametrize(
    ("space", "params", "has_fallen", "option"),
    [
        ({}, {}, False, "--set space.label_smoothing=0.1"),
        ({"dropout": 0.2}, {"label_smoothing": 0.1}, False, "--set space.dropout=0.4"),
        ({"dropout": 0.2}, {}, True, "--set space.dropout=0.4"),
        ({"dropout": {"low": 0.1, "high": 0.5}}, {}, True, "--set space.dropout.low=0.3"),
        ({}, {"dropout": 0.0}, True, "--set space.dropout=0.2"),
        ({"dropout": [0.1, 0.3]}, {}, True, "--set space.dropout=0.4"),
    ],
)
def test_best_trials_that_overfit_ask_for_what_helps(
    space: dict[str, Any], params: dict[str, Any], has_fallen: bool, option: str
) -> None:
    rows = [json.dumps(PARAMS | params)] * 3
    frame = results([0.9] * 3, params=rows)
    verdicts = judged("overfit", "converged", "overfit").assign(evidence=overfit(has_fallen))
    assert option_of(fit_advice.find_overfit(frame, space, verdicts)) == option
    assert fit_advice.find_overfit(frame, space, judged("overfit", "", "")) is None
    assert fit_advice.find_overfit(frame[:2], space, judged("overfit", "overfit")) is None


def test_dropout_has_an_end() -> None:
    frame = results([0.9] * 3, params=[json.dumps(PARAMS | {"dropout": 0.7})] * 3)
    fallen = judged(*["overfit"] * 3).assign(evidence=overfit(True))
    assert fit_advice.find_overfit(frame, {"dropout": 0.7}, fallen) is None


def test_what_spoils_scores_comes_before_epochs_and_epochs_before_overfitting() -> None:
    frame = results([0.9, 0.895, 0.89], outcome=["exhausted"] * 3)
    verdicts = judged(*["still improving, class collapse, overfit"] * 3)
    plan = epoch_advice.plan_epochs(frame, verdicts, max_epochs=23, patience=6)
    found = advice.advise(frame, {}, verdicts, epochs=plan, error=0.014)
    assert [each.about for each in found] == ["class_weights", "max_epochs", "label_smoothing"]


def test_patience_that_would_have_cost_the_best_score_is_doubled() -> None:
    held = {
        "would_stop_epoch": [9, pd.NA, pd.NA],
        "would_stop_outcome": ["stalled", pd.NA, pd.NA],
        "would_stop_score": [0.7, pd.NA, pd.NA],
    }
    frame = results([0.9, 0.85, 0.8], outcome=["exhausted", "stalled", "stalled"], **held)
    flat, limits = judged(*["converged"] * 3), {"max_epochs": 23, "patience": 6}
    plan = epoch_advice.plan_epochs(frame, flat, margin=0.04, **limits)
    assert plan is not None
    assert option_of(plan.advice) == "--set patience=12"
    said = "ended the best trial, 0, at epoch 9 with 0.7000 instead of 0.9000, and the best score"
    assert said in plan.text
    assert "0.0500 lower" in plan.text
    # Another trial is as good as it, to within what ties.
    assert epoch_advice.find_costly_patience(frame, patience=6, margin=0.06) is None
    # The pruner would have ended it: more patience would change nothing.
    pruned = frame.assign(would_stop_outcome=["behind", pd.NA, pd.NA])
    assert epoch_advice.find_costly_patience(pruned, patience=6, margin=0.04) is None
    assert epoch_advice.find_costly_patience(frame, patience=None, margin=0.04) is None
