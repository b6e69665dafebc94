"""The owner of a running study: asks, places, judges, records, and asks again.

Each free trainer gets a command for one of its lanes; while it trains, new trials are asked for
and Optuna's copy is written. With one trainer and a fixed number of slots a sweep is the same each
time, however fast the machine is. Knows neither torch nor a person's code.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from objectives.api import EpochReport, FusionKey
from sweeps.config import SweepConfig
from sweeps.outcomes import RANKED_OUTCOMES, Outcome
from sweeps.running.book import StudyBook
from sweeps.running.events import Event, Note, TrialStarted
from sweeps.running.intake import Intake, choose_capacity
from sweeps.running.judge import Judge
from sweeps.running.news import News
from sweeps.running.sampling import Sampling
from sweeps.running.scheduler import Scheduler, Turn, Waiting
from sweeps.running.stopping import Decision
from sweeps.running.trial import MAX_KILLS, Trial, new_trial
from sweeps.trainers.executor import ExecutorError, LocalExecutor, ParentEnded, Report
from sweeps.trainers.messages import Answer, Broken, Command, Load, Loaded, Place, Save

#: Trials in a row that fail before a run gives up: the fault is then not the trial's.
MAX_FAILURES_IN_A_ROW = 5
#: Processes in a row that die before a trial has had an epoch in one of them.
MAX_IDLE_DEATHS = 3
_POLL_S = 0.2


class Coordinator:
    """Runs one study on an executor's trainers until its target, or until told to stop.

    Args:
        config: The sweep's settings.
        executor: Starts trainers and carries commands.
        order: What the executor has loaded, and loads again if it dies.
        loaded: What it found.
        book: Writes what the run must remember.
        judge: The rules that end trials; it knows those that have ended.
        lowest: The lowest score that there is.
        trials: The trials that the study has.
        first: Values of each trial that goes before all new ones.
        weights_file: Returns the file of a trial's weights, in ``weights_dir``.
        weights_dir: Folder of all weights.
        on_event: Called with each event, in this thread.
    """

    def __init__(
        self,
        config: SweepConfig,
        executor: LocalExecutor,
        order: Load,
        loaded: Loaded,
        book: StudyBook,
        judge: Judge,
        *,
        lowest: float,
        trials: Sequence[Trial],
        first: Sequence[Mapping[str, Any]],
        weights_file: Callable[[int], str],
        weights_dir: Path,
        on_event: Callable[[Event], None],
    ) -> None:
        self._config = config
        self._executor = executor
        self._order = order
        self._loaded = loaded
        self._book = book
        self._judge = judge
        self._lowest = lowest
        self._trials = {each.number: each for each in trials}
        self._first = list(first)
        self._weights_file = weights_file
        self._weights_dir = weights_dir
        self._emit = on_event
        num_trainers = len(loaded.devices)
        capacity = choose_capacity(config, num_trainers)
        self._intake = Intake(config, capacity, num_trainers)
        self._sampling = Sampling(config.sampler, config.space, config.seed)
        self._scheduler: Scheduler[FusionKey] = Scheduler(
            max(1, capacity // num_trainers), config.slots
        )
        self._busy: dict[int, Command] = {}
        self._free_since: dict[int, float] = {}
        self._notes: set[str] = set()
        self._failures_in_a_row = 0
        self._idle_deaths = 0
        self._broken: dict[int, str] = {}
        self._ending: tuple[str, str | None] | None = None
        self._last_end: tuple[int, str] | None = None
        self.waited_s = 0.0
        """Seconds in which trainers waited for a command, although there was work."""

    def run(self, stop_requested: Callable[[], str | None]) -> tuple[str, str | None]:
        """Train until nothing is left, or until told to stop.

        Args:
            stop_requested: Asked often: a reason to stop now, or None.

        Returns:
            ``done``, ``time is up``, ``interrupted`` or ``failed``, and why it failed.
        """
        for each in self._unfinished():
            self._wait(each)
        for index in range(len(self._loaded.devices)):
            self._start(index)
        self._ask()
        while True:
            if self._ending is None and (reason := stop_requested()) is not None:
                self._ending = (reason, None)
            self._dispatch()
            if not self._busy and (self._ending is not None or self._is_done()):
                break
            has_new = self._ask()
            self._book.copy()
            for report in self._executor.wait(0.0 if has_new and self._free_since else _POLL_S):
                self._take(report)
        if self._ending is not None:
            self._book.interrupt(self._ending[1] or self._ending[0])
        self._book.copy()
        return self._ending or ("done", None)

    def find_emptiness(self) -> str | None:
        """Return why a study without an open end has no score, or None if it has one."""
        ended = list(self._trials.values())
        bests = [each.curve.best_score for each in ended if each.outcome in RANKED_OUTCOMES]
        if not ended or any(best is not None for best in bests):
            return None
        number, reason = self._last_end or (ended[-1].number, "it ended in an earlier run")
        return f"no trial got a score; trial {number}: {reason}"

    def _fail(self, reason: str) -> None:
        if self._ending is None or self._ending[0] != "failed":
            self._ending = ("failed", reason)

    def _unfinished(self) -> list[Trial]:
        return [each for each in self._trials.values() if each.outcome is None]

    def _is_done(self) -> bool:
        target = self._config.trials
        if self._config.sampler.name == "grid":  # which may have fewer points left
            target = min(target, len(self._trials) + len(self._first))
        return len(self._trials) >= target and not self._unfinished()

    def _ask(self) -> bool:
        """Ask for new trials, write them, and let them wait for a place; return whether it did."""
        if self._ending is not None:
            return False
        in_flight = sum(each.outcome is None for each in self._trials.values())
        count = self._intake.count(
            begun=len(self._trials), in_flight=in_flight, waiting=self._scheduler.num_waiting
        )
        if self._config.sampler.name == "grid":
            count = min(count, len(self._first))
        if count == 0:
            return False
        number = max(self._trials, default=-1) + 1
        fixed, self._first = self._first[:count], self._first[count:]
        fixed += [{}] * (count - len(fixed))
        known = [each.as_known(self._lowest) for each in self._trials.values()]
        asked = self._sampling.ask(number, fixed, [each for each in known if each is not None])
        new = [
            new_trial(number + i, self._config.seed, hparams, sampled)
            for i, (hparams, sampled) in enumerate(asked)
        ]
        self._book.begin(new)
        for each in new:
            self._trials[each.number] = each
            self._wait(each)
        return True

    def _wait(self, trial: Trial) -> None:
        is_suspect = trial.suspect_until is not None
        self._scheduler.add(Waiting(trial.number, trial.key, trial.data_epoch, is_suspect))
        self._emit(TrialStarted(trial.number, trial.hparams.to_params()))

    def _start(self, index: int) -> None:
        self._executor.start(index, self._loaded.devices[index])
        self._free_since[index] = time.monotonic()

    def _dispatch(self) -> None:
        """Give each free trainer a command, where there is one."""
        for index, since in list(self._free_since.items()):
            turn = self._scheduler.next_turn(
                index, len(self._free_since), may_train=self._ending is None
            )
            if turn is not None:
                self.waited_s += time.monotonic() - since
                del self._free_since[index]
                self._busy[index] = self._to_command(index, turn)
                self._executor.send(index, self._busy[index])
            else:
                self._free_since[index] = time.monotonic()

    def _to_command(self, index: int, turn: Turn[FusionKey]) -> Command:
        """Return a turn as a trainer is told it."""
        places = []
        for number in turn.entering:
            trial = self._trials[number]
            trial.trainer, trial.lane = index, turn.lane
            places.append(Place(number, trial.seed, trial.hparams.to_params()))
        return Command(
            turn.lane,
            turn.key,
            turn.data_epoch,
            keep=turn.keep,
            save=tuple(
                Save(number, self._weights_dir / self._weights_file(number))
                for number in turn.save
            ),
            drop=(*turn.save, *turn.drop),
            place=tuple(places),
            is_closed=turn.is_closed,
            is_trained=turn.is_trained,
        )

    def _take(self, report: Report) -> None:
        """Take in what an executor reports."""
        if isinstance(report, ParentEnded):
            self._revive()
            return
        index, message = report
        if isinstance(message, Answer):
            self._take_answer(index, message)
        elif not isinstance(message, Broken):
            self._replace(index, self._broken.pop(index, message.how))
        elif index in self._busy and self._busy[index].is_trained:
            self._broken[index] = message.reason  # its end follows, and names its trials
        else:
            self._fail(f"trainer {index}: {message.reason}")

    def _take_answer(self, index: int, answer: Answer) -> None:
        command = self._busy.pop(index)
        self._free_since[index] = time.monotonic()
        news = News(self._loaded.devices, self._loaded.class_names, self._lowest)
        if answer.note is not None and answer.note not in self._notes:
            self._notes.add(answer.note)
            news.add_note(answer.note)
        for saved in answer.saved:
            trial = self._trials[saved.trial]
            assert trial.ending is not None, "weights are written of trials that end"
            self._end(
                trial,
                trial.ending,
                news,
                weights_file=self._weights_file(saved.trial),
                weights_sha256=saved.sha256,
                predictions=saved.predictions,
            )
        for number, reason in answer.refused:
            self._leave(self._trials[number], Decision(Outcome.FAILED, reason), news)
        if command.is_trained:
            self._scheduler.advance(
                command.lane, trained=len(answer.reports), seconds=answer.seconds
            )
        if answer.max_slots is not None:
            self._scheduler.limit(command.lane, answer.max_slots)
        for number in answer.deferred:
            trial = self._trials[number]
            trial.trainer = trial.lane = None
            self._scheduler.put_back(Waiting(number, trial.key, trial.data_epoch))
        for report in answer.reports:
            trial = self._trials[report.slot]
            if trial.epochs == 0:
                trial.data_epoch = command.data_epoch
            self._take_report(trial, report, answer.path, news)
        if answer.reports:
            self._idle_deaths = 0
        self._write(news)

    def _take_report(self, trial: Trial, report: EpochReport, path: str, news: News) -> None:
        """Judge a trial by its epoch."""
        if report.error is not None:
            self._leave(trial, Decision(Outcome.FAILED, report.error), news)
            return
        self._failures_in_a_row = 0
        trial.path = path
        score = self._judge.score(report)
        if trial.curve.add(report, score):
            self._scheduler.keep(trial.number)
        news.add_epoch(trial, report, score)
        if trial.suspect_until is not None and trial.epochs >= trial.suspect_until:
            trial.suspect_until = None
            self._scheduler.clear(trial.number)
        decision = self._judge.decide(trial)
        if decision is not None:
            self._leave(trial, decision, news)

    def _leave(self, trial: Trial, decision: Decision, news: News) -> None:
        """Take a trial out of its lane; if it has weights to keep, they are written first."""
        has_weights = trial.curve.best_epoch is not None
        self._scheduler.leave(trial.number, is_saved=has_weights)
        has_failed = decision.outcome is Outcome.FAILED
        self._failures_in_a_row = self._failures_in_a_row + 1 if has_failed else 0
        if has_weights:
            trial.ending = decision
        else:
            self._end(trial, decision, news)

    def _end(self, trial: Trial, decision: Decision, news: News, **weights: Any) -> None:
        self._last_end = (trial.number, decision.reason)
        news.add_end(trial, decision, **weights)

    def _write(self, news: News) -> None:
        """Write the news, and give up where too many trials in a row have failed."""
        news.write(self._book, self._emit)
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            last = "" if self._last_end is None else f"; {self._last_end[1]}"
            self._fail(f"{self._failures_in_a_row} trials in a row failed{last}")

    def _replace(self, index: int, how: str) -> None:
        """Start another trainer for one that has died; each trial it trained is tried alone."""
        command = self._busy.pop(index, None)
        self._free_since.pop(index, None)
        blamed: set[int] = set()
        if command is not None and command.is_trained:
            blamed = {
                each.number
                for each in self._unfinished()
                if (each.trainer, each.lane) == (index, command.lane)
            }
        elif command is not None:
            blamed = {each.trial for each in command.save}
        self._lose(index, blamed, how)
        if self._ending is not None:
            return
        if not blamed:
            self._idle_deaths += 1
        if self._idle_deaths >= MAX_IDLE_DEATHS:
            self._fail(f"{self._idle_deaths} trainers in a row died, the last of {how}")
            return
        again = "its trials go on in another"
        if len(blamed) > 1:
            again = f"the {len(blamed)} trials that it trained are tried alone"
        self._emit(Note(f"trainer {index} died ({how}); {again}"))
        self._start(index)

    def _lose(self, index: int, blamed: set[int], how: str) -> None:
        """Let the trials of a dead trainer wait again, or fail where they killed it too often.

        Args:
            index: The trainer.
            blamed: Trials that it trained, or whose weights it wrote.
            how: How it ended.
        """
        placed = set(self._scheduler.lose(index))
        # Those whose weights were being written have no place any more, but the trainer.
        lost = [
            each for each in self._unfinished() if each.number in placed or each.trainer == index
        ]
        news = News(self._loaded.devices, self._loaded.class_names, self._lowest)
        for trial in lost:
            if blamed == {trial.number}:
                trial.kills += 1
                self._book.set_kills(trial)
            if trial.kills >= MAX_KILLS:
                reason = f"its process died {trial.kills} times; the last time: {how}"
                self._failures_in_a_row += 1
                self._end(trial, Decision(Outcome.FAILED, reason), news)
                continue
            if trial.number in blamed:
                trial.suspect_until = trial.epochs + 1
            trial.begin_again()
            self._wait(trial)
        self._write(news)

    def _revive(self) -> None:
        """Start the process that loads the data anew, and all trainers with it."""
        for index in range(len(self._loaded.devices)):
            self._lose(index, set(), "the process that loads the data died")
        self._busy.clear()
        self._free_since.clear()
        if self._ending is not None:
            return
        self._emit(Note("the process that loads the data died; all trials go on in another"))
        loaded = self._load_again()
        if loaded is None:
            self._fail("the process that loads the data died again and again")
            return
        if loaded.fingerprint != self._loaded.fingerprint:
            self._fail("load() returned other data in another process; seed its random generator")
            return
        for index in range(len(self._loaded.devices)):
            self._start(index)

    def _load_again(self) -> Loaded | None:
        """Return what was loaded in another process; None: too many in a row have died."""
        while self._idle_deaths < MAX_IDLE_DEATHS:
            self._idle_deaths += 1
            with suppress(ExecutorError):
                return self._executor.restart(self._order)
        return None
