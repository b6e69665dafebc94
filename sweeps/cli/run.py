"""``run``: starts a sweep or carries it on, and ends with its ranked answer."""

from collections.abc import Callable, Sequence
from typing import Any

import typer

import sweeps
from objectives.metric_names import label_metric
from search_spaces.hparams import RATED, find_row
from storage.locations import redact, resolve_url
from sweeps.budget import read_budget
from sweeps.cli import json_lines as lines
from sweeps.cli.check import check_before
from sweeps.cli.console import UsageMistake, console, stop_without_reader, wrap
from sweeps.cli.progress import Best, Display, Progress
from sweeps.cli.run_end import Ending, read_results
from sweeps.config.errors import ConfigError
from sweeps.config.overrides import parse_trial
from sweeps.config.preset import find_preset
from sweeps.config.settings import SweepConfig
from sweeps.read.words import clean, count, is_missing, outcome
from sweeps.running.events import Event
from sweeps.running.first_trials import describe_warm_start
from sweeps.running.sweep import SweepEnd


def run(
    *,
    target: str | None,
    like: str | None,
    tries: Sequence[str] | None,
    overrides: Sequence[str] | None,
    force: bool,
    quiet: bool,
    json_lines: bool,
    no_check: bool,
    **options: object,
) -> None:
    """Run a sweep; ``options`` are those that are keys of a sweep file too."""
    if quiet and json_lines:
        raise UsageMistake("give --quiet or --json-lines, not both")
    if target is None and like is None:
        raise UsageMistake("OBJECTIVE_OR_FILE or --like is missing; see: bestepoch run --help")
    if target is not None and like is not None:
        raise UsageMistake("give OBJECTIVE_OR_FILE or --like STUDY, not both")
    given = {**options, "try": _parse_tries(tries or ())}
    if like is None:
        config = sweeps.load_config(target or "", overrides or (), **given)
    else:
        config = sweeps.load_like(like, overrides or (), **given)
    if not no_check and find_preset(config.objective).is_loop and read_results(config) is None:
        check_before(config)
    if json_lines:
        raise typer.Exit(_run_as_json(config, force=force))
    end = _run(config, force=force, is_quiet=quiet)
    raise typer.Exit(Ending(config, end).report(is_quiet=quiet))


def _parse_tries(tries: Sequence[str]) -> list[dict[str, Any]] | None:
    """Return the trials of ``--try``; None: there is none, so that those of the file count."""
    trials, mistakes = [], []
    for text in tries:
        try:
            trials.append(parse_trial(text))
        except ValueError as error:
            mistakes.append(f"--try {text}: {error}")
    if mistakes:
        raise ConfigError(mistakes)
    return trials or None


def _run(config: SweepConfig, *, force: bool, is_quiet: bool) -> SweepEnd:
    printer = console()
    progress = make_progress(config)
    head = [] if is_quiet else head_lines(config, progress, width=printer.width)
    with Display(progress, printer, is_quiet=is_quiet) as display:

        def show(event: Event) -> None:
            # With the first event the settings and the data have been found sound.
            while head:
                printer.print(head.pop(0), soft_wrap=True)
            display.show(event)

        return _train(config, show, force=force)


def _run_as_json(config: SweepConfig, *, force: bool) -> int:
    """Run with nothing but JSON on standard output; return the exit code."""
    with lines.only_lines() as write:
        end = _train(config, lambda event: write(lines.event_line(event)), force=force)
        ending = Ending(config, end)
        code = ending.report_problems()
        write(lines.end_line(end, ending.results, exit_code=code))
    return code


def _train(config: SweepConfig, show: Callable[[Event], None], *, force: bool) -> SweepEnd:
    try:
        return sweeps.run(config, force=force, on_event=stop_without_reader(show))
    except KeyboardInterrupt:
        return SweepEnd(config.study, config.storage or "", "interrupted", None, 130)


def make_progress(config: SweepConfig) -> Progress:
    """Return the state of the study before the run, as far as a database has one."""
    # What few optimizers have is said last, where the line may be full.
    varying = sorted(
        config.space.varying, key=lambda name: len(find_row(name).optimizers) < len(RATED)
    )
    progress = Progress(
        budget=read_budget(dict(config)),
        varying=varying,
        metric=label_metric(config.metric),
    )
    frame = read_results(config)
    for row in () if frame is None else frame.to_dict(orient="records"):
        best = None
        if not is_missing(row["rank"]):
            best = Best(row["trial"], row["best_epoch"], row["best_score"], row["best_val_loss"])
        progress.add_earlier(row["trial"], row["epochs_run"], outcome(row["outcome"]), best)
    return progress


def head_lines(config: SweepConfig, progress: Progress, *, width: int) -> list[str]:
    """Return what is printed of the study before its first trial."""
    names = [name.removeprefix("model.") for name in progress.varying]
    fixed = len(config.space.describe()) - len(names)
    vary = f"{count(len(names), 'hyperparameter')} {'varies' if len(names) == 1 else 'vary'}"
    url = resolve_url(config.storage)
    texts = {
        "study": f"{config.study}, objective {config.objective}",
        "database": redact(url),
        "space": f"{vary}{': ' if names else ''}{', '.join(names)}; {fixed} fixed",
        "sampler": f"{config.sampler.name}, pruner {config.pruner.name}",
        "budget": str(read_budget(dict(config))),
    }
    if config.warm_start is not None:
        texts["first"] = describe_warm_start(config, url)
    if so_far := progress.describe_start():
        texts["so far"] = so_far
    return [wrap(clean(text), width=width, first=f"{name:<9} ") for name, text in texts.items()]
