"""What matters: how much each hyperparameter decides who is among the best, by PED-ANOVA.

Takes ``queries.results`` and the space as ``SearchSpace.to_table`` writes it. Knows no page.
"""

import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.analysis import report_words as words
from sweeps.analysis.figures import BLUE, FAINT, escape, new_figure
from sweeps.analysis.figures_parameters import list_axes, scored_trials
from sweeps.analysis.space_table import BETAS, list_ranges, read_params
from sweeps.analysis.trial_params import read_shown_params
from sweeps.pruners import make_scratch_study

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from optuna.distributions import BaseDistribution

#: Fewest scored trials before a figure says which parameter matters.
MIN_IMPORTANCE_TRIALS = 10
#: Best trials that the importances are made from, and others to compare them with, at least:
#: fewer are chance (Optuna's advice).
_FEWEST = 5
_TOP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class BestTrials:
    """Which trials count as the best ones.

    Attributes:
        number: How many they are.
        num_ranked: Out of so many.
        lowest: The lowest score among them, NaN without a score.
        is_tie: Whether they are all that tie with the best one, else a tenth of the ranked ones.
    """

    number: int
    num_ranked: int
    lowest: float
    is_tie: bool


def find_best(results: "pd.DataFrame", *, margin: float = math.nan) -> BestTrials:
    """Return the best trials: all that tie with the best one, and no fewer than a tenth.

    Trials that tie cannot be told apart, so which of them has the very highest score is chance,
    and so is what those few have in common. A tenth is at least 5 trials; with them come all that
    have the same score as the last of these, which Optuna's filter takes in too.

    Args:
        results: ``queries.results``.
        margin: ``comparison.tie_margin``; NaN: none ties.
    """
    scores = scored_trials(results)["best_macro_f1"].sort_values(ascending=False)
    if scores.empty:
        return BestTrials(0, 0, math.nan, False)
    tenth = max(_FEWEST, math.ceil(_TOP_SHARE * len(scores)))
    num_tied = int((scores.iloc[0] - scores < margin).sum())
    lowest = float(scores.iloc[min(max(tenth, num_tied), len(scores)) - 1])
    return BestTrials(int((scores >= lowest).sum()), len(scores), lowest, num_tied > tenth)


def measure_importances(
    results: "pd.DataFrame", space: Mapping[str, Any], *, margin: float = math.nan
) -> dict[str, float]:
    """Return how much each sampled hyperparameter decides who is among the best, the most first.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, IJCAI): how far the values of the best trials
    (``find_best``) are from those of all; shares of 1. Conditional hyperparameters count by how
    often a trial has them.

    Args:
        results: ``queries.results``.
        space: The study's.
        margin: ``comparison.tie_margin``; NaN: none ties.

    Returns:
        Empty with fewer than ``MIN_IMPORTANCE_TRIALS`` ranked trials, with fewer than 5 that are
        not among the best, or where nothing varies.
    """
    best = find_best(results, margin=margin)
    if best.num_ranked < MIN_IMPORTANCE_TRIALS or best.num_ranked - best.number < _FEWEST:
        return {}
    import optuna

    scored = scored_trials(results)
    study = make_scratch_study()
    every = [
        {**shown, **own}
        for shown, own in zip(read_shown_params(scored), read_params(scored), strict=True)
    ]
    # What is the same in all trials that have it decides nothing.
    varying = {axis.name for axis in list_axes(every, space)}
    for params, value in zip(every, scored["best_macro_f1"].tolist(), strict=True):
        known = {
            name: each for name, each in _distributions(params, space).items() if name in varying
        }
        values = {name: _told(name, params[name]) for name in known}
        study.add_trial(optuna.create_trial(params=values, distributions=known, value=value))
    # Half a trial less: the filter rounds up, and 5 / 11 * 11 may be more than 5.
    quantile = (best.number - 0.5) / best.num_ranked
    with warnings.catch_warnings():
        # It warns of ranges that only one or two trials have, which the page says of all.
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: share for name, share in found.items() if math.isfinite(share)}


def importances(shares: Mapping[str, float], idle: Collection[str] = ()) -> "go.Figure":
    """Return a bar a hyperparameter, the most important at the top.

    Args:
        shares: As ``measure_importances`` returns them.
        idle: Those that show no effect over all trials; their bars are grey.
    """
    labels = {name: escape(words.label(name)) for name in shares}
    some_idle = any(name in idle for name in shares)
    height = 90 + 30 * len(shares) + (24 if some_idle else 0)
    figure = new_figure(height=height, x="share of the importance")
    for is_idle in (False, True):
        own = {name: share for name, share in shares.items() if (name in idle) == is_idle}
        if not own:
            continue
        figure.add_bar(
            orientation="h",
            y=[labels[name] for name in own],
            x=list(own.values()),
            text=[escape(_percent(share)) for share in own.values()],
            textposition="outside",
            cliponaxis=False,
            marker={"color": FAINT if is_idle else BLUE},
            name="no effect over all ranked trials" if is_idle else "importance",
            showlegend=is_idle,
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    most = max(shares.values(), default=0.0)
    figure.update_layout(barmode="overlay", showlegend=some_idle)
    figure.update_xaxes(tickformat=".0%", range=[0, most * 1.15 or 1.0])
    figure.update_yaxes(
        autorange="reversed",
        showgrid=False,
        ticks="",
        type="category",
        categoryorder="array",
        categoryarray=list(labels.values()),
    )
    return figure


def say_best(best: BestTrials) -> str:
    """Return which trials the importances take for the best ones, in one sentence."""
    if best.is_tie:
        # As everywhere else: the best one does not tie with itself.
        return (
            f"Here {_name_tied(best)} count as the best: those of the {best.num_ranked:,} ranked "
            f"trials with {words.score(best.lowest)} or more."
        )
    return (
        f"The best are here the {best.number:,} of {best.num_ranked:,} ranked trials with "
        f"{words.score(best.lowest)} or more: a tenth of them, at least 5, and all that have the "
        "same score as the last of these."
    )


def say_no_importances(best: BestTrials) -> str:
    """Return why ``measure_importances`` is empty, in one sentence."""
    few = best.num_ranked - best.number
    if best.num_ranked < MIN_IMPORTANCE_TRIALS or few >= _FEWEST:
        return (
            f"Not said: it takes {MIN_IMPORTANCE_TRIALS} ranked trials and a hyperparameter that "
            "varies."
        )
    if not few:
        return (
            f"Not said: {_name_tied(best)} are all that are ranked, so no setting can be told to "
            "be better than another."
        )
    if best.is_tie:
        return (
            f"Not said: beside {_name_tied(best)}, the {few} other ranked trials are too few to "
            "compare them with."
        )
    return (
        f"Not said: {best.number:,} of the {best.num_ranked:,} ranked trials count as the best, "
        f"and the {few} others are too few to compare them with."
    )


def say_idle_leader(shares: Mapping[str, float], idle: Collection[str]) -> str | None:
    """Return why a chart that an idle hyperparameter leads is not shown; None where none does."""
    leader = next(iter(shares), None)
    if leader is None or leader not in idle:
        return None
    return (
        f"Not said: the best trials differ from the others most in {words.label(leader)} "
        f"({_percent(shares[leader])} by PED-ANOVA), which shows no effect over all "
        "ranked trials, so what they have in common is probably chance."
    )


def _name_tied(best: BestTrials) -> str:
    others = best.number - 1
    return f"the best one and the {others:,} that {'ties' if others == 1 else 'tie'} with it"


def _percent(share: float) -> str:
    """Return a share in whole percent; a small one is not 0."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _distributions(
    params: Mapping[str, Any], space: Mapping[str, Any]
) -> "dict[str, BaseDistribution]":
    """Return what each value was sampled from; a value outside of it is left out."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    found: dict[str, BaseDistribution] = {}
    for each in list_ranges(space):
        if not each.has(params) or not each.low <= params[each.name] <= each.high:
            continue
        if each.name in BETAS:
            ends = _told(each.name, each.high), _told(each.name, each.low)
            found[each.name] = FloatDistribution(*ends, log=True)
        elif each.is_int:
            found[each.name] = IntDistribution(int(each.low), int(each.high), log=each.is_log)
        else:
            found[each.name] = FloatDistribution(each.low, each.high, log=each.is_log)
    named = {name: spec for name, spec in space.items() if name != "model"}
    named |= {f"model.{name}": spec for name, spec in (space.get("model") or {}).items()}
    for name, spec in named.items():
        if isinstance(spec, list | tuple) and len(spec) > 1 and params.get(name) in spec:
            found[name] = CategoricalDistribution(spec)
    return found


def _told(name: str, value: Any) -> Any:
    """Return a value as it is sampled: a beta as its distance to 1."""
    return max(1.0 - value, 1e-9) if name in BETAS else value
