"""What a run writes: Optuna's copy, which catches up, and a database that does not answer."""

import math
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from scripted import Curve, Killed, ScriptedExecutor, make_config, run_scripted

from storage import database, queries, recorder
from storage.database import Database, StorageError, open_database
from storage.locations import StorageUnavailableError
from storage.optuna_mirror import OptunaMirror, optuna_storage
from sweeps.config.settings import SweepConfig
from sweeps.running import study_writer
from sweeps.running.events import EpochDone, Event, Note, TrialEnded, TrialPromoted

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


class Outage:
    """A database that does not answer for some turns of a run's loop, from an event on.

    Args:
        begin: Makes it fall silent.
        finish: Makes it answer again.
    """

    def __init__(self, begin: Callable[[], object], finish: Callable[[], object]) -> None:
        self.begin, self.finish = begin, finish
        self.began_at: int | None = None
        self.turn = 0
        self.told_meanwhile: list[Event] = []

    def note_turn(self, turn: int) -> None:
        self.turn = turn
        if turn == 11:
            self.began_at = turn
            self.begin()
        elif turn == 24:
            self.finish()
            self.began_at = None

    def note_event(self, event: Event) -> None:
        if self.began_at is not None and not isinstance(event, Note):
            self.told_meanwhile.append(event)


@contextmanager
def fail_in_code(_: str) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """Make each transaction fail, as a driver would."""
    with pytest.MonkeyPatch.context() as patch:

        def fail(*_: Any, **__: Any) -> None:
            raise StorageUnavailableError("sweeps.db: no answer")

        names = ("record", "begin_trials", "set_kills", "end_paused")
        yield (
            lambda: [patch.setattr(recorder, name, fail) for name in names],
            patch.undo,
        )


@contextmanager
def lock_file(url: str) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """Lock the SQLite file as another program may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "BUSY_TIMEOUT_S", 0.01)
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            yield lambda: other.execute("BEGIN IMMEDIATE"), lambda: other.execute("ROLLBACK")


@contextmanager
def stop_server(url: str) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """End all connections of a PostgreSQL database, and let it take no other."""
    import psycopg

    head, _, name = url.rpartition("/")

    with psycopg.connect(f"{head}/postgres", autocommit=True) as admin:

        def stop() -> None:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            admin.execute(ends, [name])

        def start() -> None:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

        yield stop, start


OUTAGES = [
    ("sqlite_url", fail_in_code),
    ("sqlite_url", lock_file),
    pytest.param("postgres_url", stop_server, marks=pytest.mark.postgres),
]


@pytest.mark.parametrize(("database_of", "silence"), OUTAGES)
def test_training_goes_on_while_the_database_does_not_answer(
    database_of: str, silence: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue(database_of)
    monkeypatch.setattr(study_writer, "FIRST_RETRY_S", 0.0)
    monkeypatch.setattr(study_writer, "LONGEST_RETRY_S", 0.0)
    executor = ScriptedExecutor(CURVES.__getitem__)
    with silence(url) as (begin, finish):
        outage = Outage(begin, finish)
        end, events = run_scripted(
            make_config(url, "trials=5", "slots=1"),
            executor,
            on_event=outage.note_event,
            on_turn=outage.note_turn,
        )
    assert end.ending == "done"
    assert outage.told_meanwhile == [], "what is not written is not told"
    notes = [event.text for event in events if isinstance(event, Note)]
    assert sum("the run waits up to" in text for text in notes) == 1
    assert sum("answers again" in text for text in notes) == 1
    told = [(event.trial, event.epoch) for event in events if isinstance(event, EpochDone)]
    assert told == [
        (int(trial), int(epoch))
        for trial, epoch in zip(
            *queries.curves(url, STUDY)[["trial", "epoch"]].T.values, strict=True
        )
    ]
    assert_copy_is_complete(url, 5)


def test_ctrl_c_ends_a_run_whose_database_does_not_answer_and_the_next_one_goes_on(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_writer, "LAST_WAIT_S", 0.0)
    config = make_config(sqlite_url, "trials=5", "slots=1")

    def fall_silent_and_interrupt(turn: int) -> None:
        if turn == 7:
            begin()
        elif turn == 11:
            signal.raise_signal(signal.SIGINT)

    with fail_in_code(sqlite_url) as (begin, _):
        end, _ = run_scripted(config, CURVES.__getitem__, on_turn=fall_silent_and_interrupt)
    assert (end.ending, end.exit_code) == ("interrupted", 130)
    run_scripted(config, CURVES.__getitem__)
    assert_copy_is_complete(sqlite_url, 5)


def test_run_gives_up_in_a_line_once_it_has_waited_and_the_next_one_goes_on(
    sqlite_url: str,
) -> None:
    config = make_config(sqlite_url, "trials=5", "db_wait=0")
    with fail_in_code(sqlite_url) as (begin, _), pytest.raises(StorageUnavailableError) as error:
        run_scripted(config, CURVES.__getitem__, on_turn=lambda turn: turn == 7 and begin())
    assert "\n" not in str(error.value)
    run_scripted(config, CURVES.__getitem__)
    assert_copy_is_complete(sqlite_url, 5)


def delete_database(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def put_another_in_its_place(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as made:
        made.execute("CREATE TABLE mine (x)")
    other.replace(path)


@pytest.mark.parametrize("meddle", [delete_database, put_another_in_its_place])
def test_database_that_is_taken_away_ends_the_run_and_nothing_is_lost(
    sqlite_url: str, meddle: Callable[[Path], None]
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    config = make_config(sqlite_url, "trials=5", "slots=1")
    events: list[Event] = []
    with pytest.raises(StorageError, match="was deleted or replaced") as refused:
        run_scripted(
            config,
            CURVES.__getitem__,
            on_event=events.append,
            on_turn=lambda turn: turn == 17 and meddle(path),
        )
    assert "\n" not in str(refused.value)
    (rescued,) = path.parent.glob("*rescued*")
    assert str(rescued) in str(refused.value)
    told = [(event.trial, event.epoch) for event in events if isinstance(event, EpochDone)]
    assert len(told) > 7
    assert len(queries.curves(f"sqlite:///{rescued}", STUDY)) == len(told)
    if path.exists():
        url = f"sqlite:///{rescued}"
    else:  # moved back, it must not meet what the deleted file has left beside it
        rescued.rename(path)
        url = sqlite_url
    run_scripted(make_config(url, "trials=5", "slots=1"), CURVES.__getitem__)
    assert_copy_is_complete(url, 5)
