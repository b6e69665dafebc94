"""Bring our tables to today's version, in a version table of our own.

Optuna's tables and its ``alembic_version`` are neither read nor written. Takes no lock: the
caller holds the one of the schema.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from sqlalchemy import Connection, func, insert, inspect, select, text

from storage import schema
from storage.locations import StorageError

Step = Callable[[Connection], None]
Begin = Callable[[], AbstractContextManager[Connection]]


def _add_outcome_index(connection: Connection) -> None:
    columns = "study_uuid, outcome, told, trial"
    connection.execute(text(f"CREATE INDEX trial_results_by_outcome ON trial_results ({columns})"))


def _add_lane_slots(connection: Connection) -> None:
    moment = "DATETIME" if connection.dialect.name == "sqlite" else "TIMESTAMP WITH TIME ZONE"
    tail = " WITHOUT ROWID" if connection.dialect.name == "sqlite" else ""
    connection.execute(
        text(
            "CREATE TABLE lane_slots (study_uuid TEXT NOT NULL, token TEXT NOT NULL,"
            " lane TEXT NOT NULL, device TEXT NOT NULL, slots INTEGER NOT NULL,"
            f" step_seconds TEXT NOT NULL, measured_at {moment} NOT NULL,"
            " PRIMARY KEY (study_uuid, token, lane), FOREIGN KEY(study_uuid)"
            f" REFERENCES bestepoch_studies (uuid) ON DELETE CASCADE){tail}"
        )
    )


def _add_confusion(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE trial_results ADD COLUMN confusion TEXT"))


def _add_would_stops(connection: Connection) -> None:
    real = "DOUBLE" if connection.dialect.name == "sqlite" else "DOUBLE PRECISION"
    columns = {"outcome": "TEXT", "epoch": "INTEGER", "score": real}
    for name, kind in columns.items():
        connection.execute(text(f"ALTER TABLE trial_results ADD COLUMN would_stop_{name} {kind}"))


#: What leads from the version before to this one; version 1 is ``_create_all``. A step that has
#: been released never changes.
STEPS: Mapping[int, Step] = {
    2: _add_outcome_index,
    3: _add_lane_slots,
    4: _add_confusion,
    5: _add_would_stops,
}


def latest_version(*, steps: Mapping[int, Step] = STEPS) -> int:
    """Return the version that this program writes and reads."""
    return max(steps, default=1)


def current_version(connection: Connection) -> int:
    """Return the version of the database, 0 if it has none of our tables."""
    if not inspect(connection).has_table(schema.SCHEMA.name):
        return 0
    return connection.execute(select(func.max(schema.SCHEMA.c.version))).scalar() or 0


def refuse_newer(version: int, where: str, *, steps: Mapping[int, Step] = STEPS) -> None:
    """Do nothing, unless the version is one that this program does not know.

    Raises:
        StorageError: If the version is above the latest; ``where`` names the database.
    """
    latest = latest_version(steps=steps)
    if version > latest:
        raise StorageError(
            f"{where}: written by a newer bestepoch (tables of version {version}, this one knows"
            f" {latest}); update with: pip install -U bestepoch"
        )


def upgrade(begin: Begin, *, where: str, steps: Mapping[int, Step] = STEPS) -> None:
    """Create our tables, or bring older ones to the latest version; nothing to do is fine.

    Each step is one transaction together with its record, so a process killed here leaves a
    database of a whole version. A database without our tables gets today's at once.

    Args:
        begin: Opens a transaction that may write.
        where: Names the database in an error, without a password.
        steps: By version; another mapping only in tests.

    Raises:
        StorageError: If the database is newer than this program.
    """
    latest = latest_version(steps=steps)
    while True:
        with begin() as connection:
            version = current_version(connection)
            refuse_newer(version, where, steps=steps)
            if version == latest:
                return
            if version == 0:
                _create_all(connection)
                version = latest
            else:
                version += 1
                steps[version](connection)
            _record(connection, version)


def _create_all(connection: Connection) -> None:
    schema.METADATA.create_all(connection)
    for statement in schema.create_views(connection.dialect.name):
        connection.execute(text(statement))


def _record(connection: Connection, version: int) -> None:
    # The clock of the database: workers' clocks differ.
    row = {"version": version, "applied_at": func.current_timestamp()}
    connection.execute(insert(schema.SCHEMA).values(row))
