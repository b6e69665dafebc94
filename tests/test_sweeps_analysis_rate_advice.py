"""Learning rates that are too high: which range is lowered, and to where, on literal frames."""

import json
import shlex
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweeps.analysis import advice, rate_advice
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
        "best_macro_f1": [0.99 if rate == min(rates) else 0.9 - rate for rate in rates],
        "best_epoch": [9] * n,
        "epochs_run": [23] * n,
        "would_stop_epoch": [pd.NA] * n,
        "optimizer": [optimizer] * n,
        "params": params,
    }
    return pd.DataFrame(frame | columns)


def judged(verdicts: list[str]) -> pd.DataFrame:
    n = len(verdicts)
    columns = {"verdicts": verdicts, "epochs_needed": [9] * n, "sampling_error": [0.01] * n}
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
    assert config.settings()["space"]["learning_rate"]["high"] == 0.089
    assert found[0].text.startswith(
        "the 5 trials with learning rates from 0.1 lost again what they had learned (rate too "
        "high), none of the 19 below: lower the top of the range from 0.3"
    )


def test_diverged_trials_count_like_those_whose_rate_was_too_high() -> None:
    ends = ["stalled"] * 22 + ["diverged"] * 2
    (found,) = rate_advice.find_high_rates(
        results([*GOOD, *HIGH], outcome=ends), RATE, too_high={19, 20, 21}
    )
    assert "diverged (2) or lost again what they had learned" in found.text
    assert found.numbers["num_diverged"] == 2
    assert found.numbers["num_too_high"] == 3


def test_half_of_those_at_the_top_are_enough_where_none_is_among_the_best() -> None:
    frame = results([*GOOD, *HIGH[:4]])
    (found,) = rate_advice.find_high_rates(frame, RATE, too_high={19, 20})
    assert found.text.startswith("the 2 trials") or found.text.startswith("2 of the 4 trials")
    best = frame.assign(best_macro_f1=[0.5] * 22 + [0.9])
    assert list(rate_advice.find_high_rates(best, RATE, too_high={19, 20})) == []


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
    assert list(rate_advice.find_high_rates(frame, RATE, too_high=too_high)) == []


def test_own_range_of_an_optimizer_is_lowered_at_its_own_place() -> None:
    own = {
        "learning_rate": RATE["learning_rate"]
        | {"by_optimizer": {"sgd": {"low": 0.001, "high": 0.5}}}
    }
    frame = results([*GOOD, *HIGH], optimizer="sgd")
    (found,) = rate_advice.find_high_rates(frame, own, too_high={19, 20, 21, 22, 23})
    assert found.option == "--set space.learning_rate.by_optimizer.sgd.high=0.089"
    assert "learning rates of sgd from 0.1" in found.text
    load_config("sequence-rnn", shlex.split(found.option)[1::2])


def test_most_trials_with_too_high_a_rate_move_the_range() -> None:
    frame = results([0.01, 0.1, 0.11, 0.17])
    (found,) = rate_advice.find_high_rates(frame, RATE, too_high={1, 2, 3})
    assert "3 of the 4 trials lost again what they had learned" in found.text
    assert "--set space.learning_rate.high=0.03 " in str(found.option)
    # Two may be chance, unless they diverged.
    two = frame[frame["trial"].isin([1, 2])]
    assert list(rate_advice.find_high_rates(two, RATE, too_high={1, 2})) == []
    diverged = two.assign(outcome="diverged")
    assert len(list(rate_advice.find_high_rates(diverged, RATE))) == 1
