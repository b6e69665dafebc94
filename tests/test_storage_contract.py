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
    Checkpoint,
    ClassScore,
    EpochRecord,
    HeldStop,
    NewTrial,
    Placed,
    StudyRow,
    TrialEnd,
    Weights,
)

NOW = datetime(2031, 5, 7, 11, 13, 17, 190_000, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
STUDY = "4c0f1f0e-0000-4000-8000-000000000001"
PARAMS = {
    "optimizer": "adam",
    "learning_rate": 0.003,
    "beta1": 0.9,
    "beta2": 0.995,
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
    data_facts={"num_train": 7, "train_shares": [0.25, 0.75]},
    targets=bytes([0, 255, 1]),
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
        "confusion": ((7, 2), (3, 11)),
        "class_scores": (
            ClassScore(0, "no", 0.2, NAN, 0.25, 11),
            ClassScore(1, "yes", 0.7, 0.8, 0.75, 13),
        ),
    }
    return TrialEnd(trial=trial, **(values | other))


def weights(trial: int, predictions: bytes | None = bytes([0, 1, 1])) -> Weights:
    return Weights(trial, f"mine-{trial}.safetensors", f"ab{trial}", predictions)


KINDS = {
    "placed": Placed,
    "epochs": EpochRecord,
    "held": HeldStop,
    "stopped": TrialEnd,
    "weights": Weights,
    "checkpoints": Checkpoint,
}


def record(db: Database, *items: Any, now: datetime = LATER) -> None:
    given: Any = {
        name: [each for each in items if isinstance(each, kind)] for name, kind in KINDS.items()
    }
    recorder.record(db, STUDY, **given, now=now)


def outcomes(db: Database) -> list[str | None]:
    return [each.outcome for each in queries.stored_trials(db, STUDY)]


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
    held = HeldStop(0, "behind", 1, 0.5)
    calls = [
        lambda: recorder.create_study(db, ROW),
        lambda: recorder.update_study(db, STUDY, config={"trials": 31}),
        lambda: begin(db, 0, 1),
        lambda: record(db, *lane),
        lambda: recorder.set_kills(db, STUDY, {0: 2}),
        lambda: recorder.interrupt_trials(db, STUDY, "Ctrl-C"),
        lambda: recorder.resume_trials(db, STUDY),
        lambda: record(db, end(0, outcome="paused"), Checkpoint(0, "states-1", 3), held),
        lambda: recorder.end_paused(db, STUDY, {0: ("behind", "the budget ended")}, now=LATER),
        lambda: record(db, Placed(0, "stacked", "cpu", ((0, 3), (7, 2)))),
        lambda: record(db, end(0), weights(0), Checkpoint(0, None, None)),
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
    record(db, epoch(0, 2, NAN), HeldStop(0, "behind", 2, 0.25), end(0, epochs_run=3))
    record(db, weights(0), Checkpoint(1, "mine/states-7.safetensors", 2))
    first, second, third = queries.stored_trials(db, STUDY)
    assert (first.trial, first.seed, first.params) == (0, 2**63 - 25, PARAMS)
    assert (first.outcome, first.value, first.kills) == ("stalled", 0.5, 0)
    held = (first.would_stop_outcome, first.would_stop_epoch, first.would_stop_score)
    assert held == ("behind", 2, 0.25)
    assert (first.weights_file, first.state_file) == ("mine-0.safetensors", None)
    assert first.scores == pytest.approx((0.25, NAN, 0.5), nan_ok=True)
    assert first.train_losses == (0.7,) * 3
    assert first.val_losses == (0.6,) * 3
    assert first.seconds == (0.11,) * 3
    assert (second.path, second.segments, second.kills) == ("stacked", segments, 2)
    assert (second.state_file, second.state_epochs) == ("mine/states-7.safetensors", 2)
    assert (third.outcome, third.path, third.segments, third.scores) == (None, None, (), ())
    assert queries.stored_trials(db, "no such study") == []


def test_epoch_that_is_trained_again_is_written_over(db: Database, storage_url: str) -> None:
    begin(db, 0)
    for score in (0.3, 0.4):
        record(db, epoch(0, 1, score), epoch(0, 2, score / 2))
    assert queries.curves(storage_url, "relation")["score"].tolist() == [0.4, 0.2]


def test_trial_that_is_promoted_or_left_behind_has_never_two_ends(
    db: Database, storage_url: str
) -> None:
    begin(db, 0, 1)
    placed = Placed(0, "stacked", "cpu", ((0, 2),))
    record(db, placed, epoch(0, 1), epoch(0, 2), weights(0), HeldStop(0, "behind", 1, 0.5))
    record(db, end(0, outcome="paused", reason="place 3 of 3"), end(1, outcome="paused"))
    paused = queries.trial(storage_url, "relation", 0)
    assert (paused["outcome"], paused["reason"]) == ("paused", "place 3 of 3")
    assert (paused["best_score"], paused["finished_at"]) == (0.5, None)
    recorder.end_paused(db, STUDY, {0: ("behind", "the budget ended")}, now=LATER)
    behind = queries.trial(storage_url, "relation", 0)
    assert (behind["outcome"], behind["reason"]) == ("behind", "the budget ended")
    ended = {"outcome", "reason", "finished_at"}
    assert {name for name in paused if paused[name] != behind[name]} == ended
    assert behind["finished_at"] == LATER
    # A later run goes on with it: nothing of that end is left.
    record(db, replace(placed, segments=((0, 2), (7, 1))), epoch(0, 3, 0.75))
    again = queries.trial(storage_url, "relation", 0)
    cleared = {*schema.column_names(TrialEnd), "finished_at"}
    assert {name: again[name] for name in cleared} == dict.fromkeys(cleared)
    changed = cleared | {"segments"}
    assert {k: v for k, v in again.items() if k not in changed} == {
        k: v for k, v in behind.items() if k not in changed
    }
    # What it has reached so far is read from its epochs meanwhile.
    frame = queries.results(storage_url, "relation").set_index("trial")
    assert list(frame.loc[0, ["best_epoch", "best_score", "epochs_run"]]) == [3, 0.75, 3]
    assert outcomes(db) == [None, "paused"]


def test_interrupt_leaves_paused_trials_paused_and_end_paused_ends_only_those_named(
    db: Database,
) -> None:
    begin(db, 0, 1, 2, 3)
    record(db, end(0, outcome="paused"), end(1, outcome="paused"), end(2))
    recorder.interrupt_trials(db, STUDY, "Ctrl-C")
    assert outcomes(db) == ["paused", "paused", "stalled", "interrupted"]
    recorder.resume_trials(db, STUDY)
    recorder.end_paused(db, STUDY, {}, now=LATER)
    assert outcomes(db) == ["paused", "paused", "stalled", None]
    recorder.end_paused(db, STUDY, {1: ("cut short", "why")}, now=LATER)
    assert outcomes(db) == ["paused", "cut short", "stalled", None]


def test_part_of_a_record_that_fails_takes_all_with_it(db: Database) -> None:
    begin(db, 0)
    before = dump(db)
    with pytest.raises(AssertionError, match="stops no trial"):
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
    ends = [
        end(0, best_score=0.5),
        end(1, best_score=0.7, best_val_loss=0.3),
        end(2, best_score=0.7, best_val_loss=0.2),
        end(3, best_score=0.9, outcome="diverged"),  # never ranked
        end(4, best_score=0.6),  # its model has too many classes: no room is kept for it
        end(5, best_score=0.7, best_val_loss=0.3),  # as good as trial 1, and later
        end(6, best_score=0.8, outcome="behind"),
        end(7, best_score=0.75, outcome="paused"),  # ranked once the run ends
    ]
    begin(db, *range(8))
    kept = []
    for each in ends:
        record(db, each, weights(each.trial, None if each.trial == 4 else bytes([0, 1, 1])))
        kept.append({trial for _, trial, _ in dump(db)["predictions"]})
    assert kept == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {1, 2, 5}, {1, 2, 6}, {2, 6, 7}]
    assert dump(db)["predictions"][-1] == (STUDY, 7, bytes([0, 1, 1]))


def test_weights_that_are_written_later_change_nothing_else(
    db: Database, storage_url: str
) -> None:
    begin(db, 0, 1)
    record(db, end(0, outcome="behind"), end(1))
    before = queries.trial(storage_url, "relation", 0)
    record(db, weights(0), weights(1, None), now=LATER + timedelta(days=1))
    told = {"weights_file": "mine-0.safetensors", "weights_sha256": "ab0"}
    assert queries.trial(storage_url, "relation", 0) == before | told
    assert dump(db)["predictions"] == [(STUDY, 0, bytes([0, 1, 1]))]


def test_weights_of_an_epoch_that_is_the_best_no_more_go_with_their_predictions(
    db: Database, storage_url: str
) -> None:
    begin(db, 0, 1)
    record(db, end(0, outcome="behind"), end(1), weights(0), weights(1))
    before = queries.trial(storage_url, "relation", 1)
    record(db, Placed(0, "stacked", "cpu", ((0, 6),)), Weights(0, None, None))
    after = queries.trial(storage_url, "relation", 0)
    assert (after["weights_file"], after["weights_sha256"]) == (None, None)
    assert dump(db)["predictions"] == [(STUDY, 1, bytes([0, 1, 1]))]
    assert queries.trial(storage_url, "relation", 1) == before


def test_delete_takes_one_study_and_names_its_weights(db: Database) -> None:
    recorder.create_study(db, replace(ROW, uuid="other", name="second"))
    untouched = dump(db)["bestepoch_studies"][1]
    begin(db, 0, 1)
    record(db, epoch(0, 1), end(0), weights(0))
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


def test_password_in_the_error_of_a_trial_is_not_stored(db: Database, storage_url: str) -> None:
    begin(db, 0)
    ended = end(0, outcome="failed", reason="cannot reach mysql://me:hunter2@host/x", value=None)
    recorder.record(db, STUDY, stopped=[ended], now=LATER)
    reason = queries.trial(storage_url, "relation", 0)["reason"]
    assert reason == "cannot reach mysql://me:***@host/x"


def test_person_reads_the_view_with_plain_pandas(db: Database, storage_url: str) -> None:
    begin(db, 0, 1)
    record(db, *(epoch(0, i, score) for i, score in enumerate([0.5, 0.8, 0.8, NAN], start=1)))
    frame = pd.read_sql("select * from best_epochs order by trial", resolve_url(storage_url))
    row = frame.iloc[0]
    assert (row["epoch"], row["score"]) == (2, 0.8)
    assert (row["study"], row["metric"]) == ("relation", "f1:yes")
    assert (row["optimizer"], row["class_weights"], row["batch_size"]) == ("adam", "none", 50)
    assert (row["learning_rate"], row["beta1"], row["beta2"]) == (0.003, 0.9, 0.995)
    assert row["model"].replace(" ", "") == '{"filters":150}'
    assert frame[["momentum", "dropout"]].isna().all(axis=None)
    assert frame["epochs_run"].tolist() == [4, 0]
    assert frame["epoch"].isna().tolist() == [False, True]
