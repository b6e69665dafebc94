"""The beginning of a study: created once, refused when its settings have changed."""

from collections.abc import Iterator
from datetime import UTC, datetime

import optuna
import pytest

import sweeps
from storage import queries
from storage.database import Database, open_database
from storage.schema import UUID_ATTRIBUTE
from sweeps import studies
from sweeps.bookkeeping import most_in_flight
from sweeps.config_errors import ConfigError
from sweeps.rerun import LastRun, read_last_run


@pytest.fixture
def db(sqlite_url: str) -> Iterator[Database]:
    with open_database(sqlite_url, create=True) as database:
        yield database


def prepare(db: Database, *overrides: str, force: bool = False, data: str = "data") -> str:
    study_uuid, _ = studies.prepare(
        db,
        sweeps.load_config("relation-cnn", overrides, storage=db.url),
        class_names=("no", "yes"),
        data_fingerprint=data,
        force=force,
        now=datetime.now(UTC),
    )
    return study_uuid


def ask_one(db: Database, *overrides: str) -> None:
    config = sweeps.load_config("relation-cnn", overrides, storage=db.url)
    study = optuna.load_study(study_name="relation-cnn", storage=db.optuna_storage())
    config.space.suggest(study.ask())


def test_second_start_finds_the_study(db: Database) -> None:
    assert prepare(db) == prepare(db)


def test_what_decides_no_result_may_change(db: Database) -> None:
    first = prepare(db)
    assert prepare(db, "trials=99", "workers=3", "max_minutes=5") == first


def test_target_and_audit_of_the_last_run_are_kept(db: Database) -> None:
    assert read_last_run(db.url, "relation-cnn") == LastRun()
    prepare(db, "trials=31", "audit=0.2")
    assert read_last_run(db.url, "relation-cnn") == LastRun(31, 0.2)
    prepare(db, "trials=37")
    assert read_last_run(db.url, "relation-cnn") == LastRun(37)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("patience=9", "patience: 5 -> 9"),
        ("seed=4", "seed: 0 -> 4"),
        ("space.dropout=0.5", "space.dropout"),
    ],
)
def test_changed_setting_is_named_and_refused_until_forced(
    db: Database, override: str, told: str
) -> None:
    first = prepare(db)
    with pytest.raises(ConfigError, match=told):
        prepare(db, override)
    assert prepare(db, override, force=True) == first
    assert prepare(db, override) == first  # it is the study's setting now


def test_changed_data_is_refused(db: Database) -> None:
    prepare(db)
    with pytest.raises(ConfigError, match="the contents have changed"):
        prepare(db, data="other data")


def test_choices_that_optuna_has_frozen_are_refused_though_forced(db: Database) -> None:
    prepare(db)
    ask_one(db)
    with pytest.raises(ConfigError, match="batch_size"):
        prepare(db, "space.batch_size=[50, 100, 200]", force=True)
    # Refused, so nothing of it is stored.
    stored = queries.find_study(db, "relation-cnn")
    assert stored is not None
    assert stored.config["space"]["batch_size"] == [50, 100]


def test_study_of_another_program_is_left_alone(db: Database) -> None:
    study = optuna.create_study(study_name="relation-cnn", storage=db.optuna_storage())
    study.ask()
    with pytest.raises(ConfigError, match="another program"):
        prepare(db)
    assert UUID_ATTRIBUTE not in study.user_attrs


def test_study_deleted_in_the_dashboard_begins_anew_and_keeps_its_old_rows(db: Database) -> None:
    first = prepare(db)
    optuna.delete_study(study_name="relation-cnn", storage=db.optuna_storage())
    second = prepare(db)
    assert second != first
    names = set(queries.studies(db.url)["study"])
    assert names == {"relation-cnn", f"relation-cnn~{first[:8]}"}


@pytest.mark.parametrize(
    ("sampler", "pruner", "trials", "expected"),
    [
        ("tpe", "none", 24, 8),
        ("tpe", "median", 200, 66),
        ("random", "median", 200, 66),  # the pruner compares with trials that have ended
        ("random", "none", 200, 200),  # nobody learns from anyone
        ("qmc", "none", 5000, 512),
    ],
)
def test_few_trials_are_in_flight_where_somebody_learns_from_those_that_ended(
    sampler: str, pruner: str, trials: int, expected: int
) -> None:
    config = sweeps.load_config("relation-cnn", sampler=sampler, pruner=pruner, trials=trials)
    assert most_in_flight(config) == expected
