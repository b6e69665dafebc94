"""Stuck trials: what a flat curve shows beside the others of its study."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from storage import queries
from sweeps.analysis.findings import TrialCurve, Verdict
from sweeps.analysis.sibling_rules import describe_sibling, find_stuck
from sweeps.analysis.verdicts import judge, judge_study

SUPPORTS = (45, 45, 45, 45)
GUESSING = math.log(4)
LEARNS = [0.6, 0.8, 0.9, 0.95, *[0.97] * 9]
FALLS = [1.2, 0.8, 0.4, 0.2, *[0.1] * 9]
#: A GRU at a rate of 0.1: bad from the first epoch on, never worse.
STUCK = [0.54, 0.56, 0.55, 0.56, 0.55, 0.56, 0.55, 0.56, 0.55, 0.56, 0.55, 0.55, 0.56]
FLAT = [1.02, 0.95, 0.99, 0.97, 1.0, 0.96, 0.98, 0.97, 0.99, 0.96, 0.98, 0.97, 0.98]


def make(trial: int, scores: list[float], losses: list[float]) -> TrialCurve:
    val = (0.6,) * len(scores)
    return TrialCurve(trial, tuple(losses), val, tuple(scores), supports=SUPPORTS)


def params(rate: float, optimizer: str = "adam") -> dict[str, Any]:
    return {"optimizer": optimizer, "learning_rate": rate}


def look(
    own: dict[str, Any],
    others: list[dict[str, Any]],
    *,
    scores: list[float] = STUCK,
    losses: list[float] = FLAT,
    val: list[float] | None = None,
) -> Verdict | None:
    curve = make(0, scores, losses)
    curve = curve if val is None else replace(curve, val_losses=tuple(val))
    me = describe_sibling(curve, own)
    known = [
        describe_sibling(make(i, LEARNS, FALLS), each) for i, each in enumerate(others, start=1)
    ]
    assert me is not None
    found = find_stuck(curve, me, [each for each in known if each is not None])
    return None if found is None else found.verdict


def test_rate_far_below_those_that_learn_is_told_to_rise() -> None:
    me = describe_sibling(make(0, STUCK, FLAT), params(1e-5))
    others = [describe_sibling(make(i, LEARNS, FALLS), params(0.01 * i)) for i in (1, 3)]
    assert me is not None
    found = find_stuck(make(0, STUCK, FLAT), me, [each for each in others if each is not None])
    assert found is not None
    assert found.verdict is Verdict.UNDERFIT
    assert "is nearly flat" in found.evidence
    assert found.advice.startswith("Raise the learning rate: those with this optimizer")
    assert "have 0.02 in the middle" in found.advice


def test_loss_above_any_guess_is_a_rate_too_high_whatever_the_optimizer() -> None:
    # SGD with momentum at a rate of 0.95: 3 nats where guessing costs 1.39, beside Adam's trials.
    losses = [5.99, 3.67, 3.38, 3.16, 3.05, 3.04, 3.12, 3.1, 3.04, 3.09, 3.1, 3.06, 3.08]
    others = [params(0.01), params(0.02)]
    assert look(params(0.95, "sgd"), others, losses=losses) is Verdict.RATE_TOO_HIGH
    # Steps that are too small come down from there steadily.
    small = [3.0 - 0.01 * epoch for epoch in range(13)]
    assert look(params(1e-5, "sgd"), others, losses=small, val=small) is Verdict.UNDERFIT


def test_alone_a_stuck_trial_looks_converged() -> None:
    assert judge(make(0, STUCK, FLAT)).leading.verdict is Verdict.CONVERGED


@pytest.mark.parametrize(
    ("rate", "others", "expected"),
    [
        (0.1, [params(0.01), params(0.003)], Verdict.RATE_TOO_HIGH),
        (0.01, [params(0.01), params(0.004)], Verdict.UNDERFIT),  # not 3 times the median
        (0.1, [params(0.5, "sgd"), params(0.3, "sgd")], Verdict.UNDERFIT),  # another optimizer's
        (0.1, [params(0.01)], None),  # one better trial proves little
        (0.1, [], None),
    ],
)
def test_stuck_trial_is_judged_beside_those_that_learn(
    rate: float, others: list[dict[str, Any]], expected: Verdict | None
) -> None:
    assert look(params(rate), others) is expected


def test_trial_that_learns_a_little_worse_is_not_stuck() -> None:
    others = [params(0.01), params(0.003)]
    assert look(params(0.1), others, scores=[each - 0.02 for each in LEARNS]) is None
    assert look(params(0.1), others, losses=FALLS) is None
    falling = [1.3 - 0.03 * epoch for epoch in range(13)]  # it was stopped too soon
    assert look(params(0.1), others, losses=falling) is None


def test_noise_of_a_stuck_loss_is_no_fall() -> None:
    # Recorded: a GRU at a rate of 0.12; its last half falls by 1 standard error.
    losses = [1.02, 1.17, 1.3, 1.05, 1.12, 1.25, 1.34, 1.04, 1.16, 1.03, 1.15, 1.13, 1.23, 0.95]
    losses += [1.04, 1.23, 1.6, 1.59, 1.37, 1.46, 1.33, 1.45, 1.26, 1.21, 1.26, 1.48, 1.37, 1.46]
    others = [params(0.005), params(0.01)]
    found = look(params(0.12), others, scores=[0.55] * 28, losses=losses)
    assert found is Verdict.RATE_TOO_HIGH


def test_stuck_trial_whose_loss_falls_surely_needs_larger_steps() -> None:
    losses = [1.3 - 0.002 * epoch for epoch in range(13)]
    curve = TrialCurve(0, tuple(losses), tuple(losses), tuple(STUCK), supports=SUPPORTS)
    others = [describe_sibling(make(i, LEARNS, FALLS), params(0.01)) for i in (1, 2)]
    me = describe_sibling(curve, params(1e-5))
    assert me is not None
    found = find_stuck(curve, me, [each for each in others if each is not None])
    assert found is not None
    assert found.advice.startswith("Raise the learning rate")
    assert "falls at every epoch, in small steps" in found.evidence
    assert "flat" not in found.evidence
    assert "8 % below that of always guessing the class shares (1.39)" in found.evidence
    assert "that of 2 better trials is 93 % below" in found.evidence


def test_trial_without_class_supports_or_losses_is_no_sibling() -> None:
    curve = make(0, STUCK, FLAT)
    assert describe_sibling(TrialCurve(0, (), (), ()), params(0.1)) is None
    broken = make(0, STUCK, [*FLAT[:-1], math.nan])
    assert describe_sibling(broken, params(0.1)) is None
    sibling = describe_sibling(curve, params(0.1))
    assert sibling is not None
    assert sibling.explained == pytest.approx(1 - 0.97 / GUESSING, abs=0.01)


def test_study_calls_its_stuck_trial_by_name(write_study: Any) -> None:
    rates = {0: params(0.1), 1: params(0.01), 2: params(0.003)}
    losses = {0: FLAT, 1: FALLS, 2: FALLS}
    write_study("gru", [STUCK, LEARNS, LEARNS], params=rates, train_losses=losses)
    frames: list[pd.DataFrame] = [
        read("bestepoch.db", "gru")
        for read in (queries.curves, queries.class_scores, queries.results)
    ]
    stuck, good, _ = judge_study(*frames)
    assert stuck.verdicts == (Verdict.RATE_TOO_HIGH,)
    assert "Lower the learning rate" in stuck.leading.advice
    assert "Trials 1 (learning rate 0.01), 2" in stuck.leading.beside
    assert good.leading.verdict is Verdict.CONVERGED


def test_trial_whose_rate_was_too_high_is_no_example(write_study: Any) -> None:
    # Both peaked at 0.97, and then lost what they had learned: theirs explains nothing.
    lost = [*FALLS[:5], *[1.3] * 8]
    rates = {0: params(0.08), 1: params(0.01), 2: params(0.003), 3: params(0.05), 4: params(0.05)}
    losses = {0: FLAT, 1: FALLS, 2: FALLS, 3: lost, 4: lost}
    write_study("gru", [STUCK, *[LEARNS] * 4], params=rates, train_losses=losses)
    frames: list[pd.DataFrame] = [
        read("bestepoch.db", "gru")
        for read in (queries.curves, queries.class_scores, queries.results)
    ]
    stuck = judge_study(*frames)[0]
    guessing = -sum(n / 125 * math.log(n / 125) for n in (31, 41, 53))
    assert stuck.leading.numbers["explained_by_others"] == pytest.approx(1 - 0.1 / guessing)


def test_rate_too_high_is_not_told_to_raise_its_rate() -> None:
    # It fell, came back to worse than guessing and stayed: two rules see it, one gives advice.
    losses = [0.9, 0.6, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]
    assert judge(make(0, STUCK, losses)).verdicts == (Verdict.RATE_TOO_HIGH,)


def test_steep_rise_of_a_short_trial_is_no_swing() -> None:
    rise = [0.436, 0.436, 0.6, 0.7, 0.76, 0.773, 0.7735]
    curve = TrialCurve(0, (0.5,) * 7, (0.5,) * 7, tuple(rise), supports=(4944, 1568))
    assert Verdict.OSCILLATING not in judge(curve).verdicts
