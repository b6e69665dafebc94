"""Advice: what is said of planted problems, and that nothing is said where nothing is shown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from measured import ERROR, make

from search_spaces.ranges import Range
from sweeps.analysis.advice import advise
from sweeps.analysis.advice_kinds import Advice, Kind
from sweeps.analysis.effects import compare_all, find_effects, propose
from sweeps.analysis.facts import TrialFacts
from sweeps.analysis.ties import Ties
from sweeps.analysis.verdicts import judge
from sweeps.config.load import load_config
from sweeps.read.study import Study

RATE = {"low": 1e-4, "high": 1e-2, "log": True}
SPACE: Mapping[str, Any] = {"optimizer": "adam", "learning_rate": RATE}
OF_SPACE = {Kind.RATE, Kind.EDGE}


def ask(
    facts: Sequence[TrialFacts], space: Mapping[str, Any] = SPACE, **config: Any
) -> tuple[Advice, ...]:
    """Return the advice of a study of these trials, of which those within an error tie."""
    results = pd.DataFrame(
        {
            "trial": [each.trial for each in facts],
            "best_score": [each.best_score for each in facts],
            "outcome": [each.outcome for each in facts],
            "epochs_run": [each.epochs for each in facts],
        }
    ).sort_values("best_score", ascending=False)
    is_ranked = ~results["outcome"].isin(["diverged", "paused"])
    results["rank"] = is_ranked.cumsum().where(is_ranked)
    longest = max(each.epochs for each in facts)
    settings = {
        "objective": "tabular-mlp",
        "max_epochs": longest,
        "patience": 15,
        "min_delta": 0.001,
        "trials": len(facts),
        "sampler": {"name": "random"},
        "space": space,
        **config,
    }
    empty, now = pd.DataFrame(), datetime(2031, 5, 7, tzinfo=UTC)
    about = (
        "s",
        "uuid",
        str(settings["objective"]),
        now,
        settings,
        ("a", "b"),
        None,
        {},
        None,
        None,
        False,
    )
    study = Study(*about, results, empty, empty, {}, {}, None, frozenset({"s"}))
    ranked = study.ranked
    if ranked.empty:
        return advise(study, facts, judge(facts), Ties(None))
    best = ranked["best_score"].iloc[0]
    tied = ranked.loc[ranked["best_score"] > best - ERROR, "trial"]
    ties = Ties(int(ranked["trial"].iloc[0]), frozenset(tied.tolist()), error=ERROR)
    return advise(study, facts, judge(facts), ties)


def kinds(advice: Sequence[Advice]) -> set[Kind]:
    return {each.kind for each in advice}


def sweep_of_rates(
    level_at: Any, *, trials: int = 24, epochs: int = 20, seed: int = 5
) -> list[TrialFacts]:
    """Return trials at rates over the whole range, whose scores end at ``level_at(place)``."""
    rng = np.random.default_rng(seed)
    facts = []
    for trial in range(trials):
        place = float(rng.random())
        level = level_at(place)
        scores = [
            level - 0.2 * math.exp(-epoch / 2) + 0.004 * float(rng.standard_normal())
            for epoch in range(1, epochs + 1)
        ]
        rate = 1e-4 * 100**place
        facts.append(make(trial, scores, {"learning_rate": rate}))
    return facts


def test_rates_that_end_below_the_best_are_raised_by_at_most_three_times() -> None:
    advice = ask(sweep_of_rates(lambda place: 0.5 + 0.3 * place))
    (rate,) = [each for each in advice if each.kind is Kind.RATE]
    assert rate.options == (
        "--set space.learning_rate.low=0.001",
        "--set space.learning_rate.high=0.03",
    )
    assert rate.p < 0.05


def test_rates_that_end_above_the_best_are_lowered_by_at_most_a_third() -> None:
    advice = ask(sweep_of_rates(lambda place: 0.8 - 0.3 * place))
    (rate,) = [each for each in advice if each.kind is Kind.RATE]
    assert rate.options[0] == "--set space.learning_rate.low=3.3e-05"


def test_best_rate_inside_the_range_is_left_alone() -> None:
    advice = ask(sweep_of_rates(lambda place: 0.8 - 0.8 * (place - 0.5) ** 2))
    assert not kinds(advice) & OF_SPACE


@pytest.mark.parametrize("seed", range(8))
def test_rate_that_does_not_matter_is_left_alone(seed: int) -> None:
    assert not kinds(ask(sweep_of_rates(lambda _: 0.7, seed=seed))) & OF_SPACE


def test_lead_of_high_rates_at_the_first_epoch_alone_is_no_reason_to_raise_them() -> None:
    # The short horizon: after one epoch the highest rate leads, after 16 the middle one.
    rng = np.random.default_rng(3)
    facts = []
    for trial in range(54):
        place = float(rng.random())
        first = 0.4 + 0.3 * place + 0.004 * float(rng.standard_normal())
        end = 0.8 - 0.6 * (place - 0.5) ** 2
        is_long = place > 0.45 and trial % 3 == 0
        scores = [first + (end - first) * (1 - math.exp(-e / 4)) for e in range(16)]
        rate = {"learning_rate": 1e-4 * 100**place}
        outcome = "exhausted" if is_long else "behind"
        facts.append(make(trial, scores if is_long else scores[:1], rate, outcome=outcome))
    assert not kinds(ask(facts)) & OF_SPACE


def test_optimizer_that_is_far_behind_gets_no_advice() -> None:
    # Its rates are too low, yet the other optimizer is 0.3 ahead of all of them.
    rising = sweep_of_rates(lambda place: 0.3 + 0.2 * place)
    other = [
        make(100 + i, [0.7, 0.85, *[0.9] * 18], {"optimizer": "sgd", "learning_rate": 1e-3})
        for i in range(12)
    ]
    space = {"optimizer": ["adam", "sgd"], "learning_rate": RATE}
    assert Kind.RATE not in kinds(ask([*rising, *other], space))


def test_one_optimizer_of_two_gets_a_range_of_its_own() -> None:
    rising = sweep_of_rates(lambda place: 0.5 + 0.3 * place)
    other = [
        make(100 + i, [0.5, 0.55, *[0.6] * 18], {"optimizer": "sgd", "learning_rate": 1e-3})
        for i in range(12)
    ]
    space = {"optimizer": ["adam", "sgd"], "learning_rate": RATE}
    (rate,) = [each for each in ask([*rising, *other], space) if each.kind is Kind.RATE]
    assert rate.options[1] == "--set space.learning_rate.by_optimizer.adam.high=0.03"
    assert rate.text.startswith("Raise the learning rate of adam:")


def test_label_noise_is_no_reason_for_other_rates() -> None:
    # Training loss 0.62 where guessing has 0.693, score flat at 0.65, whatever the rate.
    rng = np.random.default_rng(11)
    facts = []
    for trial in range(24):
        optimizer, low, high = ("adam", 3e-4, 3e-2) if trial % 2 else ("sgd", 0.01, 0.5)
        rate = low * (high / low) ** float(rng.random())
        scores = [0.65 + 0.005 * float(rng.standard_normal()) for _ in range(20)]
        train = [0.62 + 0.06 * math.exp(-epoch) for epoch in range(20)]
        params = {"optimizer": optimizer, "learning_rate": rate}
        facts.append(make(trial, scores, params, train=train))
    own = {"low": 3e-4, "high": 3e-2, "by_optimizer": {"sgd": {"low": 0.01, "high": 0.5}}}
    space = {"optimizer": ["adam", "sgd"], "learning_rate": {**own, "log": True}}
    assert not kinds(ask(facts, space)) & OF_SPACE


def test_shuffled_labels_get_no_advice() -> None:
    rng = np.random.default_rng(13)
    facts = []
    for trial in range(24):
        scores = [0.5 + 0.01 * float(rng.standard_normal()) for _ in range(20)]
        train = [0.69 * math.exp(-epoch / 4) for epoch in range(20)]
        val = [0.69 + 0.025 * epoch for epoch in range(20)]
        rate = {"learning_rate": 1e-4 * 100 ** float(rng.random())}
        facts.append(make(trial, scores, rate, train=train, val=val))
    assert ask(facts) == ()


def test_perfect_scores_get_no_advice_on_what_is_sampled_nor_more_epochs() -> None:
    facts = [
        make(i, [0.8, 0.97, *[1.0] * 8], {"learning_rate": 1e-4 * 1.2**i}, error=0.0)
        for i in range(24)
    ]
    assert ask(facts) == ()


def test_grid_in_which_one_trial_diverged_says_nothing_of_the_rates() -> None:
    facts = []
    for i, rate in enumerate((1e-3, 3e-3, 1e-2, 3e-2)):
        for j, dropout in enumerate((0.0, 0.2, 0.4)):
            score = 0.735 + 0.0025 * ((i + j) % 3)
            params = {"learning_rate": rate, "dropout": dropout}
            outcome = "diverged" if (i, j) == (3, 1) else "exhausted"
            facts.append(make(3 * i + j, [0.5, *[score] * 11], params, outcome=outcome))
    space = {
        "optimizer": "adam",
        "learning_rate": [1e-3, 3e-3, 1e-2, 3e-2],
        "dropout": [0.0, 0.2, 0.4],
    }
    assert not kinds(ask(facts, space, sampler={"name": "grid"})) & OF_SPACE


def test_two_hundred_classes_with_five_examples_are_no_reason_for_class_weights() -> None:
    rng = np.random.default_rng(17)
    facts = [
        make(
            i,
            [0.68 + 0.01 * float(rng.standard_normal()) for _ in range(20)],
            {"learning_rate": 1e-4 * 1.4**i},
        )
        for i in range(12)
    ]
    assert not kinds(ask(facts)) & OF_SPACE


@pytest.mark.parametrize("name", ["class_weights", "label_smoothing"])
def test_what_is_the_same_in_all_trials_is_never_advised(name: str) -> None:
    value = "balanced" if name == "class_weights" else 0.1
    facts = [
        replace(each, params={**each.params, name: value})
        for each in sweep_of_rates(lambda place: 0.5 + 0.3 * place)
    ]
    advice = ask(facts, {**SPACE, name: value})
    assert advice
    assert not any(name in option for each in advice for option in each.options)


def test_flat_trials_of_a_long_cap_get_10_to_15_epochs() -> None:
    rng = np.random.default_rng(19)
    facts = []
    for trial in range(24):
        scores = [0.4, 0.55, 0.66] + [
            0.7 + 0.006 * float(rng.standard_normal()) for _ in range(97)
        ]
        facts.append(make(trial, scores, {"learning_rate": 1e-4 * 1.2**trial}))
    (advice,) = ask(facts, patience=100)
    assert advice.kind is Kind.EPOCHS
    assert advice.gain == 0
    (option,) = advice.options
    assert 10 <= int(option.removeprefix("--set max_epochs=")) <= 15


def test_scores_that_rise_at_the_cap_get_twice_the_epochs() -> None:
    rng = np.random.default_rng(23)
    facts = [
        make(
            trial,
            [0.3 + 0.02 * e + 0.003 * float(rng.standard_normal()) for e in range(20)],
            {"learning_rate": 1e-3 + 1e-5 * trial},
        )
        for trial in range(8)
    ]
    (epochs,) = [each for each in ask(facts) if each.kind is Kind.EPOCHS]
    assert epochs.options == ("--set max_epochs=40",)
    assert 0 <= epochs.low < epochs.gain < epochs.high
    assert "bring more than a standard error is 7" in epochs.evidence


def approach(seed: int, *, epochs: int = 60, tau: float = 12.0) -> list[float]:
    """Return a score that nears its end as an exponential does, with autocorrelated noise."""
    rng = np.random.default_rng(seed)
    noise, scores = 0.0, []
    for epoch in range(epochs):
        noise = 0.6 * noise + 0.006 * float(rng.standard_normal())
        scores.append(0.75 - 0.25 * math.exp(-epoch / tau) + noise)
    return scores


def test_interval_of_more_epochs_holds_what_they_bring() -> None:
    held = []
    for study in range(6):
        curves = [approach(100 * study + i) for i in range(8)]
        facts = [
            make(i, curve[:30], {"learning_rate": 1e-3 + 1e-5 * i}, error=0.0165)
            for i, curve in enumerate(curves)
        ]
        brought = float(np.mean([max(curve) - max(curve[:30]) for curve in curves]))
        held += [
            each.low <= brought <= each.high for each in ask(facts) if each.kind is Kind.EPOCHS
        ]
    assert len(held) >= 4
    assert sum(held) >= len(held) - 1


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_score_that_rises_as_the_rate_is_annealed_asks_for_no_epochs(schedule: str) -> None:
    rng = np.random.default_rng(31)
    facts = []
    for trial in range(8):
        scores = [0.3 + 0.02 * e + 0.003 * float(rng.standard_normal()) for e in range(20)]
        made = make(trial, scores, {"learning_rate": 1e-3, "schedule": schedule})
        facts.append(replace(made, is_annealed=schedule != "cosine"))  # or by what was recorded
    assert Kind.EPOCHS not in kinds(ask(facts))


@pytest.mark.parametrize("seed", range(6))
def test_best_of_many_equal_trials_is_no_reason_for_more(seed: int) -> None:
    # The winner's curse: what the last doubling of the trials brought was luck.
    rng = np.random.default_rng(seed)
    facts = [
        make(i, [0.7 + 0.03 * float(rng.standard_normal())] * 12, {"learning_rate": 1e-3})
        for i in range(24)
    ]
    assert ask(facts) == ()


@pytest.mark.parametrize(("windows", "is_advised"), [((3, 5, 7), True), ((3, 9, 25), False)])
def test_what_the_objective_refuses_is_not_advised(
    windows: Sequence[int], is_advised: bool
) -> None:
    # Beyond 25 comes 72, and a window must be odd.
    facts = []
    for trial, each in enumerate(sweep_of_rates(lambda _: 0.0)):
        place = trial % 3
        scores = [0.5 + 0.1 * place + score for score in each.scores]
        facts.append(make(trial, scores, {"model": {"window": windows[place]}}))
    config = load_config("relation-cnn", [f"space.model.window={list(windows)}"], trials=24)
    found = ask(facts, **{**config.stored(), "sampler": {"name": "random"}, "max_epochs": 20})
    assert (Kind.EDGE in kinds(found)) is is_advised


def test_paused_trials_say_nothing_of_the_cap() -> None:
    facts = [
        make(i, [0.3 + 0.02 * e for e in range(20)], {"learning_rate": 1e-3}, outcome="behind")
        for i in range(8)
    ]
    assert Kind.EPOCHS not in kinds(ask(facts))


def test_at_most_three_pieces_of_advice_what_usually_brings_most_first() -> None:
    rng = np.random.default_rng(29)
    facts = []
    for trial in range(40):
        first, second = rng.random(2)
        level = 0.3 + 0.2 * first + 0.2 * second
        scores = [level * (0.5 + 0.025 * e) for e in range(20)]
        facts.append(
            make(
                trial,
                [s + 0.003 * float(rng.standard_normal()) for s in scores],
                {"learning_rate": 1e-4 * 100**first, "dropout": 0.5 * float(second)},
            )
        )
    space = {**SPACE, "dropout": {"low": 0.0, "high": 0.5}}
    advice = ask(facts, space)
    assert len(advice) == 3
    assert [each.kind for each in advice] == [Kind.RATE, Kind.EDGE, Kind.EPOCHS]


def test_trials_are_compared_after_as_many_epochs_as_the_shorter_one_has() -> None:
    long = make(0, [0.3, 0.5, 0.9], {"learning_rate": 1e-3}, error=0.0)
    short = make(1, [0.4], {"learning_rate": 1e-2}, outcome="behind", error=0.0)
    standings = compare_all([long, short])
    assert standings.differences[0, 1] == pytest.approx(-0.1)
    assert standings.wins.tolist() == [0.0, 1.0]


def test_diverged_trial_is_behind_all_others() -> None:
    lost = make(0, [0.9, math.nan], {"learning_rate": 1.0}, outcome="diverged")
    kept = make(1, [0.1, 0.2], {"learning_rate": 1e-3})
    assert compare_all([lost, kept]).wins.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("spec", "high_is_better", "expected"),
    [
        ({"low": 1e-4, "high": 1e-2, "log": True}, True, (1e-3, 3e-2)),
        ({"low": 1e-4, "high": 1e-2, "log": True}, False, (3.3e-5, 1e-3)),
        ({"low": 1e-3, "high": 4e-3, "log": True}, True, (2e-3, 8e-3)),  # half its width
    ],
)
def test_range_moves_by_half_its_width_and_at_most_three_times(
    spec: Mapping[str, Any], high_is_better: bool, expected: tuple[float, float]
) -> None:
    facts = sweep_of_rates(lambda place: 0.5 + 0.3 * (place if high_is_better else 1 - place))
    effect = next(find_effects(compare_all(facts), SPACE, sampler="random"))
    own = replace(effect.parameter, spec=Range(spec["low"], spec["high"], log=True))
    assert propose(replace(effect, parameter=own)) == pytest.approx(expected, rel=0.05)
