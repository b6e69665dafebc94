"""Who runs a study: one process at a time holds it, by a lock that dies with its process.

The lock is on a file, or in a PostgreSQL server. It belongs to the object that took it, so two
objects of one process exclude each other too. Who has it stands in a table (``schema.HOLDERS``).
"""

import fcntl
import hashlib
import os
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, delete, insert, select, text
from sqlalchemy.exc import DBAPIError

from storage.locations import StorageError
from storage.records import Holder
from storage.schema import HOLDERS

if TYPE_CHECKING:
    from storage.database import Database

#: Seconds for which a held study is tried again: a reader may just be looking.
HOLD_TIMEOUT_S = 1.0
HOLD_POLL_S = 0.05
# Whose machine has lost its power is noticed after a minute; a server's default is two hours.
_SERVER_NOTICES_DEATH = [
    text(f"SET tcp_keepalives_{name}") for name in ("idle = 30", "interval = 10", "count = 3")
]
_IS_LOCKED = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
    " AND classid::bigint = :high AND objid::bigint = :low"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class StudyHeldError(StorageError):
    """Another process runs the study; the line says which."""


class FileLock:
    """A lock on a file, which is created and stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take it, and return whether it was free; StorageError if the file takes no lock."""
        try:
            # Programs that are started do not inherit it, or they would hold it on.
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError as error:
            self.release()
            reason = error.strerror or error
            raise StorageError(f"{self._path}: cannot write to its folder ({reason})") from None
        return True

    def is_held(self) -> bool:
        """Return whether the file is still this one: a new one is free for another process."""
        try:
            here = os.stat(self._path)
        except FileNotFoundError:
            return False
        return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), here)

    def is_taken(self) -> bool:
        """Return whether anybody has the lock; creates no file."""
        with ExitStack() as stack:
            try:
                descriptor = os.open(self._path, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                # Shared: readers do not take each other for a holder.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except FileNotFoundError:
                return False
            except BlockingIOError:
                return True
        return False

    def release(self) -> None:
        """Give it back; does nothing if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class ServerLock:
    """An advisory lock of a session of PostgreSQL: a transaction would hold back the vacuum."""

    def __init__(self, engine: Engine, words: str) -> None:
        digest = hashlib.sha256(words.encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._session: Connection | None = None

    def acquire(self) -> bool:
        """Take it, and return whether it was free; DBAPIError if the server does not answer."""
        self.release()
        with ExitStack() as at_error:
            session = at_error.enter_context(self._engine.connect())
            session.detach()  # never back to the pool, where it would keep the lock
            for setting in _SERVER_NOTICES_DEATH:
                session.execute(setting)
            take = text("SELECT pg_try_advisory_lock(:key)")
            if session.execute(take, {"key": self._key}).scalar_one():
                at_error.pop_all()
                self._session = session
        return self._session is not None

    def is_held(self) -> bool:
        """Return whether its connection lives, with which it would end."""
        try:
            if self._session is not None:
                self._session.execute(text("SELECT 1"))
        except DBAPIError:
            self.release()
        return self._session is not None

    def is_taken(self) -> bool:
        """Return whether anybody has the lock; takes none."""
        key = self._key % 2**64
        halves = {"high": key >> 32, "low": key & 0xFFFFFFFF}
        with self._engine.connect() as connection:
            return bool(connection.execute(_IS_LOCKED, halves).scalar_one())

    def release(self) -> None:
        """Give it back; does nothing if it is not held."""
        if self._session is not None:
            self._session.close()
            self._session = None


class StudyHold:
    """A study that this process holds; ``Database.hold_study`` makes it."""

    def __init__(self, db: "Database", name: str, holder: Holder) -> None:
        self._db = db
        self._name = name
        self._token = str(uuid.uuid4())
        self._lock = db.make_lock(f"study {name}")
        self._acquire()
        row = {"study": name, "token": self._token, "host": holder.host, "pid": holder.pid}
        with ExitStack() as at_error:
            at_error.callback(self._lock.release)
            with db.write() as connection:
                connection.execute(delete(HOLDERS).where(HOLDERS.c.study == name))
                connection.execute(insert(HOLDERS), row | {"since": holder.since})
            at_error.pop_all()

    def check(self) -> None:
        """Make sure that the study is still held.

        A lock that was lost (the server ended its connection, somebody deleted its file) is taken
        again. Raises StorageUnavailableError if the database does not answer: try again later.

        Raises:
            StudyHeldError: If another process holds the study now, or held it meanwhile.
        """
        if self._lock.is_held():
            return
        self._lock.release()
        self._acquire()
        query = select(HOLDERS.c.token).where(HOLDERS.c.study == self._name)
        with ExitStack() as at_error:
            at_error.callback(self._lock.release)
            with self._db.read() as connection:
                token = connection.execute(query).scalar()
            if token != self._token:
                raise StudyHeldError(
                    f"{self._db.where}: another process has run study {self._name!r} since this"
                    " one lost its lock; start it again"
                )
            at_error.pop_all()

    def release(self) -> None:
        """Give the study back; whoever looks finds no holder."""
        mine = delete(HOLDERS).where(HOLDERS.c.token == self._token)
        try:
            # Where the database is gone the lock is all that counts.
            with suppress(StorageError), self._db.write() as connection:
                connection.execute(mine)
        finally:
            self._lock.release()

    def _acquire(self) -> None:
        deadline = time.monotonic() + HOLD_TIMEOUT_S
        with self._db.clear_errors():
            while not self._lock.acquire():
                if time.monotonic() > deadline:
                    raise StudyHeldError(self._describe_holder())
                time.sleep(HOLD_POLL_S)

    def _describe_holder(self) -> str:
        who = "another process"
        if (found := self._db.find_holder(self._name)) is not None:
            who = f"process {found.pid} on {found.host} since {found.since:%Y-%m-%d %H:%M:%S} UTC"
        return (
            f"{self._db.where}: study {self._name!r} is run by {who};"
            " wait until it ends, or stop it, or give another name with --study"
        )
