"""The house rules that no linter checks."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("sweeps", "search_spaces", "objectives", "storage")
MODULES = sorted(p for name in (*PACKAGES, "tests") for p in (ROOT / name).rglob("*.py"))


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_ours(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin == str(ROOT / name / "__init__.py"), (
        "another distribution installs this name"
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_module_fits_on_a_few_screens(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_tests_folder_holds_no_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py")), "tests/storage/ would shadow storage/"


def test_every_tool_is_told_the_same_packages() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    told = {
        "wheel": tool["hatch"]["build"]["targets"]["wheel"]["packages"],
        "ruff": tool["ruff"]["lint"]["isort"]["known-first-party"],
        "mypy": tool["mypy"]["packages"],
        "coverage": tool["coverage"]["run"]["source_pkgs"],
        "import-linter": tool["importlinter"]["root_packages"],
    }
    for name, packages in told.items():
        assert tuple(packages) == PACKAGES, name


def test_wheel_brings_every_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {path for pattern in project["license-files"] for path in ROOT.glob(pattern)}
    notices = {path for package in PACKAGES for path in (ROOT / package).rglob("*LICENSE*")}
    assert named == {ROOT / "LICENSE", *notices}
    assert project["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_pandas_in_objectives_stays_in_the_readers() -> None:
    for path in (ROOT / "objectives").rglob("*.py"):
        if "data" not in path.relative_to(ROOT / "objectives").parts:
            assert not re.search(r"^\s*(import|from) pandas", path.read_text(), re.MULTILINE), path


def test_every_dependency_is_pinned_in_the_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(each for extra in extras.values() for each in extra)]
    names = {re.split(r"[\[<>=]", each)[0].lower() for each in wanted} - {"bestepoch"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    assert names <= pinned
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if line)
