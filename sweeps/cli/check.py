"""``check``: watches a training loop for two epochs and prints what is wrong with it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from objectives.check.findings import CheckResult, Finding
from sweeps.cli.console import console, print_wrapped
from sweeps.read.words import clean

if TYPE_CHECKING:
    from sweeps.config.settings import SweepConfig

#: Seconds that the check before a sweep may take.
BEFORE_S = 30.0


def check(target: str, overrides: Sequence[str] | None, seconds: float, is_json: bool) -> None:
    """Print the findings of a check; exit with 2 if one is fatal."""
    import sweeps

    result = run_check(sweeps.load_config(target, overrides or ()), limit_s=seconds)
    if is_json:
        print(json.dumps({"is_fatal": result.is_fatal, **asdict(result)}, indent=2))
    else:
        print_findings(target, result, console())
    raise typer.Exit(2 if result.is_fatal else 0)


def check_before(config: "SweepConfig") -> None:
    """Check an own loop before its first sweep, in a process of its own; exit if it is fatal."""
    args = ["check", config.objective, "--json", "--seconds", f"{BEFORE_S:g}"]
    first = config.space.first().to_values()
    settings = {f"space.{name}": first[name] for name in config.space.specs if name in first}
    settings |= {"metric": config.metric, "max_epochs": config.max_epochs}
    for name, value in settings.items():
        args += ["--set", f"{name}={json.dumps(value)}"]
    command = [sys.executable, "-P", "-c", "from sweeps.cli import main; main()", *args]
    printer = console(stderr=True)
    printer.print(f"check of {config.objective} (not with --no-check)", soft_wrap=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout.lstrip().startswith("{"):
        return  # what is wrong with the loop's file the run itself says
    found = json.loads(done.stdout)
    findings = tuple(Finding(**each) for each in found.pop("findings"))
    is_fatal = found.pop("is_fatal")
    result = CheckResult(findings, found["epochs"], found["steps"], tuple(found["unchecked"]))
    if findings:
        print_findings(config.objective, result, printer)
    if is_fatal:
        printer.print("nothing was started; mend it, or go on with --no-check")
        raise typer.Exit(2)


def run_check(config: "SweepConfig", *, limit_s: float) -> CheckResult:
    """Return what is wrong with the loop of a sweep, or with its data and model.

    It is run with the first choice and the lowest number of everything that varies.
    """
    from objectives.check.plain import make_plain_loop
    from objectives.check.run import check_loop
    from objectives.loops.space import find_own_names, read_params
    from objectives.registry import find_loop, find_objective

    hparams = config.space.first()
    params = read_params(hparams, find_own_names(config.space))
    loop = find_loop(config.objective)
    if loop is not None:
        function, class_names = loop.function, loop.class_names
    else:
        objective = find_objective(config.objective)
        function = make_plain_loop(
            objective, dict(hparams.model), source=config.data, label=config.label
        )
        class_names = ()
    return check_loop(
        function,
        params,
        metric=config.metric,
        class_names=class_names,
        max_epochs=config.max_epochs,
        limit_s=limit_s,
    )


def print_findings(target: str, result: CheckResult, printer: Console) -> None:
    """Print findings for people, fatal ones first."""
    num_fatal = sum(each.is_fatal for each in result.findings)
    seen = f"{result.epochs} epochs and {result.steps} optimizer steps were watched"
    found = f"{num_fatal} fatal, {len(result.findings) - num_fatal} to look at"
    print_wrapped(printer, f"{target}: {seen}; {found if result.findings else 'nothing found'}")
    for each in result.findings:
        place = "" if each.line is None else f"{each.line}: "
        kind = "fatal" if each.is_fatal else "look"
        printer.print()
        printer.print(f"{kind}: {clean(each.name)}", soft_wrap=True)
        print_wrapped(printer, clean(f"{place}{each.evidence}"), indent=2)
        print_wrapped(printer, f"fix: {each.fix}", indent=2)
    for text in result.unchecked:
        print_wrapped(printer, f"not checked: {text}")
