"""A figure of one metric of a few trials by epoch, for any column of ``queries.curves``."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweeps.analysis import report_words as words
from sweeps.analysis.figures import (
    BEST_COLOURS,
    INK,
    OUTCOME_MARKS,
    log_ticks,
    new_figure,
    pad_epochs,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: What can be drawn, and its unit in words.
METRICS: Mapping[str, str] = {
    "score": "validation score",
    "train_loss": "training loss (nats an example)",
    "val_loss": "validation loss (nats an example)",
    "learning_rate": "learning rate of the epoch's last step",
    "grad_norm": "mean L2 norm of the gradient",
}
#: Largest value over the smallest from which an axis is logarithmic: a loss that blew up hides
#: every other epoch on a linear one.
_LOG_FROM = 1e3
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def name_column(column: str, label: str) -> str:
    """Return what one of ``METRICS`` is called, where people call the score ``label``."""
    return f"validation {label}" if column == "score" else METRICS[column]


def is_drawn_log(values: Collection[float], metric: str) -> bool:
    """Return whether a metric's values, none missing or infinite, are drawn by their logarithm."""
    if metric == "score" or not values or min(values) <= 0:
        return False
    return max(values) / min(values) > _LOG_FROM


def flat_range(values: Collection[float], metric: str) -> tuple[float, float] | None:
    """Return the ends of an axis where all values are the same; None where they differ.

    A chart's own ends would be 1 to either side, which no score has.
    """
    if len(set(values)) != 1:
        return None
    (value,) = set(values)
    room = 0.05 if metric == "score" else 0.1 * abs(value) or 0.1
    low, high = value - room, value + room
    return (
        (low if value < 0 else max(low, 0.0), min(high, 1.0)) if metric == "score" else (low, high)
    )


def metric_curves(
    curves: "pd.DataFrame",
    best_epochs: Mapping[int, int | None],
    metric: str,
    *,
    outcomes: Mapping[int, Any],
    label: str = "score",
) -> "go.Figure":
    """Return a metric by epoch, a line a trial in the order given, best epochs and ends marked.

    Each line has a colour and a dash. A hollow circle is the best epoch, the symbol of the
    outcome the last one.

    Args:
        curves: ``queries.curves``.
        best_epochs: The trials to draw, and each one's epoch with the best score, from 1.
        metric: One of ``METRICS``.
        outcomes: Of each trial; missing: it runs.
        label: What people call the score.
    """
    figure = new_figure(height=560, x="epoch", y=name_column(metric, label))
    for i, (trial, best) in enumerate(best_epochs.items()):
        rows = curves[curves["trial"] == trial]
        points = dict(zip(rows["epoch"].tolist(), _finite(rows[metric].tolist()), strict=True))
        colour = BEST_COLOURS[i % len(BEST_COLOURS)]
        # Another dash for each colour's second trial.
        dash = _DASHES[(i + i // len(BEST_COLOURS)) % len(_DASHES)]
        hover = f"trial {trial}, epoch %{{x}}: %{{y:.4g}}<extra></extra>"
        figure.add_scatter(
            x=list(points),
            y=list(points.values()),
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash},
            name=f"trial {trial}",
            legendgroup=str(trial),
            hovertemplate=hover,
        )
        outcome = words.outcome(outcomes.get(trial))
        ends = [(max(points), OUTCOME_MARKS[outcome][1], f"{outcome}: {hover}")] if points else []
        if best in points:
            ends.append((best, "circle-open", f"best epoch of {hover}"))
        for epoch, symbol, text in ends:
            figure.add_scatter(
                x=[epoch],
                y=[points[epoch]],
                mode="markers",
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": 12 if symbol == "circle-open" else 9,
                    "line": {"width": 2.5 if symbol == "circle-open" else 0, "color": colour},
                },
                legendgroup=str(trial),
                showlegend=False,
                hovertemplate=text,
            )
    _explain_marks(figure, {words.outcome(outcomes.get(trial)) for trial in best_epochs})
    pad_epochs(figure, max([1, *curves.loc[curves["trial"].isin(best_epochs), "epoch"].tolist()]))
    every = curves.loc[curves["trial"].isin(best_epochs), metric].tolist()
    known = [value for value in _finite(every) if value is not None]
    flat = flat_range(known, metric)
    if is_drawn_log(known, metric):
        text = f"{name_column(metric, label)}, logarithmic axis"
        # A little more: Plotly leaves room beyond the ends.
        ticks = log_ticks(0.8 * min(known), 1.25 * max(known))
        figure.update_yaxes(type="log", title_text=text, **ticks)
    elif flat is not None:
        figure.update_yaxes(range=flat)
    figure.update_layout(showlegend=True)
    return figure


def _explain_marks(figure: "go.Figure", outcomes: Collection[str]) -> None:
    """Add to the legend what the symbols of best epochs and of ends mean."""
    marks = {"best epoch": "circle-open"}
    marks |= {f"end: {n}": OUTCOME_MARKS[n][1] for n in OUTCOME_MARKS if n in outcomes}
    for name, symbol in marks.items():
        marker = {"color": INK, "symbol": symbol, "size": 9}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
