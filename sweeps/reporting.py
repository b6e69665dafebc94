"""A study's report from its database: the one place that reads for it.

The command ``report`` and the dashboard call ``report_html``; what the page looks like is
``analysis.report``'s.
"""

import itertools
import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from storage import queries
from storage.records import StudyRow
from sweeps.analysis import report
from sweeps.analysis.report_facts import StudyData
from sweeps.analysis.verdicts import verdicts
from sweeps.config_errors import ConfigError
from sweeps.rerun import name_first_trials

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
    results = queries.results(url, study)
    # Read after the results: an epoch that came in between belongs to a trial that is known.
    curves, scores = queries.curves(url, study), queries.class_scores(url, study)
    known = set(results["trial"])
    curves, scores = (each[each["trial"].isin(known)] for each in (curves, scores))
    curves = leave_out_newer(curves, results)
    versions: Mapping[str, str] = {}
    if len(results):
        versions = queries.trial(url, study, int(results["trial"].iloc[0]))["versions"]
    command = find_command(settings, num_trials=len(results))
    return StudyData(
        study=study,
        objective=settings.objective,
        created_at=settings.created_at,
        config=settings.config,
        data_fingerprint=settings.data_fingerprint,
        versions=versions,
        command=command and name_first_trials(command, url, study),
        results=results,
        curves=curves,
        class_scores=scores,
        confusions=queries.confusions(url, study),
        verdicts=verdicts(curves, scores, results, study=study),
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


def find_command(study: StudyRow, *, num_trials: int) -> str | None:
    """Return a ``bestepoch run`` with the settings of a study, tried: it has exactly these.

    Args:
        study: The study's settings.
        num_trials: Trials that it has.

    Returns:
        None where there is none, as with trials that a person named in a sweep file, or an
        objective whose file is gone.
    """
    changes = _find_changes(study)
    return None if changes is None else _write_command(study, changes, study.name, num_trials)


def next_command(
    study: StudyRow, options: Sequence[str], *, num_trials: int, taken: Collection[str] = ()
) -> str | None:
    """Return the ``bestepoch run`` of a study with other settings, as a study of its own.

    More trials alone need none: the study goes on.

    Args:
        study: The study's settings.
        options: ``Advice.option`` of each piece of advice that is to be followed.
        num_trials: Trials that it has; the next study has as many unless an option says more.
        taken: Names of the studies there are.

    Returns:
        None without an option. ``SWEEP_FILE`` stands for the file that the study was begun with
        where no command without one has its settings.
    """
    words = shlex.split(" ".join(options))
    given = list(zip(words[::2], words[1::2], strict=True))
    changes = [value for flag, value in given if flag == "--set"]
    trials = max([num_trials, *(int(value) for flag, value in given if flag == "--trials")])
    if not given:
        return None
    name = study.name
    numbers = itertools.count(2)
    while changes and (name == study.name or name in taken):
        name = f"{study.name}-{next(numbers)}"
    before = _find_changes(study)
    if before is not None:
        together = [*(each for each in before if not _is_replaced(each, changes)), *changes]
        if _read_settings(study, together) is not None:
            return _write_command(study, together, name, trials)
    start = ["bestepoch", "run", "SWEEP_FILE", "--study", name, "--trials", str(trials)]
    return shlex.join([*start, *_as_options(changes)])


def _find_changes(study: StudyRow) -> list[str] | None:
    """Return what ``--set`` a study's settings take, tried; None where nothing gives them."""
    default = _read_settings(study, ())
    if default is None:
        return None
    try:
        changes = list(_list_changes(default, study.config))
    except ValueError:
        return None
    return changes if _read_settings(study, changes) == dict(study.config) else None


def _read_settings(study: StudyRow, changes: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the settings of a study of its objective and data with these changes."""
    from sweeps.config_files import load_config

    try:
        return load_config(study.objective, changes, **_options(study)).settings()
    except (ConfigError, OSError, ValueError):
        return None


def _write_command(study: StudyRow, changes: Sequence[str], name: str, trials: int) -> str:
    words = ["bestepoch", "run", study.objective, "--study", name, "--trials", str(max(trials, 1))]
    for option, value in _options(study).items():
        words += [] if value is None else [f"--{option}", str(value)]
    return shlex.join([*words, *_as_options(changes)])


def _options(study: StudyRow) -> dict[str, Any]:
    return {"data": study.config.get("data"), "seed": study.config.get("seed")}


def _as_options(changes: Sequence[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def _is_replaced(change: str, by: Sequence[str]) -> bool:
    """Return whether one of the later changes sets the same key, or a part of it."""
    key = change.partition("=")[0]
    return any(other.partition("=")[0] == key or other.startswith(f"{key}.") for other in by)


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
