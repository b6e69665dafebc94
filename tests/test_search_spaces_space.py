"""A search space: its mistakes, its conditions, and the way through Optuna and back."""

import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import ValidationError

from search_spaces.hparams import RATED, SCHEDULES, Hparams
from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace, parse_space

#: Each kind of spec, each condition, and each kind of range of an optimizer's own.
EVERYTHING: dict[str, Any] = {
    "optimizer": ["adam", "adamw", "adamax", "nadam", "rmsprop", "adagrad", "adadelta", "sgd"],
    "learning_rate": {
        "low": 3e-4,
        "high": 1e-2,
        "log": True,
        "by_optimizer": {"adadelta": {"low": 0.1, "high": 5.0}, "sgd": 0.25},
    },
    "beta1": {"low": 0.8, "high": 0.99, "by_optimizer": {"adamax": {"low": 0.5, "high": 0.7}}},
    "beta2": [0.99, 0.999],
    "momentum": {"low": 0.0, "high": 0.95},
    "nesterov": [False, True],
    "rho": {"low": 0.8, "high": 0.99},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True, "by_optimizer": {"adam": 0.0}},
    "clip_norm": {"low": 0.5, "high": 5.0},
    "schedule": ["constant", "plateau", "cosine", "step", "warmup"],
    "factor": {"low": 0.1, "high": 0.5},
    "plateau_patience": {"low": 1, "high": 5, "int": True},
    "schedule_epochs": [20, 40],
    "step_epochs": {"low": 2, "high": 10, "int": True, "step": 2},
    "warmup_epochs": 3,
    "dropout": {"low": 0.2, "high": 0.7, "step": 0.1},
    "batch_size": [50, 100],
    "class_weights": ["none", "balanced"],
    "label_smoothing": {"low": 0.0, "high": 0.2, "step": 0.1},
    "model": {
        "filters": {"low": 50, "high": 150, "int": True, "step": 25},
        "units": {"low": 4, "high": 128, "int": True, "log": True},
        "vectors": ["frozen", "trainable"],
        "bias": True,
        "window": 3,
    },
}

BOUNDS_OF_RATE = {
    **dict.fromkeys(("adam", "adamw", "adamax", "nadam", "rmsprop", "adagrad"), (3e-4, 1e-2)),
    "adadelta": (0.1, 5.0),
    "sgd": (0.25, 0.25),
}


def draw(space: SearchSpace, count: int, *, storage: str | None = None) -> list[optuna.Trial]:
    sampler = optuna.samplers.RandomSampler(seed=7)
    study = optuna.create_study(storage=storage, sampler=sampler)
    return [study.ask() for _ in range(count)]


def test_two_hundred_draws_stay_within_bounds_and_conditions() -> None:
    space = parse_space(EVERYTHING)
    seen = set()
    for trial in draw(space, 200):
        hparams = space.suggest(trial)
        seen.add(hparams.optimizer)
        low, high = BOUNDS_OF_RATE[hparams.optimizer]
        assert low <= hparams.learning_rate <= high
        adam_family = ("adam", "adamw", "adamax", "nadam")
        assert (hparams.betas is None) == (hparams.optimizer not in adam_family)
        assert (hparams.momentum is None) == (hparams.optimizer not in ("sgd", "rmsprop"))
        if hparams.beta1 is not None:
            low, high = (0.5, 0.7) if hparams.optimizer == "adamax" else (0.8, 0.99)
            assert low <= hparams.beta1 <= high
            assert hparams.beta2 in (0.99, 0.999)
        assert hparams.momentum is None or 0.0 <= hparams.momentum <= 0.95
        low, high = (0.0, 0.0) if hparams.optimizer == "adam" else (1e-6, 1e-2)
        assert low <= hparams.weight_decay <= high
        assert hparams.dropout is not None
        assert 0.2 <= hparams.dropout <= 0.7
        assert hparams.dropout * 10 == pytest.approx(round(hparams.dropout * 10))
        assert hparams.batch_size in (50, 100)
        assert hparams.model["filters"] in (50, 75, 100, 125, 150)
        assert 4 <= int(hparams.model["units"]) <= 128
        assert isinstance(hparams.model["units"], int)
        assert (hparams.model["bias"], hparams.model["window"]) == (True, 3)
    assert seen == set(BOUNDS_OF_RATE)


@pytest.mark.parametrize("table", [EVERYTHING, PRESETS["relation-cnn"]], ids=["all", "preset"])
def test_hparams_survive_sqlite_and_json(tmp_path: Path, table: dict[str, Any]) -> None:
    space = parse_space(table)
    storage = f"sqlite:///{tmp_path}/study.db"
    suggested = [space.suggest(trial) for trial in draw(space, 11, storage=storage)]
    (name,) = optuna.get_all_study_names(storage)
    stored = optuna.load_study(study_name=name, storage=storage).get_trials()
    for hparams, trial in zip(suggested, stored, strict=True):
        assert space.suggest(optuna.trial.FixedTrial(trial.params)) == hparams
        assert Hparams(**json.loads(json.dumps(hparams.to_params()))) == hparams


def test_optuna_sees_only_what_varies_under_names_of_its_own() -> None:
    space = parse_space(EVERYTHING)
    shared = {"optimizer", "dropout", "batch_size", "class_weights", "clip_norm", "schedule"}
    shared |= {"label_smoothing"}
    shared |= {"model.filters", "model.units", "model.vectors"}
    expected = {
        "adam": shared | {"learning_rate", "one_minus_beta1", "beta2"},  # never decays
        "adamw": shared | {"learning_rate", "one_minus_beta1", "beta2", "weight_decay"},
        "adamax": shared | {"learning_rate", "one_minus_beta1_adamax", "beta2", "weight_decay"},
        "nadam": shared | {"learning_rate", "one_minus_beta1", "beta2", "weight_decay"},
        "rmsprop": shared | {"learning_rate", "momentum", "weight_decay"},
        "adagrad": shared | {"learning_rate", "weight_decay"},
        "adadelta": shared | {"learning_rate_adadelta", "rho", "weight_decay"},
        "sgd": shared | {"momentum", "nesterov", "weight_decay"},  # its rate is fixed
    }
    more = {
        "constant": set(),
        "plateau": {"factor", "plateau_patience"},
        "cosine": {"schedule_epochs"},
        "step": {"factor", "step_epochs"},
        "warmup": set(),  # its epochs are fixed
    }
    seen = set()
    for trial in draw(space, 200):
        hparams = space.suggest(trial)
        seen |= {hparams.optimizer, hparams.schedule}
        assert set(trial.params) == expected[hparams.optimizer] | more[hparams.schedule]
    assert seen == {*RATED, *SCHEDULES}


def test_a_trial_is_asked_in_the_order_of_the_table() -> None:
    names = ("learning_rate", "beta1", "momentum", "dropout", "batch_size", "class_weights")
    some = {name: EVERYTHING[name] for name in names}
    space = parse_space(some | {"optimizer": ["adadelta", "sgd", "adamax"]})
    orders = {space.suggest(trial).optimizer: list(trial.params) for trial in draw(space, 20)}
    shared = ["dropout", "batch_size", "class_weights"]
    assert orders == {
        "adadelta": ["optimizer", "learning_rate_adadelta", *shared],
        "sgd": ["optimizer", "momentum", *shared],
        "adamax": ["optimizer", "learning_rate", *shared, "one_minus_beta1_adamax"],
    }


@pytest.mark.parametrize("optimizer", RATED)
def test_a_trial_stores_what_it_has_and_nothing_else(optimizer: str) -> None:
    always = {"optimizer", "schedule", "learning_rate", "batch_size", "class_weights"}
    always |= {"weight_decay", "label_smoothing", "model"}
    own = {"sgd": {"momentum", "nesterov"}, "rmsprop": {"momentum"}, "adadelta": {"rho"}}
    own |= {"adagrad": set()}
    off = {"weight_decay": None, "schedule": None, "clip_norm": None, "dropout": None}
    hparams = Hparams(optimizer=optimizer, **off)
    assert hparams == Hparams(optimizer=optimizer)
    assert set(hparams.to_params()) == always | own.get(optimizer, {"beta1", "beta2"})


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ({"optimizer": "sgd", "nesterov": True}, {"nesterov": True, "momentum": 0.0}),
        ({"weight_decay": 0.1, "clip_norm": 2.0}, {"weight_decay": 0.1, "clip_norm": 2.0}),
        ({"schedule": "plateau"}, {"schedule": "plateau", "factor": 0.1, "plateau_patience": 10}),
        ({"schedule": "cosine"}, {"schedule": "cosine", "schedule_epochs": 40}),
        ({"schedule": "step"}, {"schedule": "step", "factor": 0.1, "step_epochs": 10}),
        ({"schedule": "warmup"}, {"schedule": "warmup", "warmup_epochs": 5}),
    ],
)
def test_what_is_told_is_stored_with_the_defaults_beside_it(
    values: dict[str, Any], stored: dict[str, Any]
) -> None:
    hparams = Hparams(**values)
    before = Hparams(optimizer=hparams.optimizer).to_params()
    assert hparams.to_params() == before | stored
    assert Hparams(**json.loads(json.dumps(hparams.to_params()))) == hparams
    assert Hparams.from_values(hparams.to_values()) == hparams


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"beta1": 0.9, "optimizer": "sgd"}, "beta1 belongs to"),
        ({"nesterov": True, "optimizer": "rmsprop"}, "nesterov belongs to ['sgd'], got optimizer"),
        ({"rho": 0.9}, "rho belongs to ['adadelta'], got optimizer 'adam'"),
        ({"factor": 0.1}, "factor belongs to ['plateau', 'step'], got schedule 'constant'"),
        ({"schedule": "step", "warmup_epochs": 3}, "belongs to ['warmup'], got schedule 'step'"),
        ({"schedule": ["step"]}, "Input should be 'constant'"),
    ],
)
def test_what_the_trial_does_not_have_is_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(expected)):
        Hparams(**values)


def test_betas_are_sampled_as_a_distance_to_one_on_a_log_scale() -> None:
    space = parse_space({"beta1": {"low": 0.8, "high": 0.99}, "beta2": 0.98})
    (trial,) = draw(space, 1)
    hparams = space.suggest(trial)
    distribution = trial.distributions["one_minus_beta1"]
    assert distribution == optuna.distributions.FloatDistribution(0.01, 0.2, log=True)
    assert (hparams.beta1, hparams.beta2) == (
        pytest.approx(1.0 - trial.params["one_minus_beta1"]),
        0.98,
    )


@pytest.mark.parametrize(("low", "high"), [(0.99, 0.9999), (0.0, 0.9), (0.9, 0.9), (0.3, 0.7)])
def test_betas_at_their_limits_stay_inside(low: float, high: float) -> None:
    space = parse_space({"beta1": {"low": low, "high": high}})
    for end in (low, high):
        trial = optuna.trial.FixedTrial({"one_minus_beta1": float(f"{1 - end:.12g}")})
        beta1 = space.suggest(trial).beta1
        assert beta1 is not None
        assert low <= beta1 <= high
        assert beta1 == pytest.approx(end)


def test_a_beta_of_zero_is_a_beta() -> None:
    assert parse_space({"beta1": 0.0}).suggest(optuna.trial.FixedTrial({})).betas == (0.0, 0.999)


def test_an_empty_space_gives_the_defaults_and_asks_for_nothing() -> None:
    assert SearchSpace().suggest(optuna.trial.FixedTrial({})) == Hparams()


def test_a_space_survives_its_table() -> None:
    space = parse_space(EVERYTHING)
    assert parse_space(json.loads(json.dumps(space.to_table()))) == space


def test_description_is_short_and_names_conditions() -> None:
    assert parse_space(EVERYTHING).describe() == [
        ("optimizer", "adam | adamw | adamax | nadam | rmsprop | adagrad | adadelta | sgd"),
        ("schedule", "constant | plateau | cosine | step | warmup"),
        ("learning_rate", "log 0.0003..0.01 (adadelta: log 0.1..5, sgd: 0.25)"),
        ("momentum", "0..0.95, rmsprop/sgd only"),
        ("dropout", "0.2..0.7 step 0.1"),
        ("batch_size", "50 | 100"),
        ("class_weights", "none | balanced"),
        ("nesterov", "False | True, sgd only"),
        ("rho", "0.8..0.99, adadelta only"),
        ("weight_decay", "log 1e-06..0.01 (adam: 0)"),
        ("clip_norm", "0.5..5"),
        ("label_smoothing", "0..0.2 step 0.1"),
        ("factor", "0.1..0.5, plateau/step only"),
        ("plateau_patience", "1..5 int, plateau only"),
        ("schedule_epochs", "20 | 40, cosine only"),
        ("step_epochs", "2..10 step 2 int, step only"),
        ("warmup_epochs", "3, warmup only"),
        (
            "beta1",
            "1 - beta log 0.8..0.99 (adamax: 1 - beta log 0.5..0.7), adam/adamw/adamax/nadam only",
        ),
        ("beta2", "0.99 | 0.999, adam/adamw/adamax/nadam only"),
        ("model.filters", "50..150 step 25 int"),
        ("model.units", "log 4..128 int"),
        ("model.vectors", "frozen | trainable"),
        ("model.bias", "True"),
        ("model.window", "3"),
    ]
    # What no trial can have is not shown.
    assert parse_space({"optimizer": "sgd", "beta1": 0.9}).describe() == [("optimizer", "sgd")]
    assert parse_space({"schedule": "step", "warmup_epochs": 4}).describe() == [
        ("schedule", "step")
    ]


GRID: dict[str, Any] = {
    "optimizer": ["adam", "sgd", "armijo"],
    "schedule": ["constant", "step"],
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "by_optimizer": {"sgd": 0.5}},
    "beta1": {"low": 0.8, "high": 0.99},
    "momentum": {"low": 0.0, "high": 0.9},
    "dropout": 0.5,
    "model": {"filters": {"low": 10, "high": 50, "step": 10, "int": True}},
}


def test_grid_multiplies_only_what_a_trial_has() -> None:
    space = parse_space(GRID)
    grid = list(space.list_grid(2))
    # adam: 2 schedules * 2 rates * 2 betas * 2 filters; sgd: 2 schedules * 2 momenta * 2 filters.
    assert space.count_grid(2) == len(grid) == 16 + 8 + 2
    assert len({tuple(sorted(one.items())) for one in grid}) == 26
    assert {one["model.filters"] for one in grid} == {10, 50}
    for one in grid:
        assert one.items() <= Hparams.from_values(one).to_values().items()
        assert ("momentum" in one) == (one["optimizer"] == "sgd")
    assert space.first() == Hparams.from_values(grid[0])


@pytest.mark.parametrize(
    ("spec", "points", "expected"),
    [
        ({"low": 1e-4, "high": 1e-2, "log": True}, 3, [1e-4, 1e-3, 1e-2]),
        ({"low": 1e-4, "high": 1e-2, "log": True}, 1, [1e-3]),
        ({"low": 0.1, "high": 0.3}, 5, [0.1, 0.15, 0.2, 0.25, 0.3]),
        ({"low": 0.1, "high": 0.7, "step": 0.2}, 3, [0.1, 0.5, 0.7]),
        ({"low": 0.3, "high": 0.3}, 4, [0.3]),
        ([0.3, 0.1], 7, [0.3, 0.1]),
        (0.25, 7, [0.25]),
    ],
)
def test_a_grid_spreads_its_points_over_the_scale(
    spec: object, points: int, expected: list[float]
) -> None:
    grid = parse_space({"learning_rate": spec}).list_grid(points)
    assert [one["learning_rate"] for one in grid] == pytest.approx(expected)


def test_a_parameter_has_a_name_for_optuna_and_one_for_people() -> None:
    space = parse_space(EVERYTHING)
    labels = {one.name: one.label for one in space.parameters}
    assert labels["one_minus_beta1"] == "beta1"
    assert labels["one_minus_beta1_adamax"] == "beta1 (adamax)"
    assert labels["learning_rate_adadelta"] == "learning_rate (adadelta)"
    assert labels["model.filters"] == "filters"
    assert {one.row.name for one in space.parameters} == set(space.varying)
    assert not {"model.bias", "warmup_epochs"} & set(space.varying)  # fixed


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"optimizer": "adam", "learning_rate": 0.001}, True),
        ({"optimizer": "sgd", "learning_rate": 0.001}, False),  # it has one rate
        ({"optimizer": "sgd", "learning_rate": 0.25}, True),
        ({"optimizer": "rmsprop", "momentum": 0.99}, False),
        ({"optimizer": "adam", "momentum": 0.5}, False),  # it has none
        ({"clip_norm": 2.0}, True),
        ({"batch_size": 75}, False),
        ({"model.window": 3}, True),
        ({"model.window": 5}, False),
        ({"model.other": 5}, False),
        ({"shrink": 0.5, "optimizer": "armijo"}, True),  # its default
        ({"shrink": 0.6, "optimizer": "armijo"}, False),
    ],
)
def test_a_space_can_draw_what_each_of_its_trials_may_have(
    values: dict[str, Any], expected: bool
) -> None:
    space = parse_space(EVERYTHING)
    (*_, name) = [one for one in values if one != "optimizer"]
    fixed = {key: one for key, one in values.items() if key == "optimizer"}
    assert space.pin(fixed).can_draw(name, values[name]) is expected
