"""What ``diagnose`` says of the next sweep where the study asks for nothing: as in the report."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import pandas as pd
import pytest
from written import hold

from sweeps import notebook, reporting
from sweeps.analysis import report_facts, verdicts
from sweeps.analysis.findings import Finding, Verdict
from sweeps.config_files import load_config

FLAT = [0.3, 0.5, 0.8, *[0.82, 0.81] * 6]
#: Within its range.
MIDDLE = {trial: {"learning_rate": 0.001} for trial in range(3)}
Call = Callable[..., int]
Write = Callable[..., None]


def test_hint_of_the_best_trial_is_that_of_the_report(
    call: Call,
    write_study: Write,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = "The loss is too sure of its errors, the score holds: try label_smoothing = 0.1."
    option = "--set space.label_smoothing=0.1"
    judge = verdicts.judge_study

    def judge_overfit(
        *frames: pd.DataFrame, class_names: Sequence[str]
    ) -> list[verdicts.TrialVerdict]:
        assert tuple(class_names) == ("a", "b", "c")
        found = (Finding(Verdict.OVERFIT, "seen", asked, option=option),)
        return [replace(each, findings=found) for each in judge(*frames)]

    monkeypatch.setattr(verdicts, "judge_study", judge_overfit)
    write_study("mine", [FLAT, FLAT[:13]], config={"space": {}})
    facts = report_facts.gather(reporting.read_study("bestepoch.db", "mine"))
    assert (facts.advice, facts.next_option) == ([], option)
    assert facts.next_step == f"To try next: {asked}"
    assert call("diagnose", "mine") == 0
    out = capsys.readouterr().out
    assert "The trials together ask for no other settings; the best one suggests:\n" in out
    assert "try label_smoothing = 0.1" in " ".join(out.split())
    assert f"\n      {option}\n  all of it, as a study of its own" in out
    assert call("diagnose", "mine", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hint"] == {"text": asked, "option": option}
    assert option in found["command"]


def test_study_that_decides_over_epochs_leaves_other_trials_to_try(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [FLAT] * 11, config={"space": {}, "patience": 6})
    facts = report_facts.gather(reporting.read_study("bestepoch.db", "mine"))
    assert facts.next_step.startswith("To try next: more trials or other models. ")
    assert call("diagnose", "mine") == 0
    said = "ask for no other settings. To try next: more trials or other models."
    assert said in " ".join(capsys.readouterr().out.split())


def test_killed_sweep_is_carried_on_by_its_own_command(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config("relation-cnn", ["space.dropout=0.5"], trials=31).stored()
    write_study("mine", [FLAT] * 3, outcomes={2: None}, config=config, params=MIDDLE)
    with closing(sqlite3.connect("bestepoch.db")) as connection, connection:
        connection.execute("update trial_results set outcome = 'interrupted' where trial = 2")
    assert call("diagnose", "mine") == 0
    out = capsys.readouterr().out
    assert "3 of 31 trials so far; 2 have ended. The sweep was interrupted: 1 trial" in " ".join(
        out.split()
    )
    command = "bestepoch run --like mine --study mine"
    assert f"      {command}\n" in out
    assert "let the sweep run on" in " ".join(out.split())
    # Its target is no change, so it stands behind no piece of advice.
    assert "\n      --trials" not in out
    assert call("diagnose", "mine", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_ended"], found["budget"]["trials"], found["carry_on"]) == (2, 31, command)
    assert found["command"] is None


def test_sweep_that_another_process_trains_is_not_to_be_carried_on(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config("relation-cnn", trials=31).stored()
    write_study("mine", [FLAT] * 3, outcomes={2: None}, config=config, params=MIDDLE)
    with hold("mine"):
        assert call("diagnose", "mine") == 0
    out = capsys.readouterr().out
    assert "3 of 31 trials so far; 2 have ended. This is not the end" in " ".join(out.split())
    assert "bestepoch run" not in out
    assert "\n      --trials" not in out


def test_classes_have_names_before_a_trial_has_ended(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [[0.0] * 11], outcomes={0: None})
    assert call("diagnose", "mine", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["trials"]
    lost = [each for each in found["verdicts"] if each["verdict"] == "class collapse"]
    assert [each["classes"] for each in lost] == [["a", "b", "c"]]
    assert "rightly called a or b or c" in notebook.verdicts("mine")["evidence"].iloc[0]
    shown = reporting.read_study("bestepoch.db", "mine").verdicts["evidence"].iloc[0]
    assert "rightly called a or b or c" in shown


def test_sweep_in_which_nothing_learns_has_no_example(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    nan = float("nan")
    outcomes = dict.fromkeys(range(2), "diverged")
    write_study("mine", [[0.2, nan]] * 2, outcomes=outcomes, train_losses={0: [0.5, nan]})
    assert call("diagnose", "mine", "--json") == 0
    found = json.loads(capsys.readouterr().out)["trials"][0]["verdicts"][0]
    assert found["beside"] == "No trial of this sweep has learned enough to be an example."
