"""``diagnose``: what each trial's curve shows, why, and what to change in the next sweep."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sweeps.cli.output import (
    StorageOption,
    StudyArgument,
    clean,
    command_line,
    console,
    is_missing,
    score,
    whole,
)

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.analysis.advice import Advice
    from sweeps.analysis.findings import Finding
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
#: The numbers of each verdict in a few words; those of the others are the same as "converged".
_SHORT = {
    "diverged": "training loss {train_loss:.3g} at epoch {epoch:.0f}",
    "rate too high": "loss {lowest_loss:.2g} at epoch {lowest_epoch:.0f}, "
    "then over {tail_loss:.2g}",
    "oscillating": "swings by {swing:.3f}, noise {sampling_error:.3f}",
    "class collapse": "classes never found: {num_classes_lost:.0f}",
    "overfit": "val. loss {val_loss_rise:+.0%} from epoch {since_epoch:.0f}, {score_change}",
    "underfit": "training loss {train_loss:.3g}: {explained:.0%} explained",
    "too short": "{epochs:.0f} epochs; a trend takes 8",
}
_STUCK = "{explained:.0%} of the loss explained, others {explained_by_others:.0%}"
_GAIN = "2x epochs: {predicted_gain:+.3f} ({predicted_gain_low:.3f} to {predicted_gain_high:.3f})"


def diagnose(
    study: StudyArgument,
    trial: Annotated[
        int | None, typer.Argument(metavar="TRIAL", help="Number of a trial.", min=0)
    ] = None,
    storage: StorageOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, evidence and advice of every trial.")
    ] = False,
) -> None:
    """Say what each learning curve shows, and what to change; of one trial, all of it."""
    from storage import queries
    from storage.locations import resolve_url
    from sweeps.analysis.verdicts import judge_study

    url = resolve_url(storage)
    if trial is not None:
        queries.trial(url, study, trial)
    results = queries.results(url, study)
    judged = judge_study(queries.curves(url, study), queries.class_scores(url, study), results)
    if trial is not None:
        judged = [each for each in judged if each.trial == trial]
    if as_json:
        _write_json(study, storage, judged, results=results, is_whole=trial is None)
        return
    printer = console()
    if trial is not None:
        _print_trial(printer, judged, results[results["trial"] == trial].iloc[0], study=study)
    elif not judged:
        printer.print(f"study {study} has no epoch yet")
    else:
        _print_study(printer, study, storage, judged=judged, results=results)


def short_evidence(finding: "Finding") -> str:
    """Return the numbers of a finding in a few words."""
    numbers: dict[str, Any] = dict(finding.numbers)
    fall = numbers.get("macro_f1_fall", 0.0)
    numbers["score_change"] = f"F1 {-fall:.2f}" if fall >= 0.005 else "F1 held"
    is_stuck = "explained_by_others" in numbers
    text = _STUCK if is_stuck else _SHORT.get(finding.verdict.value, _GAIN)
    try:
        return text.format(**numbers)
    except KeyError:
        return clean(finding.evidence)


def describe_stops(totals: "StopTotals") -> list[str]:
    """Return what stopping saved, and what the audited trials say it cost."""
    if not totals.num_stopped and not totals.num_audited:
        return []
    from sweeps.analysis.report_words import count

    lines = [
        f"stopping saved {count(totals.epochs_saved, 'epoch')} in {totals.num_stopped} of "
        f"{count(totals.num_ended, 'trial')}, {totals.share_saved:.0%} of what max_epochs "
        f"allows: about {totals.seconds_saved:.0f} s at each trial's own pace"
    ]
    if totals.num_audited:
        lines.append(
            f"audited: {_count_audited(totals.num_audited)} have been stopped; "
            f"{totals.num_wrong} rose later by more than min_delta, {totals.num_wrong_for_sure} "
            f"by more than what ties; stopping would have cost {totals.mean_loss:.4f} macro-F1 on "
            "average"
        )
    else:
        lines.append("what it cost is not known: run with --audit 0.05")
    return lines


def _count_audited(number: int) -> str:
    return (
        "1 trial ran on where it would"
        if number == 1
        else f"{number} trials ran on where they would"
    )


def _print_study(
    printer: Console,
    study: str,
    storage: str | None,
    *,
    judged: "Sequence[TrialVerdict]",
    results: "pd.DataFrame",
) -> None:
    by_trial = {each.trial: each for each in judged}
    rows = results[results["trial"].isin(list(by_trial))]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("\ntrial", "best\nscore"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("\nverdict", no_wrap=True)
    table.add_column("\nevidence")
    table.add_column("epochs\nneeded", justify="right", no_wrap=True)
    for row in rows.to_dict(orient="records"):
        each = by_trial[int(row["trial"])]
        needed = f"{whole(each.epochs_to_99)} of {row['epochs_run']}"
        for i, finding in enumerate(each.findings):
            name = finding.verdict.value
            start = (str(each.trial), score(row["best_macro_f1"])) if i == 0 else ("", "")
            table.add_row(
                *start,
                Text(name, style=_STYLES.get(name, "")),
                short_evidence(finding),
                needed if i == 0 else "",
            )
    printer.print(table)
    printer.print("epochs needed: the first with 99 % of the trial's best, of those that it ran")
    counts = Counter(each.leading.verdict.value for each in judged)
    printer.print(", ".join(f"{number} {name}" for name, number in counts.most_common()))
    advice, totals = _advise(study, storage, results)
    _print_advice(printer, advice)
    stops = [] if totals is None else describe_stops(totals)
    if stops:
        printer.print()
    for line in stops:
        printer.print(line)
    first = int(rows.iloc[0]["trial"])
    printer.print()
    for words in (("diagnose", study, first), ("curves", study), ("compare", study)):
        printer.print(f"  {command_line(*words, storage=storage)}", soft_wrap=True)


def _advise(
    study: str, storage: str | None, results: "pd.DataFrame"
) -> "tuple[list[Advice], StopTotals | None]":
    """Return what to change in the sweep, and what stopping saved; nothing of a foreign study."""
    from storage import queries
    from storage.locations import resolve_url
    from sweeps import notebook
    from sweeps.analysis.advice import advise
    from sweeps.analysis.stop_audit import add_up

    settings = queries.study_settings(resolve_url(storage), study).config
    if not {"space", "max_epochs", "min_delta"} <= set(settings):
        return [], None
    verdicts = notebook.verdicts(study, storage)
    error = notebook.read_study(study, storage).error
    epochs = settings["max_epochs"]
    advice = advise(results, settings["space"], verdicts, max_epochs=epochs, error=error)
    return advice, add_up(notebook.stop_audit(study, storage))


def _print_advice(printer: Console, advice: "Sequence[Advice]") -> None:
    if not advice:
        printer.print("\nnothing speaks for other ranges, choices, trials or epochs")
        return
    printer.print("\nfor the next sweep", style="bold")
    for each in advice:
        text = clean(each.text[0].upper() + each.text[1:])
        printer.print(Padding(text, (0, 0, 0, 2)))
        if each.option is not None:
            printer.print(f"      {each.option}", soft_wrap=True, style="cyan")


def _print_trial(
    printer: Console, judged: "Sequence[TrialVerdict]", row: "pd.Series[Any]", *, study: str
) -> None:
    outcome = "running" if is_missing(row["outcome"]) else row["outcome"]
    printer.print(Text(f"trial {row['trial']} of {study}: {outcome}", style="bold"))
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
            f"twice the epochs would add {each.gain.expected:+.3f} "
            f"({each.gain.low:+.3f} to {each.gain.high:+.3f})"
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
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column()
        for label, text in lines.items():
            grid.add_row(f"  {label}", clean(text))
        printer.print(grid)


def _write_json(
    study: str,
    storage: str | None,
    judged: "Sequence[TrialVerdict]",
    *,
    results: "pd.DataFrame",
    is_whole: bool,
) -> None:
    found: dict[str, Any] = {
        "study": study,
        "trials": [
            {
                "trial": each.trial,
                "verdict": each.leading.verdict.value,
                "verdicts": [
                    {**asdict(finding), "verdict": finding.verdict.value}
                    for finding in each.findings
                ],
                "epochs_to_95": each.epochs_to_95,
                "epochs_to_99": each.epochs_to_99,
                "gain": None if each.gain is None else asdict(each.gain),
            }
            for each in judged
        ],
    }
    if is_whole:
        advice, totals = _advise(study, storage, results)
        found["advice"] = [asdict(each) for each in advice]
        found["stopping"] = None if totals is None else asdict(totals)
    typer.echo(json.dumps(_jsonable(found), indent=2, ensure_ascii=False, allow_nan=False))


def _jsonable(value: Any) -> Any:
    """Return the value with null for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    return value
