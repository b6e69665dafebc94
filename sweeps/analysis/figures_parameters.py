"""Figures of hyperparameters: parallel coordinates, slices, and what matters by PED-ANOVA.

Takes ``queries.results`` and the space as ``SearchSpace.to_table`` writes it. Knows no page.
"""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.analysis import report_words as words
from sweeps.analysis.figures import (
    BLUE,
    OUTCOME_MARKS,
    by_outcome,
    escape,
    new_figure,
    score_format,
)
from sweeps.analysis.space_table import list_ranges, read_params
from sweeps.analysis.trial_params import read_shown_params
from sweeps.pruners import make_scratch_study

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from optuna.distributions import BaseDistribution

#: Fewest scored trials before a figure says which parameter matters.
MIN_IMPORTANCE_TRIALS = 10
#: Best trials that the importances are made from, at least: fewer are chance (Optuna's advice).
_FEWEST_TOP = 5
_TOP_SHARE = 0.1
_RANKED = ("stalled", "exhausted", "behind")
#: Read by lightness alone; the best are dark, because light lines are lost on white.
_SCALE = ((0.0, "#d5dade"), (0.5, "#6db3dd"), (1.0, "#08306b"))
_MOST_TICKS = 6
_MOST_SLICE_TICKS = 4


@dataclass(frozen=True, slots=True)
class Axis:
    """One hyperparameter as an axis.

    Attributes:
        name: Its name in a space.
        choices: The values of a choice in order, empty for a number.
        is_log: Whether a number is drawn on a log scale.
        is_beta: Whether it is drawn as its distance to 1.
    """

    name: str
    choices: tuple[str, ...] = ()
    is_log: bool = False
    is_beta: bool = False

    @property
    def title(self) -> str:
        """Its name for people; ``1 - beta 1`` for a beta."""
        name = escape(words.label(self.name))
        return f"1 - {name}" if self.is_beta else name

    def place(self, value: Any) -> float:
        """Return where a value lies on the axis: its index, the number, or its logarithm."""
        if self.choices:
            return float(self.choices.index(words.setting(value)))
        number = self.number(value)
        return math.log10(number) if self.is_log else number

    def number(self, value: Any) -> float:
        """Return the number that is drawn; a beta's distance to 1 is 1e-6 or more."""
        return max(1.0 - float(value), 1e-6) if self.is_beta else float(value)


def list_axes(params: Sequence[Mapping[str, Any]], space: Mapping[str, Any]) -> list[Axis]:
    """Return an axis for each hyperparameter that differs between trials, in their order.

    Args:
        params: Hyperparameters of each trial, by their names in a space.
        space: The space; says which ranges are sampled on a log scale.
    """
    ranges = {each.name for each in list_ranges(space)}
    logs = {each.name for each in list_ranges(space) if each.is_log}
    names = dict.fromkeys(name for one in params for name in one)
    axes = []
    for name in names:
        values = [one[name] for one in params if name in one]
        if len({json.dumps(value) for value in values}) < 2:
            continue
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        is_choice = name not in ranges and len(set(map(str, values))) <= _MOST_TICKS
        if len(numbers) == len(values) and not is_choice:
            is_beta = name in ("beta1", "beta2")
            is_log = is_beta or (name in logs and min(numbers) > 0)
            axes.append(Axis(name, is_log=is_log, is_beta=is_beta))
        else:
            # Numbers by size, texts by letter, and numbers first where there are both.
            ordered = sorted(
                values, key=lambda v: (v not in numbers, v if v in numbers else str(v))
            )
            axes.append(Axis(name, choices=tuple(dict.fromkeys(map(words.setting, ordered)))))
    return axes


def parallel_coordinates(results: "pd.DataFrame", space: Mapping[str, Any]) -> "go.Figure":
    """Return a line a ranked trial through its hyperparameters to its best macro-F1.

    What a trial does not have stands at the foot of its axis, as ``not set``.
    """
    # The best are drawn last, over the others.
    scored = _scored(results).sort_values("best_macro_f1")
    params = _read_drawn_params(scored, space)
    scores = scored["best_macro_f1"].tolist()
    dimensions = [_dimension(axis, params) for axis in list_axes(params, space)]
    figure = new_figure(height=420)
    if not scores:
        return figure
    first = dimensions[0]["ticktext"] if dimensions else []
    letters = max([len(text) for text in first], default=0)
    figure.update_layout(margin={"l": 24 + 7 * letters, "r": 64, "t": 72, "b": 24})
    low, high = min(scores), max(scores)
    dimensions.append(
        {"label": "best macro-F1", "values": scores, "tickformat": score_format(low, high)}
        | ({"range": [low, high]} if high > low else {})
    )
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": scores, "colorscale": [list(each) for each in _SCALE]},
        labelfont={"size": 12},
        tickfont={"size": 11},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        # Slanted, or the names of neighbours run into each other.
        labelangle=-20,
        labelside="top",
    )
    return figure


def slices(results: "pd.DataFrame", space: Mapping[str, Any]) -> list[tuple[str, "go.Figure"]]:
    """Return for each hyperparameter that varies its name, and best macro-F1 against it."""
    scored = _scored(results)
    params = _read_drawn_params(scored, space)
    every = dict(zip(scored["trial"].tolist(), params, strict=True))
    found = []
    for axis in list_axes(list(every.values()), space):
        figure = new_figure(height=300, x=axis.title if axis.is_beta else "", y="best macro-F1")
        for name, rows in by_outcome(scored):
            points = [
                (every[trial][axis.name], best, trial)
                for trial, best in zip(
                    rows["trial"].tolist(), rows["best_macro_f1"].tolist(), strict=True
                )
                if axis.name in every[trial]
            ]
            if not points:
                continue
            colour, symbol = OUTCOME_MARKS[name]
            shown = [escape(words.setting(value)) for value, _, _ in points]
            figure.add_scatter(
                x=shown if axis.choices else [axis.number(value) for value, _, _ in points],
                y=[best for _, best, _ in points],
                customdata=[[t, v] for (_, _, t), v in zip(points, shown, strict=True)],
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.8},
                name=name,
                hovertemplate=(
                    "trial %{customdata[0]}: %{y:.4f}<br>"
                    f"{escape(words.label(axis.name))} %{{customdata[1]}}<extra></extra>"
                ),
            )
        if axis.choices:
            figure.update_xaxes(
                type="category",
                categoryorder="array",
                categoryarray=[escape(each) for each in axis.choices],
            )
        elif axis.is_log:
            numbers = [axis.number(one[axis.name]) for one in every.values() if axis.name in one]
            figure.update_xaxes(type="log", **_log_ticks(min(numbers), max(numbers)))
            thinned = _few(figure.layout.xaxis.tickvals), _few(figure.layout.xaxis.ticktext)
            figure.update_xaxes(tickvals=thinned[0], ticktext=thinned[1], tickangle=0)
        else:
            figure.update_xaxes(nticks=_MOST_SLICE_TICKS, tickangle=0)
        scores = scored["best_macro_f1"]
        figure.update_yaxes(tickformat=score_format(scores.min(), scores.max()), nticks=6)
        figure.update_layout(showlegend=True, legend={"font": {"size": 12}})
        found.append((words.label(axis.name), figure))
    return found


def measure_importances(results: "pd.DataFrame", space: Mapping[str, Any]) -> dict[str, float]:
    """Return how much each sampled hyperparameter decides who is among the best, the most first.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, IJCAI): how far the values of the best trials are
    from those of all; shares of 1. The best are a tenth of the trials that may be ranked, at
    least 5 (``count_top``); conditional hyperparameters count by how often a trial has them.

    Returns:
        Empty with fewer than ``MIN_IMPORTANCE_TRIALS`` such trials, or where nothing varies.
    """
    scored = _scored(results)
    if len(scored) < MIN_IMPORTANCE_TRIALS:
        return {}
    import optuna

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
    quantile = (_count_wanted(len(scored)) - 0.5) / len(scored)
    with warnings.catch_warnings():
        # It warns of ranges that only one or two trials have, which the page says of all.
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: share for name, share in found.items() if math.isfinite(share)}


def count_top(results: "pd.DataFrame") -> tuple[int, float]:
    """Return how many trials are the best of ``measure_importances``, and their lowest score.

    A tenth of the ranked ones, at least 5, and all that have the same score as the last of these,
    which Optuna's filter takes in too. Without a score 0 and NaN.
    """
    scores = _scored(results)["best_macro_f1"].sort_values(ascending=False)
    if scores.empty:
        return 0, math.nan
    lowest = float(scores.iloc[min(_count_wanted(len(scores)), len(scores)) - 1])
    return int((scores >= lowest).sum()), lowest


def _count_wanted(num_trials: int) -> int:
    return max(_FEWEST_TOP, math.ceil(_TOP_SHARE * num_trials))


def importances(shares: Mapping[str, float]) -> "go.Figure":
    """Return a bar a hyperparameter, the most important at the top.

    Args:
        shares: As ``measure_importances`` returns them.
    """
    names = list(shares)
    figure = new_figure(height=90 + 30 * len(names), x="share of the importance")
    figure.add_bar(
        orientation="h",
        y=[escape(words.label(name)) for name in names],
        x=list(shares.values()),
        text=[f"{share:.0%}" for share in shares.values()],
        textposition="outside",
        cliponaxis=False,
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    most = max(shares.values(), default=0.0)
    figure.update_xaxes(tickformat=".0%", range=[0, most * 1.15 or 1.0])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


def _read_drawn_params(scored: "pd.DataFrame", space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is drawn of each trial: a range has numbers alone, no clipping is none."""
    ranges = {each.name for each in list_ranges(space)}
    return [
        {name: v for name, v in one.items() if name not in ranges or not isinstance(v, str)}
        for one in read_shown_params(scored)
    ]


def _scored(results: "pd.DataFrame") -> "pd.DataFrame":
    return results[results["outcome"].isin(_RANKED) & results["best_macro_f1"].notna()]


def _dimension(axis: Axis, params: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    places = [axis.place(one[axis.name]) if axis.name in one else None for one in params]
    known = [place for place in places if place is not None]
    low, high = min(known), max(known)
    ticks = _ticks(axis, params)
    foot = low - 0.15 * ((high - low) or 1.0)
    if len(known) < len(places):
        ticks = {foot: "not set", **ticks}
        low = foot
    return {
        "label": axis.title,
        "values": [foot if place is None else place for place in places],
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
        **({"range": [low, high]} if high > low else {}),
    }


def _ticks(axis: Axis, params: Sequence[Mapping[str, Any]]) -> dict[float, str]:
    """Return the places that are named on an axis, and their names."""
    if axis.choices:
        return {float(i): escape(name) for i, name in enumerate(axis.choices)}
    numbers = sorted({axis.number(one[axis.name]) for one in params if axis.name in one})
    if len(numbers) <= _MOST_TICKS:
        return {(math.log10(n) if axis.is_log else n): f"{n:.3g}" for n in numbers}
    low, high = numbers[0], numbers[-1]
    if axis.is_log:
        found = _log_ticks(low, high)
        marks = zip(found.get("tickvals", []), found.get("ticktext", []), strict=True)
        return {math.log10(value): text for value, text in marks}
    step = _nice_step((high - low) / 5)
    first, last = math.ceil(low / step), math.floor(high / step)
    return {float(f"{i * step:.6g}"): f"{i * step:.3g}" for i in range(first, last + 1)}


def _nice_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def _log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return ticks at 1, 2 and 5 times powers of ten, fewer over many decades."""
    decades = math.log10(high / low) if high > low else 0.0
    factors = (1, 2, 5) if decades <= 2 else (1, 3) if decades <= 3.5 else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    marks = [float(f"{factor}e{power}") for power in powers for factor in factors]
    inside = [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]
    if len(inside) < 2:
        inside = sorted({low, high})
    return {"tickvals": inside, "ticktext": [f"{mark:.3g}" for mark in inside]}


def _few(values: Sequence[Any]) -> list[Any]:
    """Return at most 4 of the values, evenly spaced."""
    return list(values[:: math.ceil(len(values) / _MOST_SLICE_TICKS)])


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
        if each.name in ("beta1", "beta2"):
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
    return max(1.0 - value, 1e-9) if name in ("beta1", "beta2") else value
