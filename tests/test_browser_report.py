"""The report in Chromium, from a file and without a network: it draws, sorts and fits a phone."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from written import NOW, write_study

from sweeps.config.load import load_config
from sweeps.report.page import report_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

BAD_CLASS = "<img src=x onerror=document.title='owned'> & 'more'"
CLASSES = ("holonym of the longest name that a class has ever had", "meronym", BAD_CLASS)
CONFUSION = ((61, 13, 3), (7, 83, 5), (11, 17, 101))
#: Height of each trial's curve, its epochs and its outcome.
TRIALS: list[tuple[float, int, str | None]] = [
    *((0.6 + 0.01 * i, 13 + i, ("stalled", "exhausted", "behind")[i % 3]) for i in range(11)),
    (0.2, 3, "diverged"),
    (0.0, 0, "failed"),
    (0.3, 2, None),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a study of 14 trials, one of which was cut off."""
    folder = tmp_path_factory.mktemp("report")
    url = f"sqlite:///{folder / 'sweeps.db'}"
    curves = [[top + 0.08 * math.sin(i / 5) for i in range(n)] for top, n, _ in TRIALS]
    params = {
        trial: {
            "optimizer": ("adam", "sgd")[trial % 2],
            "learning_rate": 0.001 * (trial + 1),
            "dropout": 0.3 + 0.02 * trial,
            "batch_size": (50, 100)[trial % 2],
            "model": {"filters": 100, "vectors": "trainable"},
            "momentum": 0.5 if trial % 2 else None,
            "beta1": None if trial % 2 else 0.9,
            "beta2": None if trial % 2 else 0.99 + 0.0007 * trial,
        }
        for trial in range(len(TRIALS))
    }
    write_study(
        "relation",
        curves,
        outcomes={trial: outcome for trial, (_, _, outcome) in enumerate(TRIALS)},
        params=params,
        train_losses={
            trial: [1 / i for i in range(1, n + 1)] for trial, (_, n, _) in enumerate(TRIALS)
        },
        ends={trial: {"confusion": CONFUSION} for trial, curve in enumerate(curves) if curve},
        config=load_config("relation-cnn").stored(),
        class_names=CLASSES,
        url=url,
    )
    path = folder / "report.html"
    path.write_text(report_html(url, "relation", now=NOW), encoding="utf-8")
    return path


@pytest.fixture(params=[1280, 400])
def page(request: pytest.FixtureRequest, browser: "Browser", report: Path) -> Iterator["Page"]:
    """The drawn report in a window without a network; any complaint of the browser fails."""
    complaints: list[str] = []
    context = browser.new_context(
        offline=True, viewport={"width": request.param, "height": 900}, reduced_motion="reduce"
    )
    shown = context.new_page()
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("requestfailed", lambda asked: complaints.append(asked.url))
    shown.on(
        "console", lambda said: complaints.append(said.text) if said.type == "error" else None
    )
    asked: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(report.as_uri())
    shown.wait_for_function("document.documentElement.dataset.drawn", timeout=60_000)
    yield shown
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def test_report_shows_its_numbers_and_draws_every_figure(page: "Page") -> None:
    # Trial 10: 0.7 + 0.08 sin(8 / 5), at epoch 9 of 23.
    summary = page.inner_text("#summary")
    assert "rial 10" in summary
    assert "0.7800" in summary
    assert page.locator("#trials table.sortable tbody tr").count() == 14
    assert "meronym" in page.inner_text("#classes")
    assert BAD_CLASS in page.inner_text("#classes table")
    assert page.title() == "relation - bestepoch report"
    assert page.locator("img").count() == 0
    places = page.locator(".plot").count()
    assert places >= 10
    assert page.locator(".plot .main-svg, .plot canvas").count() >= places
    # A curve for each trial of the best five, a mark of each kind.
    curves = page.locator("#curves .plot").first
    for name in ("trial 10", "best epoch", "end: stalled", "end: behind", "other trials"):
        assert curves.locator(f"text.legendtext:has-text('{name}')").count() >= 1
    assert "0.6" in page.locator("#parameters").inner_text()


def test_page_is_not_wider_than_its_window(page: "Page") -> None:
    width, inner = page.evaluate("[document.scrollingElement.scrollWidth, window.innerWidth]")
    assert width <= inner
    over = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((each) => {
            const inBox = each.closest(".scroll, pre, svg, .plot") !== null;
            return !inBox && each.getBoundingClientRect().right > window.innerWidth + 1;
        }).map((each) => each.outerHTML.slice(0, 90))"""
    )
    assert over == []


def test_click_on_a_heading_sorts_and_a_second_turns_it(page: "Page") -> None:
    table = page.locator("#trials table.sortable")
    heading = table.locator("th", has_text=re.compile(r"^epochs\s+trained$"))

    def epochs() -> list[str]:
        cells: list[str] = table.locator("tbody tr td:nth-child(5)").all_inner_texts()
        return cells

    assert epochs()[0] == "23"
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [int(each) for each in epochs()] == sorted(epochs_run for _, epochs_run, _ in TRIALS)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert epochs()[0] == "23"
    # What has no score stays last, whichever way is sorted.
    best = table.locator("th", has_text=re.compile(r"^best\s+macro"))
    for _ in range(2):
        best.locator("button").click()
        assert table.locator("tbody tr").last.locator("td:nth-child(3)").inner_text() == "-"


def test_labels_of_figures_are_inside_them(page: "Page") -> None:
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".plot")].flatMap((plot) => {
            const box = plot.getBoundingClientRect();
            const texts = plot.querySelectorAll(".main-svg .xtitle, .main-svg .ytitle, "
                + ".main-svg .xtick text, .main-svg .ytick text, .main-svg .legendtext");
            return [...texts].filter((text) => {
                const one = text.getBoundingClientRect();
                return one.width > 0 && (one.left < box.left - 2 || one.right > box.right + 2
                    || one.top < box.top - 2 || one.bottom > box.bottom + 2);
            }).map((text) => plot.ariaLabel + ": " + text.textContent);
        })"""
    )
    assert cut == []


def test_table_that_goes_on_to_the_right_says_so(page: "Page") -> None:
    shown = page.evaluate(
        """() => [...document.querySelectorAll(".scroll")].map((box) => [
            box.scrollWidth > box.clientWidth + 4,
            box.classList.contains("more"),
            !box.previousElementSibling.hidden,
        ])"""
    )
    assert shown
    assert all(is_cut == fades == told for is_cut, fades, told in shown)
    if page.viewport_size == {"width": 400, "height": 900}:
        assert shown[0] == [True, True, True]
    page.evaluate("const box = document.querySelector('.scroll'); box.scrollLeft = 9999")
    page.wait_for_function("!document.querySelector('.scroll').classList.contains('more')")


def test_page_can_be_printed_and_nothing_is_cut(page: "Page") -> None:
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".scroll")].filter(
            (each) => getComputedStyle(each).overflow !== "visible"
        ).length"""
    )
    assert cut == 0


def test_options_are_never_broken_after_their_dashes(page: "Page") -> None:
    broken = page.evaluate(
        """() => [...document.querySelectorAll(".word")].filter((each) => {
            const box = each.getBoundingClientRect();
            const isCut = box.right > window.innerWidth || box.height > 30;
            return each.textContent.startsWith("--") && isCut;
        }).map((each) => each.textContent)"""
    )
    assert broken == []
    command = page.locator("#provenance pre code").first
    assert command.inner_text() == "bestepoch run --like relation"
    whole = command.locator(":scope > .word").all_inner_texts()
    assert whole == ["bestepoch", "run", "--like relation"]
