"""What matters: told from trials whose scores one hyperparameter decides, and not told else."""

import json
import math
from typing import Any

import pandas as pd
import pytest

from sweeps.analysis import figures_importances
from sweeps.analysis.figures_importances import Importances, find_best, measure_importances

NAN = math.nan
SPACE: dict[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "dropout": {"low": 0.0, "high": 0.7},
    "momentum": {"low": 0.0, "high": 0.99, "by_optimizer": {"rmsprop": 0.0}},
    "batch_size": [50, 100],
}


def make_results(rows: list[tuple[float, dict[str, Any]]]) -> pd.DataFrame:
    """``queries.results`` of trials with these scores and hyperparameters."""
    return pd.DataFrame(
        {
            "trial": range(len(rows)),
            "outcome": "stalled",
            "best_score": [score for score, _ in rows],
            "params": [json.dumps({"optimizer": "adam"} | params) for _, params in rows],
        }
    )


def spread(num_trials: int) -> pd.DataFrame:
    """Trials whose learning rate decides the score, and whose dropout does not."""
    rows = []
    for i in range(num_trials):
        rate = 10 ** (-4 + 3 * i / num_trials)
        params: dict[str, Any] = {
            "optimizer": ("adam", "sgd")[i % 2],
            "learning_rate": rate,
            "dropout": 0.7 * ((7 * i) % num_trials) / num_trials,
            "batch_size": (100, 50)[i % 3 == 0],
        }
        if i % 2:
            params["momentum"] = 0.01 * i
        rows.append((0.7 - 0.1 * abs(math.log10(rate) + 2), params))
    return make_results(rows)


def test_what_decides_the_score_is_the_most_important() -> None:
    found = measure_importances(spread(41), SPACE)
    assert found.shares == {"learning_rate": 1.0}
    assert set(found.by_chance) == {"optimizer", "dropout", "batch_size"}
    # Two of the best five have it.
    assert found.untold == ("momentum",)


def test_few_trials_have_no_importances() -> None:
    assert measure_importances(spread(9), SPACE) == Importances({})
    said = figures_importances.say_no_importances(find_best(spread(9)), Importances({}))
    assert said.startswith("Not said: it takes 10 ranked trials")


def test_same_trials_have_the_same_shares_in_every_report() -> None:
    assert measure_importances(spread(41), SPACE) == measure_importances(spread(41), SPACE)


def decided_by_optimizer(places: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)) -> pd.DataFrame:
    """35 trials: two of five optimizers are good, whatever else they have.

    They are neighbours in the list of the choices, and have learning rates of their own.
    """
    rows = []
    for i in range(35):
        optimizer = RATED["optimizer"][i % 5]
        spec = RATED["learning_rate"]["by_optimizer"].get(optimizer, RATED["learning_rate"])
        rate = spec["low"] * (spec["high"] / spec["low"]) ** places[(3 * i + i // 5) % 5]
        params = {"optimizer": optimizer, "learning_rate": rate, "dropout": 0.02 * (11 * i % 35)}
        if optimizer == "sgd":
            params["momentum"] = 0.1 * (i // 5)
        good = optimizer in ("adadelta", "sgd")
        # One of each kind is not like the others.
        score = 0.8 if good != (i // 5 == 3) else 0.4
        rows.append((score + 1e-5 * i, params))
    return make_results(rows)


RATED: dict[str, Any] = {
    "optimizer": ["adam", "adamax", "rmsprop", "adadelta", "sgd"],
    "learning_rate": {
        "low": 1e-3,
        "high": 1e-1,
        "log": True,
        "by_optimizer": {
            "adadelta": {"low": 0.3, "high": 3.0, "log": True},
            "sgd": {"low": 0.1, "high": 1.0, "log": True},
        },
    },
    "dropout": {"low": 0.0, "high": 0.7},
    "momentum": {"low": 0.0, "high": 0.95, "by_optimizer": {"rmsprop": 0.0}},
}


def test_optimizer_is_not_taken_for_its_own_range_of_rates() -> None:
    found = measure_importances(decided_by_optimizer(), RATED, margin=0.02)
    assert found.shares == {"optimizer": 1.0}
    assert set(found.by_chance) == {"learning_rate", "dropout"}
    assert found.untold == ("momentum",)


def test_rate_that_decides_within_each_optimizers_own_range_is_important() -> None:
    rows = []
    for score, params in zip(
        decided_by_optimizer()["best_score"], decided_by_optimizer()["params"], strict=True
    ):
        one = json.loads(params)
        own = RATED["learning_rate"]["by_optimizer"]
        spec = own.get(one["optimizer"], RATED["learning_rate"])
        place = math.log(one["learning_rate"] / spec["low"]) / math.log(spec["high"] / spec["low"])
        rows.append((0.3 + (0.4 if place > 0.6 else 0.0) + 1e-3 * score, one))
    found = measure_importances(make_results(rows), RATED, margin=0.02)
    assert next(iter(found.shares)) == "learning_rate"
    assert found.shares["learning_rate"] > 0.8


def test_range_whose_trials_are_all_good_or_all_bad_tells_of_the_optimizer_alone() -> None:
    rows = []
    for i in range(26):
        is_good = i % 2 == 0
        own = {"optimizer": "adadelta", "learning_rate": 0.3 + 0.01 * i}
        other = {"optimizer": "adam", "learning_rate": 0.05 + 0.001 * i}
        rows.append((0.8 if is_good else 0.4, own if is_good else other))
    found = measure_importances(make_results(rows), RATED, margin=0.02)
    assert found == Importances({"optimizer": 1.0}, (), ("learning_rate",))


def test_what_hardly_varies_is_not_told() -> None:
    rows = []
    for i in range(26):
        params = {
            "optimizer": "sgd",
            "learning_rate": 0.1 + 0.9 * (7 * i % 26) / 26,
            # Two trials alone have another momentum, and both are among the best.
            "momentum": 0.7 if i < 2 else 0.0,
        }
        rows.append((0.8 if i < 13 else 0.4, params))
    found = measure_importances(make_results(rows), RATED, margin=0.02)
    assert found == Importances({}, ("learning_rate",), ("momentum",))
    best = find_best(make_results(rows), margin=0.02)
    assert figures_importances.say_no_importances(best, found) == (
        "Not said: the best trials differ from all in learning rate no more than by chance; in "
        "momentum too few of the best trials, or of others with the same range, can be compared."
    )


def test_what_shows_no_effect_over_all_trials_has_no_share() -> None:
    found = measure_importances(spread(41), SPACE, idle={"learning_rate"})
    assert found.shares == {}
    assert "learning_rate" in found.by_chance


def test_figure_has_a_bar_a_share_and_the_note_has_the_others() -> None:
    figure = figures_importances.importances({"dropout": 0.7, "beta1": 0.297, "rho": 0.003})
    (bars,) = figure.data
    assert list(bars.y) == ["dropout", "beta 1", "rho"]
    assert list(bars.text) == ["70%", "30%", "&lt;1%"]
    assert list(figure.layout.yaxis.categoryarray) == ["dropout", "beta 1", "rho"]
    found = Importances({"dropout": 1.0}, ("beta1", "batch_size"), ("momentum",))
    assert figures_importances.say_left_out(found) == (
        "Without a share: the best trials differ from all in beta 1 and batch size no more than "
        "by chance; in momentum too few of the best trials, or of others with the same range, "
        "can be compared."
    )
    assert figures_importances.say_left_out(Importances({"dropout": 1.0})) is None


def decided_by_rate(num_low: int) -> pd.DataFrame:
    """24 trials: a low rate loses by far; of the others, dropout decides a thousandth."""
    rows = []
    for i in range(24):
        is_low, dropout = i < num_low, 0.7 * ((7 * i) % 24) / 24
        rate = (2e-4 if is_low else 2e-2) * (1 + i / 100)
        score = (0.5 if is_low else 0.99) + 0.001 * dropout
        rows.append((score, {"learning_rate": rate, "dropout": dropout}))
    return make_results(rows)


def test_all_that_tie_at_the_cut_are_among_the_best() -> None:
    tied = make_results([(1.0 if i < 7 else 0.5, {}) for i in range(12)])
    best = find_best(tied)
    assert (best.number, best.num_ranked, best.lowest, best.is_tie) == (7, 12, 1.0, False)
    best = find_best(spread(13))
    assert (best.number, best.is_tie) == (5, False)
    assert 0.6 < best.lowest < 0.7


def test_what_decides_between_trials_that_tie_is_not_important() -> None:
    results = decided_by_rate(5)
    # Told apart by their scores, the best 5 are those of the largest dropout.
    assert next(iter(measure_importances(results, SPACE).shares)) == "dropout"
    assert measure_importances(results, SPACE, margin=0.015).shares == {"learning_rate": 1.0}
    best = find_best(results, margin=0.015)
    assert (best.number, best.is_tie) == (19, True)
    assert "Here the best one and the 18 that tie with it count as the best: those of the 24" in (
        figures_importances.say_best(best)
    )


@pytest.mark.parametrize(
    ("num_low", "sentence"),
    [
        (0, "the best one and the 23 that tie with it are all that are ranked"),
        (4, "beside the best one and the 19 that tie with it, the 4 other ranked trials are"),
    ],
)
def test_importances_are_not_said_where_too_many_tie(num_low: int, sentence: str) -> None:
    results = decided_by_rate(num_low)
    found = measure_importances(results, SPACE, margin=0.015)
    assert found == Importances({})
    best = find_best(results, margin=0.015)
    assert sentence in figures_importances.say_no_importances(best, found)
