"""Columns, dtypes and contents of each frame, the empty study included."""

import json
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from storage import frames, queries, recorder
from storage.database import Database, StorageError, open_database
from storage.locations import resolve_url
from storage.records import ClassScore, EpochRecord, NewTrial, StudyRow, TrialEnd, Weights

NOW = datetime(2031, 5, 7, 11, 13, 17, 190_000, tzinfo=UTC)

FRAMES: dict[str, tuple[Callable[[str], pd.DataFrame], Mapping[str, str]]] = {
    "studies": (queries.studies, frames.STUDIES),
    "best_epochs": (lambda url: queries.best_epochs(url, "s"), frames.EPOCHS),
    "curves": (lambda url: queries.curves(url, "s"), frames.CURVES),
    "class_scores": (lambda url: queries.class_scores(url, "s"), frames.CLASS_SCORES),
    "results": (lambda url: queries.results(url, "s"), frames.RESULTS),
}

#: What an independent reader gets for the same frame: plain SQL on our tables.
PLAIN_SQL = {
    "studies": """
        SELECT name AS study, uuid AS study_uuid, objective, metric,
            (SELECT count(*) FROM trial_results t WHERE t.study = s.name) AS num_trials,
            (SELECT count(*) FROM trial_results t WHERE t.study = s.name
                AND COALESCE(outcome, 'paused') IN ('paused', 'interrupted')) AS num_unfinished,
            (SELECT max(best_score) FROM trial_results t WHERE t.study = s.name
                AND outcome IN ('stalled', 'exhausted', 'behind')) AS best_score
        FROM bestepoch_studies s ORDER BY created_at, name""",
    "best_epochs": "SELECT * FROM best_epochs WHERE study = 's' ORDER BY trial",
    "curves": """
        SELECT e.* FROM epoch_records e JOIN trial_results t
        ON t.study_uuid = e.study_uuid AND t.trial = e.trial
        WHERE t.study = 's' ORDER BY e.trial, e.epoch""",
    "class_scores": """
        SELECT c.* FROM class_scores c JOIN trial_results t
        ON t.study_uuid = c.study_uuid AND t.trial = c.trial
        WHERE t.study = 's' ORDER BY c.trial, c.class_index""",
    "results": """
        SELECT trial, outcome, reason, last_epoch, last_score, tail_score,
            value, epochs_to_95, epochs_to_99, seconds, params, seed, device, path, kills
        FROM trial_results WHERE study = 's'
        ORDER BY CASE WHEN outcome IN ('stalled', 'exhausted', 'behind')
            THEN best_score END DESC NULLS LAST, outcome IS NOT NULL,
            CASE WHEN outcome NOT IN ('diverged', 'failed') THEN best_val_loss END NULLS LAST,
            trial""",
}

#: Trial, outcome, best, last and tail macro-F1. Best and last rank the other way round.
ENDINGS = [
    (0, "stalled", 0.8, 0.2, 0.3),
    (1, "exhausted", 0.7, 0.7, 0.7),
    (2, "diverged", 0.9, math.nan, math.nan),  # reached most, never ranked
    (3, "failed", None, None, None),
    (4, "behind", 0.4, 0.1, 0.2),
    (5, "stalled", 0.7, 0.6, 0.6),  # best ties with trial 1, and so does the loss
]


def create(db: Database, name: str, uuid: str, later_h: int = 0) -> None:
    created = NOW + timedelta(hours=later_h)
    study = StudyRow(uuid, name, "relation-cnn", "macro-f1", created, {})
    recorder.create_study(db, study)


def begin(db: Database, number: int, optimizer: str = "adam") -> None:
    own: dict[str, Any] = {"adam": {"beta1": 0.9, "beta2": 0.99}, "sgd": {"momentum": 0.5}}[
        optimizer
    ]
    params = {"optimizer": optimizer, "learning_rate": 1, "batch_size": 50, "model": {}} | own
    recorder.begin_trials(db, "u-s", [NewTrial(number, number * 7919, params)], now=NOW)


def add_epochs(db: Database, number: int, curve: Sequence[float], loss: float = 0.4) -> None:
    rows = [
        EpochRecord(number, n, 0.5, loss, score, (0.1, 0.3), 0.01, 2.0, 0.5)
        for n, score in enumerate(curve, 1)
    ]
    recorder.record(db, "u-s", epochs=rows, now=NOW)


def end(
    db: Database, number: int, outcome: str, best: Any, last: Any, tail: Any, *, loss: float = 0.4
) -> None:
    begin(db, number, "sgd" if number % 2 else "adam")
    curve = [] if best is None else [0.05, best, last]
    add_epochs(db, number, curve, loss)
    scores = [ClassScore(k, f"class {k}", 0.1, 0.2, 0.15, 5) for k in range(2 if curve else 0)]
    ended = TrialEnd(
        number,
        outcome,
        f"because {number}",
        value={"diverged": 0.0, "failed": None}.get(outcome, best),
        best_epoch=2 if curve else None,
        best_score=best,
        last_epoch=len(curve) or None,
        last_score=last,
        tail_score=tail,
        best_val_loss=loss if curve else None,
        epochs_run=len(curve),
        confusion=((3, 2), (1, 7)) if curve else None,
        class_scores=tuple(scores),
    )
    recorder.record(db, "u-s", stopped=[ended], now=NOW)


@pytest.fixture
def empty_url(storage_url: str) -> str:
    with open_database(storage_url, create=True) as db:
        create(db, "s", "u-s")
    return storage_url


@pytest.fixture
def full_url(empty_url: str) -> str:
    with open_database(empty_url, create=True) as db:
        create(db, "another", "u-a", later_h=1)
        for ending in ENDINGS:
            end(db, *ending)
        begin(db, 6)
        add_epochs(db, 6, [0.95])
    return empty_url


@pytest.mark.parametrize("name", FRAMES)
def test_columns_and_dtypes_of_an_empty_study(name: str, empty_url: str) -> None:
    read, columns = FRAMES[name]
    frame = read(empty_url)
    assert {each: str(frame[each].dtype) for each in frame} == dict(columns)
    assert len(frame) == (1 if name == "studies" else 0)


@pytest.mark.parametrize("name", FRAMES)
def test_columns_and_dtypes_of_a_full_study(name: str, full_url: str) -> None:
    read, columns = FRAMES[name]
    frame = read(full_url)
    assert {each: str(frame[each].dtype) for each in frame} == dict(columns)
    assert len(frame) > 1


@pytest.mark.parametrize("name", FRAMES)
def test_frame_equals_plain_sql(name: str, full_url: str) -> None:
    frame = FRAMES[name][0](full_url)
    plain = pd.read_sql(PLAIN_SQL[name], resolve_url(full_url))
    shared = [each for each in frame if each in plain and not each.endswith("_at")]
    assert len(shared) >= min(6, len(frame.columns))
    for each in shared:
        ours = [None if pd.isna(value) else value for value in frame[each]]
        theirs = [None if pd.isna(value) else value for value in plain[each]]
        assert ours == theirs, each


@pytest.mark.parametrize(
    ("by", "ranks"),
    [
        ("best", [(1, 0), (2, 1), (2, 5), (4, 4)]),
        ("last", [(1, 1), (2, 5), (3, 0), (4, 4)]),
        ("tail", [(1, 1), (2, 5), (3, 0), (4, 4)]),
    ],
)
def test_results_are_ranked(full_url: str, by: queries.RankBy, ranks: list[Any]) -> None:
    frame = queries.results(full_url, "s", by)
    ranked = frame[frame["rank"].notna()]
    assert list(zip(ranked["rank"], ranked["trial"], strict=True)) == ranks
    # Below: what has not ended, then diverged and failed, by number.
    assert frame["trial"].tolist()[len(ranks) :] == [6, 2, 3]
    assert frame.index.tolist() == list(range(7))


def test_results_show_a_running_trial_so_far(full_url: str) -> None:
    row = queries.results(full_url, "s").iloc[4]
    assert row["trial"] == 6
    assert (row["best_epoch"], row["best_score"], row["epochs_run"]) == (1, 0.95, 1)
    assert row[["rank", "outcome", "last_epoch", "finished_at"]].isna().all()


def test_trials_that_have_not_ended_are_ordered_by_their_best_so_far(full_url: str) -> None:
    with open_database(full_url, create=False) as db:
        for number, scores, loss in ((7, [0.97], 0.5), (8, [], 0.0), (9, [0.3, 0.97], 0.2)):
            begin(db, number)
            add_epochs(db, number, scores, loss)
    # Of equal scores the lower loss comes first.
    assert queries.results(full_url, "s")["trial"].tolist()[4:] == [9, 7, 6, 8, 2, 3]


def test_paused_trial_has_not_ended_and_is_ordered_among_those_that_train(full_url: str) -> None:
    with open_database(full_url, create=False) as db:
        end(db, 7, "paused", 0.96, 0.5, 0.5)
        end(db, 8, "paused", 0.94, 0.94, 0.94)
    frame = queries.results(full_url, "s")
    assert frame["trial"].tolist()[4:] == [7, 6, 8, 2, 3]
    row = frame.set_index("trial").loc[7]
    assert (row["outcome"], row["best_score"], row["epochs_run"]) == ("paused", 0.96, 3)
    assert row[["rank", "finished_at"]].isna().all()
    studies = queries.studies(full_url).loc[0]
    assert studies[["num_trials", "num_unfinished", "best_trial"]].tolist() == [9, 3, 0]


def test_of_equal_scores_the_lower_loss_is_the_best_everywhere_and_then_the_earlier_trial(
    full_url: str,
) -> None:
    with open_database(full_url, create=False) as db:
        for number, loss in ((7, 0.3), (8, 0.2), (9, 0.2), (10, math.nan)):
            end(db, number, "stalled", 0.99, 0.9, 0.9, loss=loss)
    for by in ("best", "last", "tail"):
        assert queries.results(full_url, "s", by)["trial"].tolist()[:4] == [8, 9, 7, 10]
    assert queries.studies(full_url).loc[0, "best_trial"] == 8


def test_hyperparameters_are_readable(full_url: str) -> None:
    frame = queries.best_epochs(full_url, "s").set_index("trial")
    assert frame.loc[0, ["optimizer", "learning_rate", "beta1", "beta2"]].tolist() == [
        "adam",
        1.0,
        0.9,
        0.99,
    ]
    assert frame.loc[1, "momentum"] == 0.5
    assert frame.loc[1, ["beta1", "dropout", "class_weights"]].isna().all()
    assert json.loads(frame.loc[0, "model"]) == {}


def test_unknown_score_is_refused(empty_url: str) -> None:
    with pytest.raises(ValueError, match="by must be one of best, last, tail, got 'first'"):
        queries.results(empty_url, "s", "first")  # type: ignore[arg-type]


def test_studies_are_counted(full_url: str) -> None:
    frame = queries.studies(full_url)
    assert frame["study"].tolist() == ["s", "another"]
    assert frame.loc[0, ["num_trials", "num_unfinished", "best_trial"]].tolist() == [7, 1, 0]
    assert frame.loc[1, ["num_trials", "num_unfinished"]].tolist() == [0, 0]
    assert frame.loc[1, ["best_trial", "best_score"]].isna().all()
    assert frame.loc[0, "created_at"] == pd.Timestamp(NOW)


def test_snapshot_has_what_no_frame_has(full_url: str) -> None:
    with open_database(full_url, create=False) as db:
        recorder.record(db, "u-s", weights=[Weights(1, "file", "sha", b"\x00\x02")], now=NOW)
        facts = {"num_train": 7, "train_shares": [0.25, 0.75]}
        recorder.update_study(db, "u-s", data_facts=facts, targets=b"\x01\x02")
        with queries.snapshot(db, "s") as found:
            assert found.confusions() == {trial: [[3, 2], [1, 7]] for trial in (0, 1, 2, 4, 5)}
            assert found.predictions() == {1: b"\x00\x02"}
            assert (found.row.data_facts, found.row.targets) == (facts, b"\x01\x02")
            assert found.study_names() == {"s", "another"}


def test_snapshot_is_of_one_moment(full_url: str) -> None:
    with (
        open_database(full_url, create=False) as db,
        queries.snapshot(db, "s") as found,
        open_database(full_url, create=False) as other,
    ):
        before = found.results()
        add_epochs(other, 6, [0.95, 0.96])
        end(other, 7, "stalled", 0.5, 0.5, 0.5)
        curves = found.curves()
        assert set(curves["trial"]) <= set(before["trial"])
        assert (curves["trial"] == 6).sum() == 1
        assert 7 not in found.confusions()


def test_trials_of_several_studies_are_ranked_together(full_url: str) -> None:
    frame = queries.results(full_url, "s")
    both = pd.concat([frame, frame.assign(trial=frame["trial"] + 100)])
    ranked = queries.rank(both, "last_score").dropna(subset="rank")
    first = [
        (row.rank_, row.trial) for row in ranked.rename(columns={"rank": "rank_"}).itertuples()
    ]
    assert first[:4] == [(1, 1), (1, 101), (3, 5), (3, 105)]


def test_one_trial_is_decoded(full_url: str) -> None:
    row = queries.trial(full_url, "s", 2)
    assert (row["outcome"], row["best_score"], row["value"]) == ("diverged", 0.9, 0.0)
    assert (row["params"]["beta1"], row["params"]["beta2"]) == (0.9, 0.99)
    assert row["confusion"] == [[3, 2], [1, 7]]
    assert row["finished_at"] == NOW
    with pytest.raises(queries.UnknownTrialError, match="no trial 7; trials count from 0 to 6"):
        queries.trial(full_url, "s", 7)
    with pytest.raises(queries.UnknownTrialError, match="has no trial yet"):
        queries.trial(full_url, "another", 0)


def test_unknown_study_offers_the_nearest(full_url: str) -> None:
    with pytest.raises(StorageError, match=r"did you mean 'another'.* Known: another, s") as error:
        queries.curves(full_url, "anothr")
    assert len(str(error.value).splitlines()) == 1
    with open_database(full_url, create=True) as db:
        for uuid in ("u-s", "u-a"):
            recorder.delete_study(db, uuid)
    for read in (queries.results, queries.study_settings):
        with pytest.raises(queries.UnknownStudyError, match="the database holds none"):
            read(full_url, "s")


def test_queries_write_nothing(sqlite_url: str) -> None:
    with open_database(sqlite_url, create=True) as db:
        create(db, "s", "u-s")
        end(db, *ENDINGS[0])
    path = sqlite_url.removeprefix("sqlite:///")
    plain = sqlite3.connect(path)
    before = plain.execute("PRAGMA data_version").fetchone()
    for read, _ in FRAMES.values():
        read(sqlite_url)
    queries.trial(sqlite_url, "s", 0)
    assert plain.execute("PRAGMA data_version").fetchone() == before
    plain.close()
