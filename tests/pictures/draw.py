"""Draws the READMEs' pictures of a study, with Chromium: ``draw.py bestepoch.db STUDY``.

Writes the top of the report on a desk (``report-1280.png``) and on a phone (``report-400.png``),
and the sweep's note in the dashboard (``dashboard-1280.png``), beside itself.
"""

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

from storage.database import open_database
from sweeps.views.dashboard import LOOPBACK, make_server

FOLDER = Path(__file__).parent
#: Name, page, what to wait for, width and height: a picture stays below 150 kB.
PICTURES = (
    ("report-1280", "/report/{}", "html[data-drawn]", 1280, 860),
    ("report-400", "/report/{}", "html[data-drawn]", 400, 1000),
    ("dashboard-1280", "/dashboard/studies/1/note", "table td", 1280, 640),
)


def main(url: str, study: str) -> None:
    with serve(url) as address, sync_playwright() as driver:
        chromium = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, path, ready, width, height in PICTURES:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(address + path.format(study))
            page.wait_for_selector(ready, state="attached")
            page.screenshot(path=FOLDER / f"{name}.png")
        browser.close()


@contextmanager
def serve(url: str) -> Iterator[str]:
    """Serve the dashboard of a database, and give its address."""
    with open_database(url, create=False) as db, make_server(db, port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
