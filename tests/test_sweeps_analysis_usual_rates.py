"""Trials that learn nothing at unusual rates: which way theirs is wrong, alone and in a study."""

import json
import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from storage import frames
from sweeps.analysis.findings import TrialCurve, Verdict
from sweeps.analysis.sibling_rules import describe_sibling
from sweeps.analysis.usual_rates import find_unusual_rate, usual_rates
from sweeps.analysis.verdicts import TrialVerdict, judge_study

SUPPORTS = (4944, 1568)
#: Adam at 0.388 on tabular-mlp, and at 5e-6: flat, and falling in small steps.
HOT = [0.57, 0.556, 0.553, 0.555, 0.552, 0.554, 0.553, 0.554, 0.553, 0.554]
SLOW = [0.66 - 0.002 * epoch for epoch in range(10)]
LEARNS = [0.45, 0.38, 0.35, 0.34, 0.335, 0.332, 0.331, 0.33, 0.33, 0.33]


def make(losses: list[float]) -> TrialCurve:
    scores = (0.432,) * len(losses)
    return TrialCurve(0, tuple(losses), tuple(losses), scores, supports=SUPPORTS)


def find(curve: TrialCurve, rate: float | None, optimizer: str = "adam") -> Verdict | None:
    params: dict[str, Any] = {"optimizer": optimizer}
    own = describe_sibling(curve, params if rate is None else params | {"learning_rate": rate})
    assert own is not None
    found = find_unusual_rate(curve, own)
    return None if found is None else found.verdict


@pytest.mark.parametrize(
    ("optimizer", "rate", "expected"),
    [
        ("adam", 0.388, Verdict.RATE_TOO_HIGH),
        ("adam", 0.09, None),  # 3 times 0.03, the highest usual one, and not more
        ("adam", 1e-6, None),
        ("sgd", 0.388, None),  # whose own range ends at 0.5
        ("sgd", 2.0, Verdict.RATE_TOO_HIGH),
        ("armijo", None, None),  # finds its own
    ],
)
def test_only_a_rate_far_above_the_usual_ones_is_blamed(
    optimizer: str, rate: float | None, expected: Verdict | None
) -> None:
    assert find(make(HOT), rate, optimizer) is expected


def test_trial_that_learns_may_have_any_rate() -> None:
    assert find(make(LEARNS), 5.0) is None
    assert find(make(HOT[:3]), 5.0) is None  # too short to tell


def judge(**trials: tuple[list[float], list[float], dict[str, Any]]) -> dict[str, TrialVerdict]:
    """The verdicts on trials of losses, scores and hyperparameters, by their names."""
    curves, results, scores = [], [], []
    for trial, (losses, f1s, params) in enumerate(trials.values()):
        for epoch, (loss, f1) in enumerate(zip(losses, f1s, strict=True), start=1):
            row = (trial, epoch, loss, loss, f1, json.dumps([f1 + 0.1, f1 - 0.1]), 0.1, 1.0, 1.0)
            curves.append(row)
        known = {"trial": trial, "outcome": "stalled", "params": json.dumps(params)}
        blank = {"epochs_run": len(losses), "kills": 0, "seed": 0}
        results.append([(known | blank).get(column) for column in frames.RESULTS])
        scores += [(trial, i, f"class {i}", 0.9, 0.9, 0.9, n) for i, n in enumerate(SUPPORTS)]
    tables: list[pd.DataFrame] = [
        frames.to_frame(curves, frames.CURVES),
        frames.to_frame(scores, frames.CLASS_SCORES),
        frames.to_frame(results, frames.RESULTS),
    ]
    return dict(zip(trials, judge_study(*tables), strict=True))


def adam(rate: float) -> dict[str, Any]:
    return {"optimizer": "adam", "learning_rate": rate}


def test_study_of_rates_that_are_too_high_tells_no_trial_to_raise_its_rate() -> None:
    hot = (HOT, [0.432] * 10)
    judged = judge(a=(*hot, adam(0.388)), b=(*hot, adam(3.04)), c=(HOT[:7], [0.45] * 7, adam(7.3)))
    for each in judged.values():
        assert each.verdicts == (Verdict.RATE_TOO_HIGH,)
        assert each.leading.advice == (
            "Lower the learning rate: the usual ones of adam are 0.0003 to 0.03."
        )
        # None of the others is an example.
        assert "Trial" not in each.leading.beside


def test_study_of_rates_that_are_too_low_names_the_usual_ones() -> None:
    slow = (SLOW, [0.432] * 10)
    judged = judge(a=(*slow, adam(5e-6)), b=(SLOW, [0.617] * 10, adam(8e-6)))
    for each in judged.values():
        assert Verdict.RATE_TOO_HIGH not in each.verdicts
        assert each.leading.advice.startswith(
            "Raise the learning rate: the usual ones of adam are 0.0003 to 0.03, its own is "
        )


def test_trial_that_learned_nothing_is_no_measure_for_others() -> None:
    # Two of higher scores, both of one class, or nearly: what they have is no rate that learns.
    slow, lucky = (SLOW, [0.2] * 10), (SLOW, [0.5] * 10)
    judged = judge(a=(*slow, adam(5e-5)), b=(*lucky, adam(1.6e-5)), c=(*lucky, adam(1.7e-5)))
    assert "Lower" not in judged["a"].leading.advice
    learn = [0.7, 0.75, 0.78, 0.79, *[0.795] * 6]
    judged = judge(
        a=(HOT, [0.432] * 10, adam(0.08)),
        b=(LEARNS, learn, adam(0.003)),
        c=(LEARNS, learn, adam(0.004)),
    )
    assert judged["a"].verdicts == (Verdict.RATE_TOO_HIGH,)
    assert "those with this optimizer that learn have 0.0035" in judged["a"].leading.advice


def test_short_curve_that_lost_a_quarter_of_what_it_had_learned_had_too_high_a_rate() -> None:
    # An RNN at a rate of 0.1 and a beta1 of 0.5: the rise is most of its noise.
    losses = [1.032, 0.366, 0.271, 0.675, 0.636, 0.653, 0.668, 1.223]
    scores = [0.871, 0.956, 0.903, 0.873, 0.895, 0.746, 0.73, 0.687]
    judged = judge(a=(losses, scores, adam(0.0989)))["a"]
    assert judged.leading.verdict is Verdict.RATE_TOO_HIGH
    # Later epochs came back: noise.
    calm = [*losses[:4], 0.3, 0.653, 0.3, 0.32]
    assert Verdict.RATE_TOO_HIGH not in judge(a=(calm, scores, adam(0.0989)))["a"].verdicts


def test_usual_rates_are_those_of_the_space_for_own_objectives() -> None:
    assert usual_rates("adam") == usual_rates("rmsprop") == (3e-4, 3e-2)
    assert usual_rates("adadelta") == (0.1, 3.0)


def test_losses_of_many_times_guessing_are_told_in_times() -> None:
    curve = replace(make(HOT), train_losses=(61.9,) * 10)
    own = describe_sibling(curve, adam(7.57))
    assert own is not None
    found = find_unusual_rate(curve, own)
    assert found is not None
    p = 1568 / sum(SUPPORTS)
    guessing = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert f"is {61.9 / guessing:,.0f} times that of always guessing" in found.evidence
