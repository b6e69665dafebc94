"""A study's report from its database: the one place that reads for it.

The command ``report`` and the dashboard call ``report_html``; what the page looks like is
``analysis.report``'s.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from storage import queries
from sweeps.analysis import report, verdicts
from sweeps.analysis.report_facts import StudyData
from sweeps.unfinished import mark_cut_off

if TYPE_CHECKING:
    import pandas as pd


def report_html(url: str, study: str, *, now: datetime | None = None) -> str:
    """Return the report of a study, one HTML page that opens without a network.

    Takes less than a second for a small study, and 3 s of a processor for 500 trials of 200
    epochs: half for reading and judging them, half for the figures. Does not write; a study that
    still runs is shown as it is now.

    Args:
        url: The database.
        study: Name of the study.
        now: When the report is written, UTC; None: now.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    return report.render(read_study(url, study), now=now or datetime.now(UTC))


def read_study(url: str, study: str) -> StudyData:
    """Return everything that a report of a study is made from. Does not write.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    settings = queries.study_settings(url, study)
    results = mark_cut_off(queries.results(url, study), url, study)
    # Read after the results: an epoch that came in between belongs to a trial that is known.
    curves, scores = queries.curves(url, study), queries.class_scores(url, study)
    known = set(results["trial"])
    curves, scores = (each[each["trial"].isin(known)] for each in (curves, scores))
    curves = leave_out_newer(curves, results)
    names = settings.class_names or ()
    judged = verdicts.judge_study(curves, scores, results, class_names=names)
    return StudyData(
        study=study,
        objective=settings.objective,
        created_at=settings.created_at,
        config=settings.config,
        data_fingerprint=settings.data_fingerprint,
        versions=settings.versions or {},
        results=results,
        curves=curves,
        class_scores=scores,
        confusions=queries.confusions(url, study),
        verdicts=verdicts.to_frame(judged, study),
        class_names=names,
        judged=judged,
        taken=frozenset(queries.studies(url)["study"]),
    )


def leave_out_newer(curves: "pd.DataFrame", results: "pd.DataFrame") -> "pd.DataFrame":
    """Return the epochs that the results know of: a running trial may have had one since.

    Args:
        curves: ``queries.curves``, read after the results.
        results: ``queries.results``.
    """
    # A trial that runs has no last epoch yet.
    ends = results["last_epoch"].fillna(results["epochs_run"])
    last = dict(zip(results["trial"], ends, strict=True))
    return curves[curves["epoch"] <= curves["trial"].map(last).fillna(0)]
