"""A study as DataFrames, for notebooks: each function takes a study's name.

The database is that of the commands unless ``storage`` names another one, a URL or an SQLite
file: ``bestepoch.db`` in the current folder, or ``BESTEPOCH_STORAGE``. Nothing here writes; a
database that cannot be opened, and a study that it does not have, raise a ``StorageError``. The
columns of every frame, their types and the SQL that gives the same, but for what is computed, are
in the README; all of them can be written to Parquet.
"""

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

from storage import queries
from storage.locations import StorageError, resolve_url
from sweeps import next_sweep

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.analysis.comparison import StudyFrames


def best_epochs(study: str, storage: str | None = None) -> "pd.DataFrame":
    """Return each trial at its best epoch so far (``storage.frames.EPOCHS``), by number.

    Every outcome is present: leave out ``diverged`` and ``failed`` before ranking.
    """
    return queries.best_epochs(resolve_url(storage), study)


def curves(study: str, storage: str | None = None) -> "pd.DataFrame":
    """Return one row an epoch of each trial (``storage.frames.CURVES``)."""
    return queries.curves(resolve_url(storage), study)


def class_scores(study: str, storage: str | None = None) -> "pd.DataFrame":
    """Return one row a class of each ended trial (``storage.frames.CLASS_SCORES``)."""
    return queries.class_scores(resolve_url(storage), study)


def verdicts(study: str, storage: str | None = None) -> "pd.DataFrame":
    """Return what each trial's curve shows, and what to do (``analysis.verdicts.VERDICTS``)."""
    from sweeps.analysis import verdicts as analysis

    url = resolve_url(storage)
    frames = (queries.curves(url, study), queries.class_scores(url, study))
    names = queries.study_settings(url, study).class_names or ()
    results = queries.results(url, study)
    return analysis.verdicts(*frames, results, study=study, class_names=names)


def advice(study: str, storage: str | None = None) -> "pd.DataFrame":
    """Return what to change in the next sweep (``analysis.sweep_plan.ADVICE``), as ``diagnose``.

    What helps most comes first; empty where the trials ask for no other settings.
    """
    from sweeps import reporting
    from sweeps.analysis.sweep_plan import to_frame

    url = resolve_url(storage)
    ahead = next_sweep.look_ahead(reporting.read_study(url, study))
    if ahead is None:
        raise StorageError(f"study {study!r} was not begun by bestepoch: no settings of a sweep")
    return to_frame(ahead.plan.advice, study)


def compare(
    studies: str | Sequence[str],
    storage: str | None = None,
    *,
    at_epoch: int | None = None,
    score: float | None = None,
) -> "pd.DataFrame":
    """Return the trials of one or several studies in one ranking by each rule.

    The columns are ``analysis.comparison.COMPARISON``. Scores of studies tell nothing about each
    other unless they validate on the same data.

    Args:
        studies: Name of a study, or of several.
        storage: Database URL or SQLite file; None: the default one.
        at_epoch: Epoch X of the fourth rule; None: the last one that all ranked trials reached;
            those that others were ahead of before their 8th epoch do not count.
        score: Macro-F1 of ``epochs_to_score``; None: the lowest that ties with the best.

    Raises:
        StorageError: If the database cannot be opened, or has no such study.
        TypeError: If ``at_epoch`` is no whole number.
        ValueError: If there is no study, or ``at_epoch`` is below 1 or beyond the longest trial.
    """
    from sweeps.analysis import comparison

    names = [studies] if isinstance(studies, str) else list(dict.fromkeys(studies))
    if not names:
        raise ValueError("studies must name at least one study, got none")
    if at_epoch is not None:
        _check_epoch(at_epoch)
    frames = [read_study(name, storage) for name in names]
    longest = comparison.longest_run(frames)
    if at_epoch is not None and longest is not None and at_epoch > longest:
        raise ValueError(f"at_epoch must be <= {longest}, the longest trial's, got {at_epoch}")
    margin = find_margin(frames)
    lowest = comparison.best_score(frames) - (0.0 if math.isnan(margin) else margin)
    return comparison.compare(
        frames,
        epoch=comparison.shared_epoch(frames) if at_epoch is None else at_epoch,
        score=lowest if score is None else score,
        margin=margin,
    )


def stop_audit(study: str, storage: str | None = None) -> "pd.DataFrame":
    """Return what stopping each trial saved, and what the audited ones found later.

    The columns are ``analysis.stop_audit.STOP_AUDIT``; ``analysis.stop_audit.add_up`` gives the
    totals.
    """
    from sweeps.analysis import stop_audit as analysis

    frames = read_study(study, storage)
    settings = queries.study_settings(resolve_url(storage), study).config
    missing = [name for name in ("max_epochs", "min_delta") if name not in settings]
    if missing:
        raise StorageError(f"study {study!r} was not begun by bestepoch: no {missing[0]}")
    return analysis.stop_audit(
        frames.results,
        frames.curves,
        study=study,
        max_epochs=settings["max_epochs"],
        min_delta=settings["min_delta"],
        margin=find_margin([frames]),
    )


def read_study(study: str, storage: str | None = None) -> "StudyFrames":
    """Return what ``analysis.comparison`` compares of a study.

    Raises:
        StorageError: If the database cannot be opened, or has no such study.
    """
    from sweeps.analysis.comparison import StudyFrames, validation_error

    url = resolve_url(storage)
    results = queries.results(url, study)
    error = validation_error(results, queries.class_scores(url, study))
    return StudyFrames(study, results, queries.curves(url, study), error)


def _check_epoch(epoch: object) -> None:
    if isinstance(epoch, bool) or not isinstance(epoch, numbers.Integral):
        kind = type(epoch).__name__
        raise TypeError(f"at_epoch must be a whole number or None, got {epoch!r}, a {kind}")
    if epoch < 1:
        raise ValueError(f"at_epoch must be >= 1, got {epoch}")


def find_margin(frames: "Sequence[StudyFrames]") -> float:
    """Return the difference below which scores of these studies tie; NaN where it is not known.

    That of the study whose validation set is the noisiest.
    """
    from sweeps.analysis.comparison import tie_margin

    errors = [each.error for each in frames if not math.isnan(each.error)]
    return tie_margin(max(errors, default=math.nan))
