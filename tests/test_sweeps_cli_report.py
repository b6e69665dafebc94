"""The command ``report``: what it writes and where, and what it says to a mistake."""

import html
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from storage import recorder, study_recorder
from storage.database import open_database
from storage.records import (
    ClassScore,
    EpochRow,
    FinishedTrial,
    NewTrial,
    Owner,
    StudyRow,
    TrialResult,
)
from sweeps import reporting, rerun, studies
from sweeps.config import SweepConfig
from sweeps.config_files import load_config
from sweeps.fixed_trials import parse_trial

Call = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")

NOW = datetime(2031, 5, 7, 11, 13, 17, tzinfo=UTC)
UUID = "4c0f1f0e-0000-4000-8000-000000000001"
CONFIG = SweepConfig(objective="relation-cnn", max_epochs=17, seed=3)


def write_study() -> None:
    """Write a study of one trial, as a sweep would, into bestepoch.db here."""
    curve = [0.31, 0.7132, 0.69]
    with open_database("bestepoch.db", create=True) as db:
        study_recorder.create_study(
            db,
            study_uuid=UUID,
            name="relation",
            objective="relation-cnn",
            config=CONFIG.settings(),
            now=NOW,
        )
        (claim,) = recorder.begin_trials(
            db,
            trials=[NewTrial(0, 7, {"optimizer": "adam", "learning_rate": 0.00123456})],
            study_uuid=UUID,
            owner=Owner("t0", "node7", 4211, 1.0, "cpu", {"torch": "2.13.0"}),
            now=NOW,
        )
        rows = [
            EpochRow(claim, epoch, 0.7, 0.6, f1, (f1, f1), 0.01, 1.5, 0.1)
            for epoch, f1 in enumerate(curve, start=1)
        ]
        recorder.record_epochs(db, rows)
        result = TrialResult(
            outcome="stalled",
            reason="it stalled",
            value=0.7132,
            best_epoch=2,
            best_score=0.7132,
            last_epoch=3,
            last_score=0.69,
            epochs_run=3,
            epochs_to_99=2,
            seconds=0.3,
            confusion=((7, 2), (3, 11)),
        )
        scores = [ClassScore(0, "no", 0.7, 0.78, 0.74, 9), ClassScore(1, "yes", 0.8, 0.7, 0.8, 14)]
        recorder.finish_trials(db, [FinishedTrial(claim, result, scores)], now=NOW)


def test_report_is_written_and_named(
    call: Call, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study()
    assert call("report", "relation", "-o", "mine.html") == 0
    out = capsys.readouterr().out
    assert out.startswith("report of relation written to mine.html (2.0 MB)")
    page = (folder / "mine.html").read_text()
    assert "Trial 0 is the only trial: macro-F1 0.7132" in page
    assert "bestepoch run relation-cnn --study relation --trials 1 --seed 3" in page
    assert "Confusion matrix of trial 0" in page
    assert "torch 2.13.0" in page
    mode = stat.S_IMODE((folder / "mine.html").stat().st_mode)
    plain = folder / "plain"
    plain.write_text("")
    assert mode == stat.S_IMODE(plain.stat().st_mode)


def test_file_of_before_is_replaced_and_nothing_is_left_beside_it(
    call: Call, folder: Path
) -> None:
    write_study()
    (folder / "report.html").write_text("older")
    assert call("report", "relation") == 0
    assert "Trial 0" in (folder / "report.html").read_text()
    assert not [path for path in folder.iterdir() if path.name.startswith(".report")]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("here", "here: cannot be written: a folder; give a file: here/report.html"),
        ("none/report.html", "none/report.html: cannot be written: no folder none"),
    ],
)
def test_place_that_cannot_be_written_is_one_line(
    call: Call, folder: Path, output: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study()
    (folder / "here").mkdir()
    assert call("report", "relation", "-o", output) == 2
    assert capsys.readouterr().err == f"{said}\n"


def test_unknown_study_is_one_line_and_writes_nothing(
    call: Call, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study()
    assert call("report", "relatoin") == 2
    err = capsys.readouterr().err
    assert "did you mean 'relation'?" in err
    assert err.count("\n") == 1
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_epochs": 17, "seed": 3, "patience": 2},
        {"space": {"dropout": 0.5, "optimizer": ["adam", "sgd"]}},
        {"space": {"learning_rate": {"low": 1e-5, "high": 0.1, "log": True}}},
        {"sampler": {"name": "random"}, "pruner": {"name": "none"}},
    ],
)
def test_command_has_the_studys_settings(settings: dict[str, Any]) -> None:
    config = SweepConfig(objective="relation-cnn", **settings).settings()
    row = StudyRow(UUID, "s", "relation-cnn", NOW, config, None, None)
    command = reporting.find_command(row, num_trials=5)
    if command is None:
        # A choice that the preset has and the study has not: no option takes it away.
        assert "sampler" in settings
        return
    words = shlex.split(command)
    assert words[:7] == ["bestepoch", "run", "relation-cnn", "--study", "s", "--trials", "5"]
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    seed = int(words[words.index("--seed") + 1])
    assert load_config("relation-cnn", sets, seed=seed).settings() == config


def test_command_names_the_trials_that_a_sweep_file_named(call: Call, folder: Path) -> None:
    write_study()
    values = {"optimizer": "adam", "learning_rate": 0.001, "beta1": 0.5, "schedule": "constant"}
    url = "sqlite:///bestepoch.db"
    study = optuna.create_study(study_name="relation", storage=url)
    study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"fixed": values}))
    assert call("report", "relation") == 0
    page = html.unescape((folder / "report.html").read_text())
    *_, command = re.findall(r"<code>(bestepoch run .*)</code>", page)
    words = shlex.split(command)
    assert parse_trial(words[words.index("--try") + 1]) == values


def test_command_of_an_interrupted_sweep_has_its_target(folder: Path) -> None:
    write_study()
    study = optuna.create_study(study_name="relation", storage="sqlite:///bestepoch.db")
    assert "--trials 31 " not in str(reporting.read_study("bestepoch.db", "relation").command)
    study.set_user_attr(studies.RUN_ATTRIBUTE, {"trials": 31, "audit": 0.2})
    data = reporting.read_study("bestepoch.db", "relation")
    assert "--trials 31 " in str(data.command)
    assert str(data.command).endswith(" --audit 0.2")
    assert (data.target, data.audit) == (31, 0.2)


def test_value_that_no_option_can_hold_leaves_no_command(folder: Path) -> None:
    write_study()
    study = optuna.create_study(study_name="relation", storage="sqlite:///bestepoch.db")
    values = {"model.name": "a,b"}
    study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"fixed": values}))
    assert rerun.name_first_trials("bestepoch run x", "bestepoch.db", "relation") is None


def test_study_without_one_command_says_so() -> None:
    row = StudyRow(UUID, "s", "gone.py:Objective", NOW, {"max_epochs": 3}, None, None)
    assert reporting.find_command(row, num_trials=5) is None


def test_help_imports_neither_plotly_nor_pandas() -> None:
    code = (
        "import sys\n"
        "from sweeps import cli\n"
        "try:\n    cli.main(['report', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'plotly', 'pandas', 'jinja2', 'torch', 'optuna'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
