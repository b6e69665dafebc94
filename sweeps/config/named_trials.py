"""Trials that a person names: how they are written, their mistakes, and what another space takes.

A name is that of a hyperparameter (``beta1``, ``model.filters``), never Optuna's.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from search_spaces.hparams import Row, find_row
from search_spaces.mistakes import Mistake, Mistakes, show_value
from search_spaces.space import SearchSpace, parse_space

#: A part up to its comma; a quoted value may hold commas.
_PART = re.compile(r"""((?:[^,=]*=)?\s*(?:"(?:\\.|[^"\\])*"|'[^']*')?[^,]*),""")


def parse_trial(text: str) -> dict[str, Any]:
    """Return the values of ``learning_rate=0.001,optimizer=adam``; each is TOML, or else a text.

    Raises:
        ValueError: If a part assigns nothing, or a name comes twice.
    """
    values: dict[str, Any] = {}
    for part in split_commas(text):
        name, is_assignment, raw = (piece.strip() for piece in part.partition("="))
        if not is_assignment or not name or not raw:
            raise ValueError(f"expected name=value,name=value, got {part.strip()!r}")
        if name in values:
            raise ValueError(f"names {name} twice")
        values[name] = parse_value(raw)
    return values


def split_commas(text: str) -> list[str]:
    """Split a text at its commas, but for those inside a quoted value."""
    return _PART.findall(f"{text},")


def parse_value(raw: str) -> Any:
    """Return a value of the command line: TOML, or else the text itself."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return raw


def find_trial_mistakes(
    values: Mapping[str, Any], space: SearchSpace, arguments: Mapping[str, Row] | None
) -> list[Mistake]:
    """List what is wrong with a named trial; a value outside the space's range is not wrong.

    Args:
        values: The trial's, by name.
        space: What the rest is sampled from.
        arguments: Those of the objective's model; None: any will do.
    """
    several = [
        Mistake((name,), f"must be one value, got {show_value(value)}")
        for name, value in values.items()
        if not isinstance(value, bool | int | float | str)
    ]
    if several:
        return several
    try:
        parse_space(values, arguments)
    except Mistakes as error:
        return list(error.items)
    pinned = space.pin(values)
    return [one for name in values for one in find_idle_mistakes(name, pinned)]


def find_idle_mistakes(name: str, space: SearchSpace, *, by_all: bool = False) -> list[Mistake]:
    """Return the mistake of a hyperparameter that trials of a space do not have.

    Args:
        name: The hyperparameter.
        space: What the trials are sampled from.
        by_all: Only where no trial has it.
    """
    row, word = find_row(name), name.replace("_", " ")
    has = [row.has(optimizer=optimizer, schedule=plan) for optimizer, plan in space.kinds]
    if all(has) or (by_all and any(has)):
        return []
    optimizers, schedules = space.list_lacking(name)
    if optimizers and set(optimizers) == set(space.optimizers):
        text = f"has no use: {' or '.join(optimizers)} takes no {word}"
    elif schedules and set(schedules) == set(space.schedules):
        text = f"has no use: schedule {' or '.join(schedules)} takes no {word}"
    else:
        owner = "schedule" if schedules and not optimizers else "optimizer"
        text = "has no use in each trial that this can become; fix what it depends on"
        text = f"{text} ({owner}) too"
    return [Mistake((name,), text)]


def drop_foreign_values(
    values: Mapping[str, Any], space: SearchSpace
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of another study's trial that a space can take, and the names of others.

    A space can take what it could have sampled itself: one of the choices, a number in the range,
    or the very value that it fixes.
    """
    kept: dict[str, Any] = {}
    # The two that decide which others a trial has come first.
    places = {"optimizer": 0, "schedule": 1}
    for name in sorted(values, key=lambda name: places.get(name, 2)):
        if space.pin(kept).can_draw(name, values[name]):
            kept[name] = values[name]
    return kept, [name for name in values if name not in kept]
