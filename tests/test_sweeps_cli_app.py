"""Mistakes on the command line itself: one line each, exit code 2, no page of usage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import cli


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["run"], "OBJECTIVE_OR_FILE or --like is missing; see: bestepoch run --help"),
        (["rum"], "No such command 'rum'. Did you mean 'run'?"),
        (["run", "relation-cnn", "--trials", "many"], "--trials: input should be a valid integer"),
        (["run", "relation-cnn", "--seeed", "1"], "No such option: --seeed"),
        (
            ["run", "relation-cnn", "--max-epochs", "8"],
            "--max-epochs: no such option; give --set max_epochs=VALUE",
        ),
        (["list", "--storage"], "Option '--storage' requires an argument."),
        (["show", "relation-cnn", "x"], "TRIAL: must be a whole number from 0, got 'x'"),
        (
            ["show", "relation-cnn", "9" * 20],
            "TRIAL: must be a whole number from 0, got '9999",
        ),
        (
            ["results", "relation-cnn", "--by", "worst"],
            "--by: must be one of best, last, tail, got ",
        ),
        (["run", "tabular-mlp", "--data", "\udcfc.csv"], "'\\udcfc.csv': is not UTF-8 text; give"),
        (["results", "--storage", "\udcfc.db", "x"], "'\\udcfc.db': is not UTF-8 text; give the"),
        (
            ["list", "--format", "xml"],
            "--format: must be one of table, csv, json, ",
        ),
        (
            ["list", "--format", "table", "-o", "x"],
            "--format table is for the terminal; ",
        ),
        (["list", "-o", "studies.xlsx"], "studies.xlsx: unknown suffix; give one of .csv, "),
    ],
)
def test_mistake_of_the_command_line_is_one_line(
    args: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        cli.main(args)
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_command_shows_the_help_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([])
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert "dashboard" in captured.out
    assert captured.err == ""


def test_shell_completes_the_names_of_commands(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "bestepoch re", "COMP_CWORD": "1"}
    asked = {**words, "_BESTEPOCH_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", "from sweeps.cli import main; main()"],
        cwd=tmp_path,
        env={**os.environ, **asked, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["results", "report"]
