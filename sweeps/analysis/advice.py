"""What a sweep's results say of its settings: ranges, choices, trials and epochs to change.

Takes ``queries.results``, the space as ``SearchSpace.to_table`` writes it, and the frame of
``verdicts``; opens no database. Each piece of advice names the option that follows it; changed
settings want a study of their own (``reporting.next_command``).
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.analysis.epoch_advice import EpochPlan
from sweeps.analysis.findings import LOWER_RATE
from sweeps.analysis.fit_advice import find_collapse, find_overfit
from sweeps.analysis.noise import Floats
from sweeps.analysis.optimizer_advice import find_losing_optimizers
from sweeps.analysis.range_advice import (
    SCORED,
    Advice,
    best_trials,
    find_edges,
    find_idle_parameters,
)
from sweeps.analysis.rate_advice import (
    are_most_spoiled,
    find_spoiled,
    find_wrong_rates,
    judge_rates,
)
from sweeps.analysis.report_words import UNENDED, count, outcome
from sweeps.analysis.space_table import (
    list_ranges,
    list_sampled,
    trials_told,
)
from sweeps.analysis.sweep_progress import are_cut_short
from sweeps.budget import Budget
from sweeps.outcomes import Outcome

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Advice", "advise"]

#: Trials a sampled parameter that a sweep should have (Loeppky, Sacks and Welch 2009).
TRIALS_A_PARAMETER = 10
#: Fewest scored trials that anything else is said from: three tell no best from a lucky one.
MIN_TRIALS = 5
#: What a sweep with fewer is told to have.
SOME_TRIALS = 10
#: What to do about a sweep that has not come to its end, whether a process still runs it or not.
_RUN_ON = "let the sweep run on; where it was stopped, the same command carries it on"


def advise(
    results: "pd.DataFrame",
    space: Mapping[str, Any],
    verdicts: "pd.DataFrame",
    *,
    epochs: EpochPlan | None,
    error: float,
    budget: Budget | None = None,
) -> list[Advice]:
    """Return what to change in the next sweep, what helps most first.

    Args:
        results: ``queries.results``.
        space: The space, ``SearchSpace.to_table``.
        verdicts: ``analysis.verdicts.verdicts``.
        epochs: ``epoch_advice.plan_epochs``.
        error: Standard error of a validation score in this study, or NaN
            (``noise.macro_f1_error_from_scores`` of its best trial).
        budget: What limited the last run; None: not known.
    """
    judged = judge_rates(verdicts)
    rates = list(find_wrong_rates(results, space, judged))
    collapse, overfit = (
        find_collapse(results, space, verdicts),
        find_overfit(results, space, verdicts),
    )
    # Not to widen what is to be moved, nor to fix what is to be either.
    edges = _find_free_edges(results, space, verdicts, (*rates, collapse, overfit))
    own = _list_moved_optimizers([*rates, *edges], space)
    losing = list(find_losing_optimizers(results, space, verdicts, error=error, moved=own))
    unended = find_unended_best(results, budget=budget)
    few = None if unended else find_few_trials(results, space, error=error, budget=budget)
    moved = {each.about for each in (*rates, collapse, *edges, overfit, *losing) if each}
    # What has no effect on trials that learn nothing, or on first epochs, may have one on others.
    is_spoiled = results["trial"].isin(find_spoiled(results, judged))
    sound = results[~is_spoiled & ~are_cut_short(results)]
    # Where most were paused, what is left was chosen by its score, whatever brought it about.
    has_most = 2 * len(sound) >= len(results)
    found = find_idle_parameters(sound, space) if has_most else ()
    idle = [each for each in found if each.about not in moved]
    # Nothing of this can be said before most trials learn.
    is_soon = bool(rates) and are_most_spoiled(results, verdicts)
    checks = (
        *rates,
        None if rates else find_unscored(results),
        collapse,
        unended,
        None if epochs is None else epochs.advice,
        *edges,
        overfit,
        None if is_soon else few,
        *losing,
        *([] if is_soon else idle),
    )
    return [advice for advice in checks if advice is not None]


def _find_free_edges(
    results: "pd.DataFrame",
    space: Mapping[str, Any],
    verdicts: "pd.DataFrame",
    others: Sequence[Advice | None],
) -> list[Advice]:
    """Return the ranges to widen that other advice does not move, nor the best trial's own."""
    taken = {_name_setting(each.option) for each in others if each is not None}
    best = best_trials(results)["trial"].head(1)
    is_lowered = best.isin(trials_told(verdicts, LOWER_RATE)).any()
    return [
        each
        for each in find_edges(results, space)
        if _name_setting(each.option) not in taken
        and not (is_lowered and each.about == "learning_rate" and "high" in each.numbers)
    ]


def _name_setting(option: str | None) -> str:
    """Return what the first ``--set`` of an option sets, without the end of a range."""
    path = (option or "").removeprefix("--set ").partition("=")[0]
    return path.removesuffix(".low").removesuffix(".high")


def _list_moved_optimizers(found: Sequence[Advice], space: Mapping[str, Any]) -> set[str]:
    """Return the optimizers whose learning rates the advice moves, in a range shared or not."""
    paths = {_name_setting(each.option) for each in found}
    start = "space.learning_rate.by_optimizer."
    named = {path.removeprefix(start) for path in paths if path.startswith(start)}
    if "space.learning_rate" not in paths:
        return named
    own = {each.optimizer for each in list_ranges(space) if each.name == "learning_rate"}
    choices = space.get("optimizer")
    listed = choices if isinstance(choices, list) else [choices]
    return named | {str(each) for each in listed if each not in own}


def find_unscored(results: "pd.DataFrame") -> Advice | None:
    """Find a sweep in which trials began and none ended with a score.

    Args:
        results: ``queries.results``.
    """
    scored = results["outcome"].isin(SCORED) & results["best_score"].notna()
    if results.empty or scored.any():
        return None
    ends = results["outcome"].fillna("running").value_counts()
    shown = ", ".join(f"{number} {outcome}" for outcome, number in ends.items())
    if ends.get(Outcome.DIVERGED.value, 0) == len(results):
        text = f"every trial diverged ({len(results)}): lower the learning rate, or clip_norm = 1."
        return Advice("trials", text)
    if Outcome.FAILED.value in ends:
        text = f"no trial ended with a score ({shown}): see why the failed ones did."
        return Advice("trials", text)
    text = (
        f"no trial ended with a score ({shown}), so nothing can be said of ranges, choices or "
        f"epochs yet: {_RUN_ON}."
    )
    return Advice("trials", text)


def find_unended_best(results: "pd.DataFrame", *, budget: Budget | None) -> Advice | None:
    """Find a best trial that trained when the budget ended: no rung pauses the best one.

    Args:
        results: ``queries.results``.
        budget: What limited the last run; None: not known.
    """
    best = best_trials(results).head(1)
    is_open = results["outcome"].map(outcome, na_action=None).isin(UNENDED)
    if best.empty or best["outcome"].iloc[0] != Outcome.BEHIND.value or is_open.any():
        return None
    text = (
        f"the best trial, {best['trial'].iloc[0]}, had not ended when the budget did, after "
        f"{count(int(best['epochs_run'].iloc[0]), 'epoch')}: a larger one goes on with it."
    )
    begun = {"trials": len(results), "epochs": int(results["epochs_run"].sum())}
    return Advice("trials", text, (budget or Budget()).ask_for(2 * len(results), **begun))


def find_few_trials(
    results: "pd.DataFrame",
    space: Mapping[str, Any],
    *,
    error: float,
    budget: Budget | None = None,
) -> Advice | None:
    """Find a sweep with too few trials.

    Definition: fewer than 5 scored trials where something is sampled; or fewer than 10 of them a
    sampled parameter (Loeppky, Sacks and Welch 2009, "Choosing the sample size of a computer
    experiment"), and the expected best of all of them exceeds that of half of them, drawn from the
    same scores, by more than half a standard error: the curve of the expected best (Dodge et al.
    2019, "Show your work") still rises. Trials that ended without a score are had beside those.

    Args:
        results: ``queries.results``.
        space: The space, ``SearchSpace.to_table``.
        error: Standard error of a score, or NaN.
        budget: What limited the last run; None: not known. Where the trials that it goes on to are
            enough, it is told to go on while it has fewer than 5 scored ones, and else nothing.
    """
    is_scored = results["outcome"].isin(SCORED) & results["best_score"].notna()
    scored = results.loc[is_scored, "best_score"]
    sampled, n = len(list_sampled(space)), len(scored)
    wanted = TRIALS_A_PARAMETER * sampled
    if n < 1 or n >= wanted:
        return None
    have = f"{count(n, 'scored trial')} for {count(sampled, 'sampled parameter')}"
    lost = _count_lost(results)
    more = (SOME_TRIALS if n < MIN_TRIALS else 2 * n) + lost
    begun = {"trials": len(results), "epochs": int(results["epochs_run"].sum())}
    target = (budget or Budget()).expect_trials(**begun)
    option = (budget or Budget()).ask_for(more, **begun) if more > target else None
    if n < MIN_TRIALS:
        tells = f"tell{'s' if n == 1 else ''} too little"
        text = f"{have} {tells}: {SOME_TRIALS} are the least to compare."
        if target >= more:
            text = f"{have} {tells} yet: {_RUN_ON}."
        return Advice("trials", text, option, {"num_trials": float(n)})
    scores = np.sort(scored.to_numpy(dtype=np.float64))
    rise = expected_best_of(scores, n) - expected_best_of(scores, n // 2)
    if target >= more or (not math.isnan(error) and rise <= error / 2):
        return None
    text = (
        f"{have} are few: the last half of them is worth {rise:.3f}; {2 * n} would tell more"
        f"{f', beside the {lost} without a score' if lost else ''}."
    )
    return Advice("trials", text, option, {"num_trials": float(n), "rise": rise})


def _count_lost(results: "pd.DataFrame") -> int:
    """Return how many trials ended for good without a score that counts."""
    is_lost = results["outcome"].isin((Outcome.DIVERGED.value, Outcome.FAILED.value))
    is_lost |= results["outcome"].isin(SCORED) & results["best_score"].isna()
    return int(is_lost.sum())


def expected_best_of(scores: Floats, draws: int) -> float:
    """Return the expected best of ``draws`` scores drawn from these with replacement.

    Args:
        scores: Best score of each trial, (T,), at least one.
        draws: Trials to draw, from 1.
    """
    ordered = np.sort(scores)
    shares = (np.arange(len(ordered) + 1) / len(ordered)) ** draws
    return float((ordered * np.diff(shares)).sum())
