"""What stopping trials saved, and what it cost: by the trials that ran on to find out.

Saved is counted against stopping by patience alone: a trial that fell behind would have trained
until its score had not risen for ``patience`` epochs, so as many epochs as are certain are
counted. A best of more epochs is higher by chance, so that what came later is never compared with
fewer epochs: a trial that would have stalled is judged by the line through its scores, one that
would have fallen behind by the others after as many epochs. A lead or a rise counts beyond what
chance explains.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from storage.schema import BEHIND, ENDED
from sweeps.analysis.facts import TrialFacts
from sweeps.analysis.ties import measure_noise
from sweeps.curves import epochs_since_best
from sweeps.outcomes import Outcome
from sweeps.read.study import Study
from sweeps.read.words import count, duration, is_missing, signed

#: Columns of ``Audit.trials``. ``epochs_saved``: those that patience alone would have taken, at
#: least; ``seconds_saved``: the same at the trial's own pace; ``would_stop_outcome``,
#: ``would_stop_epoch``, ``would_stop_score``: the end that an audited trial would have had, and
#: its best score by then; ``missed``: points of the score that stopping it would have lost;
#: ``is_wrong``: whether that is above ``min_delta`` and what chance explains. Missing where a
#: trial was not audited.
STOP_AUDIT: Mapping[str, str] = {
    "study": "string",
    "trial": "int64",
    "outcome": "string",
    "epochs_run": "int64",
    "seconds": "float64",
    "epochs_saved": "int64",
    "seconds_saved": "float64",
    "would_stop_outcome": "string",
    "would_stop_epoch": "Int64",
    "would_stop_score": "float64",
    "missed": "float64",
    "is_wrong": "boolean",
}
# Standard errors that a rise or a lead is above by chance in one of 20 cases.
_LARGE = 1.6448536269514722
# What is shown as 0.
_NOTHING = 0.00005


@dataclass(frozen=True, slots=True)
class Audit:
    """What stopping saved and cost in a study.

    Attributes:
        trials: One row a trial that has ended and trained (``STOP_AUDIT``), by number.
        cost: By how much the best score would be lower, had the trials been stopped whose stop
            is wrong; NaN without an audited trial.
        sentences: The same for people.
    """

    trials: pd.DataFrame
    cost: float
    sentences: tuple[str, ...]


def audit(study: Study, facts: Sequence[TrialFacts]) -> Audit:
    """Return what stopping saved and cost."""
    trials = _list_trials(study, facts)
    checked = trials[trials["would_stop_epoch"].notna()]
    cost = _find_cost(study, checked)
    sentences = (*_say_saved(trials), *_say_checked(study, trials, checked, cost))
    return Audit(trials, cost, sentences)


def _list_trials(study: Study, facts: Sequence[TrialFacts]) -> pd.DataFrame:
    facts_of = {each.trial: each for each in facts}
    ended = study.results["outcome"].isin(ENDED) & study.results["trial"].isin(list(facts_of))
    found = study.results[ended].sort_values("trial", ignore_index=True)
    own = [facts_of[trial] for trial in found["trial"].tolist()]
    missed = [
        _miss(study, each, row, facts) for each, row in zip(own, found.itertuples(), strict=True)
    ]
    found = found.assign(
        study=study.name,
        epochs_saved=[_count_saved(study, each) for each in own],
        missed=[each for each, _ in missed],
        is_wrong=[each for _, each in missed],
    )
    pace = found["seconds"] / found["epochs_run"].clip(lower=1)
    found["seconds_saved"] = found["epochs_saved"] * pace
    return found[list(STOP_AUDIT)].astype(dict(STOP_AUDIT))


def _count_saved(study: Study, facts: TrialFacts) -> int:
    """Return the epochs that a trial would have had yet, if its score had risen no more."""
    if facts.outcome != BEHIND or study.patience is None:
        return 0
    waited = epochs_since_best(facts.scores, study.min_delta)
    more = min(study.patience - waited, study.max_epochs - facts.epochs)
    return max(more, 0)


def _miss(study: Study, own: TrialFacts, row: Any, facts: Sequence[TrialFacts]) -> tuple[Any, Any]:
    """Return the points that stopping an audited trial would have lost, and whether wrongly."""
    if is_missing(row.would_stop_epoch):
        return math.nan, pd.NA
    if row.would_stop_outcome == BEHIND:
        missed, chance = _lead(study, own, facts)
    else:
        missed, chance = _rise(own, int(row.would_stop_epoch))
    is_wrong = missed > max(study.min_delta, chance)
    return missed, pd.NA if math.isnan(missed) else is_wrong


def _lead(study: Study, own: TrialFacts, facts: Sequence[TrialFacts]) -> tuple[float, float]:
    """Return the lead of a trial over all others after as many epochs, and that of chance.

    Chance is what two equal trials differ by: on other examples, or between epochs.
    """
    others = [
        (_best_by(each, own.epochs), each)
        for each in facts
        if each.trial != own.trial and each.outcome != Outcome.DIVERGED.value
    ]
    if not others:
        return math.nan, math.nan
    best, rival = max(others, key=lambda other: other[0])
    pair = own, rival
    facts_of = {each.trial: each for each in pair}
    covariance = measure_noise(study, list(facts_of), facts_of).covariance
    of_examples = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    of_epochs = sum(each.score.noise**2 for each in pair if each.score is not None)
    variance = max(of_epochs, 0.0 if math.isnan(of_examples) else of_examples)
    if not variance:
        return math.nan, math.nan
    return own.best_score - best, _LARGE * math.sqrt(variance)


def _best_by(facts: TrialFacts, epochs: int) -> float:
    """Return the best score of the first epochs; -1 without any."""
    return max((score for score in facts.scores[:epochs] if math.isfinite(score)), default=-1.0)


def _rise(facts: TrialFacts, epoch: int) -> tuple[float, float]:
    """Return the rise of the line through a trial's scores after an epoch, and that of chance."""
    fit = facts.score
    if fit is None or facts.epochs <= epoch:
        return math.nan, math.nan
    before = fit.line[: max(epoch + 1 - fit.since, 0)]
    after = fit.line[max(epoch + 1 - fit.since, 0) :]
    first = max(before) if before else max(facts.scores[:epoch])
    return max(after) - first, _LARGE * math.sqrt(2) * fit.level_error


def _find_cost(study: Study, checked: pd.DataFrame) -> float:
    ranked = study.ranked
    if checked.empty or ranked.empty:
        return math.nan
    wrong = checked[checked["is_wrong"].fillna(False)]
    by_then = dict(zip(wrong["trial"], wrong["would_stop_score"], strict=True))
    left = ranked["trial"].map(by_then).fillna(ranked["best_score"]).max()
    return max(float(ranked["best_score"].iloc[0] - left), 0.0)


def _say_saved(trials: pd.DataFrame) -> list[str]:
    paused = trials[trials["epochs_saved"] > 0]
    if paused.empty:
        return []
    saved, seconds = int(paused["epochs_saved"].sum()), float(paused["seconds_saved"].sum())
    return [
        f"Pausing {count(len(paused), 'trial')} saved at least {count(saved, 'epoch')}, about "
        f"{duration(seconds)} of training, beside the {trials['epochs_run'].sum():,} that were "
        "trained: patience alone would have stopped them so much later."
    ]


def _say_checked(
    study: Study, trials: pd.DataFrame, checked: pd.DataFrame, cost: float
) -> list[str]:
    if checked.empty:
        if not trials["outcome"].isin([BEHIND, Outcome.STALLED.value]).any():
            return []
        if study.audit:
            return [f"What stopping cost is unknown: the audit ({study.audit:g}) drew no trial."]
        return [
            "What stopping cost is unknown, as no trial was audited; with --audit 0.05 one trial "
            "in 20 runs on."
        ]
    said = f"{count(len(checked), 'trial')} ran on after the epoch of their stop: "
    if checked["missed"].isna().all():
        return [f"{said}too little is known of them to tell what that brought."]
    wrong = checked[checked["is_wrong"].fillna(False)]
    if wrong.empty:
        return [f"{said}none came to more than chance explains."]
    said += (
        f"{len(wrong):,} of them came to more than chance explains, by "
        f"{signed(wrong['missed'].max())} at most."
    )
    if is_missing(cost):
        return [said]
    lost = "nothing" if cost < _NOTHING else signed(cost, 4)
    return [f"{said} Stopping them would have cost the best score {lost}."]
