"""What tables of settings share: kinds of fields, and settings that belong to one name alone."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from search_spaces.mistakes import Mistake, Mistakes

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]

#: Switching to one of these must not require removing another's settings from the file.
_TOLERANT = ("random", "none")


def check_owners(
    given: Mapping[str, Any], owners: Mapping[str, tuple[str, ...]], *, name: str, table: str
) -> dict[str, Any]:
    """Return a table without what its sampler or pruner tolerates.

    Raises:
        Mistakes: If there is a setting of another sampler or pruner.
    """
    if name in _TOLERANT:
        return {"name": name}
    found = {
        key: " or ".join(f'"{one}"' for one, its in owners.items() if key in its)
        for key in given
        if name in owners and key not in owners[name]
    }
    mistakes = [
        Mistake((key,), f'belongs to {table}.name = {others}, not to "{name}"')
        for key, others in found.items()
        if others
    ]
    if mistakes:
        raise Mistakes(mistakes)
    return dict(given)
