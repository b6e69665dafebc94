"""Which trials without an end nobody trains any more: the one place that tells for people.

A process that is killed writes nothing, so its trials look like running ones in the database.
"""

from typing import TYPE_CHECKING

from storage import queries
from storage.database import open_database
from sweeps.analysis.report_words import CUT_OFF

if TYPE_CHECKING:
    import pandas as pd


def mark_cut_off(results: "pd.DataFrame", url: str, study: str) -> "pd.DataFrame":
    """Return the results with the outcome ``CUT_OFF`` where the process that trained is gone.

    A process of another host counts as alive: nothing here can tell.

    Args:
        results: ``queries.results`` of the study.
        url: The database.
        study: Name of the study.
    """
    if results["outcome"].notna().all():
        return results
    from sweeps.bookkeeping import is_left  # imports Optuna, which a study that ended needs not

    uuid = queries.study_settings(url, study).uuid
    with open_database(url, create=False) as db:
        left = {one.trial for one in queries.unfinished_trials(db, uuid) if is_left(one)}
    is_gone = results["outcome"].isna() & results["trial"].isin(left)
    return results.assign(outcome=results["outcome"].mask(is_gone, CUT_OFF))
