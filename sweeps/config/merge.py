"""How tables of settings are laid over one another, and how a space is laid over a preset's."""

from collections.abc import Mapping
from typing import Any


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the keys of ``over``; a table merges key by key, all else replaces."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_tables(below, value)
        else:
            merged[key] = value
    return merged


def merge_space(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preset's space with what a person gave of it, hyperparameter by hyperparameter.

    The preset's ranges of optimizers that the person left out are dropped: in a person's own
    table they would be a mistake. Where every optimizer that is left has such a range, the
    person's ``low`` and ``high`` are meant for it: nothing else would use them.
    """
    merged = merge_tables(preset, given)
    chosen = merged.get("optimizer")
    optimizers = chosen if isinstance(chosen, list | tuple) else [chosen]
    for name, spec in merged.items():
        by_optimizer = spec.get("by_optimizer") if isinstance(spec, Mapping) else None
        if not isinstance(by_optimizer, Mapping):
            continue
        table = given.get(name)
        own = table.get("by_optimizer") if isinstance(table, Mapping) else None
        kept = [*optimizers, *(own if isinstance(own, Mapping) else ())]
        fitting = {one: sub for one, sub in by_optimizer.items() if one in kept}
        if isinstance(table, Mapping) and not own and set(optimizers) <= set(fitting):
            fitting = {one: _narrow(sub, table) for one, sub in fitting.items()}
        merged[name] = {**spec, "by_optimizer": fitting}
    return merged


def _narrow(preset: Any, given: Mapping[str, Any]) -> Any:
    """Return an optimizer's range with the bounds that a person gave."""
    bounds = {name: given[name] for name in ("low", "high", "log") if name in given}
    return merge_tables(preset, bounds) if bounds and isinstance(preset, Mapping) else preset
