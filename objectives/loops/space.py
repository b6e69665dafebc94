"""The hyperparameters of a person's own loop: names of its own beside those that are known.

A name that the search space does not know is one of ``[space.model]``.
"""

from collections.abc import Collection, Mapping
from typing import Any

from search_spaces.hparams import Hparams
from search_spaces.space import SearchSpace, find_known_keys

_KNOWN = frozenset(find_known_keys(()))


def nest_space(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of a space, or of values, with names of one's own moved into ``model``."""
    own = {name: value for name, value in table.items() if name not in _KNOWN}
    nested = {name: value for name, value in table.items() if name in _KNOWN}
    if own:
        nested["model"] = {**nested.get("model", {}), **own}
    return nested


def find_own_names(space: SearchSpace) -> frozenset[str]:
    """Return the names of a space that are given, those of ``model`` without that word."""
    given = {name for name, spec in space if spec is not None and name != "model"}
    return frozenset(given | set(space.model))


def read_params(hparams: Hparams, names: Collection[str] | None = None) -> dict[str, Any]:
    """Return what a loop's trial is given: values by the names of its space.

    Args:
        hparams: The trial's hyperparameters.
        names: Names of the space; None: all that the trial has.
    """
    values = {name: value for name, value in hparams if value is not None}
    betas = values.pop("betas", None)
    if betas is not None:
        values["beta1"], values["beta2"] = betas
    values |= values.pop("model")
    return {name: value for name, value in values.items() if names is None or name in names}
