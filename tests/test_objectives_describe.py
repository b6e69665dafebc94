"""A person's own objective is described by a process of its own, whatever its code does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from objectives.describe import describe_own
from objectives.references import ObjectiveError, OwnDescription

pytestmark = pytest.mark.usefixtures("folder")

ROOT = Path(__file__).parent.parent
PLAIN = """
def load(): pass
def build_model(data, depth, width=3): pass
"""


def describe(text: str) -> OwnDescription:
    path = Path("mine.py").resolve()
    path.write_text(PLAIN + text)
    return describe_own(str(path))


def test_description_is_what_the_file_says() -> None:
    text = (
        "import numpy as np\ndefault_space = {'model': {'width': (np.int64(5), 11)}, 'rho': 0.7}"
    )
    expected = {"model": {"width": [5, 11]}, "rho": 0.7}
    assert describe(text) == OwnDescription(
        "mine.py", "mine", expected, ("depth", "width"), ("depth",)
    )


def test_prints_of_the_file_do_not_reach_the_answer(capfd: pytest.CaptureFixture[str]) -> None:
    text = "import os\nprint('{}')\nos.write(1, b'from C')\nos.system('echo from a child')"
    assert describe(text).name == "mine"
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "from C" in shown.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import nowhere_at_all", "mine.py:4: ModuleNotFoundError: No module named"),
        ("default_space = {'dropout': {0.5}}", "mine.py: default_space.dropout must be a number"),
        ("import os\nos._exit(7)", "mine.py: the process that imported it ended with exit code 7"),
        ("import os\nos.kill(os.getpid(), 9)", "ended with signal SIGKILL"),
    ],
)
def test_file_that_cannot_be_used_is_one_line(text: str, expected: str) -> None:
    with pytest.raises(ObjectiveError) as raised:
        describe(text)
    assert expected in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_file_is_asked_again_after_a_change_alone() -> None:
    count = "open('asked', 'a').write('x')\n"
    assert (
        describe(count).default_space == describe_own(str(Path("mine.py").resolve())).default_space
    )
    assert Path("asked").read_text() == "x"
    Path("mine.py").write_text(f"{PLAIN}{count}default_space = {{'rho': 0.7}}\n")
    os.utime("mine.py", (1, 1))
    assert describe_own(str(Path("mine.py").resolve())).default_space == {"rho": 0.7}


def test_settings_are_read_without_torch_and_without_the_file() -> None:
    Path("mine.py").write_text("import torch\n" + PLAIN.replace("depth, ", ""))
    code = (
        "import sys, sweeps\n"
        "config = sweeps.load_config('mine.py', ['space.model.width=7'], study='x')\n"
        "print(config.space['model.width'])\n"
        "print([name for name in sys.modules if name == 'torch' or 'mine' in name])\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout == "7\n[]\n"


def test_ctrl_c_ends_an_import_that_never_returns() -> None:
    Path("mine.py").write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "while True: time.sleep(60)\n"
    )
    os.mkfifo("pid")
    code = "from sweeps.cli import main; main()"
    run = subprocess.Popen(
        [sys.executable, "-c", code, "run", "mine.py"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    asked = int(Path("pid").read_text())
    run.send_signal(signal.SIGINT)
    _, shown = run.communicate(timeout=60)
    assert (run.returncode, shown) == (130, "interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.kill(asked, 0)
