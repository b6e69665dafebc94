"""What a space says of a hyperparameter: fixed values, choices, ranges, and their mistakes."""

from typing import Any

import pytest

from search_spaces.mistakes import Mistakes
from search_spaces.ranges import Range
from search_spaces.space import parse_space


def test_own_range_has_the_scale_of_the_shared_one_unless_told() -> None:
    by_optimizer = {
        "adam": {"low": 1, "high": 2},
        "sgd": {"low": 0.5, "high": 1, "step": 0.25},
        "rmsprop": {"low": 1, "high": 2, "log": False},
    }
    table = {"low": 0.1, "high": 1, "log": True, "by_optimizer": by_optimizer}
    spec = parse_space({"optimizer": list(by_optimizer), "learning_rate": table})["learning_rate"]
    assert isinstance(spec, Range)
    scales = {name: isinstance(own, Range) and own.log for name, own in spec.by_optimizer.items()}
    assert scales == {"adam": True, "sgd": False, "rmsprop": False}


RATES = {"low": 0.1, "high": 1.0}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"dropout": {"low": 0.5, "high": 0.2}}, "dropout is an empty range: low 0.5 is above"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "needs low > 0 for log = true"),
        ({"learning_rate": RATES | {"low": 0.0}}, "learning_rate.low must be > 0.0, got 0.0"),
        ({"learning_rate": RATES | {"low": "a"}}, "learning_rate.low must be a number, got 'a'"),
        ({"learning_rate": {"low": 0.1}}, "learning_rate.high is missing"),
        (
            {"learning_rate": RATES | {"hi": 3}},
            "unknown key 'hi' in [learning_rate]; did you mean",
        ),
        ({"learning_rate": "fast"}, "learning_rate must be a number, got 'fast'"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number, got nan"),
        ({"optimzer": "adam"}, "unknown key 'optimzer'; did you mean 'optimizer'? Known: batch"),
        ({"optimizer": ["sdg"]}, "'armijo', got 'sdg'; did you mean 'sgd'?"),
        ({"optimizer": []}, "optimizer is an empty list"),
        ({"optimizer": RATES}, "optimizer takes a value or a list of choices, not a range"),
        ({"beta1": {"low": 0.9, "high": 1.0}}, "beta1.high must be < 1.0, got 1.0"),
        ({"beta2": 1}, "beta2 must be < 1.0, got 1"),
        ({"beta1": {"low": 0.5, "high": 0.9, "step": 0.1}}, "beta1 is sampled as 1 - beta on a"),
        ({"batch_size": [50, 2.5]}, "batch_size must be a whole number, got 2.5"),
        ({"batch_size": 64.0}, "batch_size must be a whole number, got 64.0"),
        ({"batch_size": True}, "batch_size must be a whole number, got True"),
        ({"batch_size": [0]}, "batch_size must be >= 1, got 0"),
        ({"batch_size": [50, 50]}, "batch_size names a choice twice: 50"),
        ({"batch_size": {"low": 1, "high": 9, "int": True}}, "batch_size takes a value or a list"),
        ({"class_weights": "balance"}, "did you mean 'balanced'?"),
        ({"dropout": [{}]}, "must be a number, a text, true or false, got {}"),
        ({"momentum": 1.0}, "momentum must be < 1.0, got 1.0"),
        ({"optimizer": "adamww"}, "got 'adamww'; did you mean 'adamw'?"),
        ({"weight_decay": -0.1}, "weight_decay must be >= 0.0, got -0.1"),
        ({"weight_decy": 0.1}, "unknown key 'weight_decy'; did you mean 'weight_decay'?"),
        ({"clip_norm": 0}, "clip_norm must be > 0.0, got 0"),
        ({"rho": [0.9, 1.0]}, "rho must be < 1.0, got 1.0"),
        ({"nesterov": 1}, "nesterov must be true or false, got 1"),
        ({"nesterov": RATES}, "nesterov takes a value or a list of choices, not a range"),
        ({"schedule": "cosin"}, "got 'cosin'; did you mean 'cosine'?"),
        ({"schedule": RATES}, "schedule takes a value or a list of choices, not a range"),
        ({"factor": 1.0}, "factor must be < 1.0, got 1.0"),
        ({"plateau_patience": -1}, "plateau_patience must be >= 0, got -1"),
        (
            {"step_epochs": {"low": 2, "high": 9}},
            "step_epochs takes whole numbers; add int = true",
        ),
        ({"warmup_epochs": {"low": 0, "high": 9, "int": True}}, "warmup_epochs.low must be >= 1"),
        ({"label_smoothing": 1.0}, "label_smoothing must be < 1.0, got 1.0"),
        ({"model": {"n": {"low": 1.5, "high": 3, "int": True}}}, "model.n needs whole numbers"),
        ({"model": {"n": RATES | {"step": 0.4}}}, "does not divide 0.1..1; use high = 0.9"),
        ({"model": {"n": RATES | {"step": 0}}}, "model.n.step must be > 0.0, got 0"),
        ({"model": {"n": RATES | {"step": 0.3, "log": True}}}, "step or log = true, not both"),
        ({"model": 3}, "model must be a table, got 3"),
        (
            {"learning_rate": RATES | {"by_optimizer": {"sgd": 1.0}}},
            "learning_rate.by_optimizer.sgd has no use: optimizer is one of adam",
        ),
        (
            {"learning_rate": RATES | {"by_optimizer": {"adm": 1.0}}},
            "unknown key 'adm' in [learning_rate.by_optimizer]; did you mean 'adam'?",
        ),
        (
            {"learning_rate": RATES | {"by_optimizer": {"adam": [1.0]}}},
            "learning_rate.by_optimizer.adam must be a number or a table",
        ),
        (
            {"learning_rate": RATES | {"by_optimizer": {"adam": {"low": -1, "high": 1}}}},
            "learning_rate.by_optimizer.adam.low must be > 0.0, got -1.0",
        ),
        (
            {"learning_rate": RATES | {"by_optimizer": {"adam": RATES | {"by_optimizer": RATES}}}},
            "has a by_optimizer inside by_optimizer",
        ),
        (
            {
                "optimizer": ["adam", "sgd"],
                "dropout": 0.5,
                "momentum": {"low": 0.1, "high": 0.9, "by_optimizer": {"adam": 0.5}},
            },
            "momentum.by_optimizer.adam has no use: adam has no momentum",
        ),
        (
            {"model": {"beta1": RATES | {"by_optimizer": {"sgd": 0.5}}}},
            "model.beta1.by_optimizer.sgd has no use: optimizer is one of adam",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(table: dict[str, Any], expected: str) -> None:
    with pytest.raises(Mistakes) as raised:
        parse_space(table)
    assert expected in str(raised.value)


def test_all_mistakes_are_named_at_once() -> None:
    table = {
        "optimizer": ["adam", "sdg"],
        "learning_rate": {"low": 1.0, "high": 0.1},
        "beta1": {"low": 0.8, "high": 1.5},
        "batch_size": [50, 2.5, 0],
        "dropout": [],
        "dropuot": 0.5,
    }
    with pytest.raises(Mistakes) as raised:
        parse_space(table)
    named = [item.path[0] for item in raised.value.items]
    assert sorted(named) == sorted([*table, "batch_size"])  # two choices are wrong
    assert len(str(raised.value).splitlines()) == 7


@pytest.mark.parametrize("name", ["hid-den", "a b", "'", "class's"])
def test_an_argument_of_a_model_has_a_name_of_python(name: str) -> None:
    with pytest.raises(Mistakes, match="is not a valid name of a Python argument"):
        parse_space({"model": {name: 3}})


@pytest.mark.parametrize("end", [1e300, 2.0**60])
def test_a_range_of_whole_numbers_ends_where_floats_skip_some(end: float) -> None:
    with pytest.raises(Mistakes, match="needs whole numbers up to 9007199254740992"):
        parse_space({"model": {"n": {"low": 1, "high": end, "int": True}}})
