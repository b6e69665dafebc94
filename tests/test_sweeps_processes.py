"""Worker processes that are started ahead: taken, or ended; never left behind."""

import subprocess
import sys

import psutil

from sweeps.processes import ProcessStarter


def test_process_without_orders_ends_with_the_block() -> None:
    with ProcessStarter() as starter:
        starter.start_ahead(2)
        taken = starter.take()
        workers = [p for p in psutil.Process().children() if "sweeps.worker" in p.cmdline()]
        left = [each for each in workers if each.pid != taken.pid]
        assert left
    assert not any(each.is_running() for each in left)
    assert taken.poll() is None
    assert taken.stdin is not None
    assert taken.stdout is not None
    # The end of its orders before there was one: nobody is there to be told anything.
    taken.stdin.close()
    assert taken.wait(timeout=120) == 1
    assert taken.stdout.read() == ""
    taken.stdout.close()


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
    assert process.poll() is None
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
