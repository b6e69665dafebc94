"""A fake of the local executor, whose trainers play curves, and a run of a sweep on it.

What it is told must be what a trainer can do: it asserts that no trial is placed twice, kept
before it has trained, or saved after it has left. Database and Optuna are real, and so is the
rest of ``sweeps.run``.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sweeps
from objectives.api import Counts, DataFacts, EpochReport
from storage import queries
from sweeps.config.settings import SweepConfig
from sweeps.running import sweep
from sweeps.running.events import Event
from sweeps.trainers.executor import ParentEnded, Report
from sweeps.trainers.messages import (
    Answer,
    Command,
    Load,
    Loaded,
    Place,
    Saved,
    Stop,
    TrainerEnded,
)

CLASSES = ("no", "yes")
FACTS = DataFacts(10**9, 10**9, (0.5, 0.5), 0.0)
#: Name of the study of ``make_config``.
STUDY = "relation-cnn"
#: What a trial does in an epoch: its score; NaN or inf for a loss; a text for an exception.
Curve = Sequence[float | str]
Script = Callable[[int], Curve]


class Killed(BaseException):
    """The coordinator's process is killed here."""


@dataclass(slots=True)
class ScriptedExecutor:
    """Trainers that play a curve for each trial.

    Attributes:
        script: Curve of each trial, by its number.
        refused: Trials whose model cannot be built.
        killers: For each trial that kills its process: the epoch, and how often it does so.
        dies_saving: Trials whose process dies when their weights are to be written, and how often.
        full_disk: Trials whose weights cannot be written, and how often.
        dies_idle: Trainers that die before they are given anything, and how often.
        parent_dies_at: Numbers of the commands with which the process that loads the data dies.
        killed_at: Number of the answer that the coordinator does not live to read.
        max_slots: Of each lane, as it says.
        may_lack_states: Whether files of states may be gone.
        room: Trials of a lane that memory has room for.
    """

    script: Script
    refused: frozenset[int] = frozenset()
    killers: dict[int, tuple[int, int]] = field(default_factory=dict)
    dies_saving: dict[int, int] = field(default_factory=dict)
    full_disk: dict[int, int] = field(default_factory=dict)
    dies_idle: dict[int, int] = field(default_factory=dict)
    parent_dies_at: set[int] = field(default_factory=set)
    killed_at: int | None = None
    max_slots: int | None = None
    room: int | None = None
    may_lack_states: bool = False
    fingerprint: str = "data"
    commands: list[tuple[int, Command]] = field(default_factory=list)
    loads: int = 0
    pending: deque[Report] = field(default_factory=deque)
    lanes: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)
    trained: list[list[int]] = field(default_factory=list)
    answers: int = 0
    idle_waits: int = 0

    def __enter__(self) -> "ScriptedExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self, order: Load) -> Loaded:
        self.loads += 1
        devices = ("cpu", "cuda:1", "cuda:2")[: order.num_trainers or 1]
        return Loaded(CLASSES, FACTS, None, self.fingerprint, devices, {}, ())

    def restart(self, order: Load) -> Loaded:
        self.close()
        return self.load(order)

    def close(self) -> None:
        self.alive.clear()
        self.lanes.clear()
        self.kept.clear()
        self.pending.clear()

    def start(self, index: int, device: str) -> None:
        assert index not in self.alive, f"trainer {index} is started twice"
        self.alive.add(index)
        if self.dies_idle.get(index):
            self.dies_idle[index] -= 1
            self._die(index, "exit code 1")
            self.pending.rotate()  # before what the others have answered

    def send(self, index: int, command: Command | Stop) -> None:
        if index not in self.alive or isinstance(command, Stop):
            return  # its end is reported; its epoch has ended
        self.commands.append((index, command))
        if len(self.commands) in self.parent_dies_at:
            self.pending.append(ParentEnded())
            return
        fatal = [each.trial for each in command.save if self.dies_saving.get(each.trial)]
        if fatal:
            self.dies_saving[fatal[0]] -= 1
            self._die(index, "signal SIGKILL")
            return
        answer = self.answer_to(index, command)
        if answer is None:
            self._die(index, "signal SIGKILL")
        else:
            self.pending.append((index, answer))

    def wait(self, timeout_s: float) -> list[Report]:
        if not self.pending:
            self.idle_waits += 1
            assert self.idle_waits < 7, "the run is stuck: nobody has anything to do"
            return []
        self.idle_waits = 0
        self.answers += 1
        if self.answers == self.killed_at:
            raise Killed
        return [self.pending.popleft()]

    def _die(self, index: int, how: str) -> None:
        for key in [key for key in self.lanes if key[0] == index]:
            for trial in self.lanes.pop(key):
                self.kept.pop(trial, None)
        self.alive.remove(index)
        self.pending.append((index, TrainerEnded(index, how)))

    def answer_to(self, index: int, command: Command) -> Answer | None:
        """Do what a trainer does; return None if its process dies."""
        key = (index, command.lane)
        assert key in self.lanes or command.place, f"no lane {key} that could be closed"
        lane = self.lanes.setdefault(key, {})
        for trial in command.keep:
            assert lane[trial] > 0, "an epoch is kept before it was trained"
            self.kept[trial] = lane[trial]
        saved, unsaved = [], []
        for each in command.save:
            assert each.trial in lane, "weights are saved of a trial that has left"
            if self.full_disk.get(each.trial):
                self.full_disk[each.trial] -= 1
                unsaved.append((each.trial, "No space left on device"))
                continue
            each.path.parent.mkdir(parents=True, exist_ok=True)
            each.path.write_text(f"epoch {self.kept[each.trial]}")
            saved.append(Saved(each.trial, f"sha of {each.trial}", bytes([self.kept[each.trial]])))
        if command.checkpoint is not None:
            assert not command.checkpoint.exists(), "a file of states is written twice"
            command.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            states = {trial: lane[trial] for trial in command.checkpointed}
            command.checkpoint.write_text(json.dumps(states))
        for trial in command.drop:
            assert trial in lane or trial in self.refused, "a trial leaves twice"
            lane.pop(trial, None)
            self.kept.pop(trial, None)
        refused, counts = [], []
        room = len(command.place) if self.room is None else max(1, self.room - len(lane))
        for place in command.place[:room]:
            placed = [each for trials in self.lanes.values() for each in trials]
            assert place.trial not in placed, "a trial is placed twice"
            if place.trial in self.refused:
                refused.append((place.trial, "ValueError: no such model"))
            else:
                lane[place.trial] = sum(epochs for _, epochs in place.segments)
                if place.best_epoch is not None:
                    self.kept[place.trial] = place.best_epoch
                    counts.append((place.trial, self._count(place)))
                if place.state is not None and not self.may_lack_states:
                    epochs = json.loads(place.state.read_text())[str(place.trial)]
                    assert epochs <= lane[place.trial], "a state is ahead of its record"
        if command.is_closed:
            assert not lane, "a lane with trials is closed"
            del self.lanes[key]
        reports = []
        self.trained.append(list(lane) if command.is_trained else [])
        for trial in lane if command.is_trained else ():
            lane[trial] += 1
            epoch, times = self.killers.get(trial, (0, 0))
            if lane[trial] == epoch and times:
                self.killers[trial] = (epoch, times - 1)
                return None
            reports.append(make_report(trial, lane[trial], self.script(trial)[lane[trial] - 1]))
        return Answer(
            command.lane,
            tuple(reports),
            tuple(saved),
            tuple(unsaved),
            tuple(refused),
            tuple(each.trial for each in command.place[room:]),
            path="plain",
            max_slots=self.max_slots,
            seconds=0.25,
            best_counts=tuple(counts),
        )

    def _count(self, place: Place) -> Counts:
        assert place.best_epoch is not None, "a trial without a best epoch has no counts"
        step = self.script(place.trial)[place.best_epoch - 1]
        return make_report(place.trial, place.best_epoch, step).counts


def make_report(trial: int, epoch: int, step: float | str) -> EpochReport:
    """Return the report of an epoch with 1,000 validation examples of each of two classes."""
    error = step if isinstance(step, str) else None
    score = step if isinstance(step, float) else math.nan
    is_score = math.isfinite(score)
    right = round(score * 1000) if is_score else 999
    matrix = np.array([[right, 1000 - right], [1000 - right, right]])
    return EpochReport(
        slot=trial,
        epoch=epoch,
        train_loss=math.inf if math.isinf(score) else 0.5,
        val_loss=0.5 if is_score else math.nan,
        counts=Counts.of_matrix(matrix),
        learning_rate=0.1,
        grad_norm=1.5,
        seconds=0.25,
        error=error,
    )


def make_config(url: str, *overrides: str) -> SweepConfig:
    """Return the settings of a small sweep with one trainer, four slots a lane and 12 epochs."""
    defaults = ("max_epochs=12", "patience=4", "prune_patience=2", "seed=3", "slots=4")
    one = ("workers=1", "space.batch_size=50", "pruner.name=median")
    return sweeps.load_config("relation-cnn", (*defaults, *one, *overrides), storage=url)


@dataclass(slots=True)
class Poller:
    """Follows a run, and calls something at each turn of its loop."""

    turn: Callable[[int], None]
    turns: int = 0

    def add(self, event: Event) -> None:
        pass

    def poll(self) -> None:
        self.turns += 1
        self.turn(self.turns)

    def finish(self) -> None:
        pass


def run_scripted(
    config: SweepConfig,
    script: Script | ScriptedExecutor,
    *,
    on_event: Callable[[Event], None] | None = None,
    on_turn: Callable[[int], None] | None = None,
    force: bool = False,
) -> tuple[sweep.SweepEnd, list[Event]]:
    """Run a sweep on scripted trainers; return how it ended, and its events.

    Args:
        config: The settings.
        script: The curves, or the trainers.
        on_event: Called with each event.
        on_turn: Called at each turn of the loop, with its number from 1.
        force: As of ``sweeps.run``.
    """
    executor = script if isinstance(script, ScriptedExecutor) else ScriptedExecutor(script)
    events: list[Event] = []

    def note(event: Event) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    def watch(*_: Any) -> AbstractContextManager[Poller]:
        return nullcontext(Poller(on_turn or (lambda turn: None)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "open_executor", lambda: executor)
        end = sweep.run(config, force=force, on_event=note, watch=watch)
    return end, events


def read(url: str) -> pd.DataFrame:
    """Return the results of the study of ``make_config``, by trial."""
    return queries.results(url, STUDY).set_index("trial").sort_index()


def outcomes(url: str) -> dict[int, str]:
    """Return the outcome of each trial."""
    return dict(read(url)["outcome"])


def scores(url: str) -> dict[int, list[float]]:
    """Return the recorded scores of each trial, by epoch."""
    frame = queries.curves(url, STUDY)
    return {int(trial): list(rows["score"]) for trial, rows in frame.groupby("trial")}


def of_kind(events: list[Event], kind: type) -> list[Any]:
    """Return the events of a class."""
    return [event for event in events if isinstance(event, kind)]
