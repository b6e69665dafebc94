"""Writes what a run must remember: our tables first, Optuna's copy behind them.

What is durable is true; what is not durable did not happen. Each call is one transaction, which
is reported once it is written. While the database does not answer, transactions wait in memory in
their order, and training goes on.
"""

import math
import shlex
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from storage import recorder
from storage.database import Database
from storage.holding import StudyHold
from storage.locations import StorageError, StorageUnavailableError
from storage.optuna_mirror import Ending, MirrorTrial, OptunaMirror
from storage.records import (
    Checkpoint,
    EpochRecord,
    HeldStop,
    NewTrial,
    Placed,
    StoredTrial,
    TrialEnd,
    Weights,
)
from sweeps.outcomes import OPEN_OUTCOMES, Outcome
from sweeps.running.events import EpochDone, Event, Note
from sweeps.running.stopping import Decision
from sweeps.running.trial import Trial

#: Seconds between two attempts to write to a database that does not answer: the first and the
#: longest. An attempt may block for seconds itself.
FIRST_RETRY_S, LONGEST_RETRY_S = 0.25, 15.0
#: Transactions that wait in memory before trainers get no further command.
MAX_WAITING = 2000
#: Seconds that an interrupted run waits for its last transactions.
LAST_WAIT_S = 2.0


@dataclass(slots=True)
class Changes:
    """What the answer of a trainer changes: written in one transaction, then reported."""

    placed: dict[int, Placed] = field(default_factory=dict)
    epochs: list[EpochRecord] = field(default_factory=list)
    held: list[HeldStop] = field(default_factory=list)
    stopped: list[TrialEnd] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class StudyWriter:
    """Writes a study that runs. For one thread.

    Args:
        db: The database.
        hold: The lock of the study, which the run holds for as long as it lives.
        study_uuid: The study's key in our tables.
        mirror: Optuna's copy.
        now: Returns the present moment, aware.
        emit: Called with each event once it is written, and with notes on the database.
        patience_s: Seconds for which a database may not answer.
    """

    def __init__(
        self,
        db: Database,
        hold: StudyHold,
        study_uuid: str,
        mirror: OptunaMirror,
        now: Callable[[], datetime],
        emit: Callable[[Event], None],
        *,
        patience_s: float,
    ) -> None:
        self._db = db
        self._hold = hold
        self._uuid = study_uuid
        self._mirror = mirror
        self._now = now
        self._emit = emit
        self._patience_s = patience_s
        # Transactions that wait, each with what is reported once it is written.
        self._waiting: deque[tuple[Callable[[], None], list[Event]]] = deque()
        self._silent_since: float | None = None
        self._next_try, self._delay_s = 0.0, FIRST_RETRY_S
        self._has_copy = True
        self._begun: list[MirrorTrial] = []
        self._reopened: list[int] = []
        self._bests: dict[int, tuple[int, float]] = {}
        self._endings: dict[int, Ending] = {}

    @property
    def has_waiting(self) -> bool:
        """Whether something is not written yet."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing should be trained until it is written."""
        return len(self._waiting) >= MAX_WAITING

    def begin(self, trials: Sequence[Trial]) -> None:
        """Write new trials."""
        new = [NewTrial(each.number, each.seed, each.to_params()) for each in trials]
        now = self._now()
        self._write(lambda: recorder.begin_trials(self._db, self._uuid, new, now=now))
        self._begun += [_to_mirror(each) for each in trials]

    def record(self, changes: Changes) -> None:
        """Write what an answer changes, in one transaction, and report it."""
        now = self._now()
        self._write(
            lambda: recorder.record(
                self._db,
                self._uuid,
                placed=list(changes.placed.values()),
                epochs=changes.epochs,
                held=changes.held,
                stopped=changes.stopped,
                weights=changes.weights,
                checkpoints=changes.checkpoints,
                now=now,
            ),
            changes.events,
        )
        for event in changes.events:
            if not isinstance(event, EpochDone) or not math.isfinite(event.best_score):
                continue
            # Optuna's pages show running bests at epochs 1, 2, 4, 8, ...
            if event.epoch & (event.epoch - 1) == 0:
                self._bests[event.trial] = (event.epoch, event.best_score)
        for end in changes.stopped:
            if (outcome := Outcome(end.outcome)) not in OPEN_OUTCOMES:
                ending = _make_ending(outcome, end.value, end.epochs_run or 0, end.best_score)
                self._endings[end.trial] = ending

    def end_paused(self, ends: Mapping[int, Decision], trials: Mapping[int, Trial]) -> None:
        """Write how paused trials have ended, by number."""
        written = {number: (end.outcome.value, end.reason) for number, end in ends.items()}
        now = self._now()
        self._write(lambda: recorder.end_paused(self._db, self._uuid, written, now=now))
        for number, end in ends.items():
            best, epochs = trials[number].curve.best_score, trials[number].epochs
            self._endings[number] = _make_ending(end.outcome, best, epochs, best)

    def reopen(self, trials: Sequence[int]) -> None:
        """Let trials that ended in Optuna's copy run again there: a larger budget goes on."""
        self._reopened += trials

    def set_kills(self, trial: Trial) -> None:
        """Write how many processes have died of a trial."""
        kills = {trial.number: trial.kills}
        self._write(lambda: recorder.set_kills(self._db, self._uuid, kills))

    def interrupt(self, reason: str) -> None:
        """Write that the trials without an end wait for the next run."""
        self._write(lambda: recorder.interrupt_trials(self._db, self._uuid, reason))

    def tell(self, event: Event) -> None:
        """Report an event, behind those that wait to be written."""
        if self._waiting:
            self._waiting[-1][1].append(event)
        else:
            self._emit(event)

    def flush(self) -> None:
        """Write what waits, as far as the database answers.

        Raises:
            StorageUnavailableError: If it has not answered for the time that a run waits.
            StorageError: If the study is another process's now, or the database is damaged.
        """
        if time.monotonic() < self._next_try:
            return
        while self._waiting:
            transaction, events = self._waiting[0]
            try:
                self._commit(transaction)
            except StorageUnavailableError as error:
                self._wait(error)
                return
            self._waiting.popleft()
            for event in events:
                self._emit(event)
        if self._silent_since is not None:
            self._silent_since, self._delay_s = None, FIRST_RETRY_S
            self._emit(Note("the database answers again; all that waited is written"))

    def finish(self, is_hurried: Callable[[], bool]) -> None:
        """Write all that waits, and Optuna's copy; raises as ``flush``.

        Args:
            is_hurried: Whether the person wants the run to end now: what cannot be written soon
                is trained again by the next run.
        """
        hurried_since: float | None = None
        while self._waiting:
            self.flush()
            if not self._waiting:
                break
            if is_hurried():
                hurried_since = hurried_since or time.monotonic()
                if time.monotonic() - hurried_since > LAST_WAIT_S:
                    self._emit(Note("the last epochs are not written: they are trained again"))
                    return
                self._next_try = 0.0
            time.sleep(FIRST_RETRY_S)
        self.copy()

    def _write(self, transaction: Callable[[], None], events: Sequence[Event] = ()) -> None:
        self._waiting.append((transaction, list(events)))
        self.flush()

    def _commit(self, transaction: Callable[[], None]) -> None:
        """Write while the study is held; once more where a restarted server has hung up."""
        self._check_file()
        try:
            self._hold.check()
            transaction()
        except StorageUnavailableError:
            if self._silent_since is not None:
                raise
            self._hold.check()
            transaction()

    def _check_file(self) -> None:
        """Save what was written, in a new file, where the database has been taken away."""
        if not self._db.is_replaced():
            return
        path = self._db.rescue()
        raise StorageError(
            f"{self._db.where}: was deleted or replaced while the study ran; what had been written"
            f" until then is in {path}: go on with --storage {shlex.quote(str(path))}"
        )

    def _wait(self, error: StorageUnavailableError) -> None:
        """Plan the next attempt, or give up."""
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            minutes = f"{self._patience_s / 60:.3g} minutes"
            text = f"the run waits up to {minutes}, and trains meanwhile"
            self._emit(Note(f"{error}; {text}"))
        if now - self._silent_since > self._patience_s:
            raise error
        self._next_try = now + self._delay_s
        self._delay_s = min(2 * self._delay_s, LONGEST_RETRY_S)

    def catch_up(self, trials: Sequence[Trial], stored: Sequence[StoredTrial]) -> None:
        """Write what a killed run had no time for: parts of trials, and Optuna's copy."""
        cut_off = [
            Placed(each.number, was.path, was.device, tuple(each.segments))
            for each, was in zip(trials, stored, strict=True)
            if was.path and was.device and tuple(each.segments) != was.segments
        ]
        now = self._now()
        self._write(lambda: recorder.record(self._db, self._uuid, placed=cut_off, now=now))
        endings = {}
        for trial, was in zip(trials, stored, strict=True):
            if was.outcome is not None and (outcome := Outcome(was.outcome)) not in OPEN_OUTCOMES:
                best = trial.curve.best_score
                endings[was.trial] = _make_ending(outcome, was.value, trial.epochs, best)
        self._mirror.catch_up([_to_mirror(each) for each in trials], endings)

    def copy(self) -> None:
        """Bring Optuna's copy up to what was written, or leave it to the next run to catch up."""
        if self._waiting or not self._has_copy:
            return
        try:
            self._copy()
        except StorageError as error:
            self._has_copy = False
            self._emit(Note(f"Optuna's copy waits until the next run catches it up: {error}"))

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


def _to_mirror(trial: Trial) -> MirrorTrial:
    sampled = trial.sampled
    return MirrorTrial(trial.number, dict(sampled.params), dict(sampled.distributions))


def _make_ending(
    outcome: Outcome, value: float | None, epochs: int, best_score: float | None
) -> Ending:
    """Return a trial's end in Optuna's copy: trials behind are PRUNED, others COMPLETE or FAIL."""
    from optuna.trial import TrialState

    states = {Outcome.BEHIND: TrialState.PRUNED, Outcome.FAILED: TrialState.FAIL}
    return Ending(states.get(outcome, TrialState.COMPLETE), value, epochs, best_score)
