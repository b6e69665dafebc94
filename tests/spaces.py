"""Two spaces that samplers are tested on."""

from typing import Any

#: Parameters that only some trials have, and choices.
MIXED: dict[str, Any] = {
    "optimizer": ["adam", "rmsprop", "sgd"],
    "learning_rate": {
        "low": 1e-4,
        "high": 1.0,
        "log": True,
        "by_optimizer": {"sgd": {"low": 0.01, "high": 100.0}},
    },
    "beta1": {"low": 0.8, "high": 0.99},
    "momentum": {"low": 0.0, "high": 0.95},
    "batch_size": [50, 100],
}
#: Numbers that each trial has, and a choice.
PLAIN: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
    "beta1": {"low": 0.8, "high": 0.99},
    "dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
    "batch_size": [50, 100],
}
