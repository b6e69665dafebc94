"""A database whose tables another version has made: each command refuses it in one line."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from storage.records import VERSION

COMMANDS = [
    "list",
    "results mine",
    "show mine 0",
    "curves mine",
    "curves mine --html page.html",
    "diagnose mine",
    "diagnose mine --json",
    "compare mine",
    "report mine",
    "dashboard --port 0",
    "delete mine --yes",
    "run --like mine",
    "run mine.py --study mine",
    "run mine.py --study other --warm-start mine",
]
OBJECTIVE = """
import numpy as np
from torch import nn
from objectives.api import Data, Split
def load():
    x = np.random.randn(14, 3)
    one = Split((x,), np.arange(14) % 2)
    return Data(one, one, one, ("no", "yes"))
def build_model(data): return nn.Linear(3, 2)
"""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
def test_tables_of_another_version_are_refused_in_one_line(
    command: str,
    version: int,
    call: Callable[..., int],
    write_study: Callable[..., None],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "mine.py").write_text(OBJECTIVE)
    write_study("mine", [[0.3, 0.7, 0.6]])
    with closing(sqlite3.connect("bestepoch.db")) as connection, connection:
        connection.execute("update bestepoch_schema set version = ?", (version,))
    before = (folder / "bestepoch.db").read_bytes()
    assert call(*command.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    relation = "an older" if version < VERSION else "a newer"
    assert f"{folder}/bestepoch.db: written by {relation} bestepoch" in line
    assert (folder / "bestepoch.db").read_bytes() == before
