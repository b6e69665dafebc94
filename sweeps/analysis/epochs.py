"""Advice on the most epochs of a trial; what is tested is corrected for in ``advice``.

There is none on patience: longer waiting brought no more than other trials of the same epochs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from sweeps.analysis.advice_kinds import Advice, Kind, Tested
from sweeps.analysis.facts import TrialFacts
from sweeps.analysis.ties import Ties
from sweeps.outcomes import Outcome
from sweeps.read import words
from sweeps.read.study import Study

Floats = npt.NDArray[np.float64]

# Best trials whose curves speak for the epochs of all, at least; as many as a warm start takes.
_LEADING = 5
_OWN_ENDS = frozenset({Outcome.EXHAUSTED.value, Outcome.STALLED.value})
# Fewest trials whose differences have a standard error worth the name.
_FEWEST = 3
# A cap is lowered if that saves a third of it: less is not worth another sweep's settings.
_WORTH = 2 / 3
# Chance of a gain above one standard error that is worth twice the epochs; the chance is right on
# other curves than it was fitted to (``tests/benchmarks/bench_verdicts.py``).
_LIKELY = 0.5


def check_epochs(study: Study, facts: Sequence[TrialFacts], ties: Ties) -> Iterator[Tested]:
    """Yield whether the best trials would rise with more epochs, and lose with fewer."""
    leading = _find_leading(study, facts)
    yield from _test_longer(study, leading, ties)
    yield from _test_shorter(study, facts, leading)


def _test_longer(study: Study, leading: Sequence[TrialFacts], ties: Ties) -> Iterator[Tested]:
    """Test whether the best trials' scores still rose in the last half of their epochs.

    The epochs' noise differs from trial to trial, so that the lines of several trials are
    independent, but for what all lose or win on this validation set.
    """
    own = [each for each in leading if _is_capped(study, each)]
    fits = [each.score for each in own]
    rises = [fit.line[-1] - fit.line[len(fit.line) // 2 - 1] for fit in fits if fit]
    if len(rises) < _FEWEST or 2 * len(rises) <= len(leading):
        return
    p = _t_test(np.array(rises))
    gains = _find_gains(study, own, ties)
    if gains is None:
        yield Tested(p, None)
        return
    tried, rising = study.max_epochs, sum(rise > 0 for rise in rises)
    evidence = (
        f"The scores of {words.some(rising, len(rises), 'best trials')} still rose when the last "
        f"epoch ended them, by {words.signed(float(np.mean(rises)))} in the last half of their "
        "epochs."
    )
    if not math.isnan(gains.chance):
        evidence += (
            f" The chance that twice the epochs bring more than a standard error is "
            f"{100 * gains.chance:.0f} %."
        )
    text = f"Raise the epochs of a trial from {tried} to {2 * tried}."
    options = (f"--set max_epochs={2 * tried}",)
    known = (gains.mean, gains.low, gains.high)
    yield Tested(p, Advice(Kind.EPOCHS, text, evidence, *known, p, options))


@dataclass(frozen=True, slots=True)
class _Gains:
    mean: float
    low: float
    high: float
    chance: float


def _find_gains(study: Study, rising: Sequence[TrialFacts], ties: Ties) -> _Gains | None:
    """Return what twice the epochs bring to the median of these trials, and 90 % of one trial's.

    The interval holds what a line's continuation gets wrong, not the spread between the trials.
    With too few epochs to look ahead the gain is not known (NaN).

    Returns:
        None where a gain of more than a standard error is not likely.
    """
    ahead = [each.outlook for each in rising if each.outlook is not None]
    if not ahead:
        lines = [each.score.line for each in rising if each.score is not None]
        half = [(line[-1] - line[len(line) // 2 - 1]) / 2 for line in lines]
        is_worth = float(np.mean(half)) > max(study.min_delta, _nan_to_zero(ties.error))
        return _Gains(math.nan, math.nan, math.nan, math.nan) if is_worth else None
    told = [(each.gain, each.gain_low, each.gain_high, each.gain_probability) for each in ahead]
    gains = _Gains(*np.median(told, axis=0).tolist())
    return gains if gains.chance > _LIKELY and gains.mean > study.min_delta else None


def _test_shorter(
    study: Study, facts: Sequence[TrialFacts], leading: Sequence[TrialFacts]
) -> Iterator[Tested]:
    """Test whether fewer epochs would lose less than one standard error of the score."""
    whole = [
        each
        for each in facts
        if each.outlook is not None and each.score is not None and _is_capped(study, each)
    ]
    needs = [each.outlook.epochs_needed for each in leading if each.outlook is not None]
    total = sum(each.epochs for each in facts)
    if len(whole) < _FEWEST or not needs or 2 * sum(e.epochs for e in whole) < total:
        return
    # A curve that is flat at the end of its need was watched for as long again.
    cap = max(2 * max(needs), 10)
    if cap > _WORTH * study.max_epochs:
        return
    errors = [each.error for each in whole if math.isfinite(each.error)]
    noises = [each.score.noise for each in whole if each.score is not None]
    bound = float(np.median(errors or noises))
    lost = np.array(
        [
            each.score.line[-1] - each.score.line[max(cap - each.score.since, 0)]
            for each in whole
            if each.score is not None
        ]
    )
    p = _t_test(bound - lost)
    saved = sum(each.epochs - cap for each in whole)
    evidence = (
        f"The scores of the best trials are flat from epoch {max(needs)} on; between epochs {cap} "
        f"and {study.max_epochs} {words.count(len(whole), 'trial')} rose by "
        f"{words.signed(float(lost.mean()))} on average. It saves "
        f"{100 * saved / total:.0f} % of all epochs."
    )
    text = f"Lower the epochs of a trial from {study.max_epochs} to {cap}."
    options = (f"--set max_epochs={cap}",)
    yield Tested(p, Advice(Kind.EPOCHS, text, evidence, 0.0, 0.0, 0.0, p, options))


def _find_leading(study: Study, facts: Sequence[TrialFacts]) -> list[TrialFacts]:
    """Return the best third of the ranked trials, 5 at least, whose end is their own.

    Those that were paused, or cut by the budget, say nothing of what ended the others. Those whose
    learning rate went down to its end say nothing of more epochs: their score rose because it did.
    """
    of = {each.trial: each for each in facts}
    ranked = [of[trial] for trial in study.ranked["trial"].tolist() if trial in of]
    told = [
        each
        for each in ranked
        if each.outcome in _OWN_ENDS and each.score is not None and not _is_annealed(each)
    ]
    return told[: max(_LEADING, len(told) // 3)]


def _is_annealed(facts: TrialFacts) -> bool:
    return facts.is_annealed or facts.params.get("schedule") == "cosine"


def _is_capped(study: Study, facts: TrialFacts) -> bool:
    return facts.outcome == Outcome.EXHAUSTED.value and facts.epochs >= study.max_epochs


def _t_test(values: Floats) -> float:
    """Return the p-value of a mean above 0, one-sided; 1 below 2 values."""
    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(stats.t.sf(float(values.mean()) / max(spread, 1e-9), len(values) - 1))


def _nan_to_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
