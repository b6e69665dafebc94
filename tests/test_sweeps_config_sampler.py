"""Metrics, samplers and pruners by name, and the keys that each of them has."""

import subprocess
import sys
from typing import Any

import pytest

from objectives.metric_names import METRICS, label_metric
from sweeps.config.changes import describe_changes
from sweeps.config.errors import ConfigError
from sweeps.config.load import load_config
from sweeps.config.settings import SweepConfig

RELATION = "relation-cnn"


def find_lines(*overrides: str, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_config(RELATION, overrides, **options)
    return list(raised.value.lines)


@pytest.mark.parametrize("name", [*METRICS, "f1:part of", "f1:f1:"])
def test_metric_is_taken_and_has_a_label(name: str) -> None:
    config = load_config(RELATION, metric=name)
    assert SweepConfig.from_stored(config.stored()).metric == name
    assert label_metric(name).lower() == {
        "weighted-f1": "weighted f1",
        "balanced-accuracy": "balanced accuracy",
        "mcc": "matthews correlation",
        "f1:part of": "f1 of part of",
        "f1:f1:": "f1 of f1:",
    }.get(name, name)
    changes = describe_changes(load_config(RELATION).stored(), config.stored())
    assert changes == ([] if name == "macro-f1" else [f"metric: macro-f1 -> {name}"])


@pytest.mark.parametrize(
    ("name", "nearest"), [("f1-macro", "macro-f1"), ("Acuracy", "accuracy"), ("MCC", "mcc")]
)
def test_unknown_metric_is_told_the_nearest(name: str, nearest: str) -> None:
    (line,) = find_lines(metric=name)
    assert line.startswith(f"--metric: metric is unknown: {name!r}; did you mean {nearest!r}?")


def test_f1_of_no_class_is_no_metric() -> None:
    (line,) = find_lines("metric='f1:'")
    assert "is unknown: 'f1:'" in line
    assert "f1:CLASS" in line


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sampler.n_ei_candidate=7"], "unknown key 'n_ei_candidate' in [sampler]; did you mean"),
        (["sampler.options=3"], "unknown key 'options' in [sampler]; known: consider"),
        (["sampler.seed=7"], "sampler.seed has no use: the study's seed decides"),
        (["sampler.name=grid", "sampler.point=3"], "did you mean 'points'?"),
        (["sampler.name=qmc", "sampler.sead=3"], "key 'sead' in [sampler]; known: "),
        (
            ["sampler.name=optuna.samplers.NSGAIISampler", "sampler.population=7"],
            "unknown key 'population' in [sampler]; did you mean 'population_size'?",
        ),
        (
            ["sampler.name=optuna.samplers.NSGAISampler"],
            "sampler.name optuna.samplers has no class 'NSGAISampler'; did you mean 'NSGAIISam",
        ),
        (["sampler.name=optuna.sampler.NSGAIISampler"], None),  # not Optuna's: asked by the run
    ],
)
def test_keys_of_a_sampler_are_those_of_its_class(
    overrides: list[str], expected: str | None
) -> None:
    if expected is None:
        load_config(RELATION, overrides)
        return
    (line,) = find_lines(*overrides)
    assert expected in line


@pytest.mark.parametrize(
    ("overrides", "table"),
    [
        (
            ["sampler.n_ei_candidates=48"],
            {"name": "tpe", "n_startup_trials": 10, "n_ei_candidates": 48},
        ),
        (
            ["sampler.name=optuna.samplers.NSGAIISampler", "sampler.population_size=7"],
            {"name": "optuna.samplers.NSGAIISampler", "population_size": 7},
        ),
        (
            ["sampler.name=mypkg.samplers:Mine", "sampler.points=3", "sampler.anything=[1, 2]"],
            {"name": "mypkg.samplers:Mine", "points": 3, "anything": [1, 2]},
        ),
        # Whoever switches to it need not take the keys of another out of the file.
        (["sampler.name=random", "sampler.points=3", "sampler.sigma0=0.5"], {"name": "random"}),
    ],
)
def test_keys_of_a_sampler_stand_flat_in_the_table_and_are_kept(
    overrides: list[str], table: dict[str, Any]
) -> None:
    config = load_config(RELATION, overrides)
    assert config.stored()["sampler"] == table
    assert SweepConfig.from_stored(config.stored()) == config
    assert SweepConfig.model_validate_json(config.model_dump_json()) == config


def test_keys_of_a_sampler_are_checked_without_torch() -> None:
    code = (
        "import sys, sweeps\n"
        "print('optuna' in sys.modules)\n"
        "sweeps.load_config('relation-cnn', ['sampler.name=gp'])\n"
        "print('optuna' in sys.modules)\n"
        "sweeps.load_config('relation-cnn', ['sampler.n_ei_candidates=48'])\n"
        "print('optuna' in sys.modules, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "False"]
