"""Optuna's copy of a study that has run: what it says, and that it catches up."""

import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from scripted import Curve, Killed, ScriptedExecutor, make_config, run_scripted

from storage import queries, recorder
from storage.database import Database, StorageError, open_database
from storage.locations import StorageUnavailableError
from storage.optuna_mirror import OptunaMirror, optuna_storage
from sweeps.config.settings import SweepConfig
from sweeps.running.events import Event, Note, TrialEnded, TrialPromoted

NAN = math.nan
STUDY = "relation-cnn"
SWINGS = [0.1, 0.3, 0.2, 0.4, 0.35, 0.5, 0.45, 0.6, 0.55, 0.5, 0.5, 0.5]
#: Curve of each trial, and its state, value and reported bests in Optuna's copy.
TRIALS: list[tuple[Curve, TrialState, float | None, dict[int, float]]] = [
    (SWINGS, TrialState.COMPLETE, 0.6, {1: 0.1, 2: 0.3, 4: 0.4, 8: 0.6, 12: 0.6}),
    ([0.5] * 5, TrialState.COMPLETE, 0.5, {1: 0.5, 2: 0.5, 4: 0.5, 5: 0.5}),
    ([0.9, NAN], TrialState.COMPLETE, 0.0, {1: 0.9, 2: 0.9}),
    (["KeyError: 7"], TrialState.FAIL, None, {}),
    ([NAN], TrialState.COMPLETE, 0.0, {}),
]
CURVES = [each[0] for each in TRIALS]


def read_copy(url: str, study: str = STUDY) -> list[FrozenTrial]:
    with open_database(url, create=False) as db:
        return optuna.load_study(study_name=study, storage=optuna_storage(db)).trials


def test_copy_says_how_each_trial_ended(storage_url: str, folder: object) -> None:
    run_scripted(make_config(storage_url, "trials=5"), CURVES.__getitem__)
    trials = read_copy(storage_url)
    assert [trial.number for trial in trials] == list(range(5))
    for trial, (_, state, value, steps) in zip(trials, TRIALS, strict=True):
        assert (trial.state, trial.value) == (state, value)
        assert trial.intermediate_values == pytest.approx(steps)
        params = queries.trial(storage_url, STUDY, trial.number)["params"]
        assert trial.params["optimizer"] == params["optimizer"]
        names = [name for name in trial.params if name.startswith("learning_rate")]
        assert trial.params[names[0]] == params["learning_rate"]


def test_trial_behind_is_pruned_with_its_best(sqlite_url: str) -> None:
    curves = [*[[0.8] * 5] * 10, [0.3, 0.2, 0.2, 0.2, 0.2]]
    run_scripted(make_config(sqlite_url, "trials=11"), curves.__getitem__)
    last = read_copy(sqlite_url)[-1]
    assert (last.state, last.value) == (TrialState.PRUNED, pytest.approx(0.3))


def halving(url: str, *overrides: str) -> SweepConfig:
    """Return the settings of a sweep with rungs at epochs 1, 3 and 9 of 12."""
    rungs = ("pruner.name=halving", "pruner.min_epochs=1", "pruner.reduction_factor=3")
    return make_config(url, *rungs, "patience=12", *overrides)


def rise(trial: int) -> list[float]:
    """Return a curve whose rank is the same at each epoch."""
    return [round(0.1 + (trial * 5 % 13) / 100 + 0.05 * epoch, 3) for epoch in range(12)]


def test_paused_trial_runs_in_the_copy_until_it_is_left_behind(storage_url: str) -> None:
    seen: list[TrialState] = []

    def look(event: Event) -> None:
        if isinstance(event, TrialPromoted):
            seen.append(read_copy(storage_url)[event.trial].state)

    run_scripted(halving(storage_url, "trials=9"), rise, on_event=look)
    assert seen
    assert set(seen) == {TrialState.RUNNING}
    frame = queries.results(storage_url, STUDY).set_index("trial").sort_index()
    states = {"behind": TrialState.PRUNED}
    for trial in read_copy(storage_url):
        row = frame.loc[trial.number]
        assert trial.state == states.get(row["outcome"], TrialState.COMPLETE)
        assert trial.value == row["best_score"] == trial.intermediate_values[row["epochs_run"]]


def test_trial_that_a_larger_budget_goes_on_with_is_pruned_no_more(storage_url: str) -> None:
    # Trial 1 pauses at epoch 3 of 6 trials; of 12 it goes on, and turns out to be the best.
    firsts = [0.5, 0.4, 0.3, 0.2, 0.15, 0.12, *[0.1] * 6]

    def late(trial: int) -> list[float]:
        return [firsts[trial] + (0.3 if trial == 1 and i > 2 else 0) + i / 100 for i in range(12)]

    run_scripted(halving(storage_url, "max_total_epochs=19"), late)
    before = {trial.number: trial for trial in read_copy(storage_url)}
    assert before[1].state == TrialState.PRUNED
    run_scripted(halving(storage_url, "max_total_epochs=60", "trials=12"), late)
    frame = queries.results(storage_url, STUDY).set_index("trial").sort_index()
    after = {trial.number: trial for trial in read_copy(storage_url)}
    went_on = [
        n
        for n in before
        if frame.loc[n, "epochs_run"] > max(before[n].intermediate_values, default=0)
    ]
    assert set(went_on) >= {1, 2}
    assert after[1].state == TrialState.COMPLETE
    for number in set(before) - set(went_on):
        assert after[number].value == before[number].value
    for number in went_on:
        assert after[number].value == frame.loc[number, "best_score"]


def assert_copy_is_complete(url: str, count: int) -> None:
    frame = queries.results(url, STUDY).set_index("trial").sort_index()
    trials = read_copy(url)
    assert [trial.number for trial in trials] == list(frame.index) == list(range(count))
    states = {"diverged": TrialState.COMPLETE, "failed": TrialState.FAIL}
    for trial in trials:
        row = frame.loc[trial.number]
        assert trial.state == states.get(row["outcome"], TrialState.COMPLETE)
        assert trial.value == (None if row["outcome"] == "failed" else row["value"])


@pytest.mark.parametrize("method", ["begin", "report", "end"])
def test_copy_that_lags_behind_is_caught_up_by_the_next_run(
    sqlite_url: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies with our transactions committed and none of the copy's of a kind."""
    config = make_config(sqlite_url, "trials=5")
    with monkeypatch.context() as patch:
        patch.setattr(OptunaMirror, method, lambda *_: None)
        with pytest.raises(Killed):
            run_scripted(config, ScriptedExecutor(CURVES.__getitem__, killed_at=11))
    ended = queries.results(sqlite_url, STUDY)["outcome"].isin(["stalled", "diverged", "failed"])
    assert ended.sum() == 4
    run_scripted(config, CURVES.__getitem__)
    assert_copy_is_complete(sqlite_url, 5)
    last = read_copy(sqlite_url)[1]
    assert last.intermediate_values[max(last.intermediate_values)] == pytest.approx(0.5)


def test_copy_that_fails_in_a_run_is_one_note_and_caught_up_by_the_next(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise StorageError("the disk is full")

    config = make_config(sqlite_url, "trials=5")
    with monkeypatch.context() as patch:
        patch.setattr(OptunaMirror, "end", fail)
        end, events = run_scripted(config, CURVES.__getitem__)
    assert end.ending == "done"
    ended = [event.trial for event in events if isinstance(event, TrialEnded)]
    assert sorted(ended) == list(range(5))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert sum("the disk is full" in text for text in notes) == 1
    run_scripted(config, CURVES.__getitem__)
    assert_copy_is_complete(sqlite_url, 5)


def test_transaction_that_a_restarted_server_cuts_off_is_repeated(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, calls = recorder.record, 0

    def cut_off_once_in_two(*args: Any, **given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise StorageUnavailableError("the server closed the connection")
        record(*args, **given)

    monkeypatch.setattr(recorder, "record", cut_off_once_in_two)
    end, events = run_scripted(make_config(sqlite_url, "trials=5"), CURVES.__getitem__)
    assert end.ending == "done"
    assert sum(isinstance(event, TrialEnded) for event in events) == 5
    assert_copy_is_complete(sqlite_url, 5)


def delete_copy(db: Database) -> None:
    optuna.delete_study(study_name=STUDY, storage=optuna_storage(db))


def ask_another(db: Database) -> None:
    optuna.load_study(study_name=STUDY, storage=optuna_storage(db)).ask()


@pytest.mark.parametrize(("meddle", "num_foreign"), [(delete_copy, 0), (ask_another, 1)])
def test_study_goes_on_whatever_others_have_done_to_the_copy(
    sqlite_url: str, meddle: Callable[[Database], None], num_foreign: int
) -> None:
    run_scripted(make_config(sqlite_url, "trials=2"), CURVES.__getitem__)
    with open_database(sqlite_url, create=False) as db:
        meddle(db)
    end, _ = run_scripted(make_config(sqlite_url, "trials=5"), CURVES.__getitem__)
    assert end.ending == "done"
    assert len(queries.results(sqlite_url, STUDY)) == 5
    trials = read_copy(sqlite_url)
    assert len(trials) == 5 + num_foreign
    assert sum(trial.state == TrialState.RUNNING for trial in trials) == num_foreign


def test_study_of_another_program_is_left_alone(sqlite_url: str) -> None:
    with open_database(sqlite_url, create=True) as db:
        optuna.create_study(study_name=STUDY, storage=optuna_storage(db)).ask()
    with pytest.raises(StorageError) as refused:
        run_scripted(make_config(sqlite_url, "trials=2"), CURVES.__getitem__)
    assert "\n" not in str(refused.value)
    assert len(read_copy(sqlite_url)) == 1
    assert queries.studies(sqlite_url).empty
