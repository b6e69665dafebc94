"""``diagnose``: its table at 80 columns, one trial in full, JSON, and the next sweep as a file."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written import hold

from sweeps.config.load import load_config, load_like

NAN = float("nan")
RISING = [0.30 + 0.03 * epoch for epoch in range(17)]
FLAT = [0.3, 0.5, 0.8, *[0.82, 0.81] * 6]
Call = Callable[..., int]
Write = Callable[..., None]


@pytest.fixture
def study(write_study: Write) -> str:
    write_study(
        "mine",
        [FLAT, FLAT, RISING, [0.2, NAN], [], [0.3] * 3 + [0.5] * 17],
        outcomes={2: "exhausted", 3: "diverged", 4: "failed", 5: "exhausted"},
        params={1: {"learning_rate": 0.099}, 3: {"learning_rate": 0.5}},
        train_losses={3: [0.5, NAN]},
        held={5: ("behind", 3, 0.3)},
    )
    return "mine"


@pytest.fixture
def rising(write_study: Write) -> str:
    write_study(
        "mine",
        [[score + 0.001 * i for score in RISING] for i in range(6)],
        outcomes=dict.fromkeys(range(6), "exhausted"),
        config={"max_epochs": 17, "patience": 15},
    )
    return "mine"


def test_table_names_each_trial_its_verdict_its_numbers_and_its_epochs(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", study) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines() if "bestepoch" not in line)
    assert out.startswith("Trial 0 is the best: macro-F1 0.8200 ")
    rows = {line.split()[0]: line for line in out.splitlines() if line[:5].strip().isdigit()}
    assert sorted(rows) == ["0", "1", "2", "3", "5"]  # 4 failed without an epoch
    assert "converged" in rows["0"]
    assert rows["0"].split()[-2:] == ["of", "15"]
    assert "improving" in rows["2"]
    assert "2x epochs: +0." in rows["2"]
    assert "broken" in rows["3"]
    assert "2x epochs: what twice the epochs would add" in " ".join(out.split())


def test_advice_comes_with_its_gain_its_options_and_a_command_that_keeps_what_is_known(
    call: Call, rising: str, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine-2", [FLAT])
    assert call("diagnose", rising) == 0
    out = capsys.readouterr().out
    assert "Raise the epochs of a trial from 17 to 34. Expected gain: 0." in " ".join(out.split())
    assert "      --set max_epochs=34\n" in out
    assert "as a study of its own:\n" in out
    command = "bestepoch run --like mine --study mine-3 --warm-start mine --set max_epochs=34"
    assert f"      {command}\n" in out


def test_study_without_advice_says_that_nothing_is_shown(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("few", [FLAT])
    assert call("diagnose", "few") == 0
    out = capsys.readouterr().out
    assert "comparison between trials shows that other settings would be better." in out
    assert "--set" not in out


def test_command_for_the_next_sweep_runs_and_keeps_what_was_set(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["max_epochs=17", "space.dropout=0.5"]
    config = load_config("relation-cnn", changes, seed=3, trials=6).stored()
    outcomes = dict.fromkeys(range(6), "exhausted")
    curves = [[score + 0.001 * i for score in RISING] for i in range(6)]
    write_study("mine", curves, outcomes=outcomes, config=config)
    assert call("diagnose", "mine", "--json") == 0
    words = shlex.split(json.loads(capsys.readouterr().out)["command"])
    assert words[:6] == ["bestepoch", "run", "--like", "mine", "--study", "mine-2"]
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    taken = load_like("mine", given, study="mine-2", warm_start="mine").stored()
    assert taken["max_epochs"] == 34
    assert taken["warm_start"] == "mine"
    changed = {"max_epochs": 17, "study": "", "warm_start": None}
    assert taken | changed == config | changed


def test_next_sweep_is_written_as_a_file_that_says_why(
    call: Call, write_study: Write, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config("relation-cnn", ["max_epochs=17"], seed=3, trials=6).stored()
    outcomes = dict.fromkeys(range(6), "exhausted")
    curves = [[score + 0.001 * i for score in RISING] for i in range(6)]
    write_study("mine", curves, outcomes=outcomes, config=config)
    assert call("diagnose", "mine", "--sweep", "next.toml") == 0
    assert "  bestepoch run next.toml\n" in capsys.readouterr().out
    text = (folder / "next.toml").read_text()
    assert "# Raise the epochs of a trial from 17 to 34." in text
    taken = load_config(str(folder / "next.toml")).stored()
    assert taken["max_epochs"] == 34
    changed = {"max_epochs": 17, "study": "", "warm_start": None}
    assert taken | changed == config | changed
    assert taken["study"] == "mine-2"
    assert call("diagnose", "mine", "--sweep", "next.toml") == 2
    assert "next.toml exists" in capsys.readouterr().err


def test_open_trials_are_marked(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [FLAT, [0.3, 0.4], [0.3]], outcomes={1: None, 2: "paused"})
    with hold("mine"):
        assert call("diagnose", "mine") == 0
        out = capsys.readouterr().out
        assert call("diagnose", "mine", "--json") == 0
    assert "\n   1*  " in out
    assert "\n   2*  " in out
    assert "*: has not ended" in out
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [each["is_running"] for each in trials] == [False, True, False]


def test_trial_whose_process_is_gone_does_not_run(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [FLAT, [0.3, 0.4]], outcomes={1: None})
    assert call("diagnose", "mine") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1 trial was cut off: its process died." in out
    assert "bestepoch run --like mine --study mine" in out
    assert call("diagnose", "mine", "--json") == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [each["outcome"] for each in trials] == ["stalled", "cut off"]


def test_text_for_a_trial_is_named(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in ("x", "1.5"):
        assert call("diagnose", study, wrong) == 2
        shown = capsys.readouterr().err
        assert shown == f"TRIAL: must be a whole number from 0, got {wrong!r}\n"


def test_one_trial_gets_its_verdict_in_full(
    call: Call, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diagnose", study, "0") == 0
    out = capsys.readouterr().out
    assert out.startswith("trial 0 of mine: stalled\nits score stopped rising\n")
    assert "\nbest 0.8200 at epoch 4 of 15" in out
    assert "\nconverged\n  The score is flat at " in out
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
    assert by_trial[3]["verdict"] == "broken"
    assert by_trial[3]["numbers"]["last_train_loss"] is None
    assert by_trial[3]["outlook"] is None
    assert by_trial[2]["outlook"]["gain"] > 0
    audited = [each for each in found["stopping"]["trials"] if each["missed"] is not None]
    assert len(audited) == 1
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


def test_many_paused_trials_are_counted_and_not_listed(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = dict.fromkeys(range(3, 26), "behind")
    write_study("halved", [FLAT] * 3 + [[0.1]] * 23, outcomes=outcomes)
    assert call("diagnose", "halved") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "not listed: 23 trials that stopped too early to tell" in out
    assert "23 unclear, 3 converged" in out
    assert call("diagnose", "halved", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 26
