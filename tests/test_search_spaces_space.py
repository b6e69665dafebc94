"""A search space: its mistakes, its conditions, and the way through Optuna and back."""

import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import ValidationError

from search_spaces.hparams import RATED, SCHEDULES, Hparams
from search_spaces.mistakes import Mistakes
from search_spaces.presets import PRESETS
from search_spaces.ranges import Range
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
            {"optimizer": ["adam", "sgd"], "momentum": RATES | {"by_optimizer": {"adam": 0.5}}},
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


GRID: dict[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "by_optimizer": {"sgd": 0.5}},
    "beta1": {"low": 0.8, "high": 0.99},
    "momentum": {"low": 0.0, "high": 0.9},
    "dropout": 0.5,
    "model": {"filters": {"low": 10, "high": 50, "step": 10, "int": True}},
}


def test_grid_multiplies_only_what_a_trial_has() -> None:
    space = parse_space(GRID)
    grid = list(space.list_grid(2))
    # adam: 2 rates * 2 betas * 2 filters; sgd: 2 momenta * 2 filters.
    assert space.count_grid(2) == len(grid) == 8 + 4
    assert len({tuple(sorted(one.items())) for one in grid}) == 12
    assert {one["model.filters"] for one in grid} == {10, 50}
    for one in grid:
        assert Hparams.from_values(one).optimizer == one["optimizer"]
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


@pytest.mark.parametrize("name", ["hid-den", "a b", "'", "class's"])
def test_an_argument_of_a_model_has_a_name_of_python(name: str) -> None:
    with pytest.raises(Mistakes, match="is no name that an argument can have"):
        parse_space({"model": {name: 3}})


@pytest.mark.parametrize("end", [1e300, 2.0**60])
def test_a_range_of_whole_numbers_ends_where_floats_skip_some(end: float) -> None:
    with pytest.raises(Mistakes, match="needs whole numbers up to 9007199254740992"):
        parse_space({"model": {"n": {"low": 1, "high": end, "int": True}}})
