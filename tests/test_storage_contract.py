"""What the recorder and the locks promise, on SQLite and on PostgreSQL alike."""

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import func, select, text

from storage import queries, recorder, schema, study_recorder
from storage.database import Database, open_database, resolve_url
from storage.records import (
    Claim,
    ClassScore,
    EpochRow,
    FinishedTrial,
    NewTrial,
    Owner,
    TrialResult,
)

NOW = datetime(2031, 5, 7, 11, 13, 17, 190_000, tzinfo=UTC)
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


def owner(token: str = "mine") -> Owner:
    return Owner(
        token=token,
        host="node7",
        pid=4211,
        process_started=1_900_000_000.25,
        device="cpu",
        versions={"torch": "2.13.0"},
    )


def begin(db: Database, trial: int = 0, token: str = "mine") -> Claim:
    new = [NewTrial(trial, 2**63 - 25, PARAMS)]
    given = {"owner": owner(token), "now": NOW, "data_fingerprint": "ab12"}
    return recorder.begin_trials(db, study_uuid=STUDY, trials=new, **given)[0]


def restart(db: Database, trial: int = 0, attempt: int = 1, token: str = "other") -> Claim:
    return recorder.restart_trial(
        db,
        study_uuid=STUDY,
        trial=trial,
        attempt=attempt,
        owner=owner(token),
        now=NOW + timedelta(hours=1),
    )


def epoch(claim: Claim, number: int, score: float = 0.5, **other: Any) -> EpochRow:
    values: dict[str, Any] = {
        "train_loss": 0.7,
        "val_loss": 0.6,
        "class_f1": (0.25, 0.75),
        "learning_rate": 0.003,
        "grad_norm": 1.5,
        "seconds": 0.11,
    }
    return EpochRow(claim=claim, epoch=number, score=score, **(values | other))


RESULT = TrialResult(
    outcome="stalled",
    reason="no gain for 3 epochs",
    value=0.5,
    best_epoch=2,
    best_score=0.5,
    last_epoch=5,
    last_score=0.3,
    tail_score=0.4,
    best_val_loss=0.6,
    epochs_run=5,
    epochs_to_95=2,
    epochs_to_99=2,
    seconds=0.55,
    weights_file="mine-0.safetensors",
    weights_sha256="cd34",
)
SCORES = (ClassScore(0, "no", 0.2, NAN, 0.25, 11), ClassScore(1, "yes", 0.7, 0.8, 0.75, 13))


def finish(db: Database, claim: Claim, result: TrialResult = RESULT) -> None:
    recorder.finish_trials(db, [FinishedTrial(claim, result, SCORES)], now=NOW)


def create(db: Database, name: str = "relation", study_uuid: str = STUDY) -> None:
    study_recorder.create_study(
        db,
        study_uuid=study_uuid,
        name=name,
        objective="relation-cnn",
        config={"trials": 30},
        now=NOW,
        class_names=["no", "yes"],
        data_fingerprint="ab12",
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
        create(database)
        yield database


def test_every_write_repeated_changes_nothing(db: Database) -> None:
    claim = begin(db)
    later = begin(db, trial=1)
    rows = [epoch(claim, 1), epoch(later, 1)]
    result = TrialResult(outcome="failed", reason="again")
    calls = [
        lambda: create(db),
        lambda: study_recorder.update_study_config(db, study_uuid=STUDY, config={"trials": 31}),
        lambda: begin(db),
        lambda: recorder.set_first_data_epoch(db, claim=claim, first_data_epoch=7),
        lambda: recorder.record_epochs(db, rows),
        lambda: finish(db, claim),
        lambda: recorder.mark_told(db, study_uuid=STUDY, trials=[0, 1, 5]),
        lambda: recorder.interrupt_trials(db, study_uuid=STUDY, token="mine", reason="Ctrl-C"),
        lambda: restart(db, trial=1),
        lambda: finish(db, Claim(STUDY, 1, 2, "other"), result),
    ]
    for number, call in enumerate(calls):
        call()
        once = dump(db)
        call()
        assert dump(db) == once, f"call {number}"
    # Out of order too, as a writer that retries after a lost connection would.
    before = dump(db)
    recorder.record_epochs(db, [epoch(claim, 1, 0.9), epoch(claim, 2, 0.9)])
    finish(db, claim, TrialResult(outcome="diverged", reason="too late"))
    assert dump(db) == before


def test_first_result_stays_and_told_needs_an_end(db: Database) -> None:
    claim = begin(db)
    running = begin(db, trial=1)
    finish(db, claim)
    finish(db, claim, TrialResult(outcome="failed", reason="second"))
    for trials in ([0, 1], []):
        recorder.mark_told(db, study_uuid=STUDY, trials=trials)
    assert queries.untold_trials(db, STUDY) == []
    finish(db, running)
    assert [each.trial for each in queries.untold_trials(db, STUDY)] == [1]
    assert [each.outcome for each in queries.finished_curves(db, STUDY)] == ["stalled", "stalled"]


def test_second_owner_is_refused_and_nothing_is_overwritten(db: Database) -> None:
    claim = begin(db)
    before = dump(db)
    thief = Claim(STUDY, 0, 1, "other")
    calls = [
        lambda: begin(db, token="other"),
        lambda: recorder.record_epochs(db, [epoch(thief, 1)]),
        lambda: recorder.set_first_data_epoch(db, claim=thief, first_data_epoch=3),
        lambda: finish(db, thief),
        lambda: restart(db, attempt=2),
        lambda: restart(db, trial=9),
    ]
    for call in calls:
        with pytest.raises(recorder.LostTrial):
            call()
    recorder.interrupt_trials(db, study_uuid=STUDY, token="other", reason="not mine")
    assert dump(db) == before
    restart(db)
    taken = dump(db)
    late = [
        lambda: recorder.record_epochs(db, [epoch(claim, 1)]),
        lambda: recorder.set_first_data_epoch(db, claim=claim, first_data_epoch=3),
        lambda: finish(db, claim),
        lambda: begin(db),
    ]
    for call in late:
        with pytest.raises(recorder.LostTrial) as lost:
            call()
        assert lost.value.trials == (0,)
    assert dump(db) == taken


def test_lost_trial_does_not_cost_its_neighbours_their_epoch(db: Database) -> None:
    kept, lost, ended = begin(db, 0), begin(db, 1), begin(db, 2)
    finish(db, ended)
    restart(db, trial=1)
    with pytest.raises(recorder.LostTrial) as error:
        recorder.record_epochs(db, [epoch(lost, 1), epoch(kept, 1), epoch(ended, 6)])
    assert error.value.trials == (1,)
    assert "[1]" in str(error.value)
    with db.read() as connection:
        rows = connection.execute(select(schema.EPOCH_RECORDS.c.trial)).scalars().all()
    assert rows == [0]
    recorder.record_epochs(db, [])


def test_restart_counts_up_and_hides_the_old_curve(db: Database, storage_url: str) -> None:
    claim = begin(db)
    recorder.set_first_data_epoch(db, claim=claim, first_data_epoch=7)
    recorder.record_epochs(db, [epoch(claim, 1, 0.8), epoch(claim, 2, 0.9), epoch(claim, 3, 0.1)])
    recorder.interrupt_trials(db, study_uuid=STUDY, token="mine", reason="Ctrl-C")
    [stopped] = queries.unfinished_trials(db, STUDY)
    assert (stopped.outcome, stopped.token, stopped.attempt) == ("interrupted", None, 1)
    again = restart(db)
    assert again == Claim(STUDY, 0, 2, "other")
    row = queries.trial(storage_url, "relation", 0)
    assert [row["reason"], row["started_at"]] == [None, NOW + timedelta(hours=1)]
    [running] = queries.unfinished_trials(db, STUDY)
    assert (running.outcome, running.token, running.attempt) == (None, "other", 2)
    assert (running.seed, running.first_data_epoch) == (2**63 - 25, 7)
    assert running.params == PARAMS
    assert queries.curves(storage_url, "relation").empty
    recorder.record_epochs(db, [epoch(again, 1, 0.2), epoch(again, 2, 0.3)])
    for view in (queries.best_epochs, queries.last_epochs):
        frame = view(storage_url, "relation")
        assert frame[["attempt", "epoch", "score"]].values.tolist() == [[2, 2, 0.3]]
    finish(db, again)
    [ended] = queries.finished_curves(db, STUDY)
    assert ended.score == (0.2, 0.3)
    assert queries.curves(storage_url, "relation")["score"].tolist() == [0.2, 0.3]
    with pytest.raises(recorder.LostTrial):
        restart(db, attempt=2)  # it has ended
    with db.read() as connection:
        kept = connection.execute(select(func.count()).select_from(schema.EPOCH_RECORDS)).scalar()
    assert kept == 5


def test_interrupt_touches_only_the_given_running_trials(db: Database) -> None:
    for number in range(3):
        begin(db, number)
    finish(db, Claim(STUDY, 2, 1, "mine"))
    recorder.interrupt_trials(db, study_uuid=STUDY, token="mine", reason="stop", trials=[1, 2])
    states = {each.trial: each.outcome for each in queries.unfinished_trials(db, STUDY)}
    assert states == {0: None, 1: "interrupted"}


def test_one_of_many_takes_a_trial_over(db: Database) -> None:
    begin(db)
    start = threading.Barrier(7)

    def take(number: int) -> bool:
        start.wait()
        try:
            restart(db, token=f"worker{number}")
        except recorder.LostTrial:
            return False
        return True

    with ThreadPoolExecutor(7) as pool:
        assert sum(pool.map(take, range(7))) == 1


def test_nan_reads_as_nan_and_infinity_as_infinity(db: Database, storage_url: str) -> None:
    claim = begin(db)
    strange = {"train_loss": INF, "val_loss": NAN, "grad_norm": -INF, "learning_rate": NAN}
    recorder.record_epochs(
        db, [epoch(claim, 1, NAN, class_f1=(NAN, 0.5), **strange), epoch(claim, 3, 0.25)]
    )
    row = queries.curves(storage_url, "relation").iloc[0]
    assert (row["train_loss"], row["grad_norm"]) == (INF, -INF)
    assert row[["val_loss", "learning_rate", "score"]].isna().all()
    assert row["class_f1"] == "[null, 0.5]"
    result = TrialResult(outcome="diverged", reason="loss", value=0.0, best_val_loss=INF)
    finish(db, claim, result)
    assert queries.trial(storage_url, "relation", 0)["best_val_loss"] == INF
    [ended] = queries.finished_curves(db, STUDY)
    assert [math.isnan(score) for score in ended.score] == [True, True, False]
    scores = queries.class_scores(storage_url, "relation")
    assert scores["recall"].isna().tolist() == [True, False]


def test_reason_may_hold_what_databases_refuse(db: Database, storage_url: str) -> None:
    claim = begin(db)
    finish(db, claim, TrialResult(outcome="failed", reason="bad \x00 byte, half \ud800 pair"))
    reason = queries.trial(storage_url, "relation", 0)["reason"]
    assert reason == "bad   byte, half ? pair"


def test_finished_curves_brings_only_what_is_new(db: Database) -> None:
    for number in (0, 1, 2):
        claim = begin(db, number)
        recorder.record_epochs(db, [epoch(claim, 1, 0.1 * number)])
    finish(db, Claim(STUDY, 1, 1, "mine"))
    first = queries.finished_curves(db, STUDY)
    assert [(each.trial, each.score) for each in first] == [(1, (0.1,))]
    known = {each.trial for each in first}
    assert queries.finished_curves(db, STUDY, known=known) == []
    # An earlier number that ends later must not be missed.
    finish(db, Claim(STUDY, 0, 1, "mine"))
    assert [each.trial for each in queries.finished_curves(db, STUDY, known=known)] == [0]
    assert queries.finished_curves(db, "no such study") == []


def test_finished_curves_reads_more_trials_than_a_statement_holds(db: Database) -> None:
    claims = [begin(db, number) for number in range(7)]
    recorder.record_epochs(db, [epoch(claim, 1, 0.5) for claim in claims])
    for claim in claims:
        finish(db, claim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries, "_TRIALS_A_QUERY", 3)
        ended = queries.finished_curves(db, STUDY)
    assert [(each.trial, each.score) for each in ended] == [(n, (0.5,)) for n in range(7)]


def test_delete_takes_one_study_and_names_its_weights(db: Database) -> None:
    other = "4c0f1f0e-0000-4000-8000-000000000002"
    create(db, "second", other)
    untouched = dump(db)["bestepoch_studies"][1]
    claim = begin(db)
    recorder.record_epochs(db, [epoch(claim, 1)])
    finish(db, claim)
    begin(db, trial=1)
    assert study_recorder.delete_study(db, study_uuid=STUDY) == ("mine-0.safetensors",)
    left = dump(db)
    assert left.pop("bestepoch_studies") == [untouched]
    assert len(left.pop("bestepoch_schema")) == 1
    assert not any(left.values())
    assert study_recorder.delete_study(db, study_uuid=STUDY) == ()
    with pytest.raises(recorder.LostTrial):
        recorder.record_epochs(db, [epoch(claim, 2)])
    with pytest.raises(recorder.LostTrial):
        begin(db)


def test_study_that_lost_its_optuna_study_gives_its_name_up(db: Database) -> None:
    begin(db)
    create(db, "relation", "9d000000-0000-4000-8000-000000000003")
    found = queries.find_study(db, "relation")
    assert found is not None
    assert found.uuid.startswith("9d")
    orphan = queries.find_study(db, "relation~4c0f1f0e")
    assert orphan is not None
    assert orphan.uuid == STUDY
    with db.read() as connection:
        assert connection.execute(text("SELECT study FROM best_epochs")).scalars().all() == [
            "relation~4c0f1f0e"
        ]


def test_settings_round_trip(db: Database, storage_url: str) -> None:
    found = queries.find_study(db, "relation")
    assert found is not None
    assert (found.config, found.class_names) == ({"trials": 30}, ("no", "yes"))
    assert (found.created_at, found.data_fingerprint) == (NOW, "ab12")
    study_recorder.update_study_config(
        db, study_uuid=STUDY, config={"a": [1]}, class_names=["x"], data_fingerprint="ef"
    )
    changed = queries.study_settings(storage_url, "relation")
    assert (changed.config, changed.class_names) == ({"a": [1]}, ("x",))
    assert changed.data_fingerprint == "ef"
    assert queries.find_study(db, "other") is None


@pytest.mark.parametrize("view", ["best_epochs", "last_epochs"])
def test_person_reads_views_with_plain_pandas(db: Database, storage_url: str, view: str) -> None:
    claim = begin(db)
    recorder.record_epochs(
        db,
        [epoch(claim, 1, 0.5), epoch(claim, 2, 0.8), epoch(claim, 3, 0.8), epoch(claim, 4, NAN)],
    )
    begin(db, trial=1)
    frame = pd.read_sql(f"select * from {view} order by trial", resolve_url(storage_url))
    row = frame.iloc[0]
    expected = {"best_epochs": (2, 0.8), "last_epochs": (4, None)}[view]
    assert row["epoch"] == expected[0]
    assert row["score"] == expected[1] or math.isnan(row["score"])
    assert (row["optimizer"], row["class_weights"], row["batch_size"]) == ("adam", "none", 50)
    assert (row["learning_rate"], row["beta1"], row["beta2"]) == (0.003, 0.9, 0.995)
    assert row["model"].replace(" ", "") == '{"filters":150}'
    assert frame[["momentum", "dropout"]].isna().all(axis=None)
    assert frame["epochs_run"].tolist() == [4, 0]
    assert frame["epoch"].isna().tolist() == [False, True]
