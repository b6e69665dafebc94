"""Which hyperparameters decide who is among the best: PED-ANOVA, against chance.

Takes a study's facts; opens no database.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.hparams import flatten
from sweeps.analysis.effects import Standings
from sweeps.read import words
from sweeps.read.params import fill_unstored, list_varying

#: Fewest trials, so that the best tenth of Optuna's evaluator is more than one.
MIN_TRIALS = 20
_SHUFFLES, _LEVEL, _SEED = 100, 0.05, 7


@dataclass(frozen=True, slots=True)
class Importance:
    """How much each hyperparameter decides who is among the best.

    Attributes:
        shares: Of those that are above chance, by name in the space, the most first; sum 1.
        chance: Share that shuffled trials exceed in 1 of 20 cases, same keys.
        num_trials: Trials that were compared.
        text: The same in a sentence or two.
    """

    shares: Mapping[str, float]
    chance: Mapping[str, float]
    num_trials: int
    text: str


def measure_importance(standings: Standings) -> Importance | None:
    """Return what is more important than after shuffling the trials; None: nothing is.

    A trial counts by its standing (``effects``), as scores of unequal epochs do not compare. The
    null is that of the largest of all hyperparameters, so that in 95 % of studies without any
    effect nothing is shown.
    """
    params = fill_unstored([flatten(each.params) for each in standings.facts])
    shared = [
        name
        for name in list_varying(params)
        if all(isinstance(one.get(name), int | float | str) for one in params)
        and not _is_mixed([one[name] for one in params])
    ]
    if len(params) < MIN_TRIALS or not shared:
        return None
    rng = np.random.default_rng(_SEED)
    with _quiet():
        evaluate = _make_evaluator(params, shared)
        found = evaluate(standings.wins)
        null = [evaluate(rng.permutation(standings.wins)) for _ in range(_SHUFFLES)]
    limit = float(np.quantile([max(each.values()) for each in null], 1 - _LEVEL))
    kept = sorted((name for name in shared if found[name] > limit), key=lambda name: -found[name])
    if not kept:
        return None
    total = sum(found[name] for name in kept)
    idle = [words.label(name) for name in shared if name not in kept]
    text = (
        f"PED-ANOVA of {len(params)} trials, compared after as many epochs: what the best tenth "
        "has in common, beyond what as many trials drawn by chance have."
    )
    if idle:
        text += f" Not above chance: {words.listing(idle)}."
    return Importance(
        shares={name: found[name] / total for name in kept},
        chance=dict.fromkeys(kept, limit / total),
        num_trials=len(params),
        text=text,
    )


def _is_mixed(values: Sequence[Any]) -> bool:
    return len({isinstance(value, str) for value in values}) > 1


def _make_evaluator(
    params: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> "Callable[[npt.NDArray[np.float64]], dict[str, float]]":
    """Return a function of the standings that gives each name's importance, all in all 1."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.importance import PedAnovaImportanceEvaluator

    spaces: dict[str, optuna.distributions.BaseDistribution] = {}
    for name in names:
        values = [one[name] for one in params]
        if any(isinstance(value, str | bool) for value in values):
            spaces[name] = CategoricalDistribution(sorted(set(values), key=str))
        else:
            low, high = float(min(values)), float(max(values))
            spaces[name] = FloatDistribution(low, high, log=low > 0 and high >= 8 * low)
    evaluator = PedAnovaImportanceEvaluator(evaluate_on_local=True)
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={
                    name: one[name]
                    if isinstance(spaces[name], CategoricalDistribution)
                    else float(one[name])
                    for name in names
                },
                distributions=spaces,
                value=0.0,
            )
            for one in params
        ]
    )

    def evaluate(wins: npt.NDArray[np.float64]) -> dict[str, float]:
        # The evaluator looks for what has low targets.
        return evaluator.evaluate(study, target=lambda trial: -float(wins[trial.number]))

    return evaluate


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out Optuna's warnings and its log."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
