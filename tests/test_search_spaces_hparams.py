"""What armijo has and has not: hyperparameters of its own, and no learning rate."""

import json
import re
from typing import Any

import optuna
import pytest
from pydantic import ValidationError

from search_spaces.hparams import OPTIMIZERS, RATED, Hparams
from search_spaces.mistakes import Mistakes
from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace, parse_space

#: What a space may say of the other optimizers' steps.
RATES: dict[str, Any] = {
    "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True, "by_optimizer": {"sgd": 0.25}},
    "beta1": {"low": 0.8, "high": 0.99},
    "momentum": {"low": 0.0, "high": 0.95},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    "clip_norm": 1.5,
    "schedule": ["cosine", "step"],
    "step_epochs": [3, 5],
}
OWN: dict[str, Any] = {
    "sufficient_decrease": {"low": 0.01, "high": 0.5, "log": True},
    "shrink": [0.5, 0.7],
}


def draw(space: SearchSpace, count: int = 60) -> list[optuna.Trial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=7))
    return [study.ask() for _ in range(count)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_but_armijo_has_a_learning_rate(optimizer: str) -> None:
    expected = None if optimizer == "armijo" else 1e-3
    assert Hparams(optimizer=optimizer).learning_rate == expected
    assert Hparams(optimizer=optimizer, learning_rate=None).learning_rate == expected
    assert ("learning_rate" in Hparams(optimizer=optimizer).to_params()) == (optimizer in RATED)


def test_armijo_is_last_so_that_rows_of_the_others_keep_their_order() -> None:
    assert (*RATED, "armijo") == OPTIMIZERS


def test_armijo_stores_its_own_hyperparameters_alone() -> None:
    hparams = Hparams(optimizer="armijo", shrink=0.7)
    assert hparams.to_params() == {
        "optimizer": "armijo",
        "sufficient_decrease": 0.1,
        "shrink": 0.7,
        "batch_size": 50,
        "class_weights": "none",
        "label_smoothing": 0.0,
        "model": {},
    }
    assert Hparams(**json.loads(json.dumps(hparams.to_params()))) == hparams


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"learning_rate": 0.1}, "learning_rate belongs to ['adadelta', "),
        ({"weight_decay": 0.1}, "weight_decay belongs to ['adadelta', "),
        ({"clip_norm": 1.0}, "clip_norm belongs to ['adadelta', "),
        ({"schedule": "step"}, "schedule belongs to ['adadelta', "),
        ({"momentum": 0.9}, "momentum belongs to ['rmsprop', 'sgd'], got optimizer 'armijo'"),
        ({"optimizer": "sgd", "shrink": 0.5}, "belongs to ['armijo'], got optimizer 'sgd'"),
        ({"sufficient_decrease": 0.0}, "greater than 0"),
        ({"sufficient_decrease": 1.0}, "less than 1"),
        ({"shrink": 0.0}, "greater than 0"),
        ({"shrink": 0.95}, "less than or equal to 0.9"),  # hundreds of passes a step
    ],
)
def test_what_armijo_does_not_have_is_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(expected)):
        Hparams(**{"optimizer": "armijo"} | values)


def test_what_is_off_is_accepted() -> None:
    off = {"weight_decay": 0.0, "clip_norm": None, "schedule": "constant"}
    assert Hparams(optimizer="armijo", **off) == Hparams(optimizer="armijo")


def test_armijo_trials_are_asked_for_nothing_of_a_rate() -> None:
    space = parse_space({"optimizer": ["adam", "sgd", "armijo"], "dropout": 0.5, **RATES, **OWN})
    asked: dict[str, set[str]] = {}
    for trial in draw(space):
        hparams = space.suggest(trial)
        asked.setdefault(hparams.optimizer, set()).update(trial.params)
        assert space.suggest(optuna.trial.FixedTrial(trial.params)) == hparams
        assert (hparams.learning_rate is None) == (hparams.optimizer == "armijo")
        assert (hparams.clip_norm is None) == (hparams.optimizer == "armijo")
    assert asked["armijo"] == {"optimizer", "sufficient_decrease", "shrink"}
    shared = {"optimizer", "weight_decay", "schedule", "step_epochs"}
    assert asked["adam"] == shared | {"learning_rate", "one_minus_beta1"}
    assert asked["sgd"] == shared | {"momentum"}


def test_description_says_what_armijo_does_not_have() -> None:
    mixed = parse_space({"optimizer": ["adam", "sgd", "armijo"], **RATES, **OWN})
    lines = dict(mixed.describe())
    assert lines["learning_rate"] == "log 0.0003..0.01 (sgd: 0.25), not armijo"
    assert lines["schedule"] == "cosine | step, not armijo"
    assert lines["shrink"] == "0.5 | 0.7, armijo only"
    pair = parse_space({"optimizer": ["sgd", "armijo"], "weight_decay": 0.1})
    assert dict(pair.describe())["weight_decay"] == "0.1, sgd only"
    rates = {**RATES, "learning_rate": 0.1, "clip_norm": 1.0}
    alone = parse_space({"optimizer": "armijo", **rates, **OWN})
    assert [name for name, _ in alone.describe()] == ["optimizer", *OWN]


def test_a_rate_of_armijo_is_a_mistake_of_the_space() -> None:
    table = {"low": 0.1, "high": 1.0, "by_optimizer": {"armijo": 0.5}}
    with pytest.raises(Mistakes, match="armijo has no use: armijo has no learning_rate"):
        parse_space({"optimizer": ["adam", "armijo"], "learning_rate": table})
    with pytest.raises(Mistakes, match=re.escape("shrink.high must be <= 0.9, got 1.0")):
        parse_space({"optimizer": "armijo", "shrink": {"low": 0.1, "high": 1.0}})


@pytest.mark.parametrize("objective", PRESETS)
def test_no_preset_samples_armijo(objective: str) -> None:
    assert "armijo" not in parse_space(PRESETS[objective]).optimizers
