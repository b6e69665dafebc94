"""What stopping saved, and what it cost: epochs, seconds, and what audited trials reached later.

Takes the frames of ``storage.queries``; opens no database.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps.analysis.report_words import count, duration
from sweeps.outcomes import Outcome

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``stop_audit`` and their types. ``epochs_saved``: ``max_epochs`` minus those that it
#: ran, of a trial that was stopped (``STOPPED``), else 0: nothing would have come of the epochs of
#: one that diverged; ``seconds_saved``: the same at the trial's own pace;
#: ``would_stop_outcome``, ``would_stop_epoch``, ``would_stop_score``: the end that an audited
#: trial would have had, and its best score by then; ``best_after``: its best score after it;
#: ``missed``: how much higher that is, negative if lower; ``is_wrong``: whether it is higher by
#: more than ``min_delta``; ``is_wrong_for_sure``: by more than what ties. The last three are
#: missing for a trial that was not audited.
STOP_AUDIT: Mapping[str, str] = {
    "study": "string",
    "trial": "int64",
    "outcome": "string",
    "epochs_run": "int64",
    "max_epochs": "int64",
    "seconds": "float64",
    "epochs_saved": "int64",
    "seconds_saved": "float64",
    "would_stop_outcome": "string",
    "would_stop_epoch": "Int64",
    "would_stop_score": "float64",
    "best_after": "float64",
    "missed": "float64",
    "is_wrong": "boolean",
    "is_wrong_for_sure": "boolean",
}
#: Ends before ``max_epochs`` that are the sweep's choice.
STOPPED = (Outcome.STALLED.value, Outcome.BEHIND.value)
_RANKED = (*STOPPED, Outcome.EXHAUSTED.value)
_ENDED = (*_RANKED, Outcome.DIVERGED.value)
#: Fewest audited trials whose median tells more than their mean.
_MIN_MEDIAN = 3


@dataclass(frozen=True, slots=True)
class StopTotals:
    """What stopping saved and cost in a study.

    Attributes:
        num_ended: Trials that ended, those that diverged left out.
        num_stopped: Those of them that were stopped before ``max_epochs``.
        epochs_run: Epochs of all that ended, without the diverged.
        epochs_saved: Epochs that the stopped ones did not run.
        seconds_saved: Seconds that those would have taken, at each trial's own pace.
        num_audited: Trials that ran on where they would have been stopped.
        num_wrong: Those of them that then rose by more than ``min_delta``.
        num_wrong_for_sure: Those of them that then rose by more than what ties.
        mean_loss: Mean score that stopping the audited trials would have lost, a trial that
            did not rise counting 0; NaN without an audited trial.
        num_diverged: Trials that diverged.
        median_loss: Their median, which a few hopeless trials do not move.
    """

    num_ended: int
    num_stopped: int
    epochs_run: int
    epochs_saved: int
    seconds_saved: float
    num_audited: int
    num_wrong: int
    num_wrong_for_sure: int
    mean_loss: float
    num_diverged: int = 0
    median_loss: float = math.nan

    @property
    def share_saved(self) -> float:
        """Share of the epochs that ``max_epochs`` allows those that ended, 0 without a trial."""
        return self.epochs_saved / max(self.epochs_run + self.epochs_saved, 1)


@dataclass(frozen=True, slots=True)
class BestAudit:
    """What the audit says of the best trial of a study, and of the best score.

    Attributes:
        trial: Number of the best trial.
        best_score: Its best score.
        would_stop_outcome: The end that it would have had, None where none was put off.
        would_stop_epoch: When, likewise.
        would_stop_score: Its best score by then, NaN likewise.
        leader: Number of the trial that would lead, had each audited one been stopped.
        leader_score: The best score of that one.
    """

    trial: int
    best_score: float
    would_stop_outcome: str | None
    would_stop_epoch: int | None
    would_stop_score: float
    leader: int
    leader_score: float

    @property
    def cost(self) -> float:
        """How much lower the best score of the study would be, 0 or more."""
        return self.best_score - self.leader_score


def stop_audit(
    results: "pd.DataFrame",
    curves: "pd.DataFrame",
    *,
    study: str,
    max_epochs: int,
    min_delta: float,
    margin: float = math.nan,
) -> "pd.DataFrame":
    """Return one row a trial that ended (``STOP_AUDIT``), by number; failed ones are left out.

    Args:
        results: ``queries.results``.
        curves: ``queries.curves``.
        study: Name of the study, for the first column.
        max_epochs: The study's.
        min_delta: The study's, in points of the score.
        margin: Difference below which two scores tie (``comparison.tie_margin``); NaN: not known,
            and ``is_wrong_for_sure`` is missing.
    """
    import pandas as pd

    frame = results[results["outcome"].isin(_ENDED)].sort_values("trial", ignore_index=True)
    left = (max_epochs - frame["epochs_run"]).clip(lower=0)
    saved = left.where(frame["outcome"].isin(STOPPED), 0)
    before, after = frame["would_stop_score"], _best_after(frame, curves)
    missed = after - before
    is_known = missed.notna()
    is_wrong = (missed > min_delta).astype("boolean").where(is_known)
    is_sure = (missed > margin).astype("boolean").where(is_known & (not math.isnan(margin)))
    shown = {
        "study": pd.Series(study, index=frame.index, dtype="string"),
        "max_epochs": pd.Series(max_epochs, index=frame.index),
        "epochs_saved": saved,
        "seconds_saved": saved * frame["seconds"] / frame["epochs_run"].clip(lower=1),
        "best_after": after,
        "missed": missed,
        "is_wrong": is_wrong,
        "is_wrong_for_sure": is_sure,
    }
    found = pd.DataFrame({name: shown.get(name, frame.get(name)) for name in STOP_AUDIT})
    return found.astype(dict(STOP_AUDIT))


def add_up(audit: "pd.DataFrame") -> StopTotals:
    """Return the totals of ``stop_audit``."""
    audited = audit[audit["missed"].notna()]
    kept = audit[audit["outcome"] != Outcome.DIVERGED.value]
    return StopTotals(
        num_ended=len(kept),
        num_stopped=int((audit["epochs_saved"] > 0).sum()),
        epochs_run=int(kept["epochs_run"].sum()),
        epochs_saved=int(audit["epochs_saved"].sum()),
        seconds_saved=float(audit["seconds_saved"].sum()),
        num_audited=len(audited),
        num_wrong=int(audited["is_wrong"].sum()),
        num_wrong_for_sure=int(audited["is_wrong_for_sure"].fillna(False).sum()),
        mean_loss=float(audited["missed"].clip(lower=0.0).mean()),
        num_diverged=len(audit) - len(kept),
        median_loss=float(audited["missed"].clip(lower=0.0).median()),
    )


def audit_best(results: "pd.DataFrame") -> BestAudit | None:
    """Return what the audit says of the best trial; None where no ranked trial was audited.

    The other trials are taken as they are: a sampler that had been told other scores would have
    asked for others.

    Args:
        results: ``queries.results``.
    """
    import pandas as pd

    is_ranked = results["outcome"].isin(_RANKED) & results["best_score"].notna()
    ranked = results[is_ranked].sort_values(
        ["best_score", "best_val_loss", "trial"], ascending=[False, True, True]
    )
    held = ranked["would_stop_epoch"].notna()
    if not held.any():
        return None
    first = ranked.iloc[0]
    is_held = bool(held.iloc[0])
    by_then = ranked["best_score"].mask(held, ranked["would_stop_score"])
    leader = ranked.loc[by_then.sort_values(ascending=False, kind="stable").index[0]]
    outcome = first["would_stop_outcome"]
    return BestAudit(
        trial=int(first["trial"]),
        best_score=float(first["best_score"]),
        would_stop_outcome=str(outcome) if is_held and not pd.isna(outcome) else None,
        would_stop_epoch=int(first["would_stop_epoch"]) if is_held else None,
        would_stop_score=float(first["would_stop_score"]) if is_held else math.nan,
        leader=int(leader["trial"]),
        leader_score=float(by_then.max()),
    )


def describe_stops(
    totals: StopTotals, *, audit: float | None = None, best: BestAudit | None = None
) -> list[str]:
    """Return what stopping saved, and what the audited trials say it cost, a sentence each.

    Args:
        totals: ``add_up`` of all trials.
        audit: Share that the last run audited, None where it audited none or that is not known.
        best: ``audit_best``.
    """
    if not totals.num_stopped and not totals.num_audited:
        return []
    left_out = f" ({totals.num_diverged} that diverged left out)" if totals.num_diverged else ""
    saved = (
        f"stopping {totals.num_stopped} of {count(totals.num_ended, 'trial')}{left_out} saved "
        f"{totals.epochs_saved:,} of the {totals.epochs_run + totals.epochs_saved:,} epochs that "
        f"max_epochs allows them, {totals.share_saved:.0%}: about "
        f"{duration(totals.seconds_saved)} at each trial's own pace"
    )
    return [saved, describe_audit(totals, audit=audit, best=best)]


def describe_audit(
    totals: StopTotals, *, audit: float | None = None, best: BestAudit | None = None
) -> str:
    """Return what the audited trials say that stopping cost, or why that is not known.

    What it would have cost the best score comes first, then what it would have cost the others.

    Args:
        totals: ``add_up`` of all trials.
        audit: Share that the last run audited, None where it audited none or that is not known.
        best: ``audit_best``.
    """
    if totals.num_audited:
        ran = (
            "1 trial ran on where it would"
            if totals.num_audited == 1
            else f"{totals.num_audited} trials ran on where they would"
        )
        parts = [f"audited: {ran} have been stopped"]
        if best is not None:
            parts.append(describe_best(best))
        parts.append(
            f"{totals.num_wrong} rose later by more than min_delta, {totals.num_wrong_for_sure} "
            f"by more than what ties; {_describe_loss(totals)}"
        )
        return ". ".join(parts)
    if audit:
        which = (
            "not the trial that was"
            if totals.num_stopped == 1
            else f"none of the {totals.num_stopped} trials that were"
        )
        return f"what it cost is not known: the audit ({audit:g}) drew {which} stopped"
    return "what it cost is not known: no trial was audited; run with --audit 0.05"


def describe_best(best: BestAudit) -> str:
    """Return what the audit says of the best trial, in a sentence without its full stop."""
    who = f"The best trial, {best.trial}, is"
    if best.would_stop_epoch is None:
        return f"{who} none of them: stopping them would have cost the best score nothing"
    when = f"ended at epoch {best.would_stop_epoch}"
    if best.would_stop_score == best.best_score:
        return f"{who} one of them and would have had its {best.best_score:.4f}, {when}, too"
    own = (
        f"{who} one of them: {when} it would have had {best.would_stop_score:.4f} instead of "
        f"{best.best_score:.4f}"
    )
    cost = "nothing" if best.cost < 0.00005 else f"{best.cost:.4f}"
    if best.leader == best.trial:
        return f"{own} and would still lead; stopping would have cost the best score {cost}"
    return (
        f"{own}, and trial {best.leader} would lead with {best.leader_score:.4f}; stopping "
        f"would have cost the best score {cost}"
    )


def _describe_loss(totals: StopTotals) -> str:
    if totals.num_audited < _MIN_MEDIAN:
        return f"stopping would have cost {totals.mean_loss:.4f} points of the score on average"
    return (
        f"stopping would have cost half of them at most {totals.median_loss:.4f} points of the "
        f"score, and {totals.mean_loss:.4f} on average"
    )


def _best_after(frame: "pd.DataFrame", curves: "pd.DataFrame") -> "pd.Series[float]":
    """Return the best score after the would-be stop of each row, NaN where there was none."""
    stops = frame.set_index("trial")["would_stop_epoch"].dropna()
    later = curves[curves["epoch"] > curves["trial"].map(stops.astype("float64"))]
    bests = later.groupby("trial")["score"].max()
    return frame["trial"].map(bests).astype("float64")
