"""Runs as people start and stop them: scripts, notebooks, Ctrl-C, pipes, two at once."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from small import (
    BESTEPOCH,
    PATIENCE_S,
    ROOT,
    assert_gone,
    count_loads,
    list_group,
    own_lines,
    start,
    wait_until,
    write_objective,
)

from storage import queries
from storage.locations import StorageError

#: Seconds in which a run ends after a first Ctrl-C: 5 are promised, and this machine may be busy.
SOON_S = 9.0
SHORT = ("max_epochs=2", "patience=2", "prune_patience=1")
LONG = ("max_epochs=100000", "patience=99999", "prune_patience=1", "pruner.name=none")
SCRIPT = f"""
import sys
import sweeps

end = sweeps.run(sweeps.load_config("small_one.py", {SHORT}, trials=3, workers=1))
print(end.ending, end.exit_code, "torch" in sys.modules, "small_one" in sys.modules)
"""
THREAD = f"""
import threading

def work():
{textwrap.indent(SCRIPT, "    ")}

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
#: Without IPython: a __main__ without a file, and a loop that runs, as in the cell of a notebook.
CELL = f"""
import asyncio

async def cell():
{textwrap.indent(SCRIPT, "    ")}

del globals()["__spec__"]
assert "__file__" not in globals()
asyncio.run(cell())
"""


def list_command(*args: str, settings: Sequence[str] = SHORT, trials: int = 3) -> list[str]:
    command = [BESTEPOCH, "run", "small_one.py", "--trials", str(trials), "--workers", "2"]
    for setting in settings:
        command += ["--set", setting]
    return [*command, "--storage", "sweeps.db", *args]


def read_outcomes(folder: Path, study: str = "small_one") -> dict[int, Any]:
    frame = queries.results(f"sqlite:///{folder / 'sweeps.db'}", study)
    return dict(zip(frame["trial"], frame["outcome"], strict=True))


def read_event(process: "subprocess.Popen[str]", name: str) -> dict[str, Any]:
    """Read the events of ``--json-lines`` up to the next of a kind."""
    assert process.stdout is not None
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(f"no {name} came")


@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (["script.py"], None),  # without a main guard
        (["-"], SCRIPT),
        (["-c", THREAD], None),
        (["-c", CELL], None),
    ],
    ids=["script", "stdin", "thread", "notebook"],
)
def test_sweep_runs_wherever_python_runs(
    tmp_path: Path, args: list[str], stdin: str | None
) -> None:
    objective = write_objective(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, *args],
        input=stdin,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    # Neither torch nor a person's file is imported by the process that owns the study.
    assert done.stdout == "done 0 False False\n", done.stderr
    assert own_lines(done.stderr) == []
    assert count_loads(objective) == 1


def test_second_run_of_a_study_names_its_holder_and_another_study_runs_beside_it(
    tmp_path: Path,
) -> None:
    write_objective(tmp_path)
    with (
        start(list_command("--json-lines", settings=LONG), tmp_path) as first,
        start(list_command("--study", "other"), tmp_path) as other,
    ):
        read_event(first, "EpochDone")
        second = subprocess.run(
            list_command(settings=LONG),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        (line,) = own_lines(second.stderr)
        assert second.returncode == 2
        assert second.stdout == ""
        for words in (socket.gethostname(), str(first.pid), "small_one", "since"):
            assert words in line
        _, err = other.communicate(timeout=PATIENCE_S)
        assert other.returncode == 0, err
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=PATIENCE_S)
        assert first.returncode == 130
    assert set(read_outcomes(tmp_path, "other").values()) <= {"stalled", "exhausted", "behind"}
    assert set(read_outcomes(tmp_path).values()) == {"interrupted"}


#: Sends Ctrl-C to the whole process group at an import of the command; as many as it has.
AT_IMPORT = """
import os, signal, sys

count, at = 0, int(sys.argv.pop(1))
def note(event, _):
    global count
    if event == "import" and "sweeps.cli" in sys.modules:
        count += 1
        if count == at:
            os.killpg(0, signal.SIGINT)

sys.addaudithook(note)
from sweeps.cli import main
main()
"""


def has_trials(folder: Path) -> bool:
    """Return whether the study has a trial with an epoch."""
    if not (folder / "sweeps.db").exists():
        return False
    try:
        return bool((read_epochs(folder) > 0).any())
    except StorageError:  # it is just being made
        return False


def read_epochs(folder: Path) -> pd.Series:
    return queries.results(f"sqlite:///{folder / 'sweeps.db'}", "small_one")["epochs_run"]


def test_reader_of_the_last_table_may_have_gone_away(tmp_path: Path) -> None:
    write_objective(tmp_path)
    with start(list_command("--quiet", settings=LONG), tmp_path) as process:
        assert process.stdout is not None
        process.stdout.close()
        wait_until(lambda: has_trials(tmp_path), process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(PATIENCE_S)
        assert_interrupted(process, err, is_kept=True)


#: Sends Ctrl-C while a callback runs, whose exceptions Python only reports.
IN_CALLBACK = """
import signal, sys, weakref

class Object: pass

def note(event, args):
    if event == "import" and args[0] == "sweeps.running.sweep" and (given := Object()):
        seen = weakref.ref(given, lambda _: signal.raise_signal(signal.SIGINT))
        del given

sys.addaudithook(note)
from sweeps.cli import main
main()
"""


def test_ctrl_c_in_a_callback_is_not_lost(tmp_path: Path) -> None:
    write_objective(tmp_path)
    command = [sys.executable, "-c", IN_CALLBACK, *list_command(settings=LONG)[1:]]
    with start(command, tmp_path) as process:
        _, err = process.communicate(timeout=PATIENCE_S)
        assert_interrupted(process, err)


@pytest.mark.parametrize("at", [1, 30, 150, 300, 420, 600, 800])
def test_ctrl_c_during_the_imports_is_one_line(tmp_path: Path, at: int) -> None:
    write_objective(tmp_path)
    command = [sys.executable, "-c", AT_IMPORT, str(at), *list_command(settings=LONG)[1:]]
    with start(command, tmp_path) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
        assert_interrupted(process, err)
    assert "Traceback" not in out


def assert_interrupted(
    process: "subprocess.Popen[str]", err: str, *, is_kept: bool = False
) -> None:
    """Assert that a run that was interrupted said so in a line, and that nobody is left."""
    line, *more = own_lines(err)
    assert (process.returncode, line.split(":")[0]) == (130, "interrupted")
    # A study that is there is carried on by a command that can be pasted.
    assert len(more) <= 1
    if more or is_kept:
        carry_on = (
            "to carry on: bestepoch run --like small_one --study small_one --storage sweeps.db"
        )
        assert more == [carry_on]
    assert_gone(list_group(process.pid))


@pytest.fixture
def _hangup_is_not_ignored() -> Iterator[None]:
    """As in a terminal; ``nohup pytest`` would hand on that it is."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hangup_is_not_ignored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_while_trials_train_keeps_what_was_done(
    tmp_path: Path, number: signal.Signals
) -> None:
    write_objective(tmp_path)
    with start(list_command("--json-lines", settings=LONG), tmp_path) as process:
        read_event(process, "EpochDone")
        os.killpg(process.pid, number)  # as a terminal does: to every process of the group
        out, err = process.communicate(timeout=PATIENCE_S)
        assert_interrupted(process, err, is_kept=True)
    last = json.loads(out.splitlines()[-1])
    assert (last["event"], last["ending"], last["exit_code"]) == ("SweepEnded", "interrupted", 130)
    outcomes = read_outcomes(tmp_path)
    assert outcomes
    assert set(outcomes.values()) == {"interrupted"}


def test_ctrl_c_while_the_data_are_loaded_is_one_line(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, load="signal.pause()")
    with start(list_command(), tmp_path) as process:
        wait_until(lambda: count_loads(objective) > 0, process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert_interrupted(process, err)
    assert out == ""
    assert not (tmp_path / "sweeps.db").exists()


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_ends_a_run_whose_epoch_never_ends_soon_and_a_second_one_at_once(
    tmp_path: Path, presses: int
) -> None:
    write_objective(tmp_path)
    modes = "space.model.mode=['fine', 'hangs']"
    command = list_command("--try", "model.mode=hangs", settings=(*LONG, modes))
    with start(command, tmp_path) as process:
        wait_until((tmp_path / "hangs.txt").exists, process)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        children = psutil.Process(process.pid).children(recursive=True)
        # The first waits a while for the epoch that is being trained.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        if presses == 2:
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - began < SOON_S
        assert_interrupted(process, err, is_kept=True)
        assert_gone(children)
    # The same command goes on with the trial that was cut off.
    assert pd.isna(read_outcomes(tmp_path)[0]) or presses == 1


def test_reader_that_goes_away_stops_the_run_and_what_ended_is_stored(tmp_path: Path) -> None:
    write_objective(tmp_path)
    settings = ("max_epochs=40", "patience=39", "pruner.name=none")
    command = list_command("--json-lines", settings=settings, trials=200)
    with start(command, tmp_path) as process:
        ended = read_event(process, "TrialEnded")
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(PATIENCE_S)
        assert_interrupted(process, err, is_kept=True)
    outcomes = read_outcomes(tmp_path)
    assert outcomes[ended["trial"]] == ended["outcome"]
    assert len(outcomes) < 200
    assert set(outcomes.values()) <= {"interrupted", "exhausted", "stalled"}


def test_reader_of_plain_lines_may_go_away_too(tmp_path: Path) -> None:
    write_objective(tmp_path)
    with start(list_command(settings=LONG), tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("study")
        process.stdout.close()
        assert process.stderr is not None
        # It notices with the next line that it prints, which may be that of Ctrl-C's end.
        wait_until(lambda: bool(list((tmp_path).glob("sweeps.db"))), process)
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
        process.wait(PATIENCE_S)
        assert_interrupted(process, err)
