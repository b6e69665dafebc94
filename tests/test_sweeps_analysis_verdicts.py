"""Verdicts: literal curves, curves drawn with a known truth, and curves of real runs."""

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from storage import frames
from sweeps.analysis.findings import PRECEDENCE, TrialCurve, Verdict, loss_scale
from sweeps.analysis.verdicts import VERDICTS, judge, judge_study, verdicts

NAN, INF = math.nan, math.inf
CURVES = Path(__file__).parent / "curves"
CNN, RNN = (150, 900, 90, 1860), (45, 45, 45, 45)


def make(
    scores: list[float],
    *,
    train: list[float] | None = None,
    val: list[float] | None = None,
    **facts: Any,
) -> TrialCurve:
    """A trial with losses that say nothing, unless told."""
    epochs = len(scores)
    flat = [0.4] * epochs
    given = {"supports": CNN, **facts}
    return TrialCurve(0, tuple(train or flat), tuple(val or flat), tuple(scores), **given)


def read_curve(name: str) -> TrialCurve:
    lines = (CURVES / f"{name}.csv").read_text().splitlines()
    (supports,) = (each.split(": ")[1] for each in lines if "validation examples" in each)
    rows = [each.split(",") for each in lines if each[0].isdigit()]
    columns = [tuple(float(row[i]) for row in rows) for i in (1, 2, 3)]
    class_f1s = tuple(tuple(float(f1) for f1 in row[4].split()) for row in rows)
    return TrialCurve(0, *columns, class_f1s, tuple(json.loads(supports)))


def shown(curve: TrialCurve) -> list[str]:
    return [verdict.value for verdict in judge(curve).verdicts]


RISING = [0.3 + 0.015 * epoch for epoch in range(23)]
FLAT = [0.3, 0.5, 0.6, 0.65, 0.69] + [0.7] * 18
HIGH = ["rate too high"]
FALLING = [0.7 - 0.01 * epoch for epoch in range(11)]
#: A GRU at a rate of 0.06, unclipped.
SPIKE = [0.9, 0.4, 0.2, 0.13, 0.1, 0.09, 0.078, 0.1, 0.3, 0.5, 0.66, 0.4, 0.2, 0.18]
LOSS = [1.0, 0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (make(FLAT), ["converged"]),
        (make(RISING), ["still improving"]),
        (make(FLAT, train=[0.4] * 22 + [NAN]), ["diverged"]),
        (make(FLAT, val=[0.4] * 22 + [INF]), ["diverged"]),
        (make(FLAT, train=[0.4] * 20 + [9.0] * 3), ["diverged"]),
        (make(FLAT, train=[0.4] * 22 + [9.0]), ["converged"]),  # one wild epoch
        (make(FLAT, outcome="diverged"), ["diverged"]),
        (make([0.6] * 11, train=LOSS[:5] + [0.6] * 6), ["rate too high"]),
        (make([0.6] * 11, train=LOSS[:5] + [0.6] * 3 + [0.3] * 3), ["converged"]),  # came back
        (make([0.6] * 14, train=SPIKE, supports=RNN), ["rate too high"]),
        (
            make([0.6] * 14, train=SPIKE[:-3] + [0.08] * 3, supports=RNN),
            ["converged"],
        ),  # came back
        (make([0.6] * 14, train=SPIKE[:7] + [0.1] * 7, supports=RNN), ["converged"]),  # no spike
        (make(FLAT[:5] + [0.6, 0.8] * 9), ["oscillating"]),
        # The score falls, and the validation loss hardly rises: no overfit.
        (make(FALLING, train=LOSS, val=[0.6, 0.4, 0.4, 0.4] + [0.401] * 7), ["converged"]),
        (make(FALLING, train=LOSS, val=[0.6, 0.4, 0.4, 0.4] + [0.413] * 7), ["overfit"]),
        (make(FLAT[:5] + [0.69, 0.71] * 9), ["converged"]),  # within the noise of 90 examples
        (make(FLAT[:5] + [0.6, 0.8] * 9, supports=()), ["converged"]),  # noise is not known
        (make([0.6] * 11, train=LOSS, val=[0.6, 0.4, 0.4, 0.4] + [0.5] * 7), ["overfit"]),
        (
            make([0.6] * 11, val=[0.6, 0.4, 0.4, 0.4] + [0.5] * 7),
            ["converged"],
        ),  # training is flat
        (make([0.2] * 11, train=[0.85] * 11), ["underfit"]),
        (make([0.2] * 7), ["too short"]),
        (make([0.2] * 3 + [NAN] * 9), ["too short"]),
        # Others were ahead of it: its few epochs show no end of it.
        (make([0.2], outcome="behind"), ["unclear"]),
        (make([0.2], train=[0.85], outcome="paused"), ["unclear"]),
        (make([0.2] * 7, train=[0.85] * 7, outcome="behind"), ["unclear"]),
        (make(FLAT, outcome="behind"), ["converged"]),
        (make([0.6] * 7, train=[0.9, 0.3, 0.2, 0.9, 0.9, 0.9, 0.9], outcome="behind"), HIGH),
        (make([0.2], train=[NAN], outcome="diverged"), ["diverged"]),
    ],
)
def test_literal_curve_shows(curve: TrialCurve, expected: list[str]) -> None:
    assert shown(curve) == expected


def test_spike_is_told_by_its_peak_and_by_what_is_left_of_it() -> None:
    (finding,) = judge(make([0.6] * 14, train=SPIKE, supports=RNN)).findings
    assert (
        "0.078 at epoch 7, rose to 0.66 by epoch 11 and has come back to 0.2" in finding.evidence
    )


def test_slow_rise_has_diminished_and_fast_one_has_not() -> None:
    # 0.01 ln(epoch) gains 0.007 with each doubling: 17 epochs or 700, at the same noise.
    rng = np.random.default_rng(23)
    curve = 0.5 + 0.03 * np.log(np.arange(1, 1001)) + 0.004 * rng.standard_normal(1000)
    assert shown(make(curve.tolist())) == ["diminishing returns"]
    assert shown(make(curve[:31].tolist())) == ["still improving"]


def test_collapse_names_the_class_that_is_never_right() -> None:
    rows = ((0.6, 0.7, 0.0, 0.8),) * 11
    facts = {"class_f1s": rows, "class_names": ("part", "kind", "whole", "other")}
    (finding,) = judge(make([0.525] * 11, **facts)).findings
    assert finding.verdict is Verdict.CLASS_COLLAPSE
    assert "whole (90 validation examples)" in finding.evidence
    once = (*rows[:9], (0.6, 0.7, 0.1, 0.8), rows[0])
    assert shown(make([0.525] * 11, **(facts | {"class_f1s": once}))) == ["converged"]
    absent = facts | {"supports": (150, 900, 0, 1860)}
    assert shown(make([0.525] * 11, **absent)) == ["converged"]


def test_class_of_thirty_may_swing_as_thirty_do() -> None:
    rng = np.random.default_rng(29)
    rare = rng.binomial(30, 0.6, size=60) / 30
    curve = ((rare + 0.99) / 2).tolist()
    facts = {"class_f1s": tuple((float(each), 0.99) for each in rare), "train": [0.01] * 60}
    assert np.std(curve) > 0.03
    assert shown(make(curve, supports=(30, 3000), **facts)) == ["converged"]
    assert shown(make(curve, supports=(1515, 1515), **facts)) == ["oscillating"]


def test_leading_verdict_follows_the_precedence() -> None:
    overfit = make(RISING[:11], train=LOSS, val=[0.6, 0.4, 0.4, 0.4] + [0.5] * 7)
    assert shown(overfit) == ["still improving", "overfit"]
    for name in (path.stem for path in CURVES.glob("*.csv")):
        found = judge(read_curve(name)).verdicts
        assert list(found) == sorted(found, key=PRECEDENCE.index), name


def test_loss_is_measured_by_what_guessing_costs() -> None:
    plain = loss_scale(make(FLAT, supports=(50, 50)))
    assert plain is not None
    assert (plain.guessing, plain.perfect) == pytest.approx((math.log(2), 0.0))
    assert plain.explained(math.log(2) / 4) == pytest.approx(0.75)
    balanced = loss_scale(make(FLAT, has_balanced_weights=True))
    assert balanced is not None
    assert balanced.guessing == pytest.approx(math.log(4))
    smooth = loss_scale(make(FLAT, supports=(50, 50), label_smoothing=0.2))
    assert smooth is not None
    assert smooth.perfect == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parent / "benchmarks" / "bench_verdicts.py"
    spec = importlib.util.spec_from_file_location("bench_verdicts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_nine_of_ten_drawn_curves_are_judged_right(bench: ModuleType) -> None:
    drawn = list(bench.draw_all(5, 31))
    right = [judge(each.curve).leading.verdict is each.truth for each in drawn]
    assert len(right) == 5 * 3 * 9
    assert sum(right) >= 0.9 * len(right)


def test_few_epochs_seldom_make_a_flat_score_an_improving_one(bench: ModuleType) -> None:
    rng = np.random.default_rng(37)
    share = {}
    for truth in (Verdict.CONVERGED, Verdict.STILL_IMPROVING):
        drawn = [
            bench.draw(truth, name, rng, (8, 10)).curve for name in bench.NOISE for _ in range(101)
        ]
        called = [judge(each).leading.verdict is Verdict.STILL_IMPROVING for each in drawn]
        share[truth] = sum(called) / len(called)
    # Half an error in twice the epochs, and no demand on the low end, call 16 % of the flat ones.
    assert share[Verdict.CONVERGED] < 0.08
    assert share[Verdict.STILL_IMPROVING] > 0.9


def test_rate_too_low_is_neither_overfit_nor_converged(bench: ModuleType) -> None:
    rng = np.random.default_rng(43)
    for name in bench.NOISE:
        for _ in range(30):
            judged = judge(bench.draw_slow(name, rng, (8, 30)))
            assert judged.leading.verdict is Verdict.STILL_IMPROVING
            assert Verdict.OVERFIT not in judged.verdicts


def test_losses_that_come_back_from_a_rise_are_no_improvement() -> None:
    # A GRU at a rate of 0.08: to train it for longer, or with larger steps, would be wrong.
    losses = [0.85, 0.2, 0.33, 0.2, 0.27, 0.31, 0.43, 0.4, 0.35, 0.3, 0.25, 0.21]
    curve = make([0.9] * 12, train=losses, val=losses, supports=RNN)
    assert "still improving" not in shown(curve)


def test_losses_that_fall_slowly_ask_for_larger_steps() -> None:
    judged = judge(read_curve("mlp_rate_too_low"))
    assert "15 % above that of always guessing the class shares" in judged.leading.evidence
    assert judged.leading.advice.startswith("Raise the learning rate")
    assert judged.gain is None  # what the score does says nothing of what comes


def test_class_is_not_given_up_before_the_shares_are_known() -> None:
    # Worse than guessing, and falling by 0.001 an epoch: larger steps, not other weights.
    rows = ((0.8, 0.0, 0.0, 0.0),) * 11
    losses = [1.2 - 0.001 * epoch for epoch in range(11)]
    curve = make([0.2] * 11, class_f1s=rows, train=losses, val=losses)
    (finding,) = judge(curve).findings
    assert finding.verdict is Verdict.UNDERFIT
    assert finding.advice.startswith("Raise the learning rate, by 10 times")


def test_swings_of_the_score_alone_are_no_oscillation() -> None:
    falling = [1.3 - 0.01 * epoch for epoch in range(23)]
    curve = make(FLAT[:5] + [0.6, 0.8] * 9, train=falling, val=falling)
    assert "oscillating" not in shown(curve)


def test_gain_is_counted_from_the_best_epoch() -> None:
    perfect = judge(make([0.6, 0.8, 0.9, 1.0, 0.97, 0.98, 0.99, 0.985, 0.99, 0.992, 0.993]))
    assert perfect.gain is not None
    assert (perfect.gain.expected, perfect.gain.high) == (0.0, 0.0)
    assert perfect.leading.verdict is Verdict.CONVERGED


def test_diminishing_returns_are_said_beside_overfit() -> None:
    rng = np.random.default_rng(41)
    epoch = np.arange(1, 1001)
    score = 0.5 + 0.03 * np.log(epoch) + 0.004 * rng.standard_normal(1000)
    train, val = 0.2 + 0.3 * np.exp(-epoch / 99), 0.4 + 0.0003 * epoch
    curve = make(score.tolist(), train=train.tolist(), val=val.tolist())
    assert shown(curve) == ["diminishing returns", "overfit"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cnn_once_an_epoch", ["still improving", "class collapse"]),
        ("cnn_many_steps", ["still improving", "overfit"]),
        ("mlp_rate_too_low", ["still improving"]),
        ("mlp_1000_epochs", ["overfit"]),  # its macro-F1 is as good at epoch 2 as ever after
        ("rnn_rate_too_high", ["rate too high"]),
        ("rnn_usual_betas", ["rate too high"]),
        ("rnn_clipped", ["rate too high"]),
        ("rnn_lower_rate", ["converged"]),
    ],
)
def test_real_curve_shows(name: str, expected: list[str]) -> None:
    assert shown(read_curve(name)) == expected


def study(names: list[str], params: list[dict[str, object]]) -> tuple[pd.DataFrame, ...]:
    """The frames of a study whose trials have these curves."""
    curves, results, scores = [], [], []
    for trial, (name, each) in enumerate(zip(names, params, strict=True)):
        curve = read_curve(name)
        columns = zip(
            curve.train_losses, curve.val_losses, curve.scores, curve.class_f1s, strict=True
        )
        for epoch, (train, val, f1, classes) in enumerate(columns, start=1):
            row = (trial, epoch, train, val, f1, json.dumps(classes), 0.1, 1.0, 1.0)
            curves.append(row)
        known = {"trial": trial, "outcome": "exhausted", "params": json.dumps(each)}
        blank = {"epochs_run": curve.epochs, "kills": 0, "seed": 0}
        results.append([(known | blank).get(column) for column in frames.RESULTS])
        for index, support in enumerate(curve.supports):
            scores.append((trial, index, f"digit {index}", 0.9, 0.9, 0.9, support))
    return (
        frames.to_frame(curves, frames.CURVES),
        frames.to_frame(scores, frames.CLASS_SCORES),
        frames.to_frame(results, frames.RESULTS),
    )


HIGH: dict[str, object] = {"optimizer": "adam", "learning_rate": 0.05, "betas": [0.5, 0.999]}


def test_rate_too_high_names_the_trials_that_are_free_of_it() -> None:
    params = [HIGH, HIGH | {"learning_rate": 0.02}, HIGH | {"clip_norm": 0.5}]
    names = ["rnn_rate_too_high", "rnn_lower_rate", "rnn_clipped"]
    first, second, third = judge_study(*study(names, params))
    assert "Trial 1 (learning rate 0.02) of this sweep does not show it" in first.leading.beside
    assert "Trial 1 (learning rate 0.02, no clipping)" in third.leading.beside
    assert "Trial" not in second.leading.beside


def test_trial_that_has_not_learned_is_no_example() -> None:
    lower = HIGH | {"learning_rate": 1e-5}
    tables = study(["rnn_rate_too_high", "rnn_lower_rate"], [HIGH, lower])
    high, low = judge_study(*tables)
    assert "Trial 1 (learning rate 1e-05) of this sweep does not show it" in high.leading.beside
    curves, scores, results = tables
    # Half of the classes are never called: whatever its rate, it shows nobody the way.
    rows = curves["trial"] == 1
    curves.loc[rows, "class_f1"] = "[0.9, 0.9, 0.0, 0.0]"
    high, low = judge_study(curves, scores, results)
    assert Verdict.CLASS_COLLAPSE in low.verdicts
    assert high.leading.beside == "No trial of this sweep has learned enough to be an example."


def test_no_neighbour_is_invented() -> None:
    (alone,) = judge_study(*study(["rnn_rate_too_high"], [HIGH]))
    assert "No trial of this sweep has learned enough to be an example." in alone.leading.beside
    frame = verdicts(*study(["rnn_rate_too_high", "rnn_lower_rate"], [HIGH, HIGH]), study="s")
    assert "No trial that learns and is free of it differs" in frame["advice"][0]


def test_frame_has_its_columns_and_says_what_was_found() -> None:
    tables = study(["cnn_once_an_epoch", "cnn_many_steps"], [HIGH, HIGH])
    frame = verdicts(*tables, study="mine")
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == VERDICTS
    assert frame["verdict"].tolist() == ["still improving", "still improving"]
    assert frame["verdicts"].tolist() == [
        "still improving, class collapse",
        "still improving, overfit",
    ]
    assert frame["epochs_to_95"].tolist() == [60, 25]
    assert (frame["predicted_gain"] > frame["predicted_gain_low"]).all()
    assert (frame["epochs_needed"] >= frame["epochs_to_95"]).all()
    assert frame["sampling_error"].between(0.005, 0.03).all()
    assert "digit 2 (90 validation examples)" in frame["evidence"][0]


def test_empty_study_has_the_same_columns() -> None:
    empty = [
        frames.to_frame([], each) for each in (frames.CURVES, frames.CLASS_SCORES, frames.RESULTS)
    ]
    frame = verdicts(*empty, study="mine")
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == VERDICTS


def test_running_trial_is_judged_without_class_scores() -> None:
    curves, scores, results = study(["cnn_once_an_epoch"], [HIGH])
    results["outcome"] = pd.Series([pd.NA], dtype="string")
    (judged,) = judge_study(curves, scores[:0], results)
    assert judged.leading.verdict is Verdict.STILL_IMPROVING


def test_other_facts_do_not_hide_a_missing_score() -> None:
    curve = replace(make(FLAT), scores=(NAN,) * 23)
    judged = judge(curve)
    assert judged.leading.verdict is Verdict.TOO_SHORT
    assert (judged.gain, judged.epochs_to_95) == (None, None)
