"""``report``: a study as one HTML file."""

from pathlib import Path

from storage.locations import resolve_url
from sweeps.cli.console import console
from sweeps.cli.files import check_place, write_whole
from sweeps.report.page import report_html


def report(*, study: str, output: Path, storage: str | None) -> None:
    """Write the page."""
    # Before the study is read: 500 trials take seconds.
    check_place(output)
    page = report_html(resolve_url(storage), study).encode()
    write_whole(page, output)
    size = f"{len(page) / 1e6:.1f} MB"
    console().print(f"report of {study} written to {output} ({size})", soft_wrap=True)
