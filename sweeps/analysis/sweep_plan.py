"""What a study says of its next sweep, from its frames: advice, epochs, what stopping cost.

The report, the dashboard's note, ``diagnose`` and ``notebook.advice`` all take it from here. Opens
no database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.analysis.advice import Advice, advise
from sweeps.analysis.comparison import tie_margin, validation_error
from sweeps.analysis.epoch_advice import EpochPlan, plan_epochs
from sweeps.analysis.next_step import NextStep, find_next
from sweeps.analysis.stop_audit import BestAudit, StopTotals, add_up, audit_best, stop_audit
from sweeps.budget import Budget

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``to_frame`` and their types: ``about`` what is to be changed, ``text`` what was seen
#: and what to do, with keys of a sweep file; ``option`` of a run that does it, missing: none does.
ADVICE: Mapping[str, str] = {
    "study": "string",
    "about": "string",
    "text": "string",
    "option": "string",
}


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a study says of its next sweep.

    Attributes:
        error: Standard error of the best validation score, NaN where it is not known.
        margin: Difference below which two trials tie, likewise.
        epochs: What to do about its epochs, None where too few trials tell.
        advice: What to change, what helps most first.
        step: What to try next, None where neither the study nor its best trial asks for anything.
        stops: ``stop_audit.stop_audit``.
        totals: ``stop_audit.add_up`` of it.
        best: What the audit says of the best trial, None where none was audited.
    """

    error: float
    margin: float
    epochs: EpochPlan | None
    advice: Sequence[Advice]
    step: NextStep | None
    stops: "pd.DataFrame"
    totals: StopTotals
    best: BestAudit | None

    @property
    def hint(self) -> NextStep | None:
        """What the best trial asks for, where the study asks for nothing."""
        return None if self.advice else self.step

    @property
    def options(self) -> list[str]:
        """The options that follow the advice, or else the hint."""
        asked = (*self.advice, self.hint)
        return [each.option for each in asked if each is not None and each.option]


def plan_sweep(
    results: "pd.DataFrame",
    curves: "pd.DataFrame",
    class_scores: "pd.DataFrame",
    verdicts: "pd.DataFrame",
    *,
    study: str,
    config: Mapping[str, Any],
    budget: Budget,
) -> SweepPlan:
    """Return what a study says of its next sweep.

    Args:
        results: ``queries.results``, cut-off trials marked.
        curves: ``queries.curves``.
        class_scores: ``queries.class_scores``.
        verdicts: ``analysis.verdicts.verdicts``.
        study: Its name.
        config: Its settings; ``max_epochs`` must be among them.
        budget: What limited the last run.
    """
    max_epochs, patience = int(config["max_epochs"]), config.get("patience")
    error = validation_error(results, class_scores)
    margin = tie_margin(error)
    epochs = plan_epochs(
        results, verdicts, max_epochs=max_epochs, patience=patience, margin=margin
    )
    space = config.get("space", {})
    known: dict[str, Any] = {"epochs": epochs, "error": error, "budget": budget}
    advice = advise(results, space, verdicts, **known)
    stops = stop_audit(
        results,
        curves,
        study=study,
        max_epochs=max_epochs,
        min_delta=float(config.get("min_delta", 0.0)),
        margin=margin,
    )
    return SweepPlan(
        error=error,
        margin=margin,
        epochs=epochs,
        advice=advice,
        step=find_next(results, verdicts, advice=advice, epochs=epochs),
        stops=stops,
        totals=add_up(stops),
        best=audit_best(results),
    )


def to_frame(advice: Sequence[Advice], study: str) -> "pd.DataFrame":
    """Return one row a piece of advice (``ADVICE``), what helps most first."""
    import pandas as pd

    rows = {
        "study": [study] * len(advice),
        "about": [each.about for each in advice],
        "text": [each.text for each in advice],
        "option": [each.option for each in advice],
    }
    return pd.DataFrame(
        {name: pd.Series(rows[name], dtype=dtype) for name, dtype in ADVICE.items()}
    )
