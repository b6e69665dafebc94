"""Draws the README's pictures of a report: ``draw_report.py URL STUDY``, with Chromium.

Writes ``report-1280.png`` (the answer to the best trials) and ``report-400.png`` (a phone's first
screens) beside itself.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from sweeps.report.page import report_html

FOLDER = Path(__file__).parent


def main(url: str, study: str) -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder) / "report.html"
        path.write_text(report_html(url, study), encoding="utf-8")
        chromium = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, first, last in (
            (1280, "header", "#trials tbody tr:nth-child(15)"),
            (400, "header", "#trials .scroll"),
        ):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(path.as_uri())
            page.wait_for_function("document.documentElement.dataset.drawn")
            ends = [
                page.locator(name).first.evaluate(
                    "each => (({top, bottom}) => [top, bottom])(each.getBoundingClientRect())"
                )
                for name in (first, last)
            ]
            top, bottom = max(ends[0][0] - 8, 0), ends[1][1] + 16
            clip = {"x": 0, "y": top, "width": width, "height": bottom - top}
            page.screenshot(path=FOLDER / f"report-{width}.png", clip=clip, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
