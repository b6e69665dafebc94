"""``new objective``: a file that runs at once, and names that it refuses."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import queries

Call = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")


def test_written_file_runs_with_the_command_that_is_told(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert call("new", "objective", "two-moons") == 0
    *_, command = capsys.readouterr().out.splitlines()
    assert command == "  bestepoch run two_moons.py"
    assert "bestepoch run two_moons.py" in Path("two_moons.py").read_text()
    assert "example" not in Path("two_moons.py").read_text().replace("examples", "")
    short = ("--trials", "3", "--workers", "1", "--set", "max_epochs=15")
    assert call(*command.split()[1:], *short, "--quiet") == 0
    # Both classes alike: 0.5 would be chance.
    assert queries.results("bestepoch.db", "two_moons")["best_score"].max() > 0.8


def test_existing_file_is_left_as_it_is(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text("mine")
    assert call("new", "objective", "mine.py") == 2
    assert capsys.readouterr().err == "mine.py exists; take another name\n"
    assert Path("mine.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2moons", "must be letters, digits and _"),
        ("a b", "must be letters, digits and _"),
        ("../a", "must be letters, digits and _"),
        ("", "must be letters, digits and _"),
        ("class", "is a word of Python"),
        ("torch", "'torch' is a module"),
        ("storage", "'storage' is a module"),
    ],
)
def test_name_that_is_no_new_module_is_refused(
    call: Call, name: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("new", "objective", name) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_unknown_kind_is_one_line(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("new", "model", "x") == 2
    assert capsys.readouterr().err.count("\n") == 1
