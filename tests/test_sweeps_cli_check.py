"""``check`` prints findings for people and programs, and its exit code says whether to sweep."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")

LOOPS = Path(__file__).parent / "loops"
Call = Callable[..., int]

LOOP = """
from planted import make_loop
class_names = ("a", "b", "c")
default_space = {"learning_rate": [0.1, 0.2], "gamma": 2}
inner = make_loop("BUG")
def objective(trial):
    assert trial.params == {"learning_rate": 0.1, "gamma": 2}
    inner(trial)
"""


@pytest.fixture
def write(folder: Path) -> Callable[[str], str]:
    for name in ("loop_data.py", "planted.py"):
        shutil.copy(LOOPS / name, folder)

    def write(bug: str) -> str:
        (folder / "mine.py").write_text(LOOP.replace("BUG", bug))
        return "mine.py:objective"

    return write


def test_fatal_finding_is_told_with_its_line_and_exits_with_2(
    write: Callable[[str], str], call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("check", write("step once an epoch")) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "2 epochs and 2 optimizer steps were watched; 1 fatal, 0 to look at" in text
    assert "planted.py:" in text
    assert "once in an epoch of 7 batches" in text
    assert "fix: call optimizer.step() for each batch" in text


def test_sound_loop_exits_with_0(
    write: Callable[[str], str], call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("check", write(""), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["findings"] == []
    assert found["epochs"] == 2


def test_fatal_finding_stops_a_sweep_before_it_begins(
    write: Callable[[str], str], call: Call, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    given = ("run", write("step once an epoch"), "--trials", "1", "--workers", "1")
    given = (*given, "--set", "max_epochs=2", "--set", "pruner.name=none")
    assert call(*given) == 2
    shown = capsys.readouterr().err
    assert "fatal: one-step-an-epoch" in shown
    assert "--no-check" in shown
    assert not (folder / "bestepoch.db").exists()
    assert call(*given, "--no-check") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def objective(): pass", "a training loop takes its trial alone: objective(trial)"),
        ("class_names = 'abc'\ndef objective(trial): pass", "class_names must be a list of texts"),
        ("default_space = {'gamma': {'low': 2}}\ndef objective(trial): pass", "gamma"),
    ],
)
def test_loop_that_cannot_be_used_is_one_line(
    text: str, expected: str, folder: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.py").write_text(text)
    assert call("check", "mine.py:objective") == 2
    shown = capsys.readouterr().err
    assert expected in shown
    assert len(shown.splitlines()) == 1


def test_objective_without_a_loop_is_checked_in_a_plain_one(
    call: Call, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert call("check", "tabular-mlp") == 0
    assert "nothing found" in capsys.readouterr().out
