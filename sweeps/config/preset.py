"""What a sweep's settings take from its objective: a default space, and limits of its model.

Those of the objectives that ship are tables. A person's own is asked in a process of its own:
neither it nor torch is imported here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from objectives.describe import describe_own
from objectives.references import ObjectiveError, OwnDescription, parse_reference
from search_spaces import presets
from search_spaces.mistakes import Mistake, Mistakes, suggest_names
from search_spaces.presets import PRESETS, SWEEP_DEFAULTS
from search_spaces.space import SearchSpace, parse_space
from sweeps.config.merge import merge_space


@dataclass(frozen=True, slots=True)
class Preset:
    """What a sweep of an objective is, unless told.

    Attributes:
        space: The search space, as a table.
        settings: Other settings of the sweep; ``study`` is one.
    """

    space: Mapping[str, Any]
    settings: Mapping[str, Any]


#: Context of a validation of settings that were checked before, with all that a preset gave.
CHECKED = Preset({}, {})


def is_known(objective: str) -> bool:
    """Return whether this is an objective that ships, or the name of somebody's own."""
    return objective in PRESETS or parse_reference(objective) is not None


def find_preset(objective: str) -> Preset:
    """Return the preset of a known objective.

    Raises:
        ObjectiveError: If a person's own cannot be imported, or its default space is wrong.
    """
    if objective in PRESETS:
        settings = {"study": objective, **SWEEP_DEFAULTS.get(objective, {})}
        return Preset(PRESETS[objective], settings)
    own = describe_own(objective)
    table = own.default_space
    # What the person gave of a hyperparameter stands alone: no range of ours is laid under it.
    merged = {**merge_space(presets.OWN_SPACE, table), **table}
    try:
        mistakes = _find_unknown_names(parse_space(merged), own)
    except Mistakes as error:
        mistakes = list(error.items)
    if mistakes:
        placed = [one._replace(path=("default_space", *one.path)) for one in mistakes]
        raise ObjectiveError("\n".join(f"{own.place}: {one.to_line()}" for one in placed))
    return Preset(merged, {"study": own.name, **presets.OWN_SETTINGS})


def find_model_space_mistakes(space: SearchSpace, objective: str) -> list[Mistake]:
    """List what is wrong with a space's ``model`` for an objective; paths start with ``model``."""
    if parse_reference(objective) is None:
        return presets.find_model_space_mistakes(space, objective)
    return _find_unknown_names(space, describe_own(objective))


def find_missing_model_mistakes(space: SearchSpace, objective: str) -> list[Mistake]:
    """List the arguments that an own model must have and that a whole space does not give."""
    if parse_reference(objective) is None:
        return []
    own = describe_own(objective)
    text = f"is missing: build_model of {own.place} has no default for it"
    missing = [name for name in own.required_model_names if name not in space.model]
    return [Mistake(("model", name), text) for name in missing]


def _find_unknown_names(space: SearchSpace, own: OwnDescription) -> list[Mistake]:
    known = own.model_names
    if known is None:
        return []
    text = f"build_model of {own.place} takes none"
    return [
        Mistake(("model", name), suggest_names(name, known) if known else text, True)
        for name in space.model
        if name not in known
    ]
