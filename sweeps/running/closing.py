"""The end of a run: what its budget leaves behind, and the weights of the best of that."""

from collections.abc import Sequence

from objectives.api import FusionKey
from sweeps.outcomes import Outcome
from sweeps.running.run_state import Run
from sweeps.running.stopping import Decision
from sweeps.running.trial import Trial
from sweeps.running.turns import to_place
from sweeps.running.weights import call_trainer, write_weights

#: Best trials whose weights are on disk at the end; those of others can be trained again.
NUM_WEIGHTS = 20


def end_paused(run: Run, ending: str) -> None:
    """End the paused trials: the budget is spent, or the leader has ended.

    Behind are those that paused at a rung because others were better there, and those without a
    score. The others are cut short, and so is the leader: they would have gone on.

    Args:
        run: The run, whose trainers have nothing to do any more.
        ending: ``done`` or ``time is up``.
    """
    news = run.make_news()
    for each in run.list_unfinished():  # they waited for a place
        if each.ending is None:
            news.add_pause(each, "the budget ended")
    run.write(news)
    _write_weights(run)
    paused = [each for each in run.trials.values() if each.outcome is Outcome.PAUSED]
    why = "the budget ended" if ending != "done" or run.is_spent else "the best one ended"
    # Ranked once: each of thousands of paused trials may ask who leads.
    leader = next(iter(run.list_ranked()), None)
    ends = {
        each.number: _find_end(run, each, why, is_leader=each is leader)
        for each in paused
        if not each.has_ended_paused
    }
    run.book.end_paused(ends, run.trials)
    for number, end in ends.items():
        run.trials[number].outcome = end.outcome


def _find_end(run: Run, trial: Trial, why: str, *, is_leader: bool) -> Decision:
    """Return how a paused trial ends."""
    rungs = run.judge.rungs
    assert rungs is not None, "nothing else pauses a trial"
    if trial.curve.best_score is None:
        return Decision(Outcome.BEHIND, f"it had no score when {why}")
    if is_leader:
        return Decision(Outcome.CUT_SHORT, f"it led at epoch {trial.epochs} when {why}")
    if trial.number not in rungs.paused or rungs.is_ahead(trial.number):
        return Decision(Outcome.CUT_SHORT, f"it was to go on at epoch {trial.epochs} when {why}")
    # Its place now: others have come to its rung since it paused.
    return Decision(Outcome.BEHIND, f"{rungs.lag(trial.number)}, when {why}")


def _write_weights(run: Run) -> None:
    """Write the weights of the best trials whose weights have not been written."""
    wanted: dict[FusionKey, list[Trial]] = {}
    for trial in run.list_ranked()[:NUM_WEIGHTS]:
        # Without a state it would be trained again: that is for whoever asks for its weights.
        has_state = trial.state_file is not None
        if trial.outcome is Outcome.PAUSED and has_state and not trial.has_weights:
            wanted.setdefault(trial.key, []).append(trial)
    for key, trials in wanted.items():
        while trials:
            trials = _write_weights_of(run, key, trials)


def _write_weights_of(run: Run, key: FusionKey, trials: Sequence[Trial]) -> list[Trial]:
    """Write the weights of trials of one key; return those that memory had no room for."""
    written = write_weights(
        lambda command: call_trainer(run.executor, command, run.free_since),
        run.scheduler.new_lane(),
        key,
        [to_place(run, each) for each in trials],
        run.weights_path,
    )
    if written is None:
        return []
    placed, saved = written
    news = run.make_news()
    for each in saved:
        run.take_weights(each, news)
    run.write(news)
    return [each for each in trials if each.number in placed.deferred]
