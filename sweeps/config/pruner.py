"""The pruner of a sweep: its name, and the settings that each pruner has."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, model_serializer, model_validator

from sweeps.config.fields import STRICT, NotNegative, Positive, check_owners

PrunerName = Literal["halving", "median", "percentile", "none"]

_MEDIAN = ("n_startup_trials", "n_warmup_epochs")
#: The settings of each pruner.
_PRUNERS: Mapping[str, tuple[str, ...]] = {
    "halving": ("min_epochs", "reduction_factor"),
    "median": _MEDIAN,
    "percentile": (*_MEDIAN, "percentile"),
    "none": (),
}
assert set(_PRUNERS) == set(get_args(PrunerName))


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
        if not isinstance(name, str):
            return {"name": name}
        return check_owners(given, _PRUNERS, name=name, table="pruner")

    @model_serializer
    def to_table(self) -> dict[str, Any]:
        """Return the pruner as it would stand in a sweep file."""
        return {key: getattr(self, key) for key in ("name", *_PRUNERS[self.name])}
