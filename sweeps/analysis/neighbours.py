"""The trials beside one: those that are free of its verdict, the nearest first.

Knows hyperparameters alone, no curve.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

#: What decides whether a rate is too high; a trial that differs in these alone tells most.
RATE_PARAMS = ("learning_rate", "betas", "momentum", "clip_norm", "schedule", "optimizer")
#: What belongs to one of these, and differs where it does.
_OWNED = ("factor", "plateau_patience", "schedule_epochs", "step_epochs", "warmup_epochs", "rho")
_NEIGHBOURS_SHOWN = 3


def find_neighbours(
    params: Mapping[str, Any],
    free: Mapping[int, Mapping[str, Any]],
    deciding: Sequence[str] = RATE_PARAMS,
) -> list[tuple[int, list[str]]]:
    """Return the trials that differ in what decides over a verdict, the nearest first.

    Args:
        params: Hyperparameters of the trial that shows it.
        free: Hyperparameters of those that do not, by number.
        deciding: Hyperparameters that decide over it.

    Returns:
        At most 3: the number, and which of ``deciding`` differ. Nearest are those that differ in
        the fewest other hyperparameters, then in the fewest of these.
    """
    names = set(params).union(*free.values()) - set(deciding) - set(_OWNED)
    own = [(name, params.get(name)) for name in deciding]
    rest = [(name, params.get(name)) for name in names]
    found = []
    for trial, other in free.items():
        telling = [name for name, value in own if value != other.get(name)]
        if telling:
            num_others = sum([value != other.get(name) for name, value in rest])
            found.append(((num_others, len(telling), trial), (trial, telling)))
    return [neighbour for _, neighbour in sorted(found)][:_NEIGHBOURS_SHOWN]


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


def describe_neighbours(
    params: Mapping[str, Any],
    free: Mapping[int, Mapping[str, Any]],
    deciding: Sequence[str],
) -> str:
    """Return the nearest trials that are free of a verdict, and how they differ, in a sentence."""
    neighbours = find_neighbours(params, free, deciding)
    if not neighbours:
        return (
            f"No trial that learns and is free of it differs in {' or '.join(deciding)}."
            if free
            else "No other trial of this sweep that learns is free of it."
        )
    shown = [
        f"{trial} ({', '.join(_name_value(n, free[trial]) for n in names)})"
        for trial, names in neighbours
    ]
    word, does = ("Trial", "does") if len(shown) == 1 else ("Trials", "do")
    return f"{word} {', '.join(shown)} of this sweep {does} not show it."


def _name_value(name: str, params: Mapping[str, Any]) -> str:
    """Return a hyperparameter and its value, or "no betas" where its optimizer has none."""
    return f"{name} {_show(params[name])}" if params.get(name) is not None else f"no {name}"


def _show(value: object) -> str:
    if isinstance(value, float):
        # Of a beta close to 1, two digits of its distance.
        digits = 1 - math.floor(math.log10(1 - value)) if 0.9 < value < 1 else None
        return f"{value:.3g}" if digits is None else f"{value:.{digits}f}".rstrip("0")
    if isinstance(value, list):
        return f"({', '.join(_show(each) for each in value)})"
    if isinstance(value, Mapping):
        return "of " + ", ".join(f"{name} {_show(each)}" for name, each in value.items())
    return str(value)
