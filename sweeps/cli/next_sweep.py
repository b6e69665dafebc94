"""What ``diagnose`` reads of a study, and what that says of the next sweep. Prints nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.analysis.advice import Advice
    from sweeps.analysis.epoch_advice import EpochPlan
    from sweeps.analysis.next_step import NextStep
    from sweeps.analysis.stop_audit import StopTotals
    from sweeps.analysis.verdicts import TrialVerdict


@dataclass(frozen=True, slots=True)
class StudyRead:
    """A study as it was at one moment.

    Attributes:
        study: Its name.
        results: ``queries.results``, cut-off trials marked.
        curves: ``queries.curves``, without the epochs that came in after the results.
        class_scores: ``queries.class_scores``.
        judged: The verdicts on each trial that has an epoch.
    """

    study: str
    results: "pd.DataFrame"
    curves: "pd.DataFrame"
    class_scores: "pd.DataFrame"
    judged: "list[TrialVerdict]"


def read_study(url: str, study: str) -> StudyRead:
    """Return a study and the verdicts on its trials. Does not write.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    from storage import queries
    from sweeps.analysis.verdicts import judge_study
    from sweeps.reporting import leave_out_newer
    from sweeps.unfinished import mark_cut_off

    results = mark_cut_off(queries.results(url, study), url, study)
    # A running trial may have had an epoch since, and another may have ended.
    curves = leave_out_newer(queries.curves(url, study), results)
    scores = queries.class_scores(url, study)
    return StudyRead(study, results, curves, scores, judge_study(curves, scores, results))


@dataclass(frozen=True, slots=True)
class NextSweep:
    """What a study says of the next sweep.

    Attributes:
        advice: What to change.
        hint: Without any, what the best trial asks for, None if nothing; else None.
        options: Of either.
        command: A ``bestepoch run`` that does all of it, None without an option.
        epochs: What to do about its epochs, None where too few trials tell.
        max_epochs: The study's.
        totals: What stopping saved and cost.
        stops: The same in sentences.
    """

    advice: "Sequence[Advice]"
    hint: "NextStep | None"
    options: Sequence[str]
    command: str | None
    epochs: "EpochPlan | None"
    max_epochs: int
    totals: "StopTotals"
    stops: "Sequence[str]"


def look_ahead(read: StudyRead, url: str) -> NextSweep | None:
    """Return what to change in the sweep, and what stopping saved; None of a foreign study."""
    from storage import queries
    from sweeps.analysis.advice import advise
    from sweeps.analysis.comparison import tie_margin, validation_error
    from sweeps.analysis.epoch_advice import plan_epochs
    from sweeps.analysis.next_step import find_next
    from sweeps.analysis.stop_audit import add_up, describe_stops, stop_audit
    from sweeps.analysis.verdicts import to_frame
    from sweeps.reporting import next_command
    from sweeps.rerun import read_last_run

    settings = queries.study_settings(url, read.study)
    config = settings.config
    if not {"space", "max_epochs", "min_delta"} <= set(config):
        return None
    error = validation_error(read.results, read.class_scores)
    verdicts, max_epochs = to_frame(read.judged, read.study), int(config["max_epochs"])
    limits: dict[str, Any] = {"max_epochs": max_epochs, "patience": config.get("patience")}
    epochs, last_run = (
        plan_epochs(read.results, verdicts, **limits),
        read_last_run(url, read.study),
    )
    known: dict[str, Any] = {"epochs": epochs, "target": last_run.trials}
    advice = advise(read.results, config["space"], verdicts, error=error, **known)
    step = find_next(read.results, verdicts, advice=advice, epochs=epochs)
    hint = None if advice else step
    options = [each.option for each in (*advice, hint) if each is not None and each.option]
    audit = stop_audit(
        read.results,
        read.curves,
        study=read.study,
        max_epochs=max_epochs,
        min_delta=float(config["min_delta"]),
        margin=tie_margin(error),
    )
    totals = add_up(audit)
    return NextSweep(
        advice=advice,
        hint=hint,
        options=options,
        command=next_command(
            settings,
            options,
            num_trials=max(last_run.trials or 0, len(read.results)),
            taken=set(queries.studies(url)["study"]),
        ),
        epochs=epochs,
        max_epochs=max_epochs,
        totals=totals,
        stops=describe_stops(totals, audit=last_run.audit),
    )
