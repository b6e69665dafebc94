"""Takes in what trainers report: states, weights, epochs and what these end, and deaths."""

import time
from contextlib import suppress

from objectives.api import EpochReport
from sweeps.outcomes import Outcome
from sweeps.running.events import Note
from sweeps.running.run_state import Run
from sweeps.running.scheduler import Waiting
from sweeps.running.stopping import Decision
from sweeps.running.trial import MAX_KILLS, Trial
from sweeps.trainers.executor import ExecutorError
from sweeps.trainers.messages import Answer, Command, Loaded

#: Processes in a row that die before a trial has had an epoch in one of them.
MAX_IDLE_DEATHS = 3


def take_answer(run: Run, index: int, answer: Answer) -> None:
    """Take in the answer of a trainer, which is free from now on, and write what it brings."""
    command = run.busy.pop(index)
    run.free_since[index] = time.monotonic()
    if answer.is_stopped:
        _take_stop(run, index, command, answer)
        return
    for text in answer.notes:
        if text not in run.notes:
            run.notes.add(text)
            run.changes.events.append(Note(text))
    if command.checkpoint is not None:
        _take_states(run, command, answer)
    for number, counts in answer.best_counts:
        run.trials[number].curve.best_counts = counts
    for saved in answer.saved:
        trial = run.trials[saved.trial]
        assert trial.ending is not None, "weights are written of trials that end"
        run.add_weights(saved)
        run.end_trial(trial, trial.ending)
    for number, reason in answer.unsaved:
        trial = run.trials[number]
        assert trial.ending is not None, "weights are written of trials that end"
        run.unsaved.add(number)
        text = "its result is stored, and its weights are written at the end of the run"
        run.changes.events.append(Note(f"trial {number}: {text}: {reason}"))
        run.end_trial(trial, trial.ending)
    for number, reason in answer.refused:
        _refuse(run, run.trials[number], reason)
    if command.is_trained:
        run.scheduler.advance(command.lane, trained=len(answer.reports), seconds=answer.seconds)
        unwritten_s = run.unwritten_s.get(command.lane, 0.0)
        run.unwritten_s[command.lane] = unwritten_s + answer.seconds
    if answer.max_slots is not None:
        run.scheduler.limit(command.lane, answer.max_slots)
    for number in answer.deferred:
        trial = run.trials[number]
        trial.leave_trainer()
        run.scheduler.put_back(Waiting(number, trial.key, is_known=trial.epochs > 0))
    for number in (each.trial for each in command.place):
        trial = run.trials[number]
        if trial.ending is not None and trial.lane == command.lane:
            run.scheduler.leave(number, is_saved=True)
    if answer.reports:
        _take_epoch(run, command, answer)
        run.idle_deaths = 0
    run.write()


def replace_trainer(run: Run, index: int, how: str) -> None:
    """Start another trainer for one that has died; each trial it trained is tried alone."""
    command = run.busy.pop(index, None)
    run.free_since.pop(index, None)
    blamed: set[int] = set()
    if command is not None and command.is_trained:
        blamed = {
            each.number
            for each in run.unfinished.values()
            if (each.trainer, each.lane) == (index, command.lane)
            and each.number not in run.awaiting_state
        }
    elif command is not None:
        blamed = {each.trial for each in command.save} | {each.trial for each in command.place}
    _lose_trainer(run, index, blamed, how)
    if run.ending is not None:
        return
    if not blamed:
        run.idle_deaths += 1
    if run.idle_deaths >= MAX_IDLE_DEATHS:
        run.fail(f"{run.idle_deaths} trainers in a row died, the last of {how}")
        return
    again = "its trials go on in another"
    if len(blamed) > 1:
        again = f"the {len(blamed)} trials that it trained are tried alone"
    run.writer.tell(Note(f"trainer {index} died ({how}); {again}"))
    run.start(index)


def replace_all(run: Run) -> None:
    """Start the process that loads the data anew, and all trainers with it."""
    for index in range(len(run.loaded.devices)):
        _lose_trainer(run, index, set(), "the process that loads the data died")
    run.busy.clear()
    run.free_since.clear()
    if run.ending is not None:
        return
    run.writer.tell(Note("the process that loads the data died; all trials go on in another"))
    loaded = _load_again(run)
    if loaded is None:
        run.fail("the process that loads the data died again and again")
    elif loaded.fingerprint != run.loaded.fingerprint:
        run.fail("load() returned other data in another process; seed its random generator")
    else:
        for index in range(len(run.loaded.devices)):
            run.start(index)


def _take_stop(run: Run, index: int, command: Command, answer: Answer) -> None:
    """Take in that a lane's epoch was given up: its trials go on from what was kept."""
    for number in run.scheduler.lose_lane(command.lane):
        trial = run.trials[number]
        if number in answer.kept:
            run.move_state(trial, run.stopped[index])
        trial.leave_trainer()
    run.write()


def _take_states(run: Run, command: Command, answer: Answer) -> None:
    """Take in that states were written; those of trials that had left their lane go on."""
    assert command.checkpoint is not None, "the command names a file"
    name = f"{run.folder}/{command.checkpoint.name}"
    for number in command.checkpointed:
        trial = run.trials[number]
        if answer.is_written:
            run.move_state(trial, name)
        if number in command.drop:
            trial.leave_trainer()
        if number in run.awaiting_state:
            run.awaiting_state.remove(number)
            run.wait(trial)
    for number in run.files.find_surplus():
        run.move_state(run.trials[number], None)


def _take_epoch(run: Run, command: Command, answer: Answer) -> None:
    """Judge the trials of a lane by the epoch that they have trained together."""
    trials = [run.trials[each.slot] for each in answer.reports]
    held = [each.held for each in trials]
    sound = []
    for trial, report in zip(trials, answer.reports, strict=True):
        if report.error is None:
            sound.append(trial)
            _take_report(run, trial, report, command.data_epoch, answer.path)
        else:
            _leave(run, trial, Decision(Outcome.FAILED, report.error))
    for trial in run.judge.pause(sound, is_first_held=run.is_first_held):
        run.scheduler.pause(trial.number)
        run.pause_trial(trial, run.judge.explain_pause(trial))
    for trial, before in zip(trials, held, strict=True):
        if trial.held is not None and trial.held is not before:
            run.changes.held.append(trial.held)


def _take_report(run: Run, trial: Trial, report: EpochReport, data_epoch: int, path: str) -> None:
    """Add an epoch to a trial, and judge it."""
    run.failures_in_a_row = 0
    trial.path = path
    trial.note_clock(data_epoch)
    run.add_epoch(trial, report, run.judge.score(report))
    if trial.alone_until is not None and trial.epochs >= trial.alone_until:
        trial.alone_until = None
        run.scheduler.clear(trial.number)
    decision = run.judge.decide(trial)
    if decision is None and report.is_last:
        decision = Decision(Outcome.EXHAUSTED, f"its loop ended at epoch {report.epoch}")
    if decision is not None:
        _leave(run, trial, decision)


def _refuse(run: Run, trial: Trial, reason: str) -> None:
    """End a trial that could not be placed; one that was trained keeps its score."""
    run.scheduler.leave(trial.number, is_saved=False)
    run.failures_in_a_row += 1
    decision = trial.ending or Decision(Outcome.FAILED, reason)
    if trial.ending is None and trial.curve.best_score is not None:
        decision = Decision(Outcome.BEHIND, f"it could not go on: {reason}")
    run.end_trial(trial, decision)


def _leave(run: Run, trial: Trial, decision: Decision) -> None:
    """Take a trial out of its lane; if it has weights to keep, they are written first."""
    has_best = trial.curve.best_epoch is not None
    run.scheduler.leave(trial.number, is_saved=has_best)
    has_failed = decision.outcome is Outcome.FAILED
    run.failures_in_a_row = run.failures_in_a_row + 1 if has_failed else 0
    if has_best:
        trial.ending = decision
    else:
        run.end_trial(trial, decision)


def _lose_trainer(run: Run, index: int, blamed: set[int], how: str) -> None:
    """Let the trials of a dead trainer wait again, or fail where they killed it too often.

    ``blamed`` are those that it trained, or whose weights it wrote.
    """
    placed = set(run.scheduler.lose(index))
    # Those whose weights or states were being written have no place any more, but the trainer.
    lost = [
        each
        for each in run.trials.values()
        if not each.has_ended and (each.number in placed or each.trainer == index)
    ]
    for trial in lost:
        if blamed == {trial.number}:
            trial.kills += 1
            run.writer.set_kills(trial)
        if trial.kills >= MAX_KILLS:
            reason = f"its process died {trial.kills} times; the last time: {how}"
            run.failures_in_a_row += 1
            run.end_trial(trial, Decision(Outcome.FAILED, reason))
            continue
        if trial.outcome is Outcome.PAUSED:
            run.unsaved.add(trial.number)  # its state had not been written yet
        if trial.number in blamed:
            trial.alone_until = trial.epochs + 1
        trial.leave_trainer()
        run.awaiting_state.discard(trial.number)
        if trial.outcome is None:
            run.wait(trial)
    run.write()


def _load_again(run: Run) -> Loaded | None:
    """Return what was loaded in another process; None: too many in a row have died."""
    while run.idle_deaths < MAX_IDLE_DEATHS:
        run.idle_deaths += 1
        with suppress(ExecutorError):
            return run.executor.restart(run.order)
    return None
