"""Fresh, older, newer and foreign databases: created whole, or refused with nothing written."""

import dataclasses
import sqlite3
import typing
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from cuts import Killed, cut_before
from sqlalchemy import create_engine, inspect, text

from search_spaces.hparams import Hparams
from storage import queries, recorder, records, schema, versions
from storage.database import Database, StorageError, open_database
from storage.locations import resolve_url
from storage.records import (
    Checkpoint,
    EpochRecord,
    HeldStop,
    NewTrial,
    Placed,
    StudyRow,
    TrialEnd,
    Weights,
)

OURS = {
    "bestepoch_holders",
    "bestepoch_schema",
    "bestepoch_studies",
    "class_scores",
    "epoch_records",
    "predictions",
    "trial_results",
}


def tables(db: Database) -> set[str]:
    with db.read() as connection:
        return set(inspect(connection).get_table_names())


def execute(url: str, *statements: str) -> None:
    """Run SQL as a program that knows nothing of ours."""
    engine = create_engine(resolve_url(url))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def list_tables(url: str) -> set[str]:
    engine = create_engine(resolve_url(url))
    with engine.connect() as connection:
        names = set(inspect(connection).get_table_names())
    engine.dispose()
    return names


def test_fresh_database_has_every_table_and_view(storage_url: str) -> None:
    for _ in range(2):
        with open_database(storage_url, create=True) as db:
            assert tables(db) == OURS
            with db.read() as connection:
                assert inspect(connection).get_view_names() == ["best_epochs"]
                names = [each["name"] for each in inspect(connection).get_columns("best_epochs")]
                assert names == list(schema.BEST_EPOCHS.c.keys())
                row = connection.execute(schema.SCHEMA.select()).one()
                assert row.version == records.VERSION
                assert row.applied_at.tzinfo is not None


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (
            records.VERSION - 1,
            "an older bestepoch (tables of version 8, this one has 9); ",
        ),
        (records.VERSION + 1, "a newer bestepoch (tables of version 10, this one has 9); update"),
    ],
)
def test_database_of_another_version_is_refused_in_one_line(
    storage_url: str, version: int, words: str
) -> None:
    with open_database(storage_url, create=True):
        pass
    execute(storage_url, f"UPDATE bestepoch_schema SET version = {version}")
    for create in (False, True):
        with pytest.raises(StorageError) as error:
            open_database(storage_url, create=create)
        line = str(error.value)
        assert words in line
        assert "start in a new file with --storage" in line
        assert len(line.splitlines()) == 1


def mlflow(url: str) -> None:
    # https://github.com/mlflow/mlflow/issues/2923: both programs keep an alembic_version.
    execute(
        url,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('451aebb31d03')",
        *(f"CREATE TABLE {name} (name TEXT)" for name in ("runs", "experiments", "metrics")),
    )


def both_programs(url: str) -> None:
    mlflow(url)
    execute(url, "CREATE TABLE version_info (schema_version INTEGER)")


def same_names(url: str) -> None:
    execute(url, "CREATE TABLE trials (drug TEXT)", "CREATE TABLE patients (name TEXT)")


def same_name_as_ours(url: str) -> None:
    execute(url, "CREATE TABLE predictions (horoscope TEXT)")


def foreign_optuna(url: str) -> None:
    storage = optuna.storages.RDBStorage(resolve_url(url))
    for name, directions in (("a <b>", ["minimize", "maximize"]), ("mine", ["minimize"])):
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
        study.tell(study.ask(), [0.5] * len(directions))
    storage.remove_session()
    storage.engine.dispose()


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (mlflow, "belongs to another program (experiments, metrics, runs)"),
        (both_programs, "belongs to another program (experiments, metrics, runs)"),
        (same_names, "belongs to another program (patients, trials)"),
        (same_name_as_ours, "belongs to another program (predictions)"),
        (foreign_optuna, "studies of Optuna that no sweep has made ('a <b>', 'mine')"),
    ],
)
def test_database_of_another_program_is_named_and_not_written(
    storage_url: str, fill: Any, words: str
) -> None:
    fill(storage_url)
    before = list_tables(storage_url)
    for create in (False, True):
        with pytest.raises(StorageError) as error:
            open_database(storage_url, create=create)
        assert words in str(error.value)
        assert "give another database with --storage" in str(error.value)
        assert len(str(error.value).splitlines()) == 1
    assert list_tables(storage_url) == before


def empty_optuna(url: str) -> None:
    storage = optuna.storages.RDBStorage(resolve_url(url))
    storage.remove_session()
    storage.engine.dispose()


def other_tables(url: str) -> None:
    execute(url, "CREATE TABLE patients (name TEXT)")


@pytest.mark.parametrize("fill", [empty_optuna, other_tables])
def test_tables_that_ours_do_not_mix_with_stay(storage_url: str, fill: Any) -> None:
    fill(storage_url)
    before = list_tables(storage_url)
    with open_database(storage_url, create=True) as db:
        assert tables(db) == before | OURS


def test_optuna_studies_of_others_in_a_database_of_ours_are_no_reason_to_refuse(
    storage_url: str,
) -> None:
    with open_database(storage_url, create=True):
        pass
    foreign_optuna(storage_url)
    with open_database(storage_url, create=False):
        pass


def test_creation_cut_at_any_statement_is_all_or_nothing(sqlite_url: str) -> None:
    with open_database(sqlite_url, create=True) as db:
        complete = False
        for number in range(1, 100):
            with db.write() as connection:
                connection.execute(text("DROP VIEW IF EXISTS best_epochs"))
                schema.METADATA.drop_all(connection)
            try:
                with cut_before(number), db.write() as connection:
                    versions.create_tables(connection)
            except Killed:
                assert tables(db) in (set(), OURS)
                continue
            complete = True
            break
        assert complete
        assert number > len(OURS) + 1  # the cut has been everywhere
        assert tables(db) == OURS


def test_every_column_and_table_is_explained() -> None:
    for table in (schema.BEST_EPOCHS, *schema.METADATA.sorted_tables):
        assert table.comment, table.name
        for column in table.columns:
            assert column.comment, f"{table.name}.{column.name}"


def test_tables_have_the_fields_of_the_records_and_what_only_the_recorder_knows() -> None:
    stored = {
        schema.STUDIES: ((StudyRow,), set[str]()),
        schema.TRIAL_RESULTS: (
            (NewTrial, Placed, Checkpoint, TrialEnd, Weights, HeldStop),
            {"study", "study_uuid", "kills", "started_at", "finished_at"},
        ),
        schema.EPOCH_RECORDS: ((EpochRecord,), {"study_uuid", "trial"}),
    }
    for table, (kinds, own) in stored.items():
        fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
        elsewhere = {"class_scores", "predictions"}  # have tables of their own
        assert set(table.c.keys()) == (fields - elsewhere) | own
        for kind in kinds:
            for name, hint in typing.get_type_hints(kind, include_extras=True).items():
                if hasattr(hint, "__metadata__"):
                    assert table.c[name].comment == hint.__metadata__[0]


def test_views_have_a_column_for_every_hyperparameter() -> None:
    names = set(Hparams.model_fields)
    assert names == set(schema.HYPERPARAMETERS)
    assert names <= set(schema.BEST_EPOCHS.c.keys())


def test_view_reads_every_hyperparameter_as_its_type(storage_url: str) -> None:
    values = {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.5,
        "nesterov": True,
        "weight_decay": 0.25,
        "clip_norm": 2.0,
        "schedule": "plateau",
        "factor": 0.5,
        "plateau_patience": 3,
        "dropout": 0.125,
        "batch_size": 53,
        "class_weights": "balanced",
        "label_smoothing": 0.0625,
        "model": {"filters": 7},
    }
    params = Hparams.model_validate(values).to_params()
    assert params == values
    with open_database(storage_url, create=True) as db:
        now = datetime(2031, 5, 7, tzinfo=UTC)
        recorder.create_study(db, StudyRow("u", "s", "o", "accuracy", now, {}))
        recorder.begin_trials(db, "u", [NewTrial(0, 7, params)], now=now)
        row = queries.best_epochs(storage_url, "s").iloc[0]
    shown = {name: row[name] for name in values if name != "model"}
    assert shown == {name: value for name, value in values.items() if name != "model"}
    assert row["model"].replace(" ", "") == '{"filters":7}'
    assert row[["beta1", "rho", "schedule_epochs"]].isna().all()


def test_refused_file_is_left_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE trials (drug TEXT)")
    before = path.read_bytes()
    with pytest.raises(StorageError):
        open_database(str(path), create=True)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["x.db"]
