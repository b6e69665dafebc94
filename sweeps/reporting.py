"""A study's report from its database: the one place that reads for it.

The command ``report`` and the dashboard call ``report_html``; what the page looks like is
``analysis.report``'s.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from storage import queries
from storage.records import StudyRow
from sweeps.analysis import report
from sweeps.analysis.report_facts import StudyData
from sweeps.analysis.verdicts import verdicts
from sweeps.config_errors import ConfigError


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
    results = queries.results(url, study)
    # Read after the results: an epoch that came in between belongs to a trial that is known.
    curves, scores = queries.curves(url, study), queries.class_scores(url, study)
    known = set(results["trial"])
    curves, scores = (each[each["trial"].isin(known)] for each in (curves, scores))
    versions: Mapping[str, str] = {}
    if len(results):
        versions = queries.trial(url, study, int(results["trial"].iloc[0]))["versions"]
    return StudyData(
        study=study,
        objective=settings.objective,
        created_at=settings.created_at,
        config=settings.config,
        data_fingerprint=settings.data_fingerprint,
        versions=versions,
        command=find_command(settings, num_trials=len(results)),
        results=results,
        curves=curves,
        class_scores=scores,
        confusions=queries.confusions(url, study),
        verdicts=verdicts(curves, scores, results, study=study),
    )


def find_command(study: StudyRow, *, num_trials: int) -> str | None:
    """Return a ``bestepoch run`` with the settings of a study, tried: it has exactly these.

    Args:
        study: The study's settings.
        num_trials: Trials that it has.

    Returns:
        None where there is none, as with trials that a person named in a sweep file, or an
        objective whose file is gone.
    """
    from sweeps.config_files import load_config

    config = dict(study.config)
    options = {"data": config.get("data"), "seed": config.get("seed")}
    own = {"study": study.name, "trials": max(num_trials, 1)}
    try:
        default = load_config(study.objective, (), **options).settings()
        changes = list(_list_changes(default, config))
        tried = load_config(study.objective, changes, **options, **own).settings()
    except (ConfigError, OSError, ValueError):
        return None
    if tried != config:
        return None
    words = ["bestepoch", "run", study.objective, "--study", study.name]
    words += ["--trials", str(own["trials"])]
    words += [
        word
        for name, value in options.items()
        if value is not None
        for word in (f"--{name}", str(value))
    ]
    words += [word for change in changes for word in ("--set", change)]
    return shlex.join(words)


def _list_changes(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    """Yield ``key.path=value`` for each setting that differs.

    Raises:
        ValueError: If one cannot be written so.
    """
    for key, value in after.items():
        old = before.get(key)
        if value == old and key in before:
            continue
        if isinstance(value, Mapping):
            yield from _list_changes(
                old if isinstance(old, Mapping) else {}, value, f"{prefix}{key}."
            )
            continue
        parts = value if isinstance(value, list) else [value]
        if any(part is None or isinstance(part, Mapping | list) for part in parts):
            raise ValueError(f"{prefix}{key} has no --set")
        yield f"{prefix}{key}={json.dumps(value, ensure_ascii=False)}"
