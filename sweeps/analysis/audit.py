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
from typing import TYPE_CHECKING

from storage.schema import BEHIND, ENDED
from sweeps.analysis.facts import TrialFacts
from sweeps.analysis.ties import measure_noise
from sweeps.curves import epochs_since_best
from sweeps.outcomes import Outcome
from sweeps.read.study import Study
from sweeps.read.words import count, duration, is_missing, signed

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``to_frame``. ``epochs_saved``: those that patience alone would have taken at least;
#: ``seconds_saved``: the same at the trial's own pace; ``would_stop_outcome``,
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
class Total:
    """Trials of one outcome.

    Attributes:
        outcome: Why they ended.
        trials: How many.
        epochs: Epochs that they trained together.
        saved: Epochs that patience alone would have taken more, at least.
        seconds: Seconds that those would have taken, at each trial's own pace.
    """

    outcome: str
    trials: int
    epochs: int
    saved: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Checked:
    """A trial that ran on where it would have been stopped.

    Attributes:
        trial: Its number.
        outcome: ``stalled`` or ``behind``: the end that it would have had.
        epoch: When.
        score: Its best score by then.
        missed: Points of the score that stopping it would have lost; 0 or less: none. NaN: too
            little is known to tell.
        is_wrong: Whether that is above ``min_delta`` and above what chance explains.
    """

    trial: int
    outcome: str
    epoch: int
    score: float
    missed: float
    is_wrong: bool


@dataclass(frozen=True, slots=True)
class Audit:
    """What stopping saved and cost in a study.

    Attributes:
        totals: By outcome, of the trials that have ended and trained.
        checked: The audited trials, by number.
        cost: By how much the best score would be lower, had the trials been stopped whose stop
            is wrong; NaN without an audited trial.
        sentences: The same for people.
    """

    totals: tuple[Total, ...]
    checked: tuple[Checked, ...]
    cost: float
    sentences: tuple[str, ...]

    @property
    def saved(self) -> int:
        """Epochs saved by all trials together."""
        return sum(each.saved for each in self.totals)


def audit(study: Study, facts: Sequence[TrialFacts]) -> Audit:
    """Return what stopping saved and cost."""
    frame = to_frame(study, facts)
    sums = frame.groupby("outcome")[["epochs_run", "epochs_saved", "seconds_saved"]].sum()
    totals = tuple(
        Total(
            outcome,
            int((frame["outcome"] == outcome).sum()),
            int(sums.loc[outcome, "epochs_run"]),
            int(sums.loc[outcome, "epochs_saved"]),
            float(sums.loc[outcome, "seconds_saved"]),
        )
        for outcome in ENDED
        if outcome in sums.index
    )
    checked = tuple(_check(study, facts))
    cost = _find_cost(study, checked)
    sentences = (*_say_saved(totals), *_say_checked(study, totals, checked, cost))
    return Audit(totals, checked, cost, sentences)


def to_frame(study: Study, facts: Sequence[TrialFacts]) -> "pd.DataFrame":
    """Return one row a trial that has ended and trained (``STOP_AUDIT``), by number."""
    import pandas as pd

    facts_of = {each.trial: each for each in facts}
    ended = study.results["outcome"].isin(ENDED) & study.results["trial"].isin(list(facts_of))
    results = study.results[ended].sort_values("trial", ignore_index=True)
    saved = [_count_saved(study, facts_of[trial]) for trial in results["trial"].tolist()]
    found = results[[name for name in STOP_AUDIT if name in results]].assign(
        study=study.name, epochs_saved=saved, missed=math.nan, is_wrong=pd.NA
    )
    pace = found["seconds"] / found["epochs_run"].clip(lower=1)
    found["seconds_saved"] = found["epochs_saved"] * pace
    for each in _check(study, facts):
        is_it = found["trial"] == each.trial
        known = pd.NA if math.isnan(each.missed) else each.is_wrong
        found.loc[is_it, ["missed", "is_wrong"]] = [each.missed, known]
    return found[list(STOP_AUDIT)].astype(dict(STOP_AUDIT))


def is_risen(facts: TrialFacts, epoch: int, *, min_delta: float) -> bool:
    """Return whether a trial's line rises after an epoch by more than chance and ``min_delta``."""
    rise, chance = _rise(facts, epoch)
    return rise > max(min_delta, chance)


def _count_saved(study: Study, facts: TrialFacts) -> int:
    """Return the epochs that a trial would have had yet, if its score had risen no more."""
    if facts.outcome != BEHIND or study.patience is None:
        return 0
    waited = epochs_since_best(facts.scores, study.min_delta)
    more = min(study.patience - waited, study.max_epochs - facts.epochs)
    return max(more, 0)


def _check(study: Study, facts: Sequence[TrialFacts]) -> list[Checked]:
    results = study.results[study.results["would_stop_epoch"].notna()].set_index("trial")
    checked = []
    for each in facts:
        if each.trial not in results.index:
            continue
        row = results.loc[each.trial]
        outcome, epoch = str(row["would_stop_outcome"]), int(row["would_stop_epoch"])
        if outcome == Outcome.BEHIND.value:
            missed, chance = _lead(study, each, facts)
        else:
            missed, chance = _rise(each, epoch)
        is_wrong = missed > max(study.min_delta, chance)
        score = float(row["would_stop_score"])
        checked.append(Checked(each.trial, outcome, epoch, score, missed, is_wrong))
    return checked


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


def _find_cost(study: Study, checked: Sequence[Checked]) -> float:
    ranked = study.ranked
    if not checked or ranked.empty:
        return math.nan
    by_then = {each.trial: each.score for each in checked if each.is_wrong}
    scores = zip(ranked["trial"].tolist(), ranked["best_score"].tolist(), strict=True)
    left: float = max(by_then.get(trial, score) for trial, score in scores)
    return max(float(ranked["best_score"].iloc[0]) - left, 0.0)


def _say_saved(totals: Sequence[Total]) -> list[str]:
    behind = [each for each in totals if each.saved]
    if not behind:
        return []
    trials, saved = sum(each.trials for each in behind), sum(each.saved for each in behind)
    took = sum(each.epochs for each in totals)
    return [
        f"Pausing {count(trials, 'trial')} saved at least {count(saved, 'epoch')}, about "
        f"{duration(sum(each.seconds for each in behind))} of training, beside the {took:,} that "
        "were trained: patience alone would have stopped them so much later."
    ]


def _say_checked(
    study: Study, totals: Sequence[Total], checked: Sequence[Checked], cost: float
) -> list[str]:
    stopped = (Outcome.STALLED.value, Outcome.BEHIND.value)
    if not checked:
        if not any(each.outcome in stopped for each in totals):
            return []
        if study.audit:
            return [f"What stopping cost is unknown: the audit ({study.audit:g}) drew no trial."]
        way_out = "with --audit 0.05 one trial in 20 runs on"
        return [f"What stopping cost is unknown, as no trial was audited; {way_out}."]
    wrong = [each for each in checked if each.is_wrong]
    is_one = len(checked) == 1
    who, them = ("1 trial", "it") if is_one else (f"{len(checked):,} trials", "them")
    said = f"{who} ran on after the epoch that would have stopped {them}: "
    if all(is_missing(each.missed) for each in checked):
        return [f"{said}too little is known of {them} to tell what that brought."]
    if not wrong:
        came = "it came to no more" if is_one else "none came to more"
        return [f"{said}{came} than chance explains."]
    came = "it came" if is_one else f"{len(wrong):,} of them came"
    most = signed(max(each.missed for each in wrong))
    said += f"{came} to more than chance explains, by {most} at most."
    if is_missing(cost):
        return [said]
    lost = "nothing" if cost < _NOTHING else signed(cost, 4)
    return [
        f"{said} Stopping {'it' if len(wrong) == 1 else 'them'} would have cost the best "
        f"score {lost}."
    ]
