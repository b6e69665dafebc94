"""The ranges that hyperparameters are sampled from, and the way through Optuna and back.

Knows which hyperparameter is sampled when; knows no sampler, no file and no objective.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from search_spaces.hparams import (
    OPTIMIZERS,
    OPTIMIZERS_WITH,
    SCHEDULES,
    SCHEDULES_WITH,
    Hparams,
    find_limit_mistakes,
)
from search_spaces.mistakes import Mistake, Mistakes, list_mistakes, suggest_names
from search_spaces.ranges import (
    Range,
    Spec,
    TrialLike,
    describe_spec,
    draw,
    find_spec_mistakes,
)

__all__ = [
    "Range",
    "SearchSpace",
    "Spec",
    "TrialLike",
    "describe_spec",
    "find_known_keys",
    "find_spec_mistakes",
    "parse_space",
]

BETAS = ("beta1", "beta2")

#: PyTorch's, where a space names one of the two.
_DEFAULT_BETAS: Mapping[str, float] = {"beta1": 0.9, "beta2": 0.999}

#: What is never a range: names, and the batch size, because trials of one size share a program.
_NEVER_RANGES = frozenset({"optimizer", "nesterov", "schedule", "batch_size", "class_weights"})
_WHOLE_NUMBERS = frozenset({"plateau_patience", "schedule_epochs", "step_epochs", "warmup_epochs"})

#: In this order, or a sampler with a seed would draw other values than in earlier versions.
_DRAWN = (
    "learning_rate", "momentum", "dropout", "batch_size", "class_weights", "nesterov", "rho",
    "weight_decay", "clip_norm", "label_smoothing", *SCHEDULES_WITH,
    "sufficient_decrease", "shrink",
)  # fmt: skip


class SearchSpace(BaseModel):
    """What may vary in a study; ``None`` leaves a hyperparameter at the default of ``Hparams``.

    What a trial's optimizer (``OPTIMIZERS_WITH``) or schedule (``SCHEDULES_WITH``) does not have
    is not sampled for it. Optuna
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
    nesterov: Spec | None = None
    rho: Spec | None = None
    sufficient_decrease: Spec | None = None
    shrink: Spec | None = None
    weight_decay: Spec | None = None
    clip_norm: Spec | None = None
    schedule: Spec | None = None
    factor: Spec | None = None
    plateau_patience: Spec | None = None
    schedule_epochs: Spec | None = None
    step_epochs: Spec | None = None
    warmup_epochs: Spec | None = None
    dropout: Spec | None = None
    batch_size: Spec | None = None
    """A number or a list, never a range: trials of one batch size can share a program."""
    class_weights: Spec | None = None
    label_smoothing: Spec | None = None
    model: dict[str, Spec] = Field(default_factory=dict)

    @field_validator("optimizer", *BETAS, "schedule", *_DRAWN)
    @classmethod
    def _check_limits(cls, spec: Spec | None, info: ValidationInfo) -> Spec | None:
        assert info.field_name is not None
        name = info.field_name
        if isinstance(spec, Range) and name in _NEVER_RANGES:
            raise Mistakes([Mistake((), "takes a value or a list of choices, not a range")])
        if isinstance(spec, Range) and name in _WHOLE_NUMBERS and not spec.is_int:
            raise Mistakes([Mistake((), "takes whole numbers; add int = true")])
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

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules of the learning rate that a trial can have."""
        if OPTIMIZERS_WITH["schedule"].isdisjoint(self.optimizers):
            return ("constant",)
        return _list_names(self.schedule, default="constant")

    def suggest(self, trial: TrialLike) -> Hparams:
        """Return the trial's hyperparameters, asking it for those that vary and apply."""
        optimizer = str(draw(trial, "optimizer", self.optimizer or "adam"))
        schedule = "constant"
        if optimizer in OPTIMIZERS_WITH["schedule"]:
            schedule = str(draw(trial, "schedule", self.schedule or "constant"))
        values: dict[str, Any] = {"optimizer": optimizer, "schedule": schedule}
        for name in _DRAWN:
            spec = getattr(self, name)
            if spec is not None and _has(name, optimizer=optimizer, schedule=schedule):
                values[name] = draw(trial, name, spec, optimizer=optimizer)
        betas = {name: getattr(self, name) for name in BETAS}
        if optimizer in OPTIMIZERS_WITH["beta1"] and betas != {"beta1": None, "beta2": None}:
            values["betas"] = tuple(
                _draw_beta(trial, name, spec, optimizer=optimizer) for name, spec in betas.items()
            )
        values["model"] = {
            name: draw(trial, f"model.{name}", spec, optimizer=optimizer)
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
            only = self._find_owners(name)
            if spec is not None and only is not None:
                lines.append((name, describe_spec(spec, is_beta=name in BETAS) + only))
        return lines

    def _find_owners(self, name: str) -> str | None:
        """Return ", sgd only" or ", not armijo" where some trials lack it, None where all do."""
        text = ""
        for possible, known in (
            (self.optimizers, OPTIMIZERS_WITH.get(name, OPTIMIZERS)),
            (self.schedules, SCHEDULES_WITH.get(name, SCHEDULES)),
        ):
            owners = [one for one in possible if one in known]
            if not owners:
                return None
            lacking = [one for one in possible if one not in known]
            if lacking == ["armijo"] and len(owners) > 1:
                text += ", not armijo"
            elif lacking:
                text += f", {'/'.join(owners)} only"
        return text

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


def _draw_beta(trial: TrialLike, name: str, spec: Spec | None, *, optimizer: str) -> float:
    if isinstance(spec, Range) and optimizer in spec.by_optimizer:
        own = spec.by_optimizer[optimizer]
        return _draw_beta(trial, f"{name}_{optimizer}", own, optimizer="")
    if not isinstance(spec, Range):
        return float(draw(trial, name, _DEFAULT_BETAS[name] if spec is None else spec))
    # 0.99 and 0.999 average over 100 and 1000 steps: even steps of beta would hardly visit the
    # second. Decimal, because 1 - 0.99 is 0.010000000000000009 in binary.
    low, high = (float(1 - Decimal(str(beta))) for beta in (spec.high, spec.low))
    distance = trial.suggest_float(f"one_minus_{name}", low, high, log=True)
    return min(max(1.0 - distance, spec.low), spec.high)


def _has(name: str, *, optimizer: str, schedule: str) -> bool:
    return optimizer in OPTIMIZERS_WITH.get(name, OPTIMIZERS) and schedule in SCHEDULES_WITH.get(
        name, SCHEDULES
    )


def _list_optimizers(spec: Spec | None) -> tuple[str, ...]:
    return _list_names(spec, default="adam")


def _list_names(spec: Spec | None, *, default: str) -> tuple[str, ...]:
    names = spec if isinstance(spec, tuple) else (default if spec is None else spec,)
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
