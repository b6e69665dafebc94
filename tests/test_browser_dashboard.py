"""The dashboard in Chromium: its pages load without a complaint, the sweep's note on them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from written import NOW, hold, uuid_of

from storage.database import open_database
from storage.optuna_mirror import Ending, MirrorTrial, OptunaMirror
from sweeps.analysis.summary import summarise
from sweeps.read.study import Study
from sweeps.views import note_writer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture
def address(write_study: Callable[..., None], folder: Path) -> Iterator[str]:
    """Where ``bestepoch dashboard`` serves a study of 13 trials, the last of which runs."""
    curves = [[0.3, 0.6 + 0.01 * i, 0.5 + 0.01 * i] for i in range(13)]
    write_study("relation_1", curves, outcomes={3: "behind", 12: None})
    url = f"sqlite:///{folder / 'bestepoch.db'}"
    rate = {"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}
    begun = [MirrorTrial(number, {"learning_rate": 0.01}, rate) for number in range(13)]
    with open_database(url, create=False) as db:
        mirror = OptunaMirror(db, "relation_1", uuid_of("relation_1"))
        mirror.begin(begun)
        for epoch in (1, 2):
            best = {number: (epoch, max(curve[:epoch])) for number, curve in enumerate(curves)}
            mirror.report(best)
        complete = {n: Ending(TrialState.COMPLETE, best[n][1], 3, best[n][1]) for n in range(12)}
        mirror.end(complete | {3: replace(complete[3], state=TrialState.PRUNED)})
    command = [str(Path(sys.executable).with_name("bestepoch")), "dashboard", "--port", "0"]
    with hold("relation_1"):
        note_writer.write_note(url, "relation_1", now=NOW)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
            assert process.stdout is not None
            opened = next(line for line in process.stdout if line.startswith("open "))
            yield opened.split()[1].rstrip("/")
            process.terminate()


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    """An empty window of 1280 pixels; any complaint of the browser fails."""
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    shown = context.new_page()
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("requestfailed", lambda asked: complaints.append(asked.url))
    shown.on(
        "console", lambda said: complaints.append(said.text) if said.type == "error" else None
    )
    shown.set_default_timeout(60_000)
    yield shown
    assert complaints == []
    context.close()


def test_pages_show_the_study_its_note_its_figures_and_a_running_trial(
    page: "Page", address: str
) -> None:
    page.goto(f"{address}/dashboard")
    page.wait_for_selector("text=relation_1")

    page.goto(f"{address}/dashboard/studies/1")
    for title in (
        "Learning curves of the best",
        "Best against last epoch",
        "What the curves show",
    ):
        page.wait_for_selector(f".gtitle:has-text('{title}')")
    # Trial 11: 0.6 + 0.11, the best of those that have ended.
    assert "Best Trial (number=11)" in page.inner_text("body")
    assert page.locator("text.legendtext:has-text('trial 11')").count() >= 1
    assert labels_outside(page) == []

    page.goto(f"{address}/dashboard/studies/1/note")
    page.wait_for_selector("table td")
    note = page.inner_text("body")
    answer = summarise(Study.read("bestepoch.db", "relation_1")).answer
    assert answer in note
    assert page.locator("table tbody tr").count() == 10
    for width in (400, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.scrollingElement.scrollWidth") == width

    page.goto(f"{address}/dashboard/studies/1/trials?numbers=12")
    page.wait_for_selector("text=Intermediate Values")
    trial = page.inner_text("body")
    assert "Running" in trial
    assert "2 0.72" in trial

    page.goto(f"{address}/report")
    assert page.inner_text("#summary") == answer


def test_changes_are_refused_with_a_line_why(page: "Page", address: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = page.request.fetch(f"{address}/api/studies/1", method=method)
        assert answer.status == 403
        assert answer.text().startswith("this dashboard is read-only; ")


def labels_outside(page: "Page") -> list[str]:
    """Return the labels of the sweep's own figures that stand outside them."""
    cut: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".js-plotly-plot")].flatMap((plot) => {
            const title = plot.querySelector(".gtitle")?.textContent ?? "";
            if (!/^(Learning|Best against|What)/.test(title)) return [];
            const box = plot.getBoundingClientRect();
            const texts = plot.querySelectorAll(".main-svg .xtitle, .main-svg .ytitle, "
                + ".main-svg .xtick text, .main-svg .ytick text, .main-svg .legendtext, .gtitle");
            return [...texts].filter((text) => {
                const one = text.getBoundingClientRect();
                return one.width > 0 && (one.left < box.left - 2 || one.right > box.right + 2
                    || one.top < box.top - 2 || one.bottom > box.bottom + 2);
            }).map((text) => title + ": " + text.textContent);
        })"""
    )
    return cut
