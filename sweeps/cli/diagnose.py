"""``diagnose``: what each trial's curve shows, why, and what to change in the next sweep."""

import json
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeps.cli.evidence import short_evidence
from sweeps.cli.output import (
    StorageOption,
    StudyArgument,
    clean,
    command_line,
    console,
    paste,
    read_trial,
    score,
    whole,
)
from sweeps.next_sweep import NextSweep, look_ahead

if TYPE_CHECKING:
    from sweeps.analysis.next_step import NextStep
    from sweeps.analysis.report_facts import StudyData

#: Colour of each verdict where there is a terminal; the words say the same.
_STYLES = {
    "diverged": "red",
    "rate too high": "red",
    "oscillating": "yellow",
    "still improving": "cyan",
    "class collapse": "yellow",
    "overfit": "yellow",
    "underfit": "yellow",
    "converged": "green",
}
_GAIN_NOTE = (
    "2x epochs: what twice the epochs would add to the trial's best score, and the interval that "
    "holds it in 9 of 10 cases"
)
_GUESSING_NOTE = "guessing: the loss of always giving each class the share that it has"


def diagnose(
    study: StudyArgument,
    trial: Annotated[
        int | None, typer.Argument(metavar="TRIAL", help="Number of a trial.", parser=read_trial)
    ] = None,
    storage: StorageOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, evidence and advice of every trial.")
    ] = False,
) -> None:
    """Say what each learning curve shows, and what to change; of one trial, all of it."""
    from storage import queries
    from storage.locations import resolve_url
    from sweeps.reporting import read_study

    url = resolve_url(storage)
    if trial is not None:
        queries.trial(url, study, trial)
    data = read_study(url, study)
    if as_json:
        _write_json(data, trial)
        return
    printer = console()
    if trial is not None:
        _print_trial(printer, data, trial)
    elif not data.judged:
        printer.print(f"study {study} has no epoch yet")
    else:
        _print_study(printer, data, storage)


def _print_study(printer: Console, data: "StudyData", storage: str | None) -> None:
    from sweeps.analysis import report_words
    from sweeps.analysis.report_tables import MAX_UNCLEAR, find_unclear

    by_trial = {each.trial: each for each in data.judged}
    unclear = find_unclear(data)
    rows = data.results[data.results["trial"].isin(list(by_trial))]
    first = int(rows.iloc[0]["trial"])
    if len(unclear) > MAX_UNCLEAR:
        rows = rows[~rows["trial"].isin(unclear - {first})]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("\ntrial", "best\nscore"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("\nverdict", no_wrap=True)
    table.add_column("\nevidence")
    table.add_column("99 % of it\nat epoch", justify="right", no_wrap=True)
    shown = []
    for row in rows.to_dict(orient="records"):
        each = by_trial[int(row["trial"])]
        needed = f"{whole(each.epochs_to_99)} of {row['epochs_run']}"
        outcome = report_words.outcome(row["outcome"])
        number = f"{each.trial}{'*' if outcome in report_words.UNENDED else ''}"
        for i, finding in enumerate(each.findings):
            name = finding.verdict.value
            start = (number, score(row["best_score"])) if i == 0 else ("", "")
            shown.append(short_evidence(finding))
            table.add_row(
                *start,
                Text(name, style=_STYLES.get(name, "")),
                shown[-1],
                needed if i == 0 else "",
            )
    printer.print(table)
    outcomes = set(rows["outcome"].map(report_words.outcome, na_action=None))
    unended = [name for name in report_words.UNENDED if name in outcomes]
    for line in _explain_table(shown, unended=unended):
        _print_wrapped(printer, line)
    if len(rows) < len(by_trial):
        _print_wrapped(
            printer,
            f"not listed: {len(by_trial) - len(rows)} trials that others were ahead of before "
            "their 8th epoch; what their curves show is unclear",
        )
    counts = Counter(each.leading.verdict.value for each in data.judged)
    some = ", ".join(f"{number} {name}" for name, number in counts.most_common())
    _print_wrapped(printer, some)
    next_ = look_ahead(data)
    if next_ is not None:
        _print_unfinished(printer, next_, storage)
        _print_advice(printer, next_, storage)
    stops = [] if next_ is None else next_.stops
    if stops:
        printer.print()
    for line in stops:
        _print_wrapped(printer, line)
    printer.print()
    ways = [("diagnose", data.study, first), ("curves", data.study)]
    if data.results["rank"].notna().any():
        ways.append(("compare", data.study))
    for words in ways:
        printer.print(f"  {command_line(*words, storage=storage)}", soft_wrap=True)


def _explain_table(shown: Sequence[str], *, unended: Sequence[str]) -> list[str]:
    """Return what the words of the table mean, those alone that are in it.

    Args:
        shown: The evidence in it.
        unended: Outcomes of those of its trials that have not ended.
    """
    lines = ["99 % of it: the first epoch with 99 % of the trial's best, of those that it ran"]
    if any(text.startswith("2x epochs") for text in shown):
        lines.append(_GAIN_NOTE)
    if any("guessing" in text for text in shown):
        lines.append(_GUESSING_NOTE)
    if unended:
        why = " or ".join(unended)
        lines.append(f"*: has not ended ({why}); judged by the epochs that it had so far")
    return lines


def _print_unfinished(printer: Console, next_: NextSweep, storage: str | None) -> None:
    """Print how far a sweep has come that has not come to its end, and what carries it on."""
    if next_.unfinished:
        printer.print()
    for line in next_.unfinished:
        _print_wrapped(printer, line)
    if next_.carry_on is not None:
        _print_command(printer, next_.carry_on, storage)


def _print_advice(printer: Console, next_: NextSweep, storage: str | None) -> None:
    from sweeps.analysis.trial_params import explain_names

    plan, epochs = next_.plan, next_.plan.epochs
    if epochs is not None and epochs.cap != next_.max_epochs:
        allowed = f"(this sweep allowed {next_.max_epochs})"
        printer.print(f"\nrecommended max_epochs: {epochs.cap} {allowed}")
        _print_wrapped(printer, epochs.note)
    elif epochs is not None and epochs.advice is None:
        printer.print()
        _print_wrapped(printer, explain_names(epochs.text))
    if not plan.advice:
        _print_hint(printer, plan.hint)
    else:
        printer.print("\nfor the next sweep", style="bold")
    for each in plan.advice:
        _print_asked(printer, each.text, each.option)
    if next_.command is None:
        return
    is_same = all("--set" not in each for each in plan.options)
    about = "this study goes on with" if is_same else "all of it, as a study of its own"
    _print_wrapped(printer, f"{about}:", indent=2)
    _print_command(printer, next_.command, storage)


def _print_command(printer: Console, command: str, storage: str | None) -> None:
    printer.print(f"      {paste(command, storage)}", soft_wrap=True, style="cyan")


def _print_hint(printer: Console, hint: "NextStep | None") -> None:
    """Print that the study asks for nothing, and what its best trial does."""
    printer.print()
    said = "The trials together ask for no other settings"
    if hint is None:
        printer.print(said)
    elif hint.is_of_epochs:
        _print_wrapped(printer, f"{said}. To try next: {hint.text}")
    else:
        _print_wrapped(printer, f"{said}; the best one suggests:")
        _print_asked(printer, hint.text, hint.option)


def _print_asked(printer: Console, text: str, option: str | None) -> None:
    """Print a piece of advice, and the option that follows it on a line of its own."""
    from sweeps.analysis.trial_params import explain_names

    _print_wrapped(printer, clean(explain_names(text)), indent=2)
    if option is not None:
        printer.print(f"      {option}", soft_wrap=True, style="cyan")


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


def _print_trial(printer: Console, data: "StudyData", trial: int) -> None:
    from sweeps.analysis import report_words
    from sweeps.analysis.trial_params import explain_names

    row = data.results[data.results["trial"] == trial].iloc[0]
    judged = [each for each in data.judged if each.trial == trial]
    outcome = report_words.outcome(row["outcome"])
    printer.print(Text(f"trial {trial} of {data.study}: {outcome}", style="bold"))
    if not judged:
        printer.print("it has no epoch, so nothing can be said of its curve")
        return
    (each,) = judged
    best = f"{score(row['best_score'])} at epoch {whole(row['best_epoch'])}"
    facts = [f"best {best} of {row['epochs_run']}"]
    if each.epochs_to_95 is not None:
        facts.append(f"95 % of it at epoch {each.epochs_to_95}, 99 % at epoch {each.epochs_to_99}")
    if each.gain is not None:
        facts.append(
            f"twice the epochs would add {each.gain.expected:.3f} to that "
            f"({each.gain.low:.3f} to {each.gain.high:.3f} in 9 of 10 cases)"
        )
    for fact in facts:
        printer.print(fact)
    for finding in each.findings:
        printer.print()
        name = finding.verdict.value
        printer.print(Text(name, style=f"bold {_STYLES.get(name, '')}".strip()))
        lines = {"seen": finding.evidence, "advice": finding.advice}
        if finding.beside:
            lines["beside"] = finding.beside
        for label, text in lines.items():
            said = explain_names(clean(text), is_sentence=label != "seen")
            shown = textwrap.wrap(said, printer.width - 10, break_on_hyphens=False)
            for heading, line in zip_longest([label], shown, fillvalue=""):
                printer.print(f"  {heading:<8}{line}", soft_wrap=True)


def _write_json(data: "StudyData", trial: int | None) -> None:
    from sweeps.analysis import report_words

    named = data.results["outcome"].map(report_words.outcome, na_action=None)
    outcomes = dict(zip(data.results["trial"], named, strict=True))
    found: dict[str, Any] = {
        "study": data.study,
        "trials": [
            {
                "trial": each.trial,
                "outcome": outcomes[each.trial],
                "is_running": outcomes[each.trial] == "running",
                "verdict": each.leading.verdict.value,
                "verdicts": [
                    {**asdict(finding), "verdict": finding.verdict.value}
                    for finding in each.findings
                ],
                "epochs_to_95": each.epochs_to_95,
                "epochs_to_99": each.epochs_to_99,
                "epochs_needed": each.epochs_needed,
                "gain": None if each.gain is None else asdict(each.gain),
            }
            for each in data.judged
            if trial is None or each.trial == trial
        ],
    }
    if trial is None:
        found |= _describe_next(look_ahead(data))
    typer.echo(json.dumps(_jsonable(found), indent=2, ensure_ascii=False, allow_nan=False))


def _describe_next(next_: NextSweep | None) -> dict[str, Any]:
    """Return what the JSON says of the next sweep; null of a foreign study."""
    if next_ is None:
        names = ("num_ended", "budget", "carry_on", "hint", "command", "recommended_max_epochs")
        return {"advice": [], **dict.fromkeys((*names, "stopping"))}
    plan = next_.plan
    best = None if plan.best is None else {**asdict(plan.best), "cost": plan.best.cost}
    hint = plan.hint
    return {
        "num_ended": next_.num_ended,
        "budget": asdict(next_.budget),
        "carry_on": next_.carry_on,
        "advice": [asdict(each) for each in plan.advice],
        "hint": None if hint is None else {"text": hint.text, "option": hint.option},
        "command": next_.command,
        "recommended_max_epochs": None if plan.epochs is None else plan.epochs.cap,
        "stopping": {**asdict(plan.totals), "best": best},
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
