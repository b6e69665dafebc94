"""How the settings of two runs differ, in words for a person."""

from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.ranges import describe_spec
from search_spaces.space import parse_space

#: What decides how many results there are, where and how soon, but none of them.
_WITHOUT_EFFECT = frozenset(
    {
        *("study", "try", "warm_start", "audit", "workers", "slots", "device"),
        *("trials", "max_total_epochs", "max_minutes", "checkpoint_seconds", "db_wait"),
    }
)


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List what decides results and differs in two ``SweepConfig.stored()``, in words.

    Such as ``patience: 6 -> 8``.
    """
    before, after = dict(_describe(old)), dict(_describe(new))
    return [
        f"{key}: {before.get(key, 'not set')} -> {after.get(key, 'not set')}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _describe(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting that decides results, and its value for people."""
    for key, value in table.items():
        if not prefix and key in _WITHOUT_EFFECT:
            continue
        if not prefix and key == "space":
            specs = parse_space(value).specs
            yield from ((f"space.{name}", describe_spec(spec)) for name, spec in specs.items())
        elif isinstance(value, Mapping):
            yield from _describe(value, f"{prefix}{key}.")
        elif key == "data" and value is None:
            yield key, "what ships with the objective"
        else:
            yield (
                f"{prefix}{key}",
                " | ".join(map(str, value)) if isinstance(value, list) else str(value),
            )
