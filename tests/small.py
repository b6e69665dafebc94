"""A small objective of a person's own, and processes that tests start and wait for."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
BESTEPOCH = str(Path(sys.executable).with_name("bestepoch"))
#: Seconds within which a process of a test does what it is waited for, on a busy machine.
PATIENCE_S = 90.0
TRAIN, VALIDATION, CLASSES = 91, 31, ("low", "mid", "high")
OBJECTIVE = '''
"""Which of the first three of seven numbers is the largest; a model that may misbehave."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from objectives.api import Data, DataError, Split

print("said by the file")
FOLDER = Path(__file__).parent


def split(rows, seed):
    x = np.random.default_rng(seed).normal(size=(rows, 7)).astype(np.float32)
    return Split(inputs=(x,), targets=x[:, :3].argmax(1))


class Small(nn.Module):
    def __init__(self, hidden, mode):
        super().__init__()
        self.first, self.last, self.mode = nn.Linear(7, hidden), nn.Linear(hidden, 3), mode

    def forward(self, x):
        if self.mode == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "exits":
            sys.exit("enough")
        if self.mode == "raises":
            raise KeyError("seven")
        if self.mode == "prints":
            print("said by forward")
        if self.mode == "slow":
            time.sleep(0.15)
        if self.mode == "hangs":
            (FOLDER / "hangs.txt").touch()
            signal.pause()
        return self.last(torch.tanh(self.first(x)))


def load(source):
    with (FOLDER / "loads.txt").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    print("said by load")
    #LOAD#
    return Data(split(91, 1), split(31, 2), split(11, 3), ("low", "mid", "high"))


def build_model(data, hidden=5, mode="fine"):
    if mode == "cannot":
        raise ValueError("no such model")
    if mode == "leaves":
        sys.exit(7)
    return Small(hidden, mode)


default_space = {
    "optimizer": "adam",
    "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "batch_size": 20,
    "model": {"hidden": 5, "mode": "fine"},
}
'''


def write_objective(folder: Path, *, load: str = "pass") -> Path:
    """Write the objective, whose ``load`` does what is given; return its file."""
    path = folder / "small_one.py"
    path.write_text(OBJECTIVE.replace("#LOAD#", textwrap.indent(load, "    ").strip()))
    return path


def count_loads(path: Path) -> int:
    """Return how often an objective has loaded its data, over all processes."""
    file = path.with_name("loads.txt")
    return len(file.read_text().splitlines()) if file.exists() else 0


def make_params(**given: Any) -> dict[str, Any]:
    """Return the hyperparameters of a trial of the objective."""
    params = {"optimizer": "adam", "learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99}
    model = {"hidden": 5, "mode": given.pop("mode", "fine")}
    return params | {"batch_size": 20, "class_weights": "none", "model": model} | given


@contextmanager
def start(
    command: Sequence[str], folder: Path, **options: Any
) -> Iterator["subprocess.Popen[str]"]:
    """Start a command in a process group of its own, and end all of it in the end."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        text=True,
        start_new_session=True,
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        env={**os.environ, "COLUMNS": "200"},
        **options,
    )
    try:
        yield process
    finally:
        for each in list_group(process.pid):
            each.kill()
        process.kill()
        process.communicate()


def list_group(group: int) -> list[psutil.Process]:
    """Return the processes of a group that are left, zombies apart."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def wait_until(holds: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something holds, as long as a process lives."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def own_lines(stderr: str) -> list[str]:
    """Return what the program itself has said."""
    return [line for line in stderr.splitlines() if not line.startswith("said by")]


def assert_gone(processes: Sequence[psutil.Process]) -> None:
    """Assert that processes end."""
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert not alive, f"still there: {[each.cmdline() for each in alive]}"
