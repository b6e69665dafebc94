"""Our writing of Optuna's trials against Optuna's own, row by row as Optuna reads them back."""

import math
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from storage.database import Database, open_database
from storage.optuna_writes import Ending, create_trials, end_trials, report

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-5, 1.0, log=True),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "width": IntDistribution(8, 64, step=8),
    "optimizer": CategoricalDistribution(("adam", None, 3, True)),
}
PARAMS: list[dict[str, Any]] = [
    {"rate": 0.001, "dropout": 0.3, "width": 16, "optimizer": "adam"},
    {"optimizer": None, "rate": 1.0},
    {},
]


def template(params: dict[str, Any]) -> FrozenTrial:
    kept = {name: DISTRIBUTIONS[name] for name in params}
    return create_trial(state=TrialState.RUNNING, params=params, distributions=kept)


def new_study(storage: RDBStorage, name: str) -> optuna.Study:
    return optuna.create_study(study_name=name, storage=storage, direction="maximize")


def comparable(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """All that a trial holds but its key and its times."""
    kept = []
    for trial in trials:
        fields = dict(vars(trial))
        del fields["_trial_id"]
        for moment in ("_datetime_start", "datetime_complete"):
            fields[moment] = fields[moment] is not None
        fields["order"] = list(trial.params)
        kept.append(fields)
    return kept


def read_with_optuna(db: Database, name: str) -> list[FrozenTrial]:
    """The trials as a process sees them that knows nothing of ours."""
    plain = RDBStorage(db.url)
    try:
        return optuna.load_study(study_name=name, storage=plain).get_trials()
    finally:
        plain.remove_session()
        plain.engine.dispose()


@pytest.mark.parametrize("before", [0, 2])
def test_created_trials_are_those_that_optuna_creates(storage_url: str, before: int) -> None:
    with open_database(storage_url, create=True) as db:
        storage = db.optuna_storage()
        theirs, ours = new_study(storage, "theirs"), new_study(storage, "ours")
        for study in (theirs, ours):
            for _ in range(before):
                study.add_trial(template({"width": 8}))
        for params in PARAMS:
            storage.create_new_trial(theirs._study_id, template(params))
        with db.write() as connection:
            numbers = create_trials(connection, ours._study_id, [template(p) for p in PARAMS])
        assert numbers == [before, before + 1, before + 2]
        assert comparable(read_with_optuna(db, "ours")) == comparable(theirs.trials)
        # Optuna goes on from there.
        assert ours.ask().number == before + 3


def test_creating_none_writes_nothing(storage_url: str) -> None:
    with open_database(storage_url, create=True) as db:
        study = new_study(db.optuna_storage(), "ours")
        with db.write() as connection:
            assert create_trials(connection, study._study_id, []) == []
        assert study.trials == []


def test_reports_are_those_that_optuna_writes_and_replace_what_is_there(
    storage_url: str,
) -> None:
    with open_database(storage_url, create=True) as db:
        storage = db.optuna_storage()
        theirs, ours = new_study(storage, "theirs"), new_study(storage, "ours")
        values = {0: (1, 0.25), 1: (2, 1 / 3)}
        for study in (theirs, ours):
            for number in range(3):
                study.add_trial(template({}))
                storage.set_trial_intermediate_value(study.trials[number]._trial_id, 1, 0.125)
        for number, (step, value) in values.items():
            trial_id = theirs.trials[number]._trial_id
            storage.set_trial_intermediate_value(trial_id, step, value)
        with db.write() as connection:
            report(connection, ours._study_id, values)
        assert comparable(read_with_optuna(db, "ours")) == comparable(theirs.trials)


def test_ends_are_those_that_optuna_is_told(storage_url: str) -> None:
    endings = {
        0: Ending(TrialState.COMPLETE, 0.75, 4, 0.75),
        1: Ending(TrialState.PRUNED, 0.5, 3, 0.5),
        2: Ending(TrialState.FAIL, None, 0, None),
        3: Ending(TrialState.COMPLETE, 0.0, 1, None),
        4: Ending(TrialState.PRUNED, None, 2, None),
    }
    with open_database(storage_url, create=True) as db:
        storage = db.optuna_storage()
        theirs, ours = new_study(storage, "theirs"), new_study(storage, "ours")
        for study in (theirs, ours):
            for _ in range(6):
                study.add_trial(template({"rate": 0.1}))
        for number, ending in endings.items():
            if ending.best is not None:
                trial_id = theirs.trials[number]._trial_id
                storage.set_trial_intermediate_value(trial_id, ending.steps, ending.best)
            # Optuna takes a pruned trial's value from its last step, and refuses one.
            value = ending.value if ending.state == TrialState.COMPLETE else None
            theirs.tell(number, value, state=ending.state)
        with db.write() as connection:
            end_trials(connection, ours._study_id, endings)
        assert comparable(read_with_optuna(db, "ours")) == comparable(theirs.trials)
        assert ours.trials[5].state == TrialState.RUNNING


def test_a_pruned_trial_has_its_best_at_the_latest_step_that_any_attempt_reported(
    sqlite_url: str,
) -> None:
    with open_database(sqlite_url, create=True) as db:
        storage = db.optuna_storage()
        study = new_study(storage, "ours")
        study.add_trial(template({}))
        storage.set_trial_intermediate_value(study.trials[0]._trial_id, 8, 0.9)
        with db.write() as connection:
            ending = Ending(TrialState.PRUNED, 0.5, 3, 0.5)
            end_trials(connection, study._study_id, {0: ending})
        (trial,) = read_with_optuna(db, "ours")
        assert (trial.value, trial.intermediate_values) == (0.5, {8: 0.5})


def test_a_trial_that_has_ended_is_left_as_it_is(sqlite_url: str) -> None:
    with open_database(sqlite_url, create=True) as db:
        study = new_study(db.optuna_storage(), "ours")
        study.tell(study.ask(), 0.5)
        before = comparable(study.trials)
        with db.write() as connection:
            end_trials(connection, study._study_id, {0: Ending(TrialState.COMPLETE, 0.9, 3, 0.9)})
            report(connection, study._study_id, {0: (1, 0.9)})
        assert comparable(read_with_optuna(db, "ours")) == before


def test_a_thousand_trials_are_created_reported_and_ended(sqlite_url: str) -> None:
    count = 1100  # more than a statement can name
    with open_database(sqlite_url, create=True) as db:
        study = new_study(db.optuna_storage(), "ours")
        with db.write() as connection:
            create_trials(connection, study._study_id, [template(PARAMS[0])] * count)
            report(connection, study._study_id, dict.fromkeys(range(count), (1, 0.5)))
            ending = Ending(TrialState.COMPLETE, 0.75, 2, 0.75)
            end_trials(connection, study._study_id, dict.fromkeys(range(count), ending))
        trials = read_with_optuna(db, "ours")
        assert [trial.number for trial in trials] == list(range(count))
        assert {trial.value for trial in trials} == {0.75}
        assert all(trial.intermediate_values == {1: 0.5, 2: 0.75} for trial in trials)
        assert not math.isnan(trials[-1].duration.total_seconds())
