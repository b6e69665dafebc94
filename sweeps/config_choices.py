"""The sampler and the pruner of a sweep: their names, and the settings that each of them has.

Imports neither torch nor Optuna, so that a mistake is answered at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from search_spaces.mistakes import Mistake, Mistakes, suggest_names
from search_spaces.space import SearchSpace
from sweeps.config_sampler import CLASSES, check_options, is_known_path, is_path
from sweeps.parameters import MAX_GRID, find_ranges, list_grid, show_parameter

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]

PrunerName = Literal["halving", "median", "percentile", "none"]

#: The settings of each sampler with a short name and of each pruner.
_SAMPLERS: Mapping[str, tuple[str, ...]] = {
    "tpe": ("n_startup_trials",),
    "random": (),
    "gp": ("n_startup_trials",),
    "cmaes": ("n_startup_trials",),
    "qmc": (),
    "grid": ("points",),
}
_MEDIAN = ("n_startup_trials", "n_warmup_epochs")
_PRUNERS: Mapping[str, tuple[str, ...]] = {
    "halving": ("min_epochs", "reduction_factor"),
    "median": _MEDIAN,
    "percentile": (*_MEDIAN, "percentile"),
    "none": (),
}
#: Samplers with a short name.
SAMPLERS = tuple(_SAMPLERS)
#: Switching to one of these must not require removing another's settings from the file.
_TOLERANT = ("random", "none")


class SamplerConfig(BaseModel):
    """The sampler: ``[sampler]`` of a sweep file, written without what it has no use for."""

    model_config = STRICT

    name: str = "tpe"
    """A short name, or the path of a class: ``package.module.Class``, ``module:Class``."""
    n_startup_trials: NotNegative = 10
    """Of ``tpe``, ``gp`` and ``cmaes``: finished trials before it stops sampling at random."""
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
        own = _check_owners(flat, _SAMPLERS, name=name, table="sampler")
        if name not in _SAMPLERS:
            return own
        fields = ("name", "n_startup_trials", "points")
        options = {key: value for key, value in own.items() if key not in fields}
        if options and name in CLASSES:
            check_options(name, options)
        elif options:
            known = ("name", *_SAMPLERS[name])
            raise Mistakes([Mistake((key,), suggest_names(key, known), True) for key in options])
        return {key: own[key] for key in own if key not in options} | {"options": options}

    @field_validator("name")
    @classmethod
    def _know_name(cls, name: str) -> str:
        if name in _SAMPLERS or is_path(name):
            return name
        hint = suggest_names(name, _SAMPLERS)
        raise Mistakes([Mistake((), f"is unknown: {name!r}; {hint}, or the path of a class")])

    @model_serializer
    def to_table(self) -> dict[str, Any]:
        """Return the sampler as it would stand in a sweep file."""
        own = {key: getattr(self, key) for key in _SAMPLERS.get(self.name, ())}
        told = {key: value for key, value in own.items() if value is not None}
        return {"name": self.name, **told, **self.options}


class PrunerConfig(BaseModel):
    """The pruner: ``[pruner]`` of a sweep file, written without what it has no use for."""

    model_config = STRICT

    name: PrunerName = "halving"
    n_startup_trials: NotNegative = 5
    """Of ``median`` and ``percentile``: complete trials before the first one is pruned."""
    n_warmup_epochs: NotNegative = 6
    """Of the same: epochs of each trial at whose ends it is not pruned."""
    percentile: Annotated[float, Field(gt=0.0, lt=100.0)] = 25.0
    """Of ``percentile`` alone: the best share of the trials, in percent, that goes on."""
    min_epochs: Positive = 1
    """Of ``halving`` alone: the first rung, the epoch at which trials are compared first."""
    reduction_factor: Annotated[int, Field(ge=2)] = 4
    """Of the same: one in so many goes on, to so many times the epochs, which is the next rung."""

    @model_validator(mode="before")
    @classmethod
    def _drop_foreign(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        name = given.get("name", cls.model_fields["name"].default)
        return _check_owners(given, _PRUNERS, name=name, table="pruner")

    @model_serializer
    def to_table(self) -> dict[str, Any]:
        """Return the pruner as it would stand in a sweep file."""
        return {key: getattr(self, key) for key in ("name", *_PRUNERS[self.name])}


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


def _check_owners(
    given: Mapping[str, Any], owners: Mapping[str, tuple[str, ...]], *, name: object, table: str
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
        if name in owners and key not in owners[str(name)]
    }
    mistakes = [
        Mistake((key,), f'belongs to {table}.name = {others}, not to "{name}"')
        for key, others in found.items()
        if others
    ]
    if mistakes:
        raise Mistakes(mistakes)
    return dict(given)


assert set(_PRUNERS) == set(get_args(PrunerName))
