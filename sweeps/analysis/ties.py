"""Which trials tie with the best, and how much of the best score is luck.

Trials are scored on the same examples, so the noise of their difference is less than that of
either. It is measured: an example adds its influence value to a score (``noise``), the stored
predictions say which example is which, and the covariance of two scores is the sum of products of
their influence values. Of a trial whose predictions were not kept the confusion matrix is known:
its errors are then taken to be independent of those of other trials within each class, which is
cautious. Shapes: T trials, N validation examples, C classes, G points of a grid.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats

from objectives.metric_names import DEFAULT_METRIC
from objectives.metrics import Metric, make_metric
from sweeps.analysis.noise import count_confusion, find_influences
from sweeps.read.study import Bytes, Study

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.analysis.facts import TrialFacts

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Share of trials as good as the best that are called worse; 0.05 is promised. Influence values are
# of first order: of 24 equal trials on 200 to 3,000 examples a level of 0.05 gave 0.050 to 0.060.
_LEVEL = 0.04
# Draws of the largest of many differences: the share above a 96 % point is right to 0.006.
_DRAWS = 1000
_SEED = 7
# Best trials whose differences are drawn together, and examples at a time.
_MOST, _CHUNK = 500, 65_536
# Points of the grid on which true scores are estimated, over so many standard errors below the
# best score, and rounds of the estimate.
_POINTS, _REACH, _ROUNDS = 50, 6.0, 500
# Standard errors that a trial is below another which does not count for it: Hansen's root of
# 2 log log N, which is 2.0 to 2.3 for 1,000 to 1,000,000 examples.
_FAR = -2.1
# Of a normal distribution: 5 % are beyond it at each end.
_INTERVAL = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Ties:
    """Which trials tie with the best, and the luck of the best score, in points of the score.

    Attributes:
        best: Number of the best trial; None without a ranked trial.
        tied: Numbers of the trials that cannot be told from the best, it included.
        lowest: Lowest score of those; NaN without any.
        error: Standard error of the best score, against another validation set; NaN: not known.
        correlation: Of the best score with that of the median other trial over validation sets;
            NaN: no predictions of another trial were kept.
        luck: By how much the best score is expected to exceed what its model has on new examples,
            because it is the highest of these trials and epochs; NaN: not known, as where the
            best trial has 2 to 4 epochs.
        luck_low: That minus 1.64 standard errors of the score: what the score exceeds that of new
            examples by is above this with 95 % probability; may be below 0.
        luck_high: Likewise, below this.
    """

    best: int | None
    tied: frozenset[int] = frozenset()
    lowest: float = math.nan
    error: float = math.nan
    correlation: float = math.nan
    luck: float = math.nan
    luck_low: float = math.nan
    luck_high: float = math.nan


def find_ties(study: Study, facts: Sequence["TrialFacts"]) -> Ties:
    """Return which ranked trials tie with the best one, and the luck of its score."""
    ranked = study.ranked
    if ranked.empty:
        return Ties(None)
    facts_of = {each.trial: each for each in facts}
    ranked = _leave_out_far(ranked, facts_of)
    trials = [int(trial) for trial in ranked["trial"].head(_MOST)]
    scores = ranked["best_score"].to_numpy(np.float64)[:_MOST]
    noise = measure_noise(study, trials, facts_of)
    covariance, is_measured = noise.covariance, noise.is_measured
    if not np.isfinite(covariance[0, 0]):
        same = frozenset(trials[i] for i in np.flatnonzero(scores == scores[0]))
        return Ties(trials[0], same, float(scores[0]))
    is_tied = find_tied(scores, covariance, noise.freedom)
    errors = np.sqrt(np.diagonal(covariance))
    tied = {trials[i]: float(scores[i]) for i in np.flatnonzero(is_tied)}
    apart = float(stats.norm.isf(_LEVEL / len(ranked)))
    for row in ranked.iloc[_MOST:].itertuples():
        # As if it were independent, with Bonferroni's correction.
        own = facts_of[row.trial].error if row.trial in facts_of else float(errors.max())
        if scores[0] - row.best_score <= apart * math.hypot(errors[0], own):
            tied[int(row.trial)] = float(row.best_score)
    correlations = covariance[0] / np.maximum(errors[0] * errors, 1e-300)
    others = correlations[1:][is_measured[1:] & is_measured[0]]
    known = float(np.median(others)) if len(others) else math.nan
    # Without predictions that of the confusion matrices; a trial alone shares with none.
    shared = others if len(others) else correlations[1:]
    luck = _find_luck(
        scores,
        errors,
        correlation=float(np.median(shared)) if len(shared) else 0.0,
        facts=[facts_of.get(trial) for trial in trials],
    )
    return Ties(
        best=trials[0],
        tied=frozenset(tied),
        lowest=min(tied.values()),
        error=float(errors[0]),
        correlation=known,
        luck=luck,
        luck_low=luck - _INTERVAL * float(errors[0]),
        luck_high=luck + _INTERVAL * float(errors[0]),
    )


def _leave_out_far(ranked: "pd.DataFrame", facts_of: Mapping[int, "TrialFacts"]) -> "pd.DataFrame":
    """Return the trials without those that are worse than the first whatever the correlation."""
    errors = np.array([facts_of[t].error if t in facts_of else math.nan for t in ranked["trial"]])
    lead = ranked["best_score"].iloc[0] - ranked["best_score"].to_numpy(np.float64)
    reach = float(stats.norm.isf(_LEVEL / len(ranked))) * (errors + errors[0])
    return ranked[~(lead > reach)]


def find_tied(scores: Floats, covariance: Floats, freedom: Floats) -> Bools:
    """Return which scores cannot be told from the highest true one, (T,).

    Hsu's comparison with the best (Hsu 1981, "Simultaneous confidence intervals for all distances
    from the best", Annals of Statistics 9): a trial is worse than the best if the largest of its
    standardised differences to the others is above the 96 % point of that maximum where all are
    as good; drawn from their covariance. Trials far below a trial do not count for it (Hansen
    2005, "A test for superior predictive ability", J. Business & Economic Statistics 23). So of
    trials as good as the best at most 5 % are called worse, however many they are.

    Args:
        scores: The observed score of each trial, (T,).
        covariance: Of the scores over validation sets, (T, T).
        freedom: Degrees of freedom of each trial's error, (T,) (``Noise``).
    """
    count = len(scores)
    variances = np.diagonal(covariance)
    spreads = np.sqrt(np.maximum(variances[:, None] + variances - 2 * covariance, 0.0))
    leads = scores[None, :] - scores[:, None]
    # Two trials with the same predictions differ by rounding alone.
    tiny = 1e-6 * math.sqrt(float(variances.max())) + 1e-12
    leads = np.where(spreads > tiny, leads / np.maximum(spreads, tiny), 0.0)
    np.fill_diagonal(leads, -math.inf)
    largest = leads.max(axis=1)
    # What Student's t makes of a lead, where few examples decide.
    largest = stats.norm.isf(stats.t.sf(largest, freedom))
    is_tied: Bools = largest < stats.norm.ppf(1 - _LEVEL)
    is_worse = largest > stats.norm.ppf(1 - _LEVEL / max(count - 1, 1))
    unclear = np.flatnonzero(~is_tied & ~is_worse)
    drawn = _draw(covariance) if len(unclear) else covariance
    for i in unclear:
        rivals = np.flatnonzero(leads[i] > _FAR)
        against = (drawn[:, rivals] - drawn[:, [i]]) / np.maximum(spreads[i, rivals], tiny)
        is_tied[i] = largest[i] <= np.quantile(against.max(axis=1), 1 - _LEVEL)
    return is_tied


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """How scores of trials vary over validation sets.

    Attributes:
        covariance: Of the scores, (T, T); NaN on its diagonal where nothing is known.
        is_measured: Whose predictions are known, (T,).
        freedom: Degrees of freedom of each error, (T,): the number of examples of equal influence
            that would have it (Satterthwaite 1946), less one.
    """

    covariance: Floats
    is_measured: Bools
    freedom: Floats


def measure_noise(
    study: Study, trials: Sequence[int], facts_of: Mapping[int, "TrialFacts"]
) -> Noise:
    """Return how the scores of trials vary over validation sets.

    A trial without predictions and without a confusion matrix is independent of the others, with
    the error of its facts, or else the largest that is known.
    """
    metric, classes, count = _find_metric(study), len(study.class_names), len(trials)
    own, freedom = np.full(count, math.nan), np.full(count, math.inf)
    by_class, supports = np.zeros((count, max(classes, 1))), np.ones(max(classes, 1))
    values_of: dict[int, Floats] = {}
    for i, trial in enumerate(trials):
        counts, pair = study.confusions.get(trial), _pair(study, trial)
        if pair is not None:
            counts = count_confusion(*pair, classes)
        if metric is None or counts is None:
            continue
        values = find_influences(counts, metric)
        own[i] = (counts * values**2).sum()
        freedom[i] = max(own[i] ** 2 / max((counts * values**4).sum(), 1e-300) - 1, 1.0)
        by_class[i], supports = (counts * values).sum(axis=1), np.maximum(counts.sum(axis=1), 1)
        if pair is not None:
            values_of[i] = values
    covariance = (by_class / supports) @ by_class.T
    rows = list(values_of)
    if rows:
        found = {i: study.predictions[trials[i]] for i in rows}
        covariance[np.ix_(rows, rows)] = _add_up(values_of, study.targets, found)
    # With Jeffreys' prior: that of a score of 1 is not 0.
    told = [facts_of[trial].error if trial in facts_of else math.nan for trial in trials]
    own = np.fmax(own, np.square(told))
    if np.isfinite(own).any():
        own[np.isnan(own)] = np.nanmax(own)
    covariance[np.diag_indices(count)] = own
    return Noise(covariance, np.isin(np.arange(count), rows), freedom)


def _add_up(
    values_of: Mapping[int, Floats], targets: Bytes | None, found: Mapping[int, Bytes]
) -> Floats:
    """Return the sums of products of the influence values of trials over the examples."""
    assert targets is not None, "predictions are known"
    sums = np.zeros((len(values_of), len(values_of)))
    for start in range(0, len(targets), _CHUNK):
        some = slice(start, start + _CHUNK)
        stacked = np.stack([each[targets[some], found[i][some]] for i, each in values_of.items()])
        sums += stacked @ stacked.T
    return sums


def _pair(study: Study, trial: int) -> tuple[Bytes, Bytes] | None:
    """Return the true and the predicted class of each example, where they are known."""
    if study.targets is None or trial not in study.predictions:
        return None
    return study.targets, study.predictions[trial]


def _find_metric(study: Study) -> Metric | None:
    try:
        return make_metric(study.config.get("metric", DEFAULT_METRIC), study.class_names)
    except ValueError:
        return None


def _draw(covariance: Floats) -> Floats:
    """Return draws of the noise of each score, (draws, T)."""
    # Trials with the same predictions make it singular, and rounding may make it less than that.
    safe = covariance + np.eye(len(covariance)) * (1e-9 * covariance.max() + 1e-18)
    normal = np.random.default_rng(_SEED).normal(size=(_DRAWS, len(covariance)))
    drawn: Floats = normal @ np.linalg.cholesky(safe).T
    return drawn


def _find_luck(
    scores: Floats,
    errors: Floats,
    *,
    correlation: float,
    facts: "Sequence[TrialFacts | None]",
) -> float:
    """Return the expected luck of the first score, the highest.

    A score is the true one, plus noise that the trials share, which no choice among them exploits,
    plus noise of its own. How true scores are spread is estimated from all scores (the
    nonparametric maximum likelihood of Kiefer and Wolfowitz 1956); the mean of the first trial's
    own noise, given that, is what choosing among the trials has brought, however they were chosen
    (Efron 2011, "Tweedie's formula and selection bias", JASA 106). The luck of the best epoch
    (``outlook.Outlook``) is taken off before: the part of it that is of this validation set is at
    most what trials differ by, the rest is of the model and stays.

    Returns:
        NaN where the luck of the first trial's best epoch is not known. That of others counts as 0
        then, which leaves their scores too high.
    """
    shared = min(max(correlation, 0.0), 1.0)
    own = errors * math.sqrt(1 - shared)
    of_epochs = np.array([_luck_of_epochs(*each) for each in zip(facts, own, strict=True)])
    if math.isnan(of_epochs[0]):
        return math.nan
    of_epochs = np.nan_to_num(of_epochs)
    return float(of_epochs[0] + _expect_noise(scores - of_epochs, np.maximum(own, 1e-9)))


def _luck_of_epochs(facts: "TrialFacts | None", own: float) -> float:
    """Return the part of the best epoch's luck that is of this validation set; NaN: not known."""
    if facts is None:
        return math.nan
    if facts.epochs < 2:
        return 0.0
    fit = facts.score
    if fit is None:
        return math.nan
    if not fit.noise > 0:
        return 0.0
    if facts.outlook is not None:
        luck = facts.outlook.luck
    else:
        # The highest of as many normals as there are epochs near the peak (Blom 1958).
        near = sum(value > fit.peak - 2 * fit.noise for value in fit.line)
        luck = fit.noise * float(stats.norm.ppf((near - 0.375) / (near + 0.25)))
    # The highest of E normals is at most this many deviations above their mean, on average.
    most = own * math.sqrt(2 * math.log(facts.epochs))
    return min(luck * min(1.0, (own / fit.noise) ** 2), most)


def _expect_noise(scores: Floats, spreads: Floats) -> float:
    """Return the mean of the noise of the first score, given all of them; 0 for one alone."""
    is_near = scores > scores.max() - _REACH * spreads[0]
    scores, spreads = scores[is_near], spreads[is_near]
    if len(scores) == 1:
        return 0.0
    grid = np.linspace(scores.min(), scores.max() + 1e-12, _POINTS)
    chances_TG = stats.norm.pdf(grid, scores[:, None], spreads[:, None]) + 1e-300
    shares_G = np.full(_POINTS, 1 / _POINTS)
    for _ in range(_ROUNDS):
        joint_TG = chances_TG * shares_G
        shares_G = (joint_TG / joint_TG.sum(axis=1, keepdims=True)).mean(axis=0)
    weights_G = chances_TG[0] * shares_G
    return float(weights_G @ (scores[0] - grid) / weights_G.sum())
