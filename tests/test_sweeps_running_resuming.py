"""Runs that stop before their study is done, and those that carry it on, on scripted trainers."""

import math
import signal
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from scripted import (
    STUDY,
    Curve,
    Killed,
    ScriptedExecutor,
    make_config,
    of_kind,
    outcomes,
    read,
    run_scripted,
    scores,
)

from storage import queries
from sweeps.config.errors import ConfigError
from sweeps.running import sweep
from sweeps.running.events import EpochDone, Event, Note, TrialEnded, TrialStarted

NAN = math.nan
RISING = [0.1 + 0.05 * i for i in range(12)]
PEAK_THEN_STALL = [0.30, 0.90, 0.60, 0.60, 0.60, 0.60]


def stop_at(turn: int) -> Callable[[int], None]:
    """Return what sends Ctrl-C at a turn of a run's loop."""
    return lambda now: signal.raise_signal(signal.SIGINT) if now == turn else None


def test_interrupted_trials_go_on_under_their_own_numbers(sqlite_url: str) -> None:
    config = make_config(sqlite_url, "trials=17")
    curves = [[0.5] * 5, *[RISING] * 16]
    end, first = run_scripted(config, curves.__getitem__, on_turn=stop_at(9))
    assert (end.ending, end.exit_code) == ("interrupted", 130)
    before = read(sqlite_url)
    assert before.loc[0, "outcome"] == "stalled"
    assert set(before.loc[1:, "outcome"]) == {"interrupted"}

    end, second = run_scripted(config, curves.__getitem__)
    assert end.ending == "done"
    after = read(sqlite_url)
    assert list(after.index) == list(range(17))
    assert not set(after["outcome"]) - {"stalled", "exhausted"}
    same = ["seed", "params"]
    assert after.loc[before.index, same].equals(before[same])
    ends = [event.trial for event in of_kind(first + second, TrialEnded)]
    assert sorted(ends) == list(range(17))
    assert 0 not in {event.trial for event in of_kind(second, TrialStarted)}
    assert scores(sqlite_url) == {n: pytest.approx(curves[n]) for n in range(17)}


def test_interrupted_trial_goes_on_from_its_state(sqlite_url: str) -> None:
    # Trial 4 waits until one of four slots is free, at data epoch 5.
    config = make_config(sqlite_url, "trials=5", "pruner.name=none")
    curves = [[0.5] * 5, *[RISING] * 4]
    run_scripted(config, curves.__getitem__, on_turn=stop_at(11))
    assert [len(each) for each in scores(sqlite_url).values()] == [5, 9, 9, 9, 4]
    executor = ScriptedExecutor(curves.__getitem__)
    _, events = run_scripted(config, executor)
    places = {place.trial: place for _, command in executor.commands for place in command.place}
    assert {trial: place.segments for trial, place in places.items()} == {
        **dict.fromkeys((1, 2, 3), ((0, 9),)),
        4: ((5, 4),),
    }
    (file,) = {place.state for place in places.values()}
    assert file is not None
    assert not file.exists()  # nobody needs it any more
    epochs = [event.epoch for event in of_kind(events, EpochDone) if event.trial == 4]
    assert epochs == list(range(5, 13))
    assert queries.trial(sqlite_url, STUDY, 4)["segments"] == [[5, 4], [0, 8]]


@pytest.mark.parametrize("killed_at", [1, 2, 7, 8, 13, 19, 20, 21, 29])
def test_killed_coordinator_is_followed_by_another_with_the_same_records(
    sqlite_url: str, killed_at: int
) -> None:
    config = make_config(sqlite_url, "trials=9")
    curves: list[Curve] = [RISING, PEAK_THEN_STALL, [0.4, NAN], *[RISING] * 6]
    reported: list[Event] = []
    with pytest.raises(Killed):
        run_scripted(
            config,
            ScriptedExecutor(curves.__getitem__, killed_at=killed_at),
            on_event=reported.append,
        )
    before = read(sqlite_url)
    end, events = run_scripted(config, curves.__getitem__)
    assert end.ending == "done"
    after = read(sqlite_url)
    assert list(after.index) == list(range(9))
    assert after.loc[before.index, "params"].equals(before["params"])
    ends = [event.trial for event in of_kind(reported + events, TrialEnded)]
    assert sorted(ends) == list(range(9))
    recorded = scores(sqlite_url)
    for event in of_kind(reported, EpochDone):
        assert recorded[event.trial][event.epoch - 1] == pytest.approx(
            event.score, abs=0.0, nan_ok=True
        )
    epochs = dict(read(sqlite_url)["epochs_run"])
    assert {n: len(each) for n, each in recorded.items()} == epochs


def test_time_limit_ends_a_run_after_the_epoch_that_is_trained(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=lambda: now[0], thread_time=lambda: 0.0)
    now = [100.0]
    monkeypatch.setattr(sweep, "time", clock)

    def turn(number: int) -> None:
        now[0] += 10.0

    config = make_config(sqlite_url, "trials=9", "max_minutes=1")
    end, events = run_scripted(config, lambda n: RISING, on_turn=turn)
    assert (end.ending, end.reason, end.exit_code) == ("time is up", None, 0)
    assert 0 < len(of_kind(events, EpochDone)) <= 4 * 6
    assert set(outcomes(sqlite_url).values()) == {"interrupted"}  # nothing pauses: they go on


def test_trials_that_have_ended_are_stored_though_the_run_is_stopped_at_that_moment(
    sqlite_url: str,
) -> None:
    # At turn 13 the last epoch of the first four has been judged, and nothing is saved yet.
    for turn in (12, 13):
        end, events = run_scripted(
            make_config(sqlite_url, "trials=5", f"study=at-{turn}"),
            lambda n: RISING,
            on_turn=stop_at(turn),
        )
        ended = {event.trial for event in of_kind(events, TrialEnded)}
        assert (end.ending, ended) == ("interrupted", {0, 1, 2, 3} if turn == 13 else set())


def test_study_grows_to_a_larger_target_and_no_further(sqlite_url: str) -> None:
    for trials, begun in ((3, 3), (5, 2), (5, 0), (4, 0)):
        config = make_config(sqlite_url, f"trials={trials}")
        end, events = run_scripted(config, lambda n: RISING)
        assert (end.ending, len(of_kind(events, TrialStarted))) == ("done", begun)
    assert len(read(sqlite_url)) == 5


def test_trial_that_memory_has_no_room_for_waits_and_keeps_its_curve(sqlite_url: str) -> None:
    config = make_config(sqlite_url, "trials=6", "pruner.name=none")
    curves = [*[[0.5] * 5] * 3, RISING, RISING, RISING]
    run_scripted(config, curves.__getitem__, on_turn=stop_at(9))
    assert [len(each) for each in scores(sqlite_url).values()] == [5, 5, 5, 7, 2, 1]
    executor = ScriptedExecutor(curves.__getitem__, room=1)
    end, _ = run_scripted(config, executor)
    assert end.ending == "done"
    assert scores(sqlite_url)[5] == pytest.approx(RISING)
    clocks = [queries.trial(sqlite_url, STUDY, n)["segments"] for n in range(6)]
    assert clocks == [[[0, 5]]] * 3 + [[[0, 7], [0, 5]]] + [[[5, 2], [0, 10]], [[6, 1], [0, 11]]]
    assert max(len(trials) for trials in executor.trained) == 1


def test_started_study_refuses_other_settings_and_writes_nothing(sqlite_url: str) -> None:
    run_scripted(make_config(sqlite_url, "trials=2"), lambda n: RISING)
    with pytest.raises(ConfigError, match="patience: 4 -> 5"):
        run_scripted(make_config(sqlite_url, "trials=3", "patience=5"), lambda n: RISING)
    assert len(read(sqlite_url)) == 2
    changed = ScriptedExecutor(lambda n: RISING, fingerprint="other")
    with pytest.raises(ConfigError, match="the contents have changed"):
        run_scripted(make_config(sqlite_url, "trials=3"), changed)
    end, events = run_scripted(
        make_config(sqlite_url, "trials=3", "patience=5"), lambda n: RISING, force=True
    )
    assert end.ending == "done"
    (note,) = of_kind(events, Note)
    assert "patience: 4 -> 5" in note.text
