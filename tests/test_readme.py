"""The READMEs: they name every command and file, their links resolve and their Python runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from sweeps.cli.app import app
from sweeps.config.load import load_config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PACKAGES = ("search_spaces", "objectives", "storage", "sweeps")
FILES = [ROOT / "README.md", *(ROOT / package / "README.md" for package in PACKAGES)]
TEXT = "\n".join(path.read_text() for path in FILES)
COMMANDS = sorted(typer.main.get_group(app).commands)  # type: ignore[attr-defined]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_described(command: str) -> None:
    assert f"| `bestepoch {command}" in README


def test_both_commands_stand_at_the_top() -> None:
    run, test = blocks("console")[:2]
    start = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e "
    assert run == f"{start}. && .venv/bin/bestepoch run relation-cnn\n"
    assert test == f"{start}'.[test]' && .venv/bin/pytest -n 2 --dist loadfile\n"
    assert README.index("## ") > README.index(test)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(path: Path) -> None:
    found = re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", path.read_text())
    for link, anchor in found:
        other = path.parent / link if link else path
        assert other.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            names = [
                re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings
            ]
            assert anchor[1:] in names, (link, anchor)
    assert found or path.parent.name in ("storage", "search_spaces")


def test_the_first_page_is_short() -> None:
    assert len(README.splitlines()) <= 250


def test_map_names_every_folder_with_modules() -> None:
    named = set(re.findall(r"^\| `([\w/]+)/` \|", TEXT, re.MULTILINE))
    found = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    folders = {str(path.relative_to(ROOT)) for path in found} - {"sweeps"}
    assert folders <= named
    assert all((ROOT / each).is_dir() for each in named)


def test_sweep_file_is_valid(tmp_path: Path) -> None:
    (block,) = [text for text in blocks("toml") if "cnn-small" in text]
    path = tmp_path / "sweep.toml"
    path.write_text(block)
    config = load_config(str(path))
    assert (config.study, config.max_total_epochs, config.trials) == ("cnn-small", 400, None)
    assert config.space.optimizers == ("adam", "sgd")


def test_python_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    code = "\n".join(blocks("python"))
    # The README's sweep takes minutes; two trials of an epoch show that the lines work.
    quick = code.replace("max_total_epochs=250)", "trials=2, max_epochs=1)")
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
