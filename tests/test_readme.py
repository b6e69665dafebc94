"""The README: it names every command and file, its links resolve and its Python runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from sweeps.cli.app import app
from sweeps.config_files import load_config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(typer.main.get_group(app).commands)  # type: ignore[attr-defined]
PACKAGES = ("search_spaces", "objectives", "storage", "sweeps")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_described(command: str) -> None:
    assert f"| `bestepoch {command}" in README


def test_both_commands_stand_at_the_top() -> None:
    run, test = blocks("console")[:2]
    start = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e "
    assert run == f"{start}. && .venv/bin/bestepoch run relation-cnn\n"
    assert test == f"{start}'.[test]' && .venv/bin/pytest\n"
    assert README.index("## ") > README.index(test)


def test_links_resolve() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_file_tree_names_every_module() -> None:
    tree = README.split("```\npyproject.toml")[1].split("```")[0]
    named = set(re.findall(r"^ +([\w/]+\.py) ", tree, re.MULTILINE))
    files = {
        str(path.relative_to(ROOT / package))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert named == files


def test_sweep_file_is_valid(tmp_path: Path) -> None:
    block = blocks("toml")[0]
    path = tmp_path / "sweep.toml"
    path.write_text(block)
    config = load_config(str(path))
    assert (config.study, config.trials) == ("cnn-small", 40)
    assert config.space.optimizers == ("adam", "sgd")


def test_python_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    code = "\n".join(blocks("python"))
    # The README's sweep takes minutes; two trials of an epoch show that the lines work.
    quick = code.replace("trials=24)", "trials=2, max_epochs=1)")
    assert quick != code
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", quick],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("done\n")
    assert "learning_rate" in ran.stdout
