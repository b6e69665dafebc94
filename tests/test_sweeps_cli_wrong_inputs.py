"""What cannot be trained is refused by the command: one line, exit code 2, nothing written."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from objectives.api import DataError
from objectives.references import ObjectiveError
from sweeps import cli
from sweeps.config.load import load_config
from sweeps.running.study import make_order
from sweeps.trainers.loading import load

pytestmark = pytest.mark.usefixtures("folder")

HEAD = """
import numpy as np
import torch
from torch import nn
from objectives.api import Data, Split

rng = np.random.default_rng(3)

def split(n=13, c=2):
    return Split(inputs=(rng.normal(size=(n, 7)),), targets=np.arange(n) % c)

def data(**changes):
    parts = {"train": split(), "validation": split(), "test": split()}
    return Data(**{**parts, "class_names": ("no", "yes"), **changes})

def load():
    return data()

def build_model(data, width=2):
    return nn.Linear(7, width)
"""

#: Of each objective: a file, its text, and what the lines say. All else is tested with its reader.
FILES = {
    "tabular-mlp": (
        "t.csv",
        "x,label\n1,a\n2,a\nlow,b\n4,b\n",
        "t.csv, line 4: column 'x' holds 'low' among numbers",
    ),
    "sequence-rnn": ("t.csv", "sequence,step,x\n1,1,2\n", "t.csv: no column 'label'"),
    "relation-cnn": ("t.tsv", "sentence\tlabel\nthe <e1>a</e1> of b\tx\n", "t.tsv, line 2: "),
}
#: What follows the head of the file, and what the line says.
OWN = {
    "width": (
        "def build_model(data): return nn.Linear(7, 3)",
        "(5, 3); expected (5, 2) or (5, 1)",
    ),
    "flat": ("def build_model(data): return nn.Flatten(0)", "has no parameter to train"),
    "no-module": ("def build_model(data): return 3", "must return an nn.Module, got int"),
    "nan": (
        "class M(nn.Linear):\n  def forward(self, x): return super().forward(x).sqrt().log()\n"
        "def build_model(data): return M(7, 2)",
        "mine.py: the untrained model's output holds nan for finite inputs",
    ),
    "no-logits": (
        "class M(nn.Linear):\n  def forward(self, x): return {'scores': x}\n"
        "def build_model(data): return M(7, 2)",
        "forward must return a tensor of logits, got dict",
    ),
    "build": (
        "def build_model(data, depth=1):\n    raise KeyError('depth')",
        "mine.py:22: build_model(data) raised KeyError: 'depth'",
    ),
    "forward": (
        "class M(nn.Linear):\n  def forward(self, x):\n    return super().forward(x[:, 0])\n"
        "def build_model(data): return M(7, 2)",
        "mine.py:23: forward of build_model(data) raised RuntimeError: mat1",
    ),
    "load": ("def load(): return {}['x']", "mine.py:21: load raised KeyError: 'x'"),
    "syntax": ("def load(:", "mine.py:21: SyntaxError: invalid syntax"),
    "import": ("import nowhere_at_all", "mine.py:21: ModuleNotFoundError: No module named"),
    "exit": ("raise SystemExit(0)", "mine.py:21: SystemExit: 0"),
    "missing": ("del build_model\ndef biuld_model(data): ...", "did you mean 'biuld_model'?"),
    "no-data": ("def build_model(): ...", "build_model must take the data first"),
    "no-default": (
        "def build_model(data, width): ...",
        "space.model.width is missing: build_model of mine.py has no default for it",
    ),
    "space": (
        "default_space = {'learning_rate': {'low': 0, 'high': 1, 'log': True}}",
        "mine.py: default_space.learning_rate needs low > 0 for log = true, got 0",
    ),
    "space-name": (
        "default_space = {'model': {'widht': 2}}",
        "unknown key 'widht' in [default_space.model]; did you mean 'width'?",
    ),
    "space-list": ("default_space = []", "default_space must be a table, got list"),
    "not-data": ("def load(): return 3", "load must return Data(train, validation, test"),
    "class-names": ("def load(): return data(class_names=('a',))", "two or more different names"),
    "target": (
        "def load(): return data(validation=split(c=3))",
        "mine.py: validation.targets, row 3: class 2; expected 0 to 1",
    ),
    "float-target": (
        "def load(): return data(train=Split((np.ones((3, 7)),), np.ones(3)))",
        "train.targets: targets of the shape (3,) of float64; expected whole",
    ),
    "rows": (
        "def load(): return data(train=Split((np.ones((3, 7)),), np.arange(5) % 2))",
        "train.inputs[0] has 3 rows and targets has 5",
    ),
    "nan-input": (
        "def load():\n  one = data()\n  one.train.inputs[0][4, 2] = np.nan\n  return one",
        "mine.py: train.inputs[0], row 5, column 3: nan; expected finite numbers",
    ),
    "text-input": (
        "def load(): return data(train=Split((np.array([['a']] * 4),), np.arange(4) % 2))",
        "train.inputs[0] holds text; expected numbers",
    ),
    "ragged": (
        "def load(): return data(train=Split(([[1.0], [1.0, 2.0]],), [0, 1]))",
        "train.inputs[0] is no array of numbers",
    ),
    "ragged-objects": (
        "def load():\n  x = np.array([[1.0], [1.0, 2.0]], dtype=object)\n"
        "  return data(train=Split((x,), [0, 1]))",
        "mine.py: train.inputs[0] has rows of unequal length; expected one length",
    ),
    "exit-load": ("import sys\ndef load(): sys.exit(3)", "mine.py:22: load raised SystemExit: 3"),
    "exit-build": (
        "import sys\ndef build_model(data): sys.exit(3)",
        "mine.py:22: build_model(data) raised SystemExit: 3",
    ),
    "exit-import": ("import sys\nsys.exit(3)", "mine.py:22: SystemExit: 3"),
    "exit-space": (
        "import sys\ndef default_space(): sys.exit(3)",
        "mine.py:22: default_space raised SystemExit: 3",
    ),
    "no-train-row": (
        "def load(): return data(train=split(c=1))",
        "class 'yes' (target 1) has no row in train",
    ),
    "shapes": (
        "def load(): return data(test=Split((np.ones((4, 5)),), np.arange(4) % 2))",
        "test.inputs[0] has rows of shape (5,), those of train are (7,)",
    ),
    "empty": ("def load(): return data(validation=split(0))", "mine.py: validation is empty"),
    "lengths": (
        "def load():\n  x = np.ones((4, 5, 7)); y = np.arange(4) % 2\n"
        "  one = Split((x,), y, np.array([5, 6, 1, 1]))\n  return data(train=one)",
        "train.lengths is 6 in row 2; expected 1 to 5 steps",
    ),
}


#: What is wrong with the default space, which no trainer reads.
SPACES = ("no-default", "space", "space-name", "space-list", "exit-space")


@pytest.fixture(autouse=True)
def _own_sys_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def refuse(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Return the one line with which a run is refused."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["run", *args])
    captured = capsys.readouterr()
    assert exit_.value.code == 2, captured.err
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    assert not list(Path().glob("*.db*"))
    assert not list(Path().glob("*weights*"))
    return captured.err


def refuse_to_load(objective: str, data: str | None = None) -> str:
    """Return the one line with which a trainer refuses data or a model, without a process."""
    usual = make_order(load_config("tabular-mlp", trials=1, device="cpu", workers=1))
    path = None if data is None else Path(data)
    order = replace(usual, objective=objective, data=path, model={})
    with pytest.raises((DataError, ObjectiveError)) as error:
        load(order)
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize("objective", FILES)
def test_wrong_data_file_is_refused(objective: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, text, expected = FILES[objective]
    Path(name).write_text(text)
    assert expected in refuse(capsys, objective, "--data", name)


@pytest.mark.parametrize("objective", ["tabular-mlp", "sequence-rnn", "relation-cnn"])
def test_folder_in_place_of_a_data_file_is_refused(objective: str) -> None:
    Path("mydata").mkdir()
    assert "mydata: is a folder; expected a file" in refuse_to_load(objective, "mydata")


@pytest.mark.parametrize("key", [key for key in OWN if key not in SPACES])
def test_wrong_own_objective_is_refused(key: str) -> None:
    text, expected = OWN[key]
    Path("mine.py").write_text(HEAD + text + "\n")
    assert expected in refuse_to_load("mine.py")


# One of each kind: found in the file, in its space, in its data, by trying its model, in its code.
@pytest.mark.parametrize("key", [*SPACES, "syntax", "target", "width", "build", "exit-load"])
def test_wrong_own_objective_is_refused_by_the_command(
    key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, expected = OWN[key]
    Path("mine.py").write_text(HEAD + text + "\n")
    assert expected in refuse(capsys, "mine.py")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ("mine.py", "--data", "x.csv"),
            "load takes no argument, so that --data x.csv has no use",
        ),
        (("mine.py", "--set", "space.model.widht=3"), "did you mean 'width'? Known: width"),
        (("mine.py", "--try", "model.widht=3"), "did you mean 'width'?"),
        (("mine.py", "--set", "space.model.width=3"), "(5, 3); expected (5, 2) or (5, 1)"),
        (("mine.py:Mine",), "mine.py: no class 'Mine'; it has no class"),
        (("nowhere.py",), "nowhere.py: No such file"),
        (("nowhere.at_all:Mine",), "no module 'nowhere' in this folder, nor installed"),
        (("no module:Mine",), "no module"),
        ((".mine:Mine",), "'.mine' is no module"),
        (("mine.py", "--set", "device=cuda"), "no CUDA device here"),
        (("mine.py", "--warm-start", "other"), "warm_start: "),
        (("mine.py", "--set", "sampler.name=cmaes"), "needs the package cmaes"),
    ],
)
def test_wrong_use_of_an_own_objective_is_refused(
    args: tuple[str, ...],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    find = importlib.util.find_spec

    def find_others(name: str, package: str | None = None) -> object:
        return None if name == "cmaes" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)
    Path("mine.py").write_text(HEAD)
    assert expected in refuse(capsys, *args)


def test_mistake_in_an_objective_of_a_sweep_file_has_the_line_of_both(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("models").mkdir()
    Path("models/mine.py").write_text("import torch\nload = = 3\n")
    Path("models/sweep.toml").write_text('trials = 3\nobjective = "mine.py"\n')
    line = refuse(capsys, "models/sweep.toml")
    assert (
        line == "models/sweep.toml:2: objective: models/mine.py:2: SyntaxError: invalid syntax\n"
    )
