"""Writes what a run must remember: our tables first, Optuna's copy behind them.

What is durable is true; what is not durable did not happen. Each call that writes to our tables is
one transaction, and the copy is written while trainers train.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from storage import recorder
from storage.database import Database
from storage.holding import StudyHold
from storage.locations import StorageError, StorageUnavailableError
from storage.optuna_mirror import Ending, MirrorTrial, OptunaMirror
from storage.records import NewTrial, Placed, StoredTrial
from sweeps.outcomes import OPEN_OUTCOMES, Outcome
from sweeps.running.mirrored import make_ending, to_mirror
from sweeps.running.news import News
from sweeps.running.stopping import Decision
from sweeps.running.trial import Trial


class StudyBook:
    """Writes what a run must remember. For one thread.

    Args:
        db: The database.
        hold: The lock of the study, which the run holds for as long as it lives.
        study_uuid: The study's key in our tables.
        mirror: Optuna's copy.
        now: Returns the present moment, aware.
        on_problem: Called with a line where Optuna's copy cannot be written: never the run's end.
    """

    def __init__(
        self,
        db: Database,
        hold: StudyHold,
        study_uuid: str,
        mirror: OptunaMirror,
        now: Callable[[], datetime],
        on_problem: Callable[[str], None],
    ) -> None:
        self._db = db
        self._hold = hold
        self._uuid = study_uuid
        self._mirror = mirror
        self._now = now
        self._on_problem = on_problem
        self._has_copy = True
        self._begun: list[MirrorTrial] = []
        self._reopened: list[int] = []
        self._bests: dict[int, tuple[int, float]] = {}
        self._endings: dict[int, Ending] = {}

    def begin(self, trials: Sequence[Trial]) -> None:
        """Write new trials."""
        new = [NewTrial(each.number, each.seed, each.hparams.to_params()) for each in trials]
        self._write(lambda: recorder.begin_trials(self._db, self._uuid, new, now=self._now()))
        self._begun += [to_mirror(each) for each in trials]

    def record(self, news: News) -> None:
        """Write what an answer brought, in one transaction."""
        self._write(
            lambda: recorder.record(
                self._db,
                self._uuid,
                placed=list(news.placed.values()),
                epochs=news.epochs,
                held=news.held,
                stopped=news.stopped,
                weights=news.weights,
                checkpoints=news.checkpoints,
                now=self._now(),
            )
        )
        # Optuna's pages show running bests at epochs 1, 2, 4, 8, ...
        self._bests |= {
            number: (epoch, best)
            for number, (epoch, best) in news.bests.items()
            if epoch & (epoch - 1) == 0 and math.isfinite(best)
        }
        self._endings |= news.endings

    def end_paused(self, ends: Mapping[int, Decision], trials: Mapping[int, Trial]) -> None:
        """Write how paused trials have ended, by number."""
        written = {number: (end.outcome.value, end.reason) for number, end in ends.items()}
        self._write(lambda: recorder.end_paused(self._db, self._uuid, written, now=self._now()))
        for number, end in ends.items():
            curve = trials[number].curve
            self._endings[number] = make_ending(end.outcome, curve.best_score, curve.scores)

    def reopen(self, trials: Sequence[int]) -> None:
        """Let trials run again in Optuna's copy that it has as ended: a larger budget goes on."""
        self._reopened += trials

    def set_kills(self, trial: Trial) -> None:
        """Write how many processes have died of a trial."""
        kills = {trial.number: trial.kills}
        self._write(lambda: recorder.set_kills(self._db, self._uuid, kills))

    def interrupt(self, reason: str) -> None:
        """Write that the trials without an end wait for the next run."""
        self._write(lambda: recorder.interrupt_trials(self._db, self._uuid, reason))

    def _write(self, transaction: Callable[[], None]) -> None:
        """Write while the study is held; once more where a restarted server has hung up."""
        try:
            self._hold.check()
            transaction()
        except StorageUnavailableError:
            self._hold.check()
            transaction()

    def catch_up(self, trials: Sequence[Trial], stored: Sequence[StoredTrial]) -> None:
        """Write what a killed run had no time for: parts of trials, and Optuna's copy."""
        cut_off = [
            Placed(each.number, was.path, was.device, tuple(each.segments))
            for each, was in zip(trials, stored, strict=True)
            if was.path and was.device and tuple(each.segments) != was.segments
        ]
        self._write(lambda: recorder.record(self._db, self._uuid, placed=cut_off, now=self._now()))
        endings = {
            each.trial: make_ending(Outcome(each.outcome), each.value, each.scores)
            for each in stored
            if each.outcome is not None and Outcome(each.outcome) not in OPEN_OUTCOMES
        }
        self._mirror.catch_up([to_mirror(each) for each in trials], endings)

    def copy(self) -> None:
        """Bring Optuna's copy up to what was written, or leave it to the next run to catch up."""
        try:
            if self._has_copy:
                self._copy()
        except StorageError as error:
            self._has_copy = False
            self._on_problem(f"Optuna's copy waits until the next run catches it up: {error}")

    def _copy(self) -> None:
        if self._begun:
            self._mirror.begin(self._begun)
            self._begun = []
        if self._reopened:
            self._mirror.reopen(self._reopened)
            self._reopened = []
        if self._bests:
            self._mirror.report(self._bests)
            self._bests = {}
        if self._endings:
            self._mirror.end(self._endings)
            self._endings = {}
