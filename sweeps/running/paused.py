"""Paused trials: who goes on while the budget lasts, and what becomes of the others at its end."""

from collections.abc import Iterable, Sequence

from objectives.api import FusionKey
from sweeps.outcomes import Outcome
from sweeps.running.asking import Asking
from sweeps.running.events import Note
from sweeps.running.judge import waits_at_first
from sweeps.running.run_state import Run
from sweeps.running.rungs import FIRST_COHORT, Rungs, may_finish
from sweeps.running.stopping import Decision
from sweeps.running.trial import Trial
from sweeps.running.weights import call_trainer, write_weights

#: Best trials whose weights are on disk at the end; those of others can be trained again.
NUM_WEIGHTS = 20


def promote(run: Run, asking: Asking) -> None:
    """Let paused trials wait for a place again.

    Those that deserve it; from the first rung once the first ``FIRST_COHORT`` trials have started,
    or all, unless the clock is the budget. And once no new trial may start, the best of the others
    as far as the budget has epochs for all that train, until the leader has ended.
    """
    rungs = run.judge.rungs
    if rungs is None or run.ending is not None:
        return
    unfinished = run.unfinished.values()
    # New trials that only wait must not keep known ones from going on.
    in_flight = [each for each in unfinished if each.epochs or each.lane is not None]
    num_new = len(unfinished) - len(in_flight)
    may_start = num_new > 0 or asking.has_more
    is_cohort = len(run.trials) - num_new < FIRST_COHORT and asking.can_compare_all
    run.is_first_held = may_start and is_cohort and waits_at_first(run.config)
    if run.judge.spared and not run.is_first_held:
        _let_spared_go_on(run, rungs)
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
        if rungs.is_paused(ranked[0].number):
            number = ranked[0].number
        if not _has_epochs_for(run, (*in_flight, run.trials[number])):
            return
        rungs.leave(number)
        in_flight.append(let_go_on(run, number))


def let_go_on(run: Run, number: int) -> Trial:
    """Let a paused trial wait for a place, at once or when its state is written; return it."""
    trial = run.trials[number]
    trial.outcome, trial.is_promoted = None, True
    run.unfinished[number] = trial
    if trial.ended_as is not None:
        trial.ended_as = None
        run.writer.reopen([number])
    if trial.trainer is None:
        run.wait(trial)
    else:
        run.awaiting_state.add(number)
    return trial


def end_paused(run: Run, ending: str) -> None:
    """End the paused trials: the budget is spent, or the leader has ended.

    Behind are those that paused at a rung because others were better there, and those without a
    score. The others are cut short, and so is the leader: they would have gone on. The trainers
    have nothing to do any more; ``ending`` is ``done`` or ``time is up``.
    """
    if ending == "time is up":
        run.unsaved.clear()  # there is no time to train them again
    for each in list(run.unfinished.values()):  # they waited for a place
        if each.ending is None:
            run.pause_trial(each, "the budget ended")
    run.write()
    write_best_weights(run)
    is_spent = ending != "done" or run.epochs_left == 0
    why = "the budget ended" if is_spent else "the best one ended"
    # Ranked once: each of thousands of paused trials may ask who leads.
    leader = next(iter(run.list_ranked()), None)
    ends = {
        each.number: _find_end(run, each, why, is_leader=each is leader)
        for each in run.trials.values()
        if each.outcome is Outcome.PAUSED
    }
    # An end of an earlier run stands, unless others have overtaken the trial since.
    changed = {
        number: end
        for number, end in ends.items()
        if (was := run.trials[number].ended_as) is None
        or (was is Outcome.CUT_SHORT and end.outcome is Outcome.BEHIND)
    }
    run.writer.reopen([n for n in changed if run.trials[n].ended_as is not None])
    run.writer.end_paused(changed, run.trials)
    for number, end in ends.items():
        run.trials[number].outcome = end.outcome


def _let_spared_go_on(run: Run, rungs: Rungs) -> None:
    """Let trials go on that the audit holds back from pausing at the first rung."""
    for number in sorted(run.judge.spared):
        trial = run.trials[number]
        is_paused = trial.outcome is Outcome.PAUSED
        if is_paused and rungs.is_ahead(number):
            continue  # it will be promoted, unless it falls behind meanwhile
        run.judge.spared.remove(number)
        if is_paused and run.judge.hold_back(trial, Outcome.BEHIND) and trial.held is not None:
            rungs.leave(number)
            let_go_on(run, number)
            run.changes.held.append(trial.held)
    run.write()


def _has_epochs_for(run: Run, trials: Sequence[Trial]) -> bool:
    """Return whether the budget takes all of these to their last epoch; one may go on anyway."""
    if len(trials) == 1 or run.epochs_left is None:
        return True
    epochs = [each.epochs for each in trials]
    return may_finish(epochs, max_epochs=run.config.max_epochs, epochs_left=run.epochs_left)


def _find_end(run: Run, trial: Trial, why: str, *, is_leader: bool) -> Decision:
    """Return how a paused trial ends."""
    if trial.curve.best_score is None:
        return Decision(Outcome.BEHIND, f"it had no score when {why}")
    if is_leader:
        return Decision(Outcome.CUT_SHORT, f"it led at epoch {trial.epochs} when {why}")
    rungs = run.judge.rungs
    assert rungs is not None, "nothing else pauses a trial"
    if not rungs.is_paused(trial.number) or rungs.is_ahead(trial.number):
        return Decision(Outcome.CUT_SHORT, f"it was to go on at epoch {trial.epochs} when {why}")
    # Its place now: others have come to its rung since it paused.
    return Decision(Outcome.BEHIND, f"{rungs.lag(trial.number)}, when {why}")


def write_best_weights(run: Run) -> None:
    """Write the weights of the best trials whose weights have not been written.

    A paused trial whose state was deleted is left out: it would have to be trained again, which
    is for whoever asks for its weights.
    """
    wanted: dict[FusionKey, list[Trial]] = {}
    for trial in run.list_ranked()[:NUM_WEIGHTS]:
        has_state = trial.outcome is Outcome.PAUSED and trial.state_file is not None
        if (has_state or trial.number in run.unsaved) and not trial.has_weights:
            wanted.setdefault(trial.key, []).append(trial)
    for key, trials in wanted.items():
        while trials:
            trials = _write_weights_of(run, key, trials)


def _write_weights_of(run: Run, key: FusionKey, trials: Iterable[Trial]) -> list[Trial]:
    """Write the weights of trials of one key; return those that memory had no room for."""
    written = write_weights(
        lambda command: call_trainer(run.executor, command, run.free_since),
        run.scheduler.new_lane(),
        key,
        [run.to_place(each) for each in trials],
        run.weights_path,
    )
    if written is None:
        return []
    placed, saved = written
    for each in saved.saved:
        run.add_weights(each)
    for number, reason in saved.unsaved:
        run.changes.events.append(Note(f"trial {number}: its weights are not written: {reason}"))
    run.write()
    return [each for each in trials if each.number in placed.deferred]
