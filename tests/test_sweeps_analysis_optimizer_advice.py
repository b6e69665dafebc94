"""Optimizers that always lose: by themselves, or by a range of rates that is not theirs."""

import json
import shlex
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweeps.analysis import advice
from sweeps.analysis.optimizer_advice import find_losing_optimizers
from sweeps.analysis.range_advice import Advice
from sweeps.commands import next_command
from sweeps.config_files import load_config

OPTIMIZERS = ["adam", "sgd", "adadelta"]
SHARED: dict[str, Any] = {"low": 1e-5, "high": 0.01, "log": True}
#: Rates all over the range, the best trial first; and at its ends.
EVENLY = [3e-4, 2e-5, 5e-3, 4e-5, 1e-3]
HIGH, LOW = [9e-3, 7e-3, 4e-3, 1e-3, 1e-4], [1.1e-5, 1.5e-5, 3e-5, 1e-4, 1e-3]


def space(**own: Any) -> dict[str, Any]:
    return {"optimizer": OPTIMIZERS, "learning_rate": {**SHARED, "by_optimizer": own}}


def results(
    rates: list[float], *, loser: str = "sgd", best: float = 0.6, **columns: Any
) -> pd.DataFrame:
    """Seven trials of Adam with 0.7, and those of the loser, of falling scores below ``best``."""
    drawn = [("adam", rate) for rate in np.geomspace(1e-4, 1e-3, 7).tolist()]
    drawn += [(loser, rate) for rate in rates]
    n = len(drawn)
    frame = {
        "trial": range(n),
        "outcome": ["stalled"] * n,
        "best_score": [0.7] * 7 + [best - 0.05 * i for i in range(len(rates))],
        "best_epoch": [9] * n,
        "best_val_loss": [0.6] * n,
        "epochs_run": [23] * n,
        "would_stop_epoch": [pd.NA] * n,
        "optimizer": [name for name, _ in drawn],
        "params": [json.dumps({"optimizer": a, "learning_rate": b}) for a, b in drawn],
    }
    return pd.DataFrame(frame | columns)


def judged(*losers: str) -> pd.DataFrame:
    verdicts = ["converged"] * 7 + list(losers)
    texts = {"verdicts": verdicts, "evidence": "", "advice": ""}
    columns = {**texts, "epochs_needed": 9, "sampling_error": 0.014}
    return pd.DataFrame({"trial": range(len(verdicts)), **columns})


def find(
    frame: pd.DataFrame, table: dict[str, Any], *losers: str, error: float = 0.014
) -> list[Advice]:
    shown = losers or ("converged",) * (len(frame) - 7)
    return list(find_losing_optimizers(frame, table, judged(*shown), error=error))


def taken(found: Advice) -> dict[str, Any]:
    """The space that `bestepoch run tabular-mlp` makes of the option."""
    words = shlex.split(str(found.option))
    assert set(words[::2]) == {"--set"}
    before = 'space.optimizer=["adam", "sgd", "adadelta"]'
    settings: dict[str, Any] = load_config("tabular-mlp", [before, *words[1::2]]).stored()
    space: dict[str, Any] = settings["space"]
    return space


def test_optimizer_that_always_loses_is_left_out() -> None:
    (found,) = find(results(EVENLY), space())
    assert found.text == (
        "sgd always loses: the best of its 5 trials has 0.600, the median of the others 0.700: "
        "leave it out."
    )
    assert taken(found)["optimizer"] == ["adam", "adadelta"]
    # Within twice the error of the best, or four trials, or one that does not.
    assert find(results(EVENLY, best=0.69), space()) == []
    assert find(results(EVENLY[:4]), space()) == []
    assert find(results(EVENLY, best=0.71), space()) == []


@pytest.mark.parametrize(
    ("rates", "own", "said", "expected"),
    [
        # The usual range of sgd reaches further.
        (HIGH, None, "the high end of the range that it shares (1e-05 to 0.01)", (0.01, 0.5)),
        (HIGH, (1e-5, 0.01), "the high end of its range (1e-05 to 0.01)", (0.01, 0.5)),
        # It does not: from the middle of the present one to half its width beyond its end.
        (LOW, (1e-5, 0.01), "the low end of its range (1e-05 to 0.01)", (3.2e-7, 3.2e-4)),
        ([90.0, 70.0, 9.0, 2.0, 5.0], (1.0, 100.0), "the high end of its range", (10.0, 1000.0)),
        ([0.39, 0.35, 0.05, 0.02, 0.1], (0.01, 0.4), "the high end of its range", (0.063, 2.5)),
        ([1.1, 1.3, 9.0, 2.0, 5.0], (1.0, 100.0), "the low end of its range", (0.01, 0.5)),
    ],
)
def test_optimizer_whose_best_rates_lie_at_an_end_is_given_others(
    rates: list[float],
    own: tuple[float, float] | None,
    said: str,
    expected: tuple[float, float],
) -> None:
    table = space() if own is None else space(sgd={"low": own[0], "high": own[1]})
    (found,) = find(results(rates), table)
    assert found.about == "learning_rate"
    assert "sgd always loses: the best of its 5 trials has 0.600, the median of" in found.text
    assert f"0.700, and its best learning rates lie at {said}" in found.text
    low, high = expected
    assert found.text.endswith(f": give it {low:g} to {high:g}, or leave it out.")
    given = taken(found)["learning_rate"]["by_optimizer"]["sgd"]
    assert (given["low"], given["high"], given["log"]) == (low, high, True)


def test_optimizer_that_underfits_below_its_usual_rates_is_given_these() -> None:
    below = space(adadelta={"low": 1e-4, "high": 1e-3})
    frame = results([8.8e-4, 1.4e-4, 3e-4, 4e-4, 2e-4], loser="adadelta")
    shown = ("underfit", "underfit", "too short", "too short", "class collapse, underfit")
    (found,) = find(frame, below, *shown)
    assert found.text.endswith(
        "0.700, and all 3 trials with enough epochs underfit in its range (0.0001 to 0.001): "
        "give it 0.1 to 3, or leave it out."
    )
    assert taken(found)["learning_rate"]["by_optimizer"]["adadelta"]["high"] == 3.0
    # Two may be chance; and where the usual rates were tried it is no matter of these.
    (found,) = find(frame, below, *("underfit",) * 2, *("converged",) * 3)
    assert found.about == "optimizer"
    tried = space(adadelta={"low": 1e-5, "high": 3.0})
    (found,) = find(frame, tried, *shown)
    assert found.about == "optimizer"


def test_optimizer_whose_rates_are_too_high_is_given_lower_ones() -> None:
    frame = results([0.3, 2.0, 0.5, 9.0, 4.0])
    shown = ("rate too high",) * 3 + ("converged",) * 2
    (found,) = find(frame, space(sgd={"low": 0.1, "high": 10.0}), *shown)
    assert "3 of the 5 trials had too high a rate in its range (0.1 to 10)" in found.text
    assert found.text.endswith("give it 0.01 to 0.5, or leave it out.")
    assert taken(found)["learning_rate"]["by_optimizer"]["sgd"]["low"] == 0.01


@pytest.mark.parametrize("rate", [0.01, [0.001, 0.01], {**SHARED, "by_optimizer": {"sgd": 0.5}}])
def test_optimizer_without_a_range_is_left_out(rate: Any) -> None:
    table = {"optimizer": OPTIMIZERS, "learning_rate": rate}
    (found,) = find(results(HIGH), table, *("underfit",) * 5)
    assert found.about == "optimizer"


def test_line_search_that_loses_needs_no_rates() -> None:
    frame = results(HIGH, loser="armijo")
    params = [one if i < 7 else '{"optimizer": "armijo"}' for i, one in enumerate(frame["params"])]
    table = space() | {"optimizer": ["adam", "armijo"]}
    (found,) = find(frame.assign(params=params), table, *("underfit",) * 5)
    assert found.option == "--set 'space.optimizer=[\"adam\"]'"


def test_two_that_lose_are_both_left_out_by_all_of_the_advice() -> None:
    both = pd.concat([results(EVENLY), results(EVENLY, loser="adadelta").iloc[7:]])
    frame = both.assign(trial=range(len(both)))
    found = find(frame, space())
    assert [each.text.split()[0] for each in found] == ["sgd", "adadelta"]
    options = [str(each.option) for each in found]
    words = shlex.split(str(next_command("mine", options, taken={"mine"})))
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert load_config("tabular-mlp", given).stored()["space"]["optimizer"] == ["adam"]


def test_optimizer_whose_range_is_lowered_already_is_not_left_out_as_well() -> None:
    ends = ["stalled"] * 12 + ["diverged"] * 7
    frame = results([*EVENLY, *[0.5] * 7], outcome=ends)
    table = space(sgd={"low": 1e-5, "high": 1.0})
    shown = judged(*["converged"] * 5, *["diverged"] * 7)
    found = advice.advise(frame, table, shown, epochs=None, error=0.014)
    assert [each.about for each in found if "sgd" in each.text] == ["learning_rate"]
    assert "by_optimizer.sgd" in str(found[0].option)
    assert not any("loses" in each.text for each in found)
    # Nor is a rate fixed that an optimizer is given a range of.
    wrong = results(sorted(HIGH * 5, reverse=True))
    shown = judged(*["converged"] * 25)
    found = advice.advise(wrong, space(), shown, epochs=None, error=0.014)
    assert [each.about for each in found].count("learning_rate") == 1
