"""What a report says of a study in words and numbers, as plain data. Knows no page.

Takes the frames of ``storage.queries``; opens no database.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from objectives.metric_names import DEFAULT_METRIC, label_metric
from sweeps.analysis import report_words as words
from sweeps.analysis.advice import Advice
from sweeps.analysis.comparison import luck_of_best_epochs
from sweeps.analysis.epoch_advice import EpochPlan
from sweeps.analysis.next_step import NextStep
from sweeps.analysis.report_tiles import make_tiles
from sweeps.analysis.stop_audit import (
    STOPPED,
    BestAudit,
    StopTotals,
    add_up,
    describe_audit,
    describe_best,
)
from sweeps.analysis.sweep_plan import SweepPlan, plan_sweep
from sweeps.analysis.sweep_progress import (
    are_cut_short,
    count_ended,
    is_stopped_short,
    say_ahead,
    say_unfinished,
)
from sweeps.analysis.trial_params import describe_trial
from sweeps.analysis.verdicts import TrialVerdict
from sweeps.budget import Budget, read_budget
from sweeps.commands import carry_on_command

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class StudyData:
    """Everything that a report is made from.

    Attributes:
        study: Name of the study.
        objective: What is trained.
        created_at: When it was created, UTC.
        config: Settings of the sweep, as ``SweepConfig.stored``.
        data_fingerprint: SHA-256 over the data's arrays, None while no data was loaded.
        versions: Versions of the libraries that trained last, by name.
        results: ``queries.results``, ranked by the best epoch; trials that nobody trains any
            more have the outcome ``report_words.CUT_OFF``.
        curves: ``queries.curves``.
        class_scores: ``queries.class_scores``.
        confusions: ``queries.confusions``.
        verdicts: ``analysis.verdicts.verdicts``.
        class_names: Names of the classes by index, empty while no data was loaded.
        judged: The verdicts on each trial that has an epoch, as ``verdicts``.
        taken: Names of the studies there are.
    """

    study: str
    objective: str
    created_at: datetime
    config: Mapping[str, Any]
    data_fingerprint: str | None
    versions: Mapping[str, str]
    results: "pd.DataFrame"
    curves: "pd.DataFrame"
    class_scores: "pd.DataFrame"
    confusions: "pd.DataFrame"
    verdicts: "pd.DataFrame"
    class_names: Sequence[str] = ()
    judged: Sequence[TrialVerdict] = ()
    taken: Collection[str] = ()

    @property
    def max_epochs(self) -> int:
        """Epochs that a trial may have."""
        return int(self.config["max_epochs"])

    @property
    def metric(self) -> str:
        """What people call the score: ``macro-F1``, ``accuracy``, ``F1 of spam``."""
        return label_metric(self.config.get("metric", DEFAULT_METRIC))

    @property
    def budget(self) -> Budget:
        """What limited the last run; nothing of a foreign study."""
        return read_budget(self.config)

    @property
    def audit(self) -> float | None:
        """Share of the trials that the last run audited; None: none."""
        return self.config.get("audit") or None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said at the top of a report.

    Attributes:
        headline: The answer in one sentence.
        findings: What should be known beside it, a sentence or two each.
        tiles: Key numbers: a name, a value, a note.
        error: Standard error of the best validation score, NaN where it is not known.
        margin: Difference below which two trials tie; NaN where it is not known.
        ranks: ``rank_trials``.
        cap: Recommended ``max_epochs`` where that is another than the present one, else None.
        savings: By outcome, of the trials that were stopped.
        advice: What to change in the next sweep, what helps most first.
        next_step: What to try next (``next_step.find_next``); "" without anything.
        next_option: The option that does it, None where there is none.
        configuration: The hyperparameters of the best trial, or of the only one, in a sentence;
            "" without one.
        epochs: What to do about the study's epochs, None where too few trials tell.
        audited: What stopping cost, or why that is not known; "" where none was stopped.
        options: The options that follow the advice, or else the best trial's.
        carry_on: The command that goes on with a sweep that was stopped short, None where nothing
            is left to train, or a process still trains.
    """

    headline: str
    findings: list[str]
    tiles: list[tuple[str, str, str]]
    error: float
    margin: float
    ranks: "pd.DataFrame"
    cap: int | None
    savings: list[tuple[str, StopTotals]] = field(default_factory=list)
    advice: Sequence[Advice] = ()
    next_step: str = ""
    next_option: str | None = None
    configuration: str = ""
    epochs: EpochPlan | None = None
    audited: str = ""
    options: Sequence[str] = ()
    carry_on: str | None = None


def plan_study(data: StudyData) -> SweepPlan:
    """Return what a study of ours says of its next sweep."""
    return plan_sweep(
        data.results,
        data.curves,
        data.class_scores,
        data.verdicts,
        study=data.study,
        config=data.config,
        budget=data.budget,
    )


def gather(data: StudyData) -> Facts:
    """Return what a report says at its top; an empty study and one without a score are fine."""
    plan = plan_study(data)
    error, margin, epochs, totals = plan.error, plan.margin, plan.epochs, plan.totals
    ranks = rank_trials(data.results, margin=margin)
    next_step = _say_next(plan.step, epochs)
    is_audited = totals.num_stopped or totals.num_audited
    is_short = is_stopped_short(data.results, budget=data.budget)
    facts = Facts(
        headline=_no_answer(data),
        findings=say_unfinished(data.results, budget=data.budget),
        tiles=[],
        error=error,
        margin=margin,
        ranks=ranks,
        cap=None,
        savings=measure_savings(plan.stops),
        advice=plan.advice,
        options=plan.options,
        next_step=next_step,
        next_option=None if plan.step is None else plan.step.option,
        configuration=_say_configuration(data, ranks),
        epochs=epochs,
        audited=describe_audit(totals, audit=data.audit, best=plan.best) if is_audited else "",
        carry_on=carry_on_command(data.study) if is_short else None,
    )
    if ranks.empty:
        return facts
    cap = None if epochs is None or epochs.cap == data.max_epochs else epochs.cap
    findings = [
        *facts.findings,
        *_say_ties(ranks, margin),
        *_say_last(data.results),
        *_say_luck(data, int(data.results["trial"].iloc[0])),
        *_say_epochs(epochs, next_step),
        *_say_savings(totals, plan.best, data.max_epochs),
        *say_ahead(data.results),
    ]
    return replace(
        facts,
        headline=_say_best(data.results, data.metric),
        findings=findings,
        tiles=make_tiles(data, ranks, error=error, cap=cap, totals=totals),
        cap=cap,
    )


def _say_next(step: NextStep | None, epochs: EpochPlan | None) -> str:
    """Return what to try next; where that is of epochs, with what the study says of them."""
    if step is None:
        return ""
    if step.is_of_epochs and epochs is not None:
        return f"To try next: {step.text} {words.plain(epochs.text)}"
    return f"To try next: {words.plain(step.text)}"


def _say_best(results: "pd.DataFrame", metric: str) -> str:
    """Return which trial won; of several with exactly its score, which leads."""
    first, trials = results.iloc[0], count_ended(results)
    name, score = first["trial"], words.score(first["best_score"])
    epoch, last = words.whole(first["best_epoch"]), words.whole(first["last_epoch"])
    until = ", its last" if last == epoch else f" of the {last} it ran"
    equals = results[results["rank"] == 1]
    if len(equals) > 1:
        return (
            f"{len(equals):,} of {trials:,} trials share the best {metric}, {score} on "
            f"validation; trial {name} leads {words.why_first(equals)}, at epoch {epoch}{until}."
        )
    if trials < len(results):
        of = "the only trial that has ended"
        of = of if trials == 1 else f"the best of the {trials:,} trials that have ended"
    else:
        of = "the only trial" if trials == 1 else f"the best of {trials:,} trials"
    return f"Trial {name} is {of}: {metric} {score} on validation, at epoch {epoch}{until}."


def _say_configuration(data: StudyData, ranks: "pd.DataFrame") -> str:
    """Return what the best trial drew, or the only one, with a score or without."""
    if ranks.empty and len(data.results) != 1:
        return ""
    trial = int(data.results["trial"].iloc[0])
    return f"It is {describe_trial(data.results, trial, data.config.get('space', {}))}."


def rank_trials(results: "pd.DataFrame", *, margin: float) -> "pd.DataFrame":
    """Return the ranked trials with ``rank_last``, and ``is_tied``: too near the best to tell.

    Args:
        results: ``queries.results``.
        margin: ``comparison.tie_margin``; NaN: none ties but the best with itself.
    """
    ranked = results[results["rank"].notna()][["rank", "trial", "best_score"]].copy()
    last = results.loc[ranked.index, "last_score"]
    ranked["rank_last"] = last.rank(method="min", ascending=False).astype("Int64")
    behind = ranked["best_score"].max() - ranked["best_score"]
    ranked["is_tied"] = (behind == 0) | (behind < (0.0 if math.isnan(margin) else margin))
    return ranked


def measure_savings(audit: "pd.DataFrame") -> list[tuple[str, StopTotals]]:
    """Return what stopping saved and cost (``stop_audit``), by outcome."""
    parts = [(name, audit[audit["outcome"] == name]) for name in STOPPED]
    return [(name, add_up(part)) for name, part in parts if len(part)]


def _no_answer(data: StudyData) -> str:
    trials = len(data.results)
    if trials == 0:
        return "This study has no trial yet."
    is_open = data.results["outcome"].map(words.outcome, na_action=None).isin(words.UNENDED)
    if is_open.any():
        so_far = f"No trial has ended with a score yet; {words.count(trials, 'trial')} so far"
        return f"{so_far}{words.leader(data.results[is_open].iloc[0], data.metric)}."
    if trials == 1:
        return "The only trial has no score that may be ranked."
    return f"None of the {trials:,} trials has a score that may be ranked."


def _say_ties(ranks: "pd.DataFrame", margin: float) -> list[str]:
    if math.isnan(margin):
        return []
    tied = [str(each) for each in ranks.loc[ranks["is_tied"], "trial"].iloc[1:]]
    rule = (
        f"less than {margin:.3f} apart, two standard errors of a difference between trials that "
        "are scored on the same examples"
    )
    if not tied:
        return [f"No other trial ties with it ({rule})."] if len(ranks) > 1 else []
    exact = int((ranks["rank"] == 1).sum()) - 1
    if len(tied) == exact:
        return [f"Only those with exactly its score tie with it ({rule})."]
    if len(tied) > 6:
        return [f"{len(tied):,} other trials tie with it: {rule}."]
    verb = "ties" if len(tied) == 1 else "tie"
    which = f"Trial{'' if len(tied) == 1 else 's'} {words.listing(tied)}"
    return [f"{which} {verb} with it: {rule}."]


def _say_last(results: "pd.DataFrame") -> list[str]:
    ranked = results[results["rank"].notna() & results["last_score"].notna()]
    if ranked.empty:
        return []
    first = ranked.iloc[0]
    whole = ranked[~are_cut_short(ranked)]
    lost = float((whole["best_score"] - whole["last_score"]).median())
    own = (
        f"At its last epoch, {words.whole(first['last_epoch'])}, it had "
        f"{words.score(first['last_score'])}."
    )
    if first["last_epoch"] == first["best_epoch"]:
        own = "Its best epoch was its last."
    other = _say_rival(ranked)
    that = f" of {len(whole):,} that were not cut short" if len(whole) < len(ranked) else ""
    median = (
        f" The median trial{that} lost {lost:.3f} from its best epoch to its last."
        if len(whole) > 1
        else ""
    )
    return [f"{own}{other}{median}"]


def _say_rival(ranked: "pd.DataFrame") -> str:
    """Return who would lead by last epochs, "" where the best trial would too."""
    highest = ranked["last_score"].max()
    rivals = [str(each) for each in ranked.loc[ranked["last_score"] == highest, "trial"]]
    if str(ranked["trial"].iloc[0]) in rivals:
        return ""
    some = words.listing(sorted(rivals, key=int)) if len(rivals) <= 6 else f"{len(rivals):,}"
    who = (
        f"trial {some}"
        if len(rivals) == 1
        else f"{some} trials"
        if len(rivals) > 6
        else (f"trials {some}")
    )
    return f" Compared by last epochs, {who} would lead with {words.score(highest)}."


def _say_luck(data: StudyData, trial: int) -> list[str]:
    luck = luck_of_best_epochs(data.curves[data.curves["trial"] == trial])
    if luck.empty or not math.isfinite(luck["luck"].iloc[0]):
        return []
    row = luck.iloc[0]
    return [
        f"Choosing the best of its epochs by the validation score is partly luck: about "
        f"{row['luck']:.3f} of it, which leaves {words.score(row['best_without_luck'])}. The luck "
        "of having the best of many trials comes on top."
    ]


def _say_epochs(epochs: EpochPlan | None, next_step: str) -> list[str]:
    """Return what the study says of its epochs, unless that is the next step already."""
    if epochs is None or words.plain(epochs.text) in next_step:
        return []
    return [words.plain(epochs.text)]


def _say_savings(totals: StopTotals, best: BestAudit | None, max_epochs: int) -> list[str]:
    if not totals.epochs_saved:
        return []
    said = (
        f"Stopping trials saved {words.count(totals.epochs_saved, 'epoch')}, about "
        f"{words.duration(totals.seconds_saved)} of training, against running each to "
        f"{max_epochs:,} epochs."
    )
    if totals.num_audited:
        some = words.count(totals.num_audited, "trial")
        said += f" Of {some} that ran on to check, {totals.num_wrong} rose further."
    if best is not None:
        said += f" {describe_best(best)}."
    return [said]
