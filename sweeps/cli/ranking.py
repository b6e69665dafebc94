"""The ranked table of a study's trials: as many hyperparameters as the width holds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table

from sweeps.read.words import (
    NO_CLIPPING,
    UNENDED,
    clean,
    outcome,
    score,
    setting,
    whole,
)

if TYPE_CHECKING:
    import pandas as pd

#: Scores by which trials are ranked, in the words of a sentence.
WORDS = {"best": "best epoch", "last": "last epoch", "tail": "mean of the last 5 epochs"}

_WIDE_GAP, _GAP = 2, 1

_Columns = list[tuple[str, list[str]]]


def ranked_lines(
    frame: "pd.DataFrame", *, width: int, by: str = "best", limit: int | None = None
) -> list[RenderableType]:
    """Return the table, and lines that say what it leaves out.

    Args:
        frame: ``queries.results``, ranked.
        width: Characters of a line.
        by: The score that it is ranked by.
        limit: Rows to show; None: all.
    """
    from sweeps.read.params import list_varying, read_shown_params

    params = read_shown_params(frame)
    everywhere = set(params[0]).intersection(*params) if params else set()
    varying = list_varying(params)
    # What has one value, and not in all trials, comes last.
    varying += [
        name
        for name in dict.fromkeys(name for one in params for name in one)
        if name not in everywhere and name not in varying
    ]
    constant = (
        {name: each for name, each in params[0].items() if name not in varying} if params else {}
    )
    rows = frame.head(limit) if limit is not None else frame
    columns = _score_columns(rows, by=by)
    values = {name: [setting(one.get(name)) for one in params[: len(rows)]] for name in varying}
    shown, gap = _fit(columns, values, names=varying, width=width)
    lines: list[RenderableType] = [_table([*columns, *shown.items()], gap=gap)]
    if constant:
        fixed = " ".join(f"{name}={setting(value)}" for name, value in constant.items())
        lines.append(f"all trials: {fixed}")
    hidden = [name for name in varying if name not in shown]
    if hidden:
        lines.append(f"not shown at {width} columns: {', '.join(hidden)}")
    return lines


def answer_lines(
    frame: "pd.DataFrame",
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
    from sweeps.analysis.summary import say_ahead
    from sweeps.read.params import describe_trial

    ranked = frame[frame["rank"].notna()]
    if ranked.empty:
        return [_say_leader(frame, metric)]
    first = ranked.iloc[0]
    best = f"{score(first['best_score'])} at epoch {whole(first['best_epoch'])}"
    last = f" (at its last epoch, {whole(first['last_epoch'])}: {score(first['last_score'])})"
    is_last = first["last_epoch"] == first["best_epoch"]
    lines = [f"best: trial {first['trial']}, {metric} {best}{', its last' if is_last else last}"]
    if by != "best":
        own = score(first[f"{by}_score"])
        lines = [f"by {WORDS[by]}: trial {first['trial']}, {metric} {own} (its best: {best})"]
    lines += _say_equals(ranked, first, by=by)
    described = clean(describe_trial(frame, int(first["trial"]), space or {}))
    lines.append(f"trial {first['trial']} is {described}")
    lines += say_ahead(frame)
    return [*lines, *_say_rivals(ranked, first, other="last" if by == "best" else "best")]


def _say_leader(frame: "pd.DataFrame", metric: str) -> str:
    """Return who is ahead of the trials that have not ended, where none is ranked."""
    is_open = frame["outcome"].map(outcome, na_action=None).isin(UNENDED)
    scored = frame[is_open & frame["best_score"].notna()]
    if scored.empty:
        return "no trial has a score that may be ranked"
    # The frame has them in this order.
    first = scored.iloc[0]
    ended = "no trial has ended yet" if is_open.all() else "none that has ended may be ranked"
    return (
        f"best so far: trial {first['trial']}, {metric} {score(first['best_score'])} at epoch"
        f" {whole(first['best_epoch'])}; {ended}"
    )


def _say_equals(ranked: "pd.DataFrame", first: "pd.Series[Any]", *, by: str) -> list[str]:
    equals = ranked[ranked["rank"] == first["rank"]]
    if len(equals) == 1:
        return []
    value, losses = score(first[f"{by}_score"]), equals["best_val_loss"]
    why = "by its lower validation loss" if losses.iloc[0] < losses.iloc[1] else "as the earliest"
    return [f"{len(equals)} trials share {value}; trial {first['trial']} leads {why}"]


def _say_rivals(ranked: "pd.DataFrame", first: "pd.Series[Any]", *, other: str) -> list[str]:
    """Return who would win by another score, none where the first trial would too."""
    column = f"{other}_score"
    rivals = ranked.loc[ranked[column] == ranked[column].max(), "trial"].tolist()
    if not rivals or first["trial"] in rivals:
        return []
    value = score(ranked[column].max())
    if len(rivals) == 1:
        return [f"compared by the {WORDS[other]}, trial {rivals[0]} would win with {value}"]
    return [f"compared by the {WORDS[other]}, {len(rivals)} trials would win with {value} each"]


def _score_columns(rows: "pd.DataFrame", *, by: str) -> _Columns:
    columns: _Columns = [
        ("rank", [whole(value) for value in rows["rank"]]),
        ("trial", [whole(value) for value in rows["trial"]]),
        ("best\nscore", [score(value) for value in rows["best_score"]]),
        # Where no epoch has a score none is the best one.
        ("best\nepoch", [whole(v) for v in rows["best_epoch"].mask(rows["best_score"].isna())]),
        ("last\nscore", [score(value) for value in rows["last_score"]]),
        ("epochs\nrun", [whole(value) for value in rows["epochs_run"]]),
        ("outcome", [outcome(value) for value in rows["outcome"]]),
    ]
    if by == "tail":
        columns.insert(4, ("tail\nscore", [score(value) for value in rows["tail_score"]]))
    return columns


def _fit(
    columns: _Columns,
    values: Mapping[str, list[str]],
    *,
    names: Sequence[str],
    width: int,
) -> tuple[dict[str, list[str]], int]:
    """Return the hyperparameters that the width holds, in their order, and the gap."""
    kept = list(names)
    gap = _WIDE_GAP
    while kept and _width(columns, {name: values[name] for name in kept}, gap=gap) > width:
        if gap == _GAP:
            kept.pop()
        gap = _GAP
    if _width(columns, {name: values[name] for name in kept}, gap=gap) > width:
        gap = _GAP
    return {name: cells for name, cells in values.items() if name in kept}, gap


def _width(columns: _Columns, values: Mapping[str, list[str]], *, gap: int) -> int:
    everything = [*columns, *((_heading(name), cells) for name, cells in values.items())]
    widths = [max(map(len, [*heading.split("\n"), *cells])) for heading, cells in everything]
    return sum(widths) + gap * (len(widths) - 1)


def _heading(name: str) -> str:
    return name.removeprefix("model.").replace("_", "\n")


def _table(columns: _Columns, *, gap: int) -> Table:
    from sweeps.read.params import BY_LINE_SEARCH

    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for name, cells in columns:
        # The words that stand for a number stand where it would.
        words = ("-", BY_LINE_SEARCH, NO_CLIPPING)
        is_number = all(cell in words or cell[0].isdigit() for cell in cells)
        table.add_column(
            _heading(name),
            justify="right" if is_number else "left",
            no_wrap=True,
            vertical="bottom",
        )
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*row, style="bold" if row[0] == "1" else None)
    return table
