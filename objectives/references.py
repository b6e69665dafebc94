"""How a person names an objective of their own: a file, a class in a file, a class in a module.

``moons.py``, ``models/moons.py:Moons``, ``mypkg.moons:Moons``. Imports nothing heavy, so that
the settings of a sweep are read at once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.places import show_path


class ObjectiveError(ValueError):
    """A person's own objective cannot be used; a line a mistake, each with its place."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A person's own objective, named but not imported.

    Attributes:
        path: The file, or None where a module is named.
        module: The module, or "" where a file is named.
        attribute: The class; "" where the file's own functions are the objective.
    """

    path: Path | None
    module: str
    attribute: str

    def __str__(self) -> str:
        place = str(self.path) if self.path is not None else self.module
        return f"{place}:{self.attribute}" if self.attribute else place


@dataclass(frozen=True, slots=True)
class OwnDescription:
    """What a sweep's settings need to know of a person's own objective.

    Attributes:
        place: The file, as a person reads it.
        name: Name of a study of it.
        default_space: The person's table, as ``[space]`` of a sweep file; may be empty.
        model_names: Names of ``build_model``'s hyperparameters; None: it takes any.
        required_model_names: Names of those that have no default.
        is_loop: Whether it is a training loop, a function that takes a trial.
    """

    place: str
    name: str
    default_space: Mapping[str, Any]
    model_names: tuple[str, ...] | None
    required_model_names: tuple[str, ...]
    is_loop: bool = False


def parse_reference(text: str) -> Reference | None:
    """Return what the text names, or None if it is no name of somebody's own objective."""
    if text.endswith(".py"):
        return Reference(Path(text), "", "")
    place, has_class, attribute = text.rpartition(":")
    if not has_class:
        return None
    if place.endswith(".py"):
        return Reference(Path(place), "", attribute)
    return Reference(None, place, attribute)


def resolve_reference(text: str, folder: Path | None = None) -> str:
    """Return the text with the absolute path of its file; all other texts as they are.

    Args:
        text: An objective, as a person wrote it.
        folder: Where a relative path begins; None: the current folder.
    """
    reference = parse_reference(text)
    if reference is None or reference.path is None:
        return text
    path = (folder or Path()) / reference.path.expanduser()
    return str(Reference(path.resolve(), "", reference.attribute))


def find_change(reference: Reference) -> int:
    """Return when the file was changed last, in nanoseconds; 0 where a module is named.

    Raises:
        ObjectiveError: If there is no such file.
    """
    if reference.path is None:
        return 0
    try:
        return reference.path.stat().st_mtime_ns
    except OSError as error:
        reason = error.strerror or error
        raise ObjectiveError(f"{show_path(reference.path)}: {reason}") from None


def name_study(text: str) -> str:
    """Return a text as the name of a study: ``MyModel`` as ``my-model``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", text).lower()
    return re.sub(r"[^a-z0-9._-]+", "-", words).strip("-")[:128] or "own"
