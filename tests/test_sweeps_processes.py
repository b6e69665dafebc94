"""Worker processes that are started ahead: taken, or ended; never left behind."""

import contextlib
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from sweeps.processes import Process, ProcessStarter, close_pipes

CODE = """
    import time
    from sweeps.processes import ProcessStarter
    with ProcessStarter() as starter:
        starter.start_ahead(2)
        print(starter.take().pid, flush=True)
        time.sleep(600)
"""


@pytest.fixture
def starter() -> Iterator[ProcessStarter]:
    with ProcessStarter() as starter:
        yield starter


def find_child(module: str) -> psutil.Process:
    """Return the only child that runs a module; one just started has no command line yet."""
    for _ in range(100):
        found = [each for each in psutil.Process().children() if module in command_of(each)]
        if found:
            break
        time.sleep(0.05)
    (child,) = found
    return child


def command_of(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie, which another test left
        return list(process.cmdline())
    return []


def find_forker() -> psutil.Process:
    return find_child("sweeps.forker")


def end(process: Process) -> int:
    process.kill()
    code = process.wait()
    close_pipes(process)
    return code


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not hold within a minute")


def test_process_without_orders_ends_with_the_block() -> None:
    with ProcessStarter() as starter:
        starter.start_ahead(1)
        left = find_child("sweeps.worker")
    assert not left.is_running()


@pytest.mark.parametrize("count", [1, 2])  # started alone, and forked
def test_worker_outlives_the_block_and_ends_when_nobody_gives_orders(count: int) -> None:
    with ProcessStarter() as starter:
        starter.start_ahead(count)
        taken = starter.take()
        assert psutil.pid_exists(taken.pid)
    assert taken.stdin is not None
    assert taken.stdout is not None
    # The end of its orders before there was one: nobody is there to be told anything.
    taken.stdin.close()
    assert taken.stdout.read() == ""
    taken.wait()
    taken.stdout.close()


def test_forked_workers_have_pipes_and_ends_of_their_own(starter: ProcessStarter) -> None:
    starter.start_ahead(2)
    first, second, third = (starter.take() for _ in range(3))
    assert {each.pid for each in find_forker().children()} == {
        each.pid for each in (first, second, third)
    }
    assert end(second) == -signal.SIGKILL
    assert first.stdin is not None
    first.stdin.close()
    assert first.wait() == 1
    close_pipes(first)
    assert psutil.pid_exists(third.pid)
    assert end(third) == -signal.SIGKILL


def test_worker_is_started_alone_where_the_one_that_forks_has_died(
    starter: ProcessStarter,
) -> None:
    starter.start_ahead(2)
    forked = starter.take()
    forker = find_forker()
    forker.kill()
    alone = starter.take()
    try:
        assert find_child("sweeps.worker").pid == alone.pid
    finally:
        assert end(alone) == -signal.SIGKILL
    # Whoever killed the one is likely to have killed the other; nobody is left to say.
    assert end(forked) == -signal.SIGKILL
    wait_until(lambda: not psutil.pid_exists(forked.pid))


def test_nothing_is_left_of_a_run_that_is_killed() -> None:
    command = [sys.executable, "-c", textwrap.dedent(CODE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        (forker,) = psutil.Process(parent.pid).children()
        parent.kill()
    wait_until(lambda: not forker.is_running() and not psutil.pid_exists(worker))


def test_worker_whose_parent_died_before_its_orders_says_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sweeps.worker"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_more_processes_than_were_started_ahead_can_be_taken() -> None:
    with ProcessStarter() as starter:
        process = starter.take()
    assert psutil.pid_exists(process.pid)
    assert end(process) == -signal.SIGKILL
