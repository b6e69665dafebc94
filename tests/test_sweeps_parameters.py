"""What a space asks of a trial, found without Optuna; and grids of it."""

import math
from typing import Any

import optuna
import pytest

import sweeps
from search_spaces.space import SearchSpace, parse_space
from sweeps.parameters import (
    MAX_GRID,
    find_ranges,
    list_grid,
    list_parameters,
    show_parameter,
)

SPACE: dict[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "by_optimizer": {"sgd": 0.5}},
    "beta1": {"low": 0.8, "high": 0.99},
    "momentum": {"low": 0.0, "high": 0.9},
    "dropout": 0.5,
    "model": {"filters": {"low": 10, "high": 50, "step": 10, "int": True}},
}


def test_parameters_are_those_that_optuna_sees() -> None:
    space = sweeps.load_config("relation-cnn").space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen: dict[str, optuna.distributions.BaseDistribution] = {}
    for _ in range(64):
        trial = study.ask()
        space.suggest(trial)
        seen |= trial.distributions
    found, conditional = list_parameters(space)
    assert set(found) == set(seen)
    assert "one_minus_beta1" in conditional
    assert not conditional & {"optimizer", "dropout", "batch_size"}


def test_grid_multiplies_only_what_a_trial_has() -> None:
    space = parse_space(SPACE)
    grid = list_grid(space, 2)
    # adam: 2 rates * 2 betas * 2 filters; sgd: 2 momenta * 2 filters.
    assert len(grid) == 8 + 4
    assert len({tuple(sorted(one.items())) for one in grid}) == 12
    assert {one["model.filters"] for one in grid} == {10, 50}
    for one in grid:
        hparams = space.suggest(optuna.trial.FixedTrial(one))
        assert ("momentum" in one) == (hparams.optimizer == "sgd")


@pytest.mark.parametrize(
    ("spec", "points", "expected"),
    [
        ({"low": 1e-4, "high": 1e-2, "log": True}, 3, [1e-4, 1e-3, 1e-2]),
        ({"low": 1e-4, "high": 1e-2, "log": True}, 1, [1e-3]),
        ({"low": 0.1, "high": 0.3}, 5, [0.1, 0.15, 0.2, 0.25, 0.3]),
        ({"low": 0.1, "high": 0.7, "step": 0.2}, 3, [0.1, 0.5, 0.7]),
        ({"low": 0.3, "high": 0.3}, 4, [0.3]),
        ([0.3, 0.1], 7, [0.3, 0.1]),
        (0.25, 7, [None]),  # fixed: no parameter
    ],
)
def test_a_grid_spreads_its_points_over_the_scale(
    spec: object, points: int, expected: list[float | None]
) -> None:
    grid = list_grid(parse_space({"learning_rate": spec}), points)
    values = [one.get("learning_rate") for one in grid]
    assert len(values) == len(expected)
    for value, wanted in zip(values, expected, strict=True):
        assert value == wanted or math.isclose(value or 0.0, wanted or 0.0, rel_tol=1e-9)


def test_a_grid_is_cut_off_one_beyond_the_most() -> None:
    space = parse_space({name: [i / 200 for i in range(199)] for name in ("dropout", "beta1")})
    assert len(list_grid(space, None)) == MAX_GRID + 1


def test_ranges_are_what_a_grid_needs_points_for() -> None:
    ranges = {"learning_rate", "one_minus_beta1", "model.filters", "momentum"}
    assert set(find_ranges(parse_space(SPACE))) == ranges
    assert find_ranges(SearchSpace()) == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("one_minus_beta1", "beta1"),
        ("one_minus_beta1_adamw", "beta1 (adamw)"),
        ("learning_rate_adadelta", "learning_rate (adadelta)"),
        ("model.filters", "filters"),
        ("weight_decay", "weight_decay"),
    ],
)
def test_a_parameter_is_shown_under_the_name_of_a_sweep_file(name: str, shown: str) -> None:
    assert show_parameter(name) == shown
