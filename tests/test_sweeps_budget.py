"""What limits a sweep: the defaults, how much is spent, and the words for it."""

import json
from typing import Any

import pytest

from search_spaces.presets import PRESETS
from sweeps.budget import Budget, read_budget
from sweeps.config.load import load_config
from sweeps.config.settings import SweepConfig

RELATION = "relation-cnn"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (None, 250, None)),
        ({"trials": 7}, (7, None, None)),
        ({"max_minutes": 2.5}, (None, None, 2.5)),
        ({"max_total_epochs": 11, "trials": 7}, (7, 11, None)),
        ({"sampler": {"name": "grid", "points": 1}}, (10, None, None)),
        ({"sampler": {"name": "grid", "points": 1}, "max_minutes": 2.5}, (10, None, 2.5)),
        ({"sampler": {"name": "grid", "points": 1}, "max_total_epochs": 11}, (10, 11, None)),
    ],
)
def test_default_budget_is_epochs_and_only_what_is_given_limits(
    settings: dict[str, Any], expected: tuple[int | None, int | None, float | None]
) -> None:
    config = load_config(RELATION, **settings)
    assert (config.trials, config.max_total_epochs, config.max_minutes) == expected
    again = SweepConfig.from_stored(json.loads(json.dumps(config.stored())))
    assert again == config


def test_each_objective_has_a_budget() -> None:
    for objective in PRESETS:
        assert load_config(objective).max_total_epochs


@pytest.mark.parametrize(
    ("budget", "words", "is_spent", "used"),
    [
        (Budget(epochs=13), "13 epochs in total", False, "11 of 13 epochs, 3 trials"),
        (Budget(epochs=11), "11 epochs in total", True, "11 of 11 epochs, 3 trials"),
        (Budget(trials=3), "3 trials", True, "11 epochs, 3 of 3 trials"),
        (Budget(trials=1), "1 trial", True, "11 epochs, 3 of 1 trial"),
        (Budget(5, 13, 2.5), "13 epochs in total, 5 trials, 2.5 minutes a run", False, None),
        (Budget(minutes=2.0), "2 minutes a run", False, "11 epochs, 3 trials"),
    ],
)
def test_budget_is_told_and_spent(
    budget: Budget, words: str, is_spent: bool, used: str | None
) -> None:
    begun = {"trials": 3, "epochs": 11}
    assert str(budget) == words
    assert budget.is_spent(**begun) is is_spent
    assert used in (None, budget.use(**begun))


def test_study_of_another_program_has_no_budget() -> None:
    assert read_budget({}) == Budget()
    assert not read_budget({}).is_spent(trials=10**6, epochs=10**9)
