"""What a budget leaves behind, and what becomes of it when a later run has a larger one."""

from pathlib import Path

import pytest
from scripted import (
    STUDY,
    ScriptedExecutor,
    make_config,
    of_kind,
    outcomes,
    read,
    run_scripted,
)
from written import NOW

from storage import queries, recorder
from storage.database import WEIGHTS_FOLDER, open_database
from sweeps.config.settings import SweepConfig
from sweeps.running.events import EpochDone, Note

EPOCHS = 12


def halving(url: str, *overrides: str) -> SweepConfig:
    """Return the settings of a sweep with rungs at epochs 1, 3 and 9 of 12."""
    rungs = ("pruner.name=halving", "pruner.min_epochs=1", "pruner.reduction_factor=3")
    return make_config(url, *rungs, "patience=12", *overrides)


def rise(trial: int) -> list[float]:
    """Return a curve whose rank is the same at each epoch: 13 numbers before they repeat."""
    return [round(0.1 + (trial * 5 % 13) / 100 + 0.05 * epoch, 3) for epoch in range(EPOCHS)]


@pytest.mark.parametrize(("pruner", "workers"), [("halving", 1), ("halving", 2), ("median", 2)])
def test_budget_of_epochs_is_never_overshot_however_often_it_is_raised(
    sqlite_url: str, pruner: str, workers: int
) -> None:
    spent = 0
    make = halving if pruner == "halving" else make_config
    for budget in (17, 19, 31, 33, 47, 61):
        config = make(sqlite_url, f"max_total_epochs={budget}", f"workers={workers}")
        end, events = run_scripted(config, rise)
        spent += len(of_kind(events, EpochDone))
        assert end.ending == "done"
        assert spent <= budget
        assert read(sqlite_url)["epochs_run"].sum() == spent
    assert spent > 47 or pruner == "median"


def test_trial_that_was_cut_short_is_behind_once_others_have_overtaken_it(
    sqlite_url: str,
) -> None:
    run_scripted(halving(sqlite_url, "max_total_epochs=30"), rise)
    behind = [n for n, outcome in outcomes(sqlite_url).items() if outcome == "behind"]
    with open_database(sqlite_url, create=False) as db:  # as of a run that the clock ended
        uuid = queries.study_settings(sqlite_url, STUDY).uuid
        ends = dict.fromkeys(behind, ("cut short", "it led at epoch 1"))
        recorder.end_paused(db, uuid, ends, now=NOW)
    run_scripted(halving(sqlite_url, "max_total_epochs=80"), rise)
    after = read(sqlite_url).loc[behind]
    left = after[after["epochs_run"] == 1]
    assert len(left) > 0
    assert set(left["outcome"]) == {"behind"}


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_result_of_a_trial_is_stored_before_its_weights_are_and_these_are_tried_again(
    sqlite_url: str, pruner: str
) -> None:
    config = (halving if pruner == "halving" else make_config)(sqlite_url, "trials=5")
    executor = ScriptedExecutor(rise, full_disk=dict.fromkeys(range(5), 1))
    end, events = run_scripted(config, executor)
    assert end.ending == "done"
    told = [event.text for event in of_kind(events, Note) if "No space left" in event.text]
    ended = [n for n, outcome in outcomes(sqlite_url).items() if outcome == "exhausted"]
    assert len(told) >= len(ended) > 0
    for trial in ended:
        row = queries.trial(sqlite_url, STUDY, trial)
        assert row["epochs_run"] == EPOCHS, "it was trained once"
        path = Path(sqlite_url.removeprefix("sqlite:///")).with_name(WEIGHTS_FOLDER)
        assert (path / row["weights_file"]).read_text() == f"epoch {row['best_epoch']}"


def test_weights_that_cannot_be_written_at_all_cost_no_result(sqlite_url: str) -> None:
    executor = ScriptedExecutor(rise, full_disk=dict.fromkeys(range(5), 99))
    end, events = run_scripted(make_config(sqlite_url, "trials=5"), executor)
    assert end.ending == "done"
    assert read(sqlite_url)["outcome"].notna().all()
    assert read(sqlite_url)["weights_file"].isna().all()
    assert any("its weights are not written" in event.text for event in of_kind(events, Note))
