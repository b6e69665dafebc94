"""URLs, errors in one line, and that no password is ever in them."""

import os
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Connection, select, text
from sqlalchemy.engine import URL, make_url

from storage import database
from storage.database import open_database
from storage.locations import (
    StorageError,
    StorageUnavailableError,
    check_study_name,
    redact,
    resolve_url,
)
from storage.records import VERSION

ROOT = Path(__file__).parent.parent
CANARY = "kAn4ry-Wrd7"
#: Nothing listens on port 1.
NOWHERE = f"postgresql://anna:{CANARY}@127.0.0.1:1/sweeps?connect_timeout=2"


@pytest.mark.parametrize(
    ("given_url", "environment", "expected"),
    [
        (None, None, "sqlite:///bestepoch.db"),
        (None, "", "sqlite:///bestepoch.db"),
        ("", "runs/y.db", "sqlite:///runs/y.db"),
        ("runs/x.db", "runs/y.db", "sqlite:///runs/x.db"),
        ("/abs/x.db", None, "sqlite:////abs/x.db"),
        ("sqlite:///z.db", None, "sqlite:///z.db"),
        ("postgres://a@h/d", None, "postgresql+psycopg://a@h/d"),
        ("postgresql://a:b@h:5/d?x=1", None, "postgresql+psycopg://a:b@h:5/d?x=1"),
        ("postgresql+psycopg://h/d", None, "postgresql+psycopg://h/d"),
    ],
)
def test_url_is_resolved(
    given_url: str | None,
    environment: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BESTEPOCH_STORAGE", raising=False)
    if environment is not None:
        monkeypatch.setenv("BESTEPOCH_STORAGE", environment)
    assert resolve_url(given_url) == expected
    assert resolve_url(expected) == expected


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_url("~/x.db") == f"sqlite:///{tmp_path}/x.db"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://:p@h/d", "postgresql://:***@h/d"),
        ("postgresql://u:p@q@h/d", "postgresql://u:***@h/d"),  # forgot to encode
        ("postgresql://u:p q@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p/q@h/d", "postgresql://u:***@h/d"),
        ("u:p@h/d", "u:***@h/d"),  # forgot the scheme
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h/d?password=p&a=1", "postgresql://h/d?password=***&a=1"),
        ("postgresql://h/d?a=1&PASSWD=p", "postgresql://h/d?a=1&PASSWD=***"),
        ("postgresql://h/d?sslpassword=p%20q", "postgresql://h/d?sslpassword=***"),
        ("postgresql://h/d?pass%77ord=p", "postgresql://h/d?pass%77ord=***"),
        ("host=h password='p q' user=u", "host=h password=*** user=u"),
        ("dbname=d password = 'p q'", "dbname=d password = ***"),
        ("cannot open sqlite:///a/b.db: see c", "cannot open sqlite:///a/b.db: see c"),
        ("sqlite:////home/me@corp/x.db", "sqlite:////home/me@corp/x.db"),
        ("", ""),
    ],
)
def test_passwords_are_masked(source: str, expected: str) -> None:
    assert redact(source) == expected


@given(password=st.text(min_size=6), key=st.sampled_from(["password", "passwd", "sslpassword"]))
@example(password="a@b/c:d?e", key="password")
def test_no_url_of_sqlalchemy_keeps_its_password(password: str, key: str) -> None:
    secret = CANARY + password.encode("utf-8", "ignore").decode() + CANARY
    url = URL.create("postgresql", "anna", secret, "host", 5, "d", {key: secret})
    assert CANARY not in redact(f"cannot reach {url.render_as_string(hide_password=False)}, sorry")


def no_driver(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    return NOWHERE


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (NOWHERE, "127.0.0.1"),
        (f"postgresql://anna:{CANARY}@h:port/d", "percent-encoded"),
        (f"postgresql://anna:12@{CANARY}@h:x/d", "percent-encoded"),
        (f"mysql://anna:{CANARY}@h/d", "unknown kind of database 'mysql'"),
        (f"postgresql://anna:12@{CANARY}@h/d", "percent-encoded"),
        (f"postgresql://anna:1/2@{CANARY}@127.0.0.1:1/d?connect_timeout=2", "percent-encoded"),
        (f"anna:{CANARY}@h/d", "without a scheme"),
        (f"host=h password={CANARY}", "without a scheme"),
        (f"dbname=d password = '{CANARY}'", "without a scheme"),
        (f"postgresql://127.0.0.1:1/d?connect_timeout=2&password={CANARY}", "127.0.0.1"),
        (f"postgresql://127.0.0.1:1/d?connect_timeout=2&passwd={CANARY}", "passwd"),
        (no_driver, "pip install 'bestepoch[postgres]'"),
    ],
)
def test_no_error_names_the_password(
    source: str | Callable[[pytest.MonkeyPatch], str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = source if isinstance(source, str) else source(monkeypatch)
    with pytest.raises(StorageError) as error:
        open_database(url, create=True)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    shown = "".join(traceback.format_exception(error.value))
    assert CANARY not in shown.replace(f'"{url}"', "")


@pytest.mark.postgres
def test_server_says_what_is_missing(postgres_server: str) -> None:
    url = postgres_server.replace("postgres@", f"postgres:{CANARY}@").rpartition("/")[0]
    with pytest.raises(StorageError, match="no_such_database") as error:
        open_database(f"{url}/no_such_database", create=True)
    assert CANARY not in str(error.value)


def folder_without_files(tmp_path: Path) -> Path:
    # Not even the superuser can create a file there.
    if not Path("/proc/self").exists():
        pytest.skip("no /proc: a folder that is closed to the superuser too")
    return Path("/proc/bestepoch.db")


def text_file(tmp_path: Path) -> Path:
    (tmp_path / "notes.db").write_text("these are notes, not tables")
    return tmp_path / "notes.db"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none" / "x.db", "its folder does not exist"),
        (lambda folder: folder, "is a folder"),
        (lambda folder: folder / "what?.db", "no '?'"),
        (text_file, "not an SQLite database"),
        (folder_without_files, "cannot write to its folder"),
    ],
)
def test_file_that_cannot_be_opened(
    make: Callable[[Path], Path], words: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    url = f"sqlite:///{path}"
    with pytest.raises(StorageError) as error:
        open_database(url, create=True)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_reading_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such database; start a sweep first"):
        open_database(str(tmp_path / "x.db"), create=False)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StorageError, match="holds no sweep yet"):
        open_database(str(tmp_path / "empty.db"), create=False)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"SQLite format 3\x00" + b"\x07" * 4096)
    for create in (False, True):
        with pytest.raises(
            StorageError, match="not an SQLite database, or a damaged one"
        ) as error:
            open_database(str(path), create=create)
        assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"])
def test_memory_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="other processes read it from a file"):
        open_database(url, create=True)


@pytest.mark.parametrize("name", ["a{b}.db", "{SCHEMA_VERSION.__class__}.db", "a b%20#c.db"])
def test_strange_file_name_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    with open_database(str(tmp_path / name), create=True) as db:
        assert db.path == tmp_path / name
        with sqlite3.connect(tmp_path / name) as plain:
            tables = {row[0] for row in plain.execute("SELECT name FROM sqlite_master")}
        plain.close()
        assert "trial_results" in tables
        again = open_database(db.url, create=False)
        assert again.path == db.path
        again.close()


@pytest.mark.parametrize("place", ["file", "folder"])
def test_name_that_is_not_utf8_is_refused_before_anything_is_written(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = os.fsdecode(b"\xfcbung")
    path = f"{strange}.db"
    if place == "folder":
        (tmp_path / strange).mkdir()
        path = "x.db"
    here = tmp_path / strange if place == "folder" else tmp_path
    monkeypatch.chdir(here)
    for url in (path, f"sqlite:///{path}"):
        with pytest.raises(StorageError, match="is not UTF-8") as error:
            open_database(url, create=True)
        assert r"\udcfcbung" in str(error.value).encode().decode()
    assert os.listdir(here) == []


def test_every_connection_has_the_pragmas(sqlite_url: str) -> None:
    with open_database(sqlite_url, create=True) as db, db.read() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
        assert pragmas == {
            "journal_mode": "wal",
            "synchronous": 1,
            "busy_timeout": 5_000,
            "foreign_keys": 1,
        }


def test_writer_is_alone_from_its_first_read(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0)
    with open_database(sqlite_url, create=True) as db, db.write() as first:
        first.execute(select(1))
        with db.read() as reader:  # readers are not held up
            reader.execute(text("SELECT * FROM trial_results"))
        with pytest.raises(StorageUnavailableError, match="locked"), db.write():
            pytest.fail("two writers at once")


def delete_versions_and_fail(connection: Connection) -> None:
    connection.execute(text("DELETE FROM bestepoch_schema"))
    raise ZeroDivisionError


def test_error_rolls_back(storage_url: str) -> None:
    with open_database(storage_url, create=True) as db:
        with pytest.raises(ZeroDivisionError), db.write() as connection:
            delete_versions_and_fail(connection)
        with db.read() as connection:
            assert (
                connection.execute(text("SELECT version FROM bestepoch_schema")).scalar()
                == VERSION
            )


def test_weights_lie_beside_the_file_or_here(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    with open_database(sqlite_url, create=True) as db:
        assert db.weights_dir == tmp_path / "bestepoch-weights"
    server = database.Database(make_url(resolve_url(NOWHERE)))
    assert server.weights_dir == Path("/bestepoch-weights")
    assert CANARY not in repr(server)
    assert CANARY in server.url
    server.close()
    server.close()


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 128])
def test_study_name_is_taken(name: str) -> None:
    assert check_study_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "x" * 129, "a b", "a/b", "../x", "x;drop table", "a\n", "\u00e9", "a~b"],
)
def test_study_name_is_refused(name: str) -> None:
    with pytest.raises(StorageError, match="must be 1 to 128"):
        check_study_name(name)


@pytest.mark.parametrize("module", ["database", "recorder", "queries"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, storage.{module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


HEAVY = ("torch", "pandas", "optuna", "plotly", "numpy", "psycopg")


def open_files_of(folder: Path) -> list[str]:
    """The files in a folder that this process has open, as the system names them."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in names if name.startswith(str(folder))]


def test_opening_again_in_one_process_leaves_the_log_of_open_connections(tmp_path: Path) -> None:
    """As a dashboard does that is asked for a report while other processes come and go."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    write = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
        " connection.execute(sys.argv[2]); connection.commit(); connection.close()"
    )

    def in_another_process(sql: str) -> None:
        subprocess.run([sys.executable, "-c", write, str(tmp_path / "a.db"), sql], check=True)

    with open_database(url, create=True) as held, held.read() as connection:
        connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one()
        connection.commit()
        with open_database(url, create=False) as again, again.read() as other:
            other.execute(text("SELECT 1"))
        in_another_process("CREATE TABLE seen (number INTEGER)")
        in_another_process("INSERT INTO seen VALUES (7)")
        deleted = [name for name in open_files_of(tmp_path) if name.endswith("(deleted)")]
        assert deleted == []
        assert open_files_of(tmp_path)
    with open_database(url, create=False) as held, held.read() as connection:
        assert connection.execute(text("SELECT number FROM seen")).scalar_one() == 7
