"""What ``diagnose`` says of the next sweep where the study asks for nothing: as in the report."""

import json
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from sweeps import reporting
from sweeps.analysis import report_facts, verdicts
from sweeps.analysis.findings import Finding, Verdict

FLAT = [0.3, 0.5, 0.8, *[0.82, 0.81] * 6]
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

    def judge_overfit(*frames: pd.DataFrame) -> list[verdicts.TrialVerdict]:
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
