"""``run``: starts a sweep or carries it on, and ends with its ranked answer."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from objectives.metric_names import DEFAULT_METRIC, METRICS, label_metric
from sweeps.cli.output import (
    StorageOption,
    UsageMistake,
    command_line,
    console,
    paste,
    stop_without_reader,
)
from sweeps.cli.run_head import head_lines, list_varying
from sweeps.config.commands import carry_on_command
from sweeps.read.words import clean

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.cli.progress import Progress
    from sweeps.config.settings import SweepConfig
    from sweeps.running.events import Event
    from sweeps.running.sweep import SweepEnd

#: Up to this many trials the table is whole; of more it shows the head.
MAX_ROWS = 30
HEAD_ROWS = 10
_MAX_FAILURES = 3


def run(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="OBJECTIVE_OR_FILE",
            help="An objective (relation-cnn), yours (FILE.py, FILE.py:Class, "
            "package.module:Class), or a sweep file (.toml); none with --like.",
            show_default=False,
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Take all settings of this study, and run them with those given here as the "
            "next study, or as --study.",
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Most trials that the study starts. (no limit)")
    ] = None,
    max_total_epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs that all trials train together. (the objective's, without another limit)"
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the study. (the objective's)")
    ] = None,
    storage: StorageOption = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"The score: {', '.join(METRICS)}, f1:CLASS. ({DEFAULT_METRIC})"
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Data file. (the one that ships with it)")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes. (one a core)")] = None,
    slots: Annotated[
        int | None, typer.Option(help="Trials that train together. (as many as pay, measured)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the whole study.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Matrix products: float32 or tf32. (float32)"),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Minutes after which no further epoch starts.")
    ] = None,
    audit: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the trials, such as 0.05, that run on to max_epochs where they would "
            "have been stopped: what did stopping cost?",
        ),
    ] = None,
    tries: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="NAME=VALUE,...",
            help="A trial to run first: learning_rate=0.001,optimizer=adam. May be repeated.",
        ),
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(metavar="STUDY", help="Train this study's five best configurations first."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any key of a sweep file: patience=8, space.dropout=0.5. May be repeated.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Carry a study on although its settings changed.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print the final table and nothing else.")
    ] = False,
    is_json: Annotated[
        bool,
        typer.Option(
            "--json-lines", help="Print each event as a line of JSON, the ranked best as the last."
        ),
    ] = False,
) -> None:
    """Run a sweep until its budget is spent; the same command again carries it on.

    Exit codes: 0 done, 1 no trial got a score, 2 a mistake of yours, 130 interrupted.
    """
    import sweeps

    if quiet and is_json:
        raise UsageMistake("give --quiet or --json-lines, not both")
    if target is None and like is None:
        raise UsageMistake("OBJECTIVE_OR_FILE or --like is missing; see: bestepoch run --help")
    if target is not None and like is not None:
        raise UsageMistake("give OBJECTIVE_OR_FILE or --like STUDY, not both")
    load: Callable[..., SweepConfig] = sweeps.load_config if like is None else sweeps.load_like
    config = load(
        target if like is None else like,
        overrides or (),
        trials=trials,
        max_total_epochs=max_total_epochs,
        study=study,
        storage=storage,
        metric=metric,
        data=data,
        workers=workers,
        slots=slots,
        seed=seed,
        precision=precision,
        max_minutes=max_minutes,
        audit=audit,
        warm_start=warm_start,
        **{"try": _parse_tries(tries or ())},
    )
    if is_json:
        raise typer.Exit(_run_as_json(config, force=force))
    end = _run(config, force=force, is_quiet=quiet)
    raise typer.Exit(_report(config, end, is_quiet=quiet))


def _parse_tries(tries: Sequence[str]) -> list[dict[str, Any]] | None:
    """Return the trials of ``--try``; None: there is none, so that those of the file count."""
    from sweeps.config.errors import ConfigError
    from sweeps.config.named_trials import parse_trial

    trials, mistakes = [], []
    for text in tries:
        try:
            trials.append(parse_trial(text))
        except ValueError as error:
            mistakes.append(f"--try {text}: {error}")
    if mistakes:
        raise ConfigError(mistakes)
    return trials or None


def _run(config: "SweepConfig", *, force: bool, is_quiet: bool) -> "SweepEnd":
    import sweeps
    from sweeps.cli.progress import Display
    from sweeps.running.sweep import SweepEnd

    printer = console()
    progress = _make_progress(config)
    so_far = progress.describe_start()
    head = [] if is_quiet else head_lines(config, so_far=so_far, width=printer.width)
    try:
        with Display(progress, printer, is_quiet=is_quiet) as display:

            def show(event: "Event") -> None:
                # With the first event the settings and the data have been found sound.
                while head:
                    printer.print(head.pop(0), soft_wrap=True)
                display.show(event)

            return sweeps.run(config, force=force, on_event=stop_without_reader(show))
    except KeyboardInterrupt:
        return SweepEnd(config.study, config.storage or "", "interrupted", None, 130)


def _run_as_json(config: "SweepConfig", *, force: bool) -> int:
    """Run with nothing but JSON on standard output; return the exit code."""
    import sweeps
    from sweeps.cli import json_lines
    from sweeps.running.sweep import SweepEnd

    with json_lines.only_lines() as write:
        try:
            show = stop_without_reader(lambda event: write(json_lines.event_line(event)))
            end = sweeps.run(config, force=force, on_event=show)
        except KeyboardInterrupt:
            end = SweepEnd(config.study, config.storage or "", "interrupted", None, 130)
        frame = _read_results(config)
        code = _tell_end(config, end, frame)
        write(json_lines.end_line(end, frame, exit_code=code))
    return code


def _make_progress(config: "SweepConfig") -> "Progress":
    from sweeps.budget import read_budget
    from sweeps.cli.progress import Best, Progress
    from sweeps.read.words import UNENDED, outcome

    frame = _read_results(config)
    ended: set[int] = set()
    paused: set[int] = set()
    trained: dict[int, int] = {}
    bests: dict[int, Best] = {}
    if frame is not None:
        is_ended = ~frame["outcome"].map(outcome, na_action=None).isin(UNENDED)
        ended = {int(trial) for trial in frame.loc[is_ended, "trial"]}
        paused = {int(trial) for trial in frame.loc[frame["outcome"] == "paused", "trial"]}
        trained = dict(zip(frame["trial"].map(int), frame["epochs_run"].map(int), strict=True))
        for row in frame[frame["rank"].notna()].to_dict(orient="records"):
            trial = int(row["trial"])
            bests[trial] = Best(
                row["best_score"], trial, int(row["best_epoch"]), row["best_val_loss"]
            )
    return Progress(
        budget=read_budget(dict(config)),
        varying=list_varying(config),
        paused=paused,
        trained=trained,
        metric=label_metric(config.metric),
        ended=ended,
        bests=bests,
        now=time.monotonic,
    )


def _read_results(config: "SweepConfig") -> "pd.DataFrame | None":
    """Return the study's results; None where there is none yet."""
    from storage import queries
    from storage.locations import StorageError, resolve_url

    try:
        return queries.results(resolve_url(config.storage), config.study)
    except StorageError:
        # Whatever is wrong with the database, the run itself says it.
        return None


def _report(config: "SweepConfig", end: "SweepEnd", *, is_quiet: bool) -> int:
    """Print how the run ended; return the exit code."""
    printer = console()
    frame = _read_results(config)
    if frame is not None and not frame.empty:
        _print_results(config, frame, printer=printer, is_quiet=is_quiet)
        if end.trainer_s and not is_quiet:
            printer.print(_describe_bookkeeping(end))
    return _tell_end(config, end, frame)


def _tell_end(config: "SweepConfig", end: "SweepEnd", frame: "pd.DataFrame | None") -> int:
    """Report problems on standard error; return the exit code."""
    errors = console(stderr=True)
    if end.ending in ("interrupted", "time is up"):
        _print_kept(config, end, frame=frame, errors=errors)
    if end.ending == "failed":
        errors.print(clean(f"failed: {end.reason or 'no reason given'}"), soft_wrap=True)
        return end.exit_code or 1
    if end.exit_code:
        return end.exit_code
    if frame is None or frame["rank"].notna().sum() == 0:
        errors.print(f"no trial of study {config.study} got a score")
        return 1
    return 0


def _describe_bookkeeping(end: "SweepEnd") -> str:
    share, waited = end.bookkeeping_s / end.trainer_s, end.waited_s / end.trainer_s
    return (
        f"bookkeeping took {share:.1%} of the trainers' {end.trainer_s:.0f} s; "
        f"training waited {waited:.1%} of it"
    )


def _print_results(
    config: "SweepConfig", frame: "pd.DataFrame", *, printer: Console, is_quiet: bool
) -> None:
    from sweeps.cli import ranking

    limit = HEAD_ROWS if len(frame) > MAX_ROWS else None
    if not is_quiet:
        printer.print()
    table, *notes = ranking.ranked_lines(frame, width=printer.width, limit=limit)
    printer.print(table)
    if limit is not None:
        more = command_line("results", config.study, storage=config.storage)
        printer.print(f"... {len(frame) - limit} more: {more}", soft_wrap=True)
    for note in notes:
        printer.print(note)
    if is_quiet:
        return
    metric = label_metric(config.metric)
    for line in ranking.answer_lines(frame, space=config.space.to_table(), metric=metric):
        printer.print(line)
    failed = frame[frame["outcome"] == "failed"]
    for row in failed.head(_MAX_FAILURES).to_dict(orient="records"):
        printer.print(clean(f"trial {row['trial']} failed: {row['reason']}"), soft_wrap=True)
    ranked = frame[frame["rank"].notna()]
    first = int((frame if ranked.empty else ranked).iloc[0]["trial"])
    for words in (("show", config.study, first), ("results", config.study), ("dashboard",)):
        printer.print(f"  {command_line(*words, storage=config.storage)}", soft_wrap=True)


def _print_kept(
    config: "SweepConfig",
    end: "SweepEnd",
    *,
    frame: "pd.DataFrame | None",
    errors: Console,
) -> None:
    """Say what a run that stopped early has kept, and how to carry it on."""
    if frame is None:
        errors.print(f"{end.ending}: nothing had begun")
        return
    progress = _make_progress(config)
    kept = f"{end.ending}: {progress.describe_start() or 'no trial has begun'}"
    num_unfinished = len(frame) - len(progress.ended) - len(progress.paused)
    if num_unfinished:
        kept += f", {num_unfinished} unfinished, which will go on under their numbers"
    errors.print(kept, soft_wrap=True)
    command = paste(carry_on_command(config.study), config.storage)
    errors.print(f"to carry on: {command}", soft_wrap=True)
