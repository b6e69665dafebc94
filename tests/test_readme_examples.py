"""The READMEs' worked examples: each sweep file loads, each command is understood."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import sweeps
from storage import queries
from sweeps.cli.app import main
from sweeps.config.load import load_config
from sweeps.config.pruner import PrunerName
from sweeps.config.sampler import SAMPLERS
from sweeps.config.settings import SweepConfig
from sweeps.running.sweep import SweepEnd

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md"))]
README = "\n".join(path.read_text() for path in PAGES)
FILES = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("bestepoch run relation-cnn ")
]


def load(text: str, folder: Path) -> SweepConfig:
    path = folder / "sweep.toml"
    path.write_text(text)
    return load_config(str(path))


@pytest.mark.parametrize("text", FILES)
def test_sweep_file_loads(text: str, tmp_path: Path) -> None:
    load(text, tmp_path)


def test_conditional_space_gives_each_optimizer_its_own(tmp_path: Path) -> None:
    (text,) = [text for text in FILES if "two-optimizers" in text]
    space = dict(load(text, tmp_path).space.describe())
    assert space["momentum"].endswith("sgd only")
    assert "(sgd: log 0.1..1)" in space["learning_rate"]


def test_named_trials_of_a_file_are_read(tmp_path: Path) -> None:
    (text,) = [text for text in FILES if "from-mine" in text]
    first, second = load(text, tmp_path).tries
    assert first == {"optimizer": "adam", "learning_rate": 0.001, "beta1": 0.9}
    assert second["model.filters"] == 150


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[SweepConfig] = []

    def run(config: SweepConfig, **_: object) -> SweepEnd:
        seen.append(config)
        return SweepEnd(config.study, "", "done", None, 0)

    monkeypatch.setattr(sweeps, "run", run)
    monkeypatch.chdir(tmp_path)
    args = [*shlex.split(command)[1:], "--quiet"]
    with pytest.raises(SystemExit):
        main(args)
    (config,) = seen
    if "--warm-start" in command:
        assert (config.study, config.warm_start) == ("second", "relation-cnn")
    if "--try" in command:
        values = {"learning_rate": 0.001, "optimizer": "adam", "dropout": 0.5}
        assert config.tries == (values,)


def find_rings() -> str:
    """Return the README's objective in a file of its own."""
    blocks = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    return next(block for block in blocks if "rings.py" in block)


def test_own_objective_is_swept_as_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = find_rings()
    (command,) = [
        line for line in README.splitlines() if line.startswith("bestepoch run rings.py ")
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "rings.py").write_text(text)
    with pytest.raises(SystemExit) as exit_:
        main([*shlex.split(command)[1:], "--trials", "2", "--workers", "1", "--quiet"])
    assert exit_.value.code == 0
    assert queries.results("bestepoch.db", "rings")["best_score"].max() > 0.8
    assert "\n   1 " in capsys.readouterr().out


def test_own_objective_needs_no_package_that_the_first_install_line_leaves_out() -> None:
    imported = re.findall(r"^(?:from|import) (\w+)", find_rings(), re.MULTILINE)
    assert set(imported) == {"numpy", "torch", "objectives"}


def test_every_sampler_and_pruner_has_its_row() -> None:
    assert len(COMMANDS) >= 2
    for name in (*SAMPLERS, *PrunerName.__args__):  # type: ignore[attr-defined]
        assert f"\n| `{name}` | " in README, name
