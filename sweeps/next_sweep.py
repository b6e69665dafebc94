"""What a study says of the next sweep: for ``diagnose`` and for notebooks. Opens no database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps.commands import carry_on_command, next_command

if TYPE_CHECKING:
    from sweeps.analysis.report_facts import StudyData
    from sweeps.analysis.sweep_plan import SweepPlan
    from sweeps.budget import Budget


@dataclass(frozen=True, slots=True)
class NextSweep:
    """What a study says of the next sweep.

    Attributes:
        plan: What to change, and why.
        command: A ``bestepoch run`` that does all of it, None without an option.
        max_epochs: The study's.
        stops: What stopping saved and cost, in sentences.
        num_ended: Trials that have come to their end.
        budget: What limited the last run.
        unfinished: What becomes of the others, in sentences; empty without any.
        carry_on: The command that goes on with a sweep that was stopped short, None where nothing
            is left to train, or a process still trains.
    """

    plan: "SweepPlan"
    command: str | None
    max_epochs: int
    stops: Sequence[str]
    num_ended: int
    budget: "Budget"
    unfinished: Sequence[str]
    carry_on: str | None


def look_ahead(data: "StudyData") -> NextSweep | None:
    """Return what to change in the sweep, and what stopping saved; None of a foreign study."""
    from sweeps.analysis.report_facts import plan_study
    from sweeps.analysis.stop_audit import describe_stops
    from sweeps.analysis.sweep_progress import count_ended, is_stopped_short, say_unfinished

    if not {"space", "max_epochs", "min_delta"} <= set(data.config):
        return None
    plan = plan_study(data)
    return NextSweep(
        plan=plan,
        command=next_command(data.study, plan.options, taken=data.taken),
        max_epochs=data.max_epochs,
        stops=describe_stops(plan.totals, audit=data.audit, best=plan.best),
        num_ended=count_ended(data.results),
        budget=data.budget,
        unfinished=say_unfinished(data.results, budget=data.budget),
        carry_on=carry_on_command(data.study)
        if is_stopped_short(data.results, budget=data.budget)
        else None,
    )
