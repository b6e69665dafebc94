"""What a sweep's results say of learning rates that are too high: which range to lower, and how.

Takes ``queries.results`` and the space as ``SearchSpace.to_table`` writes it; opens no database.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces.presets import OWN_SPACE
from sweeps.analysis.range_advice import SCORED, Advice, best_trials
from sweeps.analysis.report_words import part, setting
from sweeps.analysis.space_table import NamedRange, list_ranges, read_params
from sweeps.stopping import Outcome

if TYPE_CHECKING:
    import pandas as pd

#: Share of the trials that ended with something to learn from, above which the rate is what to
#: mend first.
BAD_SHARE = 0.5
#: Fewest trials that are bad in more than half; of those that diverged two are enough.
MIN_BAD, MIN_DIVERGED = 3, 2
#: Fewest bad trials that lower the top of a range.
MIN_TOP = 2
#: Share of the trials from a rate up that must be bad to lower the top below it.
TOP_SHARE = 0.5
#: Share of the trials below it that may be bad.
BELOW_SHARE = 0.1
#: Largest chance that as many bad trials would lie from there up if the rate had no effect.
TOP_CHANCE = 0.05
#: How far below the lowest rate that was bad the new highest one is, and how wide the range is.
_SAFER, _WIDTH = 3.0, 100.0


@dataclass(frozen=True, slots=True)
class _Rated:
    """A trial with its learning rate: whether it diverged, had too high a rate, or is the best."""

    rate: float
    optimizer: str
    is_diverged: bool
    is_too_high: bool
    is_best: bool

    @property
    def is_bad(self) -> bool:
        """Whether its rate spoiled it."""
        return self.is_diverged or self.is_too_high


def find_high_rates(
    results: "pd.DataFrame", space: Mapping[str, Any], *, too_high: Collection[int] = ()
) -> Iterator[Advice]:
    """Yield the ranges of the learning rate, or the fixed one, that are too high.

    A trial is bad that diverged, or has ``rate too high`` among its verdicts. Two definitions:

    More than half of the trials, scored or diverged, are bad: at least 3, or 2 that diverged. The
    proposed range ends at a third of the lowest rate that was bad and is two decades wide; where
    even the usual range of the optimizer (``OWN_SPACE``) ends below that, it is the usual one.

    Or the top of a range is bad: from some rate up half or more are, at least 2, and none of the
    best fifth lies there; of those below a tenth at most is; and as many would lie there by
    chance in fewer than 1 of 20 cases (hypergeometric). The proposed top is halfway, on a log
    scale, between that rate and the next one below.

    Args:
        results: ``queries.results``.
        space: The space, ``SearchSpace.to_table``.
        too_high: Trials with ``rate too high`` among their verdicts.
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
                is_too_high=trial in too_high and outcome != Outcome.DIVERGED.value,
                is_best=trial in best,
            )
            for trial, outcome, one in rows
            if "learning_rate" in one and (where is None or where.has(one))
        ]
        found = _lower_range(rated, where)
        if found is None and where is not None:
            found = _lower_top(rated, where)
        if found is not None:
            yield found


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
        f"{part(len(bad), len(rated), 'trials')} {_describe(bad)}, at learning rates{_of(where)} "
        f"from {setting(lowest)}: lower the range to {low:.3g} to {high:.3g}."
    )
    bounds = (f"{path}.low={low:.3g}", f"{path}.high={high:.3g}", f"{path}.log=true")
    option = " ".join(f"--set space.{bound}" for bound in bounds)
    return Advice("learning_rate", text, option, {**_count(bad), "low": low, "high": high})


def _lower_top(rated: Sequence[_Rated], where: NamedRange) -> Advice | None:
    """Return the advice to lower the top of a range, where that alone is bad."""
    bad = [each for each in rated if each.is_bad]
    splits = []
    for rate in {each.rate for each in bad}:
        above = [each for each in rated if each.rate >= rate]
        num_bad = sum(each.is_bad for each in above)
        num_below, bad_below = len(rated) - len(above), len(bad) - num_bad
        is_top = num_bad >= max(MIN_TOP, TOP_SHARE * len(above))
        is_top = is_top and not any(each.is_best for each in above)
        if is_top and num_below and bad_below <= BELOW_SHARE * num_below:
            splits.append((_chance(len(rated), len(bad), len(above), num_bad), rate))
    if not splits or min(splits)[0] > TOP_CHANCE:
        return None
    _, lowest = min(splits)
    above = [each for each in rated if each.rate >= lowest]
    top = [each for each in above if each.is_bad]
    below = [each for each in rated if each.rate < lowest]
    high = float(f"{math.sqrt(lowest * max(each.rate for each in below)):.2g}")
    if not where.low < high < where.high:
        return None
    spoiled = sum(each.is_bad for each in below)
    which = f"the {len(above)}" if len(top) == len(above) else f"{len(top)} of the {len(above)}"
    others = "none" if not spoiled else f"only {spoiled}"
    text = (
        f"{which} trials with learning rates{_of(where)} from {setting(lowest)} {_describe(top)}, "
        f"{others} of the {len(below)} below: lower the top of the range from "
        f"{setting(where.high)} to {high:g}."
    )
    option = f"--set space.{where.path}.high={high:g}"
    return Advice("learning_rate", text, option, {**_count(top), "high": high})


def _describe(bad: Sequence[_Rated]) -> str:
    """Return what was seen of bad trials: ``diverged``, ``lost again what they had learned``."""
    diverged = sum(each.is_diverged for each in bad)
    lost = "lost again what they had learned (rate too high)"
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


def _of(where: NamedRange | None) -> str:
    return "" if where is None or where.optimizer is None else f" of {where.optimizer}"


def _chance(total: int, bad: int, above: int, found: int) -> float:
    """Return the chance that of ``above`` trials, drawn from all, ``found`` or more are bad."""
    ways = sum(
        math.comb(bad, each) * math.comb(total - bad, above - each)
        for each in range(found, min(bad, above) + 1)
    )
    return ways / math.comb(total, above)


def _safe_rates(lowest: float, optimizers: set[str]) -> tuple[float, float]:
    """Return the ends of a range below a rate that was too high."""
    usual = OWN_SPACE["learning_rate"]
    own = usual["by_optimizer"]
    ranges = [own.get(name, usual) for name in sorted(optimizers)]
    low = min(each["low"] for each in ranges)
    high = min(each["high"] for each in ranges)
    if high <= lowest / _SAFER:
        return low, high
    return float(f"{lowest / _SAFER / _WIDTH:.2g}"), float(f"{lowest / _SAFER:.2g}")
