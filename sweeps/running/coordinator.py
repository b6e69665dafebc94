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

from sweeps.outcomes import Outcome
from sweeps.running.answers import take_answer
from sweeps.running.asking import Asking
from sweeps.running.closing import end_paused
from sweeps.running.deaths import replace_trainer, revive
from sweeps.running.promoting import let_go_on, promote
from sweeps.running.run_state import Run
from sweeps.running.turns import to_command
from sweeps.trainers.executor import ParentEnded, Report
from sweeps.trainers.messages import Answer, Broken

_LOG = logging.getLogger("bestepoch")

_POLL_S = 0.2
#: Ends of a run that leave what has not ended behind; after others it goes on.
_BUDGET_ENDS = ("done", "time is up")


class Coordinator:
    """Runs one study on an executor's trainers until its target, or until told to stop.

    Args:
        run: What the study has, and what it is run with.
        first: Values of each trial that goes before all new ones.
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
        while True:
            if run.ending is None:
                reason = stop_requested() or ("done" if run.is_spent else None)
                run.ending = None if reason is None else (reason, None)
            promote(run, self._asking)
            self._dispatch()
            has_new = self._asking.ask()
            if not run.busy and (run.ending is not None or not run.list_unfinished()):
                break
            run.book.copy()
            for report in run.executor.wait(0.0 if has_new and run.free_since else _POLL_S):
                self._take(report)
        ending = run.ending or ("done", None)
        if ending[0] in _BUDGET_ENDS and run.judge.rungs is not None:
            end_paused(run, ending[0])
        if run.list_unfinished():
            run.book.interrupt(ending[1] or ending[0])
        run.book.copy()
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
        is_spent = run.is_spent
        for each in run.trials.values():
            if each.outcome is None:
                run.wait(each)
            elif each.outcome is Outcome.PAUSED and not (each.number in at_rung or is_spent):
                let_go_on(run, each.number)  # an earlier budget ended before it came to a rung
        for index in range(len(run.loaded.devices)):
            run.start(index)

    def _dispatch(self) -> None:
        """Give each free trainer a command, where there is one."""
        run = self._run
        for index, since in list(run.free_since.items()):
            if run.ending is not None:
                self._stop_lanes(index)
            turn = run.scheduler.next_turn(
                index, len(run.free_since), may_train=run.ending is None
            )
            if turn is not None:
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
                run.busy[index] = to_command(run, index, turn)
                run.executor.send(index, run.busy[index])
            else:
                run.free_since[index] = time.monotonic()

    def _stop_lanes(self, index: int) -> None:
        """Take all trials out of a trainer's lanes, their states written first."""
        run = self._run
        news = run.make_news()
        for number in run.scheduler.placed_with(index):
            is_paused = run.scheduler.pause(number)
            is_budget = run.ending is not None and run.ending[0] in _BUDGET_ENDS
            if is_paused and is_budget and run.judge.rungs is not None:
                news.add_pause(run.trials[number], "the budget ended")
        run.write(news)

    def _take(self, report: Report) -> None:
        """Take in what an executor reports."""
        run = self._run
        if isinstance(report, ParentEnded):
            revive(run)
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
