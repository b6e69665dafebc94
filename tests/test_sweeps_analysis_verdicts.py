"""Verdicts on literal curves, with what an expert would say of each."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectives.metrics import make_metric
from sweeps.analysis.facts import Targets, TrialFacts, measure
from sweeps.analysis.notes import Remark
from sweeps.analysis.verdicts import Judged, Reason, Verdict, judge

NAN, INF = math.nan, math.inf
CURVES = Path(__file__).parent / "curves"


def targets_of(
    supports: Sequence[int], *, entropy: float = 0.0, shares: Sequence[float] = ()
) -> Targets:
    names = tuple(f"class {index}" for index in range(len(supports)))
    total = sum(supports)
    metric = make_metric("macro-f1", names)
    shares = tuple(shares) or tuple(each / total for each in supports)
    return Targets(tuple(shares), entropy, tuple(supports), names, metric)


def facts_of(scores: Sequence[float], **facts: Any) -> TrialFacts:
    """A trial with losses that fall to 0.4 and stay there, unless told."""
    falling = [0.4 + 0.3 * 0.5**epoch for epoch in range(len(scores))]
    supports = facts.pop("supports", (500, 500))
    given = {"train_losses": falling, "val_losses": falling, "error": 0.01}
    given |= {"targets": targets_of(supports, entropy=facts.pop("entropy", 0.0))}
    return measure(0, scores, **(given | facts))


def judged(scores: Sequence[float], **facts: Any) -> Judged:
    (found,) = judge([facts_of(scores, **facts)])
    return found


def noisy(level: float, epochs: int, noise: float = 0.006, seed: int = 3) -> list[float]:
    rng = np.random.default_rng(seed)
    return (level + noise * rng.standard_normal(epochs)).tolist()


def test_label_noise_is_no_reason_to_change_the_rate() -> None:
    losses = [0.62 + 0.07 * 0.5**epoch for epoch in range(20)]
    for seed in range(24):
        found = judged(
            noisy(0.65, 20, seed=seed),
            train_losses=losses,
            val_losses=losses,
            supports=(1500, 1500),
            error=0.0087,
        )
        # The noise may hide whether the score rises; nothing is wrong with the rate either way.
        assert found.verdict in (Verdict.CONVERGED, Verdict.UNCLEAR)
        assert [note.remark for note in found.notes] == [Remark.LITTLE_EXPLAINED]
        assert "labels are noisy" in found.notes[0].text


def test_soft_labels_are_fitted_at_their_entropy() -> None:
    losses = [1.36, 1.25, 1.18, 1.15, 1.135] + [1.125] * 10
    found = judged(
        [0.7, 0.78, 0.8] + [0.815] * 12,
        train_losses=losses,
        val_losses=losses,
        supports=(500,) * 4,
        entropy=1.12,
        error=0.009,
    )
    assert found.verdict is Verdict.CONVERGED
    assert [note.remark for note in found.notes] == [Remark.AT_FLOOR]
    assert "the targets allow (1.12)" in found.notes[0].text


def test_worse_than_guessing_from_the_start_takes_too_large_steps() -> None:
    losses = [0.95, 0.93, 0.94, 0.92, 0.95, 0.93, 0.94, 0.95, 0.92, 0.94]
    scores = [0.5, 0.49, 0.52, 0.51, 0.48, 0.5, 0.49, 0.51, 0.5, 0.5]
    found = judged(scores, train_losses=losses, val_losses=losses, error=0.016)
    assert (found.verdict, found.reason) == (Verdict.NOT_LEARNING, Reason.ABOVE_GUESSING)
    assert "is not below the 0.693 of guessing: the steps are too large" in found.text


def test_perfect_scores_need_no_more_epochs() -> None:
    losses = [1.2, 0.95, 0.75, 0.6, 0.48, 0.38, 0.3, 0.24, 0.19, 0.15]
    found = judged(
        [0.8, 0.97] + [1.0] * 8,
        train_losses=losses,
        val_losses=losses,
        supports=(50,) * 4,
        error=0.003,
    )
    assert (found.verdict, found.reason) == (Verdict.CONVERGED, Reason.PERFECT)
    assert found.text == "The score is 1 since epoch 3: no epoch can be better."
    assert found.numbers["gain"] == 0


def test_shuffled_labels_are_learned_and_generalise_nothing() -> None:
    epochs = 30
    found = judged(
        noisy(0.5, epochs, 0.01),
        train_losses=[0.69 * math.exp(-epoch / 8) for epoch in range(epochs)],
        val_losses=np.linspace(0.69, 1.19, epochs).tolist(),
        error=0.016,
    )
    assert (found.verdict, found.reason) == (Verdict.NOT_LEARNING, Reason.NOTHING_GENERALISES)
    assert "look at the labels and the features" in found.text
    assert all("held" not in note.text for note in found.notes)


def test_few_examples_of_many_classes_are_no_lost_class() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        right = rng.binomial(5, 0.68, size=200) / 5
        assert (right == 0).any() or seed  # some class has none right, by chance
        facts = facts_of([0.68] * 12, supports=(5,) * 200, class_f1=[right.tolist()] * 5)
        assert facts.silent == ()


def test_class_that_is_never_right_is_named() -> None:
    rows = [[0.6, 0.7, 0.0, 0.8]] * 5
    found = judged(noisy(0.525, 30), supports=(150, 900, 90, 1860), class_f1=rows)
    assert Remark.SILENT_CLASS in {note.remark for note in found.notes}
    assert any("rightly called class 2 in" in note.text for note in found.notes)
    once = [*rows[:4], [0.6, 0.7, 0.1, 0.8]]
    found = judged(noisy(0.525, 30), supports=(150, 900, 90, 1860), class_f1=once)
    assert Remark.SILENT_CLASS not in {note.remark for note in found.notes}


RISING = [0.5 + 0.01 * epoch for epoch in range(25)]
FLAT = [0.5, 0.6, 0.65, 0.69, *noisy(0.7, 21)]
COSINE = [0.1 * (1 + math.cos(math.pi * epoch / 25)) / 2 for epoch in range(25)]
LOSS = [0.69, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("scores", "facts", "reason"),
    [
        (FLAT, {}, Reason.FLAT),
        (RISING, {}, Reason.SCORE_RISES),
        (FLAT, {"train_losses": [0.4] * 24 + [NAN]}, Reason.NOT_FINITE),
        (FLAT, {"val_losses": [0.4] * 24 + [INF]}, Reason.NOT_FINITE),
        (FLAT, {"val_losses": [0.4] * 20 + [INF] + [0.4] * 4}, Reason.FLAT),  # it came back
        ([0.5] * 25, {"train_losses": [2.0] * 3 + [9.0] * 22}, Reason.BLEW_UP),
        (FLAT, {"train_losses": [0.4] * 24 + [9.0]}, Reason.FLAT),  # one wild epoch
        (FLAT, {"outcome": "diverged"}, Reason.BLEW_UP),
        ([NAN], {"train_losses": [NAN], "outcome": "diverged"}, Reason.NOT_FINITE),
        ([0.6] * 11, {"train_losses": LOSS[:5] + [0.6] * 6}, Reason.LOSS_ROSE),
        ([0.7] * 11, {"train_losses": LOSS[:5] + [0.6] * 3 + [0.3] * 3}, Reason.FLAT),  # back
        (FLAT[:5] + [0.6, 0.8] * 10, {}, Reason.SCORE_SWINGS),
        (FLAT[:5] + [0.69, 0.71] * 10, {}, Reason.FLAT),
        ([0.8] * 7, {}, Reason.TOO_FEW),
        ([0.8, NAN] + [NAN] * 9, {}, Reason.TOO_FEW),
        (FLAT, {"rates": [0.1] * 21 + [0.01] * 4}, Reason.TOO_FEW),
        (RISING, {"outcome": "cut short"}, Reason.SCORE_RISES),
        (RISING, {"outcome": "behind"}, Reason.CUT),
        (FLAT, {"outcome": None}, Reason.CUT),  # it is training
        (RISING, {"rates": COSINE}, Reason.RATE_FALLEN),
        (RISING, {"rates": COSINE[:12] + COSINE[:13]}, Reason.SCORE_RISES),  # it rose again
        (RISING, {"rates": [0.1] * 9 + [0.01] * 16}, Reason.SCORE_RISES),  # it is steady again
        (FLAT, {"rates": COSINE}, Reason.FLAT),
    ],
)
def test_literal_curve_shows(scores: list[float], facts: dict[str, Any], reason: Reason) -> None:
    found = judged(scores, **facts)
    assert found.reason is reason, found.text
    assert found.text[0].isupper()
    assert found.text.endswith(".")
    assert "nan" not in found.text
    assert 0 < len(found.short) < 45


@pytest.mark.parametrize("error", [NAN, 0.01])
def test_chance_of_a_constant_score_is_inside_its_interval(error: float) -> None:
    found = judged([0.7] * 12, error=error)
    assert found.reason is Reason.FLAT
    assert 0.1 < found.numbers["gain_probability"] < 1 / 3
    assert f"{found.numbers['gain_high']:.3f}" != "0.000"
    assert "more than its standard error in" in found.text


def test_loss_that_was_never_recorded_is_not_broken() -> None:
    found = judged(FLAT, val_losses=[NAN] * 25)
    assert found.verdict in (Verdict.CONVERGED, Verdict.UNCLEAR)


def test_score_that_falls_is_overfitting_and_a_loss_that_rises_is_a_note() -> None:
    epochs = np.arange(40)
    train = (0.69 * np.exp(-epochs / 8)).tolist()
    val = (0.5 + 0.01 * np.abs(epochs - 8)).tolist()
    rise = 0.8 - 0.25 * np.exp(-epochs / 3)
    falling = rise - 0.003 * np.maximum(epochs - 12, 0) + np.array(noisy(0, 40, 0.003))
    found = judged(falling.tolist(), train_losses=train, val_losses=val)
    assert (found.verdict, found.reason) == (Verdict.OVERFITTING, Reason.SCORE_FALLS)
    steady = (rise + np.array(noisy(0, 40, 0.003))).tolist()
    found = judged(steady, train_losses=train, val_losses=val)
    assert found.verdict is Verdict.CONVERGED
    assert [note.remark for note in found.notes] == [Remark.SURER]


def test_wander_of_the_validation_set_is_seldom_called_a_trend() -> None:
    # Epochs of one trial are scored on the same examples, so neighbours are alike.
    rng = np.random.default_rng(41)
    named = 0
    for _ in range(100):
        epochs = int(rng.integers(12, 100))
        shocks = rng.standard_normal(epochs)
        for epoch in range(1, epochs):
            shocks[epoch] = 0.5 * shocks[epoch - 1] + math.sqrt(0.75) * shocks[epoch]
        rise = np.exp(-np.arange(1, epochs + 1) / rng.uniform(0.5, epochs / 12))
        losses = (0.4 + 0.5 * rise + 0.01 * rng.standard_normal(epochs)).tolist()
        scores = (0.8 - 0.3 * rise + 0.01 * shocks).tolist()
        found = judged(scores, train_losses=losses, val_losses=losses)
        named += found.verdict not in (Verdict.CONVERGED, Verdict.UNCLEAR)
    assert named <= 10


def test_small_steps_are_told_from_large_ones() -> None:
    falling = [0.8 - 0.001 * epoch for epoch in range(20)]
    found = judged([0.5] * 20, train_losses=falling, val_losses=falling)
    assert found.reason is Reason.CREEPS
    faster = [0.8 - 0.008 * epoch for epoch in range(20)]
    found = judged([0.5] * 20, train_losses=faster, val_losses=faster)
    assert found.reason is Reason.NOT_YET
    # It started far above and fell to guessing: no sign of small steps.
    fallen = [0.694 + 3 * 0.5**epoch for epoch in range(20)]
    found = judged([0.5] * 20, train_losses=fallen, val_losses=fallen)
    assert found.reason is Reason.ABOVE_GUESSING


@pytest.mark.parametrize(("share", "fall", "epochs"), [(0.05, 0.014, 10), (0.01, 0.06, 15)])
def test_loss_of_a_rare_class_starts_far_above_guessing_and_is_not_broken(
    share: float, fall: float, epochs: int
) -> None:
    # A fresh model says 1/2; knowing the shares has a loss of 0.199 or 0.056 here.
    losses = (math.log(2) * np.exp(-fall * np.arange(1, epochs + 1))).tolist()
    score = (1 - share) / (2 - share)  # F1 of the other class is 2 (1 - share) / (2 - share)
    supports = (round(1000 * (1 - share)), round(1000 * share))
    for losses_seen in (losses, (np.array(losses) + noisy(0, epochs, 0.002)).tolist()):
        found = judged(
            [score] * epochs, train_losses=losses_seen, val_losses=losses_seen, supports=supports
        )
        assert found.reason in (Reason.NOT_YET, Reason.CREEPS), found.text


def test_loss_in_other_units_breaks_no_trial_that_learns() -> None:
    epochs = np.arange(15)
    for losses in (3 + 20 * np.exp(-epochs / 10), 9 + np.array(noisy(0, 15, 0.1))):
        found = judged((0.9 - 0.4 * np.exp(-epochs / 4)).tolist(), train_losses=losses.tolist())
        assert found.reason in (Reason.SCORE_RISES, Reason.NOISE_HIDES), found.text


@pytest.mark.parametrize("examples", [20, 30, 60, 120, 1000])
@pytest.mark.parametrize("epochs", [8, 16, 30])
def test_small_validation_set_does_not_make_a_score_swing(examples: int, epochs: int) -> None:
    truth = 0.75 - 0.25 * np.exp(-np.arange(1, epochs + 1) / 4)
    rng = np.random.default_rng(examples)
    supports, error = (examples // 2,) * 2, math.sqrt(0.75 * 0.25 / examples)
    # The worst case: no two epochs predict alike.
    runs = [(rng.binomial(examples, truth) / examples).tolist() for _ in range(100)]
    reasons = [judged(run, supports=supports, error=error).reason for run in runs]
    assert reasons.count(Reason.SCORE_SWINGS) <= 5


def test_slow_rise_is_noted_with_its_price() -> None:
    rng = np.random.default_rng(23)
    scores = 0.5 + 0.01 * np.log(np.arange(1, 401)) + 0.002 * rng.standard_normal(400)
    found = judged(scores.tolist(), error=0.02)
    assert Remark.DIMINISHING in {note.remark for note in found.notes}


def test_study_of_paused_trials_is_called_no_names() -> None:
    rng = np.random.default_rng(31)
    facts = []
    for trial in range(54):
        epochs = 1 if trial < 40 else 4 if trial < 50 else 16
        scores = 0.4 + 0.02 * np.arange(epochs) + 0.02 * rng.standard_normal(epochs)
        losses = (0.75 - 0.02 * np.arange(epochs)).tolist()
        outcome = "behind" if trial < 52 else "cut short"
        one = {"train_losses": losses, "val_losses": losses, "outcome": outcome}
        facts.append(facts_of(scores.tolist(), **one))
    found = judge(facts)
    assert {each.verdict for each in found[:52]} == {Verdict.UNCLEAR}
    assert found[0].text.startswith("Others were better: it was left behind after 1 epoch;")
    assert not {Verdict.BROKEN, Verdict.UNSTABLE} & {each.verdict for each in found}


def test_trial_that_broke_is_broken_whoever_stopped_it() -> None:
    for outcome in ("paused", "behind", "interrupted", None):
        found = judged([0.5], train_losses=[NAN], val_losses=[0.6], outcome=outcome)
        # A trial is ended as diverged at once; one epoch without a loss says nothing by itself.
        assert found.verdict is Verdict.UNCLEAR
        found = judged([0.5, 0.5], train_losses=[0.6, INF], val_losses=[0.6] * 2, outcome=outcome)
        assert found.verdict is Verdict.BROKEN


def read_curve(name: str) -> TrialFacts:
    lines = (CURVES / f"{name}.csv").read_text().splitlines()
    (supports,) = (each.split(": ")[1] for each in lines if "validation examples" in each)
    rows = [each.split(",") for each in lines if each[0].isdigit()]
    train, val, scores = (tuple(float(row[i]) for row in rows) for i in (1, 2, 3))
    class_f1 = [[float(f1) for f1 in row[4].split()] for row in rows[-5:]]
    losses = {"train_losses": train, "val_losses": val, "class_f1": class_f1}
    return facts_of(scores, supports=json.loads(supports), error=0.012, **losses)


@pytest.mark.parametrize("path", sorted(CURVES.glob("*.csv")), ids=lambda path: path.stem)
def test_recorded_run_shows_what_its_name_says(path: Path) -> None:
    expected = {
        "rate_too_low": (Reason.CREEPS, Reason.NOT_YET, Reason.SCORE_RISES),
        "rate_too_high": (Reason.LOSS_ROSE, Reason.SCORE_SWINGS, Reason.SCORE_LOST),
    }
    (found,) = judge([read_curve(path.stem)])
    wanted = [reasons for name, reasons in expected.items() if name in path.stem]
    assert not wanted or found.reason in wanted[0], found.text
