"""What tests share: databases, an empty folder, studies to read, a headless browser.

A database is an SQLite file, or stands on a PostgreSQL server where there is one. The server is
the one of ``BESTEPOCH_TEST_POSTGRES`` (its user must be allowed to create databases), else a
temporary one from the programs of this machine.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The server lives as long as the pipe to this shell: a test run that is killed leaves none behind.
KEEPER = """
initdb="$0/initdb -D $1/data -U postgres -A trust -E UTF8 --no-locale --no-sync"
options="-p $2 -k $1 -c listen_addresses=127.0.0.1 -c fsync=off"
if $initdb >"$1/log" 2>&1 && "$0/pg_ctl" -D "$1/data" -w -l "$1/log" -o "$options" start >&2
then
    echo ready
    cat >/dev/null
    "$0/pg_ctl" -D "$1/data" -m immediate stop >&2
else
    cat "$1/log" >&2
fi
rm -rf "$1"
"""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch with one thread, as in a worker: sums keep their order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("BESTEPOCH_STORAGE", raising=False)
    return tmp_path


@pytest.fixture
def call() -> Callable[..., int]:
    """Calls the program as a terminal would: ``call("results", "mine")`` is its exit code."""
    from sweeps import cli

    def call(*args: str) -> int:
        with pytest.raises(SystemExit) as exit_:
            cli.main(list(args))
        code = exit_.value.code
        assert isinstance(code, int)
        return code

    return call


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A headless Chromium, or a skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # Not sandboxed: as root, and in many containers, Chromium would not start.
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sweeps.db'}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a database on a server in which others may be created."""
    pytest.importorskip("psycopg")
    given = os.environ.get("BESTEPOCH_TEST_POSTGRES")
    if given:
        yield given
        return
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL: neither BESTEPOCH_TEST_POSTGRES nor initdb on this machine")
    # PostgreSQL refuses to run as root.
    prefix = ["runuser", "-u", _server_user(), "--"] if os.geteuid() == 0 else []
    # Short: the path of a socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="bestepoch-pg-"))
    if prefix:
        shutil.chown(folder, _server_user())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keeper = subprocess.Popen(
        [*prefix, "sh", "-c", KEEPER, str(programs), str(folder), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=True,
    )
    assert keeper.stdout is not None
    ready = keeper.stdout.readline()
    try:
        assert ready == "ready\n", "the server did not start; what it said stands above"
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        keeper.communicate(timeout=60)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty database of its own on the server."""
    import psycopg

    name = f"bestepoch_test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        head, _, options = postgres_server.partition("?")
        base = head.rpartition("/")[0]
        yield f"{base}/{name}" + (f"?{options}" if options else "")
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def storage_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database, of each kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def _postgres_programs() -> Path | None:
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += [each.parent for each in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    return found[-1] if found else None


def _server_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@pytest.fixture
def write_study(folder: Path) -> Callable[..., None]:
    """Writes a study into bestepoch.db of an empty current folder; see ``written.write_study``."""
    import written

    return written.write_study
