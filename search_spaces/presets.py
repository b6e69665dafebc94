"""The default search space and the default sweep settings of each objective, by name.

Plain tables, as they would stand in a sweep file: a sweep file is merged over them and checked
afterwards. Knows no torch, so that a sweep file is checked at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from search_spaces.hparams import Count, Row, read_rows
from search_spaces.mistakes import wrong


def _require_odd(window: int) -> int:
    if window % 2 == 0:
        raise wrong(f"must be odd, got {window}; a range needs step = 2")
    return window


class _Arguments(BaseModel):
    """The arguments of an objective's ``build_model``, with their limits and defaults."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class _RelationCnn(_Arguments):
    filters: Count = 100
    """Convolution filters, each of which gives one feature a sentence."""
    window: Annotated[Count, AfterValidator(_require_odd)] = 3
    """Tokens that a filter sees at once; odd, so that it has a middle."""
    position_dim: Count = 5
    """Numbers that encode a token's distance to an entity."""
    vectors: Literal["frozen", "trainable"] = "trainable"
    """Whether the word vectors are trained."""


class _TabularMlp(_Arguments):
    hidden_width: Count = 16
    """Units of each hidden layer."""
    hidden_depth: Annotated[int, Field(ge=0)] = 2
    """Hidden layers; 0 is logistic regression."""


class _SequenceRnn(_Arguments):
    cell: Literal["gru", "lstm"] = "gru"
    """The recurrent cell."""
    hidden: Count = 32
    """Hidden units of the recurrent layer."""


#: The arguments of ``build_model`` of each objective that ships.
ARGUMENTS: Mapping[str, Mapping[str, Row]] = {
    "relation-cnn": read_rows(_RelationCnn),
    "tabular-mlp": read_rows(_TabularMlp),
    "sequence-rnn": read_rows(_SequenceRnn),
}


def _rates(low: float, high: float, **own: tuple[float, float]) -> dict[str, Any]:
    """Return a range of learning rates, and those of optimizers that want others."""
    ranges = {name: {"low": ends[0], "high": ends[1]} for name, ends in own.items()}
    return {"low": low, "high": high, "log": True, "by_optimizer": ranges}


#: Torch's rmsprop has no momentum by default.
_MOMENTUM = {"low": 0.0, "high": 0.95, "by_optimizer": {"rmsprop": 0.0}}
_SHARED: Mapping[str, Any] = {
    "optimizer": ["adam", "adamax", "rmsprop", "adadelta", "sgd"],
    "beta1": {"low": 0.8, "high": 0.99},
    "beta2": {"low": 0.99, "high": 0.9999},
    "momentum": _MOMENTUM,
}

#: Search spaces by objective. Adadelta and SGD want rates about 100 times Adam's.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "relation-cnn": {
        **_SHARED,
        "learning_rate": _rates(5e-4, 1e-2, adadelta=(0.3, 3.0), sgd=(0.1, 1.0)),
        "dropout": {"low": 0.3, "high": 0.7},
        "batch_size": [50, 100],
        "model": {"filters": 100, "window": 3, "position_dim": 5, "vectors": "trainable"},
    },
    "tabular-mlp": {
        **_SHARED,
        "learning_rate": _rates(3e-4, 1e-2, adadelta=(0.1, 3.0), sgd=(0.01, 0.5)),
        "dropout": {"low": 0.0, "high": 0.3},
        "batch_size": [200],
        "model": {"hidden_width": 16, "hidden_depth": 2},
    },
    "sequence-rnn": {
        **_SHARED,
        "learning_rate": _rates(1e-3, 3e-2, adadelta=(0.3, 3.0), sgd=(0.03, 1.0)),
        "dropout": {"low": 0.0, "high": 0.5},
        "batch_size": [16, 32],
        "model": {"cell": ["gru", "lstm"], "hidden": 32},
    },
}
#: The search space of a person's own objective, hyperparameter by hyperparameter unless told.
OWN_SPACE: Mapping[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": _rates(3e-4, 3e-2, adadelta=(0.1, 3.0), sgd=(0.01, 0.5)),
    "momentum": _MOMENTUM,
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
