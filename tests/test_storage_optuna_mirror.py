"""Optuna's copy against what Optuna itself writes, on SQLite and on PostgreSQL alike."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
from cuts import Killed, cut_before
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import MetaData, Table, select, text

from storage import optuna_mirror, queries
from storage.database import Database, StorageError, open_database
from storage.optuna_mirror import Ending, MirrorTrial, OptunaMirror, optuna_storage

ROOT = Path(__file__).parent.parent
UUID = "4c0f1f0e-0000-4000-8000-000000000001"
CHOICES = CategoricalDistribution(("adam", None, 3, True))
DISTRIBUTIONS: list[dict[str, BaseDistribution]] = [
    {
        "rate": FloatDistribution(1e-5, 1.0, log=True),
        "dropout": FloatDistribution(0.0, 0.5, step=0.1),
        "width": IntDistribution(8, 64, step=8),
        "optimizer": CHOICES,
    },
    {"optimizer": CHOICES, "rate": FloatDistribution(1e-3, 1e-2, log=True)},
    {},
    {"width": IntDistribution(1, 5)},
]
#: The running best at epochs of each trial.
REPORTS: list[dict[int, float]] = [{1: 0.25, 2: 1 / 3, 7: 0.5}, {1: 0.125, 3: 0.125}, {}, {1: 0.5}]
#: One that is missing runs on.
ENDINGS = {
    0: Ending(TrialState.COMPLETE, 0.5, 7, 0.5),
    1: Ending(TrialState.PRUNED, 0.125, 3, 0.125),
    2: Ending(TrialState.FAIL, None, 0, None),
}
TRIALS = [MirrorTrial(number, {}, {}) for number in range(4)]


@pytest.fixture
def db(storage_url: str) -> Iterator[Database]:
    with open_database(storage_url, create=True) as database:
        yield database


def tell_optuna(db: Database) -> list[MirrorTrial]:
    """Let Optuna itself write the study "theirs"; return its trials."""
    sampler = optuna.samplers.RandomSampler(seed=3)
    study = optuna.create_study(
        study_name="theirs", storage=optuna_storage(db), direction="maximize", sampler=sampler
    )
    study.set_user_attr("bestepoch:uuid", UUID)
    made = []
    for number, distributions in enumerate(DISTRIBUTIONS):
        trial = study.ask(distributions)
        made.append(MirrorTrial(number, trial.params, trial.distributions))
        for step, value in REPORTS[number].items():
            trial.report(value, step)
        if number in ENDINGS:
            ending = ENDINGS[number]
            # Optuna takes a pruned trial's value from its last step, and refuses one.
            value = ending.value if ending.state == TrialState.COMPLETE else None
            study.tell(trial, value, state=ending.state)
    return made


def rows_of(db: Database, name: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of Optuna's about a study, without its keys and its times."""
    metadata = MetaData()
    with db.read() as connection:
        metadata.reflect(connection)
        tables = metadata.tables

        def read(table: Table, *where: Any) -> list[Any]:
            query = select(table).where(*where).order_by(*table.primary_key)
            return list(connection.execute(query).mappings())

        (study,) = read(tables["studies"], tables["studies"].c.study_name == name)
        trials = tables["trials"]
        numbers = {
            row["trial_id"]: row["number"]
            for row in read(trials, trials.c.study_id == study["study_id"])
        }
        found: dict[str, list[dict[str, Any]]] = {}
        for table in tables.values():
            if "study_id" in table.c and table is not tables["studies"]:
                rows = read(table, table.c.study_id == study["study_id"])
            elif "trial_id" in table.c:
                rows = read(table, table.c.trial_id.in_(numbers))
            else:
                continue
            if table.name.startswith(("best", "class", "epoch", "pred", "trial_results")):
                continue
            found[table.name] = [
                {
                    column: numbers[value]
                    if column == "trial_id"
                    else value is not None
                    if column.startswith("datetime")
                    else value
                    for column, value in row.items()
                    if column != "study_id" and not is_own_key(table, column)
                }
                for row in rows
                if row.get("key") != optuna_mirror.NUMBER_ATTRIBUTE
            ]
    return found


def is_own_key(table: Table, column: str) -> bool:
    return column in table.primary_key.columns and table.name != "trials"


def in_order(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of trials by trial, as one wrote a trial after the other and one all at once."""
    keys = ("trial_id", "number", "step")
    return {
        name: sorted(each, key=lambda row: [row.get(key) or 0 for key in keys])
        for name, each in rows.items()
    }


def mirror_of(db: Database, name: str = "ours") -> OptunaMirror:
    return OptunaMirror(db, name, UUID)


def read_with_optuna(db: Database, name: str = "ours") -> list[FrozenTrial]:
    """The trials as a process sees them that knows nothing of ours."""
    return optuna.load_study(study_name=name, storage=optuna_storage(db)).get_trials()


def test_rows_are_those_that_ask_report_and_tell_write(db: Database) -> None:
    trials = tell_optuna(db)
    mirror = mirror_of(db)
    for _ in range(2):  # the second time changes nothing
        mirror.begin(trials[:1])
        mirror.begin(trials)
        for epoch in (1, 2, 3, 7):
            mirror.report(
                {n: (epoch, each[epoch]) for n, each in enumerate(REPORTS) if epoch in each}
            )
        mirror.end(ENDINGS)
        ours = rows_of(db, "ours")
        assert in_order(ours) == in_order(rows_of(db, "theirs"))
    assert sum(len(rows) for rows in ours.values()) > 20
    states = [trial.state.name for trial in read_with_optuna(db)]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    # Optuna goes on from there.
    study = optuna.load_study(study_name="ours", storage=optuna_storage(db))
    assert study.best_value == 0.5
    assert study.ask().number == 4


def test_catching_up_writes_what_a_run_would_have_written(db: Database) -> None:
    trials = tell_optuna(db)
    mirror_of(db).begin(trials[:2])
    for _ in range(2):
        mirror_of(db).catch_up(trials, ENDINGS)
        ours, theirs = rows_of(db, "ours"), rows_of(db, "theirs")
        steps = "trial_intermediate_values"
        # Nobody knows any more what a trial reported before its end.
        last = [row for row in ours.pop(steps) if row["trial_id"] < 3]
        assert [row["intermediate_value"] for row in last] == [0.5, 0.125]
        del theirs[steps]
        assert in_order(ours) == in_order(theirs)


#: Writes ours, then dies before the copy is written.
KILLED = """
import os, signal, sys
from datetime import datetime, UTC
from optuna.trial import TrialState
from storage import recorder
from storage.database import open_database
from storage.optuna_mirror import MirrorTrial, OptunaMirror
from storage.records import NewTrial, StudyRow, TrialEnd
url, at, uuid = sys.argv[1:]
now = datetime.now(UTC)
with open_database(url, create=True) as db:
    recorder.create_study(db, StudyRow(uuid, "ours", "o", "accuracy", now, {}))
    if at == "start":
        os.kill(os.getpid(), signal.SIGKILL)
    mirror = OptunaMirror(db, "ours", uuid)
    for number in range(3):
        recorder.begin_trials(db, uuid, [NewTrial(number, 7, {})], now=now)
        if at == "begin" and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        mirror.begin([MirrorTrial(number, {}, {})])
    recorder.record(db, uuid, stopped=[TrialEnd(1, "stalled", "r", value=0.5)], now=now)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("at", "states"),
    [("start", []), ("begin", ["RUNNING"] * 2), ("end", ["RUNNING", "COMPLETE", "RUNNING"])],
)
def test_process_killed_between_ours_and_the_copy_is_caught_up(
    storage_url: str, at: str, states: list[str]
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, storage_url, at, UUID]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with open_database(storage_url, create=False) as db:
        stored = queries.stored_trials(db, UUID)
        assert len(stored) == len(states)
        endings = {
            each.trial: Ending(TrialState.COMPLETE, each.value, 3, each.value)
            for each in stored
            if each.outcome is not None
        }
        mirror = mirror_of(db)
        mirror.catch_up([MirrorTrial(each.trial, {}, {}) for each in stored], endings)
        trials = read_with_optuna(db)
        assert [each.state.name for each in trials] == states
        assert [each.number for each in trials] == list(range(len(states)))


def test_copy_cut_at_any_statement_is_all_or_nothing(sqlite_url: str) -> None:
    with open_database(sqlite_url, create=True) as db:
        trials = tell_optuna(db)
        mirror = mirror_of(db)
        for number in range(1, 100):
            optuna.delete_study(study_name="ours", storage=optuna_storage(db))
            try:
                with cut_before(number):
                    mirror.catch_up(trials, ENDINGS)
            except Killed:
                assert optuna.get_all_study_names(optuna_storage(db)) == ["theirs"]
                mirror.catch_up(trials, ENDINGS)
            else:
                break
            assert [len(each) for each in rows_of(db, "ours").values()] == [
                len(each) if name != "trial_intermediate_values" else 2
                for name, each in rows_of(db, "theirs").items()
            ]
        assert number > 10  # the cut has been everywhere


def test_trial_of_another_program_is_left_and_ours_keep_their_numbers_where_free(
    db: Database,
) -> None:
    mirror = mirror_of(db)
    mirror.begin(TRIALS[:1])
    study = optuna.load_study(study_name="ours", storage=optuna_storage(db))
    study.enqueue_trial({"rate": 0.5})  # takes number 1
    mirror.begin(TRIALS[1:3])
    study.tell(study.ask(), 0.25)  # the enqueued one
    foreign = study.ask()
    assert foreign.number == 4
    for _ in range(2):
        mirror_of(db).catch_up([*TRIALS, MirrorTrial(7, {}, {})], {})
        mirror_of(db).report({1: (1, 0.75), 4: (1, 0.125)})
        mirror_of(db).end({1: Ending(TrialState.COMPLETE, 0.75, 2, 0.75)})
        found = {
            trial.number: trial.system_attrs.get("bestepoch:trial")
            for trial in read_with_optuna(db)
        }
        assert found == {0: 0, 1: None, 2: 1, 3: 2, 4: None, 5: 3, 7: 7}
    trials = {trial.number: trial for trial in read_with_optuna(db)}
    assert (trials[1].state, trials[1].value) == (TrialState.COMPLETE, 0.25)
    assert (trials[2].state, trials[2].value) == (TrialState.COMPLETE, 0.75)
    assert (trials[4].state, trials[4].intermediate_values) == (TrialState.RUNNING, {})


def test_trial_that_somebody_ended_stays_so(db: Database) -> None:
    mirror = mirror_of(db)
    mirror.begin(TRIALS[:1])
    study = optuna.load_study(study_name="ours", storage=optuna_storage(db))
    study.tell(0, state=TrialState.FAIL)
    before = rows_of(db, "ours")
    mirror.report({0: (1, 0.5)})
    mirror.end({0: Ending(TrialState.COMPLETE, 0.5, 1, 0.5)})
    assert rows_of(db, "ours") == before


def test_study_that_was_deleted_during_a_run_comes_back(db: Database) -> None:
    mirror = mirror_of(db)
    mirror.begin(TRIALS[:3])
    optuna.delete_study(study_name="ours", storage=optuna_storage(db))
    mirror.end({0: Ending(TrialState.COMPLETE, 0.5, 1, 0.5)})  # is gone: nothing to end
    mirror.begin(TRIALS[3:])
    assert [trial.number for trial in read_with_optuna(db)] == [3]
    mirror.catch_up(TRIALS, {0: Ending(TrialState.COMPLETE, 0.5, 1, 0.5)})
    trials = {trial.number: trial.state.name for trial in read_with_optuna(db)}
    assert trials == {0: "COMPLETE", 1: "RUNNING", 2: "RUNNING", 3: "RUNNING"}


def test_shorter_training_replaces_the_steps_of_a_longer_one(db: Database) -> None:
    mirror = mirror_of(db)
    mirror.begin(TRIALS[:1])
    mirror.report({0: (8, 0.9)})
    mirror.end({0: Ending(TrialState.PRUNED, 0.5, 3, 0.5)})
    (trial,) = read_with_optuna(db)
    assert (trial.value, trial.intermediate_values) == (0.5, {3: 0.5})


def test_trial_that_goes_on_runs_again_in_the_copy_and_ends_with_its_new_value(
    db: Database,
) -> None:
    mirror = mirror_of(db)
    mirror.begin(TRIALS)
    mirror.end({0: Ending(TrialState.PRUNED, 0.25, 3, 0.25), **{n: ENDINGS[n] for n in (1, 2)}})
    before = read_with_optuna(db)
    for each in (mirror, mirror_of(db)):  # the second time changes nothing
        each.reopen([0, 7])  # Optuna has no trial 7
        first, *others = read_with_optuna(db)
        assert (first.state, first.value, first.datetime_complete) == (
            TrialState.RUNNING,
            None,
            None,
        )
        assert first.intermediate_values == {3: 0.25}
        assert others == before[1:]
    mirror.report({0: (4, 0.5)})
    mirror.end({0: Ending(TrialState.COMPLETE, 0.75, 9, 0.75)})
    first, *others = read_with_optuna(db)
    assert (first.state, first.value) == (TrialState.COMPLETE, 0.75)
    assert first.intermediate_values == {3: 0.25, 4: 0.5, 9: 0.75}
    assert first.datetime_complete is not None
    assert others == before[1:]
    assert optuna.load_study(study_name="ours", storage=optuna_storage(db)).best_value == 0.75


@pytest.mark.parametrize("attribute", [None, "another uuid"])
def test_study_of_this_name_that_is_not_ours_is_refused(db: Database, attribute: Any) -> None:
    study = optuna.create_study(study_name="ours", storage=optuna_storage(db))
    if attribute is not None:
        study.set_user_attr("bestepoch:uuid", attribute)
    before = rows_of(db, "ours")
    with pytest.raises(StorageError, match="a study 'ours' that is not this sweep's") as error:
        mirror_of(db)
    assert len(str(error.value).splitlines()) == 1
    assert rows_of(db, "ours") == before


def test_tables_of_another_optuna_are_refused_in_one_line(db: Database) -> None:
    mirror_of(db)
    with db.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v0.9.0.a'"))
    with pytest.raises(StorageError, match="optuna storage upgrade") as error:
        mirror_of(db)
    assert len(str(error.value).splitlines()) == 1


def test_delete_takes_one_study(db: Database) -> None:
    optuna_mirror.delete_study(db, UUID)  # Optuna has no tables yet
    OptunaMirror(db, "kept", "another").begin(TRIALS)
    kept = rows_of(db, "kept")
    trials = tell_optuna(db)
    optuna.delete_study(study_name="theirs", storage=optuna_storage(db))
    mirror = mirror_of(db)
    mirror.catch_up(trials, ENDINGS)
    study = optuna.load_study(study_name="ours", storage=optuna_storage(db))
    optuna_dashboard.save_note(study, "a note")
    for _ in range(2):
        optuna_mirror.delete_study(db, UUID)
        assert optuna.get_all_study_names(optuna_storage(db)) == ["kept"]
    assert rows_of(db, "kept") == kept
    with db.read() as connection:
        for name in ("trial_params", "trial_values", "study_system_attributes"):
            assert connection.execute(text(f"SELECT count(*) FROM {name}")).scalar() == 0


def test_a_thousand_trials_are_begun_reported_and_ended(sqlite_url: str) -> None:
    count = 1009
    with open_database(sqlite_url, create=True) as db:
        mirror = mirror_of(db)
        mirror.begin([MirrorTrial(n, {"width": 3}, DISTRIBUTIONS[3]) for n in range(count)])
        mirror.report(dict.fromkeys(range(count), (1, 0.5)))
        mirror.end(dict.fromkeys(range(count), Ending(TrialState.COMPLETE, 0.75, 2, 0.75)))
        trials = read_with_optuna(db)
        assert [trial.number for trial in trials] == list(range(count))
        assert {trial.value for trial in trials} == {0.75}
        assert all(trial.intermediate_values == {1: 0.5, 2: 0.75} for trial in trials)
        assert all(trial.params == {"width": 3} for trial in trials)
