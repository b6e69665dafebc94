"""A study's report from its database: the one place that reads for it.

The command ``report`` and the dashboard call ``report_html``; what the page looks like is
``analysis.report``'s. Here are also the commands that run a study again, or the next one.
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
from sweeps.analysis.report_facts import StudyData, gather
from sweeps.analysis.verdicts import verdicts
from sweeps.config_errors import ConfigError
from sweeps.rerun import LastRun, name_first_trials, read_last_run
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
    data = read_study(url, study)
    facts = gather(data)
    last_run = LastRun(data.target, data.audit)
    command = suggest_command(url, study, facts.options, last_run, num_begun=len(data.results))
    return report.render(data, now=now or datetime.now(UTC), facts=facts, next_command=command)


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
    versions: Mapping[str, str] = {}
    if len(results):
        versions = queries.trial(url, study, int(results["trial"].iloc[0]))["versions"]
    last_run = read_last_run(url, study)
    return StudyData(
        study=study,
        objective=settings.objective,
        created_at=settings.created_at,
        config=settings.config,
        data_fingerprint=settings.data_fingerprint,
        versions=versions,
        command=restate_command(url, study, last_run, num_begun=len(results)),
        results=results,
        curves=curves,
        class_scores=scores,
        confusions=queries.confusions(url, study),
        verdicts=verdicts(
            curves, scores, results, study=study, class_names=settings.class_names or ()
        ),
        target=last_run.trials,
        audit=last_run.audit,
        class_names=settings.class_names or (),
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


def restate_command(url: str, study: str, last_run: LastRun, *, num_begun: int) -> str | None:
    """Return the ``bestepoch run`` that starts a study anew, or carries it on. Does not write.

    It has the target and the audit of the last run, and the trials that a person named.

    Args:
        url: The database.
        study: Name of the study.
        last_run: What its last run was told.
        num_begun: Trials that it has.

    Returns:
        None where there is none (``find_command``, ``rerun.name_first_trials``).
    """
    settings = queries.study_settings(url, study)
    command = find_command(settings, num_trials=last_run.trials or num_begun)
    if command is None:
        return None
    return name_first_trials(" ".join([command, *_write_audit(last_run.audit)]), url, study)


def suggest_command(
    url: str, study: str, options: Sequence[str], last_run: LastRun, *, num_begun: int
) -> str | None:
    """Return the one ``bestepoch run`` that does what a study asks for. Does not write.

    Args:
        url: The database.
        study: Name of the study.
        options: Of each piece of advice.
        last_run: What the study's last run was told.
        num_begun: Trials that it has.

    Returns:
        None without an option (``next_command``).
    """
    return next_command(
        queries.study_settings(url, study),
        options,
        num_trials=max(last_run.trials or 0, num_begun),
        taken=set(queries.studies(url)["study"]),
        audit=last_run.audit,
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
    changes = _find_changes(study)
    return None if changes is None else _write_command(study, changes, study.name, num_trials)


def next_command(
    study: StudyRow,
    options: Sequence[str],
    *,
    num_trials: int,
    taken: Collection[str] = (),
    audit: float | None = None,
) -> str | None:
    """Return the ``bestepoch run`` of a study with other settings, as a study of its own.

    More trials alone need none: the study goes on.

    Args:
        study: The study's settings.
        options: ``Advice.option`` of each piece of advice that is to be followed.
        num_trials: Trials that it has; the next study has as many unless an option says more.
        taken: Names of the studies there are.
        audit: Share of the trials that the last run audited, as the next one does; None: none.

    Returns:
        None without an option. ``SWEEP_FILE`` stands for the file that the study was begun with
        where no command without one has its settings.
    """
    words = shlex.split(" ".join(options))
    given = list(zip(words[::2], words[1::2], strict=True))
    changes = _drop_replaced([value for flag, value in given if flag == "--set"])
    trials = max([num_trials, *(int(value) for flag, value in given if flag == "--trials")])
    if not given:
        return None
    name = _name_next(study.name, taken) if changes else study.name
    before = _find_changes(study)
    if before is not None:
        together = _drop_refused(study, _drop_replaced([*before, *changes]), keep=changes)
        if _read_settings(study, together) is not None:
            kept = _drop_dead(study, together, keep=changes) if changes else together
            command = _write_command(study, kept, name, trials)
            return " ".join([command, *_write_audit(audit)])
    start = ["bestepoch", "run", "SWEEP_FILE", "--study", name, "--trials", str(trials)]
    return shlex.join([*start, *_as_options(changes), *_write_audit(audit)])


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


def _write_audit(audit: float | None) -> list[str]:
    return ["--audit", f"{audit:g}"] if audit else []


def _options(study: StudyRow) -> dict[str, Any]:
    return {"data": study.config.get("data"), "seed": study.config.get("seed")}


def _as_options(changes: Sequence[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def _name_next(name: str, taken: Collection[str]) -> str:
    """Return a free name for the study after this one: ``edge-3`` after ``edge-2`` of ``edge``."""
    start, _, number = name.rpartition("-")
    base = start if number.isdecimal() and start in taken else name
    names = (f"{base}-{i}" for i in itertools.count(2))
    return next(each for each in names if each != name and each not in taken)


def _drop_replaced(changes: Sequence[str]) -> list[str]:
    """Return the changes without those of a key that a later one sets, in part or as a whole."""
    return [each for i, each in enumerate(changes) if not _is_replaced(each, changes[i + 1 :])]


def _is_replaced(change: str, by: Sequence[str]) -> bool:
    path = change.partition("=")[0].split(".")
    for other in by:
        # A value in the place of a range ends the range, and a range the value.
        pairs = zip(path, other.partition("=")[0].split("."), strict=False)
        if all(own == its for own, its in pairs):
            return True
    return False


def _drop_refused(study: StudyRow, changes: Sequence[str], *, keep: Sequence[str]) -> list[str]:
    """Return the changes without those that have no use beside others and are refused for it.

    Such as the rates of an optimizer that is left out.
    """
    from sweeps.config_files import load_config

    kept = list(changes)
    # One line a mistake may stand for several changes, and what is left may be refused in turn.
    for _ in changes:
        try:
            load_config(study.objective, kept, **_options(study))
        except ConfigError as error:
            lines = error.lines
        except (OSError, ValueError):
            return kept
        else:
            return kept
        refused = {each for each in kept if any(f"--set {each}: " in line for line in lines)}
        if not refused - set(keep):
            return kept
        kept = [each for each in kept if each in keep or each not in refused]
    return kept


def _drop_dead(study: StudyRow, changes: Sequence[str], *, keep: Sequence[str]) -> list[str]:
    """Return the changes without those of the space that no trial would notice any more.

    Such as the patience of a schedule that is not among the choices any more.

    Args:
        study: The study's settings.
        changes: What ``--set`` takes, accepted together.
        keep: Those that stay.
    """
    kept = list(changes)
    used = _describe_use(study, kept)
    for each in changes:
        fewer = [other for other in kept if other != each]
        if each.startswith("space.") and each not in keep and _describe_use(study, fewer) == used:
            kept = fewer
    return kept


def _describe_use(study: StudyRow, changes: Sequence[str]) -> object:
    """Return what of the space trials are sampled from with these changes; None if refused."""
    from sweeps.config_files import load_config

    try:
        space = load_config(study.objective, changes, **_options(study)).space
    except (ConfigError, OSError, ValueError):
        return None
    table = space.to_table()
    named = {name for name, _ in space.describe()}
    model = {f"model.{name}": spec for name, spec in table.pop("model", {}).items()}
    used = {name: spec for name, spec in (table | model).items() if name in named}
    optimizers = set(space.optimizers)
    for spec in used.values():
        if isinstance(spec, dict):
            own = spec.get("by_optimizer", {})
            spec["by_optimizer"] = {name: own[name] for name in own if name in optimizers}
    return used


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
