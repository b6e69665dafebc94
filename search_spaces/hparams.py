"""One typed record of a trial's hyperparameters, with units and limits.

Knows which optimizer has which hyperparameter; knows nothing of ranges, of sampling or of files.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.mistakes import Mistake, find_model_mistakes

OptimizerName = Literal["adam", "adamax", "rmsprop", "adadelta", "sgd"]
ModelValue = bool | int | float | str

OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)
ADAM_FAMILY = frozenset({"adam", "adamax"})

#: Which optimizers have a hyperparameter that not every optimizer has.
OPTIMIZERS_WITH: Mapping[str, frozenset[str]] = {
    "beta1": ADAM_FAMILY,
    "beta2": ADAM_FAMILY,
    "momentum": frozenset({"sgd"}),
}

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class Hparams(BaseModel):
    """A trial's hyperparameters; what its optimizer does not have is ``None`` and never stored.

    Raises:
        pydantic.ValidationError: If a value is outside its limits, or belongs to another
            optimizer (``betas`` to the Adam family, ``momentum`` to sgd).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    optimizer: OptimizerName = "adam"
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    """Step size, in the optimizer's own unit; PyTorch's ``lr``."""
    betas: tuple[Beta, Beta] | None = None
    """Decay of Adam's first and second moment a step; (0.9, 0.999) unless told."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Decay of sgd's velocity a step; 0 unless told."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Share of units zeroed at each ``nn.Dropout``; ``None`` keeps the model's own rates."""
    batch_size: Annotated[int, Field(ge=1)] = 50
    """Training examples a step."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced`` weighs a class's loss by examples / (classes * examples of the class)."""
    model: dict[str, ModelValue] = Field(default_factory=dict)
    """Keyword arguments of the objective's ``build_model``."""

    @model_validator(mode="before")
    @classmethod
    def _fill_optimizer_defaults(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        filled = dict(values)
        optimizer = filled.get("optimizer", "adam")
        if optimizer in ADAM_FAMILY and filled.get("betas") is None:
            filled["betas"] = (0.9, 0.999)
        if optimizer == "sgd" and filled.get("momentum") is None:
            filled["momentum"] = 0.0
        return filled

    @model_validator(mode="after")
    def _refuse_foreign_hyperparameters(self) -> Self:
        if self.betas is not None and self.optimizer not in ADAM_FAMILY:
            raise ValueError(f"betas belong to {sorted(ADAM_FAMILY)}, got {self.optimizer!r}")
        if self.momentum is not None and self.optimizer != "sgd":
            raise ValueError(f"momentum belongs to 'sgd', got {self.optimizer!r}")
        return self

    def to_params(self) -> dict[str, object]:
        """Return what is stored and shown: JSON values, without what the optimizer lacks."""
        return self.model_dump(mode="json", exclude_none=True)


def find_limit_mistakes(name: str, value: object) -> list[Mistake]:
    """List why a value cannot be that of the named hyperparameter; empty if it can.

    Args:
        name: A field of ``Hparams``, or ``beta1`` or ``beta2``.
        value: Judged strictly: a whole number written as text, or as 50.0, is a mistake.
    """
    owners = OPTIMIZERS_WITH.get(name)
    values: dict[str, object] = {"optimizer": min(owners) if owners else "adam"}
    if name in ("beta1", "beta2"):
        values["betas"] = (value, value)
    else:
        values[name] = value
    return find_model_mistakes(Hparams, values)
