"""What a report says of epochs, audits and the next step, and where these must not disagree."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape

import pandas as pd
import pytest

from sweeps import reporting
from sweeps.analysis import report, report_facts, report_words, sweep_progress
from sweeps.analysis.findings import TrialCurve
from sweeps.analysis.report_facts import StudyData
from sweeps.budget import Budget

NOW = datetime(2031, 5, 7, 11, 13, 17, tzinfo=UTC)
FLAT = [0.3, 0.5, 0.8, *[0.82, 0.81] * 5]
RISING = [0.30 + 0.03 * epoch for epoch in range(17)]
Write = Callable[..., None]


def text_of(data: StudyData) -> str:
    page = report.render(data, now=NOW)
    page = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def read(
    write_study: Write, *args: object, config: dict[str, object] | None = None, **given: object
) -> StudyData:
    settings = {"space": {}, "patience": 6, **(config or {})}
    write_study("mine", *args, config=settings, **given)
    return reporting.read_study("bestepoch.db", "mine")


def told(data: StudyData, verdict: str, advice: str) -> StudyData:
    """The study with this verdict and this advice on each trial."""
    columns = {"verdict": verdict, "verdicts": verdict, "advice": advice}
    verdicts: pd.DataFrame = data.verdicts.assign(**columns)
    return replace(data, verdicts=verdicts)


@pytest.mark.parametrize(
    ("advice", "is_kept"),
    [
        ("Try other models.", True),
        ("Train no longer.", False),
        ("Fewer epochs do: it was within the noise of its best by epoch 4.", False),
        ("Its noise hides whether it rises: one with max_epochs = 24 would tell.", False),
    ],
)
def test_study_decides_over_what_is_said_of_epochs(
    write_study: Write, advice: str, is_kept: bool
) -> None:
    data = told(read(write_study, [FLAT] * 11), "converged", advice)
    facts = report_facts.gather(data)
    assert facts.advice == []
    assert facts.epochs is not None
    assert (facts.next_step == f"To try next: {report_words.plain(advice)}") is is_kept
    assert (report_words.plain(facts.epochs.text) in facts.next_step) is not is_kept
    page = text_of(data)
    assert "The trials together ask for no other settings" in page
    assert "Nothing in these trials" not in page
    assert facts.cap is None
    assert "recommended cap" not in page


def test_recommended_cap_is_the_same_everywhere(write_study: Write) -> None:
    data = read(write_study, [RISING] * 11, outcomes=dict.fromkeys(range(11), "exhausted"))
    facts = report_facts.gather(data)
    assert facts.cap == 40
    assert ("recommended cap", "40 epochs", "20 allowed") in facts.tiles
    assert facts.next_option == "--set max_epochs=40"
    assert "allow 40" in facts.next_step
    assert not any("max epochs" in each for each in facts.findings)  # said already


def test_audited_trials_are_told_among_epochs_and_time(write_study: Write) -> None:
    held = {0: ("stalled", 3, 0.36)}
    data = read(write_study, [RISING, FLAT], outcomes={0: "exhausted"}, held=held)
    text = text_of(data)
    assert "Audited: 1 trial ran on where it would have been stopped. The best trial" in text
    assert "; stopping would have cost" in text
    assert any(
        "Of 1 trial that ran on to check, 1 rose further. The best trial, 1, is none of" in each
        for each in report_facts.gather(data).findings
    )


def test_audit_that_drew_no_stopped_trial_is_told(write_study: Write) -> None:
    data = read(write_study, [FLAT], config={"audit": 0.2})
    assert "the audit (0.2) drew not the trial that was stopped." in text_of(data)


def test_few_scores_of_a_run_that_goes_on_ask_for_no_fewer_trials(write_study: Write) -> None:
    varied = {"space": {"dropout": {"low": 0.1, "high": 0.7}}, "patience": 6}
    write_study("mine", [FLAT, FLAT], config=varied)
    data = reporting.read_study("bestepoch.db", "mine")
    assert report_facts.gather(data).next_option == "--trials 10"
    going = report_facts.gather(replace(data, config={**data.config, "trials": 30}))
    assert going.next_option is None  # it is its target already
    assert "tell too little yet: let the sweep run on" in going.next_step


def test_killed_sweep_says_how_far_it_came_and_what_carries_it_on(write_study: Write) -> None:
    data = read(write_study, [FLAT, RISING, FLAT], config={"trials": 7})
    ends = ["interrupted" if trial == 2 else "stalled" for trial in data.results["trial"]]
    results = data.results.assign(outcome=pd.Series(ends, dtype="string"))
    results.loc[results["trial"] == 2, "rank"] = pd.NA
    data = replace(data, results=results)
    facts = report_facts.gather(data)
    assert facts.headline.startswith("Trial 0 is the best of the 2 trials that have ended: ")
    start = "43 epochs, 3 of 7 trials so far; 2 have ended. The sweep was interrupted: 1 trial was"
    assert facts.findings[0].startswith(start)
    page = text_of(data)
    assert "The command that carries it on: bestepoch run --like mine --study mine " in page


@pytest.mark.parametrize(
    ("left", "target", "said", "is_left"),
    [
        ([], 3, "", False),  # it has come to its end
        ([], None, "", False),
        ([], 7, "21 epochs, 3 of 7 trials so far; 3 have ended: the same command", True),
        (
            [None],
            7,
            "28 epochs, 4 of 7 trials so far; 3 have ended. This is not",
            False,
        ),
        (
            [None],
            None,
            "28 epochs, 4 trials so far; 3 have ended. This is not",
            False,
        ),
        (
            ["interrupted"],
            None,
            "28 epochs, 4 trials so far; 3 have ended. The sweep",
            True,
        ),
        (["cut off"], 31, "28 epochs, 4 of 31 trials so far; 3 have ended. 1 trial was", True),
        (
            [None, "cut off"],
            5,
            "35 epochs, 5 of 5 trials so far; 3 have ended. This is",
            False,
        ),
        (
            ["paused"] * 2,
            None,
            "35 epochs, 5 trials so far; 3 have ended. 2 trials wait",
            True,
        ),
    ],
)
def test_sweep_is_carried_on_where_nobody_trains_it(
    left: list[str | None], target: int | None, said: str, is_left: bool
) -> None:
    ends = ["stalled", "diverged", "failed", *left]
    outcomes = pd.Series(ends, dtype="string")
    results = pd.DataFrame({"outcome": outcomes, "epochs_run": [7] * len(ends)})
    told = sweep_progress.say_unfinished(results, budget=Budget(target))
    assert " ".join(told).startswith(said)
    assert (told == []) is (said == "")
    assert sweep_progress.is_stopped_short(results, budget=Budget(target)) is is_left


def test_trials_that_were_cut_short_are_told_apart(write_study: Write) -> None:
    outcomes = dict.fromkeys(range(3, 26), "behind")
    pruner = {"name": "halving", "min_epochs": 1, "reduction_factor": 4}
    given = {"config": {"pruner": pruner}, "outcomes": outcomes}
    data = read(write_study, [*[FLAT] * 3, *[[0.1]] * 23], **given)
    assert ("trials", "26", "all ranked, 23 after few epochs") in report_facts.gather(data).tiles
    text = text_of(data)
    assert "A rung is an epoch (1, 4, 16) from which only the best go on" in text
    assert "The median trial of 3 that were not cut short lost 0.010 from its best" in text
    assert "Not listed: 23 trials that others were ahead of before their 8th epoch." in text


def test_trial_that_may_still_win_is_told(write_study: Write) -> None:
    data = read(write_study, [FLAT, [0.9] * 4], outcomes={1: "paused"})
    said = "Trial 1, paused after 4 epochs, has 0.9000 so far and may still win."
    assert said in report_facts.gather(data).findings


def test_report_has_the_command_that_follows_all_advice(write_study: Write) -> None:
    outcomes = dict.fromkeys(range(5), "exhausted")
    write_study("mine", [RISING] * 5, outcomes=outcomes, config={"space": {}, "patience": 6})
    page = unescape(reporting.report_html("bestepoch.db", "mine", now=NOW))
    (command,) = re.findall(r'id="next-command"><code>(.*)</code>', page)
    assert command == "bestepoch run --like mine --study mine-2 --set max_epochs=40"
    assert "All of it, as a study of its own:" in page
    assert 'id="carry-on"' not in page
    write_study("flat", [FLAT] * 11, config={"space": {}, "patience": 6})
    assert 'id="next-command"' not in reporting.report_html("bestepoch.db", "flat", now=NOW)


def test_optimizer_at_the_start_of_a_sentence_keeps_its_name() -> None:
    said = report_words.plain("adam always loses: see learning_rate.")
    assert said == "adam always loses: see learning rate."
    assert report_words.plain("adamant trials") == "Adamant trials"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("part", "kind"), "kind"),
        (("3", "7"), "class 7"),
        ((), "class 1"),
        (("-1", "2.5"), "class 2.5"),
    ],
)
def test_class_without_a_word_for_a_name_is_called_a_class(
    names: tuple[str, ...], expected: str
) -> None:
    curve = TrialCurve(0, (0.5,), (0.5,), (0.5,), class_names=names)
    assert curve.name_class(1) == expected
