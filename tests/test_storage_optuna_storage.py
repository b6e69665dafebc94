"""Our reading of Optuna's trials against Optuna's own, trial by trial."""

import math
import time
from collections.abc import Container

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from storage.database import open_database
from storage.optuna_storage import TrialStorage


def fill(storage: RDBStorage, name: str) -> optuna.Study:
    """A study with trials of every state, of many parameters and of none."""
    sampler = optuna.samplers.RandomSampler(seed=3)
    study = optuna.create_study(study_name=name, storage=storage, sampler=sampler)
    for number in range(7):
        trial = study.ask()
        if number != 2:
            trial.suggest_float("rate", 1e-5, 1.0, log=True)
            trial.suggest_int("width", 8, 64, step=8)
            trial.suggest_categorical("optimizer", ["adam", None, 3, True])
        trial.report(math.nan if number == 1 else 0.1 * number, step=1)
        trial.report(math.inf, step=5)
        trial.set_user_attr("note", {"of": [number]})
        study._storage.set_trial_system_attr(trial._trial_id, "mark", number)
        if number == 3:
            study.tell(trial, state=TrialState.PRUNED)
        elif number == 4:
            study.tell(trial, state=TrialState.FAIL)
        elif number != 5:
            study.tell(trial, math.inf if number == 6 else 0.5)
    study.enqueue_trial({"rate": 0.5})
    return study


def comparable(trials: list[FrozenTrial]) -> list[object]:
    # As text, because NaN equals no NaN.
    return [repr(sorted(vars(trial).items())) for trial in trials]


@pytest.mark.parametrize("states", [None, (TrialState.COMPLETE, TrialState.WAITING)])
@pytest.mark.parametrize(("included", "after"), [(set(), -1), ({1, 6}, 3), (set(), 99), ({2}, 0)])
def test_trials_are_those_that_optuna_reads(
    storage_url: str,
    included: set[int],
    after: int,
    states: Container[TrialState] | None,
) -> None:
    with open_database(storage_url, create=True) as db:
        ours = db.optuna_storage()
        assert isinstance(ours, TrialStorage)
        fill(ours, "other")
        study = fill(ours, "mine")
        first = study.get_trials()[0]._trial_id
        args = (study._study_id, states, {first + each for each in included}, first + after)
        expected = RDBStorage._get_trials(ours, *args)
        assert comparable(ours._get_trials(*args)) == comparable(expected)
        if after == -1 and states is None:
            assert len(expected) == 8


def test_times_are_local_as_optuna_has_them(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        with open_database(sqlite_url, create=True) as db:
            ours = db.optuna_storage()
            study = fill(ours, "mine")
            args = (study._study_id, None, set[int](), -1)
            read = comparable(ours._get_trials(*args))
            assert read == comparable(RDBStorage._get_trials(ours, *args))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_many_running_trials_are_read_too(sqlite_url: str) -> None:
    with open_database(sqlite_url, create=True) as db:
        ours = db.optuna_storage()
        study = fill(ours, "mine")
        everyone = {trial._trial_id for trial in study.get_trials()}
        # More than a statement can name: Optuna's own reading takes over.
        many = everyone | set(range(1000, 1600))
        read = ours._get_trials(study._study_id, None, many, 1600)
        assert {trial._trial_id for trial in read} == everyone
