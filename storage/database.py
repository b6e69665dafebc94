"""One URL: connections to a database, and who runs which of its studies.

A ``Database`` belongs to the process that opened it: give another process the URL.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError

from storage import locations, records, versions
from storage.holding import HOLD_POLL_S, FileLock, ServerLock, StudyHeldError, StudyHold
from storage.locations import (
    NoSweepError,
    StorageError,
    StorageUnavailableError,
    redact,
    resolve_url,
)
from storage.records import Holder
from storage.schema import HOLDERS

__all__ = ["Database", "StorageError", "StudyHeldError", "StudyHold", "open_database"]

#: Seconds that a writer waits for another one; SQLite's lock is not fair.
BUSY_TIMEOUT_S = 5
CONNECT_TIMEOUT_S = 10
WEIGHTS_FOLDER = "bestepoch-weights"


class SqliteConnection(sqlite3.Connection):
    """A connection with our pragmas, for our engine and for Optuna's alike."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            # In WAL mode, which is kept in the file, NORMAL may lose the last commits to a power
            # cut, never to a killed process.
            self.execute("PRAGMA synchronous = NORMAL")
            self.execute("PRAGMA foreign_keys = ON")
        except sqlite3.DatabaseError:
            self.close()
            raise


class Database:
    """An open database; close it, or use it in a ``with`` block. Threads may share it."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._engine = _create_engine(url, self.engine_options)
        self._writer = self._engine.execution_options(bestepoch_writes=True)
        # All statements of a reader see one moment, as in SQLite.
        self._reader = (
            self._engine
            if self.path is not None
            else self._engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._at_close = ExitStack()
        self._at_close.callback(self._engine.dispose)
        self._file: os.stat_result | None = None

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
        is_file = self._url.get_backend_name() == "sqlite"
        return Path(self._url.database or "") if is_file else None

    @property
    def weights_dir(self) -> Path:
        """The folder of the weights: beside the SQLite file, or here for a server."""
        return (self.path.parent if self.path is not None else Path.cwd()) / WEIGHTS_FOLDER

    @property
    def engine_options(self) -> dict[str, Any]:
        """What ``create_engine`` needs for connections like ours."""
        if self.path is not None:
            return {"connect_args": {"timeout": BUSY_TIMEOUT_S, "factory": SqliteConnection}}
        # A connection that a restart of the server has cut is replaced before it is used.
        options: dict[str, Any] = {"pool_pre_ping": True}
        if "connect_timeout" not in self._url.query:
            options["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT_S}
        return options

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads, all of one moment; errors: ``clear_errors``."""
        with self.clear_errors(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write; on SQLite it is the only one, from its start.

        After a StorageUnavailableError (the database does not answer, is full, stays locked) the
        commit may have happened: repeat the whole transaction, which must be idempotent.
        """
        with self.clear_errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def hold_study(self, name: str, *, holder: Holder) -> Iterator[StudyHold]:
        """Hold a study, which need not exist yet, for the life of a run: nobody else runs it.

        The operating system or the server frees it when the holder dies, however it dies. A
        process that was forked from the holder and lives on keeps an SQLite study held.

        Raises:
            StudyHeldError: If another process, or another call of this one, holds it.
        """
        hold = StudyHold(self, locations.check_study_name(name), holder)
        try:
            yield hold
        finally:
            hold.release()

    def is_held(self, name: str) -> bool:
        """Return whether a process runs the study now. Does not write."""
        with self.clear_errors():
            return self.make_lock(f"study {name}").is_taken()

    def find_holder(self, name: str) -> Holder | None:
        """Return who runs the study now; None: nobody. Does not write."""
        if not self.is_held(name):
            return None
        with self.read() as connection:
            query = select(HOLDERS.c.host, HOLDERS.c.pid, HOLDERS.c.since)
            row = connection.execute(query.where(HOLDERS.c.study == name)).one_or_none()
        return None if row is None else Holder(*row)

    @contextmanager
    def hold_schema(self) -> Iterator[None]:
        """Keep others from creating tables, ours or Optuna's; waits without a limit."""
        lock = self.make_lock("schema")
        with self.clear_errors():
            while not lock.acquire():
                time.sleep(HOLD_POLL_S)
        try:
            yield
        finally:
            lock.release()

    def note_file(self) -> None:
        """Remember which SQLite file this is."""
        if self.path is not None:
            with suppress(OSError):
                self._file = os.stat(self.path)

    def is_replaced(self) -> bool:
        """Return whether the SQLite file has been deleted or replaced since it was opened."""
        if self.path is None or self._file is None:
            return False
        try:
            return not os.path.samestat(os.stat(self.path), self._file)
        except FileNotFoundError:
            return True

    def rescue(self) -> Path:
        """Write all that a file that was deleted or replaced still holds to a new file beside it.

        Raises:
            StorageError: If that cannot be written either.
        """
        assert self.path is not None, "a server's database is no file"
        taken = (self.path.with_suffix(f".rescued-{i}.db") for i in count(1))
        path = next(each for each in taken if not each.exists())
        try:
            # Its open connections still read the file that has lost its name.
            with closing(self._engine.raw_connection()) as raw:
                raw.cursor().execute("VACUUM INTO ?", (str(path),))
        except (DBAPIError, sqlite3.Error) as error:
            raise StorageError(_error_line(self.where, error, self._url)) from None
        if not self.path.exists():  # SQLite would read what is left into a file put there later
            for ending in ("-wal", "-shm"):
                Path(f"{self.path}{ending}").unlink(missing_ok=True)
        return path

    def make_lock(self, what: str) -> FileLock | ServerLock:
        """Return a lock of this database, not yet taken."""
        if self.path is None:
            return ServerLock(self._engine, f"bestepoch {what}")
        # SQLite follows links too: one database, one lock.
        suffix = "" if what == "schema" else f".{what.removeprefix('study ')}"
        return FileLock(Path(f"{self.path.resolve()}{suffix}.lock"))

    @contextmanager
    def clear_errors(self) -> Iterator[None]:
        """Turn errors of the database into one line each: it does not answer, or is damaged."""
        try:
            yield
        except OperationalError as error:
            raise StorageUnavailableError(_error_line(self.where, error, self._url)) from None
        except DatabaseError as error:
            if type(error) is not DatabaseError:
                raise  # a mistake of ours in SQL, or a row that is there
            raise StorageError(_error_line(self.where, error, self._url)) from None

    def at_close(self, callback: Callable[[], object]) -> None:
        """Call this too when the database is closed."""
        self._at_close.callback(callback)

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        self._at_close.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_database(url: str, *, create: bool) -> Database:
    """Open the database that the URL names, with our tables at today's version.

    Args:
        url: As ``resolve_url`` takes it.
        create: Whether a file or tables that are missing are created; a server's database and
            folders never are. A database that has our tables is not written.

    Raises:
        StorageError: One line, without the password, that says what is wrong and the way out.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        _check_file(Path(parsed.database or ""), create=create)
    try:
        database = Database(parsed)
    except ImportError:
        raise StorageError(
            f"{redact(str(parsed))}: PostgreSQL needs a driver;"
            " install it with: pip install 'bestepoch[postgres]'"
        ) from None
    try:
        _prepare(database, create=create)
        database.note_file()
    except BaseException:
        database.close()
        raise
    return database


def check_integrity(url: str) -> str:
    """Return what a person is told of a sound database; a missing file is sound too.

    Raises:
        StorageError: If it is damaged, cannot be opened, or is another program's.
    """
    parsed = _parse(url)
    path = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
    if path is not None and path.parent.is_dir() and not path.exists():
        return f"{path}: not there yet; the first run creates it"
    with open_database(url, create=False) as database, database.read() as connection:
        if path is not None:
            # Of a file of 100 MB this takes a second.
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
            if found != "ok":
                reason = " ".join(str(found).split())
                raise StorageError(f"{path}: damaged ({reason}); restore it from a copy")
    return f"{database.where}: sound, tables of version {records.VERSION}"


def _prepare(database: Database, *, create: bool) -> None:
    try:
        if database.path is None or database.path.exists():
            with database.read() as connection:
                if versions.has_tables(connection, database.where):
                    return
        if not create:
            raise NoSweepError(f"{database.where}: holds no sweep yet; start one first")
        with database.hold_schema():
            if database.path is not None:
                # Outside a transaction, hence not through the engine's begin event.
                with closing(database._engine.raw_connection()) as raw:
                    raw.cursor().execute("PRAGMA journal_mode = WAL")
            with database.write() as connection:
                if not versions.has_tables(connection, database.where):
                    versions.create_tables(connection)
    except (DBAPIError, sqlite3.DatabaseError) as error:
        raise StorageError(_error_line(database.where, error, database._url)) from None


def _parse(url: str) -> URL:
    resolved = resolve_url(url)
    try:
        parsed = make_url(resolved)
    except (ArgumentError, ValueError):
        raise StorageError(
            f"{redact(resolved)}: not a URL of a database; {locations.NOT_ENCODED}"
        ) from None
    if parsed.get_backend_name() != "sqlite":
        return parsed
    name = parsed.database or ":memory:"
    if name == ":memory:" or name.startswith("file:"):
        raise StorageError(f"{resolved}: other processes read it from a file; use sqlite:///FILE")
    if "?" in resolved or "?" in name:
        raise StorageError(f"{resolved}: an SQLite database takes no options and no '?'")
    path = locations.check_encoding(str(Path(name).absolute()))
    return parsed.set(drivername="sqlite", database=path)


def _check_file(path: Path, *, create: bool) -> None:
    try:
        if path.is_dir():
            raise StorageError(f"{path}: is a folder; name a file in it")
        if not path.parent.is_dir():
            raise StorageError(f"{path}: its folder does not exist; create {path.parent} first")
        if not create and not path.exists():
            raise NoSweepError(f"{path}: no such database; start a sweep first, or give --storage")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror or error})") from None


def _create_engine(url: URL, options: dict[str, Any]) -> Engine:
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
    if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return f"{where}: not an SQLite database, or a damaged one; give another with --storage"
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = redact(lines[0] if lines else type(cause).__name__)
    for secret in (url.password, *(v for k, v in url.query.items() if k in locations.SECRET_KEYS)):
        # Shorter ones would hide letters of ordinary words, and are no secret.
        if isinstance(secret, str) and len(secret) >= 4:
            text = text.replace(secret, locations.MASK)
    return f"{where}: {text}"
