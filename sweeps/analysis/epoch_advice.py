"""What a sweep's results say of its epochs: ``max_epochs`` and ``patience``, decided in one place.

Takes ``queries.results`` and the frame of ``verdicts``; opens no database. The report, the note
and ``diagnose`` all say what ``plan_epochs`` returns, and nothing else of a study's epochs.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps.analysis.findings import Verdict
from sweeps.analysis.range_advice import SCORED, Advice, best_trials
from sweeps.analysis.rate_advice import are_most_spoiled
from sweeps.analysis.report_words import count, listing, part
from sweeps.analysis.space_table import trials_with
from sweeps.analysis.stop_audit import audit_best
from sweeps.analysis.trends import MIN_EPOCHS
from sweeps.outcomes import Outcome

if TYPE_CHECKING:
    import pandas as pd

#: Fewest scored trials that a cap is recommended from.
MIN_CAP_TRIALS = 3
#: Fewest scored trials that a lower cap is recommended from.
MIN_LOW_CAP_TRIALS = 5
#: What the recommended cap adds to the slowest of the best trials.
CAP_MARGIN = 1.25
#: Share of ``max_epochs`` up to which the recommended cap is worth saying.
HIGH_CAP_SHARE = 0.75
#: Fewest of the best trials that were cut off while they improved; one may be called so by chance.
MIN_CUT = 2
#: What a lower cap is made of; said wherever one is recommended.
CAP_NOTE = (
    f"A quarter more than the slowest of the best trials took to come within the noise of its "
    f"best; never below {MIN_EPOCHS} epochs, nor below the best epoch of the best trial. The best "
    "trials are the best fifth, at least 3, and all within a standard error of the best one."
)
_MOST_NAMED = 6


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """What a study says of its epochs.

    Attributes:
        cap: The ``max_epochs`` to use: the present one where nothing speaks for another.
        text: What was seen and what follows, in a sentence or two.
        advice: What to change, None where nothing is to be.
        note: How the cap comes about, "" where ``text`` says it.
    """

    cap: int
    text: str
    advice: Advice | None = None
    note: str = ""


def plan_epochs(
    results: "pd.DataFrame",
    verdicts: "pd.DataFrame",
    *,
    max_epochs: int,
    patience: int | None = None,
    margin: float = math.nan,
) -> EpochPlan | None:
    """Return what to do about a study's epochs; the first of these that holds.

    Fewer than 8 epochs are allowed: 16. The best trials still improve where ``max_epochs`` ends
    them: twice as many (``find_low_cap``). Without an audit patience would have cost the best
    score more than what ties: twice the patience (``find_costly_patience``). None reached
    ``max_epochs``, and the best still improve where patience ended them: the same
    (``find_low_patience``). They needed far fewer, and trials ran on to ``max_epochs``: fewer
    (``find_high_cap``). Else the settings stay.

    Args:
        results: ``queries.results``.
        verdicts: ``analysis.verdicts.verdicts``.
        max_epochs: The study's.
        patience: The study's; None: not known, and nothing is said of it.
        margin: Difference below which two scores tie (``comparison.tie_margin``); NaN: not known.

    Returns:
        None where too few trials were scored, or none of the best has 8 epochs, or most trials had
        a wrong learning rate and say nothing of epochs.
    """
    if are_most_spoiled(results, verdicts):
        return None
    checks = (
        find_few_epochs(results, max_epochs=max_epochs),
        find_low_cap(results, verdicts, max_epochs=max_epochs),
        find_costly_patience(results, patience=patience, margin=margin),
        find_low_patience(results, verdicts, patience=patience),
        find_high_cap(results, verdicts, max_epochs=max_epochs),
    )
    advice = next((each for each in checks if each is not None), None)
    if advice is not None:
        cap = int(advice.numbers.get("cap", max_epochs))
        is_lower = cap < max_epochs
        return EpochPlan(cap, advice.text, advice, CAP_NOTE if is_lower else "")
    needed = find_needed(results, verdicts)
    if needed is None:
        return None
    near = f"the best trials were within the noise of their best by epoch {needed}"
    if _is_first_hidden(results, verdicts):
        return EpochPlan(
            max_epochs,
            f"{near}, but noise hides whether the best one still rises: "
            f"max_epochs = {2 * max_epochs} would tell.",
        )
    if _count_capped(results) or results["outcome"].isna().any():
        does = "is enough" if CAP_MARGIN * needed <= max_epochs else "is just enough"
        return EpochPlan(max_epochs, f"{near}: max_epochs = {max_epochs} {does}.")
    ended = f"no trial reached max_epochs = {max_epochs} by itself, so it need not change"
    enough = recommend_cap(results, verdicts)
    if enough is not None and enough <= HIGH_CAP_SHARE * max_epochs:
        near += f", and {enough} would have done"
    return EpochPlan(max_epochs, f"{ended}: {near}.")


def find_few_epochs(results: "pd.DataFrame", *, max_epochs: int) -> Advice | None:
    """Find a ``max_epochs`` that no trend can be told from: below 8, with a scored trial."""
    scored = results[results["outcome"].isin(SCORED)]
    if max_epochs >= MIN_EPOCHS or scored.empty:
        return None
    cap = 2 * MIN_EPOCHS
    text = (
        f"with max_epochs = {max_epochs} no trial shows whether it still rises, which takes "
        f"{MIN_EPOCHS} epochs: allow {cap}."
    )
    return Advice("max_epochs", text, f"--set max_epochs={cap}", {"cap": float(cap)})


def find_low_cap(
    results: "pd.DataFrame", verdicts: "pd.DataFrame", *, max_epochs: int
) -> Advice | None:
    """Find a ``max_epochs`` that the best trials reach while they still improve.

    Definition: the best trial, or half or more of the best fifth of the scored ones (at least 3),
    or two or more within a standard error of the best, ended ``exhausted`` with ``still
    improving`` among their verdicts; those that an audit let run on do not count. That verdict
    promises more than a standard error from twice the epochs, so one so near would then lead; as
    would any other whose prediction is above the best score with 95 % probability.
    """
    reached = results["outcome"] == Outcome.EXHAUSTED.value
    cut = _find_cut(results, verdicts, set(results.loc[reached & ~_is_held(results), "trial"]))
    if not cut:
        return None
    verb = "improve" if len(cut) > 1 else "improves"
    cap = 2 * max_epochs
    who = _say_which(cut, results, verdicts)
    text = f"{who} reached max_epochs = {max_epochs} and still {verb}: allow {cap}."
    numbers = {"num_cut": float(len(cut)), "cap": float(cap)}
    return Advice("max_epochs", text, f"--set max_epochs={cap}", numbers)


def find_costly_patience(
    results: "pd.DataFrame", *, patience: int | None, margin: float
) -> Advice | None:
    """Find a ``patience`` that would have cost the best score more than what ties.

    Definition: an audit let the best trial run on where patience would have ended it, and had each
    audited trial been stopped, the best score of the study would be lower by more than ``margin``.

    Args:
        results: ``queries.results``.
        patience: The study's; None: not known.
        margin: Difference below which two scores tie, NaN: not known.
    """
    if patience is None or math.isnan(margin):
        return None
    best = audit_best(results)
    if best is None or best.would_stop_outcome != Outcome.STALLED.value or best.cost <= margin:
        return None
    twice = 2 * patience
    text = (
        f"without the audit the patience of {patience} epochs would have ended the best trial, "
        f"{best.trial}, at epoch {best.would_stop_epoch} with {best.would_stop_score:.4f} "
        f"instead of {best.best_score:.4f}, and the best score would be {best.cost:.4f} lower, "
        f"more than what ties: allow {twice} epochs without a better score."
    )
    numbers = {"cost": best.cost, "patience": float(twice)}
    return Advice("patience", text, f"--set patience={twice}", numbers)


def find_low_patience(
    results: "pd.DataFrame", verdicts: "pd.DataFrame", *, patience: int | None
) -> Advice | None:
    """Find a ``patience`` that ends the best trials while they still improve.

    Definition: as ``find_low_cap``, of trials that ended ``stalled``, or that an audit let run on
    there and that had a better score since; and no trial reached ``max_epochs`` by itself.
    """
    if patience is None or _count_capped(results):
        return None
    stalled = results["outcome"] == Outcome.STALLED.value
    if "would_stop_outcome" in results:
        # An audited trial that has had no better score since has shown that patience was right.
        ends = results["would_stop_epoch"].astype("Int64")
        rose = (results["best_epoch"].astype("Int64") > ends).fillna(False)
        held = (results["would_stop_outcome"] == Outcome.STALLED.value).fillna(False)
        stalled |= held.astype(bool) & rose.astype(bool)
    cut = _find_cut(results, verdicts, set(results.loc[stalled, "trial"]))
    if not cut:
        return None
    twice = 2 * patience
    is_held = _is_held(results[results["trial"].isin(cut)]).any()
    ended = "ended, or would have without the audit," if is_held else "ended"
    which = _say_which(cut, results, verdicts)
    text = (
        f"the patience of {patience} epochs {ended} {which} while still improving, and no trial "
        f"reached max_epochs by itself: allow {twice} epochs without a better score."
    )
    numbers = {"num_cut": float(len(cut)), "patience": float(twice)}
    return Advice("patience", text, f"--set patience={twice}", numbers)


def find_high_cap(
    results: "pd.DataFrame", verdicts: "pd.DataFrame", *, max_epochs: int
) -> Advice | None:
    """Find a ``max_epochs`` that the best trials are far from needing.

    Definition: at least 5 trials are scored, what the best need (``recommend_cap``) is at most
    three quarters of ``max_epochs``, and a trial ran to that: where all are ended before, a lower
    one saves little.
    """
    cap = recommend_cap(results, verdicts)
    num_capped = _count_capped(results)
    num_scored = int(results["outcome"].isin(SCORED).sum())
    if cap is None or not num_capped or num_scored < MIN_LOW_CAP_TRIALS:
        return None
    if cap > HIGH_CAP_SHARE * max_epochs:
        return None
    needed = find_needed(results, verdicts)
    text = (
        f"the best trials were within the noise of their best by epoch {needed}, well before "
        f"max_epochs = {max_epochs}, which {count(num_capped, 'trial')} ran to: {cap} would do."
    )
    numbers = {"cap": float(cap), "num_exhausted": float(num_capped)}
    return Advice("max_epochs", text, f"--set max_epochs={cap}", numbers)


def recommend_cap(results: "pd.DataFrame", verdicts: "pd.DataFrame") -> int | None:
    """Return the ``max_epochs`` that costs none of the best trials more than the noise.

    ``CAP_NOTE`` says how: a quarter more than ``find_needed``, at least 8, and at least the best
    epoch of the best trial.

    Returns:
        None with fewer than 3 scored trials, or none of the best of 8 epochs.
    """
    needed = find_needed(results, verdicts)
    if needed is None:
        return None
    first = int(best_trials(results)["best_epoch"].iloc[0])
    return max(math.ceil(CAP_MARGIN * needed), MIN_EPOCHS, first)


def find_needed(results: "pd.DataFrame", verdicts: "pd.DataFrame") -> int | None:
    """Return the epoch by which each of the best trials was within the noise of its best.

    The best trials are the best fifth of the scored ones, at least 3, and all within a standard
    error of the best one.

    Returns:
        None with fewer than 3 scored trials, or none of the best of 8 epochs.
    """
    best = best_trials(results)
    if len(best) < MIN_CAP_TRIALS or best["epochs_run"].max() < MIN_EPOCHS:
        return None
    leading = {*best["trial"], *_find_near(results, verdicts)}
    needed = verdicts.loc[verdicts["trial"].isin(leading), "epochs_needed"].dropna()
    return int(needed.max()) if len(needed) else None


def _find_cut(results: "pd.DataFrame", verdicts: "pd.DataFrame", ended: set[int]) -> list[int]:
    """Return the best trials that still improved, if enough of these did, by number."""
    cut = ended & trials_with(verdicts, Verdict.STILL_IMPROVING.value)
    leading = [int(trial) for trial in best_trials(results)["trial"]]
    best, near = set(leading) & cut, set(_find_near(results, verdicts)) & cut
    found = cut & _find_overtaking(results, verdicts)
    if best and (leading[0] in best or 2 * len(best) >= len(leading)):
        found |= best | near
    elif len(near) >= MIN_CUT:
        found |= near
    return sorted(found)


def _find_overtaking(results: "pd.DataFrame", verdicts: "pd.DataFrame") -> set[int]:
    """Return the trials that twice the epochs would surely take above the best score."""
    best = best_trials(results)
    if best.empty or "predicted_gain_low" not in verdicts:
        return set()
    least = verdicts.set_index("trial")["predicted_gain_low"]
    reached = results.set_index("trial")["best_score"] + least
    return {int(trial) for trial in reached.index[reached > best["best_score"].iloc[0]]}


def _find_near(results: "pd.DataFrame", verdicts: "pd.DataFrame") -> list[int]:
    """Return the scored trials within one standard error of the best one, itself included."""
    best = best_trials(results)
    if best.empty:
        return []
    errors = verdicts.loc[verdicts["trial"] == best["trial"].iloc[0], "sampling_error"].dropna()
    error = float(errors.iloc[0]) if len(errors) else 0.0
    lowest = best["best_score"].iloc[0] - error
    scored = results["outcome"].isin(SCORED) & (results["best_score"] >= lowest)
    return [int(trial) for trial in results.loc[scored, "trial"]]


def _say_which(cut: list[int], results: "pd.DataFrame", verdicts: "pd.DataFrame") -> str:
    """Return ``the only trial``, ``all 3 best trials``, ``2 of the 5 best trials (0 and 5)``."""
    best = {*best_trials(results)["trial"], *_find_near(results, verdicts)}
    if len(best) == 1:
        return "the only trial"
    if not best >= set(cut):
        if len(cut) > _MOST_NAMED:
            return f"{count(len(cut), 'trial')}, which may then lead,"
        word = "trials" if len(cut) > 1 else "trial"
        return f"{word} {listing([str(each) for each in cut])}, which may then lead,"
    who = part(len(cut), len(best), "best trials")
    is_named = len(cut) < len(best) and len(cut) <= _MOST_NAMED
    return f"{who} ({listing([str(each) for each in cut])})" if is_named else who


def _is_first_hidden(results: "pd.DataFrame", verdicts: "pd.DataFrame") -> bool:
    """Return whether the best trial ran to ``max_epochs`` and its noise hides if it rises."""
    best = best_trials(results)
    first = best["trial"].iloc[0]
    is_short = first in trials_with(verdicts, Verdict.TOO_SHORT.value)
    return is_short and best["outcome"].iloc[0] == Outcome.EXHAUSTED.value


def _is_held(results: "pd.DataFrame") -> "pd.Series[bool]":
    """Return whether an audit let each trial run on."""
    return results["would_stop_epoch"].notna()


def _count_capped(results: "pd.DataFrame") -> int:
    """Return how many trials reached ``max_epochs`` by themselves."""
    reached = results["outcome"] == Outcome.EXHAUSTED.value
    return int((reached & ~_is_held(results)).sum())
