"""``show``: one trial - its curve, its classes, and the way to its best epoch's weights."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from storage import locations
from sweeps.cli.output import StorageOption, StudyArgument, command_line, console, read_trial
from sweeps.curves import TAIL_EPOCHS
from sweeps.read.words import clean, is_missing, outcome, score, setting, spans, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

_PLOT_WIDTH = 66
_PLOT_HEIGHT = 10
_MAX_STEP = 4


def show(
    study: StudyArgument,
    trial: Annotated[
        int, typer.Argument(metavar="TRIAL", help="Number of the trial.", parser=read_trial)
    ],
    storage: StorageOption = None,
) -> None:
    """Show a trial: scores, curve, classes, and how to load its best weights."""
    from storage import queries
    from storage.database import open_database
    from sweeps.read.params import read_shown_params
    from sweeps.read.study import Study

    url = locations.resolve_url(storage)
    queries.trial(url, study, trial)  # raises if there is none; what is shown is of one moment
    read = Study.read(url, study)
    is_shown = (read.results["trial"] == trial).tolist()
    row = read.results[is_shown].iloc[0]
    params = read_shown_params(read.results)[is_shown.index(True)]
    curve = read.curves[read.curves["trial"] == trial]
    printer = console()
    _print_facts(printer, row, study=study, params=params, curve=curve)
    if not curve.empty:
        printer.print(f"\nvalidation {clean(read.metric)} by epoch")
        epochs = [int(epoch) for epoch in curve["epoch"]]
        for line in plot_curve(epochs, list(curve["score"])):
            printer.print(line, soft_wrap=True)
    _print_classes(printer, read.class_scores[read.class_scores["trial"] == trial])
    again = command_line("weights", study, trial, storage=storage)
    if is_missing(row["weights_file"]):
        if not is_missing(row["rank"]):
            printer.print("\nits best epoch's weights were not kept; to train it again:")
            printer.print(f"  {again}", soft_wrap=True)
        return
    with open_database(url, create=False) as db:
        path = db.weights_dir / row["weights_file"]
    if not path.is_file():
        printer.print(f"\nits best epoch's weights are gone: {path}", soft_wrap=True)
        printer.print(f"to train it again: {again}", soft_wrap=True)
        return
    printer.print("\nto load its best epoch in Python:\n")
    data = read.config.get("data")
    model = json.loads(row["params"]).get("model", {})
    for line in python_lines(read.objective, model, weights=path, data=data):
        printer.print(line, soft_wrap=True)


def python_lines(
    objective: str, model: "Mapping[str, Any]", *, weights: Path, data: str | None
) -> list[str]:
    """Return the lines of Python that build a trial's model and load its best weights.

    Args:
        objective: Name of the objective.
        model: Arguments of its ``build_model``.
        weights: The safetensors file.
        data: The data file; None: the one that ships with the project.
    """
    arguments = "".join(f", {name}={value!r}" for name, value in model.items())
    source = "None" if data is None else f"Path({data!r})"
    lines = [
        "import safetensors.torch",
        "from objectives.registry import find_objective",
        f"objective = find_objective({objective!r})",
        f"model = objective.build_model(objective.load({source}){arguments}).eval()",
        f"model.load_state_dict(safetensors.torch.load_file({str(weights)!r}))",
    ]
    return lines if data is None else ["from pathlib import Path", *lines]


def plot_curve(epochs: "Sequence[int]", scores: "Sequence[float]") -> list[str]:
    """Return a curve as lines of text, at most 80 wide, its best epoch marked ``O``.

    Where epochs share a column the highest is drawn. NaN is left blank; no line if all are.

    Args:
        epochs: Epochs, from 1, ascending.
        scores: A score each.
    """
    points = [(e, s) for e, s in zip(epochs, scores, strict=True) if not math.isnan(s)]
    if not points:
        return ["(no epoch has a score)"]
    best_epoch, best = max(points, key=lambda point: point[1])
    last = max(epochs)
    low = min(s for _, s in points)
    height = _PLOT_HEIGHT - 1 if best > low else 0

    def column(epoch: int) -> int:
        if last <= _PLOT_WIDTH:
            return (epoch - 1) * min(_MAX_STEP, _PLOT_WIDTH // last)
        return round((epoch - 1) * (_PLOT_WIDTH - 1) / (last - 1))

    tops: dict[int, float] = {}
    for epoch, value in points:
        tops[column(epoch)] = max(value, tops.get(column(epoch), -math.inf))
    width = column(last) + 1
    grid = [[" "] * width for _ in range(height + 1)]
    for x, value in tops.items():
        y = round((best - value) / (best - low) * height) if height else 0
        grid[y][x] = "*"
    mark = column(best_epoch)
    grid[0][mark] = "O"
    labels = {0: f"{best:.4f}", height: f"{low:.4f}"}
    lines = [f"{labels.get(y, ''):>7} |{''.join(cells).rstrip()}" for y, cells in enumerate(grid)]
    lines.append(" " * 8 + "+" + "-" * width)
    ends = f"1{last:>{width - 1}}" if width > 1 else "1"
    lines.append(f"{'epoch':>8} {ends}")
    lines.append(f"{'O':>8} best epoch {best_epoch}: {best:.4f}")
    return lines


def _print_facts(
    printer: Console,
    row: "pd.Series[Any]",
    *,
    study: str,
    params: "Mapping[str, Any]",
    curve: "pd.DataFrame",
) -> None:
    last_epoch, last = row["last_epoch"], row["last_score"]
    if is_missing(last_epoch) and not curve.empty:
        last_epoch, last = curve.iloc[-1]["epoch"], curve.iloc[-1]["score"]
    ended = outcome(row["outcome"])
    segments = () if is_missing(row["segments"]) else json.loads(row["segments"]) or ()
    rank = "" if is_missing(row["rank"]) else f", rank {row['rank']}"
    facts = {
        "outcome": ended if is_missing(row["reason"]) else f"{ended}: {clean(row['reason'])}",
        "best": f"{score(row['best_score'])} at epoch {whole(row['best_epoch'])}",
        "last": f"{score(last)} at epoch {whole(last_epoch)}",
        "tail": f"{score(row['tail_score'])}, {_describe_tail(len(curve))}",
        **(
            {"parts": f"trained in {len(segments)} parts: epochs {spans(segments)}"}
            if len(segments) > 1
            else {}
        ),
        "seed": f"{row['seed']}{_describe_place(row)}",
        "parameters": " ".join(f"{name}={setting(v)}" for name, v in params.items()),
    }
    printer.print(Text(f"trial {row['trial']} of {study}{rank}", style="bold"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in facts.items():
        grid.add_row(name, text)
    printer.print(grid)


def _describe_place(row: "pd.Series[Any]") -> str:
    """Return how and where a trial was trained; nothing of a trial that was not."""
    return "" if is_missing(row["path"]) else f", {row['path']} on {row['device']}"


def _describe_tail(num_epochs: int) -> str:
    if num_epochs == 1:
        return "its one epoch"
    return f"mean of the last {min(num_epochs, TAIL_EPOCHS) or TAIL_EPOCHS} epochs"


def _print_classes(printer: Console, classes: "pd.DataFrame") -> None:
    if classes.empty:
        return
    printer.print("\nclasses on validation at the best epoch")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("class", overflow="fold")
    for name in ("precision", "recall", "F1", "support"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in classes.to_dict(orient="records"):
        table.add_row(
            clean(one["class_name"]),
            *(score(one[name]) for name in ("precision", "recall", "f1")),
            whole(one["support"]),
        )
    printer.print(table)
