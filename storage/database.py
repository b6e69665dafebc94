"""One URL: connections of ours, Optuna's storage, and locks over processes.

Knows no table by name. A ``Database`` belongs to the process that opened it: give another
process the URL.
"""

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import filelock
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from storage import migrations
from storage.locations import (
    MASK,
    SECRET_KEYS,
    StorageError,
    StorageUnavailableError,
    check_study_name,
    redact,
    resolve_url,
)

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

__all__ = [
    "Database",
    "StorageError",
    "StorageUnavailableError",
    "check_study_name",
    "open_database",
    "redact",
    "resolve_url",
]

#: Seconds that a writer waits for another one; SQLite's lock is not fair.
BUSY_TIMEOUT_S = 60
CONNECT_TIMEOUT_S = 10
LOCK_POLL_S = 0.01
WEIGHTS_FOLDER = "bestepoch-weights"


class SqliteConnection(sqlite3.Connection):
    """A connection with our pragmas, for our engine and for Optuna's alike.

    The journal mode is not here: WAL is kept in the file, and switching needs it for oneself.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            # In WAL mode NORMAL may lose the last commits to a power cut, never to a killed
            # process.
            self.execute("PRAGMA synchronous = NORMAL")
            self.execute("PRAGMA foreign_keys = ON")
        except sqlite3.DatabaseError:
            self.close()
            raise


class Database:
    """An open database; close it, or use it in a ``with`` block. Threads may share it."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._optuna: RDBStorage | None = None
        self._engine = _create_engine(url)
        self._writer = self._engine.execution_options(bestepoch_writes=True)

    @property
    def url(self) -> str:
        """The full URL, password included: what another process opens. Never print it."""
        return self._url.render_as_string(hide_password=False)

    @property
    def where(self) -> str:
        """The database in a message: the file's path, or the URL without its password."""
        return str(self.path) if self.path is not None else redact(str(self._url))

    @property
    def path(self) -> Path | None:
        """The SQLite file, absolute; None for a server."""
        return _sqlite_path(self._url)

    @property
    def weights_dir(self) -> Path:
        """The folder of the weights: beside the SQLite file, or here for a server."""
        parent = self.path.parent if self.path is not None else Path.cwd()
        return parent / WEIGHTS_FOLDER

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads.

        Raises:
            StorageUnavailableError: If the database does not answer.
        """
        with self._clear_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write; on SQLite it is the only one, from its start.

        Raises:
            StorageUnavailableError: If the database does not answer, is full or stays locked.
                The commit may have happened: repeat the whole transaction, which must be
                idempotent.
        """
        with self._clear_errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def study_lock(self, study_name: str) -> Iterator[None]:
        """Hold the study for this thread alone, over all processes; waits without a limit.

        The operating system or the server frees it when the holder dies. Not reentrant.

        Raises:
            StorageError: If the name is not one of a study.
            StorageUnavailableError: If the lock cannot be taken.
        """
        with self._lock(check_study_name(study_name)):
            yield

    def optuna_storage(self) -> "RDBStorage":
        """Return Optuna's storage on the same database, its tables created; no heartbeat.

        Raises:
            StorageError: If Optuna's tables are of another version.
            StorageUnavailableError: If the database does not answer.
        """
        if self._optuna is None:
            from optuna.exceptions import OptunaError

            from storage.optuna_storage import TrialStorage

            # Optuna passes the URL through str.format.
            url = self.url.replace("{", "{{").replace("}", "}}")
            try:
                with self._lock(None):
                    self._optuna = TrialStorage(url, engine_kwargs=_engine_options(self._url))
            except (RuntimeError, OptunaError, DBAPIError) as error:
                raise StorageError(_error_line(self.where, error, self._url)) from None
        return self._optuna

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        if self._optuna is not None:
            self._optuna.remove_session()
            self._optuna.engine.dispose()
            self._optuna = None
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.where!r})"

    @contextmanager
    def _lock(self, study_name: str | None) -> Iterator[None]:
        """Hold a study, or the schema for None."""
        if self.path is None:
            with self._lock_server(study_name):
                yield
            return
        suffix = f".{study_name}.lock" if study_name is not None else ".lock"
        file = f"{self.path}{suffix}"
        lock = filelock.FileLock(file)
        try:
            # filelock waits for ever where the folder exists but takes no files, as in /proc.
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o666))
            lock.acquire(poll_interval=LOCK_POLL_S)
        except OSError as error:
            raise StorageError(
                f"{self.where}: cannot write to its folder ({error.strerror or error})"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _lock_server(self, study_name: str | None) -> Iterator[None]:
        words = "bestepoch schema" if study_name is None else f"bestepoch study {study_name}"
        digest = hashlib.sha256(words.encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        # A lock of the session, not of a transaction: an open one would hold back the vacuum.
        with self._clear_errors():
            holder = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with holder:
            with self._clear_errors():
                holder.execute(select(func.pg_advisory_lock(key)))
            try:
                yield
            finally:
                # If the server is gone then so is the lock; the holder's work may have been done.
                with suppress(DBAPIError):
                    holder.execute(select(func.pg_advisory_unlock(key)))

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            line = _error_line(self.where, error, self._url)
            raise StorageUnavailableError(line) from None


def open_database(url: str, *, create: bool) -> Database:
    """Open the database that the URL names, with our tables at today's version.

    Args:
        url: As ``resolve_url`` takes it.
        create: Whether a file or tables that are missing are created; a server's database and
            folders never are. If not, a database of today's version is not written.

    Raises:
        StorageError: One line, without the password, that says what is wrong and the way out:
            a file or folder that is missing, not a database, not writable, without our tables or
            with newer ones; a server that cannot be reached; no driver.
    """
    parsed = _parse(url)
    path = _sqlite_path(parsed)
    if path is not None:
        _check_file(path, create=create)
    try:
        database = Database(parsed)
    except ImportError:
        raise StorageError(
            f"{redact(str(parsed))}: PostgreSQL needs a driver;"
            " install it with: pip install 'bestepoch[postgres]'"
        ) from None
    try:
        _prepare(database, create=create)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: Database, *, create: bool) -> None:
    try:
        if not create:
            with database.read() as connection:
                version = migrations.current_version(connection)
            migrations.refuse_newer(version, database.where)
            if version == migrations.latest_version():
                return
            if version == 0:
                raise StorageError(f"{database.where}: holds no sweep yet; start one first")
        with database._lock(None):
            if database.path is not None:
                _switch_to_wal(database)
            migrations.upgrade(database.write, where=database.where)
    except DBAPIError as error:
        raise StorageError(_error_line(database.where, error, database._url)) from None


def _switch_to_wal(database: Database) -> None:
    # Outside a transaction, hence not through the engine's begin event.
    try:
        with closing(database._engine.raw_connection()) as raw:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
    except sqlite3.DatabaseError as error:
        raise StorageError(_error_line(database.where, error, database._url)) from None


def _parse(url: str) -> URL:
    resolved = resolve_url(url)
    try:
        parsed = make_url(resolved)
    except (ArgumentError, ValueError):
        raise StorageError(
            f"{redact(resolved)}: not a URL of a database; a password's special characters must be"
            " percent-encoded (@ is %40, / is %2F)"
        ) from None
    if parsed.get_backend_name() != "sqlite":
        return parsed
    name = parsed.database or ":memory:"
    if name == ":memory:" or name.startswith("file:"):
        raise StorageError(
            f"{resolved}: workers are processes of their own and share a file; use sqlite:///FILE"
        )
    if "?" in resolved or "?" in name:
        raise StorageError(f"{resolved}: an SQLite database takes no options and no '?'")
    return parsed.set(drivername="sqlite", database=str(Path(name).absolute()))


def _sqlite_path(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite":
        return None
    assert url.database is not None, "a database in memory has no path"
    return Path(url.database)


def _check_file(path: Path, *, create: bool) -> None:
    try:
        if path.is_dir():
            raise StorageError(f"{path}: is a folder; name a file in it")
        if not path.parent.is_dir():
            raise StorageError(f"{path}: its folder does not exist; create {path.parent} first")
        if not path.exists():
            if create:
                return
            raise StorageError(f"{path}: no such database; start a sweep first, or give --storage")
        if not os.access(path, os.R_OK):
            raise StorageError(f"{path}: cannot be read ({os.strerror(errno.EACCES)})")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror or error})") from None
    # By SQLite and never by open(): closing the file would drop the locks of all other connections
    # of this process to it, and the next process to end would delete the log that they write to
    # (https://www.sqlite.org/howtocorrupt.html, 2.2).
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise StorageError(
                f"{path}: not an SQLite database, or a damaged one;"
                " give another file with --storage"
            ) from None


def _engine_options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_TIMEOUT_S, "factory": SqliteConnection}}
    # A connection that a restart of the server has cut is replaced before it is used.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if "connect_timeout" not in url.query:
        options["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT_S}
    return options


def _create_engine(url: URL) -> Engine:
    options = _engine_options(url)
    if url.get_backend_name() != "sqlite":
        return create_engine(url, **options)
    # sqlite3 by itself begins at the first write, so that what a transaction has read before may
    # be stale: two could take one trial. Here it begins when SQLAlchemy says so.
    options["connect_args"]["isolation_level"] = None
    engine = create_engine(url, **options)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("bestepoch_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _error_line(where: str, error: Exception, url: URL) -> str:
    """Return the first line of the driver's text, without the URL's secrets."""
    cause = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = redact(lines[0] if lines else type(cause).__name__)
    for secret in (url.password, *(v for k, v in url.query.items() if k in SECRET_KEYS)):
        # Shorter ones would hide letters of ordinary words, and are no secret.
        if isinstance(secret, str) and len(secret) >= 4:
            text = text.replace(secret, MASK)
    return f"{where}: {text}"
