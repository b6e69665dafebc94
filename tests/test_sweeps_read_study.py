"""A study as it is read: typed, at one moment, with what nobody trains any more marked."""

import numpy as np
import pytest
from written import hold, write_study

from objectives.api import DataFacts
from storage import frames, queries, recorder
from storage.database import Database, open_database
from storage.records import Weights
from sweeps.read.study import Study
from sweeps.read.words import CUT_OFF

CURVES = [[0.3, 0.7, 0.6], [0.2, 0.4], [], [0.5]]
OUTCOMES = {1: None, 2: None, 3: "paused"}


@pytest.fixture
def url(sqlite_url: str) -> str:
    write_study("mine", CURVES, outcomes=OUTCOMES, url=sqlite_url)
    return sqlite_url


def outcomes(study: Study) -> dict[int, object]:
    results = study.results
    found = results["outcome"].astype(object).where(results["outcome"].notna(), None)
    return dict(zip(results["trial"].tolist(), found, strict=True))


def test_trials_without_an_end_are_cut_off_once_nobody_holds_the_study(url: str) -> None:
    assert outcomes(Study.read(url, "mine")) == {0: "stalled", 1: CUT_OFF, 2: CUT_OFF, 3: "paused"}
    with hold("mine", url=url):
        study = Study.read(url, "mine")
    assert study.is_running
    assert outcomes(study) == {0: "stalled", 1: None, 2: None, 3: "paused"}


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_run_that_starts_or_ends_while_the_study_is_read_is_not_taken_for_dead(
    before: bool, after: bool, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([before, after])
    monkeypatch.setattr(Database, "is_held", lambda _db, _name: next(answers, after))
    study = Study.read(url, "mine")
    assert study.is_running
    assert outcomes(study)[1] is None


def test_results_keep_their_columns_types_and_order(url: str) -> None:
    study = Study.read(url, "mine")
    assert {name: str(kind) for name, kind in study.results.dtypes.items()} == frames.RESULTS
    assert study.results["trial"].tolist() == [0, 3, 1, 2]
    assert study.ranked["trial"].tolist() == [0]
    assert study.scores_of(1) == [0.2, 0.4]


def test_predictions_and_targets_are_classes_by_example(url: str) -> None:
    with open_database(url, create=False) as db:
        key = Study.read(url, "mine").uuid
        weights = Weights(0, "file", "sha", bytes([2, 0, 255]))
        recorder.record(
            db, key, weights=[weights], now=queries.study_settings(url, "mine").created_at
        )
        facts = {
            "num_train": 7,
            "num_validation": 3,
            "train_shares": [0.25, 0.75],
            "target_entropy": 0.5,
        }
        recorder.update_study(db, key, data_facts=facts, targets=bytes([2, 1, 255]))
    study = Study.read(url, "mine")
    assert study.data == DataFacts(7, 3, (0.25, 0.75), 0.5)
    assert study.targets is not None
    assert study.targets.tolist() == [2, 1, 255]
    assert {trial: each.tolist() for trial, each in study.predictions.items()} == {0: [2, 0, 255]}
    assert study.predictions[0].dtype == np.uint8


def test_study_of_which_no_data_are_known_says_so(url: str) -> None:
    study = Study.read(url, "mine")
    assert (study.data, study.targets, study.predictions) == (None, None, {})


def test_settings_of_a_sweep_are_read_and_those_of_a_foreign_study_are_absent(
    url: str, sqlite_url: str
) -> None:
    settings = {"max_epochs": 30, "patience": 7, "min_delta": 0.25, "audit": 0.125, "trials": 11}
    write_study("ours", [[0.5]], config=settings | {"metric": "accuracy"}, url=sqlite_url)
    study = Study.read(url, "ours")
    assert (study.max_epochs, study.patience, study.min_delta, study.audit) == (30, 7, 0.25, 0.125)
    assert (study.metric, study.budget.trials, study.is_sweep) == ("accuracy", 11, True)
    with open_database(url, create=False) as db:
        recorder.update_study(db, study.uuid, config={})
    foreign = Study.read(url, "ours")
    assert (foreign.max_epochs, foreign.patience, foreign.min_delta) == (1, None, 0.0)
    assert (foreign.metric, foreign.space, foreign.is_sweep) == ("macro-F1", {}, False)
    assert foreign.taken == {"mine", "ours"}


def test_study_without_a_trial_has_a_cap(sqlite_url: str) -> None:
    write_study("none", [], url=sqlite_url)
    with open_database(sqlite_url, create=False) as db:
        recorder.update_study(db, Study.read(sqlite_url, "none").uuid, config={})
    study = Study.read(sqlite_url, "none")
    assert study.max_epochs == 1
    assert study.ranked.empty
