"""The state of a run that all its parts share, and the questions that each of them asks."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from objectives.api import FusionKey
from storage.records import Weights
from sweeps.config.settings import SweepConfig
from sweeps.outcomes import Outcome
from sweeps.running.book import StudyBook
from sweeps.running.events import Event, TrialStarted
from sweeps.running.judge import Judge
from sweeps.running.news import News
from sweeps.running.scheduler import Scheduler, Waiting
from sweeps.running.states import StateFiles
from sweeps.running.stopping import Decision
from sweeps.running.trial import Trial
from sweeps.trainers.executor import LocalExecutor
from sweeps.trainers.messages import Command, Load, Loaded, Saved

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
        book: Writes what the run must remember.
        judge: The rules that end trials; it knows those that have ended.
        lowest: The lowest score that there is.
        trials: The trials that the study has, by number.
        folder: The study's own folder in the folder of all weights.
        files: The files with the states of its trials.
        scheduler: The trials that wait and those that train.
        emit: Called with each event, in this thread.
        busy: What each trainer that has a command does.
        free_since: Since when each of the others has had nothing to do, on the monotonic clock.
        promised: Trials that go on, and whose states are yet to be written.
        unwritten_s: By lane, the seconds that it has trained since its states were written.
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
    executor: LocalExecutor
    order: Load
    loaded: Loaded
    book: StudyBook
    judge: Judge
    lowest: float
    trials: dict[int, Trial]
    folder: str
    files: StateFiles
    scheduler: Scheduler[FusionKey]
    emit: Callable[[Event], None]
    busy: dict[int, Command] = field(default_factory=dict)
    free_since: dict[int, float] = field(default_factory=dict)
    promised: set[int] = field(default_factory=set)
    unwritten_s: dict[int, float] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    broken: dict[int, str] = field(default_factory=dict)
    failures_in_a_row: int = 0
    idle_deaths: int = 0
    is_first_held: bool = False
    ending: tuple[str, str | None] | None = None
    last_end: tuple[int, str] | None = None

    @property
    def spent(self) -> int:
        """Epochs that the study's trials have had."""
        return sum(each.epochs for each in self.trials.values())

    @property
    def is_spent(self) -> bool:
        """Whether the budget has no epoch left."""
        budget = self.config.max_total_epochs
        return budget is not None and self.spent >= budget

    def list_unfinished(self) -> list[Trial]:
        """Return the trials that wait or train."""
        return [each for each in self.trials.values() if each.outcome is None]

    def list_ranked(self) -> list[Trial]:
        """Return the trials with a score that counts, the best first."""

        def key(trial: Trial) -> tuple[float, float, int]:
            curve = trial.curve
            assert curve.best_score is not None, "filtered below"
            assert curve.best_epoch is not None, "it has a score"
            return (-curve.best_score, curve.val_losses[curve.best_epoch - 1], trial.number)

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

    def start(self, index: int) -> None:
        """Start a trainer."""
        self.executor.start(index, self.loaded.devices[index])
        self.free_since[index] = time.monotonic()

    def wait(self, trial: Trial) -> None:
        """Let a trial wait for a place."""
        is_suspect, is_known = trial.suspect_until is not None, trial.epochs > 0
        self.scheduler.add(Waiting(trial.number, trial.key, is_suspect, is_known))
        if not trial.is_promoted:
            self.emit(TrialStarted(trial.number, trial.hparams.to_params()))

    def fail(self, reason: str) -> None:
        """Let the run end as failed; the first reason stands."""
        if self.ending is None or self.ending[0] != "failed":
            self.ending = ("failed", reason)

    def make_news(self) -> News:
        """Return empty news."""
        return News(self.loaded.devices, self.loaded.class_names, self.lowest)

    def write(self, news: News) -> None:
        """Write the news, and give up where too many trials in a row have failed."""
        self.book.record(news)
        for event in news.events:
            self.emit(event)
        self.files.clean()
        if self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            last = "" if self.last_end is None else f"; {self.last_end[1]}"
            self.fail(f"{self.failures_in_a_row} trials in a row failed{last}")

    def end_trial(self, trial: Trial, decision: Decision, news: News) -> None:
        """End a trial that has left its lane; it needs no state any more."""
        self.last_end = (trial.number, decision.reason)
        news.add_end(trial, decision)
        if trial.state_file is not None:
            self.files.move(trial, None)
            news.add_checkpoint(trial)
        if self.judge.rungs is not None:
            self.judge.rungs.leave(trial.number)

    def take_weights(self, saved: Saved, news: News) -> None:
        """Take in that a trial's weights were written."""
        self.trials[saved.trial].has_weights = True
        name = self._weights_name(saved.trial)
        news.weights.append(Weights(saved.trial, name, saved.sha256, saved.predictions))

    def _weights_name(self, number: int) -> str:
        return f"{self.folder}/trial-{number}.safetensors"
