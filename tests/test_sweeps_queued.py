"""Trials that go first: each once, exactly as named, told to Optuna as any other."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import sweeps
from search_spaces.hparams import Hparams
from storage import queries
from storage.database import Database, open_database
from storage.records import FinishedTrial, TrialResult
from sweeps import studies
from sweeps.bookkeeping import Bookkeeper, ClaimedTrial, make_owner
from sweeps.config import SweepConfig
from sweeps.config_errors import ConfigError
from sweeps.parameters import list_grid
from sweeps.queued import FIXED_ATTRIBUTE, describe_warm_start

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STUDY = "relation-cnn"


@pytest.fixture
def db(sqlite_url: str) -> Iterator[Database]:
    with open_database(sqlite_url, create=True) as database:
        yield database


def make_config(url: str, *overrides: str, **options: object) -> SweepConfig:
    return sweeps.load_config("relation-cnn", overrides, storage=url, **options)


def prepare(db: Database, config: SweepConfig) -> Bookkeeper:
    study_uuid, _ = studies.prepare(
        db, config, class_names=("no", "yes"), data_fingerprint="data", force=False, now=NOW
    )
    return make_book(db, config, study_uuid)


def make_book(db: Database, config: SweepConfig, study_uuid: str) -> Bookkeeper:
    return Bookkeeper(
        db,
        config,
        study_uuid=study_uuid,
        owner=make_owner("cpu"),
        data_fingerprint="data",
        now=lambda: NOW,
    )


def finish(book: Bookkeeper, trial: ClaimedTrial, score: float) -> None:
    result = TrialResult("stalled", "by hand", value=score, best_epoch=1, best_score=score)
    assert book.finish([FinishedTrial(trial.claim, result, ())]) == ()


def run(book: Bookkeeper, score: float = 0.5) -> dict[int, Hparams]:
    """Claim and finish until nothing is left; return the hyperparameters by trial."""
    seen: dict[int, Hparams] = {}
    while True:
        claims = book.claim(3)
        for trial in claims.trials:
            assert trial.claim.trial not in seen
            seen[trial.claim.trial] = trial.hparams
            finish(book, trial, score + 0.001 * trial.claim.trial)
        if not claims.trials and claims.is_complete:
            return seen


def optuna_trials(db: Database, study: str = STUDY) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=study, storage=db.optuna_storage()).trials


def test_named_trials_go_first_exactly_so_and_once(db: Database) -> None:
    tries = [
        {"optimizer": "adam", "learning_rate": 0.2, "beta1": 0.9},
        {"optimizer": "sgd", "model": {"filters": 77}, "batch_size": 75},
    ]
    config = make_config(db.url, trials=5, **{"try": tries})
    prepare(db, config)
    seen = run(prepare(db, config))  # prepared twice, as by the same command again
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert (seen[0].optimizer, seen[0].learning_rate) == ("adam", 0.2)
    assert seen[0].betas is not None
    assert seen[0].betas[0] == 0.9
    assert (seen[1].optimizer, seen[1].model["filters"], seen[1].batch_size) == ("sgd", 77, 75)
    trials = optuna_trials(db)
    assert [FIXED_ATTRIBUTE in trial.user_attrs for trial in trials] == [True] * 2 + [False] * 3
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert trials[0].params["one_minus_beta1"] == 0.1
    assert trials[0].params["learning_rate"] == 0.2  # outside the range
    assert "batch_size" not in trials[1].params
    stored = queries.trial(db.url, STUDY, 1)["params"]
    assert (stored["batch_size"], stored["model"]["filters"]) == (75, 77)


def test_a_trial_named_later_is_the_next_and_waits_for_a_larger_target(db: Database) -> None:
    run(prepare(db, make_config(db.url, trials=2)))
    later: dict[str, Any] = {"try": [{"optimizer": "adam", "learning_rate": 0.003}]}
    assert run(prepare(db, make_config(db.url, trials=2, **later))) == {}
    assert optuna_trials(db)[2].state == TrialState.WAITING
    seen = run(prepare(db, make_config(db.url, trials=3, **later)))
    assert seen[2].learning_rate == 0.003


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "cmaes", "qmc"])
def test_each_sampler_goes_on_after_a_trial_outside_the_ranges(db: Database, name: str) -> None:
    if name == "cmaes":
        pytest.importorskip("cmaes")
    tries = [{"learning_rate": 0.9, "dropout": 0.95}, {"dropout": 0.0, "optimizer": "adam"}]
    overrides = [
        f"sampler.name={name}",
        "space.optimizer=['adam', 'rmsprop']",
        *([] if name in ("random", "qmc") else ["sampler.n_startup_trials=3"]),
    ]
    seen = run(prepare(db, make_config(db.url, *overrides, trials=9, **{"try": tries})))
    assert len(seen) == 9
    assert seen[0].dropout == 0.95
    for number in range(2, 9):
        assert 0.3 <= (seen[number].dropout or 0.0) <= 0.7


def test_no_queued_trial_runs_twice_with_eight_workers(db: Database) -> None:
    # By enqueue_trial() and ask() without a lock, 18 of 300 did.
    tries = [{"optimizer": "adam", "learning_rate": 0.001 + 0.0001 * i} for i in range(60)]
    config = make_config(db.url, trials=60, **{"try": tries})
    uuid, _ = studies.prepare(
        db, config, class_names=("no", "yes"), data_fingerprint="data", force=False, now=NOW
    )
    rates: list[float] = []
    numbers: list[int] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with open_database(db.url, create=False) as own:
                for number, hparams in run(make_book(own, config, uuid)).items():
                    numbers.append(number)
                    rates.append(hparams.learning_rate)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(numbers) == list(range(60))
    assert sorted(rates) == sorted(one["learning_rate"] for one in tries)


def test_grid_trains_each_point_once_and_named_trials_first(db: Database) -> None:
    overrides = ["sampler.points=2", "space.optimizer=['adam', 'sgd']", "space.batch_size=50"]
    tries: dict[str, Any] = {"try": [{"optimizer": "adam", "learning_rate": 0.07}]}
    config = make_config(db.url, *overrides, sampler="grid", **tries)
    num_points = len(list_grid(config.space, 2))
    assert config.trials == num_points + 1 >= 25  # at least adam 2**4, sgd 2**3, the named one
    first = prepare(db, config)
    for trial in first.claim(3).trials:
        finish(first, trial, 0.5)
    seen = run(prepare(db, config))
    assert sorted(seen) == list(range(3, num_points + 1))
    trials = optuna_trials(db)
    points = {tuple(sorted(trial.params.items())) for trial in trials[1:]}
    assert len(points) == num_points
    assert queries.trial(db.url, STUDY, 0)["params"]["learning_rate"] == 0.07


def test_warm_start_trains_the_five_best_again_without_their_scores(db: Database) -> None:
    run(prepare(db, make_config(db.url, trials=7)))
    best = [queries.trial(db.url, STUDY, number)["params"] for number in (6, 5, 4, 3, 2)]
    config = make_config(db.url, study="second", trials=6, warm_start=STUDY)
    book = prepare(db, config)
    assert all(trial.value is None for trial in optuna_trials(db, "second"))
    # The other study goes on and its best five change; this one has had its start.
    run(prepare(db, make_config(db.url, trials=9)))
    prepare(db, config)
    assert len(optuna_trials(db, "second")) == 5
    seen = run(book)
    assert [seen[number].to_params() for number in range(5)] == best
    assert len(seen) == 6


def test_warm_start_says_what_the_space_cannot_take(db: Database) -> None:
    run(prepare(db, make_config(db.url, trials=3)))
    config = make_config(db.url, "space.dropout=0.5", study="second", warm_start=STUDY)
    line = describe_warm_start(config, db.url)
    assert line == (
        f"trials 2, 1, 0 of {STUDY} are trained here first; "
        "not taken by this space and left out: dropout"
    )
    seen = run(prepare(db, config.model_copy(update={"trials": 3})))
    assert {hparams.dropout for hparams in seen.values()} == {0.5}


def test_warm_start_from_an_unknown_study_leaves_none_behind(db: Database) -> None:
    prepare(db, make_config(db.url, trials=3))
    with pytest.raises(ConfigError, match="did you mean 'relation-cnn'"):
        prepare(db, make_config(db.url, study="second", warm_start="relation-cn"))
    with pytest.raises(ConfigError, match="no trial of study 'relation-cnn' has a score"):
        prepare(db, make_config(db.url, study="second", warm_start=STUDY))
    assert list(queries.studies(db.url)["study"]) == [STUDY]
