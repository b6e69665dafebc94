"""What follows when a process dies: another takes its place; its trials go on there or fail."""

from contextlib import suppress

from sweeps.outcomes import Outcome
from sweeps.running.events import Note
from sweeps.running.run_state import Run
from sweeps.running.stopping import Decision
from sweeps.running.trial import MAX_KILLS
from sweeps.trainers.executor import ExecutorError
from sweeps.trainers.messages import Loaded

#: Processes in a row that die before a trial has had an epoch in one of them.
MAX_IDLE_DEATHS = 3


def replace_trainer(run: Run, index: int, how: str) -> None:
    """Start another trainer for one that has died; each trial it trained is tried alone.

    Args:
        run: The run.
        index: The trainer.
        how: How it ended.
    """
    command = run.busy.pop(index, None)
    run.free_since.pop(index, None)
    blamed: set[int] = set()
    if command is not None and command.is_trained:
        blamed = {
            each.number
            for each in run.list_unfinished()
            if (each.trainer, each.lane) == (index, command.lane)
            and each.number not in run.promised
        }
    elif command is not None:
        blamed = {each.trial for each in command.save} | {each.trial for each in command.place}
    _lose(run, index, blamed, how)
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
    run.emit(Note(f"trainer {index} died ({how}); {again}"))
    run.start(index)


def revive(run: Run) -> None:
    """Start the process that loads the data anew, and all trainers with it."""
    for index in range(len(run.loaded.devices)):
        _lose(run, index, set(), "the process that loads the data died")
    run.busy.clear()
    run.free_since.clear()
    if run.ending is not None:
        return
    run.emit(Note("the process that loads the data died; all trials go on in another"))
    loaded = _load_again(run)
    if loaded is None:
        run.fail("the process that loads the data died again and again")
        return
    if loaded.fingerprint != run.loaded.fingerprint:
        run.fail("load() returned other data in another process; seed its random generator")
        return
    for index in range(len(run.loaded.devices)):
        run.start(index)


def _lose(run: Run, index: int, blamed: set[int], how: str) -> None:
    """Let the trials of a dead trainer wait again, or fail where they killed it too often.

    Args:
        run: The run.
        index: The trainer.
        blamed: Trials that it trained, or whose weights it wrote.
        how: How it ended.
    """
    placed = set(run.scheduler.lose(index))
    # Those whose weights or states were being written have no place any more, but the trainer.
    lost = [
        each
        for each in run.trials.values()
        if not each.has_ended and (each.number in placed or each.trainer == index)
    ]
    news = run.make_news()
    for trial in lost:
        if blamed == {trial.number}:
            trial.kills += 1
            run.book.set_kills(trial)
        if trial.kills >= MAX_KILLS:
            reason = f"its process died {trial.kills} times; the last time: {how}"
            run.failures_in_a_row += 1
            run.end_trial(trial, Decision(Outcome.FAILED, reason), news)
            continue
        if trial.number in blamed:
            trial.suspect_until = trial.epochs + 1
        trial.leave_trainer()
        run.promised.discard(trial.number)
        if trial.outcome is None:
            run.wait(trial)
    run.write(news)


def _load_again(run: Run) -> Loaded | None:
    """Return what was loaded in another process; None: too many in a row have died."""
    while run.idle_deaths < MAX_IDLE_DEATHS:
        run.idle_deaths += 1
        with suppress(ExecutorError):
            return run.executor.restart(run.order)
    return None
