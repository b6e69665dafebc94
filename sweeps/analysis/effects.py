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
_SHUFFLES, _REPLICATES, _SEED = 3999, 400, 7
# The line still rises at the end of the range: one-sided, 10 % by chance (beside the test of the
# whole range, which is corrected for all tests of the study).
_RISES = 1.2815515655446004
# Half a range further out brings half of what its better half has more than the other: effects
# flatten. In tests/benchmarks/RESULTS.md beside what it brought.
_FLATTENS = 0.5
# Epochs from which a lead is one of the best score.
_LATE = 4
# Standard errors within which two scores are too near to tell.
_NEAR = 2.0
#: Most that a proposed end exceeds what was tried.
MOST_BEYOND = 3.0


@dataclass(frozen=True, slots=True)
class Effect:
    """Whether trials get better towards one end of a range, and what lies beyond may bring.

    Attributes:
        range: The range, or the numbers of a list as one.
        choices: The numbers, where it is a list.
        optimizer: Of the trials with this optimizer; None: of all that have the range.
        end: The better end.
        p: Of the standing's dependence on the place, two-sided, not corrected for other tests.
        is_open: Whether the standing still rises at that end.
        is_late: Whether the gain is of trials with 4 epochs or more; a lead of fewer epochs is no
            measure of the best score, and shows the direction alone.
        trials: T, how many were compared.
        epochs: Median epochs of these trials: most comparisons have no more.
        outer: Share of the comparisons that trials in the outer quarter win.
        others: Likewise of those in the other half.
        gain: Points that the range beyond is expected to add to the best score of the study.
        gain_low: It is below this with 5 % probability.
        gain_high: It is above this with 5 % probability.
    """

    range: Parameter
    choices: tuple[float, ...]
    optimizer: str | None
    end: End
    p: float
    is_open: bool
    is_late: bool
    trials: int
    epochs: int
    outer: float
    others: float
    gain: float
    gain_low: float
    gain_high: float


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
    for each, choices in _list_all_ranges(space):
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
    each, is_high = effect.range, effect.end == "high"
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


def _list_all_ranges(space: Mapping[str, Any]) -> Iterator[tuple[Parameter, tuple[float, ...]]]:
    """Yield each range, and each list of three numbers or more as a range with its choices."""
    for each in parse_space(space).parameters:
        if isinstance(each.spec, Range):
            if not each.is_single:
                yield each, ()
            continue
        numbers = sorted(
            value
            for value in each.choices
            if isinstance(value, int | float) and not isinstance(value, bool)
        )
        if len(numbers) == len(each.choices) > 2:
            low, high = numbers[0], numbers[-1]
            is_int = all(isinstance(value, int) for value in numbers)
            spec = Range(low=low, high=high, is_int=is_int, log=low > 0 and high >= 8 * low)
            yield replace(each, spec=spec), tuple(numbers)


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
    gain = low = high = math.nan
    is_late = False
    # Early epochs favour large steps: where small ones lead all the same, they will later.
    is_safe = each.row.name == "learning_rate" and end == "low"
    is_open = _is_rising(wins, outer, beside) and (
        is_safe or _holds_later(standings, rows, depth, step)
    )
    if is_open:
        behind = _find_distance(standings, rows)
        late = np.array([standings.facts[i].epochs >= _LATE for i in rows])
        is_late = min((late & (depth < 0.5)).sum(), (late & (depth >= 0.5)).sum()) >= 2
        used = late if is_late else np.full(len(rows), True)
        found = _gain(standings, rows[used & (depth < 0.5)], rows[used & (depth >= 0.5)])
        gain, low, high = (each - behind for each in found)
    raw = standings.wins[rows]
    return Effect(
        range=each,
        choices=(),
        optimizer=None,
        end=end,
        p=p,
        is_open=is_open,
        is_late=bool(is_late),
        trials=len(rows),
        epochs=int(np.median([standings.facts[i].epochs for i in rows])),
        outer=float(raw[outer].mean()) if outer.any() else math.nan,
        others=float(raw[depth > 0.5].mean()) if (depth > 0.5).any() else math.nan,
        gain=gain,
        gain_low=low,
        gain_high=high,
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


def _find_distance(standings: Standings, rows: npt.NDArray[np.int64]) -> float:
    """Return by how much the best score of these trials is below the best of all."""
    scores = np.nan_to_num(np.array([each.best_score for each in standings.facts]))
    return float(scores.max() - scores[rows].max())


def _gain(
    standings: Standings, near: npt.NDArray[np.int64], far: npt.NDArray[np.int64]
) -> tuple[float, float, float]:
    """Return half of what trials near the end have more than those far from it, and 90 %."""
    rng = np.random.default_rng(_SEED)

    def better(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return rows[np.argsort(-standings.wins[rows])[: max(2, -(-len(rows) // 2))]]

    def between(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> float:
        found = standings.differences[np.ix_(better(first), better(second))]
        return _FLATTENS * float(found.mean())

    drawn = [
        between(rng.choice(near, len(near)), rng.choice(far, len(far))) for _ in range(_REPLICATES)
    ]
    low, high = np.quantile(drawn, [0.05, 0.95])
    return between(near, far), float(low), float(high)
