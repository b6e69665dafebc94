"""``diagnose``: its table at 80 columns, one trial in full, and JSON that any reader takes."""

import json
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from written import hold

from sweeps.analysis.findings import Finding, Verdict
from sweeps.analysis.stop_audit import StopTotals, describe_stops
from sweeps.cli.evidence import short_evidence
from sweeps.config_files import load_config, load_like

NAN = float("nan")
RISING = [0.30 + 0.03 * epoch for epoch in range(17)]
FLAT = [0.3, 0.5, 0.8, *[0.82, 0.81] * 6]
TOO_HIGH = [1.0, 0.4, *[0.1] * 3, *[0.6] * 10]
Call = Callable[..., int]
Write = Callable[..., None]


@pytest.fixture
def study(write_study: Write) -> str:
    write_study(
        "mine",
        [FLAT, FLAT, RISING, [0.2, NAN], [], [0.3] * 3 + [0.5] * 17],
        outcomes={2: "exhausted", 3: "diverged", 4: "failed", 5: "exhausted"},
        params={1: {"learning_rate": 0.099}, 3: {"learning_rate": 0.5}},
        train_losses={1: TOO_HIGH, 3: [0.5, NAN]},
        held={5: ("behind", 3, 0.3)},
    )
    return "mine"


def test_table_names_each_trial_its_verdict_its_numbers_and_its_epochs(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
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


def test_advice_for_the_sweep_comes_with_the_options_and_the_command_to_type(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [RISING] * 5, outcomes=dict.fromkeys(range(5), "exhausted"))
    write_study("mine-2", [FLAT])
    assert call("diagnose", "mine") == 0
    out = capsys.readouterr().out
    assert "\nrecommended max_epochs: 40 (this sweep allowed 20)\n" in out
    assert "\nfor the next sweep\n" in out
    assert "      --set max_epochs=40\n" in out
    # Other settings want a study of their own, by a name that is free.
    assert "all of it, as a study of its own:\n" in out
    assert "      bestepoch run --like mine --study mine-3 --set max_epochs=40\n" in out


def test_command_for_the_next_sweep_keeps_what_was_set(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["max_epochs=17", "space.dropout=0.5"]
    config = load_config("relation-cnn", changes, seed=3, trials=5).stored()
    outcomes = dict.fromkeys(range(5), "exhausted")
    write_study("mine", [RISING] * 5, outcomes=outcomes, config=config)
    assert call("diagnose", "mine", "--json") == 0
    words = shlex.split(json.loads(capsys.readouterr().out)["command"])
    assert words[:6] == ["bestepoch", "run", "--like", "mine", "--study", "mine-2"]
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    taken = load_like("mine", given, study="mine-2").stored()
    assert taken["max_epochs"] == 34
    assert taken["space"]["dropout"] == 0.5
    changed = {"max_epochs": 17, "space": {}, "study": ""}
    assert taken | changed == config | changed


def test_sentences_of_advice_have_names_for_people(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"optimizer": "adam", "learning_rate": 0.01, "clip_norm": [1e6, 5.0]}
    write_study(
        "mine",
        [[0.3, 0.3 + 0.1 * (i // 2 % 2)] for i in range(24)],
        params={i: {"clip_norm": (1e6, 5.0)[i % 2]} for i in range(24)},
        config={"space": space},
    )
    assert call("diagnose", "mine") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line == line.rstrip() for line in lines if line.startswith("  "))
    assert "Gradient clipping (clip_norm) shows no effect in 24 trials" in " ".join(
        " ".join(lines).split()
    )
    assert "      --set space.clip_norm=1000000" in lines


def test_trials_alone_are_more_of_the_same_study(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("few", [FLAT])
    assert call("diagnose", "few") == 0
    out = capsys.readouterr().out
    assert "1 scored trial for 1 sampled parameter tells too little" in " ".join(out.split())
    assert "this study goes on with" in out
    assert "--study few --trials 10" in out
    assert "recommended max_epochs" not in out
    assert "--set" not in out


def test_running_trial_is_marked(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [FLAT, [0.3, 0.4]], outcomes={1: None})
    with hold("mine"):
        assert call("diagnose", "mine") == 0
        out = capsys.readouterr().out
        assert call("diagnose", "mine", "--json") == 0
    assert "\n   1*  " in out
    assert "*: has not ended" in out
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [each["is_running"] for each in trials] == [False, True]
    assert [each["outcome"] for each in trials] == ["stalled", "running"]


def test_trial_whose_process_is_gone_does_not_run(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [FLAT, [0.3, 0.4], [0.3]], outcomes={1: None, 2: None})
    with closing(sqlite3.connect("bestepoch.db")) as connection, connection:
        connection.execute("update trial_results set outcome = 'interrupted' where trial = 2")
    assert call("diagnose", "mine") == 0
    out = capsys.readouterr().out
    assert "\n   1*  " in out
    assert "\n   2*  " in out
    said = "*: has not ended (interrupted or cut off); judged by the epochs that it had so far"
    assert said in " ".join(out.split())
    assert call("diagnose", "mine", "--json") == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    found = {each["trial"]: (each["outcome"], each["is_running"]) for each in trials}
    assert found == {0: ("stalled", False), 1: ("cut off", False), 2: ("interrupted", False)}


def test_epochs_that_came_in_while_reading_are_left_out(
    call: Call, study: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from storage import queries

    before = queries.results("bestepoch.db", study)
    before.loc[before["trial"] == 2, ["epochs_run", "last_epoch"]] = 11
    monkeypatch.setattr(queries, "results", lambda *_: before)
    assert call("diagnose", study) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("    2  ")]
    assert row.split()[-3:] == ["11", "of", "11"]


def test_text_for_a_trial_is_named(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in ("x", "1.5"):
        assert call("diagnose", study, wrong) == 2
        shown = capsys.readouterr().err
        assert shown == f"TRIAL: must be a whole number from 0, got {wrong!r}\n"


def test_diverged_study_is_told_other_rates(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(
        "wild",
        [[0.2, NAN]] * 3,
        outcomes=dict.fromkeys(range(3), "diverged"),
        params={i: {"learning_rate": 50.0 * 10**i} for i in range(3)},
    )
    assert call("diagnose", "wild") == 0
    out = capsys.readouterr().out
    assert "All 3 trials diverged, at learning rates from 50: lower" in " ".join(out.split())
    assert "--set space.learning_rate.low=0.0003 --set space.learning_rate.high=0.03" in out
    assert "nothing speaks" not in out
    # They were ended because nothing would have come of them.
    assert "stopping " not in out
    assert "what it cost" not in out


def test_what_stopping_saved_and_cost_is_said(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", study) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "stopping 2 of 4 trials (1 that diverged left out) saved 10 of the" in out
    assert "audited: 1 trial ran on where it would have been stopped" in out


def test_one_trial_gets_all_its_verdicts_and_its_neighbours(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", study, "1") == 0
    out = capsys.readouterr().out
    assert out.startswith("trial 1 of mine: stalled\nbest 0.8200 at epoch 4 of 15\n")
    assert "\nrate too high\n" in out
    text = " ".join(out.split())
    assert "seen the training loss fell to 0.1 at epoch 3" in text
    assert "advice Lower the learning rate" in text
    # Trial 2 learns too, and scored less.
    assert "Trial 0 (learning rate 0.01) of this sweep does not show it." in text
    assert all(len(line) <= 80 for line in out.splitlines())


def test_json_is_valid_and_has_null_for_what_is_no_number(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    assert call("diagnose", study, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    by_trial = {each["trial"]: each for each in found["trials"]}
    assert sorted(by_trial) == [0, 1, 2, 3, 5]
    assert by_trial[1]["verdict"] == "rate too high"
    (first, *_) = by_trial[1]["verdicts"]
    assert set(first) == {
        *("verdict", "evidence", "advice", "option", "numbers", "beside", "classes")
    }
    assert by_trial[3]["verdicts"][0]["numbers"]["train_loss"] is None
    assert by_trial[3]["gain"] is None
    assert found["stopping"]["num_audited"] == 1
    assert {"about", "text", "option", "numbers"} == set(found["advice"][0])
    assert call("diagnose", study, "1", "--json") == 0
    assert [each["trial"] for each in json.loads(capsys.readouterr().out)["trials"]] == [1]


def test_study_and_trial_without_an_epoch_are_no_mistake(
    call: Call, study: str, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("empty", [])
    assert call("diagnose", "empty") == 0
    assert capsys.readouterr().out == "study empty has no epoch yet\n"
    assert call("diagnose", "empty", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trials"] == []
    assert call("diagnose", study, "4") == 0
    assert "it has no epoch" in capsys.readouterr().out


def test_unknown_study_and_trial_are_one_line_each(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", "main") == 2
    assert "did you mean 'mine'?" in capsys.readouterr().err
    assert call("diagnose", study, "19") == 2
    assert "trials count from 0 to 5" in capsys.readouterr().err


@pytest.mark.parametrize("verdict", list(Verdict))
def test_finding_without_the_usual_numbers_shows_its_sentence(verdict: Verdict) -> None:
    assert short_evidence(Finding(verdict, "seen so", "do this")) == "seen so"


def test_numbers_are_in_words() -> None:
    numbers = {"explained": -0.2, "explained_by_others": 0.42}
    stuck = Finding(Verdict.UNDERFIT, "", "", numbers)
    assert short_evidence(stuck) == (
        "training loss 20 % above guessing, others 42 % below guessing"
    )
    numbers = {"explained": -0.31, "rate": 0.231, "usual_high": 0.03}
    assert short_evidence(Finding(Verdict.RATE_TOO_HIGH, "", "", numbers)) == (
        "rate 0.23, usual to 0.03; loss 31 % above guessing"
    )
    lost = Finding(Verdict.CLASS_COLLAPSE, "", "", classes=("part", "kind", "whole"))
    assert short_evidence(lost) == "none right in the last 5 epochs: part, kind and 1 more"
    assert short_evidence(Finding(Verdict.TOO_SHORT, "", "", {"epochs": 1.0})) == (
        "1 epoch; a trend takes 8"
    )


def test_unaudited_study_is_told_how_to_audit() -> None:
    assert describe_stops(StopTotals(3, 0, 30, 0, 0.0, 0, 0, 0, NAN)) == []
    assert describe_stops(StopTotals(3, 1, 30, 5, 2.0, 0, 0, 0, NAN))[-1].endswith("--audit 0.05")


def test_audit_that_drew_no_stopped_trial_is_said_to_have() -> None:
    some, one = (
        StopTotals(30, 14, 90, 9, 2.0, 0, 0, 0, NAN),
        StopTotals(3, 1, 9, 2, 1, 0, 0, 0, NAN),
    )
    said = "what it cost is not known: the audit (0.2) drew "
    assert describe_stops(some, audit=0.2)[-1] == f"{said}none of the 14 trials that were stopped"
    assert describe_stops(one, audit=0.2)[-1] == f"{said}not the trial that was stopped"


def test_many_unclear_trials_are_counted_and_not_listed(
    call: Call, write_study: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    long = [[0.3, 0.5, 0.8, *[0.82, 0.81] * 6]] * 3
    few = [[0.1]] * 23
    outcomes = dict.fromkeys(range(3, 26), "behind")
    write_study("halved", [*long, *few], outcomes=outcomes, config={"patience": 6})
    assert call("diagnose", "halved") == 0
    out = capsys.readouterr().out
    assert " 1 epoch" not in out
    assert "not listed: 23 trials that others were ahead of before their 8th epoch" in out
    assert "23 unclear, 3 converged" in out
    assert call("diagnose", "halved", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 26
    assert call("diagnose", "halved", "4") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "it was ended behind others after 1 epoch, and a trend takes 8" in said
