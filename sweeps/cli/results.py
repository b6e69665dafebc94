"""``results``: the ranked trials of a study."""

from pathlib import Path
from typing import cast

from storage import queries
from storage.locations import resolve_url
from sweeps.cli import ranking
from sweeps.cli.console import console, print_wrapped
from sweeps.cli.files import Format, choose_format, write_frame
from sweeps.read.study import Study
from sweeps.read.words import clean


def results(
    *, study: str, by: str, storage: str | None, format: Format | None, output: Path | None
) -> None:
    """Print or write the ranked trials."""
    kind = choose_format(format, output)
    url = resolve_url(storage)
    if kind != "table":
        ranked = queries.results(url, study, cast(queries.RankBy, by))
        write_frame(ranked, kind, output=output)
        return
    read = Study.read(url, study)
    frame = queries.rank(read.results, f"{by}_score")
    printer = console()
    if frame.empty:
        printer.print(f"study {study} has no trial yet")
        return
    table, notes = ranking.ranked_lines(frame, width=printer.width, by=by)
    printer.print(table)
    notes += ranking.answer_lines(frame, by=by, space=read.space, metric=clean(read.metric))
    for line in notes:
        print_wrapped(printer, line)
