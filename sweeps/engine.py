"""One worker's sweep: claim, place, train an epoch, decide, record, finish, and again.

The training thread never waits for a disk: a second thread writes, asks and tells, in the order
in which it was given the work. What a claim brings is looked at one epoch later, so with one
worker the whole sweep is the same each time, however fast the disk is.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from objectives.api import EpochReport, FusionKey, Lane, SlotChoice, Trainer
from objectives.places import describe_error
from search_spaces.hparams import Hparams
from search_spaces.ranges import Range
from storage.records import EpochRow, FinishedTrial
from sweeps import results
from sweeps.audit import HeldStop, compared_end, find_held_stop, is_audited, make_audit_rule
from sweeps.bookkeeping import (
    Bookkeeper,
    ClaimedTrial,
    Claims,
    first_claim,
    most_in_flight,
)
from sweeps.config import SweepConfig
from sweeps.events import EpochDone, Event, Note, TrialEnded, TrialStarted, WorkerEnded
from sweeps.results import Curve
from sweeps.scheduler import Placement, Scheduler, Waiting
from sweeps.stopping import PEER_OUTCOMES, Decision, Outcome, Peers, StopRule, make_pruner
from sweeps.writing_thread import WritingThread

#: Trials in a row that fail before a worker gives up: the fault is then not the trial's.
MAX_FAILURES_IN_A_ROW = 5
_IDLE_S = 0.2


@dataclass(slots=True)
class _Training:
    """A trial that this worker has claimed, and its place once it has one."""

    claimed: ClaimedTrial
    curve: Curve = field(default_factory=Curve)
    place: Placement[FusionKey] | None = None
    held: HeldStop | None = None

    @property
    def number(self) -> int:
        return self.claimed.claim.trial


class Engine:
    """Trains the trials of one worker.

    Args:
        config: The sweep's settings.
        trainer: Opens lanes.
        book: The door to the study; used in the writing thread alone.
        worker: This worker's number, from 0.
        num_workers: Workers of this run, which share the trials in flight.
        weights_dir: Folder of all weights; files are named from here.
        study_uuid: The study's key, which names its folder there.
        on_event: Called with each event, in the training thread.
        stop_requested: Asked at each epoch's end: a reason to stop now, or None. May wait for
            the given seconds until there is one.
    """

    def __init__(
        self,
        config: SweepConfig,
        trainer: Trainer,
        book: Bookkeeper,
        *,
        worker: int,
        num_workers: int,
        weights_dir: Path,
        study_uuid: str,
        on_event: Callable[[Event], None],
        stop_requested: Callable[[float], str | None],
    ) -> None:
        self._config = config
        self._trainer = trainer
        self._book = book
        self._worker = worker
        self._num_workers = num_workers
        self._max_trials = max(1, most_in_flight(config) // num_workers)
        self._weights_dir = weights_dir
        # A study that was deleted and begun again must not find the old one's files.
        self._weights_prefix = f"{config.study}-{study_uuid[:8]}"
        self._emit = on_event
        self._stop_requested = stop_requested
        self._scheduler: Scheduler[FusionKey] = Scheduler(config.slots or self._max_trials)
        self._slots: dict[FusionKey, int] = {}
        self._lanes: dict[int, Lane] = {}
        self._trials: dict[int, _Training] = {}
        self._peers = Peers(config.max_epochs)
        self._rule = StopRule(
            max_epochs=config.max_epochs,
            patience=config.patience,
            prune_patience=config.prune_patience,
            min_delta=config.min_delta,
            num_classes=len(trainer.class_names),
            pruner=make_pruner(config.pruner),
        )
        self._audit_rule = make_audit_rule(self._rule)
        self._judged: set[int] = set()
        self._failures_in_a_row = 0
        self._last_failure = ""
        self._notes: set[str] = set()
        self._pending: list[Future[Sequence[int]]] = []

    def run(self) -> WorkerEnded:
        """Train until nothing is left to claim, or until told to stop.

        An error of the database, or a bug, ends the worker: its trials stay as they are, and the
        next run takes them up.
        """
        started = time.perf_counter()
        with WritingThread() as thread:
            ending = self._run(thread)
        ending = replace(
            ending,
            seconds=time.perf_counter() - started,
            bookkeeping_s=thread.busy_s,
            waited_s=thread.waited_s,
        )
        self._emit(ending)
        return ending

    def _run(self, thread: WritingThread) -> WorkerEnded:
        at_once = first_claim(self._config)
        claims = thread.submit(self._book.claim, min(at_once, self._max_trials))
        while True:
            self._take(thread.wait(claims), thread)
            self._settle_writes()
            # Each time twice as many: the first train while the next are asked for.
            at_once *= 2
            room = self._max_trials - len(self._trials)
            claims = thread.submit(self._book.claim, min(at_once, room))
            lane = self._scheduler.next_lane()
            if lane is not None:
                self._train(lane, thread)
            elif not (claimed := thread.wait(claims)).trials and claimed.is_complete:
                self._settle_writes(thread)
                return WorkerEnded(self._worker, "done")
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                reason = f"{self._failures_in_a_row} trials in a row failed; {self._last_failure}"
                return self._give_up(thread, "failed", reason)
            stop = self._stop_requested(0.0 if lane is not None else _IDLE_S)
            if stop is not None:
                return self._give_up(thread, stop, None)

    def _give_up(self, thread: WritingThread, ending: str, reason: str | None) -> WorkerEnded:
        """Release the running trials for the next run, after all that was done is written."""
        thread.wait(thread.submit(self._book.interrupt, reason or ending))
        self._settle_writes(thread)
        return WorkerEnded(self._worker, ending, reason)

    def _submit(
        self, thread: WritingThread, write: Callable[..., Sequence[int]], *args: object
    ) -> None:
        self._pending.append(thread.submit(write, *args))

    def _settle_writes(self, thread: WritingThread | None = None) -> None:
        """Raise what the writing thread raised, and drop the trials that it found lost.

        Given the thread, wait for all that it was told to write.
        """
        done = [future for future in self._pending if thread is not None or future.done()]
        self._pending = [future for future in self._pending if future not in done]
        for future in done:
            for number in future.result() if thread is None else thread.wait(future):
                training = self._trials.pop(number, None)
                if training is not None:
                    self._emit(Note(self._worker, f"trial {number} was taken over by another"))
                    self._free(training)

    def _take(self, claims: Claims, thread: WritingThread) -> None:
        """Take in what a claim brought, and place what can be placed."""
        for ended in claims.ended:
            outcome, scores = compared_end(ended)
            if outcome in PEER_OUTCOMES:
                self._peers.add(ended.trial, scores)
            elif outcome is Outcome.BEHIND and ended.trial not in self._judged:
                self._peers.add_behind(scores)
        for claimed in claims.trials:
            training = _Training(claimed)
            self._trials[training.number] = training
            key = self._trainer.fusion_key(claimed.hparams)
            self._scheduler.add(Waiting(training.number, key, claimed.data_epoch))
            self._emit(
                TrialStarted(
                    self._worker,
                    training.number,
                    claimed.claim.attempt,
                    claimed.hparams.to_params(),
                )
            )
        while (placement := self._scheduler.place()) is not None:
            self._admit(placement, thread)

    def _admit(self, place: Placement[FusionKey], thread: WritingThread) -> None:
        """Give a trial its slot; a model that cannot be built fails its trial alone."""
        training = self._trials[place.trial]
        claimed = training.claimed
        try:
            if place.is_new_lane:
                self._open_lane(place, claimed.hparams, thread)
            lane = self._lanes[place.lane]
            lane.admit(place.slot, claimed.seed, claimed.hparams)
        except (Exception, SystemExit) as error:  # the user's build_model may raise anything
            if self._scheduler.release(place.lane, place.slot):
                self._lanes.pop(place.lane, None)
            self._finish([(training, Decision(Outcome.FAILED, describe_error(error)))], thread)
            return
        training.place = place
        if lane.note is not None and lane.note not in self._notes:
            self._notes.add(lane.note)
            self._emit(Note(self._worker, lane.note))
        self._submit(thread, self._book.enter, claimed.claim, place.data_epoch)

    def _open_lane(
        self, place: Placement[FusionKey], hparams: Hparams, thread: WritingThread
    ) -> None:
        """Open a lane, with as many slots as pay; that is measured once for each fusion key."""
        lane = self._lanes[place.lane] = self._trainer.open_lane(place.key, place.data_epoch)
        if lane.max_slots is not None:
            self._scheduler.limit(place.lane, lane.max_slots)
            return
        if self._config.slots is not None or self._max_trials == 1:
            return
        if place.key not in self._slots:
            choice = self._trainer.choose_slots(
                place.key, hparams, most=self._max_trials, num_workers=self._num_workers
            )
            self._slots[place.key] = choice.slots
            shape = describe_shape(place.key, self._config)
            self._emit(Note(self._worker, describe_slots(shape, choice), about=f"slots, {shape}"))
            self._submit(thread, self._book.record_slots, place.key, choice)
        self._scheduler.limit(place.lane, self._slots[place.key])

    def _train(self, lane_id: int, thread: WritingThread) -> None:
        """Train a lane for one epoch, record it, and end the trials that are through."""
        lane = self._lanes[lane_id]
        reports = lane.train_epoch()
        self._scheduler.advance(lane_id)
        rows: list[EpochRow] = []
        bests: list[float] = []
        ended: list[tuple[_Training, Decision]] = []
        for report in reports:
            training = self._trials[self._scheduler.trial_in(lane_id, report.slot)]
            if report.error is None:
                row = results.epoch_row(training.claimed.claim, report)
                decision = self._judge(lane, training, report, row)
                rows.append(row)
                bests.append(results.last_best(training.curve))
            else:
                decision = Decision(Outcome.FAILED, report.error)
            if decision is not None:
                ended.append((training, decision))
        self._submit(thread, self._book.record, rows, bests)
        self._finish(ended, thread)

    def _judge(
        self, lane: Lane, training: _Training, report: EpochReport, row: EpochRow
    ) -> Decision | None:
        """Take in a trial's epoch; return why the trial ends, or None if it goes on."""
        curve = training.curve
        if curve.add(report, row.score):
            lane.keep_best(report.slot)
        self._emit(
            EpochDone(
                self._worker,
                training.number,
                report.epoch,
                row.score,
                curve.best_epoch,
                results.last_best(curve),
                report.seconds,
            )
        )
        rule = self._rule if training.held is None else self._audit_rule
        decision = rule.decide(
            curve.train_losses, curve.val_losses, scores=curve.scores, peers=self._peers
        )
        return self._hold_back(training, decision)

    def _hold_back(self, training: _Training, decision: Decision | None) -> Decision | None:
        """Return the decision, or None where the audit lets the trial run on and remembers it.

        Others are compared with the trial as they would be without the audit: from now on, and
        with its curve up to now.
        """
        config, curve = self._config, training.curve
        if decision is None or not is_audited(config.seed, training.number, share=config.audit):
            return decision
        held = find_held_stop(decision, curve.scores, max_epochs=config.max_epochs)
        if held is None:
            return decision
        training.held = held
        if decision.outcome in PEER_OUTCOMES:
            self._peers.add(training.number, curve.scores)
        return None

    def _finish(self, ended: Sequence[tuple[_Training, Decision]], thread: WritingThread) -> None:
        """Store the weights and results of trials that are through, and free their slots."""
        if ended:
            finished = [self._end(training, decision) for training, decision in ended]
            self._submit(thread, self._book.finish, finished)

    def _end(self, training: _Training, decision: Decision) -> FinishedTrial:
        """Take a trial out of its lane; return what is to be remembered of it."""
        del self._trials[training.number]
        self._judged.add(training.number)
        curve, claim, place = training.curve, training.claimed.claim, training.place
        weights_file, weights_sha256 = None, None
        if place is not None and curve.best_epoch is not None:
            weights_file = (
                f"{self._weights_prefix}/trial-{claim.trial}-{claim.attempt}.safetensors"
            )
            weights_sha256 = self._lanes[place.lane].save_best(
                place.slot, self._weights_dir / weights_file
            )
        self._free(training)
        result = results.trial_result(
            decision,
            curve,
            held=training.held,
            weights_file=weights_file,
            weights_sha256=weights_sha256,
        )
        scores = results.best_class_scores(curve, self._trainer.class_names)
        if decision.outcome in PEER_OUTCOMES and training.held is None:
            self._peers.add(training.number, curve.scores)
        if decision.outcome is Outcome.FAILED:
            self._failures_in_a_row += 1
            self._last_failure = decision.reason
        else:
            self._failures_in_a_row = 0
        self._emit(
            TrialEnded(
                self._worker,
                training.number,
                result.outcome,
                result.reason,
                len(curve.scores),
                result.best_epoch,
                result.best_score,
            )
        )
        return FinishedTrial(claim, result, scores)

    def _free(self, training: _Training) -> None:
        """Take a trial out of its lane, and close the lane if it was the last."""
        place = training.place
        if place is None:
            return
        self._lanes[place.lane].release(place.slot)
        if self._scheduler.release(place.lane, place.slot):
            del self._lanes[place.lane]


def describe_shape(key: FusionKey, config: SweepConfig) -> str:
    """Return what tells a lane's trials from those of the study's other lanes."""
    specs = config.space.model
    varying = {name for name, spec in specs.items() if isinstance(spec, Range | tuple)}
    varying |= {name.removeprefix("model.") for one in config.tries for name in one}
    words = [] if key.code_path == "gradient" else [key.code_path]
    words += [f"batches of {key.batch_size}"]
    return ", ".join(words + [f"{name}={value}" for name, value in key.model if name in varying])


def describe_slots(shape: str, choice: SlotChoice) -> str:
    """Return how many slots the lanes of a shape get and the times that decided it, in a line."""
    step_ms = ", ".join(f"{float(f'{1e3 * seconds:.2g}'):g}" for _, seconds in choice.step_s)
    counts = ", ".join(str(slots) for slots, _ in choice.step_s)
    slots = f"{choice.slots} slot{'s' if choice.slots > 1 else ''}"
    return f"{slots} for {shape}: {step_ms} ms a trial's step with {counts}"
