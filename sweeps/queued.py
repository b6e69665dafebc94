"""Trials that go first: those that a person named, another study's best, the points of a grid.

They wait in Optuna's own tables, and ``ask`` takes the one with the lowest number. Optuna hands
such trials out twice where asks race (18 of 300 on SQLite); here every ask and every call of this
module holds the study's lock.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.hparams import Hparams
from search_spaces.space import SearchSpace
from storage import queries
from storage.database import StorageError
from sweeps.config import SweepConfig
from sweeps.config_errors import ConfigError
from sweeps.fixed_trials import (
    drop_foreign_values,
    find_parameters,
    flatten_values,
    pin_values,
)
from sweeps.samplers import to_distribution

#: A queued trial's attribute: its values by hyperparameter, as a person writes them.
FIXED_ATTRIBUTE = "fixed"
#: A study's attribute: the studies that it was warm-started from.
WARM_START_ATTRIBUTE = "warm_started_from"
#: Configurations that a warm start takes.
NUM_WARM_START = 5


def queue_first_trials(study: optuna.Study, config: SweepConfig, url: str) -> None:
    """Queue the trials of ``try`` and then those of ``warm_start``, each once in a study's life.

    Args:
        study: The study; the caller holds its lock.
        config: The sweep's settings.
        url: The database, where the study of ``warm_start`` is.
    """
    trials = study.get_trials(deepcopy=False)
    known = [trial.user_attrs.get(FIXED_ATTRIBUTE) for trial in trials]
    for values in config.tries:
        if values not in known:
            _queue(study, values)
            known.append(values)
    started_from = study.user_attrs.get(WARM_START_ATTRIBUTE, [])
    if config.warm_start is None or config.warm_start in started_from:
        return
    for values, _, _ in read_warm_start(config, url):
        if values not in known:
            _queue(study, values)
            known.append(values)
    # Remembered by name: the other study may go on, and its best five may change.
    study.set_user_attr(WARM_START_ATTRIBUTE, [*started_from, config.warm_start])


def read_warm_start(config: SweepConfig, url: str) -> list[tuple[dict[str, Any], list[str], int]]:
    """Return the best configurations of the study of ``warm_start``, the best first.

    By the score at the best epoch; of equal configurations the first. Their scores are left
    behind: other data, other epochs or another seed may have made them. Does not write.

    Returns:
        For each: its values that this space can take, the names of those that it cannot, and its
        number in the other study.

    Raises:
        ConfigError: If there is no such study, or if it has no score yet.
    """
    assert config.warm_start is not None
    try:
        frame = queries.results(url, config.warm_start)
    except StorageError as error:
        raise ConfigError([f"warm_start: {error}"]) from None
    best: list[tuple[dict[str, Any], list[str], int]] = []
    for number in frame.loc[frame["rank"].notna(), "trial"]:
        params = queries.trial(url, config.warm_start, int(number))["params"]
        values, dropped = drop_foreign_values(
            flatten_values(params), config.space, config.objective
        )
        if values and values not in [one for one, _, _ in best]:
            best.append((values, dropped, int(number)))
        if len(best) == NUM_WARM_START:
            break
    if not best:
        raise ConfigError([f"warm_start: no trial of study {config.warm_start!r} has a score"])
    return best


def describe_warm_start(config: SweepConfig, url: str) -> str:
    """Return one line for people: which trials are trained again, and what of them is dropped."""
    best = read_warm_start(config, url)
    numbers = ", ".join(str(number) for _, _, number in best)
    names = dict.fromkeys(name for _, dropped, _ in best for name in dropped)
    text = f"trials {numbers} of {config.warm_start} are trained here first"
    return f"{text}; not taken by this space and left out: {', '.join(names)}" if names else text


def queue_grid(
    study: optuna.Study,
    grid: Sequence[Mapping[str, Any]],
    trials: Sequence[FrozenTrial],
    *,
    num_wanted: int,
) -> int:
    """Queue the next points of a grid, so that so many trials wait; return how many wait then.

    A few at a time and not the whole grid: Optuna needs 26 ms for each (SQLite, one EPYC core),
    and reads all that wait again at each ask.
    """
    waiting = len(list_waiting(trials))
    known = {_to_key(trial.system_attrs.get("fixed_params", {})) for trial in trials}
    for point in grid:
        if waiting >= num_wanted:
            break
        if _to_key(point) not in known:
            study.enqueue_trial(dict(point))
            waiting += 1
    return waiting


def list_waiting(trials: Sequence[FrozenTrial]) -> list[int]:
    """Return the numbers of the trials that wait, in the order in which ``ask`` takes them."""
    return sorted(trial.number for trial in trials if trial.state == TrialState.WAITING)


def suggest_fixed(space: SearchSpace, trial: optuna.Trial, storage: BaseStorage) -> Hparams:
    """Return a trial's hyperparameters: the fixed values exactly, all others sampled.

    Optuna is told of the fixed values under its own names, as if it had sampled them, also of a
    number outside the range: else the samplers that learn from what all trials have in common
    would never again learn that parameter. A choice that the space does not have, and a
    hyperparameter that it fixes, have no place in Optuna's tables.
    """
    values = trial.user_attrs.get(FIXED_ATTRIBUTE, {})
    hparams = pin_values(space, values).suggest(trial)
    if not values:
        return hparams
    for parameter, value in find_parameters(space, values, trial.params):
        distribution = to_distribution(parameter)
        internal = distribution.to_internal_repr(value)
        storage.set_trial_param(trial._trial_id, parameter.name, internal, distribution)
    return hparams


def _queue(study: optuna.Study, values: Mapping[str, Any]) -> None:
    # Not enqueue_trial(): it takes Optuna's parameters, of which a fixed hyperparameter has none.
    study.add_trial(
        create_trial(state=TrialState.WAITING, user_attrs={FIXED_ATTRIBUTE: dict(values)})
    )


def _to_key(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)
