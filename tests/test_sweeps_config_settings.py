"""A sweep's settings: what goes first, and every mistake in one line with its place."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search_spaces.presets import PRESETS
from search_spaces.ranges import Range
from search_spaces.space import parse_space
from sweeps.config.changes import describe_changes
from sweeps.config.errors import ConfigError, find_line
from sweeps.config.load import load_config
from sweeps.config.settings import SweepConfig

RELATION = "relation-cnn"


def write(folder: Path, text: str) -> str:
    path = folder / "sweep.toml"
    path.write_text(text)
    return str(path)


def find_lines(target: str, *overrides: str, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_config(target, overrides, **options)
    assert str(raised.value).splitlines() == list(raised.value.lines)
    return list(raised.value.lines)


def test_import_loads_nothing_heavy() -> None:
    heavy = {"torch", "optuna", "pandas", "sqlalchemy", "numpy", "plotly"}
    code = f"import sys, sweeps.config.load; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_objectives_name_is_enough() -> None:
    config = load_config(RELATION)
    assert (config.objective, config.study, config.slots) == (RELATION, RELATION, None)
    assert config.space == parse_space(PRESETS[RELATION])


def test_options_beat_set_beats_file_beats_preset(tmp_path: Path) -> None:
    path = write(tmp_path, f'objective = "{RELATION}"\ntrials = 1\npatience = 20\nseed = 1\n')
    config = load_config(path, ["trials=2", "seed=2"], trials=3, device=None)
    assert (config.trials, config.seed, config.patience) == (3, 2, 20)
    assert config.max_epochs == load_config(RELATION).max_epochs
    assert config.device == "auto"  # None is not given


def test_space_merges_over_the_preset_by_hyperparameter(tmp_path: Path) -> None:
    text = f"""
        objective = "{RELATION}"
        [space]
        learning_rate = {{ low = 1e-5, by_optimizer.sgd = 0.5 }}
        dropout = [0.3, 0.5]
        beta1 = 0.9
        [space.model]
        filters = {{ low = 50, high = 200, int = true }}
    """
    space = load_config(write(tmp_path, text), ["space.learning_rate.high=0.5"]).space
    preset = load_config(RELATION).space
    rate = space["learning_rate"]
    assert isinstance(rate, Range)
    assert (rate.low, rate.high, rate.log) == (1e-5, 0.5, True)
    assert rate.by_optimizer["sgd"] == 0.5
    assert isinstance(rate.by_optimizer["adadelta"], Range)
    assert space["dropout"] == (0.3, 0.5)
    assert space["beta1"] == 0.9
    assert space["momentum"] == preset["momentum"]
    assert space["model.filters"] == Range(low=50, high=200, is_int=True)
    assert space["model.window"] == preset["model.window"]


def test_ranges_of_optimizers_left_out_are_dropped_from_the_preset() -> None:
    space = load_config(RELATION, ["space.optimizer=['adam', 'sgd']"]).space
    rate = space["learning_rate"]
    assert isinstance(rate, Range)
    assert set(rate.by_optimizer) == {"sgd"}
    # In a person's own words the same is a mistake.
    lines = find_lines(
        RELATION, "space.optimizer=adam", "space.learning_rate.by_optimizer.sgd.low=0.1"
    )
    assert "has no use: optimizer is one of adam" in lines[0]


def test_a_shorter_patience_shortens_the_presets_prune_patience() -> None:
    config = load_config(RELATION, patience=1)
    assert (config.patience, config.prune_patience) == (1, 1)
    assert find_lines(RELATION, patience=2, prune_patience=3) == [
        "--prune-patience: prune_patience must be <= patience, which is 2, got 3"
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("space.dropout=1e-1", 0.1),
        ("space.dropout = 0.25", 0.25),
        ("space.dropout=[0.1, 0.2]", (0.1, 0.2)),
        ("space.dropout={low = 0.1, high = 0.6}", Range(low=0.1, high=0.6)),
        ("space.optimizer=sgd", "sgd"),  # a bare text
        ("space.optimizer='sgd'", "sgd"),
        ("space.optimizer=adam,sgd", ("adam", "sgd")),
        ("space.batch_size=32, 64", (32, 64)),
        ("space.model.vectors='frozen',trainable", ("frozen", "trainable")),
        ("study=a=b", None),  # the first equals sign divides, and a study has none
    ],
)
def test_an_override_is_toml_or_else_a_text(override: str, expected: object) -> None:
    if expected is None:
        assert "got 'a=b'" in find_lines(RELATION, override)[0]
        return
    space = load_config(RELATION, [override]).space
    assert space[override.split("=")[0].strip().removeprefix("space.")] == expected


def test_sampler_and_pruner_can_be_named_as_options(tmp_path: Path) -> None:
    path = write(tmp_path, f'objective = "{RELATION}"\n[pruner]\nn_warmup_epochs = 7\n')
    config = load_config(path, sampler="random", pruner="percentile")
    assert config.sampler.name == "random"
    assert (config.pruner.name, config.pruner.percentile) == ("percentile", 25.0)
    assert config.pruner.n_warmup_epochs == 7


def test_data_is_relative_to_the_sweep_file_and_else_to_the_folder(tmp_path: Path) -> None:
    path = write(tmp_path, f'objective = "{RELATION}"\ndata = "my/data.csv"\n')
    assert load_config(path).data == tmp_path / "my" / "data.csv"
    assert load_config(path, ["data=other.csv"]).data == Path("other.csv")
    assert load_config(path, data="/abs.csv").data == Path("/abs.csv")


def test_all_mistakes_are_named_at_once_with_their_lines(tmp_path: Path) -> None:
    text = f"""\
objective = "{RELATION}"
patience = 0
trials = "six"
patiense = 3
[space]
optimzer = "adam"
dropout = {{ low = 0.9, high = 0.2 }}
batch_size = [50, 2.5]
learning_rate.by_optimizer.sgd = -1
[space.model]
filers = 3
filters = "many"
[sampler]
name = "tpee"
[pruner]
percentile = 25
"""
    path = write(tmp_path, text)
    lines = find_lines(path, "device=gpu", "foo", "space.beta1.low=x", seed=-1)
    expected = [
        "--set foo: expected key=value, such as space.dropout=0.5",
        f"{path}:2: patience must be >= 1, got 0",
        f"{path}:3: trials must be a whole number, got 'six'",
        f"{path}:4: unknown key 'patiense'; did you mean 'patience'? Known: audit, ch",
        f"{path}:6: unknown key 'optimzer' in [space]; did you mean 'optimizer'? Known: batch_",
        f"{path}:7: space.dropout is an empty range: low 0.9 is above high 0.2",
        f"{path}:8: space.batch_size must be a whole number, got 2.5",
        f"{path}:9: space.learning_rate.by_optimizer.sgd must be > 0.0, got -1.0",
        f"{path}:11: unknown key 'filers' in [space.model]; did you mean 'filters'? Known: fil",
        f"{path}:12: space.model.filters must be a whole number, got 'many'",
        f"{path}:14: sampler.name is unknown: 'tpee'; did you mean 'tpe'? Known: cmaes, gp, grid",
        f'{path}:16: pruner.percentile belongs to pruner.name = "percentile", not to "halving"',
        "--set device=gpu: device must be one of 'auto', 'cpu' or 'cuda', got 'gpu'",
        "--set space.beta1.low=x: space.beta1.low must be a number, got 'x'",
        "--seed: seed must be >= 0, got -1",
    ]
    assert len(lines) == len(expected)
    for start in expected:
        assert [line for line in lines if line.startswith(start)], (start, lines)


def test_an_unknown_objective_names_the_nearest() -> None:
    (line,) = find_lines("relation-cn")
    assert line.startswith(
        "relation-cn: no such objective, nor a sweep file (.toml) or a file of yours (.py); did"
    )
    assert "'relation-cnn'" in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("objective = \n", "is not valid TOML: Invalid value (at line 1, column 13)"),
        ('a = 1\nb = "\n', "(at line 2, column "),
        ("", ": objective is missing; known: relation-cnn"),
        ('objective = "relation-cmn"', ":1: objective is unknown: 'relation-cmn'; did you mean"),
        ("objective = 3", ":1: objective must be a text, got 3"),
        # No preset, so that half a range is no mistake; an unknown key still is.
        ('objective = "x"\n[space]\ndropout = {low = 0}\n', ":1: objective is unknown: 'x'"),
    ],
)
def test_a_file_that_means_nothing_says_why(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    (line,) = find_lines(path)
    assert line.startswith(path)
    assert expected in line


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    text = f"\ufeffobjective = '{RELATION}'\npatience = 0\n"
    path = write(tmp_path, text)
    assert find_lines(path) == [f"{path}:2: patience must be >= 1, got 0"]


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    missing = str(tmp_path / "sweeep.toml")
    assert find_lines(missing, "x") == [
        f"{missing}: cannot be read: No such file or directory",
        "--set x: expected key=value, such as space.dropout=0.5",
    ]
    (tmp_path / "latin.toml").write_bytes(b"objective = '\xe9'")
    assert "is not UTF-8 text (byte 13)" in find_lines(str(tmp_path / "latin.toml"))[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"study": "a b"}, "--study: study must be 1 to 128 letters, digits"),
        ({"study": "x" * 129}, "--study: study must be 1 to 128 letters, digits"),
        ({"study": ""}, "--study: study must be 1 to 128 letters, digits"),
        ({"study": "-x"}, "'.', '_' or '-', the first one no '-', got '-x'"),
        ({"study": "a\n"}, "--study: study must be 1 to 128 letters, digits"),
        ({"max_minutes": 0}, "--max-minutes: max_minutes must be > 0.0, got 0"),
        ({"min_delta": -0.1}, "--min-delta: min_delta must be >= 0.0, got -0.1"),
        ({"workers": 0}, "--workers: workers must be >= 1, got 0"),
        ({"slots": 2.5}, "--slots: slots must be a whole number, got 2.5"),
        ({"seed": 2**63}, "--seed: seed must be < 9223372036854775808, got 9223"),
        ({"data": "\udcfcbung.csv"}, "--data: data must have a name in UTF-8, got '"),
        ({"storage": "\udcfc.db"}, "--storage: storage must have a name in UTF-8, got '"),
        ({"data": 3}, "--data: data must be a path, got 3"),
        ({"sampler": 3}, "--sampler: sampler must be a table, got 3"),
        ({"pruner": {"percentle": 3}}, "unknown key 'percentle' in [pruner]; did you mean"),
        ({"pruner": {"name": "percentile", "percentile": 0}}, "pruner.percentile must be > 0.0"),
        ({"space": 3}, "--space: space must be a table, got 3"),
        ({"lanes": 3}, "--lanes: unknown key 'lanes'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], expected: str) -> None:
    (line,) = find_lines(RELATION, **options)
    assert expected in line


def test_a_line_is_found_in_each_way_to_write_a_table() -> None:
    text = '[space]\nlearning_rate.low = 1\n[ space."model" ] # comment\nn = {low = 1}\n'
    assert find_line(text, ("space", "learning_rate", "low")) == 2
    assert find_line(text, ("space", "learning_rate", "high")) == 1
    assert find_line(text, ("space", "model", "n", "low")) == 4
    assert find_line(text, ("space", "model", "m")) == 3
    assert find_line(text, ("trials",)) is None


def test_config_travels_to_a_worker_unchanged() -> None:
    config = load_config(RELATION, ["space.optimizer=['adam']"], data="x.csv", pruner="percentile")
    assert pickle.loads(pickle.dumps(config)) == config
    assert SweepConfig.model_validate(config.model_dump()) == config
    assert SweepConfig.model_validate_json(config.model_dump_json()) == config


def test_what_decides_no_result_is_no_change() -> None:
    settings = load_config(RELATION).stored()
    assert json.loads(json.dumps(settings)) == settings
    same = load_config(
        RELATION,
        study="other",
        trials=7,
        max_minutes=5,
        workers=2,
        slots=3,
        device="cpu",
        storage="sqlite:///x.db",
    )
    assert describe_changes(settings, same.stored()) == []


def test_what_has_no_effect_is_no_change() -> None:
    one = load_config(RELATION, ["sampler.n_startup_trials=3"], sampler="random", pruner="none")
    two = load_config(RELATION, ["pruner.n_warmup_epochs=9"], sampler="random", pruner="none")
    assert describe_changes(one.stored(), two.stored()) == []


def test_changes_are_named_in_words() -> None:
    before = [
        "patience=6",
        "prune_patience=3",
        "space.dropout={low = 0.2, high = 0.7}",
        "space.optimizer=['adam', 'adadelta', 'sgd']",
        "space.learning_rate={low = 0.0003, high = 0.01, log = true}",
        "space.learning_rate.by_optimizer.adadelta={low = 0.1, high = 5}",
        "space.learning_rate.by_optimizer.sgd={low = 0.03, high = 1}",
        "space.model.filters=150",
    ]
    after = [
        *before,
        "patience=8",
        "space.dropout=0.5",
        "space.optimizer=['adam', 'sgd']",
        "space.learning_rate.low=1e-5",
        "space.model.filters=[100, 150]",
        "pruner.name=none",
    ]
    # The preset's own range of adadelta would be dropped, the person's would be a mistake.
    after.remove("space.learning_rate.by_optimizer.adadelta={low = 0.1, high = 5}")
    old = json.loads(json.dumps(load_config(RELATION, before, data="/a.csv").stored()))
    assert describe_changes(old, load_config(RELATION, after).stored()) == [
        "patience: 6 -> 8",
        "space.optimizer: adam | adadelta | sgd -> adam | sgd",
        "space.learning_rate: log 0.0003..0.01 (adadelta: log 0.1..5, sgd: log 0.03..1)"
        " -> log 1e-05..0.01 (sgd: log 0.03..1)",
        "space.dropout: 0.2..0.7 -> 0.5",
        "space.model.filters: 150 -> 100 | 150",
        "pruner.name: halving -> none",
        "pruner.min_epochs: 1 -> not set",
        "pruner.reduction_factor: 4 -> not set",
        "data: /a.csv -> what ships with the objective",
    ]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["pruner.name=halving", "pruner.n_warmup_epochs=3"],
            'pruner.name = "median" or "percentile"',
        ),
        (
            ["pruner.name=median", "pruner.reduction_factor=3"],
            'belongs to pruner.name = "halving"',
        ),
        (["pruner.reduction_facto=3"], "did you mean 'reduction_factor'?"),
        (["pruner.reduction_factor=1"], "must be >= 2, got 1"),
        (["sampler.points=3"], 'belongs to sampler.name = "grid", not to "tpe"'),
        (["sampler.name=qmc", "sampler.n_startup_trials=3"], 'to sampler.name = "tpe" or "gp"'),
        (["sampler.name=grid"], "points is missing: a grid needs it for the ranges of"),
        (
            ["sampler.name=grid"],
            "learning_rate, learning_rate (adadelta), learning_rate (sgd), mom",
        ),
        (["sampler.name=grid", "sampler.points=40"], "more than 10,000 trials with 40 points"),
        (["sampler.name=grid", "sampler.points=1", "trials=999"], "must be <= "),
        (["study=a", "warm_start=a"], "warm_start must be another study"),
        (["try=[{dropout=0.5}, {dropout=2}]"], "try.2.dropout must be < 1.0, got 2"),
        (["try=[{drop=0.5}]"], "unknown key 'drop' in [try.1]; did you mean 'dropout'?"),
    ],
)
def test_choices_of_sampler_pruner_and_first_trials_are_checked(
    overrides: list[str], expected: str
) -> None:
    (line,) = find_lines(RELATION, *overrides)
    assert expected in line


def test_a_grid_has_as_many_trials_as_points_unless_told() -> None:
    overrides = ["sampler.name=grid", "sampler.points=1"]
    whole = load_config(RELATION, overrides)
    assert whole.trials >= 10  # five optimizers, two batch sizes
    assert load_config(RELATION, overrides, trials=3).trials == 3
    tries = {"try": [{"dropout": 0.5}, {"dropout": 0.5}, {"model": {"filters": 50}}]}
    config = load_config(RELATION, overrides, **tries)
    assert config.tries == ({"dropout": 0.5}, {"model.filters": 50})
    assert config.trials == whole.trials + 2
    assert SweepConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("key", ["space.learning_rate.by_optimizer", "space.model", "sampler"])
def test_empty_table_is_refused_since_it_would_change_nothing(key: str) -> None:
    (line,) = find_lines(RELATION, f"{key}={{}}")
    assert line.startswith(f"--set {key}={{}}: an empty table changes nothing")
    assert f"set the keys of {key} that are to change" in line
