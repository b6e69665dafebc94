"""Importance: nothing by chance, and what decides is shown."""

from collections.abc import Callable

import numpy as np
import pytest

from sweeps.analysis.effects import Standings, compare_all
from sweeps.analysis.facts import Targets, measure
from sweeps.analysis.importance import measure_importance


def stand(level: Callable[[float, float], float], *, trials: int = 40, seed: int = 3) -> Standings:
    """Return trials of two rates whose scores are ``level(dropout, momentum)``."""
    rng = np.random.default_rng(seed)
    facts = []
    for trial in range(trials):
        first, second = rng.random(2).tolist()
        score = level(first, second) + 0.01 * float(rng.standard_normal())
        params = {"optimizer": "sgd", "dropout": first, "momentum": second, "learning_rate": 0.1}
        facts.append(
            measure(
                trial,
                [score],
                train_losses=[0.5],
                val_losses=[0.5],
                targets=Targets(),
                params=params,
            )
        )
    return compare_all(facts)


def test_what_decides_is_above_chance_and_the_idle_one_is_not_shown() -> None:
    found = measure_importance(stand(lambda dropout, _: dropout))
    assert found is not None
    assert list(found.shares) == ["dropout"]
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert "Not above chance: momentum" in found.text


def test_idle_hyperparameters_are_rarely_important() -> None:
    found = [measure_importance(stand(lambda *_: 0.5, seed=seed)) for seed in range(12)]
    assert sum(each is not None for each in found) <= 2


def test_few_trials_tell_nothing() -> None:
    assert measure_importance(stand(lambda dropout, _: dropout, trials=12)) is None


def test_importance_writes_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure_importance(stand(lambda dropout, _: dropout)) is not None
    assert capsys.readouterr() == ("", "")
