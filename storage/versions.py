"""Whose tables a database holds: ours of today's version, none, or what is refused.

There are no migrations: a database of another version is refused, and so is one of another
program whose tables ours or Optuna's would mix with. Refusing writes nothing.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, func, insert, inspect, select, text

from storage import records, schema
from storage.locations import StorageError

#: Tables of Optuna: one that only it has, and two that other programs may have too.
_MARK_OF_OPTUNA = "version_info"
_NAMES_OF_OPTUNA = frozenset({"studies", "trials"})


def has_tables(connection: Connection, where: str) -> bool:
    """Return whether our tables are there; if not, they may be created.

    Raises:
        StorageError: If the tables are of another version, or another program's; ``where``
            names the database.
    """
    names = set(inspect(connection).get_table_names())
    if schema.SCHEMA.name not in names:
        _refuse_other_program(connection, names, where)
        return False
    found = connection.execute(select(func.max(schema.SCHEMA.c.version))).scalar() or 0
    if found == records.VERSION:
        return True
    whose, update = ("an older", "")
    if found > records.VERSION:
        whose, update = ("a newer", "update with: pip install -U bestepoch, or ")
    raise StorageError(
        f"{where}: written by {whose} bestepoch (tables of version {found}, this one has"
        f" {records.VERSION}); {update}start in a new file with --storage"
    )


def create_tables(connection: Connection) -> None:
    """Create our tables and the view, and write their version; the caller has looked."""
    schema.METADATA.create_all(connection)
    connection.execute(text(schema.create_view(connection.dialect.name)))
    row = {"version": records.VERSION, "applied_at": func.current_timestamp()}
    connection.execute(insert(schema.SCHEMA).values(row))


def _refuse_other_program(connection: Connection, names: set[str], where: str) -> None:
    """Raise if ours or Optuna's tables would mix with those that are there."""

    def read(column: str, table: str) -> list[str]:
        query = text(f"SELECT {column} FROM {table} ORDER BY 1")
        return list(connection.execute(query).scalars()) if table in names else []

    others = names - {"alembic_version", _MARK_OF_OPTUNA}
    is_optuna = _MARK_OF_OPTUNA in names
    is_mixed = not is_optuna and ("alembic_version" in names or _NAMES_OF_OPTUNA & names)
    # Optuna's revisions are called v3.2.0.a and the like.
    revisions = read("version_num", "alembic_version")
    if is_mixed or names & {*schema.METADATA.tables} or any(r[:1] != "v" for r in revisions):
        found = f"belongs to another program ({_list(sorted(others))})"
    elif is_optuna and (studies := read("study_name", "studies")):
        found = f"holds studies of Optuna that no sweep has made ({_list(map(repr, studies))})"
    else:
        return
    raise StorageError(f"{where}: {found}; give another database with --storage")


def _list(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
    return ", ".join(shown[:4]) + more
