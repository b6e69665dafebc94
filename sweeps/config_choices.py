"""The sampler and the pruner of a sweep: their names, and the settings that each of them has.

Imports neither torch nor Optuna, so that a mistake is answered at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from search_spaces.mistakes import Mistake, Mistakes, suggest_names
from search_spaces.space import SearchSpace
from sweeps.config_sampler import (
    CLASSES,
    check_options,
    find_sampler_class,
    is_known_path,
    is_path,
    list_options,
)
from sweeps.parameters import (
    MAX_GRID,
    find_ranges,
    list_grid,
    list_parameters,
    show_parameter,
    show_parameters,
)

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]

PrunerName = Literal["median", "percentile", "halving", "none"]

#: The settings of each sampler and pruner, and what they are unless told.
_SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"n_startup_trials": 10},
    "random": {},
    "gp": {"n_startup_trials": 10},
    "cmaes": {"n_startup_trials": 10},
    "qmc": {},
    "grid": {"points": None},
}
#: Samplers with a short name.
SAMPLERS = tuple(_SAMPLERS)
_MEDIAN = {"n_startup_trials": 5, "n_warmup_epochs": 6}
_PRUNERS: Mapping[str, Mapping[str, Any]] = {
    "median": _MEDIAN,
    "percentile": {**_MEDIAN, "percentile": 25.0},
    "halving": {"min_epochs": 3, "reduction_factor": 3},
    "none": {},
}
#: Whoever switches to one of these need not take the settings of another out of the file.
_TOLERANT = ("random", "none")


class SamplerConfig(BaseModel):
    """The sampler: ``[sampler]`` of a sweep file. A setting that it has no use for is None."""

    model_config = STRICT

    name: str = "tpe"
    """A short name, or the path of a class: ``package.module.Class``, ``module:Class``."""
    n_startup_trials: NotNegative | None = None
    """Of ``tpe``, ``gp`` and ``cmaes``: finished trials before it stops sampling at random; 10."""
    points: Positive | None = None
    """Of ``grid`` alone: values of each range, its ends included."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the sampler's class, which stand beside the others in the table."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        flat = {key: value for key, value in values.items() if value is not None}
        if isinstance(flat.get("options"), Mapping):
            flat |= flat.pop("options")
        name = flat.get("name", "tpe")
        if not isinstance(name, str):
            return {"name": name}
        if "seed" in flat:
            text = "has no use: the study's seed decides; give seed above all tables, or --seed"
            raise Mistakes([Mistake(("seed",), text)])
        if is_path(name):
            options = {key: value for key, value in flat.items() if key != "name"}
            if is_known_path(name):
                check_options(name, options)
            return {"name": name, "options": options}
        fields = ("name", "n_startup_trials", "points")
        own = {key: value for key, value in flat.items() if key in fields}
        filled = _fill_settings(own, _SAMPLERS, known=tuple(own), table="sampler")
        options = {key: value for key, value in flat.items() if key not in own}
        if options and name in CLASSES:
            options = _drop_foreign(options) if name in _TOLERANT else options
            check_options(name, options)
        elif options and name == "grid":
            known = ("name", *_SAMPLERS[name])
            raise Mistakes([Mistake((key,), suggest_names(key, known), True) for key in options])
        return {**filled, "options": options}

    @field_validator("name")
    @classmethod
    def _know_name(cls, name: str) -> str:
        if name in _SAMPLERS or is_path(name):
            return name
        hint = suggest_names(name, _SAMPLERS)
        raise Mistakes([Mistake((), f"is unknown: {name!r}; {hint}, or the path of a class")])

    def to_table(self) -> dict[str, Any]:
        """Return the sampler as it would stand in a sweep file, in JSON values."""
        table = self.model_dump(mode="json", exclude_none=True, exclude={"options"})
        return {**table, **self.model_dump(mode="json")["options"]}


class PrunerConfig(BaseModel):
    """The pruner: ``[pruner]`` of a sweep file. A setting that it has no use for is None."""

    model_config = STRICT

    name: PrunerName = "median"
    n_startup_trials: NotNegative | None = None
    """Of ``median`` and ``percentile``: complete trials before the first one is pruned; 5."""
    n_warmup_epochs: NotNegative | None = None
    """Of the same: epochs of each trial at whose ends it is not pruned; 6."""
    percentile: Annotated[float, Field(gt=0.0, lt=100.0)] | None = None
    """Of ``percentile`` alone: the best share of the trials, in percent, that goes on; 25."""
    min_epochs: Positive | None = None
    """Of ``halving`` alone: the epoch at which trials are compared first; 3."""
    reduction_factor: Annotated[int, Field(ge=2)] | None = None
    """Of the same: one in so many goes on, to so many times the epochs; 3."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        return _fill_settings(values, _PRUNERS, known=tuple(cls.model_fields), table="pruner")


def find_grid_mistakes(sampler: SamplerConfig, space: SearchSpace) -> list[Mistake]:
    """List why a space has no grid; empty for the other samplers."""
    if sampler.name != "grid":
        return []
    ranges = find_ranges(space)
    if ranges and sampler.points is None:
        names = ", ".join(map(show_parameter, ranges))
        return [Mistake(("points",), f"is missing: a grid needs it for the ranges of {names}")]
    if len(list_grid(space, sampler.points)) > MAX_GRID:
        text = f"{sampler.points} points" if ranges else "these choices"
        text = (
            f"makes a grid of more than {MAX_GRID:,} trials with {text}; take fewer, or fix some"
        )
        return [Mistake((), text)]
    return []


def describe_sampler(sampler: SamplerConfig, space: SearchSpace) -> str:
    """Return one line for people: which of this space's parameters it samples at random.

    What each of them really does was measured with Optuna 5.0.0: GPSampler and CmaEsSampler see
    the parameters that all finished trials have in common, CmaEsSampler no choices, and TPE takes
    parameters that occur together as a group. ``qmc`` is given the whole
    space (``running.sampling``).
    """
    told = ", ".join(f"{key} {value}" for key, value in sampler.options.items())
    name = f"{sampler.name} ({told})" if told else sampler.name
    if is_path(sampler.name):
        return name
    parameters, conditional = list_parameters(space)
    parameters = {name: one for name, one in parameters.items() if not one.is_single}
    conditional &= frozenset(parameters)
    if sampler.name == "grid":
        return f"grid of {len(list_grid(space, sampler.points))} trials"
    if sampler.name == "random":
        return "random"
    if sampler.name in ("tpe", "qmc"):
        return f"{name}, for every hyperparameter"
    choices = frozenset(name for name, one in parameters.items() if one.choices)
    at_random = conditional | choices if sampler.name == "cmaes" else conditional
    if not at_random:
        return f"{name}, for every hyperparameter"
    why = "choices, or not in every trial" if at_random & choices else "not in every trial"
    return f"{name}; at random ({why}): {show_parameters(parameters, at_random)}"


def _drop_foreign(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that are an argument of no sampler with a short name."""
    known = {key for name in CLASSES for key in list_options(find_sampler_class(name)) or ()}
    return {key: value for key, value in options.items() if key not in known}


def _fill_settings(
    values: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]],
    *,
    known: tuple[str, ...],
    table: str,
) -> dict[str, Any]:
    """Return a table with its defaults; a setting of another sampler or pruner is a mistake."""
    given = {key: value for key, value in values.items() if value is not None}
    name = given.get("name", next(iter(settings)))
    if not isinstance(name, str) or name not in settings:
        return given
    if name in _TOLERANT:
        return {key: value for key, value in given.items() if key == "name" or key not in known}
    own, mistakes = settings[name], []
    for key in given:
        if key in known and key != "name" and key not in own:
            owners = " or ".join(f'"{one}"' for one, its in settings.items() if key in its)
            hint = suggest_names(key, own) if own else "it has no settings"
            text = f'belongs to {table}.name = {owners}, not to "{name}"'
            # Without a name that is near, the owner says more than a list.
            text += f"; {hint}" if hint.startswith("did") else ""
            mistakes.append(Mistake((key,), text))
    if mistakes:
        raise Mistakes(mistakes)
    return {**own, **given}


assert set(_PRUNERS) == set(get_args(PrunerName))
