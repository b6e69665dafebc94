"""The state of a run that all its parts share: its trials, and what is to be written of them."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from objectives.api import EpochReport, FusionKey
from storage.records import Checkpoint, Placed, Weights
from sweeps.config.settings import SweepConfig
from sweeps.outcomes import Outcome
from sweeps.running.events import EpochDone, TrialEnded, TrialPaused, TrialPromoted, TrialStarted
from sweeps.running.judge import Judge
from sweeps.running.scheduler import Scheduler, Waiting
from sweeps.running.states import StateFiles
from sweeps.running.stopping import Decision
from sweeps.running.study_writer import Changes, StudyWriter
from sweeps.running.trial import Trial, to_end, to_record
from sweeps.trainers.executor import Executor
from sweeps.trainers.messages import Command, Load, Loaded, Place, Saved

#: Trials in a row that fail before a run gives up: the fault is then not the trial's.
MAX_FAILURES_IN_A_ROW = 5


@dataclass(slots=True)
class Run:
    """A run of a study. For one thread.

    Attributes:
        config: The sweep's settings.
        executor: Starts trainers and carries commands.
        order: What the executor has loaded, and loads again if it dies.
        loaded: What it found.
        writer: Writes the study, and reports what is written.
        judge: The rules that end trials; it knows those that have ended.
        lowest: The lowest score that there is.
        trials: The trials that the study has, by number.
        folder: The study's own folder in the folder of all weights.
        files: The files with the states of its trials.
        scheduler: The trials that wait and those that train.
        changes: What is yet to be handed to the writer.
        busy: What each trainer that has a command does.
        free_since: Since when each of the others has had nothing to do, on the monotonic clock.
        unfinished: The trials that wait or train, by number.
        spent: Epochs that the study's trials have had.
        awaiting_state: Trials that go on once their states are written.
        unsaved: Trials whose weights or states could not be written: the best are trained again.
        unwritten_s: By lane, the seconds that it has trained since its states were written.
        stopped: By trainer that was told to give its epoch up, the file for the states.
        notes: Notes of trainers that have been reported.
        broken: Why trainers break, until their ends are reported.
        failures_in_a_row: Trials that have failed since one last had an epoch.
        idle_deaths: Processes that have died since a trial last had an epoch.
        is_first_held: Whether all trials pause at the first rung: others are to come to it.
        ending: ``done``, ``time is up``, ``interrupted`` or ``failed``, and why it failed; None:
            the run goes on.
        last_end: The trial that ended last, and why.
    """

    config: SweepConfig
    executor: Executor
    order: Load
    loaded: Loaded
    writer: StudyWriter
    judge: Judge
    lowest: float
    trials: dict[int, Trial]
    folder: str
    files: StateFiles
    scheduler: Scheduler[FusionKey]
    changes: Changes = field(default_factory=Changes)
    busy: dict[int, Command] = field(default_factory=dict)
    free_since: dict[int, float] = field(default_factory=dict)
    unfinished: dict[int, Trial] = field(init=False)
    spent: int = field(init=False)
    awaiting_state: set[int] = field(default_factory=set)
    unsaved: set[int] = field(default_factory=set)
    unwritten_s: dict[int, float] = field(default_factory=dict)
    stopped: dict[int, str] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    broken: dict[int, str] = field(default_factory=dict)
    failures_in_a_row: int = 0
    idle_deaths: int = 0
    is_first_held: bool = False
    ending: tuple[str, str | None] | None = None
    last_end: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        self.unfinished = {n: each for n, each in self.trials.items() if each.outcome is None}
        self.spent = sum(each.epochs for each in self.trials.values())

    @property
    def epochs_left(self) -> int | None:
        """Epochs that the budget has left; None: it is not of epochs."""
        budget = self.config.max_total_epochs
        return None if budget is None else max(0, budget - self.spent)

    def list_ranked(self) -> list[Trial]:
        """Return the trials with a score that counts, the best first."""

        def key(trial: Trial) -> tuple[float, float, int]:
            curve = trial.curve
            assert curve.best_score is not None, "filtered below"
            assert curve.best_val_loss is not None, "it has a score"
            return (-curve.best_score, curve.best_val_loss, trial.number)

        left_out = (Outcome.DIVERGED, Outcome.FAILED)
        return sorted(
            (
                each
                for each in self.trials.values()
                if each.curve.best_score is not None and each.outcome not in left_out
            ),
            key=key,
        )

    def weights_path(self, number: int) -> Path:
        """Return the file of a trial's weights."""
        return self.files.path(self._weights_name(number))

    def to_place(self, trial: Trial) -> Place:
        """Return a trial as a trainer is told to place it."""
        state = None if trial.state_file is None else self.files.path(trial.state_file)
        return Place(
            trial.number,
            trial.seed,
            trial.to_params(),
            tuple(trial.segments),
            trial.curve.best_epoch,
            state,
        )

    def start(self, index: int) -> None:
        """Start a trainer."""
        self.executor.start(index, self.loaded.devices[index])
        self.free_since[index] = time.monotonic()

    def wait(self, trial: Trial) -> None:
        """Let a trial wait for a place."""
        trial.outcome = None
        self.trials[trial.number] = self.unfinished[trial.number] = trial
        is_alone, is_known = trial.alone_until is not None, trial.epochs > 0
        self.scheduler.add(Waiting(trial.number, trial.key, is_alone, is_known))
        if not trial.is_promoted:
            self.writer.tell(TrialStarted(trial.number, trial.to_params()))

    def fail(self, reason: str) -> None:
        """Let the run end as failed; the first reason stands."""
        if self.ending is None or self.ending[0] != "failed":
            self.ending = ("failed", reason)

    def add_epoch(self, trial: Trial, report: EpochReport, score: float) -> None:
        """Add an epoch to a trial's curve; it may have no error."""
        curve, changes = trial.curve, self.changes
        if curve.add(report, score):
            self.scheduler.keep(trial.number)
            if trial.has_weights:
                trial.has_weights = False
                changes.weights.append(Weights(trial.number, None, None))
        self.spent += 1
        if trial.is_entering:
            trial.is_entering = False
            self._add_place(trial)
            if trial.is_promoted:
                trial.is_promoted = False
                changes.events.append(TrialPromoted(trial.number, report.epoch))
        changes.epochs.append(to_record(trial.number, report, score))
        best, loss = curve.best_score, curve.best_val_loss
        changes.events.append(
            EpochDone(
                trial.number,
                report.epoch,
                score,
                curve.best_epoch,
                math.nan if best is None else best,
                report.seconds,
                math.nan if loss is None else loss,
            )
        )

    def move_state(self, trial: Trial, name: str | None) -> None:
        """Take in that a trial's present state is in a file, or that it has none any more."""
        self.files.move(trial, name)
        state = Checkpoint(trial.number, trial.state_file, trial.state_epochs)
        self.changes.checkpoints.append(state)

    def pause_trial(self, trial: Trial, reason: str) -> None:
        """Let a trial be paused from now on."""
        if trial.trainer is not None:
            self._add_place(trial)
        self._stop(trial, Decision(Outcome.PAUSED, reason))
        best = trial.curve.best_score
        self.changes.events.append(TrialPaused(trial.number, trial.epochs, best, reason))

    def end_trial(self, trial: Trial, decision: Decision) -> None:
        """End a trial that has left its lane; it needs no state any more."""
        if trial.epochs and trial.trainer is not None:
            self._add_place(trial)
        self._stop(trial, decision)
        self.last_end = (trial.number, decision.reason)
        curve, trial.ending = trial.curve, None
        trial.leave_trainer()
        if trial.state_file is not None:
            self.move_state(trial, None)
        if self.judge.rungs is not None:
            self.judge.rungs.leave(trial.number)
        ended = TrialEnded(
            trial.number,
            decision.outcome.value,
            decision.reason,
            trial.epochs,
            curve.best_epoch,
            curve.best_score,
            curve.best_val_loss,
        )
        self.changes.events.append(ended)

    def add_weights(self, saved: Saved) -> None:
        """Take in that a trial's weights were written."""
        self.trials[saved.trial].has_weights = True
        name = None if saved.sha256 is None else self._weights_name(saved.trial)
        self.changes.weights.append(Weights(saved.trial, name, saved.sha256, saved.predictions))

    def write(self) -> None:
        """Write the changes, and give up where too many trials in a row have failed."""
        changes, self.changes = self.changes, Changes()
        self.writer.record(changes)
        if not self.writer.has_waiting:  # the database names files until it is written
            self.files.clean()
        if self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            last = "" if self.last_end is None else f"; {self.last_end[1]}"
            self.fail(f"{self.failures_in_a_row} trials in a row failed{last}")

    def _stop(self, trial: Trial, decision: Decision) -> None:
        trial.outcome = decision.outcome
        self.unfinished.pop(trial.number, None)
        end = to_end(trial, decision, self.loaded.class_names, lowest=self.lowest)
        self.changes.stopped.append(end)

    def _add_place(self, trial: Trial) -> None:
        assert trial.trainer is not None, "a trial that trains has a trainer"
        device, segments = self.loaded.devices[trial.trainer], tuple(trial.segments)
        self.changes.placed[trial.number] = Placed(trial.number, trial.path, device, segments)

    def _weights_name(self, number: int) -> str:
        return f"{self.folder}/trial-{number}.safetensors"
