"""The class behind a sampler's name, and which keys of ``[sampler]`` it takes.

Imports Optuna when it is asked, and never torch: a sweep without further keys needs neither.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Mapping

from search_spaces.mistakes import Mistake, Mistakes, suggest_names

#: Where each of Optuna's samplers is that has a short name; a grid's trials are ours.
CLASSES: Mapping[str, str] = {
    "tpe": "optuna.samplers.TPESampler",
    "random": "optuna.samplers.RandomSampler",
    "gp": "optuna.samplers.GPSampler",
    "cmaes": "optuna.samplers.CmaEsSampler",
    "qmc": "optuna.samplers.QMCSampler",
}


def is_path(name: str) -> bool:
    """Return whether a sampler's name is the path of a class: ``a.b.Class`` or ``a.b:Class``."""
    return "." in name or ":" in name


def is_known_path(name: str) -> bool:
    """Return whether the path is one of Optuna's, whose import runs no other code."""
    return name.startswith("optuna.samplers") and is_path(name)


def find_sampler_class(name: str) -> type:
    """Return the class of a short name or a path; its module is imported now.

    A module is looked for in the current folder last, as that of an own objective.

    Raises:
        Mistakes: If there is no such class.
    """
    path = CLASSES.get(name, name)
    place, _, attribute = path.rpartition(":" if ":" in path else ".")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(place)
    except Exception as error:
        text = f"cannot be imported: {type(error).__name__}: {error}"
        raise Mistakes([Mistake(("name",), text)]) from error
    kind = getattr(module, attribute, None)
    if not isinstance(kind, type):
        own = [name for name, one in vars(module).items() if isinstance(one, type)]
        hint = suggest_names(attribute, [name for name in own if name.endswith("Sampler")] or own)
        raise Mistakes([Mistake(("name",), f"{place} has no class {attribute!r}; {hint}")])
    return kind


def check_options(name: str, options: Iterable[str]) -> None:
    """Check the keys beside a sampler's name; its module is imported now.

    Raises:
        Mistakes: If there is no such class, or it does not take them; paths start in the table.
    """
    kind = find_sampler_class(name)
    known = list_options(kind)
    wrong = [] if known is None else [key for key in options if key not in known]
    if wrong:
        text = f"{kind.__name__} takes none"
        raise Mistakes(
            Mistake((key,), suggest_names(key, known) if known else text, is_unknown_key=True)
            for key in wrong
        )


def list_options(kind: type) -> list[str] | None:
    """List the arguments of a sampler's class, but for its seed; None: it takes any."""
    parameters = inspect.signature(kind).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    return [one.name for one in parameters if one.name != "seed"]
