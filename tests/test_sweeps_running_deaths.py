"""What becomes of a study whose processes die, on scripted trainers."""

import math
from collections.abc import Sequence

import pandas as pd
import pytest
from scripted import ScriptedExecutor, make_config, run_scripted

from storage import queries
from sweeps.running.answers import MAX_IDLE_DEATHS
from sweeps.running.events import EpochDone, Event, Note, TrialEnded
from sweeps.running.run_state import MAX_FAILURES_IN_A_ROW
from sweeps.running.trial import MAX_KILLS
from sweeps.trainers.executor import ExecutorError
from sweeps.trainers.messages import Answer, Command, Load, Loaded

RISING = [0.1 + 0.05 * i for i in range(12)]
STUDY = "relation-cnn"


def read(url: str) -> pd.DataFrame:
    return queries.results(url, STUDY).set_index("trial").sort_index()


def assert_all_end_alike(url: str, trials: Sequence[int]) -> None:
    """Assert that trials ended with the whole of their curve, each epoch recorded once."""
    frame = queries.curves(url, STUDY)
    for trial in trials:
        rows = frame[frame["trial"] == trial]
        assert list(rows["epoch"]) == list(range(1, 13))
        assert list(rows["score"]) == pytest.approx(RISING)
    assert set(read(url).loc[list(trials), "outcome"]) == {"exhausted"}


def notes(events: Sequence[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


def ends(events: Sequence[Event]) -> list[int]:
    return sorted(event.trial for event in events if isinstance(event, TrialEnded))


def test_trial_that_kills_its_process_fails_and_its_neighbours_go_on(sqlite_url: str) -> None:
    executor = ScriptedExecutor(lambda n: RISING, killers={2: (3, 99)})
    end, events = run_scripted(make_config(sqlite_url, "trials=9"), executor)
    assert end.ending == "done"
    culprit = queries.trial(sqlite_url, STUDY, 2)
    assert (culprit["outcome"], culprit["kills"], culprit["epochs_run"]) == ("failed", 3, 2)
    assert culprit["reason"] == "its process died 3 times; the last time: signal SIGKILL"
    assert executor.killers[2] == (3, 99 - 1 - MAX_KILLS)  # the first time in company
    assert_all_end_alike(sqlite_url, [0, 1, 3, 4, 5, 6, 7, 8])
    assert list(read(sqlite_url)["kills"]) == [0, 0, 3, 0, 0, 0, 0, 0, 0]
    assert ends(events) == list(range(9))
    first, *more = notes(events)
    assert first == (
        "trainer 0 died (signal SIGKILL); the 4 trials that it trained are tried alone"
    )
    again = "trainer 0 died (signal SIGKILL); its trials go on in another"
    assert more == [again] * MAX_KILLS


def test_trials_of_a_dead_process_train_alone_until_they_pass_its_epoch(sqlite_url: str) -> None:
    executor = ScriptedExecutor(lambda n: RISING, killers={1: (3, 1)})
    run_scripted(make_config(sqlite_url, "trials=4"), executor)
    assert_all_end_alike(sqlite_url, range(4))
    placed = [
        (tuple(each.trial for each in command.place), command.data_epoch)
        for _, command in executor.commands
        if command.place
    ]
    # Each alone for the epoch in which it might have killed.
    assert placed == [((0, 1, 2, 3), 0), ((0,), 0), ((1,), 0), ((2,), 0), ((3,), 0)]
    trained = [command.lane for _, command in executor.commands if command.is_trained]
    assert trained[:3] == [1] * 3
    assert trained[3:7] == [2, 3, 4, 5]
    assert set(trained[7:11]) == {2, 3, 4, 5}  # in turn
    assert queries.trial(sqlite_url, STUDY, 1)["kills"] == 0


def test_other_trainer_goes_on_while_trials_are_tried_alone(sqlite_url: str) -> None:
    executor = ScriptedExecutor(lambda n: RISING, killers={0: (2, 99)})
    config = make_config(sqlite_url, "trials=11", "workers=2")
    end, events = run_scripted(config, executor)
    assert end.ending == "done"
    assert_all_end_alike(sqlite_url, range(1, 11))
    assert all(note.startswith("trainer 0 died") for note in notes(events))
    killed = [i for i, (index, command) in enumerate(executor.commands) if len(command.place) == 1]
    others = [index for index, command in executor.commands[killed[0] : killed[0] + 8]]
    assert set(others) == {0, 1}


def test_kills_are_remembered_by_the_next_run(sqlite_url: str) -> None:
    config = make_config(sqlite_url, "trials=1", "max_minutes=60")
    executor = ScriptedExecutor(lambda n: RISING, killers={0: (5, 99)})

    def stop(event: Event) -> None:
        if isinstance(event, Note) and len(seen) < 2:
            seen.append(event.text)
            if len(seen) == 2:
                raise KeyboardInterrupt

    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_scripted(config, executor, on_event=stop)
    assert queries.trial(sqlite_url, STUDY, 0)["kills"] == 2
    executor = ScriptedExecutor(lambda n: RISING, killers={0: (5, 99)})
    run_scripted(config, executor)
    assert queries.trial(sqlite_url, STUDY, 0)["outcome"] == "failed"
    assert executor.killers == {0: (5, 98)}  # once more


def test_run_gives_up_where_every_trial_kills_its_process(sqlite_url: str) -> None:
    killers = dict.fromkeys(range(24), (1, 99))
    executor = ScriptedExecutor(lambda n: RISING, killers=killers)
    end, _ = run_scripted(make_config(sqlite_url, "trials=24"), executor)
    assert (end.ending, end.exit_code) == ("failed", 1)
    assert end.reason is not None
    assert end.reason.startswith(f"{MAX_FAILURES_IN_A_ROW} trials in a row failed; its process")
    assert end.reason.endswith("signal SIGKILL")
    outcomes = list(read(sqlite_url)["outcome"])
    assert outcomes.count("failed") == MAX_FAILURES_IN_A_ROW
    assert outcomes.count("interrupted") == len(outcomes) - MAX_FAILURES_IN_A_ROW


def test_trial_whose_trainer_dies_while_it_saves_is_trained_again(sqlite_url: str) -> None:
    executor = ScriptedExecutor(lambda n: RISING, dies_saving={1: 1})
    end, events = run_scripted(make_config(sqlite_url, "trials=5"), executor)
    assert end.ending == "done"
    assert_all_end_alike(sqlite_url, range(5))
    assert ends(events) == list(range(5))


def test_trial_whose_weights_kill_each_process_that_saves_them_fails(sqlite_url: str) -> None:
    executor = ScriptedExecutor(lambda n: RISING, dies_saving={1: 99})
    end, _ = run_scripted(make_config(sqlite_url, "trials=5"), executor)
    assert end.ending == "done"
    assert_all_end_alike(sqlite_url, [0, 2, 3, 4])
    assert list(read(sqlite_url)["outcome"])[1] == "failed"
    assert list(read(sqlite_url)["kills"]) == [0, MAX_KILLS, 0, 0, 0]


def test_answer_that_came_before_the_death_is_not_lost(sqlite_url: str) -> None:
    class DiesOnceItHasAnswered(ScriptedExecutor):
        def answer_to(self, index: int, command: Command) -> Answer | None:
            answer = ScriptedExecutor.answer_to(self, index, command)
            if answer is not None and len(self.commands) == 4:
                self.pending.append((index, answer))
                return None
            return answer

    seen: list[int] = []

    def check(event: Event) -> None:
        if isinstance(event, Note):
            frame = queries.curves(sqlite_url, STUDY)
            seen.extend(frame.groupby("trial")["epoch"].max())

    executor = DiesOnceItHasAnswered(lambda n: RISING)
    end, events = run_scripted(make_config(sqlite_url, "trials=4"), executor, on_event=check)
    assert seen == [4, 4, 4, 4]
    assert end.ending == "done"
    assert_all_end_alike(sqlite_url, range(4))
    epochs = [event.epoch for event in events if isinstance(event, EpochDone)]
    assert epochs.count(4) == 4  # it is not reported again


@pytest.mark.parametrize(("times", "ending"), [(MAX_IDLE_DEATHS - 1, "done"), (99, "failed")])
def test_trainer_that_dies_without_a_trial_is_replaced_but_not_for_ever(
    sqlite_url: str, times: int, ending: str
) -> None:
    executor = ScriptedExecutor(lambda n: RISING, dies_idle={1: times})
    end, _ = run_scripted(make_config(sqlite_url, "trials=1", "workers=2"), executor)
    assert end.ending == ending
    if ending == "done":
        assert_all_end_alike(sqlite_url, [0])
    else:
        assert end.reason == f"{MAX_IDLE_DEATHS} trainers in a row died, the last of exit code 1"
        assert read(sqlite_url).loc[0, ["outcome", "kills"]].tolist() == ["interrupted", 0]


def test_all_trials_go_on_where_the_process_that_loads_has_died(sqlite_url: str) -> None:
    executor = ScriptedExecutor(lambda n: RISING, parent_dies_at={1, 9, 14, 40})
    end, events = run_scripted(make_config(sqlite_url, "trials=9", "workers=2"), executor)
    assert end.ending == "done"
    assert executor.loads == 5
    assert_all_end_alike(sqlite_url, range(9))
    assert ends(events) == list(range(9))
    assert (
        notes(events) == ["the process that loads the data died; all trials go on in another"] * 4
    )
    assert set(read(sqlite_url)["kills"]) == {0}


def test_process_that_loads_and_always_dies_ends_the_run(sqlite_url: str) -> None:
    executor = ScriptedExecutor(lambda n: RISING, parent_dies_at=set(range(99)))
    end, _ = run_scripted(make_config(sqlite_url, "trials=4"), executor)
    assert (end.ending, end.reason) == (
        "failed",
        "the process that loads the data died again and again",
    )


@pytest.mark.parametrize(("times", "ending"), [(1, "done"), (99, "failed")])
def test_process_that_dies_while_it_loads_again_is_started_once_more(
    sqlite_url: str, times: int, ending: str
) -> None:
    class DiesAsItLoads(ScriptedExecutor):
        def restart(self, order: Load) -> Loaded:
            loaded = ScriptedExecutor.restart(self, order)
            if self.loads <= 1 + times:
                raise ExecutorError("the process that loads the data died (signal SIGKILL)")
            return loaded

    executor = DiesAsItLoads(lambda n: RISING, parent_dies_at={3})
    end, _ = run_scripted(make_config(sqlite_url, "trials=4"), executor)
    assert end.ending == ending
    if ending == "done":
        assert_all_end_alike(sqlite_url, range(4))


def test_data_that_differ_when_they_are_loaded_again_end_the_run(sqlite_url: str) -> None:
    class LoadsOther(ScriptedExecutor):
        def restart(self, order: Load) -> Loaded:
            self.fingerprint = "other"
            return ScriptedExecutor.restart(self, order)

    executor = LoadsOther(lambda n: RISING, parent_dies_at={3})
    end, _ = run_scripted(make_config(sqlite_url, "trials=4"), executor)
    assert end.ending == "failed"
    assert end.reason is not None
    assert "seed its random generator" in end.reason
    assert not math.isnan(queries.curves(sqlite_url, STUDY)["score"].iloc[0])
