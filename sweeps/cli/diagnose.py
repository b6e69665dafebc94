"""``diagnose``: what each trial's curve shows, why, and what to change in the next sweep."""

import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from storage import queries
from storage.locations import resolve_url
from sweeps.analysis.advice_kinds import Advice
from sweeps.analysis.summary import Summary, summarise
from sweeps.analysis.verdicts import AHEAD, Verdict
from sweeps.cli.console import UsageMistake, command_line, console, paste, print_wrapped
from sweeps.cli.files import to_json, write_new
from sweeps.cli.tables import add_numbers, add_texts, new_table
from sweeps.config.write import write_sweep
from sweeps.read import words
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
    *, study: str, trial: int | None, storage: str | None, sweep: Path | None, as_json: bool
) -> None:
    """Print what is said of the study or of one trial, or write it as JSON or as a sweep."""
    url = resolve_url(storage)
    if trial is not None:
        queries.trial(url, study, trial)  # raises if there is none
    summary = summarise(Study.read(url, study))
    printer = console()
    if sweep is not None:
        _write_sweep(summary, sweep)
    elif as_json:
        found = to_json(_describe(summary, trial))
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False))
    elif trial is not None:
        _print_trial(printer, summary, trial)
    elif not summary.judged:
        printer.print(f"study {study} has no epoch yet")
    else:
        _print_study(printer, summary, storage)


def _write_sweep(summary: Summary, path: Path) -> None:
    try:
        text = write_sweep(summary.study, summary.advice)
    except ValueError as error:
        raise UsageMistake(str(error)) from None
    write_new(text, path)
    count = words.count(len(summary.advice), "piece")
    typer.echo(f"wrote {path}: the settings of {summary.study.name}, and {count} of advice")
    typer.echo(f"  {command_line('run', path)}")


def _print_study(printer: Console, summary: Summary, storage: str | None) -> None:
    print_wrapped(printer, summary.answer)
    printer.print()
    first = _print_table(printer, summary)
    printer.print()
    rungs = words.explain_rungs(summary.study.config)
    if any(each.verdict.value == "unclear" for each in summary.judged) and rungs:
        print_wrapped(printer, rungs)
    _print_part(printer, summary.findings)
    _print_part(printer, summary.unfinished)
    if summary.carry_on is not None:
        _print_command(printer, summary.carry_on, storage)
    if summary.study.is_sweep:
        _print_advice(printer, summary, storage)
    _print_part(printer, summary.audit.sentences)
    name = summary.study.name
    ways = [("diagnose", name, first), ("curves", name)]
    if summary.ties.best is not None:
        ways.append(("compare", name))
    for way in ways:
        printer.print(f"  {command_line(*way, storage=storage)}", soft_wrap=True)


def _print_part(printer: Console, sentences: tuple[str, ...]) -> None:
    for line in sentences:
        print_wrapped(printer, line)
    if sentences:
        printer.print()


def _print_table(printer: Console, summary: Summary) -> int:
    """Print a row a trial, the best first, and what its words mean; return the first trial."""
    judged = {each.trial: each for each in summary.judged}
    facts = {each.trial: each for each in summary.facts}
    rows = [row for row in summary.study.results.to_dict("records") if row["trial"] in judged]
    first = int(rows[0]["trial"])
    unclear = {trial for trial, each in judged.items() if each.verdict.value == "unclear"}
    if len(unclear) > MAX_UNCLEAR:
        rows = [row for row in rows if row["trial"] not in unclear - {first}]
    table = new_table()
    add_numbers(table, "trial", "best")
    add_texts(table, "verdict")
    add_texts(table, "seen", folds=True)
    add_numbers(table, "enough")
    notes = [_ENOUGH_NOTE]
    for row in rows:
        each = judged[row["trial"]]
        outlook = facts[each.trial].outlook
        enough = "-" if outlook is None else words.whole(outlook.epochs_needed)
        is_open = words.outcome(row["outcome"]) in words.UNENDED
        name = each.verdict.value
        table.add_row(
            f"{each.trial}{'*' if is_open else ''}",
            words.score(row["best_score"]),
            Text(name, style=_STYLES.get(name, "")),
            words.clean(each.short),
            f"{enough} of {row['epochs_run']}",
        )
        for note in each.notes:
            table.add_row("", "", "", f"note: {note.name}", "")
        if each.reason in AHEAD:
            notes.append(_AHEAD_NOTE)
        if each.verdict is Verdict.NOT_LEARNING:
            notes.append(_GUESSING_NOTE)
        if is_open:
            notes.append("*: has not ended; its future is unknown")
    printer.print(table)
    if len(rows) < len(judged):
        hidden = words.count(len(judged) - len(rows), "trial")
        notes.append(f"not listed: {hidden} that stopped too early to tell what they show")
    counts = Counter(each.verdict.value for each in summary.judged)
    notes.append(", ".join(f"{number} {name}" for name, number in counts.most_common()))
    for line in dict.fromkeys(notes):
        print_wrapped(printer, line)
    return first


def _print_advice(printer: Console, summary: Summary, storage: str | None) -> None:
    if not summary.advice:
        _print_part(printer, (summary.no_advice,))
        return
    printer.print("for the next sweep", style="bold")
    for each in summary.advice:
        text = words.clean(f"{each.text} {_describe_gain(each)} {each.evidence}")
        print_wrapped(printer, text, indent=2)
        for option in each.options:
            printer.print(f"      {option}", soft_wrap=True, style="cyan")
    if summary.command is not None:
        every = "all of it, " if len(summary.advice) > 1 else ""
        printer.print(f"  {every}as a study of its own:")
        _print_command(printer, summary.command, storage)
    printer.print()


def _describe_gain(advice: Advice) -> str:
    if math.isnan(advice.gain):
        return "How much it brings is not known."
    if advice.gain == 0:
        return "It saves epochs, and no score is expected of it."
    return (
        f"Expected gain: {words.signed(advice.gain)} (from {words.signed(advice.low)} to "
        f"{words.signed(advice.high)} in 9 of 10 cases)."
    )


def _print_command(printer: Console, command: str, storage: str | None) -> None:
    printer.print(f"      {paste(command, storage)}", soft_wrap=True, style="cyan")


def _print_trial(printer: Console, summary: Summary, trial: int) -> None:
    results = summary.study.results
    outcome = words.outcome(results.loc[results["trial"] == trial, "outcome"].iloc[0])
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
            print_wrapped(printer, line)
    name = judged.verdict.value
    said = [(name, f"bold {_STYLES.get(name, '')}".strip(), judged.text)]
    said += [(f"note: {note.name}", "bold", note.text) for note in judged.notes]
    for heading, style, text in said:
        printer.print()
        printer.print(Text(heading, style=style))
        print_wrapped(printer, words.clean(text), indent=2)


def _describe(summary: Summary, trial: int | None) -> dict[str, Any]:
    """Return all that is said of a study as JSON has it, or what is said of one trial."""
    results = summary.study.results
    named = results["outcome"].map(words.outcome, na_action=None)
    outcomes = dict(zip(results["trial"], named, strict=True))
    found: dict[str, Any] = {
        "study": summary.study.name,
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
                "outlook": facts.outlook and asdict(facts.outlook),
            }
            for facts, each in zip(summary.facts, summary.judged, strict=True)
            if trial is None or each.trial == trial
        ],
    }
    if trial is not None:
        return found
    return found | {
        "answer": summary.answer,
        "findings": summary.findings,
        "unfinished": summary.unfinished,
        "carry_on": summary.carry_on,
        "ties": {**asdict(summary.ties), "tied": sorted(summary.ties.tied)},
        "budget": asdict(summary.study.budget),
        "advice": [{**asdict(each), "kind": each.kind.name.lower()} for each in summary.advice],
        "command": summary.command,
        "stopping": {
            "trials": summary.audit.trials.to_dict("records"),
            "cost": summary.audit.cost,
            "sentences": summary.audit.sentences,
        },
    }
