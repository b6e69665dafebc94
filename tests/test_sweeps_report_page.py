"""The report's page of written studies: what it shows, what it escapes, what it leaves out."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from written import EACH_OUTCOME, NOW, write_each_outcome, write_study

from sweeps.analysis.advice_kinds import Advice, Kind
from sweeps.analysis.summary import Summary, summarise
from sweeps.read.study import Study
from sweeps.report import page, tables
from sweeps.report.figures_curves import draw_curves

CONFUSION = ((61, 13, 3), (7, 83, 5), (11, 17, 101))
HALVING = {"name": "halving", "min_epochs": 1, "reduction_factor": 4}
NAN = math.nan
Make = Callable[..., Summary]


@pytest.fixture
def make(folder: Path) -> Make:
    """Writes a study and summarises it: ``make(curves, outcomes=...)``."""

    def make(curves: Any = (), *, name: str = "relation", **given: Any) -> Summary:
        write_study(name, curves, **given)
        return summarise(Study.read("bestepoch.db", name))

    return make


@pytest.fixture
def each_outcome(folder: Path) -> Summary:
    """A study with a trial of each outcome; the fourth was cut off."""
    write_each_outcome(ends={0: {"confusion": CONFUSION}})
    return summarise(Study.read("bestepoch.db", "relation"))


def text_of(page: str) -> str:
    """What a person reads: no script, no style, no tag."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).replace("\u2011", "-").split())


def test_page_has_the_answer_the_trials_and_where_they_come_from(each_outcome: Summary) -> None:
    text = text_of(page.render(each_outcome, now=NOW))
    assert each_outcome.answer in text
    assert "best macro-F1 0.7132" in text
    assert "best epoch 2 of trial 0" in text
    assert "Report written 7 May 2031, 11:13 UTC." in text
    for heading in (
        "For the next sweep",
        "Learning curves",
        "Best epoch against last epoch",
        "Verdicts",
        "Score against each hyperparameter",
        "What stopping saved",
        "Provenance",
    ):
        assert heading in text
    for outcome, _ in [*[(o, 0) for *_, o in EACH_OUTCOME if o], ("cut off", 0)]:
        assert outcome in text
    assert "bestepoch run --like relation" in text
    assert "torch 2.13.0" in text
    shown = text.split("All settings")[0]
    assert not re.search(r"\b(best_score|best_epoch|learning_rate|epochs_run|nan|<NA>)\b", shown)


def test_advice_stands_with_its_gain_its_interval_and_its_options(each_outcome: Summary) -> None:
    first = Advice(Kind.EPOCHS, "Train longer.", "Nine rose.", 0.012, 0.003, 0.0213, 0.01, ())
    options = ("--set 'space.filters=[50, 100]'", "--trials 48")
    second = replace(first, text="Widen it.", gain=0.0, low=0.0, high=0.0, options=options)
    command = f"bestepoch run --like relation {options[0]}"
    told = replace(each_outcome, advice=(first, second), command=command)
    made = page.render(told, now=NOW)
    text = text_of(made)
    said = "Estimated gain 0.012 macro-F1 (90 % interval 0.003 to 0.021)."
    assert f"Train longer. {said} Nine rose." in text
    assert "Widen it. --set &#39;space.filters=[50, 100]&#39; --trials 48 Nine rose." in text
    assert not re.search(r"\bnan\b", text)
    # A line breaks between options alone.
    assert '<span class="word">--set &#39;space.filters=[50, 100]&#39;</span>' in made
    assert "All of it in one command:" in text
    none = replace(told, advice=(), command=None, no_advice="Nothing is shown.")
    assert "Nothing is shown." in text_of(page.render(none, now=NOW))
    unknown = replace(told, advice=(replace(first, gain=math.nan),))
    assert "Train longer. How much it brings is not known." in text_of(
        page.render(unknown, now=NOW)
    )


def test_names_of_people_are_escaped_everywhere(make: Make) -> None:
    bad = "<img src=x onerror=alert(1)>&\"'</script><script>alert(2)</script>"
    summary = make(
        [[0.3, 0.5, 0.4]],
        class_names=(bad, "b", "c"),
        ends={0: {"confusion": CONFUSION}},
        config={"data": bad},
    )
    study = replace(summary.study, name=bad, objective=bad)
    made = page.render(replace(summary, study=study, answer=bad, findings=(bad,)), now=NOW)
    assert "<img src=x" not in made
    assert "<script>alert" not in made
    assert made.count("</script>") == made.count("<script")
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;" in made


@pytest.mark.parametrize(
    ("curves", "outcomes"),
    [
        ([], {}),
        ([[]], {0: "failed"}),
        ([[], [0.3, NAN], [NAN, NAN]], {0: "failed", 1: "diverged", 2: "diverged"}),
        ([[]], {0: None}),
        ([[0.2, 0.5, 0.4]], {0: None}),
        ([[0.5]], {}),
        ([[0.0, 0.0]], {0: "exhausted"}),
    ],
)
def test_studies_with_little_in_them_have_a_page(
    make: Make, curves: list[list[float]], outcomes: dict[int, str | None]
) -> None:
    summary = make(curves, outcomes=outcomes)
    text = text_of(page.render(summary, now=NOW))
    assert summary.answer in text
    has_score = any(math.isfinite(score) for curve in curves for score in curve)
    assert ("No epoch has a score yet." in text) == (not has_score)


def test_study_without_confusion_matrices_shows_the_classes_scores(make: Make) -> None:
    made = page.render(make([[0.3, 0.5]]), now=NOW)
    assert "b 41 0.5000 0.5000 0.5000" in text_of(made)
    assert "Confusion matrix" not in made


def test_curves_of_a_large_study_are_thinned_and_the_page_says_so(make: Make) -> None:
    summary = make([[0.3, 0.5]])
    own = summary.study.curves
    epochs = [own.assign(epoch=own["epoch"] + 2 * i) for i in range(21_000)]
    study = replace(summary.study, curves=pd.concat(epochs))
    made = page.render(replace(summary, study=study), now=NOW)
    assert "curves are drawn with one epoch in 3" in text_of(made)
    assert len(made.encode()) < 4_000_000


def test_table_names_what_varies_and_the_rest_below_it(make: Make) -> None:
    params = {
        0: {"schedule": "constant"},
        1: {"schedule": "warmup", "warmup_epochs": 5},
        2: {"schedule": "constant", "learning_rate": 0.02},
    }
    curves = [[0.3, 0.5], [0.4, 0.45], [NAN, NAN]]
    summary = make(curves, params=params, outcomes={2: "diverged"})
    table = tables.trial_table(summary)
    names = [column.name for column in table.columns]
    assert {"learning rate", "schedule"} < set(names)
    assert "warm-up (epochs)" not in names
    assert "warm-up (epochs) 5" in tables.list_same(summary)
    assert {row[names.index("schedule")].text for row in table.rows} == {"constant", "warmup"}
    # Where no epoch has a score none is the best one.
    assert [cell.text for cell in table.rows[2][:5]] == ["-", "2", "-", "-", "2"]
    assert table.rows[2][0].sort is None
    assert table.rows[0][names.index("tie")].text == "best"


def test_many_short_curves_are_counted_and_not_listed(make: Make) -> None:
    curves = [[0.3 + 0.01 * i] for i in range(tables.MAX_UNCLEAR + 3)]
    config = {"pruner": HALVING}
    outcomes = dict.fromkeys(range(len(curves)), "behind")
    summary = make(curves, outcomes=outcomes, config=config)
    text = text_of(page.render(summary, now=NOW))
    assert f"Not listed: {len(curves)} trials with too few epochs to say anything." in text
    assert "At epochs 1, 4 and 16 a trial is compared" in text
    assert f"trials {len(curves)} {len(curves)} for one epoch" in text
    fewer = replace(summary, judged=summary.judged[: tables.MAX_UNCLEAR])
    assert len(tables.verdict_rows(fewer)) == tables.MAX_UNCLEAR


def test_curves_page_is_complete(make: Make) -> None:
    study = make([[0.3, 0.5]]).study
    figure = draw_curves(study.curves, study.results, [0], label=study.metric)
    made = page.render_curves(figure, study="<mine>", name="validation macro-F1")
    assert "Validation macro-F1 by epoch" in text_of(made)
    assert "<title>&lt;mine&gt; - validation macro-F1</title>" in made


def test_trials_that_wait_are_drawn_before_any_has_a_rank(make: Make) -> None:
    curves = [[0.2], [0.3, 0.5], [0.4], [0.9], [NAN]]
    outcomes = {0: "paused", 1: "paused", 2: None, 3: "diverged", 4: "diverged"}
    params = {i: {"learning_rate": 0.01 * (i + 1)} for i in range(5)}
    summary = make(curves, outcomes=outcomes, params=params, config={"pruner": HALVING})
    assert page.best_trials(summary.study) == [1, 2, 0]
    made = page.render(summary, now=NOW)
    assert "Losses of trial 1" in made
    assert "Losses of trial 2" not in made  # one epoch is no curve
    assert "learning rate" in text_of(made)
    assert "end: paused" in made
