"""Hyperparameters as they are shown, and the ranges of a space that they are from."""

from typing import Any

import pandas as pd
import pytest

from search_spaces.hparams import Hparams, flatten
from sweeps.read.params import (
    describe_trial,
    fill_unstored,
    list_ranges,
    list_sampled,
    list_varying,
    name_values,
)

LOG = {"low": 0.001, "high": 0.1, "log": True}
SPACE = {
    "optimizer": ["adam", "sgd", "adadelta"],
    "learning_rate": LOG | {"by_optimizer": {"sgd": {"low": 0.01, "high": 1.0}, "adadelta": 1.0}},
    "beta2": {"low": 0.9, "high": 0.999},
    "dropout": {"low": 0.0, "high": 0.5},
    "batch_size": [50],
    "model": {"filters": {"low": 10, "high": 30, "int": True}, "vectors": "fixed"},
}
RANGES = {each.path: each for each in list_ranges(SPACE)}


def stored(**values: Any) -> dict[str, Any]:
    """As a trial's row holds them, and the table reads them."""
    return flatten(Hparams(**values).to_params())


def test_constant_rate_is_named_beside_schedules() -> None:
    shown = fill_unstored([stored(schedule="plateau"), stored(schedule="constant")])
    assert [one["schedule"] for one in shown] == ["plateau", "constant"]
    assert "schedule" in list_varying(shown)


def test_no_clipping_is_named_whether_it_is_off_or_never_reached() -> None:
    trials = [stored(clip_norm=5.0), stored(), stored(clip_norm=1e6)]
    assert [one["clip_norm"] for one in fill_unstored(trials)] == [5.0, "none", "none"]


def test_what_is_off_has_its_value_for_the_optimizers_that_have_it() -> None:
    trials = [
        stored(optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=0.1),
        stored(optimizer="sgd", momentum=0.9),
        stored(optimizer="rmsprop"),
        stored(optimizer="armijo"),
    ]
    _, sgd, rmsprop, armijo = fill_unstored(trials)
    assert (sgd["nesterov"], sgd["weight_decay"]) == (False, 0.0)
    assert (rmsprop["momentum"], rmsprop["weight_decay"]) == (0.0, 0.0)
    assert "nesterov" not in rmsprop
    assert not {"weight_decay", "momentum"} & set(armijo)


def test_line_search_says_where_its_learning_rate_comes_from_beside_told_ones() -> None:
    adam, armijo = fill_unstored([stored(learning_rate=0.01), stored(optimizer="armijo")])
    assert (adam["learning_rate"], armijo["learning_rate"]) == (0.01, "by line search")
    assert list(armijo)[:2] == ["optimizer", "learning_rate"]
    assert list_varying([adam, armijo]) == ["optimizer"]
    assert "learning_rate" not in fill_unstored([stored(optimizer="armijo")])[0]


def test_trial_alone_is_filled_by_what_others_may_have() -> None:
    (one,) = fill_unstored([stored()], beside={"clip_norm", "schedule"})
    assert (one["clip_norm"], one["schedule"]) == ("none", "constant")


def test_what_varies_is_ordered_and_conditional_constants_do_not_vary() -> None:
    trials = fill_unstored(
        [
            stored(dropout=0.1, learning_rate=0.1, schedule="warmup", batch_size=7),
            stored(dropout=0.2, learning_rate=0.2, batch_size=11, optimizer="adamw"),
            stored(dropout=0.3, learning_rate=0.3, batch_size=11),
        ]
    )
    varying = list_varying(trials)
    assert varying == ["optimizer", "learning_rate", "dropout", "schedule", "batch_size"]
    assert list(name_values(trials[1], ["dropout"])) == ["optimizer", "learning_rate", "dropout"]


def test_trial_is_described_by_what_differs_and_the_only_one_by_what_was_sampled() -> None:
    texts = [
        '{"optimizer": "adam", "learning_rate": 0.01, "dropout": 0.2, "batch_size": 50}',
        '{"optimizer": "adam", "learning_rate": 0.02, "dropout": 0.2, "batch_size": 50}',
    ]
    results = pd.DataFrame({"trial": [7, 3], "params": texts})
    assert describe_trial(results, 3, SPACE) == "adam, learning rate 0.02"
    assert describe_trial(results.head(1), 7, SPACE) == "adam, learning rate 0.01, dropout 0.2"


def test_each_range_has_its_place_in_a_sweep_file() -> None:
    assert list(RANGES) == [
        "learning_rate",
        "learning_rate.by_optimizer.sgd",
        "beta2",
        "dropout",
        "model.filters",
    ]
    assert RANGES["learning_rate"].others == {"sgd", "adadelta"}
    own = RANGES["learning_rate.by_optimizer.sgd"]
    assert (own.name, own.optimizer, own.low, own.high, own.is_log) == (
        *("learning_rate", "sgd", 0.01, 1.0),
        True,
    )
    assert list_sampled(SPACE) == [
        *("optimizer", "learning_rate", "beta2", "dropout"),
        "model.filters",
    ]


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"optimizer": "adam", "learning_rate": 0.01}, "learning_rate"),
        ({"optimizer": "sgd", "learning_rate": 0.01}, "learning_rate.by_optimizer.sgd"),
        ({"optimizer": "adadelta", "learning_rate": 1.0}, None),  # it has one value
        ({"optimizer": "armijo", "learning_rate": "by line search"}, None),
        ({"optimizer": "adam"}, None),
    ],
)
def test_trial_drew_its_rate_from_one_range(params: dict[str, Any], path: str | None) -> None:
    rates = ("learning_rate", "learning_rate.by_optimizer.sgd")
    assert [each for each in rates if RANGES[each].has(params)] == ([] if path is None else [path])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("dropout", 0.0, True),
        ("dropout", 0.5, True),
        ("dropout", 0.6, False),
        ("model.filters", 9, False),
        ("learning_rate", 0.0, False),  # no logarithm
        ("learning_rate", 0.1 * (1 + 1e-15), True),  # rounding
        ("learning_rate", 0.2, False),
        ("beta2", 1.0, False),
        ("beta2", None, False),
    ],
)
def test_fixed_value_outside_a_range_is_not_from_it(
    name: str, value: float | None, expected: bool
) -> None:
    params = {"optimizer": "adam", name: value}
    assert RANGES[name].has(params) == expected


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("learning_rate", 0.01, 0.5),  # halfway on a log scale
        ("learning_rate", 1.0, 1.5),
        ("beta2", 0.99, 0.5),  # 10, 100 and 1,000 steps averaged over
        ("dropout", 0.125, 0.25),
        ("model.filters", 20, 0.5),
    ],
)
def test_place_and_value_are_each_other_s_inverse(path: str, value: float, place: float) -> None:
    assert RANGES[path].place(value) == pytest.approx(place)
    assert RANGES[path].at(place) == pytest.approx(value, rel=0.05)


@pytest.mark.parametrize(
    ("path", "place", "expected"),
    [
        ("dropout", -0.2, None),
        ("dropout", 2.5, None),
        ("learning_rate", 2.0, 10.0),
        ("model.filters", -0.6, None),
        ("model.filters", -0.24, 5),
    ],
)
def test_value_beyond_the_range_is_one_that_trials_may_have(
    path: str, place: float, expected: float | None
) -> None:
    assert RANGES[path].at(place) == expected
