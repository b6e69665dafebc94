"""What a report says of epochs, audits and the next step, and where these must not disagree."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape

import pandas as pd
import pytest

from sweeps import reporting
from sweeps.analysis import report, report_facts, report_words
from sweeps.analysis.report_facts import StudyData
from sweeps.audit import HeldStop
from sweeps.stopping import Outcome

NOW = datetime(2031, 5, 7, 11, 13, 17, tzinfo=UTC)
FLAT = [0.3, 0.5, 0.8, *[0.82, 0.81] * 5]
RISING = [0.30 + 0.03 * epoch for epoch in range(17)]
Write = Callable[..., None]


def text_of(data: StudyData) -> str:
    page = report.render(data, now=NOW)
    page = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def read(write_study: Write, *args: object, **given: object) -> StudyData:
    write_study("mine", *args, config={"space": {}, "patience": 6}, **given)
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
    held = {0: HeldStop(Outcome.STALLED, 3, 0.36)}
    data = read(write_study, [RISING, FLAT], outcomes={0: "exhausted"}, held=held)
    said = "Audited: 1 trial ran on where it would have been stopped; 1 rose later"
    assert said in text_of(data)
    assert any(
        "Of 1 trial that ran on to check, 1 rose" in each
        for each in report_facts.gather(data).findings
    )


def test_audit_that_drew_no_stopped_trial_is_told(write_study: Write) -> None:
    data = replace(read(write_study, [FLAT]), audit=0.2)
    assert "the audit (0.2) drew not the trial that was stopped." in text_of(data)


def test_target_that_is_not_stored_is_said_beside_the_command(write_study: Write) -> None:
    data = replace(read(write_study, [FLAT]), command="bestepoch run relation-cnn --trials 1")
    assert data.target is None
    assert "How many trials were asked for is not stored" in text_of(data)
    assert "asked for is not stored" not in text_of(replace(data, target=30))


def test_few_scores_of_a_run_that_goes_on_ask_for_no_fewer_trials(write_study: Write) -> None:
    varied = {"space": {"dropout": {"low": 0.1, "high": 0.7}}, "patience": 6}
    write_study("mine", [FLAT, FLAT], config=varied)
    data = reporting.read_study("bestepoch.db", "mine")
    assert report_facts.gather(data).next_option == "--trials 10"
    going = report_facts.gather(replace(data, target=30))
    assert going.next_option == "--trials 30"
    assert "tell too little yet: let the sweep run on" in going.next_step
