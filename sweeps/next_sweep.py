"""What a study says of the next sweep, read from its database: for people and for notebooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.analysis.sweep_plan import SweepPlan
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
    names = queries.study_settings(url, study).class_names or ()
    judged = judge_study(curves, scores, results, class_names=names)
    return StudyRead(study, results, curves, scores, judged)


@dataclass(frozen=True, slots=True)
class NextSweep:
    """What a study says of the next sweep.

    Attributes:
        plan: What to change, and why.
        command: A ``bestepoch run`` that does all of it, None without an option.
        max_epochs: The study's.
        stops: What stopping saved and cost, in sentences.
        num_ended: Trials that have come to their end.
        target: Trials that the last run was to end with, None where that is not stored.
        unfinished: What becomes of the others, in sentences; empty without any.
        carry_on: The command that goes on with a sweep that was stopped short, None where nothing
            is left to train, a process still trains, or no single command does.
    """

    plan: "SweepPlan"
    command: str | None
    max_epochs: int
    stops: Sequence[str]
    num_ended: int
    target: int | None
    unfinished: Sequence[str]
    carry_on: str | None


def look_ahead(read: StudyRead, url: str) -> NextSweep | None:
    """Return what to change in the sweep, and what stopping saved; None of a foreign study."""
    from storage import queries
    from sweeps.analysis.stop_audit import describe_stops
    from sweeps.analysis.sweep_plan import plan_sweep
    from sweeps.analysis.sweep_progress import count_ended, is_stopped_short, say_unfinished
    from sweeps.analysis.verdicts import to_frame
    from sweeps.reporting import restate_command, suggest_command
    from sweeps.rerun import read_last_run

    config = queries.study_settings(url, read.study).config
    if not {"space", "max_epochs", "min_delta"} <= set(config):
        return None
    last_run, num_begun = read_last_run(url, read.study), len(read.results)
    plan = plan_sweep(
        read.results,
        read.curves,
        read.class_scores,
        to_frame(read.judged, read.study),
        study=read.study,
        config=config,
        target=last_run.trials,
    )
    is_short = is_stopped_short(read.results, target=last_run.trials)
    return NextSweep(
        plan=plan,
        command=suggest_command(url, read.study, plan.options, last_run, num_begun=num_begun),
        max_epochs=int(config["max_epochs"]),
        stops=describe_stops(plan.totals, audit=last_run.audit, best=plan.best),
        num_ended=count_ended(read.results),
        target=last_run.trials,
        unfinished=say_unfinished(read.results, target=last_run.trials),
        carry_on=restate_command(url, read.study, last_run, num_begun=num_begun)
        if is_short
        else None,
    )
