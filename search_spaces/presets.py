"""The default search space and the default sweep settings of each objective, by name.

Plain tables, as they would stand in a sweep file: a sweep file is merged over them and checked
afterwards. Knows no torch, so that a sweep file is checked at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from search_spaces.mistakes import Mistake, Mistakes, find_model_mistakes, suggest_names
from search_spaces.space import Range, SearchSpace, find_spec_mistakes


def _require_odd(window: int) -> int:
    if window % 2 == 0:
        raise Mistakes([Mistake((), f"must be odd, got {window}; a range needs step = 2")])
    return window


class RelationCnnLimits(BaseModel):
    """Limits of the keyword arguments of ``build_model`` of relation-cnn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filters: Annotated[int, Field(ge=1)] = 100
    """Convolution filters, each of which gives one feature a sentence."""
    window: Annotated[int, Field(ge=1), AfterValidator(_require_odd)] = 3
    """Tokens that a filter sees at once; odd, so that it has a middle."""
    position_dim: Annotated[int, Field(ge=1)] = 5
    """Numbers that encode a token's distance to an entity."""
    vectors: Literal["frozen", "trainable"] = "trainable"
    """Whether the word vectors are trained."""


class TabularMlpLimits(BaseModel):
    """Limits of the keyword arguments of ``build_model`` of tabular-mlp."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_width: Annotated[int, Field(ge=1)] = 16
    """Units of each hidden layer."""
    hidden_depth: Annotated[int, Field(ge=0)] = 2
    """Hidden layers; 0 is logistic regression."""


class SequenceRnnLimits(BaseModel):
    """Limits of the keyword arguments of ``build_model`` of sequence-rnn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Literal["gru", "lstm"] = "gru"
    """The recurrent cell."""
    hidden: Annotated[int, Field(ge=1)] = 32
    """Hidden units of the recurrent layer."""


#: Search spaces by objective. Adadelta and SGD want rates about 100 times Adam's.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "relation-cnn": {
        "optimizer": ["adam", "adamax", "rmsprop", "adadelta", "sgd"],
        "learning_rate": {
            "low": 5e-4,
            "high": 1e-2,
            "log": True,
            "by_optimizer": {
                "adadelta": {"low": 0.3, "high": 3.0},
                "sgd": {"low": 0.1, "high": 1.0},
            },
        },
        "beta1": {"low": 0.8, "high": 0.99},
        "beta2": {"low": 0.99, "high": 0.9999},
        "momentum": {"low": 0.0, "high": 0.95, "by_optimizer": {"rmsprop": 0.0}},
        "dropout": {"low": 0.3, "high": 0.7},
        "batch_size": [50, 100],
        "model": {"filters": 100, "window": 3, "position_dim": 5, "vectors": "trainable"},
    },
    "tabular-mlp": {
        "optimizer": ["adam", "adamax", "rmsprop", "adadelta", "sgd"],
        "learning_rate": {
            "low": 3e-4,
            "high": 1e-2,
            "log": True,
            "by_optimizer": {
                "adadelta": {"low": 0.1, "high": 3.0},
                "sgd": {"low": 0.01, "high": 0.5},
            },
        },
        "beta1": {"low": 0.8, "high": 0.99},
        "beta2": {"low": 0.99, "high": 0.9999},
        "momentum": {"low": 0.0, "high": 0.95, "by_optimizer": {"rmsprop": 0.0}},
        "dropout": {"low": 0.0, "high": 0.3},
        "batch_size": [200],
        "model": {"hidden_width": 16, "hidden_depth": 2},
    },
    "sequence-rnn": {
        "optimizer": ["adam", "adamax", "rmsprop", "adadelta", "sgd"],
        "learning_rate": {
            "low": 1e-3,
            "high": 3e-2,
            "log": True,
            "by_optimizer": {
                "adadelta": {"low": 0.3, "high": 3.0},
                "sgd": {"low": 0.03, "high": 1.0},
            },
        },
        "beta1": {"low": 0.8, "high": 0.99},
        "beta2": {"low": 0.99, "high": 0.9999},
        "momentum": {"low": 0.0, "high": 0.95, "by_optimizer": {"rmsprop": 0.0}},
        "dropout": {"low": 0.0, "high": 0.5},
        "batch_size": [16, 32],
        "model": {"cell": ["gru", "lstm"], "hidden": 32},
    },
}

#: The search space of a person's own objective, hyperparameter by hyperparameter unless told.
OWN_SPACE: Mapping[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {
        "low": 3e-4,
        "high": 3e-2,
        "log": True,
        "by_optimizer": {
            "adadelta": {"low": 0.1, "high": 3.0},
            "sgd": {"low": 0.01, "high": 0.5},
        },
    },
    "momentum": {"low": 0.0, "high": 0.95, "by_optimizer": {"rmsprop": 0.0}},
    "batch_size": [32, 64],
}

#: Sweep settings by objective, where they differ from the defaults of ``SweepConfig``. The epochs
#: are about those of 24 trials that the pruner ``median`` ends: 251, 275 and 231
#: (``bestepoch run OBJECTIVE --trials 24 --set pruner.name=median``, seed 0).
SWEEP_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "relation-cnn": {"max_total_epochs": 250, "max_epochs": 30},
    "tabular-mlp": {"max_total_epochs": 280, "max_epochs": 30, "min_delta": 0.0005},
    "sequence-rnn": {"max_total_epochs": 230, "max_epochs": 30},
}
#: The same of a person's own objective.
OWN_SETTINGS: Mapping[str, Any] = {"max_total_epochs": 300}

#: Limits of each objective's ``[space.model]``, by objective.
MODEL_LIMITS: Mapping[str, type[BaseModel]] = {
    "relation-cnn": RelationCnnLimits,
    "tabular-mlp": TabularMlpLimits,
    "sequence-rnn": SequenceRnnLimits,
}


def find_model_space_mistakes(space: SearchSpace, objective: str) -> list[Mistake]:
    """List what is wrong with a space's ``model`` for an objective; paths start with ``model``.

    An objective without an entry in ``MODEL_LIMITS`` accepts whatever its ``build_model`` does.
    """
    limits = MODEL_LIMITS.get(objective)
    if limits is None:
        return []
    found = []
    for name, spec in space.model.items():
        if name not in limits.model_fields:
            text = suggest_names(name, limits.model_fields)
            found.append(Mistake(("model", name), text, is_unknown_key=True))
            continue
        mistakes = _find_value_mistakes(limits, name, spec)
        found += [one._replace(path=("model", name, *one.path)) for one in mistakes]
    return found


def _find_value_mistakes(limits: type[BaseModel], name: str, spec: Any) -> list[Mistake]:
    if isinstance(spec, Range) and not spec.is_int and limits.model_fields[name].annotation is int:
        return [Mistake((), "takes whole numbers; add int = true")]
    found = [*find_spec_mistakes(spec, lambda value: find_model_mistakes(limits, {name: value}))]
    if isinstance(spec, Range) and spec.is_int and not found and spec.low < spec.high:
        # The value after the lowest: both ends of 3..5 are odd, and yet the range has a 4.
        found = find_model_mistakes(limits, {name: int(spec.low + (spec.step or 1.0))})
    return found
