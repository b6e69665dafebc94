"""What a study says: the one thing that report, note, ``diagnose`` and notebook show.

Opens no database.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps.analysis.advice import advise
from sweeps.analysis.advice_kinds import Advice
from sweeps.analysis.audit import Audit, audit
from sweeps.analysis.facts import TrialFacts, list_facts
from sweeps.analysis.ties import Ties, find_ties
from sweeps.analysis.verdicts import Judged, Reason, Verdict, judge
from sweeps.config.commands import carry_on_command, next_command
from sweeps.outcomes import Outcome
from sweeps.read import words
from sweeps.read.params import describe_trial
from sweeps.read.study import Study

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Summary:
    """What a study says.

    Attributes:
        study: The study.
        facts: Facts of each trial that has an epoch.
        judged: The verdict on each of those.
        ties: Which trials tie with the best.
        audit: What stopping saved and cost.
        advice: What to change, the largest gain first; empty: nothing is shown.
        command: A ``bestepoch run`` that does all of it, and begins with the best
            trials of this study; None without advice.
        answer: The best trial, in a sentence or two.
        findings: What else is to be known of the study, a sentence or two each.
        unfinished: What becomes of trials that have not come to their end, likewise.
        carry_on: The command that goes on with a sweep that was stopped short; None where nothing
            is left to train, or a process still trains.
        no_advice: What is said in place of advice; empty where there is some.
    """

    study: Study
    facts: tuple[TrialFacts, ...]
    judged: tuple[Judged, ...]
    ties: Ties
    audit: Audit
    advice: tuple[Advice, ...]
    command: str | None
    answer: str
    findings: tuple[str, ...]
    unfinished: tuple[str, ...]
    carry_on: str | None
    no_advice: str


def summarise(study: Study) -> Summary:
    """Return what a study says. Runs nobody's code."""
    facts = list_facts(study)
    judged, ties = judge(facts), find_ties(study, facts)
    advice = advise(study, facts, judged, ties)
    is_open = study.is_sweep and is_stopped_short(study)
    return Summary(
        study=study,
        facts=facts,
        judged=judged,
        ties=ties,
        audit=audit(study, facts),
        advice=advice,
        command=_make_command(study, advice),
        answer=_say_answer(study, ties),
        findings=tuple(_list_findings(study, judged, ties)),
        unfinished=tuple(say_unfinished(study)),
        carry_on=carry_on_command(study.name) if is_open else None,
        no_advice="" if advice else _say_no_advice(study, judged),
    )


def _make_command(study: Study, advice: Sequence[Advice]) -> str | None:
    options = [option for each in advice for option in each.options]
    sampler = (study.config.get("sampler") or {}).get("name")
    knows = sampler != "grid" and bool(len(study.ranked))
    return next_command(study.name, options, taken=study.taken, warm_start=knows)


def is_stopped_short(study: Study) -> bool:
    """Return whether trials are left to train that no process here trains.

    A budget of epochs may end before its last trial starts, where those that have started need
    what is left; so trials that have not started count where nothing but their number limits them.
    """
    results, budget = study.results, study.budget
    ends = [words.outcome(each) for each in results["outcome"]]
    may_begin = budget.epochs is None and len(results) < (budget.trials or 0)
    is_open = any(each in words.UNENDED for each in ends)
    return "running" not in ends and (is_open or may_begin)


def say_unfinished(study: Study) -> list[str]:
    """Return that the sweep still runs, was cut off, or stopped before its budget was spent."""
    results = study.results
    ends = Counter(words.outcome(each) for each in results["outcome"])
    said = []
    if running := ends["running"]:
        said.append(f"{words.count(running, 'trial')} still {_verb(running, 'trains', 'train')}.")
    if gone := ends["interrupted"] + ends[words.CUT_OFF]:
        was = _verb(gone, "was", "were")
        why = "the run was stopped" if not ends[words.CUT_OFF] else "its process died"
        said.append(f"{words.count(gone, 'trial')} {was} cut off: {why}.")
    if paused := ends["paused"]:
        wait = _verb(paused, "waits", "wait")
        said.append(
            f"{words.count(paused, 'trial')} {wait} (paused) to be compared with others after as "
            "many epochs; the best of them go on if the sweep does."
        )
    if not said and not (study.is_sweep and is_stopped_short(study)):
        return []
    use = study.budget.use(trials=len(results), epochs=int(results["epochs_run"].sum()))
    return [f"The sweep has not come to its end: {use} so far.", *said]


def say_ahead(results: "pd.DataFrame") -> list[str]:
    """Return which trial without an end has a higher score than all ranked ones, if one has."""
    best = results.loc[results["rank"].notna(), "best_score"].max()
    is_open = results["outcome"].map(words.outcome, na_action=None).isin(words.UNENDED)
    ahead = results[is_open & (results["best_score"] > best)]
    if ahead.empty:
        return []
    first = ahead.loc[ahead["best_score"].idxmax()]
    state = f"{words.outcome(first['outcome'])} after {words.count(first['epochs_run'], 'epoch')}"
    so_far = words.score(first["best_score"])
    return [f"Trial {first['trial']}, {state}, has {so_far} so far and may still win."]


def _say_answer(study: Study, ties: Ties) -> str:
    if ties.best is None:
        return _say_leader(study)
    row = study.ranked.iloc[0]
    error = "" if math.isnan(ties.error) else f" (standard error {words.signed(ties.error)})"
    what = describe_trial(study.results, ties.best, study.space)
    answer = (
        f"Trial {ties.best} is the best: {words.clean(study.metric)} "
        f"{words.score(row['best_score'])}{error} at epoch {words.whole(row['best_epoch'])} of "
        f"{words.whole(row['epochs_run'])}, with {what}."
    )
    others = len(ties.tied) - 1
    if others > 0:
        tie = _verb(others, "ties", "tie")
        answer += (
            f" {words.count(others, 'other trial')} of {len(study.ranked) - 1} {tie} with it: "
            "its lead over them may be luck."
        )
    return answer


def _say_leader(study: Study) -> str:
    results = study.results
    ends = results["outcome"].map(words.outcome, na_action=None)
    if len(results) and (ends == Outcome.DIVERGED.value).all():
        which = f"All {len(results)} trials" if len(results) > 1 else "The only trial"
        return f"{which} diverged: no score may be ranked."
    scored = results[results["best_score"].notna() & ends.isin(words.UNENDED)]
    if scored.empty:
        ended = len(results) > 0 and not ends.isin(words.UNENDED).any()
        none = "No trial has ended with a score that may be ranked."
        return none if ended else "No trial has a score yet." if len(results) else "No trial yet."
    first = scored.loc[scored["best_score"].idxmax()]
    what = describe_trial(study.results, int(first["trial"]), study.space)
    return (
        f"Trial {first['trial']} is ahead so far: {words.clean(study.metric)} "
        f"{words.score(first['best_score'])} at epoch {words.whole(first['best_epoch'])}, with "
        f"{what}. No trial has ended with a score yet."
    )


def _say_no_advice(study: Study, judged: Sequence[Judged]) -> str:
    """Return what is to be said where nothing is advised; it never says that all is well."""
    if study.ranked.empty:
        return "No trial may be ranked, so nothing can be advised."
    if all(each.verdict is Verdict.UNCLEAR for each in judged):
        return "Too little is known yet to advise."
    return "No comparison between trials shows that other settings would be better."


def _list_findings(study: Study, judged: Sequence[Judged], ties: Ties) -> list[str]:
    found = [] if ties.best is None else say_ahead(study.results)
    if ties.luck > study.min_delta:
        found.append(
            f"About {words.signed(ties.luck)} of the best score is luck, as it is the highest of "
            f"{words.count(len(study.ranked), 'trial')} and their epochs: expect "
            f"{words.signed(float(study.ranked['best_score'].iloc[0]) - ties.luck)} on new data."
        )
    of = {each.trial: each for each in judged}
    if ties.best in of and of[ties.best].verdict is not Verdict.UNCLEAR:
        best = of[ties.best]
        found.append(f"The best trial is called {best.verdict.value}. {best.text}")
    reasons = Counter(each.reason for each in judged)
    told = len(judged) - sum(each.verdict is Verdict.UNCLEAR for each in judged)
    nothing = reasons[Reason.NOTHING_GENERALISES]
    if nothing and 2 * nothing >= told:
        found.append(
            f"{words.some(nothing, told, 'trials whose curves tell')} learned the training data "
            "and nothing that holds for validation: look at the labels and the features first."
        )
    return found


def _verb(number: int, one: str, many: str) -> str:
    return one if number == 1 else many
