"""Sweeps whose trials pause at rungs, on scripted trainers: who goes on, and from what."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import STUDY, Killed, ScriptedExecutor, make_config, of_kind, read, run_scripted

from storage import queries
from storage.database import WEIGHTS_FOLDER
from sweeps.config.settings import SweepConfig
from sweeps.running import sweep
from sweeps.running.events import (
    EpochDone,
    Event,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from sweeps.running.paused import NUM_WEIGHTS

EPOCHS = 12


def halving(url: str, *overrides: str) -> SweepConfig:
    """Return the settings of a sweep with rungs at epochs 1, 3 and 9 of 12."""
    rungs = ("pruner.name=halving", "pruner.min_epochs=1", "pruner.reduction_factor=3")
    return make_config(url, *rungs, "patience=12", *overrides)


def rising(trial: int) -> list[float]:
    """Return a curve whose rank is the same at each epoch: 13 numbers before they repeat."""
    level = (trial * 5 % 13) / 100
    return [round(0.1 + level + 0.05 * epoch, 3) for epoch in range(EPOCHS)]


def lengths(url: str) -> dict[int, int]:
    return dict(read(url)["epochs_run"])


def folder_of(url: str) -> Path:
    (folder,) = Path(url.removeprefix("sqlite:///")).with_name(WEIGHTS_FOLDER).iterdir()
    return folder


def test_best_trial_is_trained_to_its_end_and_the_others_only_to_their_rungs(
    sqlite_url: str,
) -> None:
    end, events = run_scripted(halving(sqlite_url, "trials=9"), rising)
    assert end.ending == "done"
    frame = read(sqlite_url)
    best = max(range(9), key=lambda n: rising(n)[0])
    assert set(frame["outcome"]) == {"exhausted", "behind"}
    assert frame.loc[best, "outcome"] == "exhausted"
    assert frame.loc[best, "rank"] == 1
    assert sorted(lengths(sqlite_url).values())[-1] == EPOCHS
    assert set(lengths(sqlite_url).values()) <= {1, 3, 9, EPOCHS}
    assert sum(lengths(sqlite_url).values()) == len(of_kind(events, EpochDone)) < 9 * EPOCHS * 0.75


def test_trial_that_was_paused_goes_on_from_its_state_once_it_is_among_the_best(
    sqlite_url: str,
) -> None:
    # Of the first four, trials 0 and 1 are the best two; 1 is promoted when weak ones have come.
    firsts = [0.5, 0.4, 0.3, 0.2, *[0.1] * 8]
    executor = ScriptedExecutor(lambda n: [firsts[n] + 0.01 * i for i in range(EPOCHS)])
    # With a clock as budget nobody waits for all to start.
    config = halving(sqlite_url, "trials=12", "max_minutes=60")
    _, events = run_scripted(config, executor)
    paused = of_kind(events, TrialPaused)
    assert {event.trial for event in paused[:2]} <= {2, 3}
    (first, *_) = [event for event in of_kind(events, TrialPromoted) if event.trial == 2]
    assert first.epoch == 2
    place, *_ = [
        each
        for _, command in executor.commands
        for each in command.place
        if each.trial == 2 and each.segments
    ]
    assert place.segments == ((0, 1),)
    assert place.best_epoch == 1
    assert place.state is not None
    row = queries.trial(sqlite_url, STUDY, 2)
    assert len(row["segments"]) >= 2
    assert [event.epoch for event in of_kind(events, EpochDone) if event.trial == 2] == list(
        range(1, row["epochs_run"] + 1)
    )
    assert [event.trial for event in of_kind(events, TrialStarted)] == list(range(12))


@pytest.mark.parametrize("budget", ["trials=12", "max_total_epochs=60"])
def test_nobody_passes_the_first_rung_before_all_that_may_start_have_come_to_it(
    sqlite_url: str, budget: str
) -> None:
    end, events = run_scripted(halving(sqlite_url, budget), rising)
    assert end.ending == "done"
    epochs = [event.epoch for event in of_kind(events, EpochDone)]
    num_trials = len(read(sqlite_url))
    assert num_trials >= 12
    assert set(epochs[: num_trials - 4]) == {1}  # the last four train at once
    firsts = sorted(
        (event.score, event.trial) for event in of_kind(events, EpochDone) if event.epoch == 1
    )
    promoted = [event.trial for event in of_kind(events, TrialPromoted) if event.epoch == 2]
    assert promoted[0] == max(firsts, key=lambda each: (each[0], -each[1]))[1]
    first = of_kind(events, TrialPaused)[0]
    assert "epoch 1, where the best 2 go on" in first.reason


def test_paused_trial_is_stored_as_such_while_it_may_be_promoted(sqlite_url: str) -> None:
    seen: list[str] = []

    def check(event: Event) -> None:
        if isinstance(event, TrialPaused):
            row = queries.trial(sqlite_url, STUDY, event.trial)
            assert (row["outcome"], row["reason"]) == ("paused", event.reason)
            assert row["best_score"] == event.best_score
            assert row["confusion"] is not None
            seen.append(event.reason)
        if isinstance(event, TrialPromoted):
            row = queries.trial(sqlite_url, STUDY, event.trial)
            assert (row["outcome"], row["best_score"]) == (None, None)

    run_scripted(halving(sqlite_url, "trials=9"), rising, on_event=check)
    assert seen[0].startswith("place 4 of 4 at epoch 1, where the best 2 go on; best 0.")


def test_study_of_epochs_ends_with_them_and_leaves_the_rest_behind(sqlite_url: str) -> None:
    config = halving(sqlite_url, "max_total_epochs=60")
    end, _ = run_scripted(config, rising)
    assert end.ending == "done"
    assert 50 <= sum(lengths(sqlite_url).values()) <= 63
    frame = read(sqlite_url)
    assert set(frame["outcome"]) <= {"behind", "cut short", "exhausted"}
    assert frame["rank"].notna().equals(frame["epochs_run"] > 0)
    assert len(frame) > 12
    assert frame["epochs_run"].max() == EPOCHS


def test_audited_trials_leave_the_others_epochs_to_be_promoted_with(sqlite_url: str) -> None:
    run_scripted(halving(sqlite_url, "max_total_epochs=150", "audit=0.2", "seed=1"), rising)
    frame = read(sqlite_url)
    is_audited = frame["would_stop_outcome"].notna()
    assert is_audited.any()
    # The budget is sized so that the best of the others can come to its end too.
    assert frame.loc[~is_audited, "epochs_run"].max() == EPOCHS
    assert frame["epochs_run"].sum() <= 153


@pytest.mark.parametrize("audit", [0.0, 0.3])
def test_nobody_is_behind_who_was_to_go_on(sqlite_url: str, audit: float) -> None:
    # Audited trials take the budget before all have come to the first rung.
    run_scripted(halving(sqlite_url, "max_total_epochs=90", f"audit={audit}"), rising)
    frame = read(sqlite_url)
    behind = frame.loc[(frame["outcome"] == "behind") & (frame["epochs_run"] > 0), "reason"]
    assert len(behind) > 3
    for reason in behind:
        found = re.match(r"place (\d+) of \d+ at epoch \d+, where the best (\d+|one) ", reason)
        assert found, reason
        assert int(found[1]) > (1 if found[2] == "one" else int(found[2]))


def test_nobody_waits_for_more_trials_than_the_budget_can_compare(sqlite_url: str) -> None:
    # Each of the 48 points of the grid begins as long as anything is left.
    grid = ("sampler.name=grid", "sampler.points=48", "space.optimizer=sgd", "space.dropout=0.5")
    one = ("space.momentum=0.9", "max_total_epochs=60")
    run_scripted(halving(sqlite_url, *one, *grid), rising)
    assert max(lengths(sqlite_url).values()) >= 9


def test_parts_that_a_kill_cut_off_are_stored_though_the_budget_ends_before_the_trial_goes_on(
    sqlite_url: str,
) -> None:
    executor = ScriptedExecutor(rising, killed_at=26)
    with pytest.raises(Killed):
        run_scripted(halving(sqlite_url, "max_total_epochs=90"), executor)
    assert max(lengths(sqlite_url).values()) > 3
    end, events = run_scripted(halving(sqlite_url, "max_total_epochs=5"), rising)
    assert (end.ending, of_kind(events, EpochDone)) == ("done", [])
    for trial, epochs in lengths(sqlite_url).items():
        segments = queries.trial(sqlite_url, STUDY, trial)["segments"] or ()
        assert sum(count for _, count in segments) == epochs


def test_time_limit_cuts_short_what_trained_and_keeps_the_weights_of_the_best(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], thread_time=lambda: 0.0)
    monkeypatch.setattr(sweep, "time", clock)

    def turn(number: int) -> None:
        now[0] += 10.0

    config = halving(sqlite_url, "max_minutes=1")
    end, _ = run_scripted(config, rising, on_turn=turn)
    assert (end.ending, end.exit_code) == ("time is up", 0)
    frame = read(sqlite_url)
    assert set(frame["outcome"]) == {"behind", "cut short"}
    # Nobody was ahead of the best one, whatever the budget had left for it.
    assert frame.loc[frame["rank"].idxmin(), "outcome"] == "cut short"
    assert set(frame.loc[~frame["epochs_run"].isin((0, 1, 3, 9)), "outcome"]) <= {"cut short"}
    has_score = frame["epochs_run"] > 0
    behind = frame.loc[has_score & (frame["outcome"] == "behind"), "reason"]
    assert behind.str.fullmatch(r"place \d+ of \d+ at epoch \d+, .*, when the budget ended").all()
    best = queries.trial(sqlite_url, STUDY, int(frame["rank"].idxmin()))
    assert best["reason"].endswith("when the budget ended")
    weights = folder_of(sqlite_url).parent / best["weights_file"]
    assert weights.read_text() == f"epoch {best['best_epoch']}"


def test_leader_of_an_earlier_run_goes_on_before_any_new_trial(sqlite_url: str) -> None:
    run_scripted(halving(sqlite_url, "max_total_epochs=9"), rising)
    frame = read(sqlite_url)
    leader = int(frame["rank"].idxmin())
    assert frame.loc[leader, "epochs_run"] < EPOCHS
    _, events = run_scripted(halving(sqlite_url, "max_total_epochs=90"), rising)
    first = of_kind(events, EpochDone)[:4]
    assert leader in {event.trial for event in first}


def test_trials_that_do_not_pause_go_on_where_a_budget_ended(sqlite_url: str) -> None:
    for epochs in (20, 40):
        config = make_config(
            sqlite_url, "pruner.name=none", "patience=12", f"max_total_epochs={epochs}"
        )
        end, _ = run_scripted(config, rising)
        assert end.ending == "done"
        assert set(lengths(sqlite_url).values()) == {EPOCHS}  # as many as fit, whole


def test_promoted_trial_that_cannot_be_placed_keeps_its_score_and_the_run_goes_on(
    sqlite_url: str,
) -> None:
    run_scripted(halving(sqlite_url, "max_total_epochs=9"), rising)
    leader = int(read(sqlite_url)["rank"].idxmin())
    executor = ScriptedExecutor(rising, refused=frozenset({leader}))
    end, _ = run_scripted(halving(sqlite_url, "max_total_epochs=60"), executor)
    assert end.ending == "done"
    row = queries.trial(sqlite_url, STUDY, leader)
    assert row["outcome"] == "behind"
    assert row["reason"] == "it could not go on: ValueError: no such model"


def test_larger_budget_goes_on_with_what_was_left_behind(sqlite_url: str) -> None:
    run_scripted(halving(sqlite_url, "max_total_epochs=20"), rising)
    before = lengths(sqlite_url)
    end, events = run_scripted(halving(sqlite_url, "max_total_epochs=80"), rising)
    assert end.ending == "done"
    after = lengths(sqlite_url)
    assert all(after[trial] >= epochs for trial, epochs in before.items())
    assert sum(after.values()) > 60
    told = {(event.trial, event.epoch) for event in of_kind(events, EpochDone)}
    assert not {(trial, epoch) for trial, n in before.items() for epoch in range(1, n + 1)} & told
    end, events = run_scripted(halving(sqlite_url, "max_total_epochs=80"), rising)
    assert (end.ending, of_kind(events, EpochDone)) == ("done", [])


def test_weights_of_the_best_are_on_disk_at_the_end_and_states_of_those_that_may_go_on(
    sqlite_url: str,
) -> None:
    run_scripted(halving(sqlite_url, "max_total_epochs=100"), rising)
    frame = read(sqlite_url).sort_values("rank")
    assert len(frame) > NUM_WEIGHTS
    has_weights = frame["weights_file"].notna()
    assert has_weights.iloc[:NUM_WEIGHTS].all()
    folder = folder_of(sqlite_url)
    for trial in frame.index[:NUM_WEIGHTS]:
        row = queries.trial(sqlite_url, STUDY, int(trial))
        assert (folder.parent / row["weights_file"]).read_text() == f"epoch {row['best_epoch']}"
    rows = [queries.trial(sqlite_url, STUDY, int(trial)) for trial in frame.index]
    needed = {row["state_file"] for row in rows} - {None}
    assert {f"{folder.name}/{path.name}" for path in folder.glob("states-*")} == needed
    assert all(
        row["state_file"]
        for row in rows
        if row["outcome"] in ("behind", "cut short") and row["epochs_run"]
    )


def test_lost_state_is_trained_again_from_the_record(sqlite_url: str) -> None:
    run_scripted(halving(sqlite_url, "max_total_epochs=20"), rising)
    for path in folder_of(sqlite_url).glob("states-*"):
        path.unlink()
    executor = ScriptedExecutor(rising, may_lack_states=True)
    end, _ = run_scripted(halving(sqlite_url, "max_total_epochs=60"), executor)
    assert end.ending == "done"


def test_audited_trial_is_not_paused_and_is_compared_where_it_would_have_been(
    sqlite_url: str,
) -> None:
    config = halving(sqlite_url, "trials=9", "audit=0.4", "max_minutes=60")
    _, events = run_scripted(config, rising)
    frame = read(sqlite_url)
    held = frame["would_stop_outcome"].notna()
    assert set(frame[held]["would_stop_outcome"]) == {"behind"}
    assert set(frame[held]["would_stop_epoch"]) <= {1, 3, 9}
    assert set(frame[held]["outcome"]) == {"exhausted"}
    assert not {event.trial for event in of_kind(events, TrialPaused)} & set(frame[held].index)


def test_audited_trial_that_only_waits_for_others_at_the_first_rung_would_not_have_been_stopped(
    sqlite_url: str,
) -> None:
    _, events = run_scripted(halving(sqlite_url, "trials=9", "audit=0.99"), rising)
    frame = read(sqlite_url)
    firsts = [rising(n)[0] for n in range(9)]
    order = sorted(range(9), key=lambda n: -firsts[n])
    would_stop = dict(frame["would_stop_epoch"])
    # One in three goes on from each rung, and what is audited runs on wherever it would stop.
    assert [n for n in order if would_stop[n] is pd.NA] == [order[0]]
    assert {n: would_stop[n] for n in order[3:]} == dict.fromkeys(order[3:], 1)
    assert all(would_stop[n] == 3 for n in order[1:3])
    assert set(frame["outcome"]) == {"exhausted"}
    paused = {(event.trial, event.epoch) for event in of_kind(events, TrialPaused)}
    assert {epoch for _, epoch in paused} == {1}


CURVES = st.lists(
    st.lists(
        st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7, math.nan]), min_size=EPOCHS, max_size=EPOCHS
    ),
    min_size=14,
    max_size=14,
)


@settings(
    max_examples=18, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    curves=CURVES,
    budget=st.one_of(
        st.integers(5, 9).map(lambda n: f"trials={n}"),
        st.integers(20, 70).map(lambda n: f"max_total_epochs={n}"),
    ),
    patience=st.integers(2, 12),
    workers=st.integers(1, 2),
    kills=st.lists(st.integers(1, 20), max_size=2),
    killers=st.dictionaries(
        st.integers(0, 8), st.tuples(st.integers(1, 4), st.just(1)), max_size=2
    ),
)
def test_no_trial_is_lost_and_no_curve_changes_whatever_dies(
    tmp_path_factory: pytest.TempPathFactory,
    curves: list[list[float]],
    budget: str,
    patience: int,
    workers: int,
    kills: list[int],
    killers: dict[int, tuple[int, int]],
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('study')}/sweeps.db"
    config = halving(url, budget, f"patience={patience}", f"workers={workers}", "seed=1")
    left = dict(killers)
    events: list[Event] = []
    for killed_at in [*kills, None]:
        executor = ScriptedExecutor(
            lambda n: curves[n % len(curves)], killers=left, killed_at=killed_at
        )
        try:
            end, _ = run_scripted(config, executor, on_event=events.append)
        except Killed:
            continue
        assert end.ending in ("done", "failed")
        assert end.ending == "done" or "no trial got a score" in str(end.reason)
        break
    frame = read(url)
    assert list(frame.index) == list(range(len(frame)))
    assert frame["outcome"].notna().all()
    told = [(event.trial, event.epoch) for event in of_kind(events, EpochDone)]
    recorded = queries.curves(url, STUDY)
    for trial, rows in recorded.groupby("trial"):
        scores = curves[int(trial) % len(curves)][: len(rows)]
        assert list(rows["epoch"]) == list(range(1, len(rows) + 1))
        assert list(rows["score"]) == pytest.approx(scores, nan_ok=True)
    assert {
        (int(t), int(e)) for t, e in zip(recorded["trial"], recorded["epoch"], strict=True)
    } >= set(told)
    assert len(told) == len(set(told)), "an epoch is told twice: it may have come out differently"
    ends = [event.trial for event in of_kind(events, TrialEnded)]
    assert len(ends) == len(set(ends))
    spent = len(recorded)
    assert budget.startswith("trials") or spent <= int(budget.split("=")[1])
    ranked = frame[frame["rank"].notna()]
    is_spent = budget.startswith("max") and spent >= int(budget.split("=")[1])
    if len(ranked) and not is_spent:
        # The leader is never left behind while there is budget.
        leaders = ranked[ranked["best_score"] == ranked["best_score"].max()]
        assert set(leaders["outcome"]) & {"stalled", "exhausted"}
    for trial in frame.index:
        row = queries.trial(url, STUDY, int(trial))
        assert sum(epochs for _, epochs in row["segments"] or ()) == frame.loc[trial, "epochs_run"]
