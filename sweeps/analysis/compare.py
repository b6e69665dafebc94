"""Trials of one or several studies in one ranking by each rule: best, last, tail, epoch X.

The ranking is ``storage.queries.rank``, as everywhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from scipy import stats

from storage import queries
from sweeps.analysis.facts import TrialFacts, list_facts
from sweeps.analysis.ties import Ties, find_ties
from sweeps.curves import running_best
from sweeps.outcomes import PEER_OUTCOMES
from sweeps.read.study import Study

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``compare``. ``best``, ``last``, ``tail``, ``at_epoch``: score by each rule (tail:
#: mean of the last 5 epochs; at_epoch: best up to epoch X); ``rank_best`` and so on: the rank by
#: each, 1 is the highest, equal scores share one; ``rank_range``: largest minus smallest rank;
#: ``is_tied``: whether the trial cannot be told from the best one; ``epochs_to_score``: first
#: epoch with a given score; ``noise``: between epochs, around the line through the scores;
#: ``luck``: how far the best epoch stands above that line, on average; ``best_without_luck``.
COMPARISON: Mapping[str, str] = {
    "study": "string",
    "trial": "int64",
    **dict.fromkeys(("best", "last", "tail", "at_epoch"), "float64"),
    **dict.fromkeys(("rank_best", "rank_last", "rank_tail", "rank_at_epoch"), "Int64"),
    "rank_range": "Int64",
    "is_tied": "bool",
    "epochs_to_score": "Int64",
    **dict.fromkeys(("noise", "luck", "best_without_luck"), "float64"),
}
#: The rules to compare by.
RULES = ("best", "last", "tail", "at_epoch")
# As in ``ties``: a lead by chance is called one in 20 times, however many trials there are.
_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Compared:
    """A study, what is known of its trials, and which of them tie."""

    study: Study
    facts: tuple[TrialFacts, ...]
    ties: Ties

    @classmethod
    def read(cls, url: str, name: str) -> Self:
        """Read and measure a study; the errors are those of ``Study.read``."""
        study = Study.read(url, name)
        facts = list_facts(study)
        return cls(study, facts, find_ties(study, facts))

    @property
    def ranked(self) -> tuple[TrialFacts, ...]:
        """The facts of the ranked trials, the best first."""
        facts_of = {each.trial: each for each in self.facts}
        return tuple(facts_of[trial] for trial in self.study.ranked["trial"] if trial in facts_of)


def compare(
    studies: Sequence[Compared],
    *,
    epoch: int | None = None,
    score: float | None = None,
    by: str = "best",
) -> "pd.DataFrame":
    """Return the ranked trials of all studies in one ranking (``COMPARISON``), the best first.

    Args:
        studies: Those to compare; ranks count over all of them.
        epoch: Epoch X of ``at_epoch``, from 1; its score is NaN for a trial that ended before.
            None: ``shared_epoch``.
        score: That of ``epochs_to_score``. None: ``lowest_tied``.
        by: The rule that orders the rows, one of ``RULES``.
    """
    import pandas as pd

    at = shared_epoch(studies) if epoch is None else epoch
    wanted = lowest_tied(studies) if score is None else score
    tied = find_tied(studies)
    rows = []
    for place, each in enumerate(studies):
        ranked = each.study.ranked
        facts = pd.DataFrame(
            [
                (place, (place, fact.trial) in tied, *_measure(fact, epoch=at, score=wanted))
                for fact in each.ranked
            ],
            columns=["place", "is_tied", "at_epoch", "epochs_to_score", "noise", "luck"],
            index=ranked.index,
        )
        rows.append(ranked.assign(study=each.study.name).join(facts))
    frame = pd.concat(rows, ignore_index=True)
    shown = {"best": "best_score", "last": "last_score", "tail": "tail_score"}
    frame = frame.rename(columns={name: rule for rule, name in shown.items()})
    frame["best_score"] = frame["best"]
    frame["row"] = range(len(frame))
    for rule in RULES:
        frame[f"rank_{rule}"] = frame["row"].map(
            queries.rank(frame, rule).set_index("row")["rank"]
        )
    ranks = frame[[f"rank_{rule}" for rule in RULES]]
    frame["rank_range"] = ranks.max(axis=1) - ranks.min(axis=1)
    frame["best_without_luck"] = frame["best"] - frame["luck"]
    ordered = frame.sort_values([f"rank_{by}", "rank_best", "row"], ignore_index=True)
    return ordered[list(COMPARISON)].astype(dict(COMPARISON))


def find_tied(studies: Sequence[Compared]) -> frozenset[tuple[int, int]]:
    """Return the place of the study and the number of each trial that ties with the best of all.

    Beside trials of another study nothing is known but the error of each: their scores count as
    independent, with Bonferroni's correction for their number.
    """
    leads = [
        (each.ranked[0].best_score, -place) for place, each in enumerate(studies) if each.ranked
    ]
    if not leads:
        return frozenset()
    first = -max(leads)[1]
    leader, count = studies[first].ranked[0], sum(len(each.ranked) for each in studies)
    apart = float(stats.norm.isf(_LEVEL / max(count - 1, 1)))
    tied = {(first, trial) for trial in studies[first].ties.tied}
    for place, each in enumerate(studies):
        for fact in each.ranked if place != first else ():
            error = math.hypot(leader.error, fact.error)
            margin = 0.0 if math.isnan(error) else apart * error
            if leader.best_score - fact.best_score <= margin:
                tied.add((place, fact.trial))
    return frozenset(tied)


def lowest_tied(studies: Sequence[Compared]) -> float:
    """Return the lowest score that ties with the best; NaN without a ranked trial."""
    tied = find_tied(studies)
    scores = [
        fact.best_score
        for place, each in enumerate(studies)
        for fact in each.ranked
        if (place, fact.trial) in tied
    ]
    return min(scores, default=math.nan)


def shared_epoch(studies: Sequence[Compared]) -> int:
    """Return the last epoch that all ranked trials of the studies reached; 1 without any.

    Trials that were paused, or that the budget ended, do not count, unless all were.
    """
    ranked = [fact for each in studies for fact in each.ranked]
    peers = {outcome.value for outcome in PEER_OUTCOMES}
    whole = [fact.epochs for fact in ranked if fact.outcome in peers]
    return max(1, min(whole or [fact.epochs for fact in ranked], default=1))


def longest_run(studies: Sequence[Compared]) -> int | None:
    """Return the epochs of the longest ranked trial of the studies; None without any."""
    return max((fact.epochs for each in studies for fact in each.ranked), default=None)


def _measure(
    facts: TrialFacts, *, epoch: int, score: float
) -> tuple[float, int | None, float, float]:
    """Return the best score up to an epoch, the first epoch with a score, the noise, the luck."""
    at_epoch = running_best(facts.scores)[epoch - 1] if facts.epochs >= epoch else math.nan
    reached = [number for number, each in enumerate(facts.scores, start=1) if each >= score]
    noise = math.nan if facts.score is None else facts.score.noise
    luck = math.nan if facts.outlook is None else facts.outlook.luck
    return at_epoch, reached[0] if reached else None, noise, luck
