"""Asks Optuna for trials and tells it how they ended; nobody else does.

A result is durable in our tables before Optuna is told; what was not told is told by whoever
claims next. Every claim and every telling holds the study's lock, so whatever is seen half-done
under it was left by a process that has died. Not thread-safe: one thread owns a bookkeeper.
"""

import math
import os
import platform
import socket
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import metadata

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from objectives.api import FusionKey, SlotChoice
from search_spaces.hparams import Hparams
from storage import optuna_writes, queries, recorder, study_recorder
from storage.database import Database
from storage.records import (
    Claim,
    EndedTrial,
    EpochRow,
    FinishedTrial,
    NewTrial,
    Owner,
    UnfinishedTrial,
)
from sweeps import asking
from sweeps.config import SweepConfig
from sweeps.curves import running_best
from sweeps.parameters import list_grid
from sweeps.queued import list_waiting, queue_grid, suggest_fixed
from sweeps.samplers import make_sampler, trial_seed
from sweeps.stopping import Outcome, optuna_state_and_value

#: TPE learns nothing from trials in flight, and a pruner has nothing to compare with, so few of a
#: study's are in flight at once. Of 64 trials of tabular-mlp 4 to 64 at once end within a standard
#: error of each other, many sooner; of 24 trials of relation-cnn, which more slots hardly speed
#: up, 12 at once take longer than 8, for fewer are pruned (tests/benchmarks/RESULTS.md).
_MIN_IN_FLIGHT = 8
_IN_FLIGHT_SHARE = 3
#: A lane of more slots is hardly faster a trial, and as a whole slower to show its first epoch.
_MOST_IN_FLIGHT = 512
#: Trials that a worker asks for before it trains, where an ask takes long: 1 s for these at most.
_FIRST_CLAIM = 16


@dataclass(frozen=True, slots=True)
class ClaimedTrial:
    """A trial that this worker trains.

    Attributes:
        claim: The right to write it.
        seed: Seed of its weights and masks.
        hparams: What it is trained with.
        data_epoch: Data epochs that its lane must have behind it, because an earlier attempt
            entered so; None: any.
    """

    claim: Claim
    seed: int
    hparams: Hparams
    data_epoch: int | None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a claim gave.

    Attributes:
        trials: Trials for this worker, those taken up again first.
        ended: Trials of any worker that have ended since the last claim.
        is_complete: Nothing is left to claim, now or later, unless a worker dies.
    """

    trials: tuple[ClaimedTrial, ...]
    ended: tuple[EndedTrial, ...]
    is_complete: bool


def most_in_flight(config: SweepConfig) -> int:
    """Return how many trials of a study may wait or train at once, over all workers.

    Few where the sampler learns from trials that have ended, or the pruner compares with them;
    where neither does, all that a lane can use.
    """
    learns = config.sampler.name not in ("random", "qmc", "grid") or config.pruner.name != "none"
    if learns:
        return max(_MIN_IN_FLIGHT, config.trials // _IN_FLIGHT_SHARE)
    return max(_MIN_IN_FLIGHT, min(config.trials, _MOST_IN_FLIGHT))


def first_claim(config: SweepConfig) -> int:
    """Return how many trials a worker asks for before it trains the first.

    The next are asked for while these train. At random all are asked for at once, 0.3 ms each;
    TPE takes up to 60 ms beside 10,000 trials.
    """
    return most_in_flight(config) if config.sampler.name == "random" else _FIRST_CLAIM


def make_owner(device: str) -> Owner:
    """Return this process as the owner of trials, with a token of its own."""
    names = ("bestepoch", "numpy", "optuna", "torch")
    return Owner(
        token=str(uuid.uuid4()),
        host=socket.gethostname(),
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
        device=device,
        versions={"python": platform.python_version()}
        | {name: metadata.version(name) for name in names},
    )


def is_left(trial: UnfinishedTrial) -> bool:
    """Return whether nobody trains the trial: it was released, or its owner here has died.

    An owner on another host counts as alive: nothing here can tell.
    """
    if trial.token is None:
        return True
    if trial.host != socket.gethostname():
        return False
    try:
        process = psutil.Process(trial.pid)
        # A second's tolerance: the time of booting, which this is counted from, is rounded.
        is_same = abs(process.create_time() - trial.process_started) < 1.0
        return not is_same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Bookkeeper:
    """A worker's door to its study.

    Args:
        db: The database.
        config: The sweep's settings.
        study_uuid: The study's key in our tables.
        owner: This worker.
        data_fingerprint: SHA-256 over the data.
        now: Returns the present moment, aware.
    """

    def __init__(
        self,
        db: Database,
        config: SweepConfig,
        *,
        study_uuid: str,
        owner: Owner,
        data_fingerprint: str,
        now: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._config = config
        self._uuid = study_uuid
        self._owner = owner
        self._fingerprint = data_fingerprint
        self._now = now
        self._storage = db.optuna_storage()
        self._study = optuna.load_study(
            study_name=config.study, storage=self._storage, sampler=optuna.samplers.RandomSampler()
        )
        self._study_id = self._storage.get_study_id_from_name(config.study)
        self._known_ended: set[int] = set()
        is_grid = config.sampler.name == "grid"
        self._grid = list_grid(config.space, config.sampler.points) if is_grid else None

    def claim(self, limit: int) -> Claims:
        """Take up to ``limit`` trials: first those that nobody trains any more, then new ones.

        Args:
            limit: Trials that this worker has room for. With 0 the study is not locked, and the
                trials that have ended are all that is looked for.
        """
        if limit == 0:
            return Claims((), self._newly_ended(), is_complete=False)
        claimed: list[ClaimedTrial] = []
        with self._db.study_lock(self._config.study):
            unfinished = queries.unfinished_trials(self._db, self._uuid)
            self._tell_untold()
            trials = self._study.get_trials(deepcopy=False)
            left = [trial for trial in unfinished if is_left(trial)]
            claimed.extend(self._restart(trial) for trial in left[:limit])
            known = {trial.trial for trial in unfinished}
            orphans = [
                trial
                for trial in trials
                if trial.state == TrialState.RUNNING and trial.number not in known
            ]
            claimed.extend([self._adopt(trial) for trial in orphans[: limit - len(claimed)]])
            waiting = list_waiting(trials)
            num_begun = len(trials) - len(waiting)
            in_flight = sum(trial.state == TrialState.RUNNING for trial in trials)
            room = min(
                limit - len(claimed),
                self._config.trials - num_begun,
                most_in_flight(self._config) - in_flight,
            )
            room = max(room, 0)
            is_exhausted = False
            if self._grid is not None:
                queued = queue_grid(self._study, self._grid, trials, num_wanted=room)
                is_exhausted, room = queued < room, min(room, queued)
            claimed.extend(self._ask(number) for number in waiting[:room])
            numbers = range(len(trials), len(trials) + max(0, room - len(waiting)))
            # Read anew only where this claim has changed them.
            present = self._study.get_trials(deepcopy=False) if claimed else trials
            claimed.extend(self._ask_new(numbers, beside=present))
        is_target = num_begun + room >= self._config.trials or is_exhausted
        is_complete = is_target and not left and not orphans
        return Claims(tuple(claimed), self._newly_ended(), is_complete)

    def _newly_ended(self) -> tuple[EndedTrial, ...]:
        ended = queries.finished_curves(self._db, self._uuid, known=self._known_ended)
        self._known_ended.update(trial.trial for trial in ended)
        return tuple(ended)

    def enter(self, claim: Claim, data_epoch: int) -> Sequence[int]:
        """Write how many data epochs the trial's lane had behind it; return it if it is lost."""
        try:
            recorder.set_first_data_epoch(self._db, claim=claim, first_data_epoch=data_epoch)
        except recorder.LostTrial as error:
            return error.trials
        return ()

    def record_slots(self, key: FusionKey, choice: SlotChoice) -> Sequence[int]:
        """Write how many slots a lane got, and the times that decided it."""
        study_recorder.record_slots(
            self._db,
            study_uuid=self._uuid,
            owner=self._owner,
            lane=asdict(key) | {"model": dict(key.model)},
            slots=choice.slots,
            step_seconds=dict(choice.step_s),
            now=self._now(),
        )
        return ()

    def record(self, rows: Sequence[EpochRow], bests: Sequence[float]) -> Sequence[int]:
        """Write an epoch of a lane; return the trials that are no longer this worker's.

        Args:
            rows: A row a trial.
            bests: Each trial's running best, which Optuna's pages show at epochs 1, 2, 4, 8, ...
        """
        lost: Sequence[int] = ()
        try:
            recorder.record_epochs(self._db, rows)
        except recorder.LostTrial as error:
            lost = error.trials
        steps = {
            row.claim.trial: (row.epoch, best)
            for row, best in zip(rows, bests, strict=True)
            if row.epoch & (row.epoch - 1) == 0 and math.isfinite(best)
        }
        shown = {trial: step for trial, step in steps.items() if trial not in lost}
        if shown:
            with self._db.write() as connection:
                optuna_writes.report(connection, self._study_id, shown)
        return lost

    def finish(self, finished: Sequence[FinishedTrial]) -> Sequence[int]:
        """Write how trials ended, then tell Optuna; return those that are lost."""
        lost: Sequence[int] = ()
        with self._db.study_lock(self._config.study):
            try:
                recorder.finish_trials(self._db, finished, now=self._now())
            except recorder.LostTrial as error:
                lost = error.trials
            self._tell_untold()
        return lost

    def interrupt(self, reason: str) -> None:
        """Release this worker's running trials, so that the next run takes them up."""
        recorder.interrupt_trials(
            self._db, study_uuid=self._uuid, token=self._owner.token, reason=reason
        )

    def _restart(self, trial: UnfinishedTrial) -> ClaimedTrial:
        claim = recorder.restart_trial(
            self._db,
            study_uuid=self._uuid,
            trial=trial.trial,
            attempt=trial.attempt,
            owner=self._owner,
            now=self._now(),
        )
        hparams = Hparams.model_validate(trial.params)
        return ClaimedTrial(claim, trial.seed, hparams, trial.first_data_epoch)

    def _adopt(self, orphan: FrozenTrial) -> ClaimedTrial:
        """Take a trial whose asker died before it could write it down."""
        self._study.sampler = self._sampler(orphan.number)
        trial = optuna.trial.Trial(self._study, self._trial_id(orphan.number))
        return self._begin(trial)

    def _ask(self, number: int) -> ClaimedTrial:
        self._study.sampler = self._sampler(number)
        trial = self._study.ask()
        assert trial.number == number, f"asked for trial {number}, got {trial.number}"
        return self._begin(trial)

    def _begin(self, trial: optuna.Trial) -> ClaimedTrial:
        hparams = suggest_fixed(self._config.space, trial, self._storage)
        (claimed,) = self._begin_all([(trial.number, hparams)])
        return claimed

    def _ask_new(
        self, numbers: Sequence[int], *, beside: Sequence[FrozenTrial]
    ) -> list[ClaimedTrial]:
        """Ask for trials of which nothing is known yet, beside those that the study has."""
        if self._config.sampler.name not in asking.IN_MEMORY:
            return [self._ask(number) for number in numbers]
        if not numbers:
            return []
        drawn = asking.draw_trials(
            self._study, self._config.space, beside, numbers=numbers, make_sampler=self._sampler
        )
        with self._db.write() as connection:
            given = optuna_writes.create_trials(
                connection, self._study_id, [trial for trial, _ in drawn]
            )
            assert given == list(numbers), f"asked for trials {list(numbers)}, got {given}"
        return self._begin_all([(trial.number, hparams) for trial, hparams in drawn])

    def _begin_all(self, asked: Sequence[tuple[int, Hparams]]) -> list[ClaimedTrial]:
        new = [
            NewTrial(number, trial_seed(self._config.seed, number), hparams.to_params())
            for number, hparams in asked
        ]
        claims = recorder.begin_trials(
            self._db,
            study_uuid=self._uuid,
            trials=new,
            owner=self._owner,
            now=self._now(),
            data_fingerprint=self._fingerprint,
        )
        return [
            ClaimedTrial(claim, trial.seed, hparams, None)
            for claim, trial, (_, hparams) in zip(claims, new, asked, strict=True)
        ]

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        config = self._config
        return make_sampler(config.sampler, config.seed, trial_number=number, space=config.space)

    def _tell_untold(self) -> None:
        """Tell Optuna of each trial that ended; the caller holds the study's lock."""
        untold = queries.untold_trials(self._db, self._uuid)
        if not untold:
            return
        with self._db.write() as connection:
            optuna_writes.end_trials(
                connection, self._study_id, {trial.trial: _to_ending(trial) for trial in untold}
            )
        told = [trial.trial for trial in untold]
        recorder.mark_told(self._db, study_uuid=self._uuid, trials=told)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _to_ending(trial: EndedTrial) -> optuna_writes.Ending:
    """Return what Optuna is told of a trial that ended."""
    bests = running_best(trial.score)
    best = bests[-1] if bests and math.isfinite(bests[-1]) else None
    outcome = Outcome(trial.outcome)
    told = optuna_state_and_value(outcome, trial.value)
    assert told is not None, f"a trial that is {outcome} has not ended"
    state, value = told
    # A pruned trial has the value of its last step.
    return optuna_writes.Ending(
        state, best if outcome is Outcome.BEHIND else value, len(bests), best
    )
