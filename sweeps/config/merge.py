"""Merges tables of settings, and lays a person's settings over a preset."""

from collections.abc import Mapping
from typing import Any

#: What may end a sweep. If one is given, no default limits it beside that one.
_BUDGETS = ("trials", "max_total_epochs", "max_minutes")


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


def lay_over(
    settings: Mapping[str, Any], space: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a preset's settings and space with what a person gave.

    A sampler or pruner of another name replaces the preset's as a whole; one budget replaces all
    budgets of the preset.
    """
    has_budget = any(key in given for key in _BUDGETS)
    kept = {key: one for key, one in settings.items() if not has_budget or key not in _BUDGETS}
    for table in ("sampler", "pruner"):
        own, told = kept.get(table), given.get(table)
        if isinstance(own, Mapping) and isinstance(told, Mapping) and "name" in told:
            kept[table] = own if own["name"] == told["name"] else {}
    filled = merge_tables(kept, given)
    sampler, patience = filled.get("sampler"), filled.get("patience")
    if isinstance(sampler, Mapping) and sampler.get("name") == "grid":
        filled["max_total_epochs"] = given.get("max_total_epochs")
    own_space = given.get("space", {})
    filled["space"] = (
        merge_space(space, own_space) if isinstance(own_space, Mapping) else own_space
    )
    # A person who shortens the patience did not ask for a mistake in the preset's other one.
    if "prune_patience" not in given and isinstance(patience, int):
        filled["prune_patience"] = max(1, min(filled.get("prune_patience", 3), patience))
    return filled


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
