"""``compare``: the ranks of trials by best, last, tail and epoch X, and what they owe to luck."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from storage.locations import resolve_url
from sweeps.analysis import compare as analysis
from sweeps.analysis.compare import RULES, Compared
from sweeps.analysis.ties import Ties
from sweeps.cli.console import UsageMistake, console, print_wrapped
from sweeps.cli.files import Format, choose_format, write_frame
from sweeps.cli.ranking import WORDS
from sweeps.cli.tables import add_numbers, new_table
from sweeps.read.words import count, is_missing, listing, score, signed, whole

_MAX_ROWS = 30
_MAX_NAMES = 6


def compare(
    *,
    studies: Sequence[str],
    at_epoch: int | None,
    by: str,
    to_score: float | None,
    storage: str | None,
    format: Format | None,
    output: Path | None,
) -> None:
    """Print or write the trials of all studies in one ranking by each rule."""
    kind = choose_format(format, output)
    names = list(dict.fromkeys(studies))
    compared = [Compared.read(resolve_url(storage), name) for name in names]
    longest = analysis.longest_run(compared)
    if at_epoch is not None and longest is not None and at_epoch > longest:
        raise UsageMistake(
            f"--at-epoch must be <= {longest}, the epochs of the longest ranked trial,"
            f" got {at_epoch}"
        )
    epoch = analysis.shared_epoch(compared) if at_epoch is None else at_epoch
    wanted = analysis.lowest_tied(compared) if to_score is None else to_score
    frame = analysis.compare(compared, epoch=epoch, score=wanted, by=by)
    printer = console()
    if kind != "table":
        write_frame(frame, kind, output=output)
        if output is not None:
            trials = count(len(frame), "ranked trial")
            printer.print(f"{trials} written to {output}", soft_wrap=True)
        return
    if frame.empty:
        raise UsageMistake(f"no trial of {', '.join(names)} has a score that may be ranked")
    letters = _name_studies(names)
    # A trial's name in the table: of several studies, the study's letter and the number.
    frame["name"] = frame["study"].map(letters).str.cat(frame["trial"].astype("string"))
    if len({each.study.data_fingerprint for each in compared}) > 1:
        printer.print(
            "note: these studies have different data, so their scores and ranks tell nothing of"
            " each other"
        )
    printer.print(_make_table(frame.head(_MAX_ROWS), epoch=epoch, wanted=wanted))
    if len(frame) > _MAX_ROWS:
        printer.print(f"... {len(frame) - _MAX_ROWS} more: --format csv, or -o FILE")
    printer.print()
    for each in compared if len(names) > 1 else ():
        none = "" if each.ranked else ": no trial of it has a score that may be ranked"
        printer.print(f"{letters[each.study.name]} is study {each.study.name}{none}")
    # Of equal trials the one that leads, as in the other views.
    best = frame[frame["rank_best"] == 1].iloc[0]
    ties = next(each.ties for each in compared if each.study.name == best["study"])
    lines = [*_name_winners(frame, epoch), *_explain(frame, best, ties)]
    for line in lines:
        print_wrapped(printer, line)


def _name_studies(names: Sequence[str]) -> dict[str, str]:
    """Return a letter a study, which stands before its trials' numbers; "" for one alone."""
    if len(names) == 1:
        return {names[0]: ""}
    letters = [*string.ascii_uppercase, *(f"S{i}-" for i in range(27, len(names) + 1))]
    return dict(zip(names, letters, strict=False))


def _make_table(frame: pd.DataFrame, *, epoch: int, wanted: float) -> Table:
    table = new_table(gap=1)
    add_numbers(table, "trial")
    for rule in (*WORDS, f"at {epoch}"):
        add_numbers(table, f"{rule}\nscore", f"{rule}\nrank")
    add_numbers(table, f"epochs\nto {wanted:.3f}", "luck of\nthe best", "tie")
    for row in frame.to_dict(orient="records"):
        scores = [(score(row[rule]), whole(row[f"rank_{rule}"])) for rule in RULES]
        table.add_row(
            row["name"],
            *(cell for pair in scores for cell in pair),
            whole(row["epochs_to_score"]),
            signed(row["luck"]),
            "=" if row["is_tied"] else "",
            style="bold" if row["rank_best"] == 1 else None,
        )
    return table


def _name_winners(frame: pd.DataFrame, epoch: int) -> list[str]:
    """Return who wins by which rules, and the trial on which the rules disagree most."""
    rules: Mapping[str, str] = {**WORDS, "at_epoch": f"epoch {epoch}"}
    wins: dict[str, list[str]] = {}
    for rule, words in rules.items():
        first = frame[frame[f"rank_{rule}"] == 1].sort_values(["rank_best", "study", "trial"])
        if not first.empty:
            won = f"{words} ({score(first.iloc[0][rule])})"
            wins.setdefault(_name_equals(first["name"].tolist()), []).append(won)
    if len(wins) == 1:
        return [f"{name} by every rule" for name in wins]
    lines = [f"{name} by {', '.join(won)}" for name, won in wins.items()]
    moved = frame.sort_values(["rank_range", "rank_best"], ascending=[False, True]).iloc[0]
    ranks = ", ".join(f"{whole(moved[f'rank_{rule}'])} by {rules[rule]}" for rule in rules)
    return [*lines, f"the rules disagree most on trial {moved['name']}: rank {ranks}"]


def _name_equals(names: Sequence[str]) -> str:
    """Return who wins: one trial, or those that share the score."""
    if len(names) == 1:
        return f"trial {names[0]} wins"
    more = len(names) - _MAX_NAMES
    shown = [*names[:_MAX_NAMES], *([f"{more} more"] if more > 0 else [])]
    return f"trials {listing(shown)} share the win"


def _explain(frame: pd.DataFrame, best: "pd.Series[Any]", ties: Ties) -> list[str]:
    """Return what ties with the best trial, and what its score owes to luck."""
    others, tied = len(frame) - 1, int(frame["is_tied"].sum()) - 1
    lines = []
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
