"""The ranges that hyperparameters are sampled from, and the way through Optuna and back.

Knows which hyperparameter is sampled when; knows no sampler, no file and no objective.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Protocol, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from search_spaces.hparams import (
    OPTIMIZERS,
    OPTIMIZERS_WITH,
    Hparams,
    ModelValue,
    find_limit_mistakes,
)
from search_spaces.mistakes import Mistake, Mistakes, list_mistakes, show_value, suggest_names

BETAS = ("beta1", "beta2")

#: PyTorch's, where a space names one of the two.
_DEFAULT_BETAS: Mapping[str, float] = {"beta1": 0.9, "beta2": 0.999}


class TrialLike(Protocol):
    """What a space needs of an Optuna trial; ``optuna.trial.BaseTrial`` has it."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number in [low, high]."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Return a whole number in [low, high]."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""


def _check_scalar(value: object) -> ModelValue:
    # A plain validator, because Pydantic reports each member of a union that does not fit.
    if isinstance(value, float) and not math.isfinite(value):
        raise Mistakes([Mistake((), f"must be a finite number, got {value}")])
    if isinstance(value, bool | int | float | str):
        return value
    text = f"must be a number, a text, true or false, got {show_value(value)}"
    raise Mistakes([Mistake((), text)])


def _refuse_repeats(choices: tuple[ModelValue, ...]) -> tuple[ModelValue, ...]:
    repeated = [str(choice) for i, choice in enumerate(choices) if choice in choices[:i]]
    if repeated:
        raise Mistakes([Mistake((), f"names a choice twice: {', '.join(repeated)}")])
    return choices


def _find_kind(value: object) -> str:
    if isinstance(value, Mapping | Range):
        return "(range)"
    return "(choices)" if isinstance(value, list | tuple) else "(fixed)"


class Range(BaseModel):
    """A range of numbers, both ends included.

    Raises:
        pydantic.ValidationError: If the range is empty, or its scale does not fit its ends.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )

    low: float
    high: float
    log: bool = False
    """Sample the logarithm evenly; ``low`` must be > 0. Betas always are, as 1 - beta."""
    is_int: bool = Field(default=False, alias="int")
    """Whole numbers only; written ``int`` in a sweep file."""
    step: Annotated[float, Field(gt=0.0)] | None = None
    """Distance of neighbouring values; must divide the range."""
    by_optimizer: dict[str, "Annotated[OwnFixed | OwnRange, Discriminator(_find_kind)]"] = Field(
        default_factory=dict
    )
    """An optimizer's own range or fixed value; ``log`` and ``int`` as here unless told."""

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_scale(cls, values: object) -> object:
        own = values.get("by_optimizer") if isinstance(values, Mapping) else None
        if not isinstance(values, Mapping) or not isinstance(own, Mapping):
            return values
        scale = {key: values[key] for key in ("log", "int", "is_int") if key in values}
        # Optuna samples in steps or on a log scale, never both: a step of its own wins.
        filled = {
            name: {**({} if "step" in sub else scale), **sub} if isinstance(sub, Mapping) else sub
            for name, sub in own.items()
        }
        return {**values, "by_optimizer": filled}

    @model_validator(mode="after")
    def _check_ends(self) -> Self:
        low, high = f"{self.low:g}", f"{self.high:g}"
        texts = []
        if self.low > self.high:
            texts.append(f"is an empty range: low {low} is above high {high}")
        if self.log and self.low <= 0.0:
            texts.append(f"needs low > 0 for log = true, got {low}")
        numbers = (self.low, self.high, self.step or 1.0)
        if self.is_int and not all(number.is_integer() for number in numbers):
            texts.append(f"needs whole numbers for int = true, got {low}..{high}")
        if self.step is not None and self.log:
            texts.append("can have step or log = true, not both")
        elif self.step is not None and self.low <= self.high:
            texts.extend(_find_step_mistakes(self.low, self.high, step=self.step))
        if any(isinstance(own, Range) and own.by_optimizer for own in self.by_optimizer.values()):
            texts.append("has a by_optimizer inside by_optimizer")
        if texts:
            raise Mistakes(Mistake((), text) for text in texts)
        return self


def _find_step_mistakes(low: float, high: float, *, step: float) -> list[str]:
    # Decimal, as Optuna does: 0.3 / 0.1 is not whole in binary. Optuna would warn and lower high.
    width, exact = Decimal(str(high)) - Decimal(str(low)), Decimal(str(step))
    if width % exact == 0:
        return []
    end = float(Decimal(str(low)) + width // exact * exact)
    return [f"has a step {step:g} that does not divide {low:g}..{high:g}; use high = {end:g}"]


Scalar = Annotated[ModelValue, PlainValidator(_check_scalar)]
Fixed = Annotated[Scalar, Tag("(fixed)")]
_Several = Annotated[tuple[Scalar, ...], Field(min_length=1, strict=False)]
Choices = Annotated[_Several, AfterValidator(_refuse_repeats), Tag("(choices)")]
OwnFixed = Annotated[float, Field(strict=True), Tag("(fixed)")]
OwnRange = Annotated[Range, Tag("(range)")]
Range.model_rebuild()

#: A fixed value (not sampled), a list of choices, or a range.
Spec = Annotated[Fixed | Choices | OwnRange, Discriminator(_find_kind)]


class SearchSpace(BaseModel):
    """What may vary in a study; ``None`` leaves a hyperparameter at the default of ``Hparams``.

    What a trial's optimizer does not have (``OPTIMIZERS_WITH``) is not sampled for it. Optuna
    sees ``one_minus_beta1``, ``model.NAME`` and, where an optimizer has a range of its own,
    ``learning_rate_NAME``: a group of its own for ``TPESampler(group=True)``.

    Raises:
        pydantic.ValidationError: If a range is empty or leaves the limits of ``Hparams``;
            ``parse_space`` says the same in one line each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Spec | None = None
    learning_rate: Spec | None = None
    beta1: Spec | None = None
    """Limits of beta itself; 1 - beta is sampled, on a log scale."""
    beta2: Spec | None = None
    momentum: Spec | None = None
    dropout: Spec | None = None
    batch_size: Spec | None = None
    """A number or a list, never a range: trials of one batch size can share a program."""
    class_weights: Spec | None = None
    model: dict[str, Spec] = Field(default_factory=dict)

    @field_validator(
        "optimizer", "learning_rate", "beta1", "beta2", "momentum", "dropout", "batch_size",
        "class_weights",
    )  # fmt: skip
    @classmethod
    def _check_limits(cls, spec: Spec | None, info: ValidationInfo) -> Spec | None:
        assert info.field_name is not None
        name = info.field_name
        if isinstance(spec, Range) and name in ("optimizer", "batch_size", "class_weights"):
            raise Mistakes([Mistake((), "takes a value or a list of choices, not a range")])
        mistakes = [*find_spec_mistakes(spec, lambda value: find_limit_mistakes(name, value))]
        if isinstance(spec, Range):
            optimizer = info.data.get("optimizer", OPTIMIZERS)
            mistakes += _find_range_mistakes(spec, name, optimizer=optimizer)
        if mistakes:
            raise Mistakes(mistakes)
        return spec

    @field_validator("model")
    @classmethod
    def _check_owners(cls, model: dict[str, Spec], info: ValidationInfo) -> dict[str, Spec]:
        optimizer = info.data.get("optimizer", OPTIMIZERS)
        mistakes: list[Mistake] = []
        for name, spec in model.items():
            if isinstance(spec, Range):
                found = _find_range_mistakes(spec, f"model.{name}", optimizer=optimizer)
                mistakes += [one._replace(path=(name, *one.path)) for one in found]
        if mistakes:
            raise Mistakes(mistakes)
        return model

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The optimizers that a trial can have."""
        return _list_optimizers(self.optimizer)

    def suggest(self, trial: TrialLike) -> Hparams:
        """Return the trial's hyperparameters, asking it for those that vary and apply."""
        optimizer = str(_draw(trial, "optimizer", self.optimizer or "adam"))
        values: dict[str, Any] = {"optimizer": optimizer}
        for name in ("learning_rate", "momentum", "dropout", "batch_size", "class_weights"):
            spec = getattr(self, name)
            if spec is not None and optimizer in OPTIMIZERS_WITH.get(name, OPTIMIZERS):
                values[name] = _draw(trial, name, spec, optimizer=optimizer)
        betas = {name: getattr(self, name) for name in BETAS}
        if optimizer in OPTIMIZERS_WITH["beta1"] and betas != {"beta1": None, "beta2": None}:
            values["betas"] = tuple(
                _draw_beta(trial, name, spec, optimizer=optimizer) for name, spec in betas.items()
            )
        values["model"] = {
            name: _draw(trial, f"model.{name}", spec, optimizer=optimizer)
            for name, spec in self.model.items()
        }
        return Hparams(**values)

    def hparams_from_optuna(self, params: Mapping[str, Any]) -> Hparams:
        """Return the hyperparameters of a trial of this space from its Optuna parameters.

        Raises:
            ValueError: If a parameter is missing, or is none of this space's.
        """
        recorded = _RecordedTrial(params)
        hparams = self.suggest(recorded)
        if foreign := sorted(set(params) - recorded.asked):
            raise ValueError(f"parameters of another search space: {', '.join(foreign)}")
        return hparams

    def describe(self) -> list[tuple[str, str]]:
        """List (name, text) for people: what can be sampled, and what is fixed."""
        specs = {name: getattr(self, name) for name in type(self).model_fields if name != "model"}
        specs |= {f"model.{name}": spec for name, spec in self.model.items()}
        lines = []
        for name, spec in specs.items():
            known = OPTIMIZERS_WITH.get(name, OPTIMIZERS)
            owners = [one for one in self.optimizers if one in known]
            if spec is not None and owners:
                only = "" if len(owners) == len(self.optimizers) else f", {'/'.join(owners)} only"
                lines.append((name, describe_spec(spec, is_beta=name in BETAS) + only))
        return lines

    def to_table(self) -> dict[str, Any]:
        """Return the space as it would stand in a sweep file, in JSON values."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def parse_space(values: Mapping[str, Any]) -> SearchSpace:
    """Return the search space of a plain mapping, such as a table of a sweep file.

    Raises:
        Mistakes: All mistakes at once, one line each, unknown names with the nearest known.
    """
    try:
        return SearchSpace.model_validate(values)
    except ValidationError as error:
        raise Mistakes(list_mistakes(error, find_known_keys)) from None


def find_known_keys(path: Sequence[str]) -> tuple[str, ...]:
    """List the keys that the table at a path inside a space may have."""
    if not path:
        return tuple(SearchSpace.model_fields)
    if path[-1] == "by_optimizer":
        return OPTIMIZERS
    return tuple(field.alias or name for name, field in Range.model_fields.items())


def find_spec_mistakes(
    spec: Spec | None, find_mistakes: Callable[[object], list[Mistake]]
) -> Iterator[Mistake]:
    """Yield the mistakes of each value that a spec names, with its place in the spec."""
    for path, value in _list_values(spec):
        for mistake in find_mistakes(value):
            yield mistake._replace(path=path)


def describe_spec(spec: Spec, *, is_beta: bool = False) -> str:
    """Return a spec in a few words: ``log 0.0003..0.03 (adadelta: log 0.1..5)``."""
    if isinstance(spec, tuple):
        return " | ".join(_show(choice) for choice in spec)
    if not isinstance(spec, Range):
        return _show(spec)
    scale = "1 - beta log " if is_beta else "log " if spec.log else ""
    step = "" if spec.step is None else f" step {spec.step:g}"
    text = f"{scale}{spec.low:g}..{spec.high:g}{step}{' int' if spec.is_int else ''}"
    subs = spec.by_optimizer.items()
    own = ", ".join(f"{name}: {describe_spec(sub, is_beta=is_beta)}" for name, sub in subs)
    return f"{text} ({own})" if own else text


class _RecordedTrial:
    """Answers with what another trial was given."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.asked: set[str] = set()

    def _find(self, name: str, *_: Any, **__: Any) -> Any:
        self.asked.add(name)
        if name not in self._params:
            raise ValueError(f"the trial has no parameter {name!r}; was the search space changed?")
        return self._params[name]

    suggest_float = suggest_int = suggest_categorical = _find


def _draw(trial: TrialLike, name: str, spec: Spec, *, optimizer: str = "") -> ModelValue:
    if isinstance(spec, tuple):
        choice: ModelValue = trial.suggest_categorical(name, spec)
        return choice
    if not isinstance(spec, Range):
        return spec
    if optimizer in spec.by_optimizer:
        return _draw(trial, f"{name}_{optimizer}", spec.by_optimizer[optimizer])
    if spec.is_int:
        step = int(spec.step or 1)
        return trial.suggest_int(name, int(spec.low), int(spec.high), step=step, log=spec.log)
    return trial.suggest_float(name, spec.low, spec.high, step=spec.step, log=spec.log)


def _draw_beta(trial: TrialLike, name: str, spec: Spec | None, *, optimizer: str) -> float:
    if isinstance(spec, Range) and optimizer in spec.by_optimizer:
        own = spec.by_optimizer[optimizer]
        return _draw_beta(trial, f"{name}_{optimizer}", own, optimizer="")
    if not isinstance(spec, Range):
        return float(_draw(trial, name, _DEFAULT_BETAS[name] if spec is None else spec))
    # 0.99 and 0.999 average over 100 and 1000 steps: even steps of beta would hardly visit the
    # second. Decimal, because 1 - 0.99 is 0.010000000000000009 in binary.
    low, high = (float(1 - Decimal(str(beta))) for beta in (spec.high, spec.low))
    distance = trial.suggest_float(f"one_minus_{name}", low, high, log=True)
    return min(max(1.0 - distance, spec.low), spec.high)


def _list_values(spec: Spec | None) -> Iterator[tuple[tuple[str, ...], ModelValue]]:
    if isinstance(spec, Range):
        for end in ("low", "high"):
            number = getattr(spec, end)
            yield (end,), int(number) if spec.is_int else number
        for name, own in spec.by_optimizer.items():
            for path, value in _list_values(own):
                yield ("by_optimizer", name, *path), value
    elif isinstance(spec, tuple):
        yield from (((), choice) for choice in spec)
    elif spec is not None:
        yield (), spec


def _list_optimizers(spec: Spec | None) -> tuple[str, ...]:
    names = spec if isinstance(spec, tuple) else ("adam" if spec is None else spec,)
    return tuple(str(name) for name in names)


def _find_range_mistakes(spec: Range, name: str, *, optimizer: Spec | None) -> Iterator[Mistake]:
    choices, owners = _list_optimizers(optimizer), OPTIMIZERS_WITH.get(name, OPTIMIZERS)
    if name in BETAS and (spec.is_int or spec.step is not None):
        yield Mistake((), "is sampled as 1 - beta on a log scale; remove int and step")
    for one, own in spec.by_optimizer.items():
        path = ("by_optimizer", one)
        if one not in OPTIMIZERS:
            yield Mistake(path, suggest_names(one, OPTIMIZERS), is_unknown_key=True)
        elif one not in owners:
            yield Mistake(path, f"has no use: {one} has no {name}")
        elif one not in choices:
            yield Mistake(path, f"has no use: optimizer is one of {', '.join(choices)}")
        elif isinstance(own, Range):
            for mistake in _find_range_mistakes(own, name, optimizer=optimizer):
                yield mistake._replace(path=path)


def _show(value: ModelValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
