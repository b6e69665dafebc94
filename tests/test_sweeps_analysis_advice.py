"""Advice: what is seen in literal results, and options that a sweep really takes."""

import math
import shlex
from typing import Any

import numpy as np
import pytest
from tried import MIDDLE, SPACE, advise, judged, results

from sweeps.analysis import epoch_advice, range_advice, rate_advice, report_words
from sweeps.analysis.space_table import flatten, list_ranges, list_sampled
from sweeps.config_files import load_config

NONE = rate_advice.RateVerdicts()


def takes(option: str | None) -> bool:
    """Whether `bestepoch run relation-cnn` takes the option."""
    assert option is not None
    flag, _, value = option.partition(" ")
    assert flag == "--set"
    load_config("relation-cnn", [*shlex.split(value), "space.model.position_dim=5"])
    return True


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        ({"learning_rate": 0.095}, "learning_rate.high", 1.0),  # half of two decades further
        ({"learning_rate": 0.0011}, "learning_rate.low", 1e-4),
        ({"betas": [0.989, 0.999]}, "beta1.high", 0.995),  # half as far from 1
        ({"betas": [0.81, 0.999]}, "beta1.low", 0.6),  # twice as far
        ({"model": {"filters": 98}}, "model.filters.high", 140),
        (
            {"optimizer": "sgd", "learning_rate": 0.98},
            "learning_rate.by_optimizer.sgd.high",
            3.2,
        ),
    ],
)
def test_best_value_at_an_edge_widens_the_range(
    change: dict[str, Any], path: str, expected: float
) -> None:
    frame = results([0.9, 0.89, 0.88, 0.5], [MIDDLE | change] * 3 + [MIDDLE])
    (found,) = range_advice.find_edges(frame, SPACE)
    assert found.option == f"--set space.{path}={expected:g}"
    if "learning_rate.high" in path or "beta1" in path:
        assert takes(found.option)


def test_count_of_all_is_said_as_people_say_it() -> None:
    frame = results([0.9, 0.89], [MIDDLE | {"learning_rate": rate} for rate in (0.095, 0.09)])
    (found,) = range_advice.find_edges(frame, SPACE)
    assert "(0.001 to 0.1), as do those of both best trials: widen it to 1." in found.text
    said = [report_words.part(*pair, "trials") for pair in ((1, 1), (2, 3), (3, 3))]
    assert said == ["the only trial", "2 of the 3 trials", "all 3 trials"]


def test_limit_of_a_hyperparameter_is_respected() -> None:
    frame = results([0.9, 0.89, 0.88], [MIDDLE | {"dropout": 0.01}] * 3)
    assert list(range_advice.find_edges(frame, SPACE)) == []  # no dropout is below 0


def test_best_in_the_middle_and_one_lucky_trial_are_no_edge() -> None:
    assert list(range_advice.find_edges(results([0.9, 0.8, 0.7], [MIDDLE] * 3), SPACE)) == []
    lucky = [MIDDLE | {"learning_rate": 0.099}, MIDDLE, MIDDLE]
    assert list(range_advice.find_edges(results([0.9, 0.89, 0.88], lucky), SPACE)) == []
    assert list(range_advice.find_edges(results([], []), SPACE)) == []


def test_diverged_trials_are_not_the_best() -> None:
    high = MIDDLE | {"learning_rate": 0.099}
    outcomes = ["diverged"] * 3 + ["stalled"] * 3
    frame = results([0.95] * 3 + [0.8] * 3, [high] * 3 + [MIDDLE] * 3, outcome=outcomes)
    assert list(range_advice.find_edges(frame, SPACE)) == []


def test_parameter_without_an_effect_is_found_and_one_with_is_not() -> None:
    rng = np.random.default_rng(37)
    # Each value of dropout meets each rate, so dropout explains nothing by construction.
    grid = [(rate, drop) for rate in np.geomspace(1e-3, 1e-1, 7) for drop in (0.1, 0.2, 0.3)]
    params = [MIDDLE | {"learning_rate": rate, "dropout": drop} for rate, drop in grid]
    scores = [0.7 - 0.1 * abs(math.log10(rate) + 2) for rate, _ in grid]
    noisy = [score + 1e-4 * rng.standard_normal() for score in scores]
    found = {
        each.about: each
        for each in range_advice.find_idle_parameters(results(noisy, params), SPACE)
    }
    assert set(found) == {"dropout"}
    assert takes(found["dropout"].option)


def test_idle_clipping_is_fixed_at_what_never_clips() -> None:
    params = [MIDDLE | {"clip_norm": clip} for clip in (1e6, 5.0)] * 12
    frame = results([0.8, 0.8, 0.7, 0.7] * 6, params)
    (found,) = range_advice.find_idle_parameters(frame, {"clip_norm": [5.0, 1e6]})
    assert found.text.startswith("clip_norm shows no effect in 24 trials")
    assert "1,000,000 never clips" in found.text
    assert found.option == "--set space.clip_norm=1000000"
    assert takes(found.option)


def test_fixed_values_are_choices_as_they_are_and_betas_by_their_distance_to_1() -> None:
    space = {"beta2": {"low": 0.9, "high": 0.9999}, "dropout": [0.125, 0.375]}
    drawn = [(0.99432, 0.125), (0.98, 0.375), (0.97, 0.125), (0.96, 0.375)] * 6
    params = [MIDDLE | {"betas": [0.9, beta], "dropout": drop} for beta, drop in drawn]
    found = range_advice.find_idle_parameters(results(([0.8] * 4 + [0.7] * 4) * 3, params), space)
    options = [each.option for each in found]
    assert options == ["--set space.beta2=0.9943", "--set space.dropout=0.125"]


def test_rate_that_an_optimizer_finds_is_not_compared_with_told_ones() -> None:
    space = {"optimizer": ["adam", "armijo"], "learning_rate": [0.01, 0.1]}
    line_search = {"optimizer": "armijo", "sufficient_decrease": 0.1, "shrink": 0.5}
    told = [MIDDLE | {"learning_rate": rate} for rate in (0.01, 0.1)] * 6
    frame = results([0.8, 0.8, 0.7, 0.7] * 6, [*told, *[line_search] * 12])
    # 24 trials, of which 12 have a learning rate: too few.
    assert [each.about for each in range_advice.find_idle_parameters(frame, space)] == [
        "optimizer"
    ]


def test_range_to_widen_is_not_to_be_fixed_as_well() -> None:
    params = [MIDDLE | {"dropout": 0.49}] * 24
    params[5:] = [MIDDLE | {"dropout": 0.02 * i} for i in range(19)]
    frame = results([0.7] * 24, params, outcome=["stalled"] * 24)
    about = [each.about for each in range_advice.find_edges(frame, SPACE)]
    calm = judged("converged", 24)
    found = advise(frame, calm)
    assert "dropout" in about
    assert [each.about for each in found].count("dropout") == 1


def test_few_trials_show_no_effect_of_anything() -> None:
    params = [MIDDLE | {"dropout": 0.02 * i} for i in range(19)]
    assert list(range_advice.find_idle_parameters(results([0.7] * 19, params), SPACE)) == []


def test_cap_that_cuts_the_best_is_doubled() -> None:
    frame = results([0.9, 0.8, 0.7], [MIDDLE] * 3, outcome=["exhausted"] * 3)
    improving = judged("still improving, overfit", 3)
    found = epoch_advice.find_low_cap(frame, improving, max_epochs=23)
    assert found is not None
    assert takes(found.option)
    assert "46" in found.text
    assert epoch_advice.find_low_cap(frame, judged("converged", 3), max_epochs=23) is None
    stalled = results([0.9, 0.8, 0.7], [MIDDLE] * 3)
    assert epoch_advice.find_low_cap(stalled, improving, max_epochs=23) is None


def test_recommended_cap_is_what_the_best_need() -> None:
    frame = results([0.9, 0.8, 0.7, 0.1], [MIDDLE] * 4)
    calm = judged("converged", 4, needed=[10, 17, 11, 900])
    assert epoch_advice.recommend_cap(frame, calm) == 22  # 17 and a quarter more
    late = frame.assign(best_epoch=[23, 9, 9, 9])  # no cap costs the best trial its best epoch
    assert epoch_advice.recommend_cap(late, calm) == 23
    spike = judged("converged", 4, needed=[3, 2, 3, 1])
    assert epoch_advice.recommend_cap(frame.assign(best_epoch=[3] * 4), spike) == 8
    assert epoch_advice.recommend_cap(frame[:0], judged("converged", 0)) is None


def test_recommended_cap_costs_no_trial_that_may_be_the_best() -> None:
    # The fourth is within a standard error of the best, the fifth is not.
    frame = results([0.9, 0.895, 0.89, 0.888, 0.88], [MIDDLE] * 5)
    calm = judged("converged", 5, needed=[4, 5, 4, 25, 99])
    assert epoch_advice.recommend_cap(frame, calm) == 32


def test_few_or_short_trials_recommend_no_cap() -> None:
    pair = results([0.9, 0.8], [MIDDLE] * 2)
    assert epoch_advice.recommend_cap(pair, judged("converged", 2)) is None
    short = results([0.9, 0.8, 0.7], [MIDDLE] * 3, epochs_run=[1, 1, 7])
    assert epoch_advice.recommend_cap(short, judged("too short", 3)) is None


def test_cap_that_the_best_are_far_from_needing_is_lowered() -> None:
    ends = ["exhausted", "stalled", "exhausted", "stalled", "stalled"]
    scores, calm = [0.9, 0.8, 0.7, 0.6, 0.5], judged("converged", 5)
    frame = results(scores, [MIDDLE] * 5, outcome=ends)
    found = epoch_advice.find_high_cap(frame, calm, max_epochs=23)
    assert found is not None
    assert takes(found.option)
    assert "2 trials ran to: 13 would do" in found.text  # a quarter more than 10
    assert epoch_advice.find_high_cap(frame, calm, max_epochs=17) is None
    assert epoch_advice.find_high_cap(frame[:4], calm[:4], max_epochs=23) is None  # too few trials
    # None ran to it by itself: the stalled ones saved the epochs, the audited ones were made to.
    for saved in ({"outcome": ["stalled"] * 5}, {"outcome": ends, "would_stop_epoch": [5] * 5}):
        frame = results(scores, [MIDDLE] * 5, **saved)
        assert epoch_advice.find_high_cap(frame, calm, max_epochs=23) is None


def test_too_few_trials_and_epochs_are_said() -> None:
    one = results([0.7], [MIDDLE], outcome=["exhausted"])
    found = advise(one, judged("converged", 1), max_epochs=8)
    assert [each.about for each in found] == ["trials"]
    assert found[0].text.startswith("1 scored trial for 5 sampled parameters tells too little")
    three = results([0.7] * 3, [MIDDLE] * 3, outcome=["exhausted"] * 3, epochs_run=[1] * 3)
    found = advise(three, judged("too short", 3), max_epochs=1)
    assert [each.option for each in found] == ["--set max_epochs=16", "--trials 10"]


def test_of_equal_scores_the_lower_loss_is_the_best() -> None:
    frame = results([0.9, 0.9, 0.8], [MIDDLE] * 3, best_val_loss=[0.3, 0.2, 0.1])
    assert range_advice.best_trials(frame)["trial"].tolist() == [1, 0, 2]


def test_study_without_a_score_is_told_why() -> None:
    nothing = {"best_score": [math.nan] * 3}
    for outcome, said in (("interrupted", "let the sweep run on"), ("failed", "see why")):
        frame = results([math.nan] * 3, [MIDDLE] * 3, outcome=[outcome] * 3, **nothing)
        (found,) = advise(frame, judged("", 0), error=math.nan)
        assert f"(3 {outcome})" in found.text
        assert said in found.text
        assert found.option is None


@pytest.mark.parametrize(
    ("params", "options"),
    [
        # The usual range, where that is lower than what diverged.
        ([{"learning_rate": 0.095}] * 3, ["0.0003", "0.03"]),
        ([{"learning_rate": 0.003}] * 3, ["1e-05", "0.001"]),
    ],
)
def test_rates_from_which_most_trials_diverged_are_lowered(
    params: list[dict[str, Any]], options: list[str]
) -> None:
    rows = [MIDDLE | each for each in params] + [MIDDLE]
    frame = results([0.1] * 3 + [0.8], rows, outcome=["diverged"] * 3 + ["stalled"])
    (found,) = rate_advice.find_wrong_rates(frame, SPACE, NONE)
    low, high = options
    bounds = (f"low={low}", f"high={high}", "log=true")
    assert found.option == " ".join(f"--set space.learning_rate.{bound}" for bound in bounds)
    half = frame.assign(outcome=["diverged"] * 2 + ["stalled"] * 2)
    assert list(rate_advice.find_wrong_rates(half, SPACE, NONE)) == []


def test_rates_of_an_optimizer_with_a_range_of_its_own_are_lowered_there() -> None:
    sgd = MIDDLE | {"optimizer": "sgd", "learning_rate": 0.9}
    frame = results(
        [0.1] * 4, [sgd] * 2 + [MIDDLE] * 2, outcome=["diverged"] * 2 + ["stalled"] * 2
    )
    (found,) = rate_advice.find_wrong_rates(frame, SPACE, NONE)
    assert found.option is not None
    assert found.option.startswith("--set space.learning_rate.by_optimizer.sgd.low=0.003 ")
    fixed = {"optimizer": "sgd", "learning_rate": 1e6}
    frame = results([0.1] * 2, [MIDDLE | fixed] * 2, outcome=["diverged"] * 2)
    (found,) = rate_advice.find_wrong_rates(frame, fixed, NONE)
    assert "--set space.learning_rate.high=0.5" in str(found.option)


def test_choice_of_few_trials_is_neither_with_nor_without_effect() -> None:
    space = {"schedule": ["constant", "cosine"], "optimizer": "adam"}
    rng = np.random.default_rng(47)
    for rare, is_said in ((1, False), (12, True)):
        # A constant schedule is not stored.
        params = [MIDDLE | {"schedule": "cosine"}] * rare + [MIDDLE] * (24 - rare)
        scores = [0.7, 0.72] * 12 if is_said else rng.uniform(0.6, 0.8, 24).tolist()
        found = list(range_advice.find_idle_parameters(results(scores, params), space))
        assert [each.about for each in found] == ["schedule"] * is_said


def test_all_advice_comes_in_one_list() -> None:
    high = MIDDLE | {"learning_rate": 0.095}
    frame = results([0.9, 0.8, 0.7], [high] * 3, outcome=["exhausted"] * 3)
    found = advise(frame, judged("still improving", 3))
    assert [each.about for each in found] == ["max_epochs", "learning_rate", "trials"]
    assert advise(frame[:0], judged("", 0), error=math.nan) == []


def test_space_table_names_what_varies() -> None:
    assert list_sampled(SPACE) == [
        "optimizer",
        "learning_rate",
        "beta1",
        "dropout",
        "model.filters",
    ]
    ranges = {each.path: each for each in list_ranges(SPACE)}
    assert ranges["learning_rate"].others == {"sgd"}
    assert ranges["learning_rate.by_optimizer.sgd"].is_log
    assert ranges["learning_rate"].place(0.01) == pytest.approx(0.5)
    assert flatten(MIDDLE)["beta1"] == 0.95
