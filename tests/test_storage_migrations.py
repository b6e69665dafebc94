"""Fresh, repeated, older and newer databases; Optuna's tables stay as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, inspect, text

from storage import migrations, schema
from storage.database import Database, StorageError, open_database

OURS = {
    "bestepoch_schema",
    "bestepoch_studies",
    "class_scores",
    "epoch_records",
    "lane_slots",
    "trial_results",
}
LATEST = migrations.latest_version()


def tables(db: Database) -> set[str]:
    with db.read() as connection:
        return set(inspect(connection).get_table_names())


def versions(db: Database) -> list[int]:
    with db.read() as connection:
        query = text("SELECT version FROM bestepoch_schema ORDER BY version")
        return list(connection.execute(query).scalars())


def add_mood(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE trial_results ADD COLUMN mood TEXT"))


def test_fresh_database_has_every_table_and_view(storage_url: str) -> None:
    with open_database(storage_url, create=True) as db:
        assert tables(db) == OURS
        assert versions(db) == [LATEST]
        with db.read() as connection:
            assert set(inspect(connection).get_view_names()) == {"best_epochs", "last_epochs"}
            for view in (schema.BEST_EPOCHS, schema.LAST_EPOCHS):
                names = [each["name"] for each in inspect(connection).get_columns(view.name)]
                assert names == list(view.c.keys())
            applied = connection.execute(schema.SCHEMA.select()).one().applied_at
            assert applied.tzinfo is not None


def test_upgrade_again_changes_nothing(storage_url: str) -> None:
    for _ in range(2):
        with open_database(storage_url, create=True) as db:
            migrations.upgrade(db.write, where="here")
            assert versions(db) == [LATEST]


def test_older_database_takes_each_step_once(storage_url: str) -> None:
    taken = []

    def first(connection: Connection) -> None:
        taken.append("first")
        add_mood(connection)

    steps = {LATEST + 1: first, LATEST + 2: lambda connection: taken.append("second")}
    with open_database(storage_url, create=True) as db:
        for _ in range(2):
            migrations.upgrade(db.write, where="here", steps=steps)
        assert versions(db) == [LATEST, LATEST + 1, LATEST + 2]
        assert taken == ["first", "second"]
    # To this program it is newer now.
    for create in (False, True):
        with pytest.raises(StorageError, match=f"newer bestepoch .*{LATEST + 2}.* {LATEST}"):
            open_database(storage_url, create=create)


def test_fresh_database_gets_the_latest_version_at_once(storage_url: str) -> None:
    with open_database(storage_url, create=True) as db:
        with db.write() as connection:
            for view in ("best_epochs", "last_epochs"):
                connection.execute(text(f"DROP VIEW {view}"))
            schema.METADATA.drop_all(connection)
        migrations.upgrade(db.write, where="here", steps={LATEST: pytest.fail})
        assert versions(db) == [LATEST]
        assert tables(db) == OURS


def test_step_that_fails_leaves_the_version_before(storage_url: str) -> None:
    def broken(connection: Connection) -> None:
        add_mood(connection)
        raise ZeroDivisionError

    with open_database(storage_url, create=True) as db:
        with pytest.raises(ZeroDivisionError):
            migrations.upgrade(db.write, where="here", steps={LATEST + 1: broken})
        assert versions(db) == [LATEST]
        with db.read() as connection:
            names = {each["name"] for each in inspect(connection).get_columns("trial_results")}
        assert "mood" not in names


def test_database_of_the_first_version_becomes_as_a_fresh_one(storage_url: str) -> None:
    with open_database(storage_url, create=True) as db:
        fresh = describe(db)
        with db.write() as connection:
            connection.execute(text("DROP INDEX trial_results_by_outcome"))
            connection.execute(text("DROP TABLE lane_slots"))
            # PostgreSQL's views hold on to every column of the table they read.
            for view in ("best_epochs", "last_epochs"):
                connection.execute(text(f"DROP VIEW {view}"))
            later = ("outcome", "epoch", "score")
            for name in ("confusion", *(f"would_stop_{each}" for each in later)):
                connection.execute(text(f"ALTER TABLE trial_results DROP COLUMN {name}"))
            for statement in schema.create_views(connection.dialect.name):
                connection.execute(text(statement))
            connection.execute(text("UPDATE bestepoch_schema SET version = 1"))
        assert describe(db) != fresh
        migrations.upgrade(db.write, where="here")
        assert versions(db) == list(range(1, LATEST + 1))
        assert describe(db) == fresh


def describe(db: Database) -> dict[str, object]:
    """Each table of ours: columns with their types, keys and indexes."""
    with db.read() as connection:
        inspector = inspect(connection)
        return {
            name: (
                [
                    (each["name"], str(each["type"]), each["nullable"])
                    for each in inspector.get_columns(name)
                ],
                inspector.get_pk_constraint(name)["constrained_columns"],
                [
                    (each["referred_table"], each["referred_columns"], each["options"])
                    for each in inspector.get_foreign_keys(name)
                ],
                [(each["name"], each["column_names"]) for each in inspector.get_indexes(name)],
            )
            for name in inspector.get_table_names()
        }


class Killed(BaseException):
    """Stands for a process that ends before a statement."""


def test_creation_cut_at_any_statement_is_all_or_nothing(sqlite_url: str) -> None:
    # As it would be on a database without our tables: an empty one, or Optuna's alone.
    with open_database(sqlite_url, create=True) as db:
        complete = False
        for number in range(1, 100):
            with db.write() as connection:
                for view in ("best_epochs", "last_epochs"):
                    connection.execute(text(f"DROP VIEW IF EXISTS {view}"))
                schema.METADATA.drop_all(connection)
            try:
                with cut_before(db, number):
                    migrations.upgrade(db.write, where="here")
            except Killed:
                assert tables(db) in (set(), OURS)
                continue
            complete = True
            break
        assert complete
        assert number > len(OURS) + 2  # the cut has been everywhere
        assert tables(db) == OURS


@contextmanager
def cut_before(db: Database, number: int) -> Iterator[None]:
    """Raise ``Killed`` before the statement of this number, from 1."""
    count = 0

    def before(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise Killed

    event.listen(db._engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(db._engine, "before_cursor_execute", before)


@pytest.mark.parametrize("ours_first", [True, False])
def test_optuna_tables_are_untouched(storage_url: str, ours_first: bool) -> None:
    import optuna

    if not ours_first:
        storage = optuna.storages.RDBStorage(open_url(storage_url))
        optuna.create_study(storage=storage, study_name="old")
        storage.engine.dispose()
    with open_database(storage_url, create=True) as db:
        theirs = db.optuna_storage()
        with db.read() as connection:
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        migrations.upgrade(db.write, where="here")
        with db.read() as connection:
            after = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        assert revision == after == theirs.get_head_version()
        names = optuna.get_all_study_names(theirs)
        assert names == ([] if ours_first else ["old"])
        optuna_tables = set(optuna.storages._rdb.models.BaseModel.metadata.tables)
        assert not optuna_tables & OURS
        assert tables(db) == OURS | optuna_tables | {"alembic_version"}


def open_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_every_column_and_table_is_explained() -> None:
    for table in schema.METADATA.sorted_tables:
        assert table.comment, table.name
        for column in table.columns:
            assert column.comment, f"{table.name}.{column.name}"
