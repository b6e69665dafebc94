"""What a range's place does to trials, from comparisons between trials after as many epochs.

Two trials are compared by the best score of as many epochs as the shorter one has, so that a
trial that was paused after one epoch is compared with the first epoch of every other. A trial's
standing is the share of these comparisons that it wins. Whether the standing depends on a
hyperparameter is tested by permutation, within blocks of trials that a sampler proposed one after
another: a sampler that learns improves everything at once. Shapes: T trials, E epochs, P shuffles.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from search_spaces.hparams import flatten
from search_spaces.parameters import Parameter
from search_spaces.ranges import Range
from search_spaces.space import parse_space
from sweeps.analysis.facts import TrialFacts

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
End = Literal["low", "high"]

#: Samplers whose proposals do not depend on scores, so that any order is as likely.
_BLIND = frozenset({"random", "grid", "qmc"})
# 8 trials that can be shuffled have 40,320 orders; a test needs as many, and an end of a range 3.
_FEWEST, _AT_END, _BLOCK = 8, 3, 8
_SHUFFLES, _SEED = 3999, 7
# The line still rises at the end of the range: one-sided, 10 % by chance (beside the test of the
# whole range, which is corrected for all tests of the study).
_RISES = 1.2815515655446004
# Effects flatten: half a range further out may bring half of what its better half has more.
_FLATTENS = 0.5
# Epochs from which a lead is one of the best score.
_LATE = 4
# Standard errors within which two scores are too near to tell.
_NEAR = 2.0
#: Most that a proposed end exceeds what was tried.
MOST_BEYOND = 3.0


@dataclass(frozen=True, slots=True)
class Effect:
    """Whether trials get better towards one end of a range.

    Attributes:
        parameter: That of the range, or of the numbers of a list as one.
        choices: The numbers, where it is a list.
        optimizer: Of the trials with this optimizer; None: of all that have the range.
        end: The better end.
        p: Of the standing's dependence on the place, two-sided, not corrected for other tests.
        is_open: Whether the standing still rises at that end, so that a better one may lie beyond.
        lead: Half of what trials in the better half of the range have more than the others, less
            what the best of them all is behind the best of the study.
        trials: T, how many were compared.
        outer: Share of the comparisons that trials near the end win.
        others: Likewise of those in the other half.
    """

    parameter: Parameter
    choices: tuple[float, ...]
    optimizer: str | None
    end: End
    p: float
    is_open: bool
    lead: float
    trials: int
    outer: float
    others: float


@dataclass(frozen=True, slots=True)
class Standings:
    """Trials compared with each other after as many epochs.

    Attributes:
        facts: The trials, (T,).
        wins: Share of the others that each is ahead of, (T,); a tie counts half.
        differences: Best score of a row's trial minus that of a column's, (T, T).
        ahead: 1 where a row's trial is ahead of a column's, -1 where it is behind, (T, T).
    """

    facts: tuple[TrialFacts, ...]
    wins: Floats
    differences: Floats
    ahead: Floats


def compare_all(facts: Sequence[TrialFacts]) -> Standings:
    """Return how trials stand among each other; those without an epoch are left out."""
    kept = tuple(each for each in facts if each.epochs)
    if not kept:
        none = np.zeros((0, 0))
        return Standings((), np.zeros(0), none, none)
    epochs = np.array([each.epochs for each in kept])
    shape = len(kept), int(epochs.max())
    best, loss = np.full(shape, -np.inf), np.full(shape, np.inf)
    for row, each in enumerate(kept):
        if each.outcome == "diverged":
            continue
        scores = np.nan_to_num(np.array(each.scores), nan=-np.inf)
        losses = np.nan_to_num(np.array(each.val_losses), nan=np.inf)
        best[row, : each.epochs] = np.maximum.accumulate(scores)
        loss[row, : each.epochs] = np.minimum.accumulate(losses)
    finite = best[np.isfinite(best)]
    # A trial that diverged is behind all others, by no more than the worst of them.
    best = np.where(np.isfinite(best), best, finite.min() - 1e-9 if finite.size else 0.0)
    at = np.minimum.outer(epochs, epochs) - 1
    rows = np.arange(len(kept))
    differences = best[rows[:, None], at] - best[rows[None, :], at]
    # Where the scores are too near to tell, the lowest validation loss tells.
    errors = np.nan_to_num(np.array([each.error for each in kept]))
    near = np.abs(differences) <= _NEAR * np.maximum.outer(errors, errors)
    ahead = np.sign(np.where(near, 0.0, differences))
    lower = loss[rows[:, None], at] < loss[rows[None, :], at]
    ahead = np.where(near, lower * 1.0 - lower.T, ahead)
    wins = (ahead.sum(axis=1) / max(len(kept) - 1, 1) + 1) / 2
    return Standings(kept, wins, differences, ahead)


def find_effects(
    standings: Standings, space: Mapping[str, Any], *, sampler: str | None = None
) -> Iterator[Effect]:
    """Yield the effect of each range, or list of numbers, that enough trials have.

    The learning rate is looked at for each optimizer. Other hyperparameters are allowed for by a
    linear model of the standing.

    Args:
        standings: ``compare_all``.
        space: The study's.
        sampler: What proposed the trials; None: not known, it may learn.
    """
    params = [flatten(each.params) for each in standings.facts]
    for each, choices in _list_ranges(space):
        rows = [i for i, one in enumerate(params) if each.was_drawn(one)]
        groups: dict[str | None, list[int]] = {each.optimizer: rows}
        if each.row.name == "learning_rate" and each.optimizer is None:
            names = sorted({str(params[i].get("optimizer")) for i in rows})
            if len(names) > 1:
                groups = {
                    name: [i for i in rows if params[i].get("optimizer") == name] for name in names
                }
        for optimizer, members in groups.items():
            found = _measure(standings, params, np.array(members, dtype=np.int64), each, sampler)
            if found is not None:
                yield replace(found, choices=choices, optimizer=optimizer)


def propose(effect: Effect) -> tuple[float, float] | None:
    """Return a range as wide, half of it beyond the better end; None where there is no room.

    The new end is at most three times what was tried, or a third of it.
    """
    each, is_high = effect.parameter, effect.end == "high"
    tried = each.high if is_high else each.low
    wanted = each.at(1.5) if is_high else each.at(-0.5)
    if wanted is None:
        return None
    if tried > 0:
        bounded = min(wanted, MOST_BEYOND * tried) if is_high else max(wanted, tried / MOST_BEYOND)
        wanted = each.at(each.place(bounded)) if bounded != wanted else wanted
    middle = each.at(0.5)
    if wanted is None or middle is None or wanted == tried or middle == wanted:
        return None
    return (middle, wanted) if is_high else (wanted, middle)


def _find_step(each: Parameter, end: End) -> float:
    """Return how far a proposed range reaches beyond its end, as a share of its width."""
    tried = each.high if end == "high" else each.low
    if tried <= 0:
        return 0.5
    limit = tried * MOST_BEYOND if end == "high" else tried / MOST_BEYOND
    place = each.place(limit)
    return min(0.5, place - 1 if end == "high" else -place)


def _list_ranges(space: Mapping[str, Any]) -> Iterator[tuple[Parameter, tuple[float, ...]]]:
    """Yield the ranges of a space, and lists of 3 numbers or more as ranges beside the list."""
    for each in parse_space(space).parameters:
        if isinstance(each.spec, Range):
            if not each.is_single:
                yield each, ()
            continue
        numbers = sorted(
            value
            for value in each.spec
            if isinstance(value, int | float) and not isinstance(value, bool)
        )
        if len(numbers) == len(each.spec) > 2:
            low, high = float(numbers[0]), float(numbers[-1])
            is_log = 0 < 8 * low <= high and not each.row.is_beta
            is_int = all(isinstance(value, int) for value in numbers)
            yield replace(each, spec=Range(low, high, is_log, is_int)), tuple(numbers)


def _measure(
    standings: Standings,
    params: Sequence[Mapping[str, Any]],
    rows: npt.NDArray[np.int64],
    each: Parameter,
    sampler: str | None,
) -> Effect | None:
    if len(rows) < _FEWEST:
        return None
    places = np.array([each.place(float(params[i][each.row.name])) for i in rows])
    if len(set(places.tolist())) < 3:
        return None
    others = _covariates([params[i] for i in rows], each.row.name)
    wins = _residual(standings.wins[rows], others)
    free = _residual(places, others)
    if free.std() < 1e-9:
        return None
    slope = float(free @ wins)
    p = _permute(wins, free, 1 if sampler in _BLIND else -(-len(rows) // _BLOCK))
    end: End = "high" if slope > 0 else "low"
    depth = 1 - places if end == "high" else places
    # The part at the end is no wider than the step beyond it: in a range of five decades the best
    # value of a quarter may well be inside that quarter.
    step = min(0.25, _find_step(each, end))
    outer, beside = depth <= step, (depth > step) & (depth <= 2.4 * step)
    # Early epochs favour large steps: where small ones lead all the same, they will later.
    is_safe = each.row.name == "learning_rate" and end == "low"
    is_open = _is_rising(wins, outer, beside) and (
        is_safe or _holds_later(standings, rows, depth, step)
    )
    raw = standings.wins[rows]
    return Effect(
        parameter=each,
        choices=(),
        optimizer=None,
        end=end,
        p=p,
        is_open=is_open,
        lead=_find_lead(standings, rows, depth) if is_open else math.nan,
        trials=len(rows),
        outer=float(raw[outer].mean()) if outer.any() else math.nan,
        others=float(raw[depth > 0.5].mean()) if (depth > 0.5).any() else math.nan,
    )


def _covariates(params: Sequence[Mapping[str, Any]], name: str) -> Floats:
    """Return what else varies among these trials, columns of a linear model, (T, K)."""
    columns: list[Floats] = [np.ones(len(params))]
    for other in dict.fromkeys(key for one in params for key in one):
        values = [one.get(other) for one in params]
        if other == name or len({repr(value) for value in values}) < 2:
            continue
        if all(isinstance(value, int | float) for value in values) and len(set(values)) > 3:
            numbers = np.array(values, dtype=np.float64)
            if numbers.min() > 0 and numbers.max() >= 8 * numbers.min():
                numbers = np.log(numbers)
            scaled = (numbers - numbers.mean()) / numbers.std()
            columns += [scaled, scaled**2]
        elif len(choices := sorted({repr(value) for value in values})) <= 6:
            own = [repr(value) for value in values]
            columns += [np.array([one == choice for one in own]) * 1.0 for choice in choices[1:]]
    # A model needs several trials for each of its numbers; the most telling come first.
    return np.column_stack(columns[: max(1, len(params) // 4)])


def _residual(values: Floats, others: Floats) -> Floats:
    fitted, *_ = np.linalg.lstsq(others, values, rcond=None)
    left: Floats = values - others @ fitted
    return left


def _permute(values: Floats, places: Floats, blocks: int) -> float:
    """Return how often shuffled values depend on the places as much, two-sided."""
    rng = np.random.default_rng(_SEED)
    count = len(values)
    block = np.arange(count) * blocks // count
    order = np.argsort(block + rng.random((_SHUFFLES, count)), axis=1)
    shuffled = np.abs(values[order] @ places)
    as_much = int((shuffled >= abs(float(values @ places)) - 1e-12).sum())
    return (1 + as_much) / (1 + _SHUFFLES)


def _is_rising(wins: Floats, outer: Bools, beside: Bools) -> bool:
    """Return whether the standing is still higher in the outer quarter than beside it (Welch)."""
    if min(outer.sum(), beside.sum()) < _AT_END:
        return False
    first, second = wins[outer], wins[beside]
    error = math.sqrt(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))
    return bool(first.mean() - second.mean() > _RISES * error)


def _holds_later(
    standings: Standings, rows: npt.NDArray[np.int64], depth: Floats, step: float
) -> bool:
    """Return whether the trials that had more than a few epochs agree that the end is better.

    What is ahead after one epoch need not be after many: a larger learning rate is, even where
    it ends lower (Wu et al. 2018, "Understanding short-horizon bias").
    """
    deep = np.flatnonzero([standings.facts[i].epochs >= _LATE for i in rows])
    if len(deep) < _AT_END:
        return False
    wins, near = standings.ahead[np.ix_(rows[deep], rows[deep])].sum(axis=1), depth[deep]
    reach = max(step, float(np.sort(near)[1]))
    return bool(near[np.argmax(wins)] <= reach and (near - near.mean()) @ wins < 0)


def _find_lead(standings: Standings, rows: npt.NDArray[np.int64], depth: Floats) -> float:
    """Return ``Effect.lead``, of trials with 4 epochs where both halves have two of them."""
    is_near = depth < 0.5
    is_late = np.array([standings.facts[i].epochs >= _LATE for i in rows])
    if min((is_late & is_near).sum(), (is_late & ~is_near).sum()) < 2:
        is_late[:] = True
    scores = np.nan_to_num(np.array([each.best_score for each in standings.facts]))

    def better(members: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return members[np.argsort(-standings.wins[members])[: max(2, -(-len(members) // 2))]]

    near, far = better(rows[is_late & is_near]), better(rows[is_late & ~is_near])
    ahead = _FLATTENS * float(standings.differences[np.ix_(near, far)].mean())
    return ahead - float(scores.max() - scores[rows].max())
