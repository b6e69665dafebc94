"""Figures of hyperparameters: parallel coordinates and slices.

Takes ``queries.results`` and the space as ``SearchSpace.to_table`` writes it. Knows no page.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.analysis import report_words as words
from sweeps.analysis.figures import (
    OUTCOME_MARKS,
    by_outcome,
    escape,
    log_ticks,
    name_tick,
    new_figure,
    score_format,
)
from sweeps.analysis.space_table import list_ranges
from sweeps.analysis.trial_params import read_shown_params

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_RANKED = ("stalled", "exhausted", "behind")
#: Read by lightness alone; the best are dark, because light lines are lost on white.
_SCALE = ((0.0, "#d5dade"), (0.5, "#6db3dd"), (1.0, "#08306b"))
_MOST_TICKS = 6
_MOST_SLICE_TICKS = 4
#: Share of an axis between two names: letters of 11 pixels on 320 take half of it.
_TICK_GAP = 0.07


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


def parallel_coordinates(
    results: "pd.DataFrame", space: Mapping[str, Any], metric: str = "score"
) -> "go.Figure":
    """Return a line a ranked trial through its hyperparameters to its best score.

    What a trial does not have stands at the foot of its axis, as ``not set``.
    """
    # The best are drawn last, over the others.
    scored = scored_trials(results).sort_values("best_score")
    params = _read_drawn_params(scored, space)
    scores = scored["best_score"].tolist()
    dimensions = [_dimension(axis, params) for axis in list_axes(params, space)]
    figure = new_figure(height=420)
    if not scores:
        return figure
    first = dimensions[0]["ticktext"] if dimensions else []
    letters = max([len(text) for text in first], default=0)
    figure.update_layout(margin={"l": 24 + 7 * letters, "r": 64, "t": 72, "b": 24})
    low, high = min(scores), max(scores)
    dimensions.append(
        {"label": f"best {metric}", "values": scores, "tickformat": score_format(low, high)}
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


def slices(
    results: "pd.DataFrame", space: Mapping[str, Any], metric: str = "score"
) -> list[tuple[str, "go.Figure"]]:
    """Return for each hyperparameter that varies its name, and best score against it."""
    scored = scored_trials(results)
    params = _read_drawn_params(scored, space)
    every = dict(zip(scored["trial"].tolist(), params, strict=True))
    found = []
    for axis in list_axes(list(every.values()), space):
        figure = new_figure(height=290, x=axis.title if axis.is_beta else "", y=f"best {metric}")
        for name, rows in by_outcome(scored):
            points = [
                (every[trial][axis.name], best, trial)
                for trial, best in zip(
                    rows["trial"].tolist(), rows["best_score"].tolist(), strict=True
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
                # Smaller, or the names of five optimizers run into each other.
                tickfont={"size": 12},
            )
        elif axis.is_log:
            numbers = [axis.number(one[axis.name]) for one in every.values() if axis.name in one]
            figure.update_xaxes(type="log", **log_ticks(min(numbers), max(numbers)))
            thinned = _few(figure.layout.xaxis.tickvals), _few(figure.layout.xaxis.ticktext)
            figure.update_xaxes(tickvals=thinned[0], ticktext=thinned[1], tickangle=0)
        else:
            figure.update_xaxes(nticks=_MOST_SLICE_TICKS, tickangle=0)
        scores = [
            best
            for trial, best in zip(scored["trial"], scored["best_score"], strict=True)
            if axis.name in every[trial]
        ]
        figure.update_yaxes(tickformat=score_format(min(scores), max(scores)), nticks=6)
        figure.update_layout(showlegend=True, legend={"font": {"size": 12}})
        found.append((words.label(axis.name), figure))
    return found


def _read_drawn_params(scored: "pd.DataFrame", space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is drawn of each trial: a range has numbers alone, no clipping is none."""
    ranges = {each.name for each in list_ranges(space)}
    return [
        {name: v for name, v in one.items() if name not in ranges or not isinstance(v, str)}
        for one in read_shown_params(scored)
    ]


def scored_trials(results: "pd.DataFrame") -> "pd.DataFrame":
    """Return the trials that may be ranked and have a score, in their order."""
    return results[results["outcome"].isin(_RANKED) & results["best_score"].notna()]


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
    named = numbers
    if len(numbers) > _MOST_TICKS:
        # The ends too: Plotly draws an axis from its first tick to its last one.
        low, high = numbers[0], numbers[-1]
        between = log_ticks(low, high)["tickvals"] if axis.is_log else _round_numbers(low, high)
        named = [low, *(n for n in between if low < n < high), high]
    names = {(math.log10(n) if axis.is_log else n): name_tick(n) for n in named}
    return {place: names[place] for place in _spread(list(names))}


def _round_numbers(low: float, high: float) -> list[float]:
    """Return about five round numbers from ``low`` to ``high``."""
    step = _nice_step((high - low) / 5)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{i * step:.6g}") for i in range(first, last + 1)]


def _spread(places: Sequence[float]) -> list[float]:
    """Return the places, ascending, without those whose names would run into each other."""
    least = _TICK_GAP * (places[-1] - places[0])
    kept = [places[0]]
    for place in places[1:-1]:
        if place - kept[-1] >= least and places[-1] - place >= least:
            kept.append(place)
    return kept if len(places) == 1 else [*kept, places[-1]]


def _nice_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def _few(values: Sequence[Any]) -> list[Any]:
    """Return at most 4 of the values, evenly spaced."""
    return list(values[:: math.ceil(len(values) / _MOST_SLICE_TICKS)])
