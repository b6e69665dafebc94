"""Lets paused trials go on: those that deserve it, and the best once no new one may start."""

from collections.abc import Sequence

from sweeps.outcomes import Outcome
from sweeps.running.asking import Asking
from sweeps.running.run_state import Run
from sweeps.running.rungs import FIRST_COHORT, Rungs, may_finish
from sweeps.running.trial import Trial


def promote(run: Run, asking: Asking) -> None:
    """Let paused trials wait for a place again.

    Those that deserve it; from the first rung once the first ``FIRST_COHORT`` trials have started,
    or all, unless the clock is the budget. And once no new trial may start, the best of the others
    as far as the budget has epochs for all that train, until the leader has ended.

    Args:
        run: The run.
        asking: Says whether a new trial may start.
    """
    rungs = run.judge.rungs
    if rungs is None or run.ending is not None:
        return
    unfinished = run.list_unfinished()
    # New trials that only wait must not keep known ones from going on.
    in_flight = [each for each in unfinished if each.epochs or each.lane is not None]
    num_new = len(unfinished) - len(in_flight)
    may_start = num_new > 0 or asking.may_ask()
    is_cohort = len(run.trials) - num_new < FIRST_COHORT and asking.may_compare_all()
    run.is_first_held = may_start and is_cohort and run.config.max_minutes is None
    if run.config.audit and not run.is_first_held:
        _let_audited_go_on(run, rungs)
    capacity = asking.capacity
    while len(in_flight) < capacity:
        if (number := rungs.promote(is_first_held=run.is_first_held)) is None:
            break
        in_flight.append(let_go_on(run, number))
    if may_start:
        return
    while len(in_flight) < capacity and (number := rungs.best_paused()) is not None:
        ranked = run.list_ranked()
        if not ranked or ranked[0].has_ended:
            return
        if ranked[0].number in rungs.paused:
            number = ranked[0].number
        if not _may_finish(run, in_flight, number):
            return
        rungs.leave(number)
        in_flight.append(let_go_on(run, number))


def let_go_on(run: Run, number: int) -> Trial:
    """Let a paused trial wait for a place, at once or when its state is written; return it."""
    trial = run.trials[number]
    trial.outcome, trial.is_promoted = None, True
    if trial.has_ended_paused:
        trial.has_ended_paused = False
        run.book.reopen([trial.number])
    if trial.trainer is None:
        run.wait(trial)
    else:
        run.promised.add(trial.number)
    return trial


def _let_audited_go_on(run: Run, rungs: Rungs) -> None:
    """Let trials go on that the audit holds back from pausing at the first rung."""
    news = run.make_news()
    for number in rungs.behind_at_first():
        trial = run.trials[number]
        if run.judge.hold_back(trial, Outcome.BEHIND) and trial.held is not None:
            rungs.leave(number)
            let_go_on(run, number)
            news.held.append(trial.held)
    run.write(news)


def _may_finish(run: Run, in_flight: Sequence[Trial], number: int) -> bool:
    """Return whether a paused trial may go on beside those in flight."""
    config = run.config
    if not in_flight or config.max_total_epochs is None:
        return True
    epochs = [each.epochs for each in (*in_flight, run.trials[number])]
    left = config.max_total_epochs - run.spent
    return may_finish(epochs, max_epochs=config.max_epochs, epochs_left=left)
