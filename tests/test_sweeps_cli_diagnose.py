"""``diagnose``: its table at 80 columns, one trial in full, and JSON that any reader takes."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sweeps import cli
from sweeps.analysis.findings import Finding, Verdict
from sweeps.analysis.stop_audit import StopTotals
from sweeps.audit import HeldStop
from sweeps.cli.diagnose import describe_stops, short_evidence
from sweeps.stopping import Outcome

NAN = float("nan")
RISING = [0.30 + 0.03 * epoch for epoch in range(17)]
FLAT = [0.3, 0.5, 0.8, *[0.82, 0.81] * 6]
TOO_HIGH = [1.0, 0.4, *[0.1] * 3, *[0.6] * 10]
Write = Callable[..., None]


def call(*args: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(args))
    code = exit_.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def study(write_study: Write) -> str:
    write_study(
        "mine",
        [FLAT, FLAT, RISING, [0.2, NAN], [], [0.3] * 3 + [0.5] * 17],
        outcomes={2: "exhausted", 3: "diverged", 4: "failed", 5: "exhausted"},
        params={1: {"learning_rate": 0.099}, 3: {"learning_rate": 0.5}},
        train_losses={1: TOO_HIGH, 3: [0.5, NAN]},
        held={5: HeldStop(Outcome.BEHIND, 3, 0.3)},
    )
    return "mine"


def test_table_names_each_trial_its_verdict_its_numbers_and_its_epochs(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", study) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    rows = {line.split()[0]: line for line in lines[2:7]}
    assert "still improving" in rows["2"]
    assert "rate too high  " in rows["1"]
    assert "loss 0.1 at epoch 3, then over 0.6" in rows["1"]
    assert "converged" in rows["0"]
    assert rows["0"].split()[-3:] == ["4", "of", "15"]
    assert "diverged" in rows["3"]
    assert "4" not in rows  # it failed without an epoch


def test_advice_for_the_sweep_comes_with_the_option_to_type(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", study) == 0
    out = capsys.readouterr().out
    assert "\nfor the next sweep\n" in out
    options = [line.strip() for line in out.splitlines() if line.startswith("      --")]
    assert options
    assert all(option.startswith(("--set ", "--trials ")) for option in options)


def test_what_stopping_saved_and_cost_is_said(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", study) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "stopping saved 28 epochs in 3 of 5 trials" in out
    assert "audited: 1 trial ran on where it would have been stopped" in out


def test_one_trial_gets_all_its_verdicts_and_its_neighbours(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", study, "1") == 0
    out = capsys.readouterr().out
    assert out.startswith("trial 1 of mine: stalled\nbest 0.8200 at epoch 4 of 15\n")
    assert "\nrate too high\n" in out
    text = " ".join(out.split())
    assert "seen the training loss fell to 0.1 at epoch 3" in text
    assert "advice Lower the learning rate" in text
    assert "Trials 0 (learning_rate 0.01), 2 (learning_rate 0.01)" in text
    assert all(len(line) <= 80 for line in out.splitlines())


def test_json_is_valid_and_has_null_for_what_is_no_number(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    assert call("diagnose", study, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    by_trial = {each["trial"]: each for each in found["trials"]}
    assert sorted(by_trial) == [0, 1, 2, 3, 5]
    assert by_trial[1]["verdict"] == "rate too high"
    (first, *_) = by_trial[1]["verdicts"]
    assert set(first) == {"verdict", "evidence", "advice", "numbers", "beside"}
    assert by_trial[3]["verdicts"][0]["numbers"]["train_loss"] is None
    assert by_trial[3]["gain"] is None
    assert found["stopping"]["num_audited"] == 1
    assert {"about", "text", "option", "numbers"} == set(found["advice"][0])
    assert call("diagnose", study, "1", "--json") == 0
    assert [each["trial"] for each in json.loads(capsys.readouterr().out)["trials"]] == [1]


def test_study_and_trial_without_an_epoch_are_no_mistake(
    study: str, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("empty", [])
    assert call("diagnose", "empty") == 0
    assert capsys.readouterr().out == "study empty has no epoch yet\n"
    assert call("diagnose", "empty", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trials"] == []
    assert call("diagnose", study, "4") == 0
    assert "it has no epoch" in capsys.readouterr().out


def test_unknown_study_and_trial_are_one_line_each(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", "main") == 2
    assert "did you mean 'mine'?" in capsys.readouterr().err
    assert call("diagnose", study, "19") == 2
    assert "trials count from 0 to 5" in capsys.readouterr().err


@pytest.mark.parametrize("verdict", list(Verdict))
def test_finding_without_the_usual_numbers_shows_its_sentence(verdict: Verdict) -> None:
    assert short_evidence(Finding(verdict, "seen so", "do this")) == "seen so"


def test_unaudited_study_is_told_how_to_audit() -> None:
    assert describe_stops(StopTotals(3, 0, 30, 0, 0.0, 0, 0, 0, NAN)) == []
    assert describe_stops(StopTotals(3, 1, 30, 5, 2.0, 0, 0, 0, NAN))[-1].endswith("--audit 0.05")
