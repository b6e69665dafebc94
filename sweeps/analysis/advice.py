"""What a sweep's results say of its settings: ranges, choices, trials and epochs to change.

Takes ``queries.results``, the space as ``SearchSpace.to_table`` writes it, and the frame of
``verdicts``; opens no database. Each piece of advice names the option that follows it; changed
settings want a study of their own (``reporting.next_command``).
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.analysis.findings import Verdict
from sweeps.analysis.noise import Floats
from sweeps.analysis.range_advice import (
    SCORED,
    Advice,
    best_trials,
    find_edges,
    find_high_rates,
    find_idle_parameters,
    find_losing_optimizers,
)
from sweeps.analysis.report_words import count
from sweeps.analysis.space_table import list_sampled
from sweeps.analysis.trends import MIN_EPOCHS
from sweeps.stopping import Outcome

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Advice", "advise", "recommend_cap"]

#: Trials a sampled parameter that a sweep should have (Loeppky, Sacks and Welch 2009).
TRIALS_A_PARAMETER = 10
#: Fewest scored trials that anything else is said from: three tell no best from a lucky one.
MIN_TRIALS = 5
#: What a sweep with fewer is told to have.
SOME_TRIALS = 10
#: Fewest scored trials that a cap is recommended from.
MIN_CAP_TRIALS = 3
#: What the recommended cap adds to the slowest of the best trials.
CAP_MARGIN = 1.25
#: Share of ``max_epochs`` up to which the recommended cap is worth saying.
HIGH_CAP_SHARE = 0.75


def advise(
    results: "pd.DataFrame",
    space: Mapping[str, Any],
    verdicts: "pd.DataFrame",
    *,
    max_epochs: int,
    error: float,
) -> list[Advice]:
    """Return what to change in the next sweep, what helps most first.

    Args:
        results: ``queries.results``.
        space: The space, ``SearchSpace.to_table``.
        verdicts: ``analysis.verdicts.verdicts``.
        max_epochs: The study's.
        error: Standard error of a validation macro-F1 in this study, or NaN
            (``noise.macro_f1_error_from_scores`` of its best trial).
    """
    rates = list(find_high_rates(results, space))
    lowered = {each.about for each in rates}
    # Not to widen what is to be lowered, nor to fix what is to be either.
    edges = [each for each in find_edges(results, space) if each.about not in lowered]
    moved = lowered | {each.about for each in edges}
    checks = (
        *rates,
        find_few_epochs(results, max_epochs=max_epochs),
        None if rates else find_unscored(results),
        find_low_cap(results, verdicts, max_epochs=max_epochs),
        find_high_cap(results, verdicts, max_epochs=max_epochs),
        *edges,
        find_few_trials(results, space, error=error),
        *find_losing_optimizers(results, space, error=error),
        *(each for each in find_idle_parameters(results, space) if each.about not in moved),
    )
    return [advice for advice in checks if advice is not None]


def find_few_epochs(results: "pd.DataFrame", *, max_epochs: int) -> Advice | None:
    """Find a ``max_epochs`` that no trend can be told from: below 8, with a scored trial."""
    scored = results[results["outcome"].isin(SCORED)]
    if max_epochs >= MIN_EPOCHS or scored.empty:
        return None
    text = (
        f"with max_epochs = {max_epochs} no trial shows whether it still rises, which takes "
        f"{MIN_EPOCHS} epochs: allow {2 * MIN_EPOCHS}."
    )
    return Advice("max_epochs", text, f"--set max_epochs={2 * MIN_EPOCHS}")


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


def find_low_cap(
    results: "pd.DataFrame", verdicts: "pd.DataFrame", *, max_epochs: int
) -> Advice | None:
    """Find a ``max_epochs`` that the best trials reach while they still improve.

    Definition: of the best fifth of the scored trials, at least 3, half or more ended
    ``exhausted`` with ``still improving`` among their verdicts. Twice the epochs is what the
    verdict's prediction was made for.
    """
    best = best_trials(results)
    improving = {
        int(row.trial)
        for row in verdicts.itertuples()
        if Verdict.STILL_IMPROVING.value in str(row.verdicts).split(", ")
    }
    cut = [
        int(row.trial)
        for row in best.itertuples()
        if row.outcome == Outcome.EXHAUSTED.value and int(row.trial) in improving
    ]
    if not cut or 2 * len(cut) < len(best):
        return None
    which = f"{len(cut)} of the {len(best)} best trials" if len(best) > 1 else "the only trial"
    which = f"the {len(best)} best trials" if len(cut) == len(best) > 1 else which
    verb = "improve" if len(cut) > 1 else "improves"
    text = f"{which} reached max_epochs = {max_epochs} and still {verb}: allow {2 * max_epochs}."
    numbers = {"num_cut": float(len(cut)), "num_best": float(len(best))}
    return Advice("max_epochs", text, f"--set max_epochs={2 * max_epochs}", numbers)


def find_high_cap(
    results: "pd.DataFrame", verdicts: "pd.DataFrame", *, max_epochs: int
) -> Advice | None:
    """Find a ``max_epochs`` that the best trials are far from needing.

    Definition: at least 5 trials are scored, ``recommend_cap`` is at most three quarters of
    ``max_epochs``, and a trial ran to that: where all stall before, a lower one saves nothing.
    """
    cap = recommend_cap(results, verdicts)
    has_run = (results["outcome"] == Outcome.EXHAUSTED.value) & results["would_stop_epoch"].isna()
    num_exhausted = int(has_run.sum())
    num_scored = int(results["outcome"].isin(SCORED).sum())
    if cap is None or not num_exhausted or num_scored < MIN_TRIALS:
        return None
    if cap > HIGH_CAP_SHARE * max_epochs:
        return None
    text = (
        f"the best trials were within the noise of their best well before max_epochs = "
        f"{max_epochs}, which {count(num_exhausted, 'trial')} ran to: {cap} would do."
    )
    numbers = {"cap": float(cap), "num_exhausted": float(num_exhausted)}
    return Advice("max_epochs", text, f"--set max_epochs={cap}", numbers)


def recommend_cap(results: "pd.DataFrame", verdicts: "pd.DataFrame") -> int | None:
    """Return a ``max_epochs`` that costs none of the best trials more than the noise.

    The best are the best fifth of the scored trials, at least 3, and all within one standard
    error of the best one. The cap is a quarter more than the slowest of them needed to come to
    within its own noise between epochs of its best; twice the epochs it ran for one that still
    improves.

    Returns:
        None with fewer than 3 scored trials, or none of the best of 8 epochs.
    """
    judged = verdicts.set_index("trial")
    best = best_trials(results)
    if len(best) < MIN_CAP_TRIALS or best["epochs_run"].max() < MIN_EPOCHS:
        return None
    near = _near_best(results, judged)
    needed: list[float] = []
    for row in results[results["trial"].isin([*best["trial"], *near])].itertuples():
        shown = str(judged["verdicts"].get(row.trial, "")).split(", ")
        if Verdict.STILL_IMPROVING.value in shown:
            needed.append(2 * row.epochs_run)
        elif row.trial in judged.index:
            needed.append(CAP_MARGIN * int(judged.loc[row.trial, "epochs_needed"]))
    return math.ceil(max(needed)) if needed else None


def _near_best(results: "pd.DataFrame", judged: "pd.DataFrame") -> list[int]:
    """Return the scored trials within one standard error of the best one."""
    best = best_trials(results).iloc[0]
    error = float(judged["sampling_error"].get(best["trial"], math.nan))
    lowest = best["best_macro_f1"] - (0.0 if math.isnan(error) else error)
    scored = results["outcome"].isin(SCORED) & (results["best_macro_f1"] >= lowest)
    return [int(trial) for trial in results.loc[scored, "trial"]]


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
