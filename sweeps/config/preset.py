"""What a sweep's settings take from its objective: a default space, and its model's arguments.

Those of the objectives that ship are tables. A person's own is asked in a process of its own, by
``find_preset`` alone: neither it nor torch is imported here, and checking settings runs no code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from objectives.describe import describe_own
from objectives.references import ObjectiveError, parse_reference
from search_spaces.hparams import MODEL, Row
from search_spaces.mistakes import Mistakes
from search_spaces.presets import ARGUMENTS, OWN_SETTINGS, OWN_SPACE, PRESETS, SWEEP_DEFAULTS
from search_spaces.space import parse_space
from sweeps.config.merge import merge_space


@dataclass(frozen=True, slots=True)
class Preset:
    """What a sweep of an objective is, unless told.

    Attributes:
        space: The search space, as a table.
        settings: Other settings of the sweep; ``study`` is one.
        arguments: Those of the objective's ``build_model``, by name; None: it takes any.
        required: Names of the arguments that a space must give.
        place: Where ``build_model`` stands, for people.
        is_loop: Whether it is a person's own training loop.
    """

    space: Mapping[str, Any]
    settings: Mapping[str, Any]
    arguments: Mapping[str, Row] | None = None
    required: tuple[str, ...] = ()
    place: str = ""
    is_loop: bool = False


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
        return Preset(PRESETS[objective], settings, ARGUMENTS[objective])
    own = describe_own(objective)
    arguments = None
    if own.model_names is not None:
        arguments = {name: Row(name=f"{MODEL}{name}") for name in own.model_names}
    # What the person gave of a hyperparameter stands alone: no range of ours is laid under it.
    space = {**merge_space(OWN_SPACE, own.default_space), **own.default_space}
    if own.is_loop:  # it reads the names that its own space gives, and no others
        space = dict(own.default_space)
    try:
        parse_space(space, arguments)
    except Mistakes as error:
        lines = [one.below("default_space").to_line() for one in error.items]
        raise ObjectiveError("\n".join(f"{own.place}: {line}" for line in lines)) from None
    settings = {"study": own.name, **OWN_SETTINGS}
    return Preset(space, settings, arguments, own.required_model_names, own.place, own.is_loop)
