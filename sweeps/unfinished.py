"""Which trials without an end nobody trains any more: the one place that tells for people.

A process that is killed writes nothing, so its trials look like running ones in the database; but
whoever runs a study holds its lock.
"""

from typing import TYPE_CHECKING

from storage.database import open_database
from sweeps.analysis.report_words import CUT_OFF

if TYPE_CHECKING:
    import pandas as pd


def mark_cut_off(results: "pd.DataFrame", url: str, study: str) -> "pd.DataFrame":
    """Return the results with the outcome ``CUT_OFF`` where the process that trained is gone.

    Args:
        results: ``queries.results`` of the study.
        url: The database.
        study: Name of the study.
    """
    is_open = results["outcome"].isna()
    if not is_open.any():
        return results
    with open_database(url, create=False) as db:
        if db.find_holder(study) is not None:
            return results
    return results.assign(outcome=results["outcome"].mask(is_open, CUT_OFF))
