"""How far a sweep has come: how many of its trials have ended, and what becomes of the others.

Takes ``queries.results`` with cut-off trials marked (``unfinished.mark_cut_off``).
"""

from typing import TYPE_CHECKING

from sweeps.analysis import report_words as words
from sweeps.analysis.trends import MIN_EPOCHS
from sweeps.budget import Budget
from sweeps.outcomes import Outcome

if TYPE_CHECKING:
    import pandas as pd


def count_ended(results: "pd.DataFrame") -> int:
    """Return how many trials have come to their end, with a score or without."""
    ends = results["outcome"].map(words.outcome, na_action=None)
    return int((~ends.isin(words.UNENDED)).sum())


def is_stopped_short(results: "pd.DataFrame", *, budget: Budget) -> bool:
    """Return whether trials are left to train that no process here trains.

    A study whose last trial has ended has come to its end, unless it was to have more trials:
    what is left of its epochs was not worth another trial.

    Args:
        results: ``queries.results``.
        budget: What limited the last run.
    """
    ends = results["outcome"].map(words.outcome, na_action=None)
    begun = {"trials": len(results), "epochs": _count_epochs(results)}
    may_begin = len(results) < (budget.trials or 0) and not budget.is_spent(**begun)
    return not (ends == "running").any() and (bool(ends.isin(words.UNENDED).any()) or may_begin)


def say_unfinished(results: "pd.DataFrame", *, budget: Budget) -> list[str]:
    """Return that the sweep still runs, was cut off, or stopped before its budget was spent.

    Args:
        results: ``queries.results``.
        budget: What limited the last run.

    Returns:
        A few sentences each; empty where the sweep has come to its end.
    """
    ends = results["outcome"].map(words.outcome, na_action=None).value_counts()
    running, paused, interrupted, gone = (
        int(ends.get(name, 0)) for name in ("running", "paused", "interrupted", words.CUT_OFF)
    )
    said = []
    if running:
        have = "has" if running == 1 else "have"
        said.append(
            f"This is not the end: {words.count(running, 'trial')} {have} begun and not ended. "
            "The sweep still runs, or was killed on another machine; the same command carries it "
            "on."
        )
    if interrupted:
        was = "was" if interrupted == 1 else "were"
        said.append(
            f"The sweep was interrupted: {words.count(interrupted, 'trial')} {was} cut off and "
            "will go on when the same command carries it on."
        )
    if gone:
        was, them, they = ("was", "it", "It") if gone == 1 else ("were", "them", "They")
        said.append(
            f"{words.count(gone, 'trial')} {was} cut off: the process that trained {them} is "
            f"gone. {they} will go on when the same command carries the sweep on."
        )
    if paused:
        waits = "waits at a rung, an epoch" if paused == 1 else "wait at rungs, epochs"
        said.append(
            f"{words.count(paused, 'trial')} {waits} at which only the best go on: paused, and "
            "promoted where they turn out to be among these."
        )
    if not said and not is_stopped_short(results, budget=budget):
        return []
    use = budget.use(trials=len(results), epochs=_count_epochs(results))
    ended = count_ended(results)
    so_far = f"{use} so far; {ended:,} {'has' if ended == 1 else 'have'} ended"
    if not said:
        return [f"{so_far}: the same command carries the sweep on."]
    return [f"{so_far}. {said[0]}", *said[1:]]


def are_cut_short(results: "pd.DataFrame") -> "pd.Series[bool]":
    """Return which trials others were ahead of before their epochs could show a trend."""
    has_few = results["epochs_run"].fillna(0) < MIN_EPOCHS
    return has_few & results["outcome"].isin((Outcome.PAUSED.value, Outcome.BEHIND.value))


def say_ahead(results: "pd.DataFrame") -> list[str]:
    """Return which trial without an end has a higher score than all ranked ones, if one has."""
    ranked = results[results["rank"].notna()]
    scored = results[results["best_score"].notna()]
    is_open = scored["outcome"].map(words.outcome, na_action=None).isin(words.UNENDED)
    best = ranked["best_score"].max()
    ahead = scored[is_open & (scored["best_score"] > best)]
    if ahead.empty:
        return []
    first = ahead.loc[ahead["best_score"].idxmax()]
    state = f"{words.outcome(first['outcome'])} after {words.count(first['epochs_run'], 'epoch')}"
    so_far = words.score(first["best_score"])
    return [f"Trial {first['trial']}, {state}, has {so_far} so far and may still win."]


def _count_epochs(results: "pd.DataFrame") -> int:
    return int(results["epochs_run"].sum())
