"""What stopping saved, and what it cost: epochs, seconds, and what audited trials reached later.

Takes the frames of ``storage.queries``; opens no database.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps.analysis.report_words import count, duration
from sweeps.stopping import Outcome

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``stop_audit`` and their types. ``epochs_saved``: ``max_epochs`` minus those that it
#: ran, of a trial that was stopped (``STOPPED``), else 0: nothing would have come of the epochs of
#: one that diverged; ``seconds_saved``: the same at the trial's own pace;
#: ``would_stop_outcome``, ``would_stop_epoch``, ``would_stop_macro_f1``: the end that an audited
#: trial would have had, and its best score by then; ``best_after``: its best macro-F1 after it;
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
    "would_stop_macro_f1": "float64",
    "best_after": "float64",
    "missed": "float64",
    "is_wrong": "boolean",
    "is_wrong_for_sure": "boolean",
}
#: Ends before ``max_epochs`` that are the sweep's choice.
STOPPED = (Outcome.STALLED.value, Outcome.BEHIND.value)
_ENDED = (*STOPPED, Outcome.EXHAUSTED.value, Outcome.DIVERGED.value)


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
        mean_loss: Mean macro-F1 that stopping the audited trials would have lost, a trial that
            did not rise counting 0; NaN without an audited trial.
        num_diverged: Trials that diverged.
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

    @property
    def share_saved(self) -> float:
        """Share of the epochs that ``max_epochs`` allows those that ended, 0 without a trial."""
        return self.epochs_saved / max(self.epochs_run + self.epochs_saved, 1)


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
        min_delta: The study's, in macro-F1 points.
        margin: Difference below which two scores tie (``comparison.tie_margin``); NaN: not known,
            and ``is_wrong_for_sure`` is missing.
    """
    import pandas as pd

    frame = results[results["outcome"].isin(_ENDED)].sort_values("trial", ignore_index=True)
    left = (max_epochs - frame["epochs_run"]).clip(lower=0)
    saved = left.where(frame["outcome"].isin(STOPPED), 0)
    before, after = frame["would_stop_macro_f1"], _best_after(frame, curves)
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
    )


def describe_stops(totals: StopTotals, *, audit: float | None = None) -> list[str]:
    """Return what stopping saved, and what the audited trials say it cost, a sentence each.

    Args:
        totals: ``add_up`` of all trials.
        audit: Share that the last run audited, None where it audited none or that is not known.
    """
    if not totals.num_stopped and not totals.num_audited:
        return []
    left_out = f" ({totals.num_diverged} that diverged left out)" if totals.num_diverged else ""
    saved = (
        f"stopping saved {count(totals.epochs_saved, 'epoch')} in {totals.num_stopped} of "
        f"{count(totals.num_ended, 'trial')}{left_out}, {totals.share_saved:.0%} of what "
        f"max_epochs allows: about {duration(totals.seconds_saved)} at each trial's own pace"
    )
    return [saved, describe_audit(totals, audit=audit)]


def describe_audit(totals: StopTotals, *, audit: float | None = None) -> str:
    """Return what the audited trials say that stopping cost, or why that is not known.

    Args:
        totals: ``add_up`` of all trials.
        audit: Share that the last run audited, None where it audited none or that is not known.
    """
    if totals.num_audited:
        ran = (
            "1 trial ran on where it would"
            if totals.num_audited == 1
            else f"{totals.num_audited} trials ran on where they would"
        )
        return (
            f"audited: {ran} have been stopped; {totals.num_wrong} rose later by more than "
            f"min_delta, {totals.num_wrong_for_sure} by more than what ties; stopping would have "
            f"cost {totals.mean_loss:.4f} macro-F1 on average"
        )
    if audit:
        which = (
            "not the trial that was"
            if totals.num_stopped == 1
            else f"none of the {totals.num_stopped} trials that were"
        )
        return f"what it cost is not known: the audit ({audit:g}) drew {which} stopped"
    return "what it cost is not known: no trial was audited; run with --audit 0.05"


def _best_after(frame: "pd.DataFrame", curves: "pd.DataFrame") -> "pd.Series[float]":
    """Return the best macro-F1 after the would-be stop of each row, NaN where there was none."""
    stops = frame.set_index("trial")["would_stop_epoch"].dropna()
    later = curves[curves["epoch"] > curves["trial"].map(stops.astype("float64"))]
    bests = later.groupby("trial")["macro_f1"].max()
    return frame["trial"].map(bests).astype("float64")
