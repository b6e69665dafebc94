"""``diagnose``: what each trial's curve shows, why, and what to change in the next sweep."""

import json
import math
import shlex
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
    is_missing,
    read_trial,
    score,
    whole,
)

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.analysis.advice import Advice
    from sweeps.analysis.epoch_advice import EpochPlan
    from sweeps.analysis.stop_audit import StopTotals
    from sweeps.analysis.verdicts import TrialVerdict

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

    url = resolve_url(storage)
    if trial is not None:
        queries.trial(url, study, trial)
    read = _read(url, study)
    if as_json:
        _write_json(read, url, trial)
        return
    printer = console()
    if trial is not None:
        _print_trial(printer, read, trial)
    elif not read.judged:
        printer.print(f"study {study} has no epoch yet")
    else:
        _print_study(printer, read, url, storage)


@dataclass(frozen=True, slots=True)
class _Read:
    """A study as it was at one moment.

    Attributes:
        study: Its name.
        results: ``queries.results``.
        curves: ``queries.curves``, without the epochs that came in after the results.
        class_scores: ``queries.class_scores``.
        judged: The verdicts on each trial that has an epoch.
    """

    study: str
    results: "pd.DataFrame"
    curves: "pd.DataFrame"
    class_scores: "pd.DataFrame"
    judged: "list[TrialVerdict]"


def _read(url: str, study: str) -> _Read:
    from storage import queries
    from sweeps.analysis.verdicts import judge_study
    from sweeps.reporting import leave_out_newer

    results = queries.results(url, study)
    # A running trial may have had an epoch since, and another may have ended.
    curves = leave_out_newer(queries.curves(url, study), results)
    scores = queries.class_scores(url, study)
    return _Read(study, results, curves, scores, judge_study(curves, scores, results))


def _print_study(printer: Console, read: _Read, url: str, storage: str | None) -> None:
    by_trial = {each.trial: each for each in read.judged}
    rows = read.results[read.results["trial"].isin(list(by_trial))]
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
        number = f"{each.trial}{'*' if is_missing(row['outcome']) else ''}"
        for i, finding in enumerate(each.findings):
            name = finding.verdict.value
            start = (number, score(row["best_macro_f1"])) if i == 0 else ("", "")
            shown.append(short_evidence(finding))
            table.add_row(
                *start,
                Text(name, style=_STYLES.get(name, "")),
                shown[-1],
                needed if i == 0 else "",
            )
    printer.print(table)
    for line in _explain_table(shown, has_running=bool(rows["outcome"].isna().any())):
        _print_wrapped(printer, line)
    counts = Counter(each.leading.verdict.value for each in read.judged)
    some = ", ".join(f"{number} {name}" for name, number in counts.most_common())
    _print_wrapped(printer, some)
    next_ = _look_ahead(read, url)
    if next_ is not None:
        _print_advice(printer, next_, storage)
    stops = [] if next_ is None else next_.stops
    if stops:
        printer.print()
    for line in stops:
        _print_wrapped(printer, line)
    first = int(rows.iloc[0]["trial"])
    printer.print()
    ways = [("diagnose", read.study, first), ("curves", read.study)]
    if read.results["rank"].notna().any():
        ways.append(("compare", read.study))
    for words in ways:
        printer.print(f"  {command_line(*words, storage=storage)}", soft_wrap=True)


def _explain_table(shown: Sequence[str], *, has_running: bool) -> list[str]:
    """Return what the words of the table mean, those alone that are in it."""
    lines = ["99 % of it: the first epoch with 99 % of the trial's best, of those that it ran"]
    if any(text.startswith("2x epochs") for text in shown):
        lines.append(_GAIN_NOTE)
    if any("guessing" in text for text in shown):
        lines.append(_GUESSING_NOTE)
    if has_running:
        lines.append("*: has not ended; judged by the epochs that it had so far")
    return lines


@dataclass(frozen=True, slots=True)
class _Next:
    """What a study says of the next sweep.

    Attributes:
        advice: What to change.
        command: A ``bestepoch run`` that does all of it, None without an option.
        epochs: What to do about its epochs, None where too few trials tell.
        max_epochs: The study's.
        totals: What stopping saved and cost.
        stops: The same in sentences.
    """

    advice: "Sequence[Advice]"
    command: str | None
    epochs: "EpochPlan | None"
    max_epochs: int
    totals: "StopTotals"
    stops: "Sequence[str]"


def _look_ahead(read: _Read, url: str) -> _Next | None:
    """Return what to change in the sweep, and what stopping saved; None of a foreign study."""
    from storage import queries
    from sweeps.analysis.advice import advise
    from sweeps.analysis.comparison import tie_margin, validation_error
    from sweeps.analysis.epoch_advice import plan_epochs
    from sweeps.analysis.stop_audit import add_up, describe_stops, stop_audit
    from sweeps.analysis.verdicts import to_frame
    from sweeps.reporting import next_command
    from sweeps.rerun import read_last_run

    settings = queries.study_settings(url, read.study)
    config = settings.config
    if not {"space", "max_epochs", "min_delta"} <= set(config):
        return None
    error = validation_error(read.results, read.class_scores)
    verdicts, max_epochs = to_frame(read.judged, read.study), int(config["max_epochs"])
    limits: dict[str, Any] = {"max_epochs": max_epochs, "patience": config.get("patience")}
    advice = advise(read.results, config["space"], verdicts, error=error, **limits)
    last_run = read_last_run(url, read.study)
    audit = stop_audit(
        read.results,
        read.curves,
        study=read.study,
        max_epochs=max_epochs,
        min_delta=float(config["min_delta"]),
        margin=tie_margin(error),
    )
    totals = add_up(audit)
    return _Next(
        advice=advice,
        command=next_command(
            settings,
            [each.option for each in advice if each.option is not None],
            num_trials=max(last_run.trials or 0, len(read.results)),
            taken=set(queries.studies(url)["study"]),
        ),
        epochs=plan_epochs(read.results, verdicts, **limits),
        max_epochs=max_epochs,
        totals=totals,
        stops=describe_stops(totals, audit=last_run.audit),
    )


def _print_advice(printer: Console, next_: _Next, storage: str | None) -> None:
    from sweeps.analysis.trial_params import explain_names

    epochs = next_.epochs
    if epochs is not None and epochs.cap != next_.max_epochs:
        allowed = f"(this sweep allowed {next_.max_epochs})"
        printer.print(f"\nrecommended max_epochs: {epochs.cap} {allowed}")
        _print_wrapped(printer, epochs.note)
    elif epochs is not None and epochs.advice is None:
        printer.print()
        _print_wrapped(printer, explain_names(epochs.text))
    if not next_.advice:
        printer.print("\nThe trials together ask for no other settings")
        return
    printer.print("\nfor the next sweep", style="bold")
    for each in next_.advice:
        _print_wrapped(printer, clean(explain_names(each.text)), indent=2)
        if each.option is not None:
            printer.print(f"      {each.option}", soft_wrap=True, style="cyan")
    if next_.command is None:
        return
    words = shlex.split(next_.command)[1:]
    is_same = all(each.option is None or "--set" not in each.option for each in next_.advice)
    about = "this study goes on with" if is_same else "all of it, as a study of its own"
    if "SWEEP_FILE" in words:
        about += "; SWEEP_FILE is the one that this study was begun with"
    _print_wrapped(printer, f"{about}:", indent=2)
    printer.print(f"      {command_line(*words, storage=storage)}", soft_wrap=True, style="cyan")


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


def _print_trial(printer: Console, read: _Read, trial: int) -> None:
    from sweeps.analysis.trial_params import explain_names

    row = read.results[read.results["trial"] == trial].iloc[0]
    judged = [each for each in read.judged if each.trial == trial]
    outcome = "running" if is_missing(row["outcome"]) else row["outcome"]
    printer.print(Text(f"trial {trial} of {read.study}: {outcome}", style="bold"))
    if not judged:
        printer.print("it has no epoch, so nothing can be said of its curve")
        return
    (each,) = judged
    best = f"{score(row['best_macro_f1'])} at epoch {whole(row['best_epoch'])}"
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


def _write_json(read: _Read, url: str, trial: int | None) -> None:
    ended = read.results["outcome"].notna()
    running = set(read.results.loc[~ended, "trial"])
    found: dict[str, Any] = {
        "study": read.study,
        "trials": [
            {
                "trial": each.trial,
                "is_running": each.trial in running,
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
            for each in read.judged
            if trial is None or each.trial == trial
        ],
    }
    next_ = _look_ahead(read, url) if trial is None else None
    if trial is None:
        found["advice"] = [] if next_ is None else [asdict(each) for each in next_.advice]
        found["command"] = None if next_ is None else next_.command
        found["recommended_max_epochs"] = _cap(next_)
        found["stopping"] = None if next_ is None else asdict(next_.totals)
    typer.echo(json.dumps(_jsonable(found), indent=2, ensure_ascii=False, allow_nan=False))


def _cap(next_: _Next | None) -> int | None:
    return None if next_ is None or next_.epochs is None else next_.epochs.cap


def _jsonable(value: Any) -> Any:
    """Return the value with null for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    return value
