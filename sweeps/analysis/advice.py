"""What a sweep's results say of its settings: ranges, choices, trials and epochs to change.

Takes ``queries.results``, the space as ``SearchSpace.to_table`` writes it, and the frame of
``verdicts``; opens no database. Each piece of advice names the option that follows it; changed
settings want a study of their own (``reporting.next_command``).
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.analysis.epoch_advice import plan_epochs
from sweeps.analysis.findings import Verdict
from sweeps.analysis.fit_advice import find_collapse, find_overfit
from sweeps.analysis.noise import Floats
from sweeps.analysis.range_advice import (
    SCORED,
    Advice,
    find_edges,
    find_idle_parameters,
    find_losing_optimizers,
)
from sweeps.analysis.rate_advice import find_high_rates
from sweeps.analysis.report_words import count
from sweeps.analysis.space_table import list_sampled, trials_with
from sweeps.stopping import Outcome

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Advice", "advise"]

#: Trials a sampled parameter that a sweep should have (Loeppky, Sacks and Welch 2009).
TRIALS_A_PARAMETER = 10
#: Fewest scored trials that anything else is said from: three tell no best from a lucky one.
MIN_TRIALS = 5
#: What a sweep with fewer is told to have.
SOME_TRIALS = 10


def advise(
    results: "pd.DataFrame",
    space: Mapping[str, Any],
    verdicts: "pd.DataFrame",
    *,
    max_epochs: int,
    error: float,
    patience: int | None = None,
) -> list[Advice]:
    """Return what to change in the next sweep, what helps most first.

    Args:
        results: ``queries.results``.
        space: The space, ``SearchSpace.to_table``.
        verdicts: ``analysis.verdicts.verdicts``.
        max_epochs: The study's.
        error: Standard error of a validation macro-F1 in this study, or NaN
            (``noise.macro_f1_error_from_scores`` of its best trial).
        patience: The study's; None: not known.
    """
    too_high = trials_with(verdicts, Verdict.RATE_TOO_HIGH.value)
    rates = list(find_high_rates(results, space, too_high=too_high))
    epochs = plan_epochs(results, verdicts, max_epochs=max_epochs, patience=patience)
    collapse, overfit = (
        find_collapse(results, space, verdicts),
        find_overfit(results, space, verdicts),
    )
    lowered = {each.about for each in (*rates, collapse, overfit) if each is not None}
    # Not to widen what is to be lowered, nor to fix what is to be either.
    edges = [each for each in find_edges(results, space) if each.about not in lowered]
    moved = lowered | {each.about for each in edges}
    checks = (
        *rates,
        None if rates else find_unscored(results),
        collapse,
        None if epochs is None else epochs.advice,
        *edges,
        overfit,
        find_few_trials(results, space, error=error),
        *find_losing_optimizers(results, space, error=error),
        *(each for each in find_idle_parameters(results, space) if each.about not in moved),
    )
    return [advice for advice in checks if advice is not None]


def find_unscored(results: "pd.DataFrame") -> Advice | None:
    """Find a sweep in which trials began and none ended with a score."""
    scored = results["outcome"].isin(SCORED) & results["best_macro_f1"].notna()
    if results.empty or scored.any():
        return None
    ends = results["outcome"].fillna("running").value_counts()
    shown = ", ".join(f"{number} {outcome}" for outcome, number in ends.items())
    text = (
        f"no trial ended with a score ({shown}), so nothing can be said of ranges, choices or "
        "epochs yet: let the sweep run on."
    )
    if ends.get(Outcome.DIVERGED.value, 0) == len(results):
        text = f"every trial diverged ({len(results)}): lower the learning rate, or clip_norm = 1."
    elif Outcome.FAILED.value in ends:
        text = f"no trial ended with a score ({shown}): see why the failed ones did."
    return Advice("trials", text)


def find_few_trials(
    results: "pd.DataFrame", space: Mapping[str, Any], *, error: float
) -> Advice | None:
    """Find a sweep with too few trials.

    Definition: fewer than 5 scored trials where something is sampled; or fewer than 10 of them a
    sampled parameter (Loeppky, Sacks and Welch 2009, "Choosing the sample size of a computer
    experiment"), and the expected best of all of them exceeds that of half of them, drawn from the
    same scores, by more than half a standard error: the curve of the expected best (Dodge et al.
    2019, "Show your work") still rises.
    """
    scored = results[results["outcome"].isin(SCORED)]["best_macro_f1"].dropna()
    sampled, n = len(list_sampled(space)), len(scored)
    wanted = TRIALS_A_PARAMETER * sampled
    if n < 1 or n >= wanted:
        return None
    have = f"{count(n, 'scored trial')} for {count(sampled, 'sampled parameter')}"
    if n < MIN_TRIALS:
        text = f"{have} tell too little: {SOME_TRIALS} are the least to compare."
        text = text.replace("tell", "tells") if n == 1 else text
        return Advice("trials", text, f"--trials {SOME_TRIALS}", {"num_trials": float(n)})
    scores = np.sort(scored.to_numpy(dtype=np.float64))
    rise = expected_best_of(scores, n) - expected_best_of(scores, n // 2)
    if not math.isnan(error) and rise <= error / 2:
        return None
    text = f"{have} are few: the last half of them is worth {rise:.3f}; {2 * n} would tell more."
    return Advice("trials", text, f"--trials {2 * n}", {"num_trials": float(n), "rise": rise})


def expected_best_of(scores: Floats, draws: int) -> float:
    """Return the expected best of ``draws`` scores drawn from these with replacement.

    Args:
        scores: Best macro-F1 of each trial, (T,), at least one.
        draws: Trials to draw, from 1.
    """
    ordered = np.sort(scores)
    shares = (np.arange(len(ordered) + 1) / len(ordered)) ** draws
    return float((ordered * np.diff(shares)).sum())
