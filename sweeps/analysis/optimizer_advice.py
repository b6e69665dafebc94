"""What a sweep's results say of optimizers that always lose: other learning rates, or none of it.

Takes ``queries.results`` and the space as ``SearchSpace.to_table`` writes it; opens no database.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.analysis.findings import Verdict
from sweeps.analysis.noise import TIE_ERRORS
from sweeps.analysis.range_advice import SCORED, Advice, best_trials, count_at_edge
from sweeps.analysis.report_words import part
from sweeps.analysis.space_table import (
    NamedRange,
    list_ranges,
    read_params,
    trials_with,
    untelling_trials,
)
from sweeps.analysis.usual_rates import usual_rates

if TYPE_CHECKING:
    import pandas as pd

#: Fewest trials of an optimizer before it is said to lose: five below the median are a chance of
#: 1 in 32 (sign test).
MIN_LOSSES = 5
#: Fewest of its trials that show by their verdicts that its rates are wrong, and the least share
#: of those that ran long enough to show anything.
MIN_SHOWN, SHOWN_SHARE = 3, 0.5


@dataclass(frozen=True, slots=True)
class _WrongRates:
    """Why an optimizer's range of learning rates is not its own, and at which end."""

    seen: str
    end: str


def find_losing_optimizers(
    results: "pd.DataFrame",
    space: Mapping[str, Any],
    verdicts: "pd.DataFrame",
    *,
    error: float,
    moved: Collection[str] = (),
) -> Iterator[Advice]:
    """Yield the optimizers that always lose: to leave out, or to give other learning rates.

    Definition: at least 5 scored trials, all below the median of the other optimizers' (a sign
    test gives that a chance of 1 in 32), and the best of them below the best of all by more than
    2 standard errors of the score. It may be its range that loses, where its best trials lie at
    an end of that (as in ``find_edges``, of its own trials alone); or where half or more of those
    with enough epochs to tell, at least 3, are ``rate too high``, or are ``underfit`` in a range
    that ends below the usual one of the optimizer (``usual_rates``). The proposed range is the
    usual one if that reaches further than this: from the middle of the present one to half its
    width beyond its end, on its scale.

    Args:
        results: ``queries.results``.
        space: The space, ``SearchSpace.to_table``.
        verdicts: ``analysis.verdicts.verdicts``.
        error: Standard error of a score, or NaN.
        moved: Optimizers whose own range other advice moves: until then nothing is said of them.
    """
    choices = space.get("optimizer")
    if not isinstance(choices, list) or len(choices) < 2:
        return
    scored = results[results["outcome"].isin(SCORED) & results["best_score"].notna()]
    margin = 0.0 if math.isnan(error) else TIE_ERRORS * error
    left = list(choices)
    for name in choices:
        own = scored.loc[scored["optimizer"] == name, "best_score"]
        others = scored.loc[scored["optimizer"] != name, "best_score"]
        if len(own) < MIN_LOSSES or others.empty or own.max() >= others.median():
            continue
        if others.max() - own.max() <= margin or name in moved:
            continue
        loses = (
            f"{name} always loses: the best of its {len(own)} trials has {own.max():.3f}, the "
            f"median of the others {others.median():.3f}"
        )
        numbers = {"best": float(own.max()), "median_of_others": float(others.median())}
        other_rates = _find_other_rates(name, scored, space, verdicts)
        if other_rates is None:
            # Those that lose as well are left out with it: the last such option is the one taken.
            left.remove(name)
            option = f"--set 'space.optimizer={json.dumps(left)}'"
            yield Advice("optimizer", f"{loses}: leave it out.", option, numbers)
            continue
        seen, low, high = other_rates
        text = f"{loses}, and {seen}: give it {low:g} to {high:g}, or leave it out."
        path = f"space.learning_rate.by_optimizer.{name}"
        option = f"--set {path}.low={low:g} --set {path}.high={high:g}"
        yield Advice("learning_rate", text, option, numbers | {"low": low, "high": high})


def _find_other_rates(
    name: str, scored: "pd.DataFrame", space: Mapping[str, Any], verdicts: "pd.DataFrame"
) -> tuple[str, float, float] | None:
    """Return what speaks against an optimizer's range of learning rates, and another's ends."""
    own = scored[scored["optimizer"] == name]
    params = read_params(own)
    ranges = [each for each in list_ranges(space) if each.name == "learning_rate"]
    # A line search draws no rate, and needs none.
    where = next((each for each in ranges if any(map(each.has, params))), None)
    if where is None:
        return None
    whose = "its range" if where.optimizer == name else "the range that it shares"
    bounds = f"{whose} ({where.low:g} to {where.high:g})"
    wrong = _look_at_edges(own, where, bounds)
    wrong = wrong or _look_at_verdicts(name, own, where, bounds, verdicts)
    ends = None if wrong is None else _propose(name, where, wrong.end)
    return None if wrong is None or ends is None else (wrong.seen, *ends)


def _look_at_edges(own: "pd.DataFrame", where: NamedRange, bounds: str) -> _WrongRates | None:
    params = [one for one in read_params(best_trials(own)) if where.has(one)]
    places = [where.place(float(one["learning_rate"])) for one in params]
    for end, distances in (("low", places), ("high", [1.0 - place for place in places])):
        if places and count_at_edge(distances):
            return _WrongRates(f"its best learning rates lie at the {end} end of {bounds}", end)
    return None


def _look_at_verdicts(
    name: str, own: "pd.DataFrame", where: NamedRange, bounds: str, verdicts: "pd.DataFrame"
) -> _WrongRates | None:
    trials = {int(trial) for trial in own["trial"]} & {int(each) for each in verdicts["trial"]}
    telling = trials - untelling_trials(verdicts)
    for verdict, end in ((Verdict.RATE_TOO_HIGH, "low"), (Verdict.UNDERFIT, "high")):
        shown = telling & trials_with(verdicts, verdict.value)
        if len(shown) < MIN_SHOWN or len(shown) < SHOWN_SHARE * len(telling):
            continue
        if verdict is Verdict.UNDERFIT and where.high >= usual_rates(name)[1]:
            continue  # the usual rates fit no better
        short = " with enough epochs" if telling < trials else ""
        say = "underfit" if verdict is Verdict.UNDERFIT else "had too high a rate"
        who = part(len(shown), len(telling), "trials")
        return _WrongRates(f"{who}{short} {say} in {bounds}", end)
    return None


def _propose(name: str, where: NamedRange, end: str) -> tuple[float, float] | None:
    """Return the ends of other learning rates, further out at an end; None: there are none."""
    (low, high), wider = usual_rates(name), where.widened(end)
    if end == "high":
        is_further = high > where.high and (wider is None or high >= wider)
    else:
        is_further = low < where.low and (wider is None or low <= wider)
    if is_further:
        return low, high
    if wider is None:
        return None
    middle = math.sqrt(where.low * where.high) if where.is_log else (where.low + where.high) / 2
    middle = float(f"{middle:.2g}")
    return (middle, wider) if end == "high" else (wider, middle)
