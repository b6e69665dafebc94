"""A study's settings are those of the next one, changed; commands for it are tried here."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sweeps
from storage.queries import UnknownStudyError
from sweeps.config.changes import describe_changes
from sweeps.config.commands import carry_on_command, name_next, next_command
from sweeps.config.errors import ConfigError
from sweeps.config.settings import SweepConfig
from sweeps.running.sweep import SweepEnd

Call = Callable[..., int]
Write = Callable[..., None]


def store(write_study: Write, *overrides: str, name: str = "edge", **options: Any) -> SweepConfig:
    """Write a study with these settings and one trial; return them."""
    config = sweeps.load_config("relation-cnn", overrides, study=name, **options)
    write_study(name, [[0.5, 0.6]], config=json.loads(json.dumps(config.stored())))
    return config


def test_settings_are_those_of_the_study_and_the_name_is_the_next_free_one(
    write_study: Write,
) -> None:
    tries = [{"optimizer": "sgd", "learning_rate": 0.7, "model": {"filters": 50}}]
    config = store(
        write_study,
        "space.optimizer=['adam', 'sgd']",
        "sampler.name=random",
        "pruner.name=none",
        "max_epochs=17",
        data="mine.csv",
        metric="f1:part of",
        audit=0.25,
        trials=31,
        seed=11,
        workers=3,
        **{"try": tries},
    )
    same = {"study": "edge-2", "data": Path("mine.csv").resolve()}
    assert sweeps.load_like("edge") == config.model_copy(update=same)
    write_study("edge-2", [])
    assert sweeps.load_like("edge").study == "edge-3"
    assert sweeps.load_like("edge", study="mine", seed=13).seed == 13


def test_stored_settings_survive_the_way_through_json() -> None:
    config = sweeps.load_config(
        "relation-cnn",
        ["space.schedule=['step', 'cosine']", "sampler.name=grid", "sampler.points=1"],
        max_minutes=7,
        **{"try": [{"optimizer": "adam", "beta1": 0.5}]},
    )
    stored = json.loads(json.dumps(config.stored()))
    assert SweepConfig.from_stored(stored) == config
    assert describe_changes(stored, config.stored()) == []


def test_database_and_password_are_not_stored() -> None:
    config = sweeps.load_config("relation-cnn", storage="postgresql://u:secret@h/d")
    assert "secret" not in json.dumps(config.stored())


def test_study_that_is_carried_on_keeps_all_but_its_limit_of_minutes(write_study: Write) -> None:
    config = store(write_study, "warm_start=other", max_minutes=7, trials=31)
    assert sweeps.load_like("edge", study="edge") == config.model_copy(
        update={"max_minutes": None}
    )
    # The trials of the other study's are named by then, and it may have changed or be gone.
    assert sweeps.load_like("edge").warm_start is None


def test_changes_are_laid_over_the_study_as_over_a_preset(write_study: Write) -> None:
    store(write_study, "space.learning_rate.high=0.3", "patience=9", "prune_patience=8")
    config = sweeps.load_like(
        "edge",
        ["space.optimizer=['adam', 'sgd']", "space.learning_rate.low=1e-5", "patience=7"],
        sampler="random",
        pruner="percentile",
    )
    rate = config.space.to_table()["learning_rate"]
    assert (rate["low"], rate["high"], [*rate["by_optimizer"]]) == (1e-5, 0.3, ["sgd"])
    assert (config.patience, config.prune_patience) == (7, 7)
    assert (config.sampler.name, config.pruner.percentile) == ("random", 25.0)
    assert config.space["beta1"] == sweeps.load_config("relation-cnn").space["beta1"]


def test_length_of_cosine_follows_other_epochs_unless_told(write_study: Write) -> None:
    cosine: dict[str, Any] = {"try": [{"schedule": "cosine", "rho": 0.7, "optimizer": "adadelta"}]}
    store(write_study, "space.schedule=cosine", "max_epochs=17", name="a")
    store(write_study, "max_epochs=17", name="b", **cosine)
    store(write_study, "space.schedule=cosine", "space.schedule_epochs=5", name="c")
    assert sweeps.load_like("a", ["max_epochs=23"]).space["schedule_epochs"] == 23
    assert sweeps.load_like("b", ["max_epochs=23"]).tries[0]["schedule_epochs"] == 23
    assert sweeps.load_like("c", ["max_epochs=23"]).space["schedule_epochs"] == 5


def test_named_trial_without_a_place_in_the_changed_space_is_left_out(
    write_study: Write,
) -> None:
    tries = [{"optimizer": "adam", "beta1": 0.7}, {"beta2": 0.97}, {"dropout": 0.3}]
    store(write_study, "space.optimizer=adam", **{"try": tries})
    changed = ["space.optimizer=sgd"]
    assert sweeps.load_like("edge", changed).tries == (tries[0], tries[2])
    with pytest.raises(ConfigError, match=r"--try: try.1.beta2 has no use: sgd takes no beta2"):
        sweeps.load_like("edge", changed, **{"try": [tries[1]]})


def test_study_without_another_limit_keeps_its_minutes(write_study: Write) -> None:
    store(write_study, max_minutes=7)
    config = sweeps.load_like("edge")
    assert (config.trials, config.max_total_epochs, config.max_minutes) == (None, None, 7)
    config = sweeps.load_like("edge", trials=9)
    assert (config.trials, config.max_total_epochs, config.max_minutes) == (9, None, None)


def test_whole_grid_stays_whole_and_part_of_one_keeps_its_target(write_study: Write) -> None:
    grid = ("sampler.name=grid", "sampler.points=1")
    whole = store(write_study, *grid, name="whole")
    store(write_study, *grid, name="part", trials=3)
    more = ["space.dropout=[0.3, 0.5, 0.7]"]
    assert sweeps.load_like("whole", more).trials == 3 * whole.trials
    assert sweeps.load_like("part", more).trials == 3


def test_mistakes_are_all_told_with_their_options(write_study: Write) -> None:
    store(write_study)
    with pytest.raises(ConfigError) as raised:
        sweeps.load_like("edge", ["patiense=3", "space.model.filers=7", "metric=f1-macro"])
    assert sorted(line.split(" Known")[0] for line in raised.value.lines) == [
        "--set metric=f1-macro: metric is unknown: 'f1-macro'; did you mean 'macro-f1'?",
        "--set patiense=3: unknown key 'patiense'; did you mean 'patience'?",
        "--set space.model.filers=7: unknown key 'filers' in [space.model]; did you mean "
        "'filters'?",
    ]
    with pytest.raises(UnknownStudyError, match="did you mean 'edge'"):
        sweeps.load_like("egde")
    write_study("foreign", [])
    with pytest.raises(ConfigError, match="no settings of a sweep"):
        sweeps.load_like("foreign")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--like", "edge", "--trials", "37", "--metric", "mcc"), ("edge-2", 37, "mcc", 0.5)),
        (("--like", "edge", "--study", "edge"), ("edge", 31, "macro-f1", 0.5)),
        (("--like", "edge", "--set", "space.dropout=0.7"), ("edge-2", 31, "macro-f1", 0.7)),
    ],
)
def test_command_takes_a_study_in_place_of_a_file(
    args: tuple[str, ...],
    expected: tuple[object, ...],
    call: Call,
    write_study: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(write_study, "space.dropout=0.5", trials=31)
    seen: list[SweepConfig] = []

    def run(config: SweepConfig, **_: object) -> SweepEnd:
        seen.append(config)
        return SweepEnd(config.study, "", "done", None, 0)

    monkeypatch.setattr(sweeps, "run", run)
    # A study that nothing was run in has no score.
    assert call("run", *args, "--quiet") == (0 if "--study" in args else 1)
    (config,) = seen
    assert (config.study, config.trials, config.metric, config.space["dropout"]) == expected


def test_command_takes_an_objective_or_a_study(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "relation-cnn", "--like", "edge") == 2
    assert capsys.readouterr().err == "give OBJECTIVE_OR_FILE or --like STUDY, not both\n"


def test_command_for_all_advice_is_taken_with_the_last_word_of_each_key(
    write_study: Write,
) -> None:
    store(write_study, "space.beta1.low=0.6", trials=7)
    options = [
        "--set space.beta1.high=0.995",
        "--set space.beta1=0.83",
        '--set \'space.optimizer=["adam", "sgd"]\'',
        "--set 'space.optimizer=[\"adam\"]'",
        "--trials 11",
    ]
    command = next_command("edge", options, taken={"edge", "edge-2"})
    words = shlex.split(str(command))
    assert words[2:8] == ["--like", "edge", "--study", "edge-3", "--trials", "11"]
    config = sweeps.load_like("edge", words[9::2], study="edge-3")
    assert (config.space["beta1"], config.space.optimizers) == (0.83, ("adam",))


def test_more_trials_alone_carry_the_study_on() -> None:
    assert next_command("few", ["--trials 10"], taken={"few"}) == (
        "bestepoch run --like few --study few --trials 10"
    )
    assert next_command("few", [], taken={"few"}) is None
    assert carry_on_command("few") == "bestepoch run --like few --study few"


@pytest.mark.parametrize(
    ("name", "taken", "expected"),
    [
        ("edge", {"edge"}, "edge-2"),
        ("edge-2", {"edge", "edge-2"}, "edge-3"),
        ("edge-2", {"edge-2"}, "edge-2-2"),  # 2 is part of a name: there is no edge
        ("edge", {"edge", "edge-2", "edge-3"}, "edge-4"),
    ],
)
def test_next_name_is_free(name: str, taken: set[str], expected: str) -> None:
    assert name_next(name, taken) == expected
