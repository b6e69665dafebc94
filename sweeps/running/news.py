"""What an answer of a trainer brings: written in one transaction, and reported once it is."""

import math
from collections.abc import Callable
from typing import Any

from objectives.api import EpochReport
from storage.optuna_mirror import Ending
from storage.records import EpochRecord, Placed, TrialEnd
from sweeps.running.book import StudyBook, make_ending
from sweeps.running.events import EpochDone, Event, Note, TrialEnded
from sweeps.running.stopping import Decision
from sweeps.running.trial import Trial, last_best, to_end, to_record


class News:
    """Collects the epochs and ends of one answer.

    Args:
        devices: Devices of the trainers, by number.
        class_names: Names of the classes, by index.
        lowest: The lowest score that there is.
    """

    def __init__(self, devices: tuple[str, ...], class_names: tuple[str, ...], lowest: float):
        self._devices = devices
        self._class_names = class_names
        self._lowest = lowest
        self._placed: list[Placed] = []
        self._epochs: list[EpochRecord] = []
        self._ended: list[TrialEnd] = []
        self._bests: dict[int, tuple[int, float]] = {}
        self._endings: dict[int, Ending] = {}
        self._events: list[Event] = []

    def add_note(self, text: str) -> None:
        """Add a line for the person."""
        self._events.append(Note(text))

    def add_epoch(self, trial: Trial, report: EpochReport, score: float) -> None:
        """Add an epoch that a trial's curve has taken in."""
        best = last_best(trial.curve)
        if trial.epochs == 1:
            self._placed.append(self._to_placed(trial))
        self._epochs.append(to_record(trial.number, report, score))
        self._bests[trial.number] = (report.epoch, best)
        best_epoch = trial.curve.best_epoch
        loss = math.nan if best_epoch is None else trial.curve.val_losses[best_epoch - 1]
        self._events.append(
            EpochDone(trial.number, report.epoch, score, best_epoch, best, report.seconds, loss)
        )

    def add_end(self, trial: Trial, decision: Decision, **weights: Any) -> None:
        """Add a trial's end; the trial has its outcome from now on.

        Args:
            trial: The trial.
            decision: Why it ended.
            weights: ``weights_file``, ``weights_sha256`` and ``predictions`` of its best epoch.
        """
        if trial.epochs:
            self._placed.append(self._to_placed(trial))
        trial.outcome, trial.ending, trial.lane, trial.trainer = decision.outcome, None, None, None
        end = to_end(trial, decision, self._class_names, lowest=self._lowest, **weights)
        self._ended.append(end)
        self._endings[trial.number] = make_ending(decision.outcome, end.value, trial.curve.scores)
        self._events.append(
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

    def write(self, book: StudyBook, emit: Callable[[Event], None]) -> None:
        """Write all of it in one transaction, then report it."""
        if self._epochs or self._ended:
            book.record(
                placed=self._placed,
                epochs=self._epochs,
                ended=self._ended,
                bests=self._bests,
                endings=self._endings,
            )
        for event in self._events:
            emit(event)

    def _to_placed(self, trial: Trial) -> Placed:
        assert trial.data_epoch is not None, "a trial that trained had a place"
        assert trial.trainer is not None, "a trial that trained has a trainer until it ends"
        device = self._devices[trial.trainer]
        return Placed(trial.number, trial.path, device, ((trial.data_epoch, trial.epochs),))
