"""What an answer of a trainer brings: written in one transaction, and reported once it is."""

import math
from dataclasses import dataclass, field

from objectives.api import EpochReport
from storage.optuna_mirror import Ending
from storage.records import Checkpoint, EpochRecord, HeldStop, Placed, TrialEnd, Weights
from sweeps.outcomes import Outcome
from sweeps.running.events import (
    EpochDone,
    Event,
    Note,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
)
from sweeps.running.mirrored import make_ending
from sweeps.running.stopping import Decision
from sweeps.running.trial import Trial, last_best, to_end, to_record


@dataclass(slots=True)
class News:
    """The epochs and ends of one answer.

    Attributes:
        devices: Devices of the trainers, by number.
        class_names: Names of the classes, by index.
        lowest: The lowest score that there is.
        bests: The last epoch of each trial, and its running best there, for Optuna's copy.
        endings: How trials ended, for Optuna's copy.
        events: What is reported once all of it is written.
    """

    devices: tuple[str, ...]
    class_names: tuple[str, ...]
    lowest: float
    placed: dict[int, Placed] = field(default_factory=dict)
    epochs: list[EpochRecord] = field(default_factory=list)
    held: list[HeldStop] = field(default_factory=list)
    stopped: list[TrialEnd] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    bests: dict[int, tuple[int, float]] = field(default_factory=dict)
    endings: dict[int, Ending] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def add_note(self, text: str) -> None:
        """Add a line for the person."""
        self.events.append(Note(text))

    def add_epoch(self, trial: Trial, report: EpochReport, score: float) -> None:
        """Add an epoch that a trial's curve has taken in."""
        best = last_best(trial.curve)
        if trial.is_entering:
            trial.is_entering = False
            self._place(trial)
            if trial.is_promoted:
                trial.is_promoted = False
                self.events.append(TrialPromoted(trial.number, report.epoch))
        self.epochs.append(to_record(trial.number, report, score))
        self.bests[trial.number] = (report.epoch, best)
        best_epoch = trial.curve.best_epoch
        loss = math.nan if best_epoch is None else trial.curve.val_losses[best_epoch - 1]
        self.events.append(
            EpochDone(trial.number, report.epoch, score, best_epoch, best, report.seconds, loss)
        )

    def add_checkpoint(self, trial: Trial) -> None:
        """Add that a trial's state was written, or that it has none any more."""
        self.checkpoints.append(Checkpoint(trial.number, trial.state_file, trial.state_epochs))

    def add_pause(self, trial: Trial, reason: str) -> None:
        """Add that a trial is paused from now on."""
        trial.outcome = Outcome.PAUSED
        if trial.trainer is not None:
            self._place(trial)
        self._describe(trial, Decision(Outcome.PAUSED, reason))
        best = trial.curve.best_score
        self.events.append(TrialPaused(trial.number, trial.epochs, best, reason))

    def add_end(self, trial: Trial, decision: Decision) -> None:
        """Add a trial's end; the trial has its outcome from now on, and no place any more."""
        if trial.epochs and trial.trainer is not None:
            self._place(trial)
        trial.outcome, trial.ending = decision.outcome, None
        trial.leave_trainer()
        end = self._describe(trial, decision)
        self.endings[trial.number] = make_ending(decision.outcome, end.value, trial.curve.scores)
        self.events.append(
            TrialEnded(
                trial.number,
                end.outcome,
                end.reason,
                trial.epochs,
                end.best_epoch,
                end.best_score,
                end.best_val_loss,
            )
        )

    def _describe(self, trial: Trial, decision: Decision) -> TrialEnd:
        end = to_end(trial, decision, self.class_names, lowest=self.lowest)
        self.stopped.append(end)
        return end

    def _place(self, trial: Trial) -> None:
        assert trial.trainer is not None, "a trial that trains has a trainer"
        device = self.devices[trial.trainer]
        segments = tuple(trial.segments)
        self.placed[trial.number] = Placed(trial.number, trial.path, device, segments)
