"""What a sampler draws of a hyperparameter, and what is known of it afterwards."""

from typing import Any

import optuna
import pytest

from search_spaces.ranges import Range
from search_spaces.space import parse_space

LOG = {"low": 0.001, "high": 0.1, "log": True}
SPACE = {
    "optimizer": ["adam", "sgd", "adadelta"],
    "learning_rate": LOG | {"by_optimizer": {"sgd": {"low": 0.01, "high": 1.0}, "adadelta": 1.0}},
    "beta2": {"low": 0.9, "high": 0.999},
    "dropout": {"low": 0.0, "high": 0.5},
    "batch_size": [50],
    "model": {"filters": {"low": 10, "high": 30, "int": True}, "vectors": "fixed"},
}
RANGES = {
    each.path: each for each in parse_space(SPACE).parameters if isinstance(each.spec, Range)
}


def test_each_range_has_its_place_in_a_sweep_file() -> None:
    assert sorted(RANGES) == [
        "beta2",
        "dropout",
        "learning_rate",
        "learning_rate.by_optimizer.sgd",
        "model.filters",
    ]
    assert RANGES["learning_rate"].others == {"sgd", "adadelta"}
    own = RANGES["learning_rate.by_optimizer.sgd"]
    assert (own.row.name, own.optimizer, own.low, own.high, own.is_log) == (
        *("learning_rate", "sgd", 0.01, 1.0),
        True,
    )
    varying = ("optimizer", "learning_rate", "beta2", "dropout", "model.filters")
    assert sorted(parse_space(SPACE).varying) == sorted(varying)


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
    assert [each for each in rates if RANGES[each].was_drawn(params)] == (
        [] if path is None else [path]
    )


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
    assert RANGES[name].was_drawn(params) == expected


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


def test_steps_of_a_range_are_the_numbers_that_a_person_would_write() -> None:
    space = parse_space({"dropout": {"low": 0.1, "high": 0.7, "step": 0.2}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    assert {space.suggest(study.ask()).dropout for _ in range(40)} == {0.1, 0.3, 0.5, 0.7}
