"""What a sweep's verdicts say of class weights and regularization: classes given up, overfitting.

Takes ``queries.results``, the space as ``SearchSpace.to_table`` writes it, and the frame of
``verdicts``; opens no database.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeps.analysis.findings import Verdict
from sweeps.analysis.range_advice import SCORED, Advice, best_trials
from sweeps.analysis.report_words import part
from sweeps.analysis.space_table import list_ranges, read_params, trials_with

if TYPE_CHECKING:
    import pandas as pd

#: Fewest trials that either is said from.
MIN_TRIALS = 3
#: Share of them that must show it.
SHARE = 0.5
#: The usual label smoothing (Szegedy et al. 2016, "Rethinking the Inception architecture").
SMOOTHING = 0.1
#: What the evidence of ``loss_rules.find_overfit`` says where the score fell too.
_FELL = "the score fell by"
#: Dropout to begin with where there is none, what a fixed one is raised by, and its end.
_FIRST_DROPOUT, _MORE_DROPOUT, _MOST_DROPOUT = 0.2, 0.2, 0.7


def find_collapse(
    results: "pd.DataFrame", space: Mapping[str, Any], verdicts: "pd.DataFrame"
) -> Advice | None:
    """Find a sweep whose trials give classes up, without balanced class weights.

    Definition: of the scored trials that have no balanced weights, at least 3, half or more have
    ``class collapse`` among their verdicts.
    """
    scored = results[results["outcome"].isin(SCORED) & results["best_score"].notna()]
    pairs = zip(scored["trial"], read_params(scored), strict=True)
    free = {int(trial) for trial, one in pairs if one.get("class_weights") != "balanced"}
    lost = free & trials_with(verdicts, Verdict.CLASS_COLLAPSE.value)
    if space.get("class_weights") == "balanced" or len(free) < MIN_TRIALS:
        return None
    if len(lost) < SHARE * len(free):
        return None
    text = (
        f"{part(len(lost), len(free), 'scored trials')} give a class up altogether: weigh the "
        'classes by how rare they are, class_weights = "balanced".'
    )
    numbers = {"num_lost": float(len(lost)), "num_trials": float(len(free))}
    return Advice("class_weights", text, "--set space.class_weights=balanced", numbers)


def find_overfit(
    results: "pd.DataFrame", space: Mapping[str, Any], verdicts: "pd.DataFrame"
) -> Advice | None:
    """Find a sweep whose best trials overfit.

    Definition: half or more of the best fifth of the scored trials, at least 3, have ``overfit``
    among their verdicts. Where half or more of those held their score, as the verdict says, the
    loss alone is too sure: label smoothing, unless they have it. Else more dropout.
    """
    best = best_trials(results)
    overfit = set(best["trial"]) & trials_with(verdicts, Verdict.OVERFIT.value)
    if len(best) < MIN_TRIALS or len(overfit) < SHARE * len(best):
        return None
    shown = best[best["trial"].isin(overfit)]
    params = read_params(shown)
    has_smoothing = any(one.get("label_smoothing") for one in params)
    numbers = {"num_overfit": float(len(overfit)), "num_best": float(len(best))}
    who = part(len(overfit), len(best), "best trials")
    if 2 * _count_held(overfit, verdicts) >= len(overfit) and not has_smoothing:
        text = (
            f"{who} overfit in their loss alone, their score holds: try label_smoothing = "
            f"{SMOOTHING:g}."
        )
        option = f"--set space.label_smoothing={SMOOTHING:g}"
        return Advice("label_smoothing", text, option, numbers)
    found = _more_dropout(space, [float(one.get("dropout") or 0.0) for one in params])
    if found is None:
        return None
    change, option = found
    return Advice("dropout", f"{who} overfit: {change}, or more weight_decay.", option, numbers)


def _count_held(trials: set[int], verdicts: "pd.DataFrame") -> int:
    """Return how many overfit trials held their score, as their verdicts say."""
    shown = verdicts[verdicts["trial"].isin(trials)]
    return sum(_FELL not in str(each) for each in shown["evidence"])


def _more_dropout(space: Mapping[str, Any], drawn: list[float]) -> tuple[str, str] | None:
    """Return what to say and the option; None where there is as much as is usual."""
    ranges = [each for each in list_ranges(space) if each.path == "dropout"]
    if ranges:
        (own,) = ranges
        low = round((own.low + own.high) / 2, 2)
        if not own.low < low < own.high:
            return None
        return (
            f"draw dropout from the upper half of its range, {low:g} to {own.high:g}",
            f"--set space.dropout.low={low:g}",
        )
    if isinstance(space.get("dropout"), list | tuple):
        drawn = [max(drawn)]
    present = max(drawn)
    value = round(min(present + _MORE_DROPOUT, _MOST_DROPOUT), 2) if present else _FIRST_DROPOUT
    if value <= present:
        return None
    return f"try dropout = {value:g} (it was {present:g})", f"--set space.dropout={value:g}"
