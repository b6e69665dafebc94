"""Trials that a person names: what is refused, what is applied, what Optuna is told."""

from typing import Any

import optuna
import pytest

import sweeps
from search_spaces.hparams import Hparams, flatten
from search_spaces.presets import ARGUMENTS
from sweeps.config.errors import ConfigError
from sweeps.config.named_trials import drop_foreign_values, find_trial_mistakes
from sweeps.config.overrides import parse_trial
from sweeps.running.sampling import read_sampled

RELATION = "relation-cnn"
SPACE = sweeps.load_config(RELATION).space


def draw(values: dict[str, Any], seed: int) -> tuple[Hparams, dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    return SPACE.pin(values).suggest(trial), trial.params


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "learning_rate=0.001,optimizer=adam",
            {"learning_rate": 0.001, "optimizer": "adam"},
        ),
        (" beta1 = 9e-1 , model.filters=100", {"beta1": 0.9, "model.filters": 100}),
        ("optimizer='sgd'", {"optimizer": "sgd"}),
        (
            """model.act="a,b=c", model.b = 'x,"y' ,dropout=0.5""",
            {"model.act": "a,b=c", "model.b": 'x,"y', "dropout": 0.5},
        ),
        (r'model.act="\",",rho=0.7', {"model.act": '",', "rho": 0.7}),
        ("model.act=it's,model.b=it's", {"model.act": "it's", "model.b": "it's"}),
        ('model.act=""', {"model.act": ""}),
    ],
)
def test_a_trial_of_the_command_line_is_read(text: str, expected: dict[str, Any]) -> None:
    assert parse_trial(text) == expected


@pytest.mark.parametrize("text", ["", "adam", "dropout=", "=3", "dropout=0.1,", "a=1,a=2"])
def test_a_trial_that_assigns_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected name=value|twice"):
        parse_trial(text)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": -1.0}, "must be > 0"),
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'?"),
        ({"optimizer": "adamw2"}, "must be one of"),
        ({"dropout": [0.1, 0.2]}, "must be one value"),
        ({"model.window": 4}, "must be odd"),
        ({"model.filers": 4}, "did you mean 'filters'?"),
        (
            {"momentum": 0.9},
            "has no use in some trials that this can become; give optimizer too",
        ),  # only if sgd is sampled
        ({"momentum": 0.9, "optimizer": "adam"}, "has no use: adam takes no momentum"),
        ({"learning_rate": 0.1, "optimizer": "armijo"}, "armijo takes no learning rate"),
        ({"factor": 0.5}, "has no use: schedule constant takes no factor"),
        ({"schedule": "cosine", "optimizer": "armijo"}, "armijo takes no schedule"),
        ({"shrink": 0.95}, "must be <= 0.9"),
    ],
)
def test_what_no_trial_can_have_is_a_mistake(values: dict[str, Any], words: str) -> None:
    (mistake,) = find_trial_mistakes(values, SPACE, ARGUMENTS[RELATION])
    assert words in mistake.text
    assert any(name.endswith(mistake.path[-1]) for name in values)


def test_values_are_applied_exactly_and_the_rest_is_sampled() -> None:
    values = {"optimizer": "adam", "learning_rate": 7.5, "beta1": 0.1, "model.filters": 77}
    assert find_trial_mistakes(values, SPACE, ARGUMENTS[RELATION]) == []
    seen = set()
    for seed in range(5):
        hparams, params = draw(values, seed)
        assert (hparams.optimizer, hparams.learning_rate) == ("adam", 7.5)
        assert hparams.beta1 == 0.1
        assert hparams.model["filters"] == 77
        assert set(params) == {"one_minus_beta2", "dropout", "batch_size"}
        seen.add(hparams.dropout)
    assert len(seen) == 5


def test_optuna_is_told_in_its_own_terms() -> None:
    values = {
        "optimizer": "sgd",
        "learning_rate": 0.7,
        "batch_size": 75,  # no choice of the space
        "momentum": 0.99,  # outside the range
        "model.filters": 77,  # fixed in the space
    }
    told = read_sampled(SPACE, draw(values, 0)[0]).params
    fixed = {name: told.get(name) for name in (*values, "learning_rate_sgd") if name in told}
    assert fixed == {"optimizer": "sgd", "learning_rate_sgd": 0.7, "momentum": 0.99}
    betas = {"optimizer": "adam", "beta1": 0.9, "beta2": 0.999}
    told = read_sampled(SPACE, draw(betas, 0)[0]).params
    names = ("optimizer", "beta1", "beta2", "one_minus_beta1", "one_minus_beta2")
    fixed = {name: told[name] for name in names if name in told}
    assert fixed == {"optimizer": "adam", "one_minus_beta1": 0.1, "one_minus_beta2": 0.001}


@pytest.mark.parametrize(
    ("params", "dropped"),
    [
        ({"optimizer": "adam", "learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999}, []),
        ({"optimizer": "sgd", "learning_rate": 0.001}, ["learning_rate"]),
        ({"optimizer": "adam", "beta1": 0.5, "beta2": 0.999}, ["beta1"]),
        ({"dropout": 0.5, "model": {"filters": 100, "hidden": 3}}, ["model.hidden"]),
        ({"dropout": 0.1, "model": {"filters": 50}}, ["dropout", "model.filters"]),
        ({"batch_size": 75, "class_weights": "none"}, ["batch_size"]),
        ({"class_weights": "balanced"}, ["class_weights"]),
    ],
)
def test_what_a_space_cannot_take_is_dropped(params: dict[str, Any], dropped: list[str]) -> None:
    values = flatten(params)
    kept, left_out = drop_foreign_values(values, SPACE)
    assert sorted(left_out) == dropped
    assert kept == {name: one for name, one in values.items() if name not in dropped}


def test_an_optimizer_that_is_dropped_takes_its_rate_along() -> None:
    space = sweeps.load_config(RELATION, ["space.optimizer=['adam', 'sgd']"]).space
    values = {"optimizer": "rmsprop", "learning_rate": 0.005, "dropout": 0.5}
    # 0.005 would do for adam, not for sgd, and the trial may become either.
    kept, dropped = drop_foreign_values(values, space)
    assert (kept, dropped) == ({"dropout": 0.5}, ["optimizer", "learning_rate"])


@pytest.mark.parametrize("optimizer", ["'armijo'", "['armijo']"])
def test_a_learning_rate_that_no_optimizer_takes_is_refused(optimizer: str) -> None:
    overrides = [f"space.optimizer={optimizer}", "space.learning_rate=0.1"]
    words = "--set space.learning_rate=0.1: .*has no use: armijo takes no learning rate"
    with pytest.raises(ConfigError, match=words):
        sweeps.load_config(RELATION, overrides)


def test_a_learning_rate_of_the_preset_or_of_a_named_trial_is_not_refused() -> None:
    assert (
        sweeps.load_config(RELATION, ["space.optimizer=armijo"]).space.get("learning_rate")
        is not None
    )
    overrides = ["space.optimizer=armijo", "space.learning_rate=0.1"]
    sweeps.load_config(RELATION, [*overrides, "try=[{optimizer = 'adam'}]"])
    sweeps.load_config(RELATION, ["space.optimizer=['adam', 'armijo']", overrides[1]])


def test_armijo_trial_is_named_without_a_rate_and_travels_to_another_study() -> None:
    hparams, params = draw({"optimizer": "armijo", "shrink": 0.8}, 3)
    assert (hparams.learning_rate, hparams.shrink) == (None, 0.8)
    assert set(params) == {"dropout", "batch_size"}
    values = hparams.to_values()
    mixed = sweeps.load_config(RELATION, ["space.optimizer=['adam','armijo']"]).space
    kept, dropped = drop_foreign_values(values, mixed)
    # Its shrink is not the default, and the space does not sample it.
    assert (kept["optimizer"], dropped) == ("armijo", ["shrink"])
    _, dropped = drop_foreign_values(values, SPACE)
    assert sorted(dropped) == ["optimizer", "shrink", "sufficient_decrease"]
