"""The owner of a running study: asks, places, judges, pauses, records, and asks again.

Each free trainer gets a command for one of its lanes; while it trains, new trials are asked for
and Optuna's copy is written. Free places go to paused trials that are promoted, then to new
ones. With one trainer, a fixed number of slots and a sampler that learns nothing a sweep is the
same each time, however fast the machine is. Knows neither torch nor a person's code.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from objectives.api import FusionKey
from sweeps.outcomes import Outcome
from sweeps.running.answers import replace_all, replace_trainer, take_answer
from sweeps.running.asking import Asking
from sweeps.running.paused import end_paused, let_go_on, promote, write_best_weights
from sweeps.running.run_state import Run
from sweeps.running.scheduler import Turn
from sweeps.trainers.executor import ParentEnded, Report
from sweeps.trainers.messages import Answer, Broken, Command, Save, Stop

_LOG = logging.getLogger("bestepoch")

_POLL_S = 0.2
#: Seconds that an interrupted run gives the epochs that are being trained, and the trainers.
GIVE_UP_S, STOP_S = 0.7, 2.5
#: Ends of a run that leave what has not ended behind; after others it goes on.
_BUDGET_ENDS = ("done", "time is up")


class Coordinator:
    """Runs one study on an executor's trainers until its target, or until told to stop.

    ``first`` has the values of each trial that goes before all new ones.
    """

    def __init__(self, run: Run, first: Sequence[Mapping[str, Any]]) -> None:
        self._run = run
        self._asking = Asking(run, first)
        self.waited_s = 0.0
        """Seconds in which trainers waited for a command, although there was work."""

    def run(self, stop_requested: Callable[[], str | None]) -> tuple[str, str | None]:
        """Train until nothing is left, or until told to stop.

        Args:
            stop_requested: Asked often: a reason to stop now, or None.

        Returns:
            ``done``, ``time is up``, ``interrupted`` or ``failed``, and why it failed.
        """
        run = self._run
        run.files.sweep()
        self._resume()
        self._asking.ask()
        stopping_since: float | None = None
        while True:
            run.writer.flush()
            if run.ending is None:
                reason = stop_requested() or ("done" if run.epochs_left == 0 else None)
                run.ending = None if reason is None else (reason, None)
            promote(run, self._asking)
            if run.ending is not None or not run.writer.is_full:
                self._dispatch()
            has_new = self._asking.ask()
            if not run.busy and (run.ending is not None or not run.unfinished):
                break
            if run.ending == ("interrupted", None):
                stopping_since = stopping_since or time.monotonic()
                if self._hurry(time.monotonic() - stopping_since):
                    break
            run.writer.copy()
            for report in run.executor.wait(0.0 if has_new and run.free_since else _POLL_S):
                self._take(report)
        ending = run.ending or ("done", None)
        if ending[0] in _BUDGET_ENDS and run.judge.rungs is not None:
            end_paused(run, ending[0])
        elif ending[0] == "done":
            write_best_weights(run)
        if run.unfinished:
            run.writer.interrupt(ending[1] or ending[0])
        run.writer.finish(lambda: "interrupted" in (ending[0], stop_requested()))
        if not (run.busy or run.writer.has_waiting):  # or a file may be half written, or needed
            run.files.sweep()
        return ending

    def find_emptiness(self) -> str | None:
        """Return why a study without an open end has no score, or None if it has one."""
        ended = list(self._run.trials.values())
        if not ended or self._run.list_ranked():
            return None
        number, reason = self._run.last_end or (ended[-1].number, "it ended in an earlier run")
        return f"no trial got a score; trial {number}: {reason}"

    def _resume(self) -> None:
        """Let the trials of earlier runs go on, and start the trainers."""
        run = self._run
        at_rung = set() if run.judge.rungs is None else run.judge.rungs.paused
        is_spent = run.epochs_left == 0
        for each in list(run.trials.values()):
            if each.outcome is None:
                run.wait(each)
            elif each.outcome is Outcome.PAUSED and not (each.number in at_rung or is_spent):
                let_go_on(run, each.number)  # an earlier budget ended before it came to a rung
            elif each.outcome is Outcome.PAUSED and each.ended_as is None and not each.state_file:
                run.unsaved.add(each.number)  # an earlier run died before it had written its state
        for index in range(len(run.loaded.devices)):
            run.start(index)

    def _dispatch(self) -> None:
        """Give each free trainer a command, where there is one."""
        run = self._run
        for index, since in list(run.free_since.items()):
            room = self._make_room(index)
            turn = run.scheduler.next_turn(
                index, len(run.free_since), may_train=run.ending is None, room=room
            )
            if turn is None:
                run.free_since[index] = time.monotonic()
                continue
            _LOG.debug(
                "trainer %d, lane %d of %s: %s; %d stay, %d enter, %d pause, %d wait",
                index,
                turn.lane,
                turn.key,
                turn.why,
                len(turn.staying),
                len(turn.entering),
                len(turn.pause),
                run.scheduler.num_waiting,
            )
            self.waited_s += time.monotonic() - since
            del run.free_since[index]
            run.busy[index] = self._to_command(index, turn)
            run.executor.send(index, run.busy[index])

    def _hurry(self, waited_s: float) -> bool:
        """Stop the epochs that an interrupted run has waited for; return whether to leave them.

        Their trials go on from where they were before the epoch, or from their last states.
        """
        run = self._run
        if waited_s > GIVE_UP_S:
            for index in run.busy.keys() - run.stopped.keys():
                if not run.busy[index].is_trained:
                    continue
                run.stopped[index] = run.files.new_name()
                run.executor.send(index, Stop(run.files.path(run.stopped[index])))
        return waited_s > STOP_S

    def _make_room(self, index: int) -> int | None:
        """Take trials out of a trainer's lanes that may train no more; return how many may join.

        Once the run ends these are all of them, and before that those that the epochs of the
        budget do not suffice for: the best stay. None: as many as fit.
        """
        run = self._run
        placed, left = run.scheduler.placed_with(index), run.epochs_left
        if run.ending is None and left is None:
            return None
        if run.ending is not None or left is None:
            left = 0
        left -= sum(self._count_trained(each) for each in run.busy)
        if len(placed) <= max(0, left):
            return max(0, left) - len(placed)
        rank = {each.number: i for i, each in enumerate(run.list_ranked())}
        placed.sort(key=lambda number: rank.get(number, len(rank)))
        for number in placed[max(0, left) :]:
            is_paused = run.scheduler.pause(number)
            is_budget = run.ending is None or run.ending[0] in _BUDGET_ENDS
            if is_paused and is_budget and run.judge.rungs is not None:
                run.pause_trial(run.trials[number], "the budget ended")
            elif is_paused and run.ending is None:
                run.awaiting_state.add(number)  # another may leave it an epoch
        run.write()
        return 0

    def _count_trained(self, index: int) -> int:
        """Return how many trials a busy trainer trains for an epoch."""
        command = self._run.busy[index]
        lane = (index, command.lane)
        trials = self._run.unfinished.values()
        return sum(command.is_trained and (each.trainer, each.lane) == lane for each in trials)

    def _to_command(self, index: int, turn: Turn[FusionKey]) -> Command:
        """Return a turn as a command; trials that enter have their place from now on."""
        run = self._run
        places = []
        for number in turn.entering:
            trial = run.trials[number]
            trial.trainer, trial.lane, trial.is_entering = index, turn.lane, True
            places.append(run.to_place(trial))
        # One whose end is decided is placed for its weights alone: the lane trains in its next
        # turn.
        is_trained = all(run.trials[number].ending is None for number in turn.entering)
        written = turn.pause
        if run.unwritten_s.get(turn.lane, 0.0) >= run.config.checkpoint_seconds:
            written += turn.staying
            run.unwritten_s[turn.lane] = 0.0
        return Command(
            turn.lane,
            turn.key,
            turn.data_epoch,
            keep=turn.keep,
            save=tuple(Save(number, run.weights_path(number)) for number in turn.save),
            checkpoint=run.files.path(run.files.new_name()) if written else None,
            checkpointed=written,
            drop=(*turn.save, *turn.pause, *turn.drop),
            place=tuple(places),
            is_closed=turn.is_closed,
            is_trained=turn.is_trained and is_trained,
        )

    def _take(self, report: Report) -> None:
        """Take in what an executor reports."""
        run = self._run
        if isinstance(report, ParentEnded):
            replace_all(run)
            return
        index, message = report
        if isinstance(message, Answer):
            take_answer(run, index, message)
        elif not isinstance(message, Broken):
            replace_trainer(run, index, run.broken.pop(index, message.how))
        elif index in run.busy and run.busy[index].is_trained:
            run.broken[index] = message.reason  # its end follows, and names its trials
        else:
            run.fail(f"trainer {index}: {message.reason}")
