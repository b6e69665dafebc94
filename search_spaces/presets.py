"""The default search space and the default sweep settings of each objective, by name.

Plain tables, as they would stand in a sweep file: a sweep file is merged over them and checked
afterwards. Knows no torch, so that a sweep file is checked at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from search_spaces.hparams import Count, NotNegativeCount, Row
from search_spaces.mistakes import wrong


def _require_odd(window: int) -> int:
    if window % 2 == 0:
        raise wrong(f"must be odd, got {window}; a range needs step = 2")
    return window


#: The arguments of ``build_model`` of each objective that ships, by objective.
ARGUMENTS: Mapping[str, Mapping[str, Row]] = {
    objective: {row.name: row for row in rows}
    for objective, rows in {
        "relation-cnn": (
            Row(
                name="filters",
                kind=Count,
                default=100,
                meaning="Convolution filters, each of which gives one feature a sentence.",
            ),
            Row(
                name="window",
                kind=Annotated[Count, AfterValidator(_require_odd)],
                default=3,
                unit="tokens",
                meaning="Tokens that a filter sees at once; odd, so that it has a middle.",
            ),
            Row(
                name="position_dim",
                kind=Count,
                default=5,
                meaning="Numbers that encode a token's distance to an entity.",
            ),
            Row(
                name="vectors",
                kind=Literal["frozen", "trainable"],
                default="trainable",
                meaning="Whether the word vectors are trained.",
            ),
        ),
        "tabular-mlp": (
            Row(
                name="hidden_width", kind=Count, default=16, meaning="Units of each hidden layer."
            ),
            Row(
                name="hidden_depth",
                kind=NotNegativeCount,
                default=2,
                meaning="Hidden layers; 0 is logistic regression.",
            ),
        ),
        "sequence-rnn": (
            Row(
                name="cell",
                kind=Literal["gru", "lstm"],
                default="gru",
                meaning="The recurrent cell.",
            ),
            Row(
                name="hidden",
                kind=Count,
                default=32,
                meaning="Hidden units of the recurrent layer.",
            ),
        ),
    }.items()
}

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
