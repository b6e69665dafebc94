"""Hyperparameters as they are shown: what is off has its value, what varies comes first."""

from typing import Any

from search_spaces.hparams import Hparams
from sweeps.analysis.space_table import flatten
from sweeps.analysis.trial_params import fill_unstored, list_varying, name_values


def stored(**values: Any) -> dict[str, Any]:
    """As a trial's row holds them, and the table reads them."""
    return flatten(Hparams(**values).to_params())


def test_constant_rate_is_named_beside_schedules() -> None:
    shown = fill_unstored([stored(schedule="plateau"), stored(schedule="constant")])
    assert [one["schedule"] for one in shown] == ["plateau", "constant"]
    assert "schedule" in list_varying(shown)
    assert "schedule" not in fill_unstored([stored(), stored()])[0]


def test_no_clipping_is_named_whether_it_is_off_or_never_reached() -> None:
    trials = [stored(clip_norm=5.0), stored(), stored(clip_norm=1e6)]
    assert [one["clip_norm"] for one in fill_unstored(trials)] == [5.0, "none", "none"]


def test_what_is_off_has_its_value_for_the_optimizers_that_have_it() -> None:
    trials = [
        stored(optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=0.1),
        stored(optimizer="sgd", momentum=0.9),
        stored(optimizer="rmsprop"),
        stored(optimizer="armijo"),
    ]
    _, sgd, rmsprop, armijo = fill_unstored(trials)
    assert (sgd["nesterov"], sgd["weight_decay"]) == (False, 0.0)
    assert (rmsprop["momentum"], rmsprop["weight_decay"]) == (0.0, 0.0)
    assert "nesterov" not in rmsprop
    assert not {"weight_decay", "momentum", "learning_rate"} & set(armijo)


def test_what_varies_is_ordered_and_conditional_constants_do_not_vary() -> None:
    trials = fill_unstored(
        [
            stored(dropout=0.1, learning_rate=0.1, schedule="warmup", batch_size=7),
            stored(dropout=0.2, learning_rate=0.2, batch_size=11, optimizer="adamw"),
            stored(dropout=0.3, learning_rate=0.3, batch_size=11),
        ]
    )
    varying = list_varying(trials)
    assert varying == ["optimizer", "learning_rate", "dropout", "schedule", "batch_size"]
    assert list(name_values(trials[1], ["dropout"])) == ["optimizer", "learning_rate", "dropout"]
