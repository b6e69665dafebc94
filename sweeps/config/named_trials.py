"""Trials that a person names: their mistakes, and what a space takes of another study's trials.

A name is that of a hyperparameter (``beta1``, ``model.filters``), never Optuna's.
"""

from collections.abc import Mapping
from typing import Any

from search_spaces.hparams import Row, find_row
from search_spaces.mistakes import Mistake, Mistakes, show_value
from search_spaces.space import SearchSpace, parse_space


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
    have_it = [row.is_of(*kind) for kind in space.kinds]
    if all(have_it) or (by_all and any(have_it)):
        return []
    optimizers, schedules = space.list_lacking(name)
    if optimizers and set(optimizers) == set(space.optimizers):
        text = f"has no use: {' or '.join(optimizers)} takes no {word}"
    elif schedules and set(schedules) == set(space.schedules):
        text = f"has no use: schedule {' or '.join(schedules)} takes no {word}"
    else:
        owner = "schedule" if schedules and not optimizers else "optimizer"
        text = f"has no use in some trials that this can become; give {owner} too"
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
