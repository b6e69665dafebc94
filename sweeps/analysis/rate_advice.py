"""What a sweep's results say of learning rates that are too high or too low: which range to move.

Takes ``queries.results`` and the space as ``SearchSpace.to_table`` writes it; opens no database.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.analysis.findings import RAISE_RATE, Verdict
from sweeps.analysis.range_advice import SCORED, Advice, best_trials
from sweeps.analysis.report_words import listing, part, setting
from sweeps.analysis.space_table import (
    NamedRange,
    list_ranges,
    read_params,
    trials_told,
    trials_with,
    untelling_trials,
)
from sweeps.analysis.usual_rates import usual_rates
from sweeps.outcomes import Outcome

if TYPE_CHECKING:
    import pandas as pd

#: Share of the trials that ended with something to learn from, above which the rate is what to
#: mend first.
BAD_SHARE = 0.5
#: Fewest trials that are bad in more than half; of those that diverged two are enough.
MIN_BAD, MIN_DIVERGED = 3, 2
#: Fewest bad trials that move the end of a range.
MIN_END = 2
#: Share of the trials from a rate on that must be bad to move the end past it.
END_SHARE = 0.5
#: Share of the other trials that may be bad.
REST_SHARE = 0.1
#: Largest chance that as many bad trials would lie from there on if the rate had no effect.
END_CHANCE = 0.05
#: How far below the lowest rate that was bad the new highest one is, and how wide the range is.
_SAFER, _WIDTH = 3.0, 100.0
#: How far above the highest rate that was too low a new range goes at least.
_FASTER = 10.0


@dataclass(frozen=True, slots=True)
class _Rated:
    """A trial with its learning rate, and what became of it."""

    rate: float
    optimizer: str
    is_diverged: bool
    is_too_high: bool
    is_too_low: bool
    is_short: bool
    is_best: bool

    @property
    def is_bad(self) -> bool:
        """Whether too high a rate spoiled it."""
        return self.is_diverged or self.is_too_high


@dataclass(frozen=True, slots=True)
class RateVerdicts:
    """What the verdicts say of the rates of trials, by number.

    Attributes:
        too_high: ``rate too high`` is among their verdicts.
        too_low: They are told to raise it.
        too_short: Nothing can be said of them.
    """

    too_high: Collection[int] = ()
    too_low: Collection[int] = ()
    too_short: Collection[int] = ()


def judge_rates(verdicts: "pd.DataFrame") -> RateVerdicts:
    """Return what the verdicts (``verdicts.verdicts``) say of the trials' rates."""
    return RateVerdicts(
        too_high=trials_with(verdicts, Verdict.RATE_TOO_HIGH.value),
        too_low=trials_told(verdicts, RAISE_RATE),
        too_short=untelling_trials(verdicts),
    )


def find_spoiled(results: "pd.DataFrame", judged: RateVerdicts) -> set[int]:
    """Return the trials that diverged, or whose rate was too high or too low, by number."""
    diverged = results.loc[results["outcome"] == Outcome.DIVERGED.value, "trial"]
    return {int(each) for each in diverged} | {*judged.too_high, *judged.too_low}


def are_most_spoiled(results: "pd.DataFrame", verdicts: "pd.DataFrame") -> bool:
    """Return whether most trials, at least 3, had a wrong rate: they say nothing of all else."""
    ended = results[results["outcome"].isin((*SCORED, Outcome.DIVERGED.value))]
    spoiled = find_spoiled(ended, judge_rates(verdicts)) & set(ended["trial"])
    return len(spoiled) >= MIN_BAD and len(spoiled) > BAD_SHARE * len(ended)


def find_wrong_rates(
    results: "pd.DataFrame", space: Mapping[str, Any], judged: RateVerdicts
) -> Iterator[Advice]:
    """Yield the ranges of the learning rate, or the fixed one, that are too high or too low.

    A trial is bad that diverged, or has ``rate too high`` among its verdicts; slow that is told to
    raise its rate. Four definitions, tried in turn on each range:

    An optimizer of several that share a range has 3 trials or more, all bad or all slow, where
    others learn: it gets the usual range (``usual_rates``), as one of its own.

    More than half of the trials, scored or diverged, are bad: at least 3, or 2 that diverged. The
    proposed range ends at a third of the lowest rate that was bad and is two decades wide; where
    even the usual range of the optimizer ends below that, it is the usual one.

    More than half of those with enough epochs to tell are slow, at least 3: the range begins
    halfway, on a log scale, to the next rate above that is not slow; without such, it is the usual
    one, or goes on from the highest slow rate where that lies among the usual ones.

    Or an end of a range is bad (the top) or slow (the bottom): from some rate on half or more are,
    at least 2, and none of the best fifth lies there; of the others a tenth at most is; and as
    many would lie there by chance in fewer than 1 of 20 cases (hypergeometric). The proposed end
    is halfway between that rate and the next one.

    Args:
        results: ``queries.results``.
        space: The space, ``SearchSpace.to_table``.
        judged: What the verdicts say of the trials' rates.
    """
    ended = results[results["outcome"].isin((*SCORED, Outcome.DIVERGED.value))]
    best = set(best_trials(results)["trial"])
    rows = list(zip(ended["trial"], ended["outcome"], read_params(ended), strict=True))
    places = [each for each in list_ranges(space) if each.name == "learning_rate"]
    everywhere: list[NamedRange | None] = [*places] or [None]
    for where in everywhere:
        rated = [
            _Rated(
                rate=float(one["learning_rate"]),
                optimizer=str(one.get("optimizer")),
                is_diverged=outcome == Outcome.DIVERGED.value,
                is_too_high=trial in judged.too_high and outcome != Outcome.DIVERGED.value,
                is_too_low=trial in judged.too_low,
                is_short=trial in judged.too_short,
                is_best=trial in best,
            )
            for trial, outcome, one in rows
            if "learning_rate" in one and (where is None or where.has(one))
        ]
        for name, advice in _give_own_ranges(rated, where):
            rated = [each for each in rated if each.optimizer != name]
            yield advice
        found = _lower_range(rated, where) or _raise_range(rated, where)
        if found is not None:
            yield found
        elif where is not None:
            yield from _move_ends(rated, where)


def _give_own_ranges(
    rated: Sequence[_Rated], where: NamedRange | None
) -> Iterator[tuple[str, Advice]]:
    """Yield the optimizers whose trials all fail in a range in which others learn."""
    if where is None or where.optimizer is not None:
        return
    learned = {each.optimizer for each in rated if not (each.is_bad or each.is_too_low)}
    for name in sorted({each.optimizer for each in rated}):
        own = [each for each in rated if each.optimizer == name and not each.is_short]
        rates = [each.rate for each in own]
        is_high, is_low = (all(each.is_bad for each in own), all(each.is_too_low for each in own))
        if len(own) < MIN_BAD or not (is_high or is_low) or not learned - {name}:
            continue
        low, high = _safe_rates(min(rates), {name}) if is_high else _fast_rates(max(rates), {name})
        saw = _describe(own) if is_high else "learn too little an epoch"
        text = (
            f"{part(len(own), len(own), f'trials of {name}')} {saw}, in the range that it shares "
            f"({where.low:g} to {where.high:g}): give it {low:g} to {high:g}."
        )
        path = f"space.learning_rate.by_optimizer.{name}"
        option = f"--set {path}.low={low:g} --set {path}.high={high:g}"
        yield name, Advice("learning_rate", text, option, {"low": low, "high": high})


def _lower_range(rated: Sequence[_Rated], where: NamedRange | None) -> Advice | None:
    """Return the advice to move a range, or to make one, where most trials are bad."""
    bad = [each for each in rated if each.is_bad]
    num_diverged = sum(each.is_diverged for each in bad)
    is_enough = len(bad) >= MIN_BAD or num_diverged >= MIN_DIVERGED
    if not is_enough or len(bad) <= BAD_SHARE * len(rated):
        return None
    lowest = min(each.rate for each in bad)
    low, high = _safe_rates(lowest, {each.optimizer for each in bad})
    path = "learning_rate" if where is None else where.path
    text = (
        f"{part(len(bad), len(rated), 'trials')} {_describe(bad)}, at learning "
        f"rates{_of(where, rated)} from {setting(lowest)}: lower the range to {low:.3g} to "
        f"{high:.3g}."
    )
    bounds = (f"{path}.low={low:.3g}", f"{path}.high={high:.3g}", f"{path}.log=true")
    option = " ".join(f"--set space.{bound}" for bound in bounds)
    return Advice("learning_rate", text, option, {**_count(bad), "low": low, "high": high})


def _raise_range(rated: Sequence[_Rated], where: NamedRange | None) -> Advice | None:
    """Return the advice to raise a range, or to make one, where most trials are slow."""
    told = [each for each in rated if not each.is_short]
    slow = [each for each in told if each.is_too_low]
    if len(slow) < MIN_BAD or len(slow) <= BAD_SHARE * len(told):
        return None
    highest = max(each.rate for each in slow)
    above = [each.rate for each in told if each.rate > highest and not each.is_bad]
    path = "learning_rate" if where is None else where.path
    who = part(len(slow), len(told), f"trials{_long_enough(rated)}")
    seen = (
        f"{who} learn too little an epoch, at learning rates{_of(where, told)} up to "
        f"{setting(highest)}"
    )
    numbers = {"num_too_low": float(len(slow)), "highest": highest}
    if above and where is not None:
        low = float(f"{math.sqrt(highest * min(above)):.2g}")
        if where.low < low < where.high:
            text = f"{seen}: raise the bottom of the range from {setting(where.low)} to {low:g}."
            option = f"--set space.{path}.low={low:g}"
            return Advice("learning_rate", text, option, {**numbers, "low": low})
    low, high = _fast_rates(highest, {each.optimizer for each in slow})
    text = f"{seen}: raise the range to {low:g} to {high:g}."
    bounds = (f"{path}.low={low:g}", f"{path}.high={high:g}", f"{path}.log=true")
    option = " ".join(f"--set space.{bound}" for bound in bounds)
    return Advice("learning_rate", text, option, {**numbers, "low": low, "high": high})


def _move_ends(rated: Sequence[_Rated], where: NamedRange) -> Iterator[Advice]:
    """Yield the advice to lower the top of a range, or to raise its bottom, where it is bad."""
    top = _find_end(rated, [each.rate for each in rated if each.is_bad], is_high=True)
    if top is not None and where.low < top.value < where.high:
        text = (
            f"{top.which} trials with learning rates{_of(where, rated)} from {setting(top.edge)} "
            f"{_describe(top.bad)}, {top.others} below: lower the top of the range from "
            f"{setting(where.high)} to {top.value:g}."
        )
        option = f"--set space.{where.path}.high={top.value:g}"
        yield Advice("learning_rate", text, option, {**_count(top.bad), "high": top.value})
    told = [each for each in rated if not each.is_short]
    bottom = _find_end(told, [each.rate for each in told if each.is_too_low], is_high=False)
    if bottom is not None and where.low < bottom.value < where.high:
        text = (
            f"{bottom.which} trials{_long_enough(rated)} with learning "
            f"rates{_of(where, rated)} up to {setting(bottom.edge)} learn too little an epoch, "
            f"{bottom.others} above: raise the bottom of the range from {setting(where.low)} to "
            f"{bottom.value:g}."
        )
        option = f"--set space.{where.path}.low={bottom.value:g}"
        numbers = {"num_too_low": float(len(bottom.bad)), "low": bottom.value}
        yield Advice("learning_rate", text, option, numbers)


@dataclass(frozen=True, slots=True)
class _End:
    """An end of a range that is bad: from which rate on, the new end, and how many are."""

    edge: float
    value: float
    bad: Sequence[_Rated]
    which: str
    others: str


def _find_end(rated: Sequence[_Rated], rates: Sequence[float], *, is_high: bool) -> _End | None:
    """Return the end of a range from which on trials are bad, None where there is none.

    Args:
        rated: The trials.
        rates: The rates of the bad ones.
        is_high: Whether the top is looked at, else the bottom.
    """
    wrong = set(rates)
    splits = []
    for rate in wrong:
        there = [each for each in rated if (each.rate >= rate if is_high else each.rate <= rate)]
        num_bad = sum(each.rate in wrong for each in there)
        num_rest, bad_rest = len(rated) - len(there), len(rates) - num_bad
        is_end = num_bad >= max(MIN_END, END_SHARE * len(there))
        is_end = is_end and not any(each.is_best for each in there)
        if is_end and num_rest and bad_rest <= REST_SHARE * num_rest:
            chance = _chance(len(rated), len(rates), len(there), num_bad)
            splits.append((chance, rate if is_high else -rate))
    if not splits or min(splits)[0] > END_CHANCE:
        return None
    edge = abs(min(splits)[1])
    there = [each for each in rated if (each.rate >= edge if is_high else each.rate <= edge)]
    rest = [each for each in rated if (each.rate < edge if is_high else each.rate > edge)]
    next_ = max(each.rate for each in rest) if is_high else min(each.rate for each in rest)
    bad, spoiled = [one for one in there if one.rate in wrong], len(wrong & {r.rate for r in rest})
    return _End(
        edge=edge,
        value=float(f"{math.sqrt(edge * next_):.2g}"),
        bad=bad,
        which=f"{'the' if len(bad) == len(there) else f'{len(bad)} of the'} {len(there)}",
        others=f"{'none' if not spoiled else f'only {spoiled}'} of the {len(rest)}",
    )


def _describe(bad: Sequence[_Rated]) -> str:
    """Return what was seen of bad trials: ``diverged``, ``learned nothing or lost it again``."""
    diverged = sum(each.is_diverged for each in bad)
    lost = "learned nothing or lost it again (rate too high)"
    if not diverged:
        return lost
    return "diverged" if diverged == len(bad) else f"diverged ({diverged}) or {lost}"


def _count(bad: Sequence[_Rated]) -> dict[str, float]:
    diverged = sum(each.is_diverged for each in bad)
    return {
        "num_diverged": float(diverged),
        "num_too_high": float(len(bad) - diverged),
        "lowest": min(each.rate for each in bad),
    }


def _long_enough(rated: Sequence[_Rated]) -> str:
    """Return which trials are counted, where those that are too short are left out."""
    return " with enough epochs" if any(each.is_short for each in rated) else ""


def _of(where: NamedRange | None, rated: Sequence[_Rated]) -> str:
    """Return whose rates these are, where other optimizers have a range of their own."""
    if where is None or (where.optimizer is None and not where.others):
        return ""
    return f" of {listing(sorted({each.optimizer for each in rated}))}"


def _chance(total: int, bad: int, above: int, found: int) -> float:
    """Return the chance that of ``above`` trials, drawn from all, ``found`` or more are bad."""
    ways = sum(
        math.comb(bad, each) * math.comb(total - bad, above - each)
        for each in range(found, min(bad, above) + 1)
    )
    return ways / math.comb(total, above)


def _safe_rates(lowest: float, optimizers: set[str]) -> tuple[float, float]:
    """Return the ends of a range below a rate that was too high."""
    ranges = [usual_rates(name) for name in optimizers]
    low, high = min(each[0] for each in ranges), min(each[1] for each in ranges)
    if high <= lowest / _SAFER:
        return low, high
    return float(f"{lowest / _SAFER / _WIDTH:.2g}"), float(f"{lowest / _SAFER:.2g}")


def _fast_rates(highest: float, optimizers: set[str]) -> tuple[float, float]:
    """Return the ends of a range above a rate that was too low."""
    ranges = [usual_rates(name) for name in optimizers]
    low, high = max(each[0] for each in ranges), max(each[1] for each in ranges)
    if low > highest:
        return low, high
    return float(f"{highest:.2g}"), max(high, float(f"{highest * _FASTER:.2g}"))
