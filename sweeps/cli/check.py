"""``check``: watches a training loop for two epochs and prints what is wrong with it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from sweeps.cli.console import console, print_wrapped
from sweeps.read.words import clean

if TYPE_CHECKING:
    from objectives.check.findings import CheckResult
    from sweeps.config.settings import SweepConfig


def check(target: str, overrides: Sequence[str] | None, seconds: float, is_json: bool) -> None:
    """Print the findings of a check; exit with 2 if one is fatal."""
    import sweeps

    result = run_check(sweeps.load_config(target, overrides or ()), limit_s=seconds)
    if is_json:
        print(json.dumps({"is_fatal": result.is_fatal, **asdict(result)}, indent=2))
    else:
        print_findings(target, result)
    raise typer.Exit(2 if result.is_fatal else 0)


def run_check(config: "SweepConfig", *, limit_s: float) -> "CheckResult":
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


def print_findings(target: str, result: "CheckResult") -> None:
    """Print findings for people, fatal ones first."""
    printer = console()
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
