"""How the settings of two runs of a study differ, in words for a person."""

from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.space import Range, describe_spec

#: What decides how many results there are, where and how soon, but none of them.
_WITHOUT_EFFECT = frozenset(
    {
        *("study", "try", "warm_start", "audit", "workers", "slots", "device"),
        *("checkpoint_seconds", "db_wait"),
        *("trials", "max_total_epochs", "max_minutes"),
    }
)


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List what decides results and differs in two ``SweepConfig.stored()``, in words.

    Such as ``patience: 6 -> 8``.
    """
    before, after = (
        dict(_flatten({key: value for key, value in table.items() if key not in _WITHOUT_EFFECT}))
        for table in (old, new)
    )
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {_show_setting(before, key)} -> {_show_setting(after, key)}"
        for key in keys
        if before.get(key) != after.get(key) or (key in before) != (key in after)
    ]


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and "low" in value:
            yield f"{prefix}{key}", Range.model_validate(value)
        elif isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _show_setting(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return "not set"
    value = settings[key]
    if key == "data" and value is None:
        return "what ships with the objective"
    if isinstance(value, Range):
        return describe_spec(value)
    return " | ".join(map(str, value)) if isinstance(value, list) else str(value)
