"""Figures of hyperparameters: the score against each one.

Points are the darker the longer a trial was trained: a score after one epoch and a score after
fifty are not the same thing, and most trials of a sweep that pauses have one.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.read import words
from sweeps.read.params import list_varying
from sweeps.report.figures import (
    are_drawn,
    escape,
    log_ticks,
    new_figure,
    score_format,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: From few epochs to many: one hue by lightness, and the larger the longer.
_MARKS = (("#93a7b6", 6), ("#74a0c0", 7), ("#4c8abb", 8), ("#2467a5", 9), ("#08306b", 10))
_MOST_CHOICES = 6
_MOST_TICKS = 4


@dataclass(frozen=True, slots=True)
class Band:
    """Trials that were trained about as long: more than ``low`` epochs, up to ``high``."""

    low: float
    high: float
    colour: str
    size: int

    @property
    def name(self) -> str:
        """Its epochs: ``1``, ``2 to 4``, ``over 16``."""
        if self.high == math.inf:
            return f"over {self.low}"
        return str(self.high) if self.high == self.low + 1 else f"{self.low + 1} to {self.high}"


def list_bands(results: "pd.DataFrame", rungs: Sequence[int]) -> list[Band]:
    """Return the bands of a study between the last rungs that a trial has passed; one: no rung.

    Args:
        results: ``Study.results``.
        rungs: Epochs at which trials are paused, ascending; empty: never.
    """
    longest = results["epochs_run"].max() if len(results) else 0
    ends = [0, *[rung for rung in rungs if rung < longest][-len(_MARKS) + 1 :], math.inf]
    marks = _MARKS[-len(ends) + 1 :]
    return [Band(*each, *mark) for each, mark in zip(itertools.pairwise(ends), marks, strict=True)]


def slice_figures(
    results: "pd.DataFrame",
    params: Sequence[Mapping[str, Any]],
    ranges: Mapping[str, bool],
    bands: Sequence[Band],
    *,
    metric: str,
) -> list[tuple[str, "go.Figure"]]:
    """Return for each hyperparameter that varies its name, and the best score against it.

    Args:
        results: ``Study.results``.
        params: Hyperparameters as shown, of each row.
        ranges: Names of those that are drawn from a range, and whether on a log scale; of the
            others each value is a choice.
        bands: ``list_bands``.
        metric: What people call the score.
    """
    points = [
        (one, float(row.best_score), int(row.trial), int(row.epochs_run))
        for one, row, drawn in zip(params, results.itertuples(), are_drawn(results), strict=True)
        if drawn
    ]
    found = []
    for name in list_varying([one for one, *_ in points]):
        own = [(one[name], *rest) for one, *rest in points if name in one]
        if name in ranges:  # a word, such as no clipping, has no place in one
            own = [each for each in own if not isinstance(each[0], str)]
        if own:
            figure = _draw_slice(name, own, ranges.get(name), bands, metric)
            found.append((words.label(name), figure))
    return found


def _draw_slice(
    name: str,
    points: Sequence[Any],
    is_log: bool | None,
    bands: Sequence[Band],
    metric: str,
) -> "go.Figure":
    """Return the best score against values.

    Args:
        name: The hyperparameter.
        points: Value, best score, number of the trial, and epochs trained, of each.
        is_log: Whether it is drawn from a range on a log scale; None: from no range.
        bands: ``list_bands``.
        metric: What people call the score.
    """
    values = [value for value, *_ in points]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    is_few = is_log is None and len(set(map(str, values))) <= _MOST_CHOICES
    is_choice = is_few or len(numbers) < len(values)
    is_beta = name in ("beta1", "beta2") and not is_choice

    def place(value: Any) -> Any:
        if is_choice:
            return escape(words.setting(value))
        # The inverse of the distance to 1 is the number of steps that are averaged.
        return max(1.0 - value, 1e-6) if is_beta else value

    title = f"1 - {words.label(name)}" if is_beta else ""
    figure = new_figure(height=250, x=title, y=f"best {metric}")
    for band in bands:
        own = [each for each in points if band.low < each[3] <= band.high]
        figure.add_scatter(
            x=[place(value) for value, *_ in own],
            y=[best for _, best, *_ in own],
            customdata=[[trial, escape(words.setting(v)), epochs] for v, _, trial, epochs in own],
            mode="markers",
            marker={
                "color": band.colour,
                "size": band.size,
                "line": {"width": 0.5, "color": "#ffffff"},
            },
            hovertemplate=(
                f"trial %{{customdata[0]}}: %{{y:.4f}}<br>{escape(words.label(name))} "
                "%{customdata[1]}<br>%{customdata[2]} epochs trained<extra></extra>"
            ),
            showlegend=False,
        )
    if is_choice:
        ordered = sorted(set(numbers)) + sorted({str(v) for v in values if v not in numbers})
        figure.update_xaxes(
            type="category",
            categoryorder="array",
            categoryarray=[place(each) for each in ordered],
            tickfont={"size": 12},
        )
    elif is_beta or (is_log and min(numbers) > 0):
        drawn = [float(place(value)) for value in numbers]
        ticks = log_ticks(min(drawn), max(drawn), most=_MOST_TICKS)
        figure.update_xaxes(type="log", tickangle=0, **ticks)
    else:
        figure.update_xaxes(nticks=_MOST_TICKS, tickangle=0)
    scores = [best for _, best, *_ in points]
    figure.update_yaxes(tickformat=score_format(min(scores), max(scores)), nticks=6)
    return figure
