"""Figures by epoch: one metric of some trials, the others in grey; and a trial's losses."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweeps.read import words
from sweeps.report.figures import (
    BEST_COLOURS,
    FAINT,
    GREY,
    INK,
    OUTCOME_MARKS,
    log_ticks,
    new_figure,
    pad_epochs,
    score_format,
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
#: Points of all curves of a figure together: 20,000 are about 0.4 MB of a page.
MAX_POINTS = 20_000
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
    return (low if value < 0 else max(low, 0.0), min(high, 1.0) if metric == "score" else high)


def thin(
    curves: "pd.DataFrame", results: "pd.DataFrame", *, most: int = MAX_POINTS
) -> tuple["pd.DataFrame", int]:
    """Return about ``most`` epochs or fewer, first, best and last ones among them.

    Returns:
        The epochs, and of how many of each trial one is drawn; 1: all.
    """
    step = math.ceil(len(curves) / most)
    if step <= 1:
        return curves, 1
    best = curves["trial"].map(results.set_index("trial")["best_epoch"].astype("float64"))
    last = curves.groupby("trial")["epoch"].transform("max")
    epoch = curves["epoch"]
    return curves[(epoch % step == 1) | (epoch == best) | (epoch == last)], step


def draw_curves(
    curves: "pd.DataFrame",
    results: "pd.DataFrame",
    shown: Sequence[int],
    metric: str = "score",
    *,
    label: str,
    height: int = 460,
) -> "go.Figure":
    """Return a metric by epoch; a hollow circle is a best epoch, another symbol the last one.

    The trials to show have a colour and a dash each, all others of the frame are grey.

    Args:
        curves: ``Study.curves``, or those of some trials.
        results: ``Study.results``.
        shown: Numbers of trials, the best first.
        metric: One of ``METRICS``.
        label: What people call the score.
        height: CSS pixels.
    """
    figure = new_figure(height=height, x="epoch", y=name_column(metric, label))
    others = curves[~curves["trial"].isin(shown)]
    if not others.empty:
        figure.add_scatter(
            **_join(others, metric),
            mode="lines+markers",
            line={"color": GREY, "width": 1},
            marker={"color": GREY, "size": _point_sizes(others)},
            name="other trials" if shown else "trials",
            hovertemplate="trial %{customdata}, epoch %{x}: %{y:.4g}<extra></extra>",
        )
    known = results.set_index("trial")
    outcomes = set()
    for i, trial in enumerate(shown):
        rows = curves[curves["trial"] == trial]
        points = dict(zip(rows["epoch"].tolist(), _finite(rows[metric].tolist()), strict=True))
        if not points:
            continue
        outcome = words.outcome(known.loc[trial, "outcome"])
        outcomes.add(outcome)
        colour = BEST_COLOURS[i % len(BEST_COLOURS)]
        hover = f"trial {trial}, epoch %{{x}}: %{{y:.4g}}<extra></extra>"
        figure.add_scatter(
            x=list(points),
            y=list(points.values()),
            mode="lines",
            # Another dash for each colour's second trial.
            line={
                "color": colour,
                "width": 2.5,
                "dash": _DASHES[(i + i // len(BEST_COLOURS)) % len(_DASHES)],
            },
            name=f"trial {trial}",
            legendgroup=str(trial),
            hovertemplate=hover,
        )
        best = known.loc[trial, "best_epoch"]
        marks = [(max(points), OUTCOME_MARKS[outcome][1], f"{outcome}: {hover}")]
        if not words.is_missing(best) and int(best) in points:
            marks.append((int(best), "circle-open", f"best epoch of {hover}"))
        for epoch, symbol, text in marks:
            width = 2.5 if symbol == "circle-open" else 0
            figure.add_scatter(
                x=[epoch],
                y=[points[epoch]],
                mode="markers",
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": 12 if width else 9,
                    "line": {"width": width, "color": colour},
                },
                legendgroup=str(trial),
                showlegend=False,
                hovertemplate=text,
            )
    symbols = {"best epoch": "circle-open"}
    symbols |= {f"end: {n}": mark for n, (_, mark) in OUTCOME_MARKS.items() if n in outcomes}
    for name, symbol in symbols.items():
        marker = {"color": INK, "symbol": symbol, "size": 9}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)
    pad_epochs(figure, max([1, *curves["epoch"].tolist()]))
    _set_range(figure, curves, shown, metric, name_column(metric, label))
    figure.update_layout(showlegend=True)
    return figure


def draw_losses(curves: "pd.DataFrame", trial: int, best_epoch: int | None) -> "go.Figure":
    """Return one trial's training and validation loss by epoch, its best epoch marked."""
    figure = new_figure(height=280, x="epoch", y="loss (nats an example)")
    rows = curves[curves["trial"] == trial]
    lines = (
        ("train_loss", "training", BEST_COLOURS[0], "dash"),
        ("val_loss", "validation", BEST_COLOURS[1], "solid"),
    )
    for column, name, colour, dash in lines:
        figure.add_scatter(
            x=rows["epoch"].tolist(),
            y=_finite(rows[column].tolist()),
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash},
            name=name,
            hovertemplate=f"{name}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
        )
    pad_epochs(figure, max([1, *rows["epoch"].tolist()]))
    if best_epoch is not None:
        figure.add_vline(
            x=best_epoch,
            line={"color": FAINT, "width": 1.5, "dash": "dot"},
            annotation={"text": f"best epoch {best_epoch}", "font": {"size": 12}},
            # Beside the line, on the side that has room.
            annotation_position="top right" if 2 * best_epoch <= len(rows) else "top left",
        )
    return figure


def count_below(curves: "pd.DataFrame", shown: Sequence[int]) -> int:
    """Return how many trials have scores, all of them below the axis of ``draw_curves``."""
    ends = _score_range(curves, shown)
    highest = curves.groupby("trial")["score"].max().dropna()
    return 0 if ends is None else int((highest < ends[0]).sum())


def _set_range(
    figure: "go.Figure", curves: "pd.DataFrame", shown: Sequence[int], metric: str, name: str
) -> None:
    values = [each for each in _finite(curves[metric].tolist()) if each is not None]
    if not values:
        return
    ends = flat_range(values, metric)
    if ends is None and metric == "score":
        ends = _score_range(curves, shown)
    if is_drawn_log(values, metric):
        # A little more: Plotly leaves room beyond the ends.
        ticks = log_ticks(0.8 * min(values), 1.25 * max(values))
        figure.update_yaxes(type="log", title_text=f"{name}, logarithmic axis", **ticks)
    elif ends is not None:
        figure.update_yaxes(range=ends)
        if metric == "score":
            figure.update_yaxes(tickformat=score_format(*ends))


def _score_range(curves: "pd.DataFrame", shown: Sequence[int]) -> tuple[float, float] | None:
    """Return the ends of an axis on which the shown trials differ: from their lower quartile.

    From the lowest score where the upper three quarters of their epochs take half of the height
    already, or where none is shown. None without a score.
    """
    scores = curves[curves["score"].notna()]
    if scores.empty:
        return None
    low, high = float(scores["score"].min()), float(scores["score"].max())
    quartile = float(scores[scores["trial"].isin(shown)]["score"].quantile(0.25))
    low = quartile if high - quartile < 0.5 * (high - low) else low
    room = 0.06 * (high - low) or 0.01
    return low - room, high + room


def _join(curves: "pd.DataFrame", metric: str) -> dict[str, list[Any]]:
    """Return all curves as one line with gaps."""
    line: dict[str, list[Any]] = {"x": [], "y": [], "customdata": []}
    for trial, rows in curves.groupby("trial", sort=True):
        line["x"] += [*rows["epoch"].tolist(), None]
        line["y"] += [*_finite(rows[metric].tolist()), None]
        line["customdata"] += [trial] * (len(rows) + 1)
    return line


def _point_sizes(curves: "pd.DataFrame") -> list[float]:
    """Return the size of each point of ``_join``: a trial of a single epoch has no line."""
    lengths = curves.groupby("trial", sort=True).size()
    return [size for n in lengths for size in [4.0 if n == 1 else 0.0] * (n + 1)]


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
