"""Finds an objective by its name, and imports no other."""

import importlib
from collections.abc import Mapping

from objectives.api import Objective
from search_spaces.mistakes import suggest_names

#: Module and class of each objective that ships with the project.
_PLACES: Mapping[str, tuple[str, str]] = {
    "relation-cnn": ("objectives.relation_cnn", "RelationCnn"),
    "tabular-mlp": ("objectives.tabular_mlp", "TabularMlp"),
    "sequence-rnn": ("objectives.sequence_rnn", "SequenceRnn"),
}


def find_objective(name: str) -> Objective:
    """Return the objective of this name; its module, and so torch, is imported now.

    Raises:
        ValueError: If there is none; the line offers the nearest name.
    """
    if name not in _PLACES:
        raise ValueError(f"no such objective: {name!r}; {suggest_names(name, _PLACES)}")
    module, kind = _PLACES[name]
    objective: Objective = getattr(importlib.import_module(module), kind)()
    return objective
