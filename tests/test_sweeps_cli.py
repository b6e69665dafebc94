"""What the command prints and how it exits; studies are written by the recorder, not trained."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import typer.main
from written import hold, uuid_of, write_each_outcome, write_study

from storage import frames, queries
from storage.database import open_database
from storage.optuna_mirror import OptunaMirror, optuna_storage
from sweeps import cli
from sweeps.cli.commands import app

Call = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")

ROOT = Path(__file__).parent.parent
COMMANDS = tuple(typer.main.get_group(app).commands)  # type: ignore[attr-defined]
SEED = 2**63 - 25


def make_study(name: str = "relation", **given: Any) -> None:
    """Write a study with a trial of each outcome, in Optuna's tables too."""
    write_each_outcome(name=name, seed=SEED, **given)
    with open_database("bestepoch.db", create=False) as db:
        OptunaMirror(db, name, uuid_of(name))


@pytest.mark.parametrize("command", [(), ("new", "objective"), *((name,) for name in COMMANDS)])
def test_each_command_has_help(
    call: Call, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*command, "--help") == 0
    out = capsys.readouterr().out
    assert "Usage: bestepoch" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "optuna", "pandas", "sqlalchemy", "numpy")
    program = f"""
import sys
from sweeps import cli
from sweeps.cli.commands import app
for command in {("", *COMMANDS)!r}:
    try:
        cli.main([*command.split(), "--help"])
    except SystemExit:
        pass
print("LOADED", [name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_unknown_study_is_one_line_with_the_nearest_name(
    call: Call, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    make_study()
    assert call("results", "relatoin") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"{folder}/bestepoch.db: no study 'relatoin'; did you mean 'relation'? Known: relation\n"
    )


def test_all_mistakes_of_a_sweep_are_told_at_once(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call("run", "relation-cnn", "--trials", "0", "--set", "patiense=3", "--set", "foo")
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert "--set foo" in lines[0]
    assert any("--trials" in line and "got 0" in line for line in lines)
    assert any("did you mean 'patience'" in line for line in lines)


def test_missing_data_file_is_one_line(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "relation-cnn", "--data", "nowhere.tsv") == 2
    err = capsys.readouterr().err
    assert err.startswith("nowhere.tsv: ")
    assert err.count("\n") == 1


def test_password_is_never_printed(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", "--storage", "mysql://me:hunter2@host/x") == 2
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err
    assert "***" in captured.err


def test_debug_shows_where_a_mistake_was_found() -> None:
    with pytest.raises(queries.StorageError):
        cli.main(["--debug", "list"])


def test_unexpected_error_is_told_without_traceback(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(url: str) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(queries, "studies", fail)
    assert call("list") == 1
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "unexpected RuntimeError: first line"
    assert "--debug" in err[1]


@pytest.mark.parametrize("command", [("list",), ("results", "any"), ("show", "any", "0")])
def test_missing_database_is_a_mistake(
    call: Call, command: tuple[str, ...], capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert call(*command) == 2
    assert "no such database" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_empty_database_says_how_to_begin(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    open_database("bestepoch.db", create=True).close()
    assert call("list") == 0
    assert "bestepoch run relation-cnn" in " ".join(capsys.readouterr().out.split())
    assert call("list", "--format", "csv") == 0
    assert capsys.readouterr().out == ",".join(frames.STUDIES) + "\n"
    assert call("results", "any") == 2


def test_study_without_trials_is_no_mistake(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("relation", [])
    assert call("results", "relation") == 0
    assert capsys.readouterr().out == "study relation has no trial yet\n"


@pytest.mark.parametrize(
    ("command", "columns"),
    [(("list",), frames.STUDIES), (("results", "relation"), frames.RESULTS)],
)
def test_formats_have_the_columns_of_the_frames(
    call: Call,
    command: tuple[str, ...],
    columns: dict[str, str],
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    make_study()
    assert call(*command, "--format", "csv") == 0
    header = next(csv.reader(io.StringIO(capsysbinary.readouterr().out.decode())))
    assert header == list(columns)
    assert call(*command, "--format", "json") == 0
    rows = json.loads(capsysbinary.readouterr().out)
    assert all(list(row) == list(columns) for row in rows)
    assert call(*command, "--format", "parquet") == 0
    frame = pd.read_parquet(io.BytesIO(capsysbinary.readouterr().out))
    assert list(frame.columns) == list(columns)
    assert len(frame) == len(rows)


def test_files_are_exact(call: Call, folder: Path) -> None:
    make_study()
    for suffix in ("csv", "json", "parquet"):
        assert call("results", "relation", "-o", f"r.{suffix}") == 0
    rows = json.loads(Path("r.json").read_text())
    assert rows[0]["learning_rate"] == 0.00123456
    assert rows[0]["seed"] == SEED
    assert rows[4]["best_score"] is None
    assert pd.read_csv("r.csv")["best_score"][0] == 0.7132
    assert pd.read_parquet("r.parquet")["seed"][0] == SEED


def test_file_that_cannot_be_written_is_a_mistake(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study()
    assert call("results", "relation", "-o", "nowhere/r.csv") == 2
    assert capsys.readouterr().err.startswith("nowhere/r.csv: cannot be written")


def test_table_fits_80_columns_without_cutting_a_number(
    call: Call,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_study()
    assert call("results", "relation") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    first, second = lines[2].split(), lines[3].split()
    assert first[:8] == ["1", "0", "0.7132", "2", "0.6100", "4", "stalled", "adam"]
    assert {"0.00123", "0.457", "50"} <= set(first)
    assert second[:8] == ["2", "1", "0.7000", "3", "0.7000", "3", "exhausted", "sgd"]
    unranked = [line.split()[:2] for line in lines[4:7]]
    # The one that still runs, then what diverged and failed.
    assert unranked == [["-", "3"], ["-", "2"], ["-", "4"]]
    text = " ".join(" ".join(lines).split())
    assert "all trials: class_weights=none model.filters=150 model.vectors=trainable" in text
    assert "best: trial 0, macro-F1 0.7132 at epoch 2 (at its last epoch, 4: 0.6100)" in text
    assert "compared by the last epoch, trial 1 would win with 0.7000" in text
    assert "not shown at 80 columns: beta1, beta2, momentum" in text


def test_wide_terminal_shows_every_hyperparameter(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study()
    monkeypatch.setenv("COLUMNS", "140")
    assert call("results", "relation", "--by", "last") == 0
    out = capsys.readouterr().out
    assert "not shown" not in out
    assert "0.9988" in out  # beta2 = 0.99876
    assert out.splitlines()[2].split()[:2] == ["1", "1"]
    assert "by last epoch: trial 1, macro-F1 0.7000 (its best: 0.7000 at epoch 3)" in out


def test_delete_needs_a_yes(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    make_study()
    assert call("delete", "relation") == 2
    assert "--yes" in capsys.readouterr().err
    assert len(queries.studies("bestepoch.db")) == 1


def test_study_that_is_held_is_not_deleted(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    make_study()
    with hold("relation"):
        assert call("delete", "relation", "--yes") == 2
    said = "study 'relation' is being trained by process 4211 on node7; stop it first\n"
    assert capsys.readouterr().err == said
    assert len(queries.studies("bestepoch.db")) == 1


def test_delete_takes_what_the_study_has_written_and_nothing_else(
    call: Call, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = folder / "bestepoch-weights"
    own = weights / f"relation-{uuid_of('relation')[:8]}"
    other = weights / f"other-{uuid_of('other')[:8]}"
    # As a study of the same UUID in another database would be called.
    alike = weights / f"older-{uuid_of('relation')[:8]}"
    outside = folder / "outside"
    for each in (own, other, alike, outside):
        each.mkdir(parents=True)
    (weights / "link").symlink_to(outside)
    kept = [each / "trial-0.safetensors" for each in (other, alike, outside)]
    kept += [folder / "b.txt", own / "mine.txt", own / "trial-x.safetensors"]
    gone = [own / f"trial-{name}.safetensors" for name in ("0", "3", "4")]
    gone += [own / "states-7.safetensors", own / "states-8.safetensors.tmp"]
    for path in kept + gone:
        path.write_bytes(b"x")
    files = {0: f"{own.name}/trial-0.safetensors", 1: "../b.txt", 2: "link/trial-0.safetensors"}
    files[4] = str(outside / "trial-0.safetensors")
    make_study(weights=files)
    make_study("other")
    assert call("delete", "relation", "--yes") == 0
    assert "5 trials, 3 weights files" in capsys.readouterr().out
    assert all(path.exists() for path in kept)
    assert sorted(own.iterdir()) == sorted(path for path in kept if path.parent == own)
    assert list(queries.studies("bestepoch.db")["study"]) == ["other"]
    with open_database("bestepoch.db", create=False) as db:
        names = optuna.get_all_study_names(storage=optuna_storage(db))
    assert names == ["other"]


def test_deleted_optuna_study_does_not_keep_ours(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study()
    with open_database("bestepoch.db", create=False) as db:
        optuna.delete_study(study_name="relation", storage=optuna_storage(db))
    assert call("delete", "relation", "--yes") == 0
    assert queries.studies("bestepoch.db").empty
