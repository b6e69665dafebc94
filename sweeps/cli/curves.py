"""``curves``: the learning curves of a study's best trials, in the terminal or as a page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from storage.locations import resolve_url
from sweeps.cli.console import UsageMistake, console
from sweeps.cli.files import check_place, write_whole
from sweeps.cli.plot import LETTERS, draw
from sweeps.cli.tables import add_numbers, add_texts, new_table
from sweeps.read import words
from sweeps.read.study import Study
from sweeps.report.figures_curves import draw_curves, flat_range, is_drawn_log, name_column
from sweeps.report.page import render_curves

#: Headings of a metric's value in the key.
_HEADINGS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
}
_MAX_WIDTH = 100


def curves(*, study: str, top: int, metric: str, html: Path | None, storage: str | None) -> None:
    """Draw the curves, or write their page."""
    if html is not None:
        check_place(html)
    data = Study.read(resolve_url(storage), study)
    shown = data.results[data.results["trial"].isin(data.curves["trial"].unique())].head(top)
    if shown.empty:
        raise UsageMistake(f"study {study} has no epoch yet")
    if html is not None:
        write_whole(_make_page(data, shown["trial"].tolist(), metric), html)
        console().print(f"wrote {html}", soft_wrap=True)
        return
    printer = console()
    lines = {int(trial): finite_points(data, trial, metric) for trial in shown["trial"]}
    values = [value for line in lines.values() for value in line.values()]
    is_log = is_drawn_log(values, metric)
    name = name_column(metric, words.clean(data.metric)) + (", log axis," if is_log else "")
    printer.print(Text(f"{name} by epoch, study {words.clean(study)}", style="bold"))
    plot = draw(
        list(lines.values()),
        [None if words.is_missing(best) else int(best) for best in shown["best_epoch"]],
        width=min(printer.width, _MAX_WIDTH),
        has_colour=printer.is_terminal,
        is_log=is_log,
        ends=flat_range(values, metric),
    )
    printer.print(Text.from_ansi(plot), soft_wrap=True)
    _print_key(printer, shown, lines, metric=metric)


def finite_points(data: Study, trial: int, metric: str = "score") -> dict[int, float]:
    """Return the finite values of a trial's curve, by epoch."""
    own = data.curves[data.curves["trial"] == trial]
    pairs = zip(own["epoch"].tolist(), own[metric].tolist(), strict=True)
    return {epoch: value for epoch, value in pairs if math.isfinite(value)}


def _print_key(
    printer: Console,
    results: pd.DataFrame,
    lines: Mapping[int, Mapping[int, float]],
    *,
    metric: str,
) -> None:
    """Print which letter is which trial, and its best epoch."""
    table = new_table()
    add_texts(table, "")
    add_numbers(table, "trial", "best\nscore", "best\nepoch", "epochs\nrun")
    if metric != "score":
        add_numbers(table, f"{_HEADINGS[metric]}\nat best epoch")
    add_texts(table, "outcome")
    for i, row in enumerate(results.to_dict(orient="records")):
        # Where no epoch has a score none is the best one.
        best = None if words.is_missing(row["best_score"]) else row["best_epoch"]
        cells = [words.whole(row["trial"]), words.score(row["best_score"]), words.whole(best)]
        cells.append(words.whole(row["epochs_run"]))
        if metric != "score":
            cells.append(words.number(lines[row["trial"]].get(best) if best else None))
        table.add_row(LETTERS[i], *cells, words.outcome(row["outcome"]))
    printer.print(table)
    printer.print("a capital letter is the trial's best epoch")


def _make_page(data: Study, shown: Sequence[int], metric: str) -> bytes:
    """Return the curves as one page that loads nothing."""
    own = data.curves[data.curves["trial"].isin(shown)]
    figure = draw_curves(own, data.results, shown, metric, label=data.metric, height=560)
    return render_curves(figure, study=data.name, name=name_column(metric, data.metric)).encode()
