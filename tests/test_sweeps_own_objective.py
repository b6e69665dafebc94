"""A person's own objective, from the command to the weights of its best epoch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sweeps
from objectives.registry import find_objective
from search_spaces.ranges import Range
from storage import queries
from sweeps import cli
from sweeps.config.errors import ConfigError
from sweeps.config.load import load_config
from sweeps.config.settings import SweepConfig
from sweeps.running.events import Event, Note
from sweeps.running.sweep import SweepEnd

pytestmark = pytest.mark.usefixtures("folder")

BESTEPOCH = str(Path(sys.executable).with_name("bestepoch"))
MODULE = """
import numpy as np
import torch
from torch import nn

from mypkg.names import CLASSES
from objectives.api import Data, Split


def split(rows):
    x = np.random.randn(rows, 7)  # unseeded: each run must draw the same all the same
    return Split(inputs=(torch.from_numpy(x),), targets=torch.from_numpy(x[:, :3].argmax(1)))


class Layers:
    default_space = {"batch_size": 20, "model": {"hidden": [5, 11]}}

    def load(self, source):
        return Data(split(90), split(30), split(10), CLASSES)

    def build_model(self, data, hidden=5):
        return nn.Sequential(*self.middle(hidden), nn.Linear(hidden, 3))

    def middle(self, hidden):
        return nn.Linear(7, hidden), nn.Tanh()


class WithBatchNorm(Layers):
    name = "Batch.Norm_1"

    def middle(self, hidden):
        return nn.Linear(7, hidden), nn.BatchNorm1d(hidden), nn.Tanh()


class Recurrent(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.layer = nn.LSTM(1, hidden, batch_first=True)

    def forward(self, x):
        return self.layer(x.unsqueeze(-1))[0][:, -1]


class WithLSTM(Layers):
    name = "a name that does not fit"

    def middle(self, hidden):
        return [Recurrent(hidden)]


class Flipped(nn.Linear):
    def forward(self, x):
        x = super().forward(x)
        if x.sum() > 0:
            return -x
        return x


class WithBranch(Layers):
    def default_space(self):
        return {"optimizer": ["adamw"], "learning_rate": 0.01}

    def middle(self, hidden):
        return [Flipped(7, hidden)]
"""
BINARY = """
import numpy as np
from torch import nn
from objectives.api import Data, Split

def split(seed):
    x = np.random.default_rng(seed).normal(size=(60, 2))
    return Split(inputs=x, targets=(x[:, 0] > x[:, 1]))

def load():
    return Data(split(1), split(2), split(3), ["no", "yes"])

def build_model(data, **hparams):
    return nn.Linear(2, 1)
"""


@pytest.fixture(autouse=True)
def _fresh_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.split(".")[0] == "mypkg"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def package(folder: Path) -> Path:
    """``mypkg`` in the current folder, beside a folder named as one of our packages."""
    for name, text in {
        "mypkg/__init__.py": "",
        "mypkg/names.py": "CLASSES = ('a', 'b', 'c')\n",
        "mypkg/mymodule.py": MODULE,
        "storage/__init__.py": "raise RuntimeError('not yours')\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run(
    target: str, *overrides: str, **options: object
) -> tuple[SweepConfig, SweepEnd, list[str]]:
    config = load_config(target, ("max_epochs=3", *overrides), trials=2, workers=1, **options)
    events: list[Event] = []
    end = sweeps.run(config, on_event=events.append)
    return config, end, [event.text for event in events if isinstance(event, Note)]


@pytest.mark.parametrize(
    ("kind", "study", "expected"),
    [
        ("Layers", "layers", None),
        ("WithBatchNorm", "Batch.Norm_1", None),
        (
            "WithLSTM",
            "with-lstm",
            "one slot: a CPU takes its nn.LSTM trial by trial at least as fast",
        ),
        (
            "WithBranch",
            "with-branch",
            "one slot: it cannot be batched over trials: its forward branches on the value of a "
            "tensor",
        ),
    ],
)
@pytest.mark.usefixtures("package")
def test_class_of_a_package_here_is_swept(kind: str, study: str, expected: str | None) -> None:
    config, end, notes = run(f"mypkg.mymodule:{kind}")
    assert (end.ending, end.reason, config.study) == ("done", None, study)
    first, *others = notes
    others = [note for note in others if note.startswith("one slot")]
    sizes = "90 train, 30 validation, 10 test examples of 3 classes"
    assert first == f"mypkg/mymodule.py:{kind}: {sizes}"
    assert others == ([] if expected is None else [expected])
    results = queries.results("bestepoch.db", study)
    assert list(results["outcome"]) == ["exhausted"] * 2
    # Drawn anew, without a seed of its own.
    again, _, _ = run(f"mypkg.mymodule:{kind}")
    assert again == config


def test_file_with_one_output_is_swept_and_its_weights_load(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "my two.py").write_text(BINARY)
    config, end, _ = run("my two.py", "space.learning_rate=0.1", "space.optimizer=adam")
    assert (end.ending, end.reason, config.study) == ("done", None, "my-two")
    assert config.stored()["objective"] == str(folder / "my two.py")
    with pytest.raises(SystemExit):
        cli.main(["show", "my-two", "0"])
    lines = capsys.readouterr().out.split("in Python:\n")[1]
    check = "print(sorted(model.state_dict()), model.weight.shape[0])\n"
    done = subprocess.run(
        [sys.executable, "-c", lines + check],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.stdout == "['bias', 'weight'] 1\n"
    assert queries.results("bestepoch.db", "my-two")["best_score"].max() > 0.9


def test_sweep_file_names_a_file_beside_it(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "mine.py").write_text(BINARY)
    text = 'objective = "mine.py"\n[space]\nlearning_rate = 0.5\n[space.model]\nanything = 3\n'
    (folder / "models" / "sweep.toml").write_text(text)
    config = load_config("models/sweep.toml")
    assert (config.objective, config.study) == (str(folder / "models" / "mine.py"), "mine")
    assert config == load_config(config.objective, ["space.learning_rate=0.5"]).model_copy(
        update={"space": config.space}
    )
    assert SweepConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.usefixtures("package")
def test_default_space_is_laid_over_the_general_one_name_by_name() -> None:
    space = load_config("mypkg.mymodule:Layers").space
    assert (space["batch_size"], space["model.hidden"]) == (20, (5, 11))
    assert space.optimizers == ("adam", "sgd")
    rate = space["learning_rate"]
    assert isinstance(rate, Range)
    assert set(rate.by_optimizer) == {"sgd"}
    branch = load_config("mypkg/mymodule.py:WithBranch").space
    assert (branch.optimizers, branch["learning_rate"]) == (("adamw",), 0.01)


def test_load_gets_the_data_file(folder: Path) -> None:
    text = BINARY.replace("def load():", "def load(source):\n    assert source.name == 'x.csv'")
    (folder / "mine.py").write_text(text)
    objective = find_objective("mine.py")
    assert objective.load(Path("x.csv")).train.inputs[0].dtype == "float32"


def test_edited_file_is_read_again(folder: Path) -> None:
    path = folder / "mine.py"
    path.write_text(BINARY)
    assert load_config("mine.py").space.get("model.width") is None
    path.write_text(BINARY + "default_space = {'model': {'width': 3}}\n")
    os.utime(path, (1, 1))
    assert load_config("mine.py").space["model.width"] == 3


def test_objectives_that_ship_are_checked_without_torch() -> None:
    code = (
        "import sys, sweeps\n"
        "try:\n    sweeps.load_config('relation-cnn', ['space.model.filers=3'])\n"
        "except ValueError as error:\n    print(error)\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    root = str(Path(__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout.splitlines()[-1] == "False False"


def test_all_mistakes_of_an_own_default_space_are_told_at_once(folder: Path) -> None:
    table = "{'learning_rate': {'low': -1, 'high': 1}, 'dropuot': 3, 'batch_size': 2.5}"
    (folder / "mine.py").write_text(f"{BINARY}default_space = {table}\n")
    with pytest.raises(ConfigError) as raised:
        load_config("mine.py")
    assert [line.split(" got")[0].split(";")[0] for line in raised.value.lines] == [
        "mine.py: default_space.learning_rate.low must be > 0.0,",
        "mine.py: default_space.batch_size must be a whole number,",
        "mine.py: unknown key 'dropuot' in [default_space]",
    ]


def test_own_objective_comes_after_installed_modules_on_the_path(folder: Path) -> None:
    (folder / "mine.py").write_text(BINARY)
    find_objective("mine.py")
    assert sys.path[-1] == str(folder)


def test_load_that_differs_at_the_next_run_is_refused(folder: Path) -> None:
    (folder / "mine.py").write_text(BINARY.replace("default_rng(seed)", "default_rng()"))
    _, end, _ = run("mine.py", "workers=2")
    assert (end.ending, end.reason) == ("done", None)  # one load serves all trainers
    before = queries.results("bestepoch.db", "mine")
    with pytest.raises(ConfigError) as raised:
        run("mine.py", "workers=2")
    assert raised.value.lines[1] == "  data: the contents have changed"
    assert queries.results("bestepoch.db", "mine").equals(before)


def test_generator_of_a_module_gives_each_run_the_same_data(folder: Path) -> None:
    text = BINARY.replace("def split", "rng = np.random.default_rng(3)\n\ndef split")
    (folder / "mine.py").write_text(text.replace("np.random.default_rng(seed).", "rng."))
    for _ in range(2):
        _, end, _ = run("mine.py")
        assert (end.ending, end.reason) == ("done", None)


@pytest.mark.parametrize("error", ["raise ValueError('late bug')", "sys.exit('late bug')"])
def test_late_error_of_a_model_has_its_line(folder: Path, error: str) -> None:
    model = f"""
import sys
class Late(nn.Linear):
    def forward(self, x):
        if len(x) > 5:
            {error}
        return super().forward(x)

def build_model(data):
    return Late(2, 1)
"""
    (folder / "mine.py").write_text(BINARY + model)
    line = next(i for i, one in enumerate((BINARY + model).split("\n"), 1) if error in one)
    _, end, _ = run("mine.py")
    assert end.ending == "failed"
    assert end.reason is not None
    assert f"Error: late bug (mine.py:{line})" in end.reason.replace("SystemExit", "Error")
