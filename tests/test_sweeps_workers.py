"""Real worker processes on a small data file: kills, Ctrl-C, many starters, exact targets."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import sweeps
from storage import queries
from storage.database import open_database
from sweeps.config import SweepConfig
from sweeps.events import (
    EpochDone,
    Event,
    Note,
    TrialEnded,
    TrialStarted,
    WorkerEnded,
    from_line,
    to_line,
)
from sweeps.workers import SweepEnd

WORDS = {"whole": ("part", "piece", "member"), "kind": ("type", "sort", "form")}
BESTEPOCH = str(Path(sys.executable).with_name("bestepoch"))
FILLERS = ("red", "old", "small", "wide", "warm", "slow", "grey")
SMALL = ("space.model.filters=13", "space.batch_size=20", "space.model.vectors=frozen")
# Rates at which nothing diverges, for tests of what is interrupted.
CALM = ("space.optimizer=adam", "space.learning_rate.high=0.001")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of 210 easy sentences of two classes; every fifth is noise."""
    lines = ["sentence\tlabel\tsplit"]
    for i in range(210):
        label = ("whole", "kind")[i % 2]
        shown = ("whole", "kind")[(i + (i % 5 == 0)) % 2]
        fillers = " ".join(FILLERS[(i * k) % 7] for k in range(1, 2 + i % 4))
        split = ("train", "train", "train", "validation", "test")[i // 2 % 5]
        word = WORDS[shown][i % 3]
        lines.append(
            f"<e1>thing{i % 11}</e1> : {word} of a {fillers} <e2>item</e2>\t{label}\t{split}"
        )
    path = tmp_path / "small.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def make_config(data: Path, *overrides: str, **options: object) -> SweepConfig:
    options.setdefault("storage", f"sqlite:///{data.parent / 'sweeps.db'}")
    return sweeps.load_config("relation-cnn", (*SMALL, *overrides), data=str(data), **options)


def all_states(config: SweepConfig) -> list[TrialState]:
    assert config.storage is not None
    with open_database(config.storage, create=False) as db:
        study = optuna.load_study(study_name=config.study, storage=db.optuna_storage())
        return [trial.state for trial in study.trials]


def raw_epochs(data: Path, trial: int, attempt: int) -> list[tuple[float, ...]]:
    connection = sqlite3.connect(data.parent / "sweeps.db")
    try:
        return connection.execute(
            "select epoch, train_loss, val_loss, score, grad_norm from epoch_records "
            "where trial = ? and attempt = ? order by epoch",
            (trial, attempt),
        ).fetchall()
    finally:
        connection.close()


def kill_a_worker_at(epoch: int) -> tuple[Callable[[Event], None], list[int]]:
    """Return a listener that kills one worker of this process once, when a trial is so far."""
    killed: list[int] = []
    seen: set[int] = set()

    def listen(event: Event) -> None:
        if not isinstance(event, EpochDone):
            return
        seen.add(event.worker)
        if event.epoch >= epoch and not killed:
            import psutil

            started = psutil.Process().children()
            forkers = [c for c in started if "sweeps.forker" in c.cmdline()]
            forked = [c for each in forkers for c in each.children()]
            workers = [c for c in started if "sweeps.worker" in c.cmdline()] + forked
            # Not one that has trained nothing yet, while another is ahead.
            if len(seen) == len(workers):
                killed.append(workers[0].pid)
                workers[0].kill()

    return listen, killed


@pytest.mark.parametrize("workers", [1, 2])  # started alone, and forked
def test_killed_worker_is_replaced_and_its_trials_give_the_same_curves(
    data: Path, workers: int
) -> None:
    config = make_config(
        data, "max_epochs=30", "patience=29", "pruner.name=none", trials=6, workers=workers
    )
    listen, killed = kill_a_worker_at(epoch=9)
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        listen(event)

    end = sweeps.run(config, on_event=on_event)
    assert killed
    assert (end.ending, end.exit_code) == ("done", 0)
    assert any(isinstance(e, Note) and "SIGKILL" in e.text for e in events)
    assert all_states(config) == [TrialState.COMPLETE] * 6
    again = {e.trial for e in events if isinstance(e, TrialStarted) and e.attempt == 2}
    assert again
    for trial in again:
        first, second = raw_epochs(data, trial, 1), raw_epochs(data, trial, 2)
        assert len(second) == 30
        # Bit for bit: SQLite keeps doubles as they are.
        assert second[: len(first)] == first
    assert any(raw_epochs(data, trial, 1) for trial in again)


def test_killed_run_is_carried_on_by_the_same_command(data: Path) -> None:
    command = [BESTEPOCH, "run", "relation-cnn", "--trials", "6"]
    command += ["--data", str(data), "--storage", str(data.parent / "sweeps.db")]
    command += ["--set", "max_epochs=40", "--set", "patience=39", "--set", "pruner.name=none"]
    for setting in SMALL:
        command += ["--set", setting]
    config = make_config(data, "max_epochs=40", "patience=39", "pruner.name=none", trials=6)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (data.parent / "sweeps.db").exists() or not _has_epoch(data, 5):
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The workers see their parent's death at the end of an epoch and release their trials.
    _wait_until(lambda: not _workers_alive(data), 30)
    assert TrialState.RUNNING in all_states(config)

    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert all_states(config) == [TrialState.COMPLETE] * 6


def test_ctrl_c_keeps_what_was_done_and_says_how_to_continue(data: Path) -> None:
    command = [BESTEPOCH, "run", "relation-cnn", "--trials", "6"]
    command += ["--data", str(data), "--storage", str(data.parent / "sweeps.db")]
    command += ["--set", "max_epochs=400", "--set", "patience=399", "--set", "pruner.name=none"]
    for setting in (*SMALL, *CALM):
        command += ["--set", setting]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    _wait_until(lambda: (data.parent / "sweeps.db").exists() and _has_epoch(data, 3), 60)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "bestepoch run relation-cnn" in output
    config = make_config(data, "max_epochs=400")
    assert config.storage is not None
    outcomes = set(queries.results(config.storage, config.study)["outcome"])
    assert outcomes == {"interrupted"}


def test_eight_workers_start_at_once_on_an_empty_database_and_hit_the_target(data: Path) -> None:
    config = make_config(data, "max_epochs=2", "patience=2", trials=50, workers=8)
    events: list[Event] = []
    end = sweeps.run(config, on_event=events.append)
    assert end.ending == "done"
    states = all_states(config)
    assert len(states) == 50
    assert TrialState.RUNNING not in states
    ended = [e.trial for e in events if isinstance(e, TrialEnded)]
    assert sorted(ended) == list(range(50))
    ended_workers = [e.worker for e in events if isinstance(e, WorkerEnded) and e.ending == "done"]
    assert sorted(ended_workers) == list(range(8))  # each lived to the end, none was replaced
    assert not any(isinstance(e, Note) and "died" in e.text for e in events)


@pytest.mark.postgres
def test_workers_share_a_study_on_postgresql(
    data: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)  # where the weights of a server's studies lie
    config = make_config(data, "max_epochs=3", trials=9, workers=3, storage=postgres_url)
    end = sweeps.run(config)
    assert (end.ending, end.reason) == ("done", None)
    assert all_states(config) == [TrialState.COMPLETE] * 9
    with open_database(postgres_url, create=False) as db:
        assert len(queries.results(db.url, config.study)) == 9


def test_folder_named_like_our_packages_is_not_imported(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("storage", "objectives"):
        (data.parent / name).mkdir()
        (data.parent / name / "__init__.py").write_text("raise RuntimeError('not yours')")
    monkeypatch.chdir(data.parent)
    end = sweeps.run(make_config(data, "max_epochs=1", trials=1, workers=1))
    assert (end.ending, end.reason) == ("done", None)


def test_time_limit_releases_the_running_trials(data: Path) -> None:
    config = make_config(
        data, *CALM, "max_epochs=4000", "patience=3999", trials=3, workers=1, max_minutes=0.2
    )
    end = sweeps.run(config)
    assert (end.ending, end.exit_code) == ("time is up", 0)
    assert config.storage is not None
    assert set(queries.results(config.storage, config.study)["outcome"]) == {"interrupted"}


def test_two_runs_of_one_study_share_its_target(data: Path) -> None:
    config = make_config(data, "max_epochs=3", "patience=3", trials=14, workers=1)
    ends: list[SweepEnd] = []
    threads = [threading.Thread(target=lambda: ends.append(sweeps.run(config))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert [end.ending for end in ends] == ["done", "done"]
    assert all_states(config) == [TrialState.COMPLETE] * 14


def test_event_survives_the_pipe() -> None:
    for event in (
        TrialStarted(1, 2, 3, {"betas": [0.9, 0.99]}),
        TrialEnded(0, 4, "stalled", "a reason, with a\nnew line", 9, 4, 0.5),
        Note(0, "text"),
    ):
        line = to_line(event)
        assert "\n" not in line
        assert from_line(line) == event


def _has_epoch(data: Path, epoch: int) -> bool:
    connection = sqlite3.connect(data.parent / "sweeps.db")
    try:
        row = connection.execute("select max(epoch) from epoch_records").fetchone()
    except sqlite3.OperationalError:  # the tables are being made
        return False
    finally:
        connection.close()
    return row[0] is not None and row[0] >= epoch


def _workers_alive(data: Path) -> bool:
    connection = sqlite3.connect(data.parent / "sweeps.db")
    try:
        pids = [row[0] for row in connection.execute("select distinct pid from trial_results")]
    finally:
        connection.close()
    return any(Path(f"/proc/{pid}").exists() for pid in pids)


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
