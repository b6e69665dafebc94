"""``diagnose``: what each trial's curve shows, why, and what to change in the next sweep."""

import json
import math
import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeps.cli.output import (
    StorageOption,
    StudyArgument,
    UsageMistake,
    command_line,
    console,
    paste,
    read_trial,
)
from sweeps.read import words

if TYPE_CHECKING:
    from sweeps.analysis.summary import Summary
    from sweeps.read.study import Study

#: Colour of each verdict where there is a terminal; the words say the same.
_STYLES = {
    "broken": "red",
    "unstable": "red",
    "not learning": "yellow",
    "improving": "cyan",
    "overfitting": "yellow",
    "converged": "green",
}
#: Most unclear trials that the table lists.
MAX_UNCLEAR = 10
_AHEAD_NOTE = (
    "2x epochs: what twice the epochs would add to the trial's best score, and the interval that "
    "holds it in 9 of 10 cases"
)
_GUESSING_NOTE = "guessing: what knows how frequent each class is, and nothing else"
_ENOUGH_NOTE = "enough: the first epoch within a standard error of the last, of those that it ran"


def diagnose(
    study: StudyArgument,
    trial: Annotated[
        int | None, typer.Argument(metavar="TRIAL", help="Number of a trial.", parser=read_trial)
    ] = None,
    storage: StorageOption = None,
    sweep: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the next sweep as a file, with the advice in comments."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, evidence and advice of every trial.")
    ] = False,
) -> None:
    """Say what each learning curve shows, and what to change; of one trial, all of it."""
    from storage import queries
    from storage.locations import resolve_url
    from sweeps.analysis.summary import summarise
    from sweeps.read.study import Study

    url = resolve_url(storage)
    if trial is not None:
        queries.trial(url, study, trial)
    summary = summarise(Study.read(url, study))
    if sweep is not None:
        _write_sweep(summary, sweep)
        return
    if as_json:
        _write_json(summary, trial)
        return
    printer = console()
    if trial is not None:
        _print_trial(printer, summary, trial)
    elif not summary.judged:
        printer.print(f"study {study} has no epoch yet")
    else:
        _print_study(printer, summary, storage)


def _write_sweep(summary: "Summary", path: Path) -> None:
    from sweeps.config.write import write_sweep

    try:
        text = write_sweep(summary.study, summary.advice)
    except ValueError as error:
        raise UsageMistake(str(error)) from None
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageMistake(f"{path} exists; take another name") from None
    except OSError as error:
        raise UsageMistake(f"{path}: cannot be written: {error.strerror or error}") from None
    count = words.count(len(summary.advice), "piece")
    typer.echo(f"wrote {path}: the settings of {summary.study.name}, and {count} of advice")
    typer.echo(f"  {command_line('run', path)}")


def _print_study(printer: Console, summary: "Summary", storage: str | None) -> None:
    _print_wrapped(printer, summary.answer)
    printer.print()
    first = _print_table(printer, summary)
    printer.print()
    for line in summary.findings:
        _print_wrapped(printer, line)
    if any(each.verdict.value == "unclear" for each in summary.judged):
        rungs = words.explain_rungs(summary.study.config)
        if rungs:
            _print_wrapped(printer, rungs)
    if summary.unfinished:
        printer.print()
        for line in summary.unfinished:
            _print_wrapped(printer, line)
    if summary.carry_on is not None:
        _print_command(printer, summary.carry_on, storage)
    if summary.study.is_sweep:
        _print_advice(printer, summary, storage)
    if summary.audit.sentences:
        printer.print()
        for line in summary.audit.sentences:
            _print_wrapped(printer, line)
    printer.print()
    name = summary.study.name
    ways = [("diagnose", name, first), ("curves", name)]
    if summary.ties.best is not None:
        ways.append(("compare", name))
    for way in ways:
        printer.print(f"  {command_line(*way, storage=storage)}", soft_wrap=True)


def _print_table(printer: Console, summary: "Summary") -> int:
    """Print a row a trial, the best first, and what its words mean; return the first trial."""
    from sweeps.cli.evidence import is_of_guessing, short_evidence

    judged = {each.trial: each for each in summary.judged}
    facts = {each.trial: each for each in summary.facts}
    rows = [row for row in summary.study.results.to_dict("records") if row["trial"] in judged]
    first = int(rows[0]["trial"])
    unclear = {trial for trial, each in judged.items() if each.verdict.value == "unclear"}
    if len(unclear) > MAX_UNCLEAR:
        rows = [row for row in rows if row["trial"] not in unclear - {first}]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("trial", "best"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("seen")
    table.add_column("enough", justify="right", no_wrap=True)
    marked = False
    for row in rows:
        each = judged[row["trial"]]
        outlook = facts[each.trial].outlook
        enough = "-" if outlook is None else words.whole(outlook.epochs_needed)
        is_open = words.outcome(row["outcome"]) in words.UNENDED
        marked |= is_open
        name = each.verdict.value
        table.add_row(
            f"{each.trial}{'*' if is_open else ''}",
            words.score(row["best_score"]),
            Text(name, style=_STYLES.get(name, "")),
            short_evidence(each),
            f"{enough} of {row['epochs_run']}",
        )
        for note in each.notes:
            table.add_row("", "", "", f"note: {note.name}", "")
    printer.print(table)
    shown = [judged[row["trial"]] for row in rows]
    lines = [_ENOUGH_NOTE]
    if any(short_evidence(each).startswith("2x epochs") for each in shown):
        lines.append(_AHEAD_NOTE)
    if any(map(is_of_guessing, shown)):
        lines.append(_GUESSING_NOTE)
    if marked:
        lines.append("*: has not ended; its future is unknown")
    if len(rows) < len(judged):
        hidden = words.count(len(judged) - len(rows), "trial")
        lines.append(f"not listed: {hidden} that stopped too early to tell what they show")
    for line in lines:
        _print_wrapped(printer, line)
    counts = Counter(each.verdict.value for each in summary.judged)
    _print_wrapped(printer, ", ".join(f"{number} {name}" for name, number in counts.most_common()))
    return first


def _print_advice(printer: Console, summary: "Summary", storage: str | None) -> None:
    printer.print()
    if not summary.advice:
        _print_wrapped(printer, summary.no_advice)
        return
    printer.print("for the next sweep", style="bold")
    for each in summary.advice:
        gain = (
            f"Expected gain: {words.signed(each.gain)} (from {words.signed(each.low)} to "
            f"{words.signed(each.high)} in 9 of 10 cases)."
        )
        if math.isnan(each.gain):
            gain = "How much it brings is not known."
        elif each.gain == 0:
            gain = "It saves epochs, and no score is expected of it."
        _print_wrapped(printer, words.clean(f"{each.text} {gain} {each.evidence}"), indent=2)
        for option in each.options:
            printer.print(f"      {option}", soft_wrap=True, style="cyan")
    if summary.command is None:
        return
    about = "as a study of its own"
    if len(summary.advice) > 1:
        about = f"all of it, {about}"
    _print_wrapped(printer, f"{about}:", indent=2)
    _print_command(printer, summary.command, storage)


def _print_command(printer: Console, command: str, storage: str | None) -> None:
    printer.print(f"      {paste(command, storage)}", soft_wrap=True, style="cyan")


def _print_wrapped(printer: Console, text: str, *, indent: int = 0) -> None:
    """Print a sentence, indented, without blanks behind its lines."""
    margin = " " * indent
    lines = textwrap.wrap(
        text,
        width=printer.width,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        printer.print(line, soft_wrap=True)


def _print_trial(printer: Console, summary: "Summary", trial: int) -> None:
    results = summary.study.results
    row = results[results["trial"] == trial].iloc[0]
    outcome = words.outcome(row["outcome"])
    title = f"trial {trial} of {summary.study.name}: {outcome}"
    printer.print(Text(title, style="bold"), soft_wrap=True)
    if outcome in words.OUTCOMES:
        printer.print(words.OUTCOMES[outcome])
    judged = next((each for each in summary.judged if each.trial == trial), None)
    if judged is None:
        printer.print("it has no epoch, so nothing can be said of its curve")
        return
    facts = next(each for each in summary.facts if each.trial == trial)
    best = f"{words.score(facts.best_score)} at epoch {words.whole(facts.best_epoch)}"
    error = "" if math.isnan(facts.error) else f", standard error {words.signed(facts.error)}"
    printer.print(f"best {best} of {facts.epochs}{error}")
    if facts.outlook is not None:
        ahead = facts.outlook
        for line in (
            f"epoch {ahead.epochs_needed} was enough: within a standard error of the last",
            f"twice the epochs would add {words.signed(ahead.gain)} ("
            f"{words.signed(ahead.gain_low)} to {words.signed(ahead.gain_high)} in 9 of 10 cases)",
            f"luck of its best epoch: {words.signed(ahead.luck)}",
        ):
            _print_wrapped(printer, line)
    name = judged.verdict.value
    printer.print()
    printer.print(Text(name, style=f"bold {_STYLES.get(name, '')}".strip()))
    _print_wrapped(printer, words.clean(judged.text), indent=2)
    for note in judged.notes:
        printer.print()
        printer.print(Text(f"note: {note.name}", style="bold"))
        _print_wrapped(printer, words.clean(note.text), indent=2)


def _write_json(summary: "Summary", trial: int | None) -> None:
    study = summary.study
    named = study.results["outcome"].map(words.outcome, na_action=None)
    outcomes = dict(zip(study.results["trial"], named, strict=True))
    facts = {each.trial: each for each in summary.facts}
    found: dict[str, Any] = {
        "study": study.name,
        "trials": [
            {
                "trial": each.trial,
                "outcome": outcomes[each.trial],
                "is_running": outcomes[each.trial] == "running",
                "verdict": each.verdict.value,
                "reason": each.reason.name.lower(),
                "text": each.text,
                "numbers": each.numbers,
                "notes": [{"name": note.name, "text": note.text} for note in each.notes],
                "outlook": (
                    None if (ahead := facts[each.trial].outlook) is None else asdict(ahead)
                ),
            }
            for each in summary.judged
            if trial is None or each.trial == trial
        ],
    }
    if trial is None:
        found |= _describe_study(summary, study)
    typer.echo(json.dumps(_jsonable(found), indent=2, ensure_ascii=False, allow_nan=False))


def _describe_study(summary: "Summary", study: "Study") -> dict[str, Any]:
    return {
        "answer": summary.answer,
        "findings": summary.findings,
        "unfinished": summary.unfinished,
        "carry_on": summary.carry_on,
        "ties": {**asdict(summary.ties), "tied": sorted(summary.ties.tied)},
        "budget": asdict(study.budget),
        "advice": [{**asdict(each), "kind": each.kind.name.lower()} for each in summary.advice],
        "command": summary.command,
        "stopping": asdict(summary.audit),
    }


def _jsonable(value: Any) -> Any:
    """Return the value with null for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    return value
