"""The hyperparameters of a person's own loop: names of its own beside those that are known.

A name that the table of hyperparameters does not have is one of ``[space.model]``.
"""

from collections.abc import Collection, Mapping
from typing import Any

from search_spaces.hparams import MODEL, ROWS, Hparams
from search_spaces.space import SearchSpace


def nest_space(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of a space, or of values, with names of one's own moved into ``model``."""
    known = {*ROWS, "model"}
    nested = {name: value for name, value in table.items() if name in known}
    own = {name: value for name, value in table.items() if name not in known}
    return nested | ({"model": {**nested.get("model", {}), **own}} if own else {})


def find_own_names(space: SearchSpace) -> frozenset[str]:
    """Return the names that a space gives, as a loop reads them: ``gamma``."""
    return frozenset(name.removeprefix(MODEL) for name in space.specs)


def read_params(hparams: Hparams, names: Collection[str] | None = None) -> dict[str, Any]:
    """Return what a loop's trial is given: values by the names of its space.

    Args:
        hparams: The trial's hyperparameters.
        names: Names of the space; None: all that the trial has.
    """
    values = {name.removeprefix(MODEL): one for name, one in hparams.to_values().items()}
    return {name: value for name, value in values.items() if names is None or name in names}
