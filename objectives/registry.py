"""Finds an objective by its name, and imports no other."""

import importlib
from collections.abc import Mapping

from objectives.api import Objective
from objectives.loops.own import OwnLoop
from objectives.references import ObjectiveError, parse_reference, resolve_reference
from search_spaces.mistakes import suggest_names

#: Module and class of each objective that ships with the project.
_PLACES: Mapping[str, tuple[str, str]] = {
    "relation-cnn": ("objectives.relation_cnn", "RelationCnn"),
    "tabular-mlp": ("objectives.tabular_mlp", "TabularMlp"),
    "sequence-rnn": ("objectives.sequence_rnn", "SequenceRnn"),
}


def find_loop(name: str) -> OwnLoop | None:
    """Return a person's own training loop of this name; None: it names another objective.

    Raises:
        ObjectiveError: If it cannot be imported.
    """
    if parse_reference(name) is None:
        return None
    from objectives.own import find_own

    found = find_own(resolve_reference(name))
    return found if isinstance(found, OwnLoop) else None


def find_objective(name: str) -> Objective:
    """Return the objective of this name; its module, and so torch, is imported now.

    Args:
        name: One that ships (``relation-cnn``), or one's own: ``file.py``, ``file.py:Class`` or
            ``package.module:Class``, the last two with an installed module or the current folder.

    Raises:
        ObjectiveError: If one's own cannot be imported or is no objective.
        ValueError: If there is none; the line offers the nearest name.
    """
    if parse_reference(name) is not None:
        from objectives.own import find_own

        found = find_own(resolve_reference(name))
        if isinstance(found, OwnLoop):
            raise ObjectiveError(f"{found.place}: is a training loop, not data and a model")
        return found
    if name not in _PLACES:
        raise ValueError(f"no such objective: {name!r}; {suggest_names(name, _PLACES)}")
    module, kind = _PLACES[name]
    objective: Objective = getattr(importlib.import_module(module), kind)()
    return objective
