"""How far a sweep has come: how many of its trials have ended, and what becomes of the others.

Takes ``queries.results`` with cut-off trials marked (``unfinished.mark_cut_off``).
"""

from typing import TYPE_CHECKING

from sweeps.analysis import report_words as words

if TYPE_CHECKING:
    import pandas as pd


def count_ended(results: "pd.DataFrame") -> int:
    """Return how many trials have come to their end, with a score or without."""
    ends = results["outcome"].map(words.outcome, na_action=None)
    return int((~ends.isin(words.UNENDED)).sum())


def is_stopped_short(results: "pd.DataFrame", *, target: int | None) -> bool:
    """Return whether trials are left to train that no process here trains.

    Args:
        results: ``queries.results``.
        target: Trials that the last run was to end with; None: not known, those that there are.
    """
    ends = results["outcome"].map(words.outcome, na_action=None)
    wanted = max(target or 0, len(results))
    return not (ends == "running").any() and count_ended(results) < wanted


def say_unfinished(results: "pd.DataFrame", *, target: int | None) -> list[str]:
    """Return that the sweep still runs, was cut off, or stopped short of its target.

    Args:
        results: ``queries.results``.
        target: Trials that the last run was to end with, None: not known.

    Returns:
        A few sentences each; empty where the sweep has come to its end.
    """
    ends = results["outcome"].map(words.outcome, na_action=None).value_counts()
    running, interrupted, gone = (
        int(ends.get(name, 0)) for name in ("running", "interrupted", words.CUT_OFF)
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
            "will start again when the same command carries it on."
        )
    if gone:
        was, them, they = ("was", "it", "It") if gone == 1 else ("were", "them", "They")
        said.append(
            f"{words.count(gone, 'trial')} {was} cut off: the process that trained {them} is "
            f"gone. {they} will start again when the same command carries the sweep on."
        )
    ended = count_ended(results)
    if target is None or ended >= target:
        return said
    so_far = f"{ended:,} of {words.count(target, 'trial')} {'has' if ended == 1 else 'have'} ended"
    if not said:
        return [f"{so_far}: the same command carries the sweep on."]
    return [f"{so_far}. {said[0]}", *said[1:]]
