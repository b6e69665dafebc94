"""``curves``: the learning curves of a study's best trials, in the terminal or as a page."""

import math
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeps.cli.output import StorageOption, StudyArgument, UsageMistake, console
from sweeps.cli.report import check_place, write_whole
from sweeps.read import words

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.read.study import Study

Metric = Literal["score", "train_loss", "val_loss", "learning_rate", "grad_norm"]

#: A letter a curve, so that no colour is needed; a capital one is the best epoch.
LETTERS = string.ascii_lowercase
_COLOURS = ("blue+", "red+", "green+", "magenta+", "orange", "cyan+")
#: Of the key's column with a metric's value.
_HEADINGS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
}
_MAX_WIDTH = 100
_HEIGHT = 22
_TICKS = 8


def curves(
    study: StudyArgument,
    top: Annotated[
        int, typer.Option(help="How many of the best trials to draw.", min=1, max=len(LETTERS))
    ] = 5,
    metric: Annotated[
        Metric,
        typer.Option(
            metavar="NAME",
            help="score, train_loss, val_loss, learning_rate or grad_norm.",
        ),
    ] = "score",
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one HTML file instead; it needs no network."),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Draw the learning curves of the best trials, best epochs marked."""
    from storage.locations import resolve_url
    from sweeps.read.study import Study
    from sweeps.report.figures_curves import flat_range, is_drawn_log, name_column

    if html is not None:
        check_place(html, default="curves.html")
    data = Study.read(resolve_url(storage), study)
    frame = data.curves
    shown = data.results[data.results["trial"].isin(frame["trial"].unique())].head(top)
    if shown.empty:
        raise UsageMistake(f"study {study} has no epoch yet")
    if html is not None:
        write_whole(_make_page(data, [int(each) for each in shown["trial"]], metric), html)
        console().print(f"wrote {html}", soft_wrap=True)
        return
    printer = console()
    lines = {
        int(trial): frame[frame["trial"] == trial].set_index("epoch")[metric]
        for trial in shown["trial"]
    }
    points = [_points(line) for line in lines.values()]
    values = [value for line in points for value in line.values()]
    is_log = is_drawn_log(values, metric)
    name = name_column(metric, words.clean(data.metric)) + (", log axis," if is_log else "")
    printer.print(Text(f"{name} by epoch, study {words.clean(study)}", style="bold"))
    plot = draw(
        points,
        [None if words.is_missing(best) else int(best) for best in shown["best_epoch"]],
        width=min(printer.width, _MAX_WIDTH),
        has_colour=printer.is_terminal,
        is_log=is_log,
        ends=flat_range(values, metric),
    )
    printer.print(Text.from_ansi(plot), soft_wrap=True)
    _print_key(printer, shown, lines, metric=metric)


def draw(
    lines: Sequence[Mapping[int, float]],
    best_epochs: Sequence[int | None],
    *,
    width: int,
    has_colour: bool = False,
    is_log: bool = False,
    ends: tuple[float, float] | None = None,
) -> str:
    """Return curves as text, a letter each, the first one on top, colours as ANSI codes.

    Args:
        lines: Value by epoch, from 1; none missing or infinite.
        best_epochs: The epoch of each that gets the capital letter, if it has a value there.
        width: Columns of the text.
        has_colour: Whether to write colours.
        is_log: Whether the axis is logarithmic; then all values are above 0.
        ends: Lowest and highest value of the axis; None: those of the lines.
    """
    if not any(lines):
        return "(no epoch has a finite value)"
    import plotext

    if is_log:
        lines = [{epoch: math.log10(y) for epoch, y in line.items()} for line in lines]
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, _HEIGHT)
    figure.theme("colorless")
    for i in reversed(range(len(lines))):
        epochs, values = list(lines[i]), list(lines[i].values())
        if epochs:
            figure.draw(_signal(figure, epochs, values, letter=LETTERS[i], index=i).lines())
    for i in reversed(range(len(lines))):
        best = best_epochs[i]
        if best is not None and best in lines[i]:
            letter = LETTERS[i].upper()
            figure.draw(_signal(figure, [best], [lines[i][best]], letter=letter, index=i))
    last = max(epoch for line in lines for epoch in line)
    ticks = choose_ticks(last)
    figure.ruler("x").ticks(ticks, [str(tick) for tick in ticks])
    if is_log:
        _name_powers(figure, [value for line in lines for value in line.values()])
    elif ends is not None:
        figure.ruler("y").lim(*ends)
    text: str = figure.build().string(colorless=not has_colour)
    return "\n".join(line.rstrip() for line in text.splitlines())


def choose_ticks(last: int) -> list[int]:
    """Return the epochs to name below a plot: 1, the last, and round ones between."""
    steps = (step * 10**power for power in range(7) for step in (1, 2, 5))
    step = next(step for step in steps if last / step <= _TICKS)
    between = [epoch for epoch in range(step, last, step) if 1 < epoch <= last - step / 2]
    return sorted({1, *between, last})


def _name_powers(figure: Any, logarithms: Sequence[float]) -> None:
    """Name on the axis the values that have these decimal logarithms, not the logarithms."""
    low, high = min(logarithms), max(logarithms)
    places = [low + i * (high - low) / 4 for i in range(5)]
    figure.ruler("y").ticks(places, [f"{10**place:.2g}" for place in places])


def _signal(
    figure: Any, epochs: Sequence[int], values: Sequence[float], *, letter: str, index: int
) -> Any:
    import plotext

    pixel = (_COLOURS[index % len(_COLOURS)], "default", "default")
    return figure.signal(epochs, values, marker=plotext.marker(letter, pixel=pixel))


def _points(line: "pd.Series[float]") -> dict[int, float]:
    return {int(epoch): float(value) for epoch, value in line.items() if math.isfinite(value)}


def _print_key(
    printer: Console,
    results: "pd.DataFrame",
    lines: "Mapping[int, pd.Series[float]]",
    *,
    metric: str,
) -> None:
    """Print which letter is which trial, and its best epoch."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    names = ["trial", "best\nscore", "best\nepoch", "epochs\nrun"]
    if metric != "score":
        names.append(f"{_HEADINGS[metric]}\nat best epoch")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    table.add_column("outcome", vertical="bottom")
    for i, row in enumerate(results.to_dict(orient="records")):
        # Where no epoch has a score none is the best one.
        best = None if words.is_missing(row["best_score"]) else row["best_epoch"]
        cells = [words.whole(row["trial"]), words.score(row["best_score"]), words.whole(best)]
        cells.append(words.whole(row["epochs_run"]))
        if metric != "score":
            cells.append(words.number(None if best is None else lines[row["trial"]].get(best)))
        table.add_row(LETTERS[i], *cells, words.outcome(row["outcome"]))
    printer.print(table)
    printer.print("a capital letter is the trial's best epoch")


def _make_page(data: "Study", shown: Sequence[int], metric: str) -> bytes:
    """Return the curves as one page that loads nothing."""
    from sweeps.report.figures_curves import draw_curves, name_column
    from sweeps.report.page import render_curves

    own = data.curves[data.curves["trial"].isin(shown)]
    figure = draw_curves(own, data.results, shown, metric, label=data.metric, height=560)
    return render_curves(figure, study=data.name, name=name_column(metric, data.metric)).encode()
