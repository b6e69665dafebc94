"""``show``: one trial - its curve, its classes, and the way to its best epoch's weights."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from storage import queries
from storage.database import open_database
from storage.locations import resolve_url
from sweeps.cli.console import command_line, console
from sweeps.cli.curves import finite_points
from sweeps.cli.plot import draw
from sweeps.cli.tables import add_numbers, add_texts, named_values, new_table
from sweeps.curves import TAIL_EPOCHS
from sweeps.read.params import read_shown_params
from sweeps.read.study import Study
from sweeps.read.words import clean, is_missing, outcome, score, setting, spans, whole
from sweeps.report.figures_curves import flat_range

_PLOT_WIDTH, _PLOT_HEIGHT = 72, 14


def show(*, study: str, trial: int, storage: str | None) -> None:
    """Print what is known of a trial."""
    url = resolve_url(storage)
    queries.trial(url, study, trial)  # raises if there is none; what is shown is of one moment
    read = Study.read(url, study)
    index = read.results["trial"].tolist().index(trial)
    row = read.results.iloc[index]
    printer = console()
    rank = "" if is_missing(row["rank"]) else f", rank {row['rank']}"
    printer.print(Text(f"trial {trial} of {study}{rank}", style="bold"))
    params = read_shown_params(read.results)[index]
    printer.print(named_values(_list_facts(read, row, params)))
    points = finite_points(read, trial)
    if row["epochs_run"]:
        printer.print(f"\nvalidation {clean(read.metric)} by epoch")
        best = None if is_missing(row["best_epoch"]) else int(row["best_epoch"])
        ends = flat_range(list(points.values()), "score")
        plot = draw([points], [best], width=_PLOT_WIDTH, height=_PLOT_HEIGHT, ends=ends)
        printer.print(plot, soft_wrap=True)
    _print_classes(printer, read.class_scores[read.class_scores["trial"] == trial])
    again = command_line("weights", study, trial, storage=storage)
    if is_missing(row["weights_file"]):
        if not is_missing(row["rank"]):
            printer.print("\nits best epoch's weights were not kept; to train it again:")
            printer.print(f"  {again}", soft_wrap=True)
        return
    with open_database(url, create=False) as db:
        path, sha256 = db.weights_dir / row["weights_file"], row["weights_sha256"]
    problem = "gone" if not path.is_file() else "damaged" if _sha256(path) != sha256 else ""
    if problem:
        printer.print(f"\nits best epoch's weights are {problem}: {path}", soft_wrap=True)
        printer.print(f"to train it again: {again}", soft_wrap=True)
        return
    printer.print("\nto load its best epoch in Python:\n")
    model = json.loads(row["params"]).get("model", {})
    for line in _python_lines(read, model, weights=path):
        printer.print(line, soft_wrap=True)
    if read.objective in ("tabular-mlp", "sequence-rnn"):
        printer.print("\nto make its inputs of new rows, as in training:\n")
        for line in (
            "from pathlib import Path",
            "from objectives.data.preparation import Preparation",
            f"features = Preparation.of_weights(Path({str(path)!r})).read(Path('new.csv'))",
        ):
            printer.print(line, soft_wrap=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _python_lines(read: Study, model: Mapping[str, Any], *, weights: Path) -> list[str]:
    """Return the lines of Python that build a trial's model and load its best weights."""
    arguments = "".join(f", {name}={value!r}" for name, value in model.items())
    data = read.config.get("data")
    source = "None" if data is None else f"Path({data!r})"
    label = read.config.get("label", "label")
    source += "" if label == "label" else f", label={label!r}"
    return [
        *([] if data is None else ["from pathlib import Path"]),
        "import safetensors.torch",
        "from objectives.registry import find_objective",
        f"objective = find_objective({read.objective!r})",
        f"model = objective.build_model(objective.load({source}){arguments}).eval()",
        f"model.load_state_dict(safetensors.torch.load_file({str(weights)!r}))",
    ]


def _list_facts(
    read: Study, row: "pd.Series[Any]", params: Mapping[str, Any]
) -> Mapping[str, str]:
    scores = read.scores_of(row["trial"])
    last_epoch, last = row["last_epoch"], row["last_score"]
    if is_missing(last_epoch) and scores:
        last_epoch, last = len(scores), scores[-1]
    ended = outcome(row["outcome"])
    segments = () if is_missing(row["segments"]) else json.loads(row["segments"]) or ()
    tail = f"mean of the last {min(len(scores), TAIL_EPOCHS) or TAIL_EPOCHS} epochs"
    place = "" if is_missing(row["path"]) else f", {row['path']} on {row['device']}"
    facts = {
        "outcome": ended if is_missing(row["reason"]) else f"{ended}: {clean(row['reason'])}",
        "best": f"{score(row['best_score'])} at epoch {whole(row['best_epoch'])}",
        "last": f"{score(last)} at epoch {whole(last_epoch)}",
        "tail": f"{score(row['tail_score'])}, {'its one epoch' if len(scores) == 1 else tail}",
    }
    if len(segments) > 1:
        facts["parts"] = f"trained in {len(segments)} parts: epochs {spans(segments)}"
    facts["seed"] = f"{row['seed']}{place}"
    facts["parameters"] = " ".join(f"{name}={setting(v)}" for name, v in params.items())
    return facts


def _print_classes(printer: Console, classes: pd.DataFrame) -> None:
    if classes.empty:
        return
    printer.print("\nclasses on validation at the best epoch")
    table = new_table()
    add_texts(table, "class", folds=True)
    add_numbers(table, "precision", "recall", "F1", "support")
    for one in classes.to_dict(orient="records"):
        scores = [score(one[name]) for name in ("precision", "recall", "f1")]
        table.add_row(clean(one["class_name"]), *scores, whole(one["support"]))
    printer.print(table)
