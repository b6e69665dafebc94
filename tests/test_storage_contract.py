"""What the recorder promises, on SQLite and on PostgreSQL alike."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import select

from storage import queries, recorder, schema
from storage.database import Database, StorageError, open_database
from storage.locations import resolve_url
from storage.records import (
    ClassScore,
    EpochRecord,
    NewTrial,
    Placed,
    StudyRow,
    TrialEnd,
)

NOW = datetime(2031, 5, 7, 11, 13, 17, 190_000, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
STUDY = "4c0f1f0e-0000-4000-8000-000000000001"
PARAMS = {
    "optimizer": "adam",
    "learning_rate": 0.003,
    "betas": [0.9, 0.995],
    "batch_size": 50,
    "class_weights": "none",
    "model": {"filters": 150},
}
NAN = math.nan
INF = math.inf
ROW = StudyRow(
    STUDY,
    "relation",
    "relation-cnn",
    "f1:yes",
    NOW,
    {"trials": 30},
    class_names=("no", "yes"),
    data_fingerprint="ab12",
    versions={"torch": "2.13.0"},
    processor="EPYC",
)


def begin(db: Database, *trials: int) -> None:
    new = [NewTrial(trial, 2**63 - 25, PARAMS) for trial in trials]
    recorder.begin_trials(db, STUDY, new, now=NOW)


def epoch(trial: int, number: int, score: float = 0.5, **other: Any) -> EpochRecord:
    values: dict[str, Any] = {
        "train_loss": 0.7,
        "val_loss": 0.6,
        "class_f1": (0.25, 0.75),
        "learning_rate": 0.003,
        "grad_norm": 1.5,
        "seconds": 0.11,
    }
    return EpochRecord(trial=trial, epoch=number, score=score, **(values | other))


def end(trial: int, **other: Any) -> TrialEnd:
    values: dict[str, Any] = {
        "outcome": "stalled",
        "reason": "no gain for 3 epochs",
        "value": 0.5,
        "best_epoch": 2,
        "best_score": 0.5,
        "best_val_loss": 0.6,
        "epochs_run": 5,
        "weights_file": f"mine-{trial}.safetensors",
        "confusion": ((7, 2), (3, 11)),
        "class_scores": (
            ClassScore(0, "no", 0.2, NAN, 0.25, 11),
            ClassScore(1, "yes", 0.7, 0.8, 0.75, 13),
        ),
        "predictions": bytes([0, 1, 1]),
    }
    return TrialEnd(trial=trial, **(values | other))


def record(db: Database, *items: Placed | EpochRecord | TrialEnd, now: datetime = LATER) -> None:
    recorder.record(
        db,
        STUDY,
        placed=[each for each in items if isinstance(each, Placed)],
        epochs=[each for each in items if isinstance(each, EpochRecord)],
        ended=[each for each in items if isinstance(each, TrialEnd)],
        now=now,
    )


def dump(db: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of ours."""
    with db.read() as connection:
        return {
            table.name: [
                tuple(row)
                for row in connection.execute(select(table).order_by(*table.primary_key.columns))
            ]
            for table in schema.METADATA.sorted_tables
        }


@pytest.fixture
def db(storage_url: str) -> Iterator[Database]:
    with open_database(storage_url, create=True) as database:
        recorder.create_study(database, ROW)
        yield database


def test_every_write_repeated_changes_nothing(db: Database) -> None:
    lane = [Placed(0, "stacked", "cpu", ((0, 3),)), epoch(0, 1), epoch(1, 1), end(1)]
    calls = [
        lambda: recorder.create_study(db, ROW),
        lambda: recorder.update_study(db, STUDY, config={"trials": 31}),
        lambda: begin(db, 0, 1),
        lambda: record(db, *lane),
        lambda: recorder.set_kills(db, STUDY, {0: 2}),
        lambda: recorder.interrupt_trials(db, STUDY, "Ctrl-C"),
        lambda: recorder.resume_trials(db, STUDY),
        lambda: record(db, end(0)),
    ]
    for number, call in enumerate(calls):
        before = dump(db)
        call()
        once = dump(db)
        assert number == 0 or once != before, f"call {number} wrote nothing"
        call()
        assert dump(db) == once, f"call {number}"


def test_trial_that_was_begun_stays_as_it_is(db: Database) -> None:
    begin(db, 0)
    before = dump(db)
    recorder.begin_trials(db, STUDY, [NewTrial(0, 5, {})], now=LATER)
    recorder.begin_trials(db, STUDY, [], now=LATER)
    assert dump(db) == before
    recorder.create_study(db, replace(ROW, objective="other"))
    assert dump(db) == before


def test_coordinator_reads_back_what_it_wrote(db: Database) -> None:
    begin(db, 0, 1, 2)
    segments = ((0, 2), (7, 1))
    record(
        db,
        Placed(0, "plain", "cpu", ((0, 2),)),
        Placed(1, "stacked", "cuda:0", segments),
        epoch(0, 1, 0.25),
        epoch(0, 3, 0.5),
    )
    recorder.set_kills(db, STUDY, {1: 2})
    record(db, end(0, epochs_run=3, would_stop_outcome="behind", would_stop_epoch=2))
    first, second, third = queries.stored_trials(db, STUDY)
    assert (first.trial, first.seed, first.params) == (0, 2**63 - 25, PARAMS)
    assert (first.outcome, first.value, first.kills) == ("stalled", 0.5, 0)
    assert (first.would_stop_outcome, first.would_stop_epoch) == ("behind", 2)
    assert first.scores[::2] == (0.25, 0.5)
    assert math.isnan(first.scores[1])
    assert (second.path, second.segments, second.kills) == ("stacked", segments, 2)
    assert (third.outcome, third.path, third.segments, third.scores) == (None, None, (), ())
    assert queries.stored_trials(db, "no such study") == []


def test_epoch_that_is_trained_again_is_written_over(db: Database, storage_url: str) -> None:
    begin(db, 0)
    for score in (0.3, 0.4):
        record(db, epoch(0, 1, score), epoch(0, 2, score / 2))
    assert queries.curves(storage_url, "relation")["score"].tolist() == [0.4, 0.2]


def test_end_takes_the_epochs_after_it(db: Database) -> None:
    begin(db, 0, 1)
    record(db, *(epoch(trial, number) for trial in (0, 1) for number in (1, 2, 3, 4, 5)))
    record(db, end(0, epochs_run=3), end(1, outcome="failed", epochs_run=None))
    assert [len(each.scores) for each in queries.stored_trials(db, STUDY)] == [3, 0]


def test_part_of_a_record_that_fails_takes_all_with_it(db: Database) -> None:
    begin(db, 0)
    before = dump(db)
    with pytest.raises(AssertionError, match="does not end a trial"):
        record(db, Placed(0, "plain", "cpu", ()), epoch(0, 1), end(0, outcome="interrupted"))
    assert dump(db) == before


def test_interrupt_and_resume_touch_only_what_has_not_ended(db: Database) -> None:
    begin(db, 0, 1)
    record(db, end(1))
    running = dump(db)
    recorder.interrupt_trials(db, STUDY, "Ctrl-C")
    trials = queries.stored_trials(db, STUDY)
    assert [each.outcome for each in trials] == ["interrupted", "stalled"]
    recorder.resume_trials(db, STUDY)
    assert dump(db) == running


def test_nan_reads_as_nan_and_infinity_as_infinity(db: Database, storage_url: str) -> None:
    begin(db, 0)
    strange = {"train_loss": INF, "val_loss": NAN, "grad_norm": -INF, "learning_rate": NAN}
    record(db, epoch(0, 1, NAN, class_f1=(NAN, 0.5), **strange))
    row = queries.curves(storage_url, "relation").iloc[0]
    assert (row["train_loss"], row["grad_norm"]) == (INF, -INF)
    assert row[["val_loss", "learning_rate", "score"]].isna().all()
    assert row["class_f1"] == "[null, 0.5]"
    record(db, end(0, outcome="diverged", best_val_loss=INF))
    assert queries.trial(storage_url, "relation", 0)["best_val_loss"] == INF
    scores = queries.class_scores(storage_url, "relation")
    assert scores["recall"].isna().tolist() == [True, False]


def test_reason_may_hold_what_databases_refuse(db: Database, storage_url: str) -> None:
    begin(db, 0)
    record(db, end(0, outcome="failed", reason="bad \x00 byte, half \ud800 pair"))
    reason = queries.trial(storage_url, "relation", 0)["reason"]
    assert reason == "bad   byte, half ? pair"


def test_predictions_of_the_best_trials_are_kept(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_PREDICTIONS", 3)
    ends = {
        0: end(0, best_score=0.5),
        1: end(1, best_score=0.7, best_val_loss=0.3),
        2: end(2, best_score=0.7, best_val_loss=0.2),
        3: end(3, best_score=0.9, outcome="diverged"),  # never ranked
        4: end(4, best_score=0.6, predictions=None),  # no room is kept for it
        5: end(5, best_score=0.7, best_val_loss=0.3),  # as good as trial 1, and later
        6: end(6, best_score=0.8, outcome="behind"),
    }
    begin(db, *ends)
    kept = []
    for each in ends.values():
        record(db, each)
        kept.append({trial for _, trial, _ in dump(db)["predictions"]})
    assert kept == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {1, 2, 5}, {1, 2, 6}]
    assert dump(db)["predictions"][-1] == (STUDY, 6, bytes([0, 1, 1]))


def test_delete_takes_one_study_and_names_its_weights(db: Database) -> None:
    recorder.create_study(db, replace(ROW, uuid="other", name="second"))
    untouched = dump(db)["bestepoch_studies"][1]
    begin(db, 0, 1)
    record(db, epoch(0, 1), end(0))
    assert recorder.delete_study(db, STUDY) == ("mine-0.safetensors",)
    left = dump(db)
    assert left.pop("bestepoch_studies") == [untouched]
    assert len(left.pop("bestepoch_schema")) == 1
    assert not any(left.values())
    assert recorder.delete_study(db, STUDY) == ()


def test_settings_round_trip(db: Database, storage_url: str) -> None:
    assert queries.find_study(db, "relation") == ROW
    changes: dict[str, Any] = {
        "config": {"a": [1]},
        "class_names": ("x",),
        "data_fingerprint": "ef",
        "versions": {"torch": "3"},
        "processor": "Xeon",
    }
    recorder.update_study(db, STUDY, **changes)
    assert queries.study_settings(storage_url, "relation") == replace(ROW, **changes)
    recorder.update_study(db, STUDY, config={})
    assert queries.find_study(db, "relation") == replace(ROW, **(changes | {"config": {}}))
    assert queries.find_study(db, "other") is None


def test_study_of_a_strange_name_is_refused(db: Database) -> None:
    with pytest.raises(StorageError, match="must be 1 to 128"):
        recorder.create_study(db, replace(ROW, uuid="other", name="a/b"))


@pytest.mark.parametrize("view", ["best_epochs", "last_epochs"])
def test_person_reads_views_with_plain_pandas(db: Database, storage_url: str, view: str) -> None:
    begin(db, 0, 1)
    record(db, *(epoch(0, i, score) for i, score in enumerate([0.5, 0.8, 0.8, NAN], start=1)))
    frame = pd.read_sql(f"select * from {view} order by trial", resolve_url(storage_url))
    row = frame.iloc[0]
    expected = {"best_epochs": (2, 0.8), "last_epochs": (4, None)}[view]
    assert row["epoch"] == expected[0]
    assert row["score"] == expected[1] or math.isnan(row["score"])
    assert (row["study"], row["metric"]) == ("relation", "f1:yes")
    assert (row["optimizer"], row["class_weights"], row["batch_size"]) == ("adam", "none", 50)
    assert (row["learning_rate"], row["beta1"], row["beta2"]) == (0.003, 0.9, 0.995)
    assert row["model"].replace(" ", "") == '{"filters":150}'
    assert frame[["momentum", "dropout"]].isna().all(axis=None)
    assert frame["epochs_run"].tolist() == [4, 0]
    assert frame["epoch"].isna().tolist() == [False, True]
