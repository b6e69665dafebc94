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
from storage.records import EpochRecord, NewTrial, Placed, StoredTrial, TrialEnd
from sweeps.curves import best_epoch
from sweeps.outcomes import Outcome
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
        self._bests: dict[int, tuple[int, float]] = {}
        self._endings: dict[int, Ending] = {}

    def begin(self, trials: Sequence[Trial]) -> None:
        """Write new trials."""
        new = [NewTrial(each.number, each.seed, each.hparams.to_params()) for each in trials]
        self._write(lambda: recorder.begin_trials(self._db, self._uuid, new, now=self._now()))
        self._begun += [to_mirror(each) for each in trials]

    def record(
        self,
        *,
        placed: Sequence[Placed] = (),
        epochs: Sequence[EpochRecord] = (),
        ended: Sequence[TrialEnd] = (),
        bests: Mapping[int, tuple[int, float]] | None = None,
        endings: Mapping[int, Ending] | None = None,
    ) -> None:
        """Write the epochs of a lane and the ends of trials, in one transaction.

        Args:
            placed: Trials that were placed, or whose place ended.
            epochs: An epoch a trial.
            ended: Trials that ended.
            bests: The epoch of each trial and its running best there.
            endings: What Optuna's copy says of the trials that ended.
        """
        self._write(
            lambda: recorder.record(
                self._db, self._uuid, placed=placed, epochs=epochs, ended=ended, now=self._now()
            )
        )
        # Optuna's pages show running bests at epochs 1, 2, 4, 8, ...
        self._bests |= {
            number: (epoch, best)
            for number, (epoch, best) in (bests or {}).items()
            if epoch & (epoch - 1) == 0 and math.isfinite(best)
        }
        self._endings |= endings or {}

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
        """Bring Optuna's copy up to what earlier runs have written."""
        endings = {
            each.trial: make_ending(Outcome(each.outcome), each.value, each.scores)
            for each in stored
            if each.outcome not in (None, Outcome.INTERRUPTED.value)
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
        if self._bests:
            self._mirror.report(self._bests)
            self._bests = {}
        if self._endings:
            self._mirror.end(self._endings)
            self._endings = {}


def to_mirror(trial: Trial) -> MirrorTrial:
    """Return a trial as Optuna's copy has it."""
    sampled = trial.sampled
    return MirrorTrial(trial.number, dict(sampled.params), dict(sampled.distributions))


def make_ending(outcome: Outcome, value: float | None, scores: Sequence[float]) -> Ending:
    """Return how a trial's end stands in Optuna's copy.

    Stalled and exhausted trials are COMPLETE with their best epoch's score, diverged ones too with
    the lowest score; trials behind are PRUNED.

    Args:
        outcome: Why it ended.
        value: What Optuna is told.
        scores: Score per epoch; epoch 1 first.
    """
    from optuna.trial import TrialState

    states = {Outcome.BEHIND: TrialState.PRUNED, Outcome.FAILED: TrialState.FAIL}
    best = best_epoch(scores)
    return Ending(
        states.get(outcome, TrialState.COMPLETE),
        value,
        len(scores),
        None if best is None else scores[best - 1],
    )
