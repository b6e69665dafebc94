"""What matters: how much each hyperparameter decides who is among the best, by PED-ANOVA.

Takes ``queries.results`` and the space as ``SearchSpace.to_table`` writes it. Knows no page.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sweeps.analysis import report_words as words
from sweeps.analysis.figures import BLUE, escape, new_figure
from sweeps.analysis.figures_parameters import list_axes, scored_trials
from sweeps.analysis.space_table import list_ranges, list_sampled, read_params
from sweeps.analysis.trial_params import read_shown_params

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: Fewest scored trials before a figure says which parameter matters.
MIN_IMPORTANCE_TRIALS = 10
#: Best trials that the importances are made from, and others to compare them with, at least:
#: fewer are chance (Optuna's advice).
_FEWEST = 5
_TOP_SHARE = 0.1
#: Draws by chance that the best trials are compared with, and the share of them that may differ
#: from all as much as the best do.
_NUM_DRAWS = 400
_CHANCE = 0.05
#: Places of a range at which its values are compared, as many as Optuna takes.
_GRID = 50


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
    scores = scored_trials(results)["best_score"].sort_values(ascending=False)
    if scores.empty:
        return BestTrials(0, 0, math.nan, False)
    tenth = max(_FEWEST, math.ceil(_TOP_SHARE * len(scores)))
    num_tied = int((scores.iloc[0] - scores < margin).sum())
    lowest = float(scores.iloc[min(max(tenth, num_tied), len(scores)) - 1])
    return BestTrials(int((scores >= lowest).sum()), len(scores), lowest, num_tied > tenth)


@dataclass(frozen=True, slots=True)
class Importances:
    """What can be said of each hyperparameter that varies.

    Attributes:
        shares: How much each decides who is among the best, the most first; their sum is 1.
        by_chance: Those in which the best trials differ no more from all than any others do.
        untold: Those in which too few trials can be compared.
    """

    shares: Mapping[str, float]
    by_chance: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


def measure_importances(
    results: "pd.DataFrame",
    space: Mapping[str, Any],
    *,
    margin: float = math.nan,
    idle: Collection[str] = (),
) -> Importances:
    """Return how much each sampled hyperparameter decides who is among the best.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, IJCAI): how far the values of the best trials
    (``find_best``) are from those of all, here less what as many trials drawn by chance are.
    Conditional hyperparameters count by how often a trial has them (conditional PED-ANOVA,
    arXiv:2601.20800). A value counts by its place in the range that it was drawn from: the rates
    of two optimizers would be told apart by their ranges alone. A range whose trials are all
    among the best, or all not, tells nothing of its values, so they are left out.

    Optuna's evaluator spreads a third to a half of each choice over all of them, however many
    trials have it, and has no measure of chance: where two optimizers had all of the best trials
    and three none, it gave an idle dropout more than the optimizer (Optuna 5.0).

    Args:
        results: ``queries.results``.
        space: The study's.
        margin: ``comparison.tie_margin``; NaN: none ties.
        idle: Those that show no effect over all trials; what they have in common is chance.

    Returns:
        Nothing with fewer than ``MIN_IMPORTANCE_TRIALS`` ranked trials, with fewer than 5 that
        are not among the best, or where nothing varies. Untold is what fewer than 5 of the best
        trials or of the others have, or in which fewer than 5 differ from the commonest value.
    """
    best = find_best(results, margin=margin)
    if best.num_ranked < MIN_IMPORTANCE_TRIALS or best.num_ranked - best.number < _FEWEST:
        return Importances({})
    excess: dict[str, float] = {}
    by_chance, untold = [], []
    for name, values in _list_values(results, space, best).items():
        if not _is_comparable(values):
            untold.append(name)
            continue
        found = None if name in idle else _measure_excess(values)
        if found is None:
            by_chance.append(name)
            continue
        # Of the best trials and of all, the shares that have it.
        have_best = sum(each.is_best for each in values) / best.number
        excess[name] = found * have_best**2 / (len(values) / best.num_ranked)
    total = sum(excess.values())
    ordered = sorted(excess, key=lambda name: -excess[name])
    shares = {name: excess[name] / total for name in ordered}
    return Importances(shares, tuple(by_chance), tuple(untold))


def importances(shares: Mapping[str, float]) -> "go.Figure":
    """Return a bar a hyperparameter, the most important at the top.

    Args:
        shares: ``Importances.shares``.
    """
    labels = [escape(words.label(name)) for name in shares]
    figure = new_figure(height=90 + 30 * len(shares), x="share of the importance")
    figure.add_bar(
        orientation="h",
        y=labels,
        x=list(shares.values()),
        text=[escape(_percent(share)) for share in shares.values()],
        textposition="outside",
        cliponaxis=False,
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    most = max(shares.values(), default=0.0)
    figure.update_xaxes(tickformat=".0%", range=[0, most * 1.15 or 1.0])
    figure.update_yaxes(
        autorange="reversed",
        showgrid=False,
        ticks="",
        type="category",
        categoryorder="array",
        categoryarray=labels,
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


def say_no_importances(best: BestTrials, found: Importances) -> str:
    """Return why there are no shares to draw, in a sentence or two."""
    few = best.num_ranked - best.number
    if found.by_chance or found.untold:
        return f"Not said: {_list_reasons(found)}."
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


def say_left_out(found: Importances) -> str | None:
    """Return which hyperparameters that vary have no share, and why; None where all have."""
    reasons = _list_reasons(found)
    return f"Without a share: {reasons}." if reasons else None


def _list_reasons(found: Importances) -> str:
    reasons = []
    if found.by_chance:
        names = words.listing([words.label(name) for name in found.by_chance])
        reasons.append(f"the best trials differ from all in {names} no more than by chance")
    if found.untold:
        names = words.listing([words.label(name) for name in found.untold])
        reasons.append(
            f"in {names} too few of the best trials, or of others with the same range, can be "
            "compared"
        )
    return "; ".join(reasons)


def _name_tied(best: BestTrials) -> str:
    others = best.number - 1
    return f"the best one and the {others:,} that {'ties' if others == 1 else 'tie'} with it"


def _percent(share: float) -> str:
    """Return a share in whole percent; a small one is not 0."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


@dataclass(frozen=True, slots=True)
class _Value:
    """A trial's value: of a range its place, 0 to 1, of a choice its index and their number."""

    place: float
    num_choices: int | None
    optimizer: str | None
    is_best: bool


def _list_values(
    results: "pd.DataFrame", space: Mapping[str, Any], best: BestTrials
) -> dict[str, list[_Value]]:
    """Return the values that can be compared of each sampled hyperparameter that varies.

    Left out are values outside of their range or choice, and ranges whose trials are all among
    the best or all not.
    """
    scored = scored_trials(results)
    every = [
        {**shown, **own}
        for shown, own in zip(read_shown_params(scored), read_params(scored), strict=True)
    ]
    sampled = set(list_sampled(space))
    names = [axis.name for axis in list_axes(every, space) if axis.name in sampled]
    values: dict[str, list[_Value]] = {name: [] for name in names}
    for params, score in zip(every, scored["best_score"].tolist(), strict=True):
        for name, (place, num_choices, optimizer) in _read_places(params, space).items():
            if name in values:
                values[name].append(
                    _Value(place, num_choices, optimizer, bool(score >= best.lowest))
                )
    for name, own in values.items():
        sides = {(each.optimizer, each.is_best) for each in own}
        values[name] = [each for each in own if (each.optimizer, not each.is_best) in sides]
    return values


def _is_comparable(values: Sequence[_Value]) -> bool:
    num_best = sum(each.is_best for each in values)
    counts = Counter(each.place for each in values)
    num_differ = len(values) - max(counts.values(), default=0)
    return min(num_best, len(values) - num_best, num_differ) >= _FEWEST


def _measure_excess(values: Sequence[_Value]) -> float | None:
    """Return the Pearson divergence of the best from all, less its mean by chance.

    None where one in twenty draws of as many trials is as far from all, or more. Shapes: T
    trials, G places of a grid or choices, D draws.
    """
    kernels_TG = _kernels(values)
    num_trials, num_places = kernels_TG.shape
    is_best_T = np.array([each.is_best for each in values])
    # The same draws in every report of the same trials.
    generator = np.random.default_rng(0)
    draws_DT = generator.permuted(np.tile(is_best_T, (_NUM_DRAWS, 1)), axis=1)
    # One trial spread evenly, so that no place is without any (Optuna's prior).
    prior = 1.0 / num_places
    all_G = (prior + kernels_TG.sum(axis=0)) / (num_trials + 1)
    best_DG = (prior + np.vstack([is_best_T, draws_DT]) @ kernels_TG) / (is_best_T.sum() + 1)
    divergence_D = ((best_DG - all_G) ** 2 / all_G).sum(axis=1)
    own, by_chance_D = float(divergence_D[0]), divergence_D[1:]
    if own <= np.quantile(by_chance_D, 1.0 - _CHANCE):
        return None
    return own - float(by_chance_D.mean())


def _kernels(values: Sequence[_Value]) -> npt.NDArray[np.float64]:
    """Return how each trial's value is spread over the grid or the choices, (T, G), rows of 1."""
    places = np.array([each.place for each in values])
    num_choices = values[0].num_choices
    if num_choices is not None:
        return np.eye(num_choices)[places.astype(np.int64)]
    # Scott's rule; whole numbers of a short range are not narrower than the grid.
    width = max(1.06 * float(places.std()) * len(places) ** -0.2, 1.0 / _GRID)
    grid_G = np.linspace(0.0, 1.0, _GRID)
    spread_TG = np.exp(-0.5 * ((grid_G - places[:, None]) / width) ** 2)
    found: npt.NDArray[np.float64] = spread_TG / spread_TG.sum(axis=1, keepdims=True)
    return found


def _read_places(
    params: Mapping[str, Any], space: Mapping[str, Any]
) -> dict[str, tuple[float, int | None, str | None]]:
    """Return each value's place, the number of choices, and whose own range it was drawn from."""
    found: dict[str, tuple[float, int | None, str | None]] = {}
    for each in list_ranges(space):
        if each.has(params) and each.low <= params[each.name] <= each.high:
            found[each.name] = each.place(params[each.name]), None, each.optimizer
    named = {name: spec for name, spec in space.items() if name != "model"}
    named |= {f"model.{name}": spec for name, spec in (space.get("model") or {}).items()}
    for name, spec in named.items():
        if isinstance(spec, list | tuple) and params.get(name) in spec:
            found[name] = float(list(spec).index(params[name])), len(spec), None
    return found
