"""The beginning of a study: created once, refused when its settings have changed, held by one."""

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

import sweeps
from objectives.api import DataFacts
from storage import queries, recorder, records, schema
from storage.database import Database, StudyHeldError, open_database
from storage.locations import StorageError
from storage.records import Checkpoint, EpochRecord, HeldStop, NewTrial, Placed, TrialEnd, Weights
from sweeps.config.errors import ConfigError
from sweeps.config.settings import SweepConfig
from sweeps.outcomes import Outcome
from sweeps.running import study
from sweeps.trainers.messages import Loaded

NOW = datetime(2031, 5, 7, 11, 13, 17, tzinfo=UTC)
FACTS = DataFacts(7, 3, (0.25, 0.75), 0.125)
TARGETS = bytes([1, 0, 1])
LOADED = Loaded(
    ("no", "yes"),
    FACTS,
    TARGETS,
    "data",
    ("cpu",),
    {"torch": "2.11"},
    (),
    preparation={"columns": []},
)
STUDY = "relation-cnn"
PARAMS: Mapping[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 0.01,
    "beta1": 0.9,
    "beta2": 0.99,
    "batch_size": 50,
    "class_weights": "none",
    "model": {"filters": 150, "vectors": "trainable"},
}


@pytest.fixture
def db(sqlite_url: str) -> Iterator[Database]:
    with open_database(sqlite_url, create=True) as database:
        yield database


def make_config(db: Database, *overrides: str, **options: Any) -> SweepConfig:
    return sweeps.load_config("relation-cnn", overrides, storage=db.url, **options)


def prepare(
    db: Database, *overrides: str, force: bool = False, loaded: Loaded = LOADED
) -> study.Begun:
    return study.prepare(db, make_config(db, *overrides), loaded, force=force, now=NOW)


def test_second_start_finds_the_study(db: Database) -> None:
    first = prepare(db)
    assert prepare(db).uuid == first.uuid
    row = queries.find_study(db, STUDY)
    assert row is not None
    assert (row.class_names, row.data_fingerprint) == (("no", "yes"), "data")
    assert (row.versions, row.metric) == ({"torch": "2.11"}, "macro-f1")
    assert row.data_facts == {**asdict(FACTS), "train_shares": [0.25, 0.75]}
    assert (row.targets, row.preparation) == (TARGETS, {"columns": []})
    assert row.processor


def test_what_decides_no_result_may_change(db: Database) -> None:
    first = prepare(db)
    again = prepare(db, "trials=99", "workers=3", "max_minutes=5", "audit=0.05")
    assert (again.uuid, again.changes) == (first.uuid, ())


def test_settings_of_the_last_run_are_kept_as_a_whole(db: Database) -> None:
    for trials, audit in ((31, 0.2), (37, 0.0)):
        prepare(db, f"trials={trials}", f"audit={audit}")
        stored = queries.study_settings(db.url, STUDY).config
        assert (stored["trials"], stored["audit"], stored["try"]) == (trials, audit, [])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("patience=9", "patience: 15 -> 9"),
        ("seed=4", "seed: 0 -> 4"),
        ("metric=accuracy", "metric: macro-f1 -> accuracy"),
        ("space.dropout=0.5", "space.dropout"),
        ("space.batch_size=[50, 100, 200]", "space.batch_size"),
        ("sampler.name=random", "sampler"),
    ],
)
def test_changed_setting_is_named_and_refused_until_forced(
    db: Database, override: str, told: str
) -> None:
    first = prepare(db)
    with pytest.raises(ConfigError, match=told) as refused:
        prepare(db, override)
    assert "--force" in str(refused.value)
    assert queries.study_settings(db.url, STUDY).config["patience"] == 15
    forced = prepare(db, override, force=True)
    assert forced.uuid == first.uuid
    assert told in forced.changes[0]
    assert prepare(db, override).changes == ()  # it is the study's setting now


def test_changed_data_are_refused(db: Database) -> None:
    prepare(db)
    with pytest.raises(ConfigError, match="the contents have changed"):
        prepare(db, loaded=replace(LOADED, fingerprint="other"))


def write_trials(db: Database, uuid: str) -> None:
    """Write trials that stalled, were interrupted, left behind and paused, and one that waits."""
    new = [NewTrial(number, 11 + number, PARAMS) for number in range(5)]
    recorder.begin_trials(db, uuid, new, now=NOW)
    rows = [
        EpochRecord(number, epoch, 0.5, 0.6, 0.1 * epoch, (0.5, 0.5), 0.01, 1.5, 0.25)
        for number in (0, 1, 2, 3)
        for epoch in (1, 2, 3)
    ]
    placed = [
        Placed(0, "stacked", "cpu", ((5, 3),)),
        # It was written as it entered, and has trained on.
        Placed(1, "plain", "cpu", ((4, 1), (7, 1))),
        Placed(2, "plain", "cpu", ((4, 3),)),
        Placed(3, "plain", "cpu", ((4, 3),)),
    ]
    outcomes = {0: "stalled", 2: "behind", 3: "paused"}
    ended = [TrialEnd(n, each, f"it {each}", 0.3, epochs_run=3) for n, each in outcomes.items()]
    recorder.record(
        db,
        uuid,
        placed=placed,
        epochs=rows,
        held=[HeldStop(1, "behind", 2, 0.2)],
        stopped=ended,
        weights=[Weights(0, "mine/trial-0.safetensors", "ab12")],
        checkpoints=[Checkpoint(1, "mine/states-3.safetensors", 2)],
        now=NOW,
    )
    recorder.set_kills(db, uuid, {1: 2})
    recorder.interrupt_trials(db, uuid, "interrupted")


def test_trials_are_found_as_they_ended_or_as_their_last_epoch_left_them(
    db: Database,
) -> None:
    write_trials(db, prepare(db).uuid)
    ended, interrupted, behind, paused, waiting = study.restore_trials(prepare(db))
    assert (ended.outcome, ended.curve.scores) == (Outcome.STALLED, pytest.approx([0.1, 0.2, 0.3]))
    assert (ended.seed, ended.path, ended.kills) == (11, "stacked", 0)
    assert (ended.has_weights, ended.state_file, ended.held) == (True, None, None)
    # It goes on behind its last epoch, with what it has done to its processes.
    assert (interrupted.outcome, interrupted.epochs) == (None, 3)
    assert (interrupted.curve.best_epoch, interrupted.curve.seconds) == (3, [0.25] * 3)
    assert interrupted.segments == [(4, 1), (7, 2)]
    assert (interrupted.kills, interrupted.seed) == (2, 12)
    assert interrupted.held == HeldStop(1, "behind", 2, 0.2)
    assert (interrupted.state_file, interrupted.state_epochs) == ("mine/states-3.safetensors", 2)
    assert (behind.outcome, behind.ended_as) == (Outcome.PAUSED, Outcome.BEHIND)
    assert (paused.outcome, paused.ended_as) == (Outcome.PAUSED, None)
    assert (waiting.outcome, waiting.epochs, waiting.segments) == (None, 0, [])
    assert ended.hparams.to_params()["learning_rate"] == 0.01
    assert ended.sampled.params["learning_rate"] == 0.01
    # They run again, so that nobody reads of them as interrupted.
    outcomes = queries.results(db.url, STUDY).set_index("trial")["outcome"].sort_index()
    assert list(outcomes.isna()) == [False, True, False, False, True]


def test_trial_that_was_left_behind_has_ended_where_no_pruner_pauses(db: Database) -> None:
    write_trials(db, prepare(db, "pruner.name=median").uuid)
    behind = study.restore_trials(prepare(db, "pruner.name=median"))[2]
    assert (behind.outcome, behind.ended_as) == (Outcome.BEHIND, None)


def test_needs_of_a_study_that_nobody_runs_are_met(db: Database) -> None:
    study.check_needs(make_config(db), db.url)  # there is none
    prepare(db)
    study.check_needs(make_config(db), db.url)


def test_database_that_cannot_be_used_is_refused_before_data_are_loaded(db: Database) -> None:
    with pytest.raises(StorageError, match="its folder does not exist"):
        study.check_needs(make_config(db), "sqlite:////nowhere/at/all.db")
    prepare(db)
    with db.write() as connection:
        connection.execute(update(schema.SCHEMA).values(version=records.VERSION - 1))
    with pytest.raises(StorageError, match="written by an older bestepoch"):
        study.check_needs(make_config(db), db.url)


def test_study_that_another_runs_is_refused_at_once_with_its_holder(db: Database) -> None:
    prepare(db)
    with (
        open_database(db.url, create=False) as other,
        other.hold_study(STUDY, holder=study.make_holder(NOW)),
    ):
        with pytest.raises(StudyHeldError) as refused:
            study.check_needs(make_config(db), db.url)
        study.check_needs(make_config(db, study="another"), db.url)
    study.check_needs(make_config(db), db.url)
    line = str(refused.value)
    assert "\n" not in line
    assert socket.gethostname() in line
    assert str(os.getpid()) in line
    assert "2031-05-07" in line


def test_missing_package_names_its_extra(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(db, sampler="cmaes")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'bestepoch\[cmaes\]'") as raised:
        study.check_needs(config, db.url)
    assert len(raised.value.lines) == 1
