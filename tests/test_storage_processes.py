"""Locks and first starts over real processes, on SQLite and on PostgreSQL alike."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import queries
from storage.database import Database, open_database

ROOT = Path(__file__).parent.parent

WORKER = """
import sys
from datetime import datetime, UTC
import optuna
from storage import recorder, study_recorder
from storage.database import open_database
from storage.records import EpochRow, NewTrial, Owner
url, number = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with open_database(url, create=True) as db:
    storage = db.optuna_storage()
    with db.study_lock("start"):
        study = optuna.create_study(storage=storage, study_name="start", load_if_exists=True)
        if "bestepoch:uuid" not in study.user_attrs:
            study.set_user_attr("bestepoch:uuid", "u1")
        study_recorder.create_study(db, study_uuid="u1", name="start", objective="o", config={},
            now=datetime.now(UTC))
        trial = study.ask()
    owner = Owner(f"t{number}", "h", number, 0.0, "cpu", {})
    (claim,) = recorder.begin_trials(db, study_uuid="u1", owner=owner, now=datetime.now(UTC),
        trials=[NewTrial(trial.number, number, {})])
    row = EpochRow(claim, 1, 0.5, 0.5, 0.5, (0.5,), 0.1, 1.0, 0.1)
    recorder.record_epochs(db, [row])
"""

COUNTER = """
import sys
from storage.database import open_database
url, file = sys.argv[1:]
with open_database(url, create=False) as db:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(25):
        with db.study_lock("relation"):
            with open(file) as read:
                count = int(read.read())
            with open(file, "w") as write:
                write.write(str(count + 1))
"""

HOLDER = """
import sys
from storage.database import open_database
with open_database(sys.argv[1], create=False) as db:
    with db.study_lock("relation"):
        print("ready", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def db(storage_url: str) -> Iterator[Database]:
    with open_database(storage_url, create=True) as database:
        yield database


def start_process(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_together(commands: list[tuple[str, ...]]) -> None:
    """Start processes, let them go at once when all are ready, and check that each succeeds."""
    processes = [start_process(*command) for command in commands]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def test_eight_processes_start_on_an_empty_database(storage_url: str) -> None:
    run_together([(WORKER, storage_url, str(number)) for number in range(8)])
    with open_database(storage_url, create=False) as db:
        unfinished = queries.unfinished_trials(db, "u1")
        assert [each.trial for each in unfinished] == list(range(8))
        assert sorted(each.seed for each in unfinished) == list(range(8))
    assert len(queries.curves(storage_url, "start")) == 8


def test_study_lock_excludes_other_processes(
    db: Database, storage_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "count"
    file.write_text("0")
    run_together([(COUNTER, storage_url, str(file))] * 3)
    assert file.read_text() == "75"


def test_study_lock_is_free_after_its_holder_is_killed(db: Database, storage_url: str) -> None:
    holder = start_process(HOLDER, storage_url)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    waiter = start_process(HOLDER, storage_url)
    with db.study_lock("another"):  # locks of other studies are free meanwhile
        holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=60)
    assert holder.returncode == -signal.SIGKILL
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == "ready\n"
    waiter.communicate("go\n", timeout=60)
    assert waiter.returncode == 0
    with db.study_lock("relation"):
        pass
