"""Trainers in processes of this machine: how they end, and what becomes of the rest."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from small import (
    PATIENCE_S,
    ROOT,
    assert_gone,
    count_loads,
    list_group,
    make_params,
    start,
    write_objective,
)

from objectives.api import DataError, find_fusion_key
from objectives.references import ObjectiveError
from search_spaces.hparams import Hparams
from sweeps.config.errors import ConfigError
from sweeps.trainers import loading, local
from sweeps.trainers.executor import ExecutorError, ParentEnded, Report
from sweeps.trainers.local_executor import LocalExecutor
from sweeps.trainers.messages import Answer, Command, Load, Place, TrainerEnded

FINE = {"hidden": 5, "mode": "fine"}


def make_order(path: Path, **given: Any) -> Load:
    settings: dict[str, Any] = {
        "objective": str(path),
        "data": None,
        "label": "label",
        "model": FINE,
    }
    settings |= {"device": "cpu", "num_trainers": 2, "precision": "float32", "seed": 3}
    settings |= {"metric": "macro-f1", "step_limit_s": 60.0, "max_epochs": 40}
    return Load(**(settings | given))


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor() as executor:
        parent = psutil.Process(executor.parent_pid)
        yield executor
        left = [parent, *children_of(parent)] if parent.is_running() else []
    assert_gone(left)


@pytest.fixture(scope="module")
def loader() -> Iterator[LocalExecutor]:
    """An executor that loads one thing after the other."""
    with LocalExecutor() as executor:
        yield executor


def children_of(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def begin(executor: LocalExecutor, objective: Path, num_trainers: int, **given: Any) -> None:
    executor.load(make_order(objective, num_trainers=num_trainers, **given))
    for index in range(num_trainers):
        executor.start(index, "cpu")


def train(trial: int, mode: str = "fine", lane: int = 0) -> Command:
    params = make_params(mode=mode)
    key = find_fusion_key(Hparams.model_validate(params))
    return Command(lane, key, 0, place=(Place(trial, 100 + trial, params),))


def wait(executor: LocalExecutor, count: int = 1) -> list[Report]:
    """Return the next reports, at least so many."""
    reports: list[Report] = []
    until = time.monotonic() + PATIENCE_S
    while len(reports) < count:
        assert time.monotonic() < until, f"nothing more than {reports} was reported"
        reports += executor.wait(1.0)
    return reports


def test_data_are_loaded_once_for_all_trainers(executor: LocalExecutor, tmp_path: Path) -> None:
    objective = write_objective(tmp_path)
    begin(executor, objective, 3)
    for index in range(3):
        executor.send(index, train(index))
    losses = {}
    for report in wait(executor, 3):
        assert isinstance(report, tuple)
        assert isinstance(report[1], Answer)
        losses[report[0]] = report[1].reports[0].train_loss
    assert len(losses) == 3
    assert count_loads(objective) == 1


@pytest.mark.parametrize(
    ("load", "order", "error", "told"),
    [
        ("raise DataError('row 7 is torn')", {}, DataError, "row 7 is torn"),
        ("raise KeyError('seven')", {}, ObjectiveError, "seven"),
        ("sys.exit(3)", {}, ObjectiveError, "3"),
        ("return 7", {}, (ObjectiveError, DataError), "small_one.py"),
        ("pass", {"metric": "f1:midd"}, ConfigError, "metric: .*'mid'"),
        ("pass", {"objective": "nowhere.py"}, ObjectiveError, "nowhere.py"),
        ("pass", {"model": {"mode": "cannot"}}, ObjectiveError, "no such model"),
        ("pass", {"model": {"mode": "raises"}}, ObjectiveError, "seven"),
    ],
)
def test_what_is_wrong_with_an_objective_is_raised_as_a_mistake_of_its_kind(
    loader: LocalExecutor,
    tmp_path: Path,
    load: str,
    order: dict[str, Any],
    error: type[Exception],
    told: str,
) -> None:
    objective = write_objective(tmp_path, load=load)
    with pytest.raises(error, match=told):
        loader.load(make_order(objective, **order))


def test_device_that_is_not_here_is_a_mistake_in_the_settings(
    loader: LocalExecutor, tmp_path: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ConfigError, match="no CUDA device here"):
        loader.load(make_order(write_objective(tmp_path), device="cuda"))


@pytest.mark.parametrize(
    ("load", "order", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", {}, "signal SIGKILL"),
        ("os._exit(7)", {}, "exit code 7"),
        ("pass", {"model": {"mode": "kills"}}, "signal SIGKILL"),
    ],
)
def test_process_that_dies_as_it_loads_is_one_line(
    executor: LocalExecutor, tmp_path: Path, load: str, order: dict[str, Any], how: str
) -> None:
    objective = write_objective(tmp_path, load=load)
    with pytest.raises(ExecutorError) as raised:
        executor.load(make_order(objective, **order))
    assert str(raised.value) == f"the process that loads the data died ({how})"


def test_trainer_whose_model_kills_it_is_reported_and_can_be_replaced(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    begin(executor, write_objective(tmp_path), 2)
    executor.send(0, train(5, "kills"))
    executor.send(1, train(3))
    reports = dict(report for report in wait(executor, 2) if isinstance(report, tuple))
    assert reports[0] == TrainerEnded(0, "signal SIGKILL")
    assert isinstance(reports[1], Answer)
    executor.start(0, "cpu")
    executor.send(0, train(5))
    (report,) = wait(executor)
    assert isinstance(report, tuple)
    assert isinstance(report[1], Answer)


def test_forward_that_never_returns_is_ended(executor: LocalExecutor, tmp_path: Path) -> None:
    begin(executor, write_objective(tmp_path), 1, step_limit_s=2.0)
    executor.send(0, train(5, "hangs"))
    assert wait(executor) == [(0, TrainerEnded(0, "no step ended in 2 s"))]


def test_step_limit_follows_the_longest_step() -> None:
    now = [100.0]
    shared = [0.0, 0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local.time, "monotonic", lambda: now[0])
        beat = local.Beat(shared, 600.0, 30.0)
        beat.begin()
        assert shared == [100.0, 600.0]
        for taken, limit in [(0.1, 30.0), (2.0, 100.0), (0.1, 100.0), (3.0, 150.0)]:
            now[0] += taken
            beat()
            assert shared == [now[0], limit]
        beat.end()
        assert shared[1] == float("inf")
        # Between two commands no time is counted.
        now[0] += 1e6
        beat.begin()
        now[0] += 0.1
        beat()
        assert shared[1] == 150.0


def test_answers_that_came_before_a_death_are_reported_before_it(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    begin(executor, write_objective(tmp_path), 2)
    parent = psutil.Process(executor.parent_pid)
    for index in (0, 1):
        executor.send(index, train(index))
        assert executor._trainers[index].poll(PATIENCE_S)  # it has answered, and nobody has read
    trainers = parent.children()
    assert len(trainers) == 2
    parent.kill()
    assert_gone([parent, *trainers])
    first, second, last = wait(executor, 3)
    for report in (first, second):
        assert isinstance(report, tuple)
        assert isinstance(report[1], Answer)
    assert last == ParentEnded()
    assert executor.wait(0.0) == []  # it is said once


def test_answer_that_came_before_its_trainers_death_is_reported_before_it(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    begin(executor, write_objective(tmp_path), 1)
    executor.send(0, train(5))
    assert executor._trainers[0].poll(PATIENCE_S)
    (trainer,) = psutil.Process(executor.parent_pid).children()
    trainer.send_signal(signal.SIGSEGV)
    assert_gone([trainer])
    first, second = wait(executor, 2)
    assert isinstance(first, tuple)
    assert isinstance(first[1], Answer)
    assert second == (0, TrainerEnded(0, "signal SIGSEGV"))


def test_executor_that_restarts_loads_again_and_trains(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    objective = write_objective(tmp_path)
    begin(executor, objective, 1)
    os.kill(executor.parent_pid, signal.SIGKILL)
    assert wait(executor) == [ParentEnded()]
    loaded = executor.restart(make_order(objective, num_trainers=1))
    executor.start(0, loaded.devices[0])
    executor.send(0, train(5))
    (report,) = wait(executor)
    assert isinstance(report, tuple)
    assert isinstance(report[1], Answer)
    assert count_loads(objective) == 2


def test_end_of_the_block_ends_all_processes_whatever_they_do(tmp_path: Path) -> None:
    with LocalExecutor() as executor:
        begin(executor, write_objective(tmp_path), 2)
        executor.send(0, train(5, "hangs"))
        executor.send(1, train(3))
        wait(executor)
        parent = psutil.Process(executor.parent_pid)
        processes = [parent, *parent.children()]
    assert len(processes) == 3
    assert_gone(processes)


COORDINATOR = """
import sys
from pathlib import Path
from test_sweeps_trainers_local import begin, train, wait
from sweeps.trainers.local_executor import LocalExecutor

with LocalExecutor() as executor:
    begin(executor, Path(sys.argv[1]), 3)
    for index, mode in enumerate(["hangs", "prints", "fine"]):
        executor.send(index, train(index, mode))
    wait(executor, 2)
    print("ready", flush=True)
    wait(executor)
"""


def test_death_of_the_coordinator_ends_all_and_prints_are_no_output(tmp_path: Path) -> None:
    objective = write_objective(tmp_path)
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n" + COORDINATOR
    with start([sys.executable, "-c", code, str(objective)], tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        processes = [each for each in list_group(process.pid) if each.pid != process.pid]
        assert len(processes) == 4
        # Ctrl-C reaches all of them: only the coordinator acts on it.
        for each in processes:
            each.send_signal(signal.SIGINT)
        assert all(each.is_running() for each in processes)
        process.send_signal(signal.SIGKILL)
        assert_gone(processes)
        said = process.stderr.read()
        assert process.stdout.read() == ""
    for words in ("said by the file", "said by load", "said by forward"):
        assert words in said


def test_trainers_need_no_module_of_the_folder_in_which_a_person_stands(tmp_path: Path) -> None:
    for name in ("storage", "objectives", "sweeps", "multiprocessing"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not yours')")
    objective = write_objective(tmp_path)
    code = f"""
        import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
        from pathlib import Path
        from test_sweeps_trainers_local import begin, train, wait
        from sweeps.trainers.local_executor import LocalExecutor

        with LocalExecutor() as executor:
            begin(executor, Path({str(objective)!r}), 1)
            executor.send(0, train(5))
            print(type(wait(executor)[0][1]).__name__)
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout == "Answer\n"


def test_spawned_trainer_finds_the_objective_by_its_name(tmp_path: Path) -> None:
    # As with CUDA, which does not survive a fork: all that a trainer needs travels as a pickle.
    order = make_order(write_objective(tmp_path))
    work, _ = loading.load(order)
    context = multiprocessing.get_context("spawn")
    ours, theirs = multiprocessing.Pipe()
    shared = context.RawArray("d", [time.monotonic(), math.inf])
    process = context.Process(
        target=local.run_trainer, args=(work, "cpu", theirs, shared, []), daemon=True
    )
    process.start()
    theirs.close()
    params = make_params()
    key = find_fusion_key(Hparams.model_validate(params))
    ours.send(Command(1, key, 0, place=(Place(5, 11, params),)))
    assert ours.poll(PATIENCE_S)
    (report,) = ours.recv().reports
    assert (report.slot, report.epoch, report.error) == (5, 1, None)
    ours.close()
    process.join(PATIENCE_S)
    assert process.exitcode == 0
