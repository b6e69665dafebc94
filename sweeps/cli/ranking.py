"""The ranked table of a study's trials, and the sentences that go with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table

from sweeps.analysis.summary import say_ahead
from sweeps.cli.tables import add_numbers, add_texts, new_table
from sweeps.read.params import BY_LINE_SEARCH, describe_trial, list_varying, read_shown_params
from sweeps.read.words import NO_CLIPPING, UNENDED, clean, outcome, score, setting, whole

#: Scores by which trials are ranked, in the words of a sentence.
WORDS = {"best": "best epoch", "last": "last epoch", "tail": "mean of the last 5 epochs"}

_Columns = dict[str, list[str]]


def ranked_lines(
    frame: pd.DataFrame, *, width: int, by: str = "best", limit: int | None = None
) -> tuple[Table, list[str]]:
    """Return the table with as many hyperparameters as fit, and lines on what it leaves out.

    Args:
        frame: ``queries.results``, ranked.
        width: Characters of a line.
        by: The score that it is ranked by.
        limit: Rows to show; None: all.
    """
    params = read_shown_params(frame)
    names = list(dict.fromkeys(name for one in params for name in one))
    varying = list_varying(params)
    # A hyperparameter of some trials alone, with one value, stands after those that vary.
    varying += [n for n in names if n not in varying and not all(n in one for one in params)]
    rows = frame if limit is None else frame.head(limit)
    columns = _score_columns(rows, by=by)
    values = {name: [setting(one.get(name)) for one in params[: len(rows)]] for name in varying}
    # Two blanks between columns where all fit, else one, and the last hyperparameters are hidden.
    gap, kept = 2, list(varying)
    while _width({**columns, **{name: values[name] for name in kept}}, gap=gap) > width:
        if gap == 1 and not kept:
            break
        if gap == 1:
            kept.pop()
        gap = 1
    lines = []
    constant = [f"{name}={setting(params[0][name])}" for name in names if name not in varying]
    if constant:
        lines.append(f"all trials: {' '.join(constant)}")
    if len(kept) < len(varying):
        lines.append(f"not shown at {width} columns: {', '.join(varying[len(kept) :])}")
    return _table(columns | {name: values[name] for name in kept}, gap=gap), lines


def answer_lines(
    frame: pd.DataFrame,
    *,
    by: str = "best",
    space: Mapping[str, Any] | None = None,
    metric: str = "score",
) -> list[str]:
    """Return which trial won, and what another way to compare would have said.

    Args:
        frame: ``queries.results``, ranked.
        by: The score that it is ranked by.
        space: The study's, by which the only trial of a study is described.
        metric: What people call the score.
    """
    ranked = frame[frame["rank"].notna()]
    if ranked.empty:
        return [_say_leader(frame, metric)]
    first = ranked.iloc[0]
    number, name = int(first["trial"]), f"trial {first['trial']}"
    best = f"{score(first['best_score'])} at epoch {whole(first['best_epoch'])}"
    last = f" (at its last epoch, {whole(first['last_epoch'])}: {score(first['last_score'])})"
    if first["last_epoch"] == first["best_epoch"]:
        last = ", its last"
    lines = [f"best: {name}, {metric} {best}{last}"]
    if by != "best":
        own = score(first[f"{by}_score"])
        lines = [f"by {WORDS[by]}: {name}, {metric} {own} (its best: {best})"]
    equals = ranked[ranked["rank"] == first["rank"]]
    if len(equals) > 1:
        losses = equals["best_val_loss"]
        is_lower = losses.iloc[0] < losses.iloc[1]
        why = "by its lower validation loss" if is_lower else "as the earliest"
        value = score(first[f"{by}_score"])
        lines.append(f"{len(equals)} trials share {value}; {name} leads {why}")
    lines.append(f"{name} is {clean(describe_trial(frame, number, space or {}))}")
    return [*lines, *say_ahead(frame), *_say_rivals(ranked, number, by=by)]


def _say_leader(frame: pd.DataFrame, metric: str) -> str:
    """Return who is ahead of the trials that have not ended, where none is ranked."""
    is_open = frame["outcome"].map(outcome, na_action=None).isin(UNENDED)
    scored = frame[is_open & frame["best_score"].notna()]
    if scored.empty:
        return "no trial has a score that may be ranked"
    first = scored.iloc[0]
    ended = "no trial has ended yet" if is_open.all() else "none that has ended may be ranked"
    return (
        f"best so far: trial {first['trial']}, {metric} {score(first['best_score'])} at epoch"
        f" {whole(first['best_epoch'])}; {ended}"
    )


def _say_rivals(ranked: pd.DataFrame, first: int, *, by: str) -> list[str]:
    """Return who would win by another score; nothing if the first trial would too."""
    other = "last" if by == "best" else "best"
    scores = ranked[f"{other}_score"]
    rivals = ranked.loc[scores == scores.max(), "trial"].tolist()
    if not rivals or first in rivals:
        return []
    who = f"trial {rivals[0]}" if len(rivals) == 1 else f"{len(rivals)} trials"
    each = "" if len(rivals) == 1 else " each"
    return [f"compared by the {WORDS[other]}, {who} would win with {score(scores.max())}{each}"]


def _score_columns(rows: pd.DataFrame, *, by: str) -> _Columns:
    # Where no epoch has a score none is the best one.
    best_epochs = rows["best_epoch"].mask(rows["best_score"].isna())
    return {
        "rank": [whole(value) for value in rows["rank"]],
        "trial": [whole(value) for value in rows["trial"]],
        "best_score": [score(value) for value in rows["best_score"]],
        "best_epoch": [whole(value) for value in best_epochs],
        **({"tail_score": [score(v) for v in rows["tail_score"]]} if by == "tail" else {}),
        "last_score": [score(value) for value in rows["last_score"]],
        "epochs_run": [whole(value) for value in rows["epochs_run"]],
        "outcome": [outcome(value) for value in rows["outcome"]],
    }


def _width(columns: _Columns, *, gap: int) -> int:
    widths = [
        max(map(len, [*_heading(name).split("\n"), *cells])) for name, cells in columns.items()
    ]
    return sum(widths) + gap * (len(widths) - 1)


def _heading(name: str) -> str:
    return name.removeprefix("model.").replace("_", "\n")


def _table(columns: _Columns, *, gap: int) -> Table:
    table = new_table(gap=gap)
    for name, cells in columns.items():
        # Words that stand for a number stand where it would.
        words = ("-", BY_LINE_SEARCH, NO_CLIPPING)
        is_number = all(cell in words or cell[0].isdigit() for cell in cells)
        (add_numbers if is_number else add_texts)(table, _heading(name))
    rows: Sequence[Sequence[str]] = list(zip(*columns.values(), strict=True))
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "1" else None)
    return table
