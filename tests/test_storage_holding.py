"""Who runs a study: real processes, on SQLite and on PostgreSQL alike."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text

from storage import holding, queries, schema
from storage.database import Database, StorageError, StudyHeldError, open_database
from storage.records import Holder

ROOT = Path(__file__).parent.parent
NOW = datetime(2031, 5, 7, 11, 13, 17, tzinfo=UTC)
ME = Holder("node7", 4211, NOW)

#: Holds a study until a line comes in.
HOLD = """
import os, sys
from datetime import datetime, UTC
from storage.database import open_database
from storage.records import Holder
with open_database(sys.argv[1], create=True) as db:
    holder = Holder("node" + sys.argv[3], os.getpid(), datetime(2031, 5, 7, tzinfo=UTC))
    with db.hold_study(sys.argv[2], holder=holder):
        print("held", flush=True)
        sys.stdin.readline()
"""

#: Starts on a database that does not exist yet.
START = """
import sys
from datetime import datetime, UTC
from storage import recorder
from storage.database import open_database
from storage.records import NewTrial, StudyRow
url, number = sys.argv[1], int(sys.argv[2])
now = datetime.now(UTC)
print("held", flush=True)
sys.stdin.readline()
with open_database(url, create=True) as db:
    recorder.create_study(db, StudyRow(f"u{number}", f"s{number}", "o", "accuracy", now, {}))
    recorder.begin_trials(db, f"u{number}", [NewTrial(number, 7, {})], now=now)
"""


@pytest.fixture
def db(storage_url: str) -> Iterator[Database]:
    with open_database(storage_url, create=True) as database:
        yield database


@contextmanager
def process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it is ready."""
    started = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "held\n"
            yield started
        finally:
            started.kill()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.01)


def refuse(db: Database, name: str = "relation") -> str:
    """The line by which a second holder is refused."""
    with pytest.raises(StudyHeldError) as error, db.hold_study(name, holder=ME):
        pytest.fail("two processes hold one study")
    return str(error.value)


def test_second_process_is_refused_with_the_name_of_the_first(
    db: Database, storage_url: str
) -> None:
    with process(HOLD, storage_url, "relation", "3") as first:
        line = refuse(db)
        who = f"'relation' is run by process {first.pid} on node3 since 2031-05-07 00:00:00 UTC"
        assert who in line
        assert len(line.splitlines()) == 1
        assert db.find_holder("relation") == Holder(
            "node3", first.pid, datetime(2031, 5, 7, tzinfo=UTC)
        )
        first.communicate("go\n", timeout=60)
        assert first.returncode == 0
    assert db.find_holder("relation") is None
    with db.hold_study("relation", holder=ME) as hold:
        hold.check()
        assert db.find_holder("relation") == ME


def test_killed_holder_frees_the_study_at_once(db: Database, storage_url: str) -> None:
    with process(HOLD, storage_url, "relation", "3") as first:
        first.send_signal(signal.SIGKILL)
        first.wait(60)
        # A server has to notice that the connection is closed.
        with db.hold_study("relation", holder=ME):
            assert db.find_holder("relation") == ME
            assert ME.host in refuse(db)
        with db.read() as connection:
            assert connection.execute(select(schema.HOLDERS)).all() == []


def test_dead_holder_is_nobody_although_its_row_is_left(db: Database, storage_url: str) -> None:
    with process(HOLD, storage_url, "relation", "3") as first:
        first.send_signal(signal.SIGKILL)
        first.wait(60)
    wait_until(lambda: db.find_holder("relation") is None)
    with db.read() as connection:
        assert connection.execute(select(schema.HOLDERS.c.host)).scalar() == "node3"


def test_two_studies_of_one_database_are_held_side_by_side(db: Database, storage_url: str) -> None:
    with (
        process(HOLD, storage_url, "one", "3"),
        process(HOLD, storage_url, "two", "5"),
        db.hold_study("three", holder=ME),
    ):
        hosts = [db.find_holder(name) for name in ("one", "two", "three", "four")]
        assert [each and each.host for each in hosts] == ["node3", "node5", "node7", None]


def test_process_excludes_itself_too(db: Database) -> None:
    with db.hold_study("relation", holder=ME):
        assert "process 4211 on node7" in refuse(db)
    with db.hold_study("relation", holder=ME):
        pass


def test_looking_for_the_holder_neither_writes_nor_refuses(tmp_path: Path) -> None:
    with open_database(str(tmp_path / "x.db"), create=True) as db:
        before = set(os.listdir(tmp_path))
        assert db.find_holder("relation") is None
        assert set(os.listdir(tmp_path)) == before
        with db.hold_study("relation", holder=ME):
            pass
        locks = [db.make_lock("study relation") for _ in range(2)]
        # Two readers that look at one moment do not take each other for a holder.
        assert [lock.is_taken() for lock in locks] == [False, False]


def test_study_that_is_only_looked_at_is_held_after_a_moment(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = db.make_lock("study relation")
    assert other.acquire()
    # The reader is done at the second look.
    monkeypatch.setattr(holding.time, "sleep", lambda _: other.release())
    with db.hold_study("relation", holder=ME) as hold:
        hold.check()


def test_file_under_another_name_is_the_same_study(tmp_path: Path) -> None:
    with open_database(str(tmp_path / "x.db"), create=True) as db:
        (tmp_path / "link.db").symlink_to(tmp_path / "x.db")
        with (
            db.hold_study("relation", holder=ME),
            open_database(str(tmp_path / "link.db"), create=True) as linked,
        ):
            assert "node7" in refuse(linked)


def test_lock_file_that_was_deleted_is_taken_again(tmp_path: Path) -> None:
    with open_database(str(tmp_path / "x.db"), create=True) as db:
        file = tmp_path / "x.db.relation.lock"
        with db.hold_study("relation", holder=ME) as hold:
            file.unlink()
            hold.check()
            assert file.exists()
            refuse(db)


def test_lock_file_that_was_deleted_and_locked_by_another_is_lost(tmp_path: Path) -> None:
    url = str(tmp_path / "x.db")
    with (
        open_database(url, create=True) as db,
        db.hold_study("relation", holder=ME) as hold,
    ):
        (tmp_path / "x.db.relation.lock").unlink()
        with (
            process(HOLD, url, "relation", "3"),
            pytest.raises(StudyHeldError, match="on node3"),
        ):
            hold.check()
        with pytest.raises(StudyHeldError, match="another process has run study 'relation'"):
            hold.check()


def cut_connections(db: Database) -> None:
    """End every other connection to the database, as an administrator or a restart would."""
    with db.read() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


@pytest.mark.postgres
def test_cut_connection_is_noticed_and_the_study_taken_again(postgres_url: str) -> None:
    with (
        open_database(postgres_url, create=True) as db,
        open_database(postgres_url, create=True) as administrator,
        db.hold_study("relation", holder=ME) as hold,
    ):
        hold.check()
        cut_connections(administrator)
        wait_until(lambda: administrator.find_holder("relation") is None)
        hold.check()
        assert administrator.find_holder("relation") == ME
        refuse(administrator)


@pytest.mark.postgres
@pytest.mark.parametrize("is_still_there", [True, False])
def test_study_that_another_took_meanwhile_is_lost(
    postgres_url: str, is_still_there: bool
) -> None:
    with (
        open_database(postgres_url, create=True) as db,
        open_database(postgres_url, create=True) as administrator,
        db.hold_study("relation", holder=ME) as hold,
    ):
        cut_connections(administrator)
        wait_until(lambda: administrator.find_holder("relation") is None)
        words = "is run by process" if is_still_there else "another process has run study"
        with process(HOLD, postgres_url, "relation", "3") as other:
            if not is_still_there:
                other.communicate("go\n", timeout=60)
            with pytest.raises(StudyHeldError, match=words):
                hold.check()


@pytest.mark.parametrize("name", ["", "..", "a b", "x;drop table"])
def test_name_that_is_none_is_not_held(db: Database, name: str) -> None:
    with pytest.raises(StorageError, match="must be 1 to 128"), db.hold_study(name, holder=ME):
        pytest.fail("held a name that is none")


def test_run_whose_tables_are_gone_still_gives_the_study_back(tmp_path: Path) -> None:
    with open_database(str(tmp_path / "x.db"), create=True) as db:
        with db.hold_study("relation", holder=ME), db.write() as connection:
            connection.execute(text("DROP TABLE bestepoch_holders"))
        assert not db.make_lock("study relation").is_taken()


def test_five_processes_start_on_an_empty_database(storage_url: str) -> None:
    with ExitStack() as stack:
        started = [
            stack.enter_context(process(START, storage_url, str(number))) for number in range(5)
        ]
        for each in started:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        assert [each.wait(60) for each in started] == [0] * 5
    frame = queries.studies(storage_url)
    assert sorted(frame["study"]) == ["s0", "s1", "s2", "s3", "s4"]
    assert frame["num_trials"].tolist() == [1] * 5
