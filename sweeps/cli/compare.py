"""``compare``: the ranks of trials by best, last, tail and epoch X, and what they owe to luck."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from sweeps.cli.output import (
    FormatOption,
    OutputOption,
    StorageOption,
    UsageMistake,
    choose_format,
    console,
    save_text,
    write_frame,
)
from sweeps.read.words import count, is_missing, score, signed, whole

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.analysis.compare import Compared

_MAX_ROWS = 30
_MAX_NAMES = 6
_WORDS = {
    "best": "best epoch",
    "last": "last epoch",
    "tail": "mean of the last 5 epochs",
    "at_epoch": "epoch {epoch}",
}


def compare(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY", help="Names of one or several studies.")
    ],
    at_epoch: Annotated[
        int | None,
        typer.Option(
            metavar="X",
            min=1,
            help="Compare at this epoch too. (the last that all reached but those cut short)",
        ),
    ] = None,
    by: Annotated[
        Literal["best", "last", "tail"], typer.Option(help="Rule that orders the table.")
    ] = "best",
    to_score: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            min=-1.0,
            max=1.0,
            help="Count the epochs to this score. (the lowest that ties with the best)",
        ),
    ] = None,
    storage: StorageOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Rank trials by best, last and tail score and at an epoch, side by side.

    Scores that cannot be told apart from the best are marked as ties.
    """
    from storage.locations import resolve_url
    from sweeps.analysis import compare as analysis

    kind = choose_format(format, output)
    names = list(dict.fromkeys(studies))
    compared = [analysis.Compared.read(resolve_url(storage), name) for name in names]
    if at_epoch is not None:
        _check_epoch(at_epoch, analysis.longest_run(compared))
    epoch = analysis.shared_epoch(compared) if at_epoch is None else at_epoch
    wanted = analysis.lowest_tied(compared) if to_score is None else to_score
    frame = analysis.compare(compared, epoch=epoch, score=wanted, by=by)
    if kind != "table":
        write_frame(frame, kind, output=output)
        if output is not None:
            _say_written(output, len(frame))
        return
    if frame.empty:
        raise UsageMistake(f"no trial of {', '.join(names)} has a score that may be ranked")
    rows = frame if output is not None else frame.head(_MAX_ROWS)
    letters = _name_studies(names)
    table = _make_table(rows, epoch=epoch, wanted=wanted, letters=letters)
    warnings = _warn(compared)
    lines = _describe_studies(compared, letters)
    lines += _explain(frame, compared, epoch=epoch, letters=letters)
    if output is not None:
        save_text([*warnings, table, *lines], output, width=200)
        _say_written(output, len(frame))
        return
    printer = console()
    for warning in warnings:
        printer.print(warning)
    _print(printer, table, lines, num_hidden=len(frame) - len(rows))


def _say_written(output: Path, num_trials: int) -> None:
    console().print(f"{count(num_trials, 'ranked trial')} written to {output}", soft_wrap=True)


def _check_epoch(epoch: int, longest: int | None) -> None:
    """Raise if no trial came so far."""
    if longest is not None and epoch > longest:
        raise UsageMistake(
            f"--at-epoch must be <= {longest}, the epochs of the longest ranked trial, got {epoch}"
        )


def _describe_studies(compared: "Sequence[Compared]", letters: Mapping[str, str]) -> list[str]:
    """Return which letter is which study, and which study has nothing to rank."""
    lines = []
    for each in compared:
        name = each.study.name
        if letters[name]:
            none = "" if each.ranked else ": no trial of it has a score that may be ranked"
            lines.append(f"{letters[name]} is study {name}{none}")
    return lines


def _print(printer: Console, table: Table, lines: Sequence[str], *, num_hidden: int) -> None:
    printer.print(table)
    if num_hidden:
        printer.print(f"... {num_hidden} more: --format csv, or -o FILE")
    printer.print()
    for line in lines:
        printer.print(line)


def _name_studies(names: Sequence[str]) -> dict[str, str]:
    """Return a letter a study, which stands before its trials' numbers; "" for one alone."""
    if len(names) == 1:
        return {names[0]: ""}
    letters = string.ascii_uppercase
    return {name: letters[i] if i < len(letters) else f"S{i + 1}-" for i, name in enumerate(names)}


def _make_table(
    frame: "pd.DataFrame", *, epoch: int, wanted: float, letters: Mapping[str, str]
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    rules = {"best": "best", "last": "last", "tail": "tail", "at_epoch": f"at {epoch}"}
    headings = ["trial"]
    for word in rules.values():
        headings += [f"{word}\nscore", f"{word}\nrank"]
    headings += [f"epochs\nto {wanted:.3f}", "luck of\nthe best", "tie"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    for row in frame.to_dict(orient="records"):
        cells = [f"{letters[row['study']]}{row['trial']}"]
        for rule in rules:
            cells += [score(row[rule]), whole(row[f"rank_{rule}"])]
        luck = "-" if is_missing(row["luck"]) else signed(row["luck"])
        table.add_row(
            *cells,
            whole(row["epochs_to_score"]),
            luck,
            "=" if row["is_tied"] else "",
            style="bold" if row["rank_best"] == 1 else None,
        )
    return table


def _explain(
    frame: "pd.DataFrame",
    compared: "Sequence[Compared]",
    *,
    epoch: int,
    letters: Mapping[str, str],
) -> list[str]:
    """Return who wins by each rule, where the rules disagree, what ties, and what luck does."""
    frame = frame.assign(name=frame["study"].map(dict(letters)) + frame["trial"].astype("string"))
    lines = _name_winners(frame, epoch=epoch)
    moved = frame.sort_values(["rank_range", "rank_best"], ascending=[False, True]).iloc[0]
    if len(frame) > 1 and moved["rank_range"] > 0:
        ranks = ", ".join(
            f"{whole(moved[f'rank_{rule}'])} by {words.format(epoch=epoch)}"
            for rule, words in _WORDS.items()
        )
        lines.append(f"the rules disagree most on trial {moved['name']}: rank {ranks}")
    # Of equal trials the one that leads, as in the other views.
    best = frame[frame["rank_best"] == 1].iloc[0]
    ties = next(each.ties for each in compared if each.study.name == best["study"])
    others, tied = len(frame) - 1, int(frame["is_tied"].sum()) - 1
    if is_missing(ties.error):
        lines.append("what ties is not known: nothing is stored of what the trials predict")
    elif tied > 0:
        lines.append(
            f"{tied} of the {others} other trials {'ties' if tied == 1 else 'tie'} with the best "
            f"(=): on other validation examples {'it' if tied == 1 else 'one of them'} might lead"
        )
    elif others:
        lines.append(
            "no other trial ties with the best (=): none is likely to lead on other validation"
            " examples"
        )
    if not is_missing(ties.luck):
        lines.append(
            f"luck: trial {best['name']} was the best on these examples, of all"
            f" {'trials and ' if others else 'its '}epochs; on new ones its model is expected to"
            f" have {signed(ties.luck)} less than its {score(best['best'])}"
            f" ({signed(ties.luck_low)} to {signed(ties.luck_high)} in about 9 of 10 cases)"
        )
    return lines


def _name_winners(frame: "pd.DataFrame", *, epoch: int) -> list[str]:
    """Return one line for each winner or winners of the same score, with the rules won by."""
    wins: dict[str, list[str]] = {}
    for rule, words in _WORDS.items():
        first = frame[frame[f"rank_{rule}"] == 1].sort_values(["rank_best", "study", "trial"])
        if not first.empty:
            won = f"{words.format(epoch=epoch)} ({score(first.iloc[0][rule])})"
            wins.setdefault(_name_equals(first["name"].tolist()), []).append(won)
    if len(wins) == 1:
        return [f"{name} by every rule" for name in wins]
    return [f"{name} by {', '.join(rules)}" for name, rules in wins.items()]


def _name_equals(names: Sequence[str]) -> str:
    """Return who wins: one trial, or those that share the score."""
    if len(names) == 1:
        return f"trial {names[0]} wins"
    some = ", ".join(names[:_MAX_NAMES])
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"trials {some}{more} share the win"


def _warn(compared: "Sequence[Compared]") -> list[str]:
    """Return why the studies may not be compared, if so."""
    if len({each.study.data_fingerprint for each in compared}) <= 1:
        return []
    return [
        "note: these studies have different data, so their scores and ranks tell nothing of each"
        " other"
    ]
