"""Trials that go first: each once, exactly as named, in the database as any other."""

from typing import Any

import pytest
from scripted import ScriptedExecutor, make_config, run_scripted

from search_spaces.hparams import Hparams
from storage import queries
from sweeps.config.errors import ConfigError
from sweeps.config.settings import SweepConfig
from sweeps.running.first_trials import describe_warm_start, list_first_trials

STUDY = "relation-cnn"
SHORT = ("max_epochs=2", "patience=2", "prune_patience=1")


def make(url: str, *overrides: str, **options: Any) -> SweepConfig:
    config = make_config(url, *SHORT, *overrides)
    given = config.stored() | {"storage": url} | options
    return SweepConfig.model_validate(given)


def score(number: int) -> float:
    return round(0.5 + 0.001 * number, 3)


def run(config: SweepConfig) -> dict[int, Hparams]:
    """Run a study to its target; a trial scores the more the later it is. Return its trials."""
    assert config.storage is not None
    end, _ = run_scripted(config, lambda n: [score(n), 0.1])
    assert end.ending == "done"
    return read(config.storage, config.study)


def read(url: str, study: str = STUDY) -> dict[int, Hparams]:
    numbers = sorted(queries.results(url, study)["trial"])
    return {
        int(number): Hparams.model_validate(queries.trial(url, study, int(number))["params"])
        for number in numbers
    }


def test_named_trials_go_first_exactly_so_and_once(sqlite_url: str) -> None:
    tries = [
        {"optimizer": "adam", "learning_rate": 0.2, "beta1": 0.9},
        {"optimizer": "sgd", "model": {"filters": 77}, "batch_size": 75},
    ]
    config = make(sqlite_url, trials=5, **{"try": tries})
    executor = ScriptedExecutor(lambda n: [score(n), 0.1])
    run_scripted(config, executor)
    seen = run(config)  # the same command again
    assert list(seen) == [0, 1, 2, 3, 4]
    assert (seen[0].optimizer, seen[0].learning_rate) == ("adam", 0.2)  # outside the range
    assert seen[0].beta1 == 0.9
    assert (seen[1].optimizer, seen[1].model["filters"], seen[1].batch_size) == ("sgd", 77, 75)
    told = [place.params for _, command in executor.commands for place in command.place]
    assert told[0]["learning_rate"] == 0.2


def test_trial_named_later_is_the_next_and_waits_for_a_larger_target(sqlite_url: str) -> None:
    run(make(sqlite_url, trials=2))
    later: dict[str, Any] = {"try": [{"optimizer": "adam", "learning_rate": 0.003}]}
    assert len(run(make(sqlite_url, trials=2, **later))) == 2
    assert run(make(sqlite_url, trials=3, **later))[2].learning_rate == 0.003


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "qmc"])
def test_sampled_trials_stay_within_the_space_behind_trials_outside_it(
    sqlite_url: str, sampler: str
) -> None:
    tries = [{"learning_rate": 0.9, "dropout": 0.95}, {"dropout": 0.0, "optimizer": "adam"}]
    startup = () if sampler == "qmc" else ("sampler.n_startup_trials=3",)
    overrides = (f"sampler.name={sampler}", "space.optimizer=['adam', 'rmsprop']", *startup)
    seen = run(make(sqlite_url, *overrides, trials=19, **{"try": tries}))
    assert seen[0].dropout == 0.95
    for number in range(2, 19):
        assert 0.3 <= (seen[number].dropout or 0.0) <= 0.7


def test_grid_trains_each_point_once_and_named_trials_first(sqlite_url: str) -> None:
    overrides = ["sampler.name=grid", "sampler.points=2", "space.optimizer=['adam', 'sgd']"]
    tries: dict[str, Any] = {"try": [{"optimizer": "adam", "learning_rate": 0.07}]}
    config = make(sqlite_url, *overrides, **tries)
    num_points = config.space.count_grid(2)
    assert num_points >= 24  # at least adam 2**4, sgd 2**3
    few = config.model_copy(update={"trials": 5})
    run(few)
    seen = run(config.model_copy(update={"trials": num_points + 1}))
    assert list(seen) == list(range(num_points + 1))
    assert seen[0].learning_rate == 0.07
    points = {repr(sorted(seen[number].to_params().items())) for number in range(1, len(seen))}
    assert len(points) == num_points
    assert list_first_trials(config, seen.values()) == []


def test_warm_start_trains_the_five_best_again_without_their_scores(sqlite_url: str) -> None:
    first = run(make(sqlite_url, trials=7))
    best = [first[number].to_params() for number in (6, 5, 4, 3, 2)]
    config = make(sqlite_url, study="second", trials=5, warm_start=STUDY)
    run(config)
    # The other study goes on and its best five change; this one has had its start.
    run(make(sqlite_url, trials=9))
    seen = run(config.model_copy(update={"trials": 6}))
    assert [seen[number].to_params() for number in range(5)] == best
    assert len(seen) == 6
    assert queries.results(sqlite_url, "second").set_index("trial").loc[0, "value"] == score(0)


def test_warm_start_says_what_the_space_cannot_take(sqlite_url: str) -> None:
    run(make(sqlite_url, trials=3))
    config = make(sqlite_url, "space.dropout=0.5", study="second", trials=3, warm_start=STUDY)
    assert describe_warm_start(config, sqlite_url) == (
        f"trials 2, 1, 0 of {STUDY} are trained here first; "
        "not taken by this space and left out: dropout"
    )
    assert {hparams.dropout for hparams in run(config).values()} == {0.5}


@pytest.mark.parametrize(
    ("warm_start", "told"),
    [
        ("relation-cn", "did you mean 'relation-cnn'"),
        ("empty", "no trial of study 'empty' has a score"),
    ],
)
def test_warm_start_from_nothing_is_refused_before_anything_is_loaded(
    sqlite_url: str, warm_start: str, told: str
) -> None:
    run(make(sqlite_url, trials=1))
    run_scripted(make(sqlite_url, study="empty", trials=1), lambda n: ["KeyError: 7"])
    executor = ScriptedExecutor(lambda n: [0.5])
    with pytest.raises(ConfigError, match=told):
        run_scripted(make(sqlite_url, study="second", warm_start=warm_start), executor)
    assert executor.loads == 0
    assert "second" not in list(queries.studies(sqlite_url)["study"])
