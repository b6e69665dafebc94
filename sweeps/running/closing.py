"""The end of a run: what its budget leaves behind, and the weights of the best of that."""

from collections.abc import Sequence

from objectives.api import FusionKey
from sweeps.outcomes import Outcome
from sweeps.running.run_state import Run
from sweeps.running.trial import Trial
from sweeps.running.turns import to_place
from sweeps.running.weights import call_trainer, write_weights

#: Best trials whose weights are on disk at the end; those of others can be trained again.
NUM_WEIGHTS = 20


def leave_behind(run: Run, ending: str) -> None:
    """End the paused trials: the budget is spent, or the leader has ended.

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
    reasons = {
        each.number: f"paused at epoch {each.epochs} when {why}"
        for each in paused
        if not each.was_behind
    }
    run.book.leave_behind(paused, reasons)
    for each in paused:
        each.outcome = Outcome.BEHIND


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
