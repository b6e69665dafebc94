"""One typed record of a trial's hyperparameters, with units and limits.

Knows which optimizer and which schedule has which hyperparameter; knows nothing of ranges, of
sampling or of files.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.mistakes import Mistake, find_model_mistakes

OptimizerName = Literal[
    "adam", "adamw", "adamax", "nadam", "rmsprop", "adagrad", "adadelta", "sgd", "armijo"
]
ScheduleName = Literal["constant", "plateau", "cosine", "step", "warmup"]
ModelValue = bool | int | float | str

OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)
SCHEDULES: tuple[str, ...] = get_args(ScheduleName)
ADAM_FAMILY = frozenset({"adam", "adamw", "adamax", "nadam"})
LINE_SEARCHES = frozenset({"armijo"})
#: Optimizers that are told how far to go; armijo finds out.
RATED: tuple[str, ...] = tuple(name for name in OPTIMIZERS if name not in LINE_SEARCHES)

#: Which optimizers have a hyperparameter that not every optimizer has.
OPTIMIZERS_WITH: Mapping[str, frozenset[str]] = {
    "beta1": ADAM_FAMILY,
    "beta2": ADAM_FAMILY,
    "momentum": frozenset({"sgd", "rmsprop"}),
    "nesterov": frozenset({"sgd"}),
    "rho": frozenset({"adadelta"}),
    "learning_rate": frozenset(RATED),
    "weight_decay": frozenset(RATED),
    "clip_norm": frozenset(RATED),
    "schedule": frozenset(RATED),
    "sufficient_decrease": LINE_SEARCHES,
    "shrink": LINE_SEARCHES,
}

#: Which schedules have a hyperparameter of the learning rate's schedule.
SCHEDULES_WITH: Mapping[str, frozenset[str]] = {
    "factor": frozenset({"plateau", "step"}),
    "plateau_patience": frozenset({"plateau"}),
    "schedule_epochs": frozenset({"cosine"}),
    "step_epochs": frozenset({"step"}),
    "warmup_epochs": frozenset({"warmup"}),
}

#: By field: what it hangs on, which values of that have it, and its value unless told.
_OWNED: Mapping[str, tuple[str, frozenset[str], object]] = {
    "learning_rate": ("optimizer", OPTIMIZERS_WITH["learning_rate"], 1e-3),
    "betas": ("optimizer", ADAM_FAMILY, (0.9, 0.999)),
    "momentum": ("optimizer", OPTIMIZERS_WITH["momentum"], 0.0),
    "nesterov": ("optimizer", OPTIMIZERS_WITH["nesterov"], False),
    "rho": ("optimizer", OPTIMIZERS_WITH["rho"], 0.9),
    "sufficient_decrease": ("optimizer", LINE_SEARCHES, 0.1),
    "shrink": ("optimizer", LINE_SEARCHES, 0.5),
    "factor": ("schedule", SCHEDULES_WITH["factor"], 0.1),
    "plateau_patience": ("schedule", SCHEDULES_WITH["plateau_patience"], 10),
    "schedule_epochs": ("schedule", SCHEDULES_WITH["schedule_epochs"], 40),
    "step_epochs": ("schedule", SCHEDULES_WITH["step_epochs"], 10),
    "warmup_epochs": ("schedule", SCHEDULES_WITH["warmup_epochs"], 5),
}

#: What a line search does not have, and the value that says so.
_OFF: Mapping[str, object] = {"weight_decay": 0.0, "clip_norm": None, "schedule": "constant"}

#: What every trial had before the hyperparameter existed. Not stored, or the trials of an old
#: study would seem to differ from its new ones.
_UNSTORED: Mapping[str, object] = {
    "weight_decay": 0.0,
    "nesterov": False,
    "rho": 0.9,
    "schedule": "constant",
    "label_smoothing": 0.0,
}

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Epochs = Annotated[int, Field(ge=1)]


class Hparams(BaseModel):
    """A trial's hyperparameters; ``None`` is what its optimizer or its schedule does not have.

    Raises:
        pydantic.ValidationError: If a value is outside its limits, or belongs to another
            optimizer (``OPTIMIZERS_WITH``) or another schedule (``SCHEDULES_WITH``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    optimizer: OptimizerName = "adam"
    learning_rate: Annotated[float, Field(gt=0.0)] | None = None
    """Step size, in the optimizer's own unit; PyTorch's ``lr``. A schedule multiplies it. 0.001
    unless told."""
    betas: tuple[Beta, Beta] | None = None
    """Decay of Adam's first and second moment a step; (0.9, 0.999) unless told."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Decay of the velocity of sgd and rmsprop a step; 0 unless told."""
    nesterov: bool | None = None
    """Whether sgd looks ahead along its velocity; without momentum it has no effect."""
    rho: Beta | None = None
    """Decay of adadelta's two averages a step; 0.9 unless told."""
    sufficient_decrease: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of the decrease that the gradient promises which a step of armijo must bring; 0.1
    unless told (the c of Vaswani et al. 2019, "Painless stochastic gradient")."""
    shrink: Annotated[float, Field(gt=0.0, le=0.9)] | None = None
    """What armijo multiplies a step by that does not; 0.5 unless told. Above 0.9 a search would
    take hundreds of passes."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """L2 penalty, added to the gradient times the weight; adamw shrinks the weights instead, by
    ``learning_rate * weight_decay``. 0 is off, for adamw too, where PyTorch has 0.01."""
    clip_norm: Annotated[float, Field(gt=0.0)] | None = None
    """Largest L2 norm of the gradient of all weights; ``None`` never clips."""
    schedule: ScheduleName = "constant"
    """How the learning rate moves from epoch to epoch."""
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """What plateau and step multiply the rate by; 0.1 unless told."""
    plateau_patience: Annotated[int, Field(ge=0)] | None = None
    """Epochs without a better validation loss that plateau lets pass; 10 unless told."""
    schedule_epochs: Epochs | None = None
    """Epochs in which cosine falls to 0 (and then rises again); 40 unless told."""
    step_epochs: Epochs | None = None
    """Epochs between two falls of step; 10 unless told."""
    warmup_epochs: Epochs | None = None
    """Epochs in which warmup rises evenly from a third of the rate to all; 5 unless told."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Share of units zeroed at each ``nn.Dropout``; ``None`` keeps the model's own rates."""
    batch_size: Annotated[int, Field(ge=1)] = 50
    """Training examples a step."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced`` weighs a class's loss by examples / (classes * examples of the class)."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of a training target that is spread evenly over all classes; 0 is off."""
    model: dict[str, ModelValue] = Field(default_factory=dict)
    """Keyword arguments of the objective's ``build_model``."""

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        # None is off, as it is for clip_norm.
        told = {name: v for name, v in values.items() if v is not None or name not in _UNSTORED}
        filled: dict[str, Any] = {"optimizer": "adam", "schedule": "constant", **told}
        for name, (key, owners, default) in _OWNED.items():
            if str(filled[key]) in owners and filled.get(name) is None:
                filled[name] = default
        return filled

    @model_validator(mode="after")
    def _refuse_foreign_hyperparameters(self) -> Self:
        if mistakes := list(self._foreign_hyperparameters()):
            raise ValueError("; ".join(mistakes))
        return self

    def _foreign_hyperparameters(self) -> Iterator[str]:
        for name, (key, owners, _) in _OWNED.items():
            if getattr(self, name) is not None and getattr(self, key) not in owners:
                yield f"{name} belongs to {sorted(owners)}, got {key} {getattr(self, key)!r}"
        for name, off in _OFF.items():
            if self.optimizer in LINE_SEARCHES and getattr(self, name) != off:
                owners = OPTIMIZERS_WITH[name]
                yield f"{name} belongs to {sorted(owners)}, got optimizer {self.optimizer!r}"

    def to_params(self) -> dict[str, object]:
        """Return what is stored and shown: JSON values, without what the trial does not have.

        Nor is there what is off: no weight decay, no smoothing, no clipping, a constant rate,
        ``nesterov`` of false, a ``rho`` of 0.9, and rmsprop without momentum.
        """
        values = self.model_dump(mode="json", exclude_none=True)
        unstored = {**_UNSTORED, **({"momentum": 0.0} if self.optimizer == "rmsprop" else {})}
        return {
            name: value
            for name, value in values.items()
            if name not in unstored or value != unstored[name]
        }


def list_unstored(optimizer: str) -> dict[str, object]:
    """Return what a trial has where its stored hyperparameters do not say it (``to_params``).

    Args:
        optimizer: The trial's; left out is what it does not have.
    """
    off = {**_UNSTORED, "clip_norm": None}
    if optimizer == "rmsprop":
        off["momentum"] = 0.0
    owners = OPTIMIZERS_WITH
    return {name: each for name, each in off.items() if optimizer in owners.get(name, OPTIMIZERS)}


def find_limit_mistakes(name: str, value: object) -> list[Mistake]:
    """List why a value cannot be that of the named hyperparameter; empty if it can.

    Args:
        name: A field of ``Hparams``, or ``beta1`` or ``beta2``.
        value: Judged strictly: a whole number written as text, or as 50.0, is a mistake.
    """
    values: dict[str, object] = {}
    if name in OPTIMIZERS_WITH:
        values["optimizer"] = min(OPTIMIZERS_WITH[name])
    if name in SCHEDULES_WITH:
        values["schedule"] = min(SCHEDULES_WITH[name])
    if name in ("beta1", "beta2"):
        values["betas"] = (value, value)
    else:
        values[name] = value
    return find_model_mistakes(Hparams, values)
