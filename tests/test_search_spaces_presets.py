"""The presets: they are valid, and they name each objective and its model's limits."""

import re
from typing import Any

import pytest

from objectives.api import OBJECTIVES
from search_spaces.hparams import OPTIMIZERS
from search_spaces.mistakes import Mistakes
from search_spaces.presets import ARGUMENTS, OWN_SPACE, PRESETS, SWEEP_DEFAULTS
from search_spaces.space import parse_space
from sweeps.config.load import load_config
from sweeps.config.merge import merge_space
from sweeps.config.settings import SweepConfig


def test_each_objective_has_a_preset_and_nothing_else_has() -> None:
    assert set(PRESETS) == set(OBJECTIVES)
    assert set(ARGUMENTS) == set(OBJECTIVES)
    assert set(SWEEP_DEFAULTS) <= set(OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_preset_has_no_mistake(name: str) -> None:
    space = parse_space(PRESETS[name], ARGUMENTS[name])
    assert set(SWEEP_DEFAULTS[name]) <= set(SweepConfig.model_fields)
    assert load_config(name).space == space
    assert {spec.removeprefix("model.") for spec in space.specs if spec.startswith("model.")} == {
        *ARGUMENTS[name]
    }


@pytest.mark.parametrize("optimizer", [None, *OPTIMIZERS])
def test_space_of_own_objectives_goes_with_each_optimizer(optimizer: str | None) -> None:
    given = {} if optimizer is None else {"optimizer": optimizer}
    space = parse_space(merge_space(OWN_SPACE, given))
    assert space.optimizers == ((optimizer,) if optimizer else ("adam", "sgd"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # Nothing but the optimizers' own ranges would be sampled, so they are what is meant.
        ({"optimizer": "sgd"}, {"sgd": (5.0, 9.0)}),
        ({"optimizer": ["sgd", "adadelta"]}, {"sgd": (5.0, 9.0), "adadelta": (5.0, 9.0)}),
        # Adam is meant; the others keep theirs.
        ({"optimizer": ["adam", "sgd"]}, {"sgd": (0.1, 1.0)}),
    ],
)
def test_a_range_that_a_person_gives_is_never_without_use(
    given: dict[str, Any], expected: dict[str, tuple[float, float]]
) -> None:
    preset = {
        "optimizer": ["adam", "sgd", "adadelta"],
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}
        | {
            "by_optimizer": {"sgd": {"low": 0.1, "high": 1.0}, "adadelta": {"low": 0.3, "high": 2}}
        },
    }
    rates = {"learning_rate": {"low": 5.0, "high": 9.0}}
    merged = merge_space(preset, given | rates)["learning_rate"]
    assert (merged["low"], merged["high"], merged["log"]) == (5.0, 9.0, True)
    ranges = {name: (one["low"], one["high"]) for name, one in merged["by_optimizer"].items()}
    assert ranges == expected
    # A range of the person's own for the optimizer stays as it was given.
    own = {
        "optimizer": "sgd",
        "learning_rate": {"low": 5.0, "by_optimizer": {"sgd": {"low": 0.2}}},
    }
    kept = merge_space(preset, own)["learning_rate"]["by_optimizer"]
    assert kept == {"sgd": {"low": 0.2, "high": 1.0}}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"filers": 3}, "unknown key 'filers' in [model]; did you mean 'filters'?"),
        ({"filters": 0}, "model.filters must be >= 1, got 0"),
        ({"filters": [50, "many"]}, "model.filters must be a whole number, got 'many'"),
        ({"filters": {"low": 10, "high": 50}}, "model.filters takes whole numbers; add int"),
        ({"filters": {"low": 0, "high": 50, "int": True}}, "model.filters.low must be >= 1"),
        ({"window": [3, 4]}, "model.window must be odd, got 4"),
        ({"window": {"low": 3, "high": 7, "int": True}}, "model.window must be odd, got 4"),
        ({"vectors": "trainabel"}, "got 'trainabel'; did you mean 'trainable'?"),
    ],
)
def test_a_model_outside_its_limits_is_refused(model: dict[str, Any], expected: str) -> None:
    with pytest.raises(Mistakes, match=re.escape(expected)):
        parse_space({"model": model}, ARGUMENTS["relation-cnn"])


def test_a_range_of_odd_windows_is_accepted() -> None:
    window = {"low": 3, "high": 7, "int": True, "step": 2}
    space = parse_space({"model": {"window": window}}, ARGUMENTS["relation-cnn"])
    assert [one.spread(3) for one in space.parameters] == [[3, 5, 7]]


def test_an_objective_without_limits_accepts_any_model() -> None:
    assert parse_space({"model": {"depth": [3, "deep"]}})["model.depth"] == (3, "deep")
