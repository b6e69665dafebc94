"""The sampler of a sweep: its name, the class behind it, and the settings that each sampler has.

Imports Optuna where keys of ``[sampler]`` are those of a class of its own, and never torch: a
sweep without such keys is checked at once.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

from search_spaces.mistakes import Mistakes, suggest_names, unknown_key, wrong
from sweeps.config.fields import STRICT, NotNegative, Positive, check_owners

#: Where each of Optuna's samplers is that has a short name; a grid's trials are ours.
CLASSES: Mapping[str, str] = {
    "tpe": "optuna.samplers.TPESampler",
    "random": "optuna.samplers.RandomSampler",
    "gp": "optuna.samplers.GPSampler",
    "cmaes": "optuna.samplers.CmaEsSampler",
    "qmc": "optuna.samplers.QMCSampler",
}
#: The settings of each sampler with a short name.
_SAMPLERS: Mapping[str, tuple[str, ...]] = {
    "tpe": ("n_startup_trials",),
    "random": (),
    "gp": ("n_startup_trials",),
    "cmaes": ("n_startup_trials",),
    "qmc": (),
    "grid": ("points",),
}
#: Samplers with a short name.
SAMPLERS = tuple(_SAMPLERS)


class SamplerConfig(BaseModel):
    """The sampler: ``[sampler]`` of a sweep file, with further arguments of its class."""

    model_config = ConfigDict(**{**STRICT, "extra": "allow"})

    name: str = "tpe"
    """A short name, or the path of a class: ``package.module.Class``, ``module:Class``."""
    n_startup_trials: NotNegative = 10
    """Of ``tpe``, ``gp`` and ``cmaes``: finished trials before it stops sampling at random."""
    points: Positive | None = None
    """Of ``grid`` alone: values of each range, its ends included."""

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        name = given.get("name", "tpe")
        if not isinstance(name, str):
            return {"name": name}
        if "seed" in given:
            text = "has no use: the study's seed decides; give seed above all tables, or --seed"
            raise wrong(text, "seed")
        if name not in _SAMPLERS and not is_path(name):
            hint = suggest_names(name, _SAMPLERS)
            raise wrong(f"is unknown: {name!r}; {hint}, or the path of a class", "name")
        own = check_owners(given, _SAMPLERS, name=name, table="sampler")
        further = [key for key in own if key not in ("name", *_SAMPLERS.get(name, ()))]
        if is_known_path(name) or (further and name in CLASSES):
            check_options(name, further)
        elif further and not is_path(name):
            raise Mistakes(unknown_key((key,), ("name", *_SAMPLERS[name])) for key in further)
        return own

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments of the sampler's class."""
        is_own = self.name in _SAMPLERS
        told = [] if is_own else [key for key in self.model_fields_set if key != "name"]
        return {key: getattr(self, key) for key in told} | (self.model_extra or {})

    @model_serializer
    def to_table(self) -> dict[str, Any]:
        """Return the sampler as it would stand in a sweep file, without what it has no use for."""
        own = {key: getattr(self, key) for key in _SAMPLERS.get(self.name, ())}
        told = {key: value for key, value in own.items() if value is not None}
        return {"name": self.name, **told, **self.options}


def is_path(name: str) -> bool:
    """Return whether a sampler's name is the path of a class: ``a.b.Class`` or ``a.b:Class``."""
    return "." in name or ":" in name


def is_known_path(name: str) -> bool:
    """Return whether the path is one of Optuna's, whose import runs no other code."""
    return name.startswith(("optuna.samplers.", "optuna.samplers:"))


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
        raise wrong(text, "name") from error
    kind = getattr(module, attribute, None)
    if not isinstance(kind, type):
        own = [name for name, one in vars(module).items() if isinstance(one, type)]
        hint = suggest_names(attribute, [name for name in own if name.endswith("Sampler")] or own)
        raise wrong(f"{place} has no class {attribute!r}; {hint}", "name")
    return kind


def check_options(name: str, options: Iterable[str]) -> None:
    """Check the keys beside a sampler's name; its module is imported now.

    Raises:
        Mistakes: If there is no such class, or it does not take them; paths start in the table.
    """
    parameters = inspect.signature(find_sampler_class(name)).parameters.values()
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    known = [one.name for one in parameters if one.name != "seed"]
    foreign = [] if takes_any else [key for key in options if key not in known]
    if foreign:
        raise Mistakes(unknown_key((key,), known) for key in foreign)
