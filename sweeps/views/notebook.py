"""A study as DataFrames, for notebooks: each function takes a study's name.

The database is that of the commands unless ``storage`` names another one, a URL or an SQLite
file: ``bestepoch.db`` in the current folder, or ``BESTEPOCH_STORAGE``. Nothing here writes; a
database that cannot be opened, and a study that it does not have, raise a ``StorageError``. The
columns of every frame, their types and the SQL that gives the same, but for what is computed, are
in the README; all of them can be written to Parquet. ``from sweeps import notebook``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from storage import frames, queries
from storage.locations import StorageError, resolve_url
from sweeps.analysis import audit
from sweeps.analysis import compare as analysis
from sweeps.analysis.facts import list_facts
from sweeps.analysis.summary import summarise
from sweeps.analysis.verdicts import judge
from sweeps.read.study import Study

#: Columns of ``verdicts``; a trial without an epoch has no row.
VERDICTS: Mapping[str, str] = {
    "study": "string",
    "trial": "int64",
    "verdict": "string",
    "text": "string",
    "notes": "string",
    **dict.fromkeys(("epochs_to_95", "epochs_to_99", "epochs_needed"), "Int64"),
    **dict.fromkeys(("sampling_error", "predicted_gain"), "float64"),
    **dict.fromkeys(("predicted_gain_low", "predicted_gain_high"), "float64"),
}
#: Columns of ``advice``.
ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("study", "kind", "text", "evidence", "options"), "string"),
    **dict.fromkeys(("gain", "low", "high", "p"), "float64"),
}


def best_epochs(study: str, storage: str | None = None) -> pd.DataFrame:
    """Return each trial at its best epoch so far (``storage.frames.EPOCHS``), by number.

    Every outcome is present: leave out ``diverged`` and ``failed`` before ranking.
    """
    return queries.best_epochs(resolve_url(storage), study)


def curves(study: str, storage: str | None = None) -> pd.DataFrame:
    """Return one row an epoch of each trial (``storage.frames.CURVES``)."""
    return queries.curves(resolve_url(storage), study)


def class_scores(study: str, storage: str | None = None) -> pd.DataFrame:
    """Return one row a class of each ended trial (``storage.frames.CLASS_SCORES``)."""
    return queries.class_scores(resolve_url(storage), study)


def verdicts(study: str, storage: str | None = None) -> pd.DataFrame:
    """Return what each trial's curve shows (``VERDICTS``), by number."""
    read = Study.read(resolve_url(storage), study)
    speeds = read.results.set_index("trial")[["epochs_to_95", "epochs_to_99"]]
    facts, rows = list_facts(read), []
    for fact, judged in zip(facts, judge(facts), strict=True):
        row: dict[str, Any] = {
            "study": study,
            "trial": fact.trial,
            "verdict": judged.verdict.value,
            "text": judged.text,
            "notes": " ".join(note.text for note in judged.notes),
            **speeds.loc[fact.trial],
            "sampling_error": fact.error,
        }
        if fact.outlook is not None:
            row |= {
                "epochs_needed": fact.outlook.epochs_needed,
                "predicted_gain": fact.outlook.gain,
                "predicted_gain_low": fact.outlook.gain_low,
                "predicted_gain_high": fact.outlook.gain_high,
            }
        rows.append([row.get(name) for name in VERDICTS])
    return frames.to_frame(rows, VERDICTS)


def advice(study: str, storage: str | None = None) -> pd.DataFrame:
    """Return what to change in the next sweep (``ADVICE``), as ``diagnose``.

    What helps most comes first; empty where nothing is shown to help.
    """
    read = _read_sweep(study, storage)
    return frames.to_frame(
        [
            (
                *(study, each.kind.value, each.text, each.evidence, " ".join(each.options)),
                *(each.gain, each.low, each.high, each.p),
            )
            for each in summarise(read).advice
        ],
        ADVICE,
    )


def compare(
    studies: str | Sequence[str],
    storage: str | None = None,
    *,
    at_epoch: int | None = None,
    score: float | None = None,
) -> pd.DataFrame:
    """Return the trials of one or several studies in one ranking by each rule.

    The columns are ``analysis.compare.COMPARISON``. Scores of studies tell nothing about each
    other unless they validate on the same data.

    Args:
        studies: Name of a study, or of several.
        storage: Database URL or SQLite file; None: the default one.
        at_epoch: Epoch X of the fourth rule; None: the last one that all ranked trials reached;
            those that were paused, or that the budget ended, do not count.
        score: That of ``epochs_to_score``; None: the lowest that ties with the best.

    Raises:
        StorageError: If the database cannot be opened, or has no such study.
        ValueError: If there is no study, or ``at_epoch`` is below 1 or beyond the longest trial.
    """
    names = [studies] if isinstance(studies, str) else list(dict.fromkeys(studies))
    if not names:
        raise ValueError("studies must name at least one study, got none")
    compared = [analysis.Compared.read(resolve_url(storage), name) for name in names]
    longest = analysis.longest_run(compared)
    if at_epoch is not None and longest is not None and not 1 <= at_epoch <= longest:
        raise ValueError(f"at_epoch must be 1 to {longest}, the longest trial's, got {at_epoch}")
    return analysis.compare(compared, epoch=at_epoch, score=score)


def stop_audit(study: str, storage: str | None = None) -> pd.DataFrame:
    """Return what stopping each trial saved, and what the audited ones found later.

    The columns are ``analysis.audit.STOP_AUDIT``.
    """
    read = _read_sweep(study, storage)
    return audit.audit(read, list_facts(read)).trials


def _read_sweep(study: str, storage: str | None) -> Study:
    read = Study.read(resolve_url(storage), study)
    if not read.is_sweep:
        raise StorageError(f"study {study!r} was not begun by bestepoch: no settings of a sweep")
    return read
