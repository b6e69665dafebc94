"""The trials beside one: those that are free of its verdict, the nearest first.

Knows hyperparameters alone, no curve.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweeps.analysis.findings import Finding, Verdict
from sweeps.analysis.report_words import configuration, label, setting

#: What decides whether a rate is too high; a trial that differs in these alone tells most.
RATE_PARAMS = ("learning_rate", "betas", "momentum", "clip_norm", "schedule", "optimizer")
#: What belongs to one of these, and differs where it does.
_OWNED = ("factor", "plateau_patience", "schedule_epochs", "step_epochs", "warmup_epochs", "rho")
#: What decides over each verdict that other trials of a study may be free of.
DECIDING: Mapping[Verdict, tuple[str, ...]] = {
    Verdict.RATE_TOO_HIGH: RATE_PARAMS,
    Verdict.DIVERGED: RATE_PARAMS,
    Verdict.OSCILLATING: ("learning_rate", "optimizer", "batch_size", "schedule", "clip_norm"),
    Verdict.CLASS_COLLAPSE: ("class_weights", "learning_rate", "optimizer"),
    Verdict.OVERFIT: ("dropout", "weight_decay", "label_smoothing", "learning_rate", "model"),
    Verdict.UNDERFIT: ("learning_rate", "optimizer", "dropout", "weight_decay", "model"),
}
#: What the advice of a verdict moves, and whether up.
_MOVED: Mapping[Verdict, Mapping[str, bool]] = {
    Verdict.RATE_TOO_HIGH: {"learning_rate": False},
    Verdict.DIVERGED: {"learning_rate": False},
    Verdict.OSCILLATING: {"learning_rate": False},
    Verdict.OVERFIT: {"dropout": True, "weight_decay": True, "label_smoothing": True},
}
_NEIGHBOURS_SHOWN = 3
#: A neighbour behind what it is ordered by.
_Ordered = tuple[tuple[bool, int, int, float, int], tuple[int, list[str]]]


def look_beside(
    findings: Sequence[Finding],
    free: Mapping[Verdict, Mapping[int, Mapping[str, Any]]],
    params: Mapping[str, Any],
    *,
    gains: Mapping[int, float],
) -> tuple[Finding, ...]:
    """Return the findings on a trial, each with the trials beside it that do not show it.

    Args:
        findings: Of the trial.
        free: By verdict, hyperparameters of the trials that learn and do not show it, by number.
        params: Hyperparameters of the trial.
        gains: By how much the others scored more.
    """
    found = []
    # Whoever learns has not diverged.
    known: dict[str, Any] = {"gains": gains, "is_any_learning": bool(free[Verdict.DIVERGED])}
    for finding in findings:
        if finding.verdict in DECIDING:
            deciding = DECIDING[finding.verdict]
            others = drop_contrary(params, free[finding.verdict], _MOVED.get(finding.verdict, {}))
            beside = describe_neighbours(params, others, deciding, **known)
            finding = replace(finding, beside=beside)
        found.append(finding)
    return tuple(found)


def find_neighbours(
    params: Mapping[str, Any],
    free: Mapping[int, Mapping[str, Any]],
    deciding: Sequence[str] = RATE_PARAMS,
    *,
    gains: Mapping[int, float] | None = None,
) -> list[tuple[int, list[str]]]:
    """Return the trials that differ in what decides over a verdict, the nearest first.

    Args:
        params: Hyperparameters of the trial that shows it.
        free: Hyperparameters of those that do not, by number.
        deciding: Hyperparameters that decide over it.
        gains: By how much the trials scored more than it; None: not known. Those that scored as
            much are taken; where there is none, the better half.

    Returns:
        At most 3: the number, and which of ``deciding`` differ. First come those of the same
        optimizer, alone where the optimizer decides nothing. Nearest are those that differ in the
        fewest other hyperparameters, then in the fewest of these, then the best.
    """
    names = set(params).union(*free.values()) - set(deciding) - set(_OWNED)
    own = [(name, params.get(name)) for name in deciding]
    rest = [(name, params.get(name)) for name in names]
    known = gains or {}
    found = []
    for trial, other in free.items():
        telling = [name for name, value in own if value != other.get(name)]
        if telling:
            is_other = params.get("optimizer") != other.get("optimizer")
            num_others = sum([value != other.get(name) for name, value in rest])
            gain = known.get(trial, 0.0)
            order = (is_other, num_others, len(telling), -gain, trial)
            found.append((order, (trial, telling)))
    if "optimizer" not in deciding:
        found = [each for each in found if not each[0][0]] or found
    kept = _keep_better(sorted(found), known)
    return [neighbour for _, neighbour in kept][:_NEIGHBOURS_SHOWN]


def drop_contrary(
    params: Mapping[str, Any], free: Mapping[int, Mapping[str, Any]], rising: Mapping[str, bool]
) -> dict[int, Mapping[str, Any]]:
    """Return the trials that do not differ against the advice, or all where none is left.

    Args:
        params: Hyperparameters of the trial that shows a verdict.
        free: Hyperparameters of those that do not, by number.
        rising: Hyperparameters that the advice moves, and whether up. Learning rates are compared
            within an optimizer alone.
    """
    kept = {}
    for trial, other in free.items():
        for name, is_up in rising.items():
            own, its = params.get(name), other.get(name)
            if name == "learning_rate" and params.get("optimizer") != other.get("optimizer"):
                continue
            if not isinstance(own, float) or not isinstance(its, float):
                continue
            if own != its and (its > own) != is_up:
                break
        else:
            kept[trial] = other
    return kept or dict(free)


def measure_gains(scores: Mapping[int, float], trial: int) -> dict[int, float]:
    """Return by how much each trial with a score has a better one than a trial; inf beside none.

    Args:
        scores: Best score by number, NaN: none.
        trial: Number of the trial.
    """
    own = scores.get(trial, math.nan)
    least = -math.inf if math.isnan(own) else own
    return {other: score - least for other, score in scores.items() if not math.isnan(score)}


def describe_neighbours(
    params: Mapping[str, Any],
    free: Mapping[int, Mapping[str, Any]],
    deciding: Sequence[str],
    *,
    gains: Mapping[int, float] | None = None,
    is_any_learning: bool = True,
) -> str:
    """Return the nearest trials that are free of a verdict, and how they differ, in a sentence.

    Args:
        params: Hyperparameters of the trial that shows it.
        free: Hyperparameters of those that learn and do not show it, by number.
        deciding: Hyperparameters that decide over it.
        gains: By how much the trials scored more than it; None: not known.
        is_any_learning: Whether any trial of the sweep learns.
    """
    neighbours = find_neighbours(params, free, deciding, gains=gains)
    if not neighbours:
        if free:
            which = " or ".join(label(name) for name in deciding)
            return f"No trial that learns and is free of it differs in {which}."
        if not is_any_learning:
            return "No trial of this sweep has learned enough to be an example."
        return "No other trial of this sweep that learns is free of it."
    shown = [
        f"{trial} ({', '.join(_name_values(names, params, free[trial]))})"
        for trial, names in neighbours
    ]
    word, does = ("Trial", "does") if len(shown) == 1 else ("Trials", "do")
    return f"{word} {', '.join(shown)} of this sweep {does} not show it."


def _keep_better(found: list[_Ordered], gains: Mapping[int, float]) -> list[_Ordered]:
    """Return those that scored as much as the trial, else the better half, in their order."""
    if not gains:
        return found
    known = [gains.get(trial, -math.inf) for _, (trial, _) in found]
    lowest = 0.0
    if known and max(known) < 0.0:
        lowest = sorted(known, reverse=True)[(len(known) - 1) // 2]
    return [each for each, gain in zip(found, known, strict=True) if gain >= lowest]


def _name_values(
    names: Sequence[str], params: Mapping[str, Any], other: Mapping[str, Any]
) -> list[str]:
    """Return what differs in people's words; another optimizer first, whether it decides or not.

    Rates, betas and momenta of two optimizers are not to be compared.
    """
    differs = params.get("optimizer") != other.get("optimizer")
    ordered = [*(["optimizer"] if differs else []), *(n for n in names if n != "optimizer")]
    return [_name_value(name, other) for name in ordered]


def _name_value(name: str, params: Mapping[str, Any]) -> str:
    """Return a hyperparameter and its value, or "no betas" where its optimizer has none."""
    value = params.get(name)
    if value is None:
        return f"no {label(name)}"
    if isinstance(value, list | Mapping):
        return f"{label(name)} {_show(value)}"
    return configuration({name: value})


def _show(value: object) -> str:
    if isinstance(value, list):
        return f"({', '.join(setting(each) for each in value)})"
    if isinstance(value, Mapping):
        return "of " + ", ".join(f"{label(name)} {_show(each)}" for name, each in value.items())
    return setting(value)
