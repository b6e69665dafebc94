"""Learning rates too high or too low: which range is moved, and to where, on literal frames."""

import json
import shlex
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweeps.analysis import advice, rate_advice
from sweeps.analysis.epoch_advice import plan_epochs
from sweeps.analysis.range_advice import Advice
from sweeps.config_files import load_config

RATE = {"learning_rate": {"low": 0.0005, "high": 0.3, "log": True}}
GOOD = np.geomspace(0.001, 0.08, 19).tolist()
HIGH = [0.1, 0.11, 0.17, 0.21, 0.23]


def results(rates: list[float], *, optimizer: str = "adam", **columns: Any) -> pd.DataFrame:
    n = len(rates)
    params = [json.dumps({"optimizer": optimizer, "learning_rate": rate}) for rate in rates]
    frame = {
        "trial": range(n),
        "outcome": ["stalled"] * n,
        # The higher the rate the worse, but for the best trial.
        "best_score": [0.99 if rate == min(rates) else 0.9 - rate for rate in rates],
        "best_epoch": [9] * n,
        "best_val_loss": [0.6] * n,
        "epochs_run": [23] * n,
        "would_stop_epoch": [pd.NA] * n,
        "optimizer": [optimizer] * n,
        "params": params,
    }
    return pd.DataFrame(frame | columns)


def find(
    frame: pd.DataFrame,
    space: Mapping[str, Any],
    *,
    too_high: Collection[int] = (),
    too_low: Collection[int] = (),
    too_short: Collection[int] = (),
) -> list[Advice]:
    told = rate_advice.RateVerdicts(too_high, too_low, too_short)
    return list(rate_advice.find_wrong_rates(frame, space, told))


def judged(verdicts: list[str]) -> pd.DataFrame:
    n = len(verdicts)
    texts = {"verdicts": verdicts, "advice": ""}
    columns = {**texts, "epochs_needed": [9] * n, "sampling_error": [0.01] * n}
    return pd.DataFrame({"trial": range(n), **columns})


def test_top_of_a_range_whose_trials_lost_what_they_had_learned_is_lowered() -> None:
    frame = results([*GOOD, *HIGH])
    verdicts = judged(
        ["converged"] * 19 + ["rate too high", "rate too high, overfit"] * 2 + ["rate too high"]
    )
    found = advice.advise(frame, RATE, verdicts, epochs=None, error=0.01)
    # First of all, and nothing else about the rate.
    assert [each.about for each in found].index("learning_rate") == 0
    assert [each.about for each in found].count("learning_rate") == 1
    # Halfway between 0.08 and 0.1 on a log scale.
    assert found[0].option == "--set space.learning_rate.high=0.089"
    config = load_config("sequence-rnn", shlex.split(found[0].option)[1::2])
    assert config.stored()["space"]["learning_rate"]["high"] == 0.089
    assert found[0].text.startswith(
        "the 5 trials with learning rates from 0.1 learned nothing or lost it again (rate "
        "too high), none of the 19 below: lower the top of the range from 0.3"
    )


def test_diverged_trials_count_like_those_whose_rate_was_too_high() -> None:
    ends = ["stalled"] * 22 + ["diverged"] * 2
    (found,) = find(results([*GOOD, *HIGH], outcome=ends), RATE, too_high={19, 20, 21})
    assert "diverged (2) or learned nothing or lost it again" in found.text
    assert found.numbers["num_diverged"] == 2
    assert found.numbers["num_too_high"] == 3


def test_half_of_those_at_the_top_are_enough_where_none_is_among_the_best() -> None:
    frame = results([*GOOD, *HIGH[:4]])
    (found,) = find(frame, RATE, too_high={19, 20})
    assert found.text.startswith("the 2 trials") or found.text.startswith("2 of the 4 trials")
    best = frame.assign(best_score=[0.5] * 22 + [0.9])
    assert find(best, RATE, too_high={19, 20}) == []


@pytest.mark.parametrize(
    "too_high",
    [
        {22},  # one alone
        {0, 3, 5, 19, 20},  # as many below
        {9, 14},  # in the middle
    ],
)
def test_bad_trials_elsewhere_lower_nothing(too_high: set[int]) -> None:
    frame = results([*GOOD, *HIGH[:4]])
    assert find(frame, RATE, too_high=too_high) == []


def test_own_range_of_an_optimizer_is_lowered_at_its_own_place() -> None:
    own = {
        "learning_rate": RATE["learning_rate"]
        | {"by_optimizer": {"sgd": {"low": 0.001, "high": 0.5}}}
    }
    frame = results([*GOOD, *HIGH], optimizer="sgd")
    (found,) = find(frame, own, too_high={19, 20, 21, 22, 23})
    assert found.option == "--set space.learning_rate.by_optimizer.sgd.high=0.089"
    assert "learning rates of sgd from 0.1" in found.text
    load_config("sequence-rnn", shlex.split(found.option)[1::2])


def test_most_trials_with_too_high_a_rate_move_the_range() -> None:
    frame = results([0.01, 0.1, 0.11, 0.17])
    (found,) = find(frame, RATE, too_high={1, 2, 3})
    assert "3 of the 4 trials learned nothing or lost it again" in found.text
    assert "--set space.learning_rate.high=0.03 " in str(found.option)
    # Two may be chance, unless they diverged.
    two = frame[frame["trial"].isin([1, 2])]
    assert find(two, RATE, too_high={1, 2}) == []
    diverged = two.assign(outcome="diverged")
    assert len(find(diverged, RATE)) == 1


def test_range_in_which_nothing_is_learned_is_raised_to_the_usual_one() -> None:
    frame = results([1e-6, 2e-6, 5e-6, 9e-6])
    (found,) = find(frame, RATE, too_low={0, 1, 2}, too_short={3})
    assert found.text == (
        "all 3 trials with enough epochs learn too little an epoch, at learning rates up to "
        "5e-06: raise the range to 0.0003 to 0.03."
    )
    config = load_config("sequence-rnn", shlex.split(str(found.option))[1::2])
    own = config.stored()["space"]["learning_rate"]
    assert (own["low"], own["high"]) == (0.0003, 0.03)
    # Two may be chance; one that learns ends the range that is too low.
    assert find(frame, RATE, too_low={0, 1}, too_short={2, 3}) == []
    (found,) = find(results([0.001, 0.002, 0.005, 0.02]), RATE, too_low={0, 1, 2})
    assert found.text.endswith("raise the bottom of the range from 0.0005 to 0.01.")
    # Where the usual rates are slow too, it goes on from there.
    (found,) = find(results([0.001, 0.002, 0.005]), RATE, too_low={0, 1, 2})
    assert found.text.endswith("raise the range to 0.005 to 0.05.")


def test_bottom_of_a_range_whose_trials_learn_too_little_is_raised() -> None:
    # As the high end, upside down; the best trial is the fastest.
    frame = results([*GOOD, *HIGH]).assign(best_score=[0.01 * i for i in range(24)])
    (found,) = find(frame, RATE, too_low={0, 1, 2, 3})
    assert found.text.startswith(
        "the 4 trials with learning rates up to 0.00208 learn too little an epoch, none of the "
        "20 above: raise the bottom of the range from 0.0005 to 0.0023."
    )
    assert found.option == "--set space.learning_rate.low=0.0023"
    assert find(frame, RATE, too_low={0, 9, 17}) == []


@pytest.mark.parametrize(
    ("name", "rates", "told", "usual"),
    [
        ("sgd", [0.001, 0.002, 0.004], {"too_low": {4, 5, 6}}, (0.01, 0.5)),
        ("adamax", [0.2, 0.21, 0.3], {"too_high": {4, 5, 6}}, (0.0003, 0.03)),
    ],
)
def test_optimizer_that_learns_nothing_where_others_do_gets_a_range_of_its_own(
    name: str, rates: list[float], told: dict[str, set[int]], usual: tuple[float, float]
) -> None:
    learn, fail = results([0.001, 0.002, 0.004, 0.2]), results(rates, optimizer=name)
    fail = fail.assign(trial=[4, 5, 6])
    frame = pd.concat([learn, fail], ignore_index=True)
    (found,) = find(frame, RATE, **told)
    assert found.text.startswith(f"all 3 trials of {name} learn")
    low, high = usual
    path = f"space.learning_rate.by_optimizer.{name}"
    assert found.option == f"--set {path}.low={low:g} --set {path}.high={high:g}"
    settings = load_config("sequence-rnn", shlex.split(found.option)[1::2]).stored()
    assert settings["space"]["learning_rate"]["by_optimizer"][name]["low"] == low
    # Where no other optimizer learns either it is the range of all.
    (found,) = find(fail, RATE, **told)
    assert "by_optimizer" not in str(found.option)


def test_other_advice_waits_until_most_trials_learn() -> None:
    frame = results([1e-6 * (1 + i) for i in range(24)]).assign(epochs_run=30)
    frame["outcome"] = "exhausted"
    verdicts = judged(["still improving"] * 24)
    plan = plan_epochs(frame, verdicts, max_epochs=30)
    assert plan is not None
    assert plan.advice is not None
    slow = verdicts.assign(advice="Raise the learning rate, by 10 times: it falls.")
    assert plan_epochs(frame, slow, max_epochs=30) is None
    found = advice.advise(frame, RATE, slow, epochs=None, error=0.01)
    assert [each.about for each in found] == ["learning_rate"]


def test_top_of_a_range_is_not_widened_where_the_best_trial_is_told_to_lower_its_rate() -> None:
    frame = results([0.001, 0.002, 0.25, 0.28, 0.29]).assign(best_score=[0.1, 0.2, 0.7, 0.8, 0.9])
    verdicts = judged(["oscillating"] * 5)
    found = advice.advise(frame, RATE, verdicts, epochs=None, error=0.01)
    assert "widen" in found[0].text
    verdicts["advice"] = ["", "", "", "", "Lower the learning rate, let a schedule lower it."]
    found = advice.advise(frame, RATE, verdicts, epochs=None, error=0.01)
    assert all("widen" not in each.text for each in found)
