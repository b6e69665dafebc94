"""Hyperparameters as they are shown."""

from typing import Any

import pandas as pd

from search_spaces.hparams import Hparams, flatten
from sweeps.read.params import (
    describe_trial,
    list_varying,
    show_params,
)

SPACE = {
    "optimizer": ["adam", "sgd", "adadelta"],
    "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
    "batch_size": [50],
}


def stored(**values: Any) -> dict[str, Any]:
    """As a trial's row holds them, and the table reads them."""
    return flatten(Hparams(**values).to_params())


def test_constant_rate_is_named_beside_schedules() -> None:
    shown = show_params([stored(schedule="plateau"), stored(schedule="constant")])
    assert [one["schedule"] for one in shown] == ["plateau", "constant"]
    assert "schedule" in list_varying(shown)
    assert "schedule" not in show_params([stored(), stored()])[0]


def test_no_clipping_is_named_whether_it_is_off_or_never_reached() -> None:
    trials = [stored(clip_norm=5.0), stored(), stored(clip_norm=1e6)]
    assert [one["clip_norm"] for one in show_params(trials)] == [5.0, "none", "none"]


def test_what_is_off_has_its_value_for_the_optimizers_that_have_it() -> None:
    trials = [
        stored(optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=0.1),
        stored(optimizer="sgd", momentum=0.9),
        stored(optimizer="rmsprop"),
        stored(optimizer="armijo"),
    ]
    _, sgd, rmsprop, armijo = show_params(trials)
    assert (sgd["nesterov"], sgd["weight_decay"]) == (False, 0.0)
    assert (rmsprop["momentum"], rmsprop["weight_decay"]) == (0.0, 0.0)
    assert "nesterov" not in rmsprop
    assert not {"weight_decay", "momentum"} & set(armijo)


def test_line_search_says_where_its_learning_rate_comes_from_beside_told_ones() -> None:
    adam, armijo = show_params([stored(learning_rate=0.01), stored(optimizer="armijo")])
    assert (adam["learning_rate"], armijo["learning_rate"]) == (0.01, "by line search")
    assert list(armijo)[:2] == ["optimizer", "learning_rate"]
    assert list_varying([adam, armijo]) == ["optimizer"]
    assert "learning_rate" not in show_params([stored(optimizer="armijo")])[0]


def test_trial_alone_is_filled_by_what_others_may_have() -> None:
    (one,) = show_params([stored()], beside={"clip_norm", "schedule"})
    assert (one["clip_norm"], one["schedule"]) == ("none", "constant")


def test_what_varies_is_ordered_and_conditional_constants_do_not_vary() -> None:
    trials = show_params(
        [
            stored(dropout=0.1, learning_rate=0.1, schedule="warmup", batch_size=7),
            stored(dropout=0.2, learning_rate=0.2, batch_size=11, optimizer="adamw"),
            stored(dropout=0.3, learning_rate=0.3, batch_size=11),
        ]
    )
    varying = list_varying(trials)
    assert varying == ["optimizer", "learning_rate", "dropout", "schedule", "batch_size"]


def test_trial_is_described_by_what_differs_and_the_only_one_by_what_was_sampled() -> None:
    texts = [
        '{"optimizer": "adam", "learning_rate": 0.01, "dropout": 0.2, "batch_size": 50}',
        '{"optimizer": "adam", "learning_rate": 0.02, "dropout": 0.2, "batch_size": 50}',
    ]
    results = pd.DataFrame({"trial": [7, 3], "params": texts})
    assert describe_trial(results, 3, SPACE) == "adam, learning rate 0.02"
    assert describe_trial(results.head(1), 7, SPACE) == "adam, learning rate 0.01, dropout 0.2"
