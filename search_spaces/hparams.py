"""The table of hyperparameters, one row each, which is also the checked record of one trial.

A new hyperparameter is one field of ``Hparams`` here, and one line where it acts. Knows nothing of
ranges, of sampling or of files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import NoneType
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from search_spaces.mistakes import Mistake, list_mistakes

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
#: What stands before the name of a model's argument.
MODEL = "model."


@dataclass(frozen=True)
class Row:
    """What is known of a hyperparameter, or of an argument of an objective's model.

    Attributes:
        optimizers: Optimizers whose trials have it.
        schedules: Schedules of the learning rate whose trials have it.
        is_beta: Its distance to 1 is what matters: Optuna samples that, on a log scale.
        has_ranges: A space may give a range of it, if it is a number.
        unit: What its numbers count.
        name: Its name in a sweep file.
        kind: Its type with its limits, as Pydantic reads them.
        default: Its value unless told; of a trial that does not have it None, if it may be None.
        meaning: What it does.
    """

    optimizers: frozenset[str] = frozenset(OPTIMIZERS)
    schedules: frozenset[str] = frozenset(SCHEDULES)
    is_beta: bool = False
    has_ranges: bool = True
    unit: str = ""
    name: str = ""
    kind: Any = ModelValue
    default: ModelValue | None = None
    meaning: str = ""

    @property
    def absent(self) -> ModelValue | None:
        """Its value in a trial that does not have it."""
        return None if NoneType in get_args(_unwrap(self.kind)) else self.default

    @cached_property
    def base(self) -> Any:
        """The type of its values, without limits and None: ``int``, ``float``, ``bool``, ..."""
        kind = _unwrap(self.kind)
        return _unwrap(get_args(kind)[0]) if NoneType in get_args(kind) else kind

    def is_of(self, optimizer: str, schedule: str) -> bool:
        """Return whether trials of an optimizer and a schedule have it."""
        return optimizer in self.optimizers and schedule in self.schedules

    def find_mistakes(self, value: object) -> list[Mistake]:
        """List why it cannot have a value, strictly: a whole number is neither "50" nor 50.0."""
        try:
            self._adapter.validate_python(value, strict=True)
        except ValidationError as error:
            return [one._replace(path=()) for one in list_mistakes(error, self.kind)]
        return []

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.kind, config=ConfigDict(allow_inf_nan=False))


def _unwrap(kind: Any) -> Any:
    return _unwrap(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
#: A share that never reaches 1.
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]

_RATED = Row(optimizers=frozenset(RATED))
_BETA = Row(optimizers=ADAM_FAMILY, is_beta=True)


class Hparams(BaseModel):
    """A trial's hyperparameters; ``None`` is what its optimizer or its schedule does not have.

    A sampler is asked in the order of the fields.

    Raises:
        pydantic.ValidationError: If a value is outside its limits, or if the trial's optimizer or
            schedule does not have it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    optimizer: OptimizerName = "adam"
    """PyTorch's optimizer; ``armijo`` is gradient descent with a line search."""
    schedule: Annotated[ScheduleName, _RATED] = "constant"
    """How the learning rate changes from epoch to epoch."""
    learning_rate: Annotated[Positive | None, _RATED] = 1e-3
    """Step size, in the optimizer's own unit; PyTorch's ``lr``. A schedule multiplies it."""
    momentum: Annotated[Share | None, Row(optimizers=frozenset({"sgd", "rmsprop"}))] = 0.0
    """Decay of the velocity per step."""
    dropout: Share | None = None
    """Share of units zeroed at each ``nn.Dropout``; unless told, the model's own rates."""
    batch_size: Annotated[Count, Row(has_ranges=False, unit="examples")] = 50
    """Training examples per step. Never a range: trials of one batch size share a program."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced`` weights a class's loss by examples / (classes * examples of the class)."""
    nesterov: Annotated[bool | None, Row(optimizers=frozenset({"sgd"}))] = False
    """Whether sgd looks ahead along its velocity; without momentum it has no effect."""
    rho: Annotated[Share | None, Row(optimizers=frozenset({"adadelta"}))] = 0.9
    """Decay of adadelta's two averages per step."""
    weight_decay: Annotated[NotNegative, _RATED] = 0.0
    """L2 penalty, added to the gradient times the weight; adamw shrinks the weights instead, by
    ``learning_rate * weight_decay``. 0 is off, for adamw too, where PyTorch has 0.01."""
    clip_norm: Annotated[Positive | None, _RATED] = None
    """Largest L2 norm of the gradient of all weights; unless told, nothing is clipped."""
    label_smoothing: Share = 0.0
    """Share of a training target that is spread evenly over all classes; 0 is off."""
    factor: Annotated[
        Annotated[float, Field(gt=0.0, lt=1.0)] | None,
        Row(schedules=frozenset({"plateau", "step"})),
    ] = 0.1
    """Factor by which plateau and step multiply the learning rate."""
    plateau_patience: Annotated[
        Annotated[int, Field(ge=0)] | None,
        Row(schedules=frozenset({"plateau"}), unit="epochs"),
    ] = 10
    """Epochs without a lower validation loss before plateau lowers the rate."""
    schedule_epochs: Annotated[
        Count | None, Row(schedules=frozenset({"cosine"}), unit="epochs")
    ] = 40
    """Epochs in which cosine falls to 0, before it rises again; a sweep sets ``max_epochs``."""
    step_epochs: Annotated[Count | None, Row(schedules=frozenset({"step"}), unit="epochs")] = 10
    """Epochs between two reductions of the rate by step."""
    warmup_epochs: Annotated[Count | None, Row(schedules=frozenset({"warmup"}), unit="epochs")] = 5
    """Epochs in which warmup raises the rate evenly from a third of it to all."""
    sufficient_decrease: Annotated[
        Annotated[float, Field(gt=0.0, lt=1.0)] | None, Row(optimizers=LINE_SEARCHES)
    ] = 0.1
    """Share of the decrease predicted by the gradient that armijo requires of a step (the c of
    Vaswani et al. 2019, "Painless stochastic gradient")."""
    shrink: Annotated[
        Annotated[float, Field(gt=0.0, le=0.9)] | None, Row(optimizers=LINE_SEARCHES)
    ] = 0.5
    """Factor by which armijo shortens a step that decreases the loss too little; above 0.9 a
    search would take hundreds of passes."""
    beta1: Annotated[Share | None, _BETA] = 0.9
    """Decay of Adam's first moment per step."""
    beta2: Annotated[Share | None, _BETA] = 0.999
    """Decay of Adam's second moment per step."""
    model: dict[str, ModelValue] = Field(default_factory=dict)
    """Keyword arguments of the objective's ``build_model``."""

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        filled = {name: value for name, value in values.items() if value is not None}
        optimizer = str(filled.get("optimizer", "adam"))
        schedule = str(filled.get("schedule", "constant"))
        for name, row in ROWS.items():
            default = row.default if row.is_of(optimizer, schedule) else row.absent
            filled.setdefault(name, default)
        return filled

    @model_validator(mode="after")
    def _refuse_foreign_hyperparameters(self) -> Self:
        trial = {"optimizer": self.optimizer, "schedule": self.schedule}
        foreign = [
            f"{name} belongs to {sorted(owners)}, got {key} {trial[key]!r}"
            for name, row in ROWS.items()
            for key, owners in (("optimizer", row.optimizers), ("schedule", row.schedules))
            if trial[key] not in owners and getattr(self, name) != row.absent
        ]
        if foreign:
            raise ValueError("; ".join(foreign))
        return self

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Return the record of a table under the names of a sweep file; see ``to_values``."""
        own = {name: value for name, value in values.items() if not name.startswith(MODEL)}
        model = {name.removeprefix(MODEL): values[name] for name in values if name not in own}
        return cls(**own, model=model)

    @property
    def betas(self) -> tuple[float, float] | None:
        """PyTorch's ``betas``; None where the optimizer has none."""
        return None if self.beta1 is None or self.beta2 is None else (self.beta1, self.beta2)

    def to_params(self) -> dict[str, Any]:
        """Return what is stored: JSON values, without what the trial does not have."""
        values = self.model_dump(mode="json", exclude_none=True)
        kind = self.optimizer, self.schedule
        return {name: value for name, value in values.items() if find_row(name).is_of(*kind)}

    def to_values(self) -> dict[str, Any]:
        """Return the same under the names of a sweep file: ``model.filters``."""
        return flatten(self.to_params())


def flatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters in one table, those of the model as ``model.NAME``."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        own = value.items() if isinstance(value, Mapping) else None
        flat |= {name: value} if own is None else {f"{name}.{key}": one for key, one in own}
    return flat


def find_row(name: str) -> Row:
    """Return the row of a hyperparameter; of a model's argument, one that allows any value."""
    return ROWS.get(name) or Row(name=name)


def read_rows(model: type[BaseModel]) -> dict[str, Row]:
    """Return a row for each field of a Pydantic model, by name."""
    kinds = get_type_hints(model, include_extras=True)
    return {
        name: replace(
            next((one for one in field.metadata if isinstance(one, Row)), Row()),
            name=name,
            kind=kinds[name],
            default=field.default,
            meaning=" ".join((field.description or "").split()),
        )
        for name, field in model.model_fields.items()
    }


#: What each hyperparameter can be, by name; a trial's model has arguments of its own.
ROWS: Mapping[str, Row] = {
    name: row for name, row in read_rows(Hparams).items() if name != "model"
}
