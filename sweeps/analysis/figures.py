"""Figures of whole trials: best against last epoch, epochs needed, and when each trained.

A figure is a Plotly figure from a frame of ``storage.queries``; it knows no page and no database.
Colours are those of Okabe and Ito (2008, "Color universal design"); points of each outcome have
a symbol of their own too. Shapes: T trials.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sweeps.analysis import report_words as words
from sweeps.analysis.sweep_progress import are_cut_short

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

INK, FAINT, RULE = "#22262b", "#9aa1a9", "#e3e6e9"
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
#: Colours of the best trials, in the order of their ranks.
BEST_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
#: Colour and symbol of each outcome, in the order of a legend.
OUTCOME_MARKS: Mapping[str, tuple[str, str]] = {
    "stalled": (BLUE, "circle"),
    "exhausted": (GREEN, "square"),
    "behind": (ORANGE, "triangle-down"),
    "diverged": (VERMILION, "x"),
    "failed": (INK, "cross"),
    "paused": (PURPLE, "triangle-down-open"),
    "interrupted": (FAINT, "diamond"),
    words.CUT_OFF: (FAINT, "diamond-open"),
    "running": (SKY, "circle-open"),
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_MOST_TIMELINE_LABELS = 40
#: Ticks of a decade of a log axis, by the most decades that it has.
_TICKS_A_DECADE = (
    (1, (1, 2, 3, 4, 6, 8)),
    (2, (1, 2, 5)),
    (4.5, (1, 3)),
    (math.inf, (1,)),
)
_MOST_LOG_TICKS = 12


def new_figure(*, height: int, x: str = "", y: str = "") -> "go.Figure":
    """Return an empty figure in the report's style: quiet axes, legend below the title.

    Args:
        height: CSS pixels; the width is the page's.
        x: Title of the horizontal axis, with its unit.
        y: Title of the vertical axis, with its unit.
    """
    import plotly.graph_objects as go

    title = {"standoff": 8, "font": {"size": 13}}
    axis = {
        "gridcolor": RULE,
        "linecolor": FAINT,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": FAINT,
        "automargin": True,
        "fixedrange": True,
    }
    return go.Figure(
        layout={
            "template": {},
            "height": height,
            "font": {"family": _FONT, "size": 13, "color": INK},
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "margin": {"l": 56, "r": 16, "t": 8, "b": 48 if x else 28},
            "hoverlabel": {"bgcolor": "#ffffff", "font": {"family": _FONT, "size": 13}},
            "hovermode": "closest",
            # Below the axis title; Plotly moves it by itself where it wraps.
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "xaxis": {**axis, "title": {"text": x, **title}},
            "yaxis": {**axis, "title": {"text": y, **title}},
        }
    )


_FEW_EPOCHS = 10


def pad_epochs(figure: "go.Figure", last: int) -> None:
    """Set the horizontal axis to epochs 1 to ``last``, with room for the marks at its ends."""
    room = max(0.3, 0.02 * last)
    # Without it a short axis has ticks between the epochs.
    step = {"dtick": 1} if last < _FEW_EPOCHS else {}
    figure.update_xaxes(range=[1 - room, last + room], **step)


def score_format(low: float, high: float) -> str:
    """Return the format of ticks between two scores that makes no two of them the same text."""
    span = high - low
    digits = 2 if span >= 0.08 else 3 if span >= 0.008 else 4 if span >= 0.0008 else 5
    return f".{digits}f"


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return ticks at round numbers, written in full: the shorter the axis, the more a decade.

    Plotly names those between two powers of ten by their first digit alone.

    Args:
        low: Lower end of the axis, above 0.
        high: Upper end, not below it.

    Returns:
        ``tickvals`` and ``ticktext`` of an axis; the ends where less than two lie between them.
    """
    decades = math.log10(high / low)
    factors = next(each for most, each in _TICKS_A_DECADE if decades <= most)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    marks = [float(f"{factor}e{power}") for power in powers for factor in factors]
    inside = [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]
    if len(inside) < 2:
        inside = sorted({low, high})
    inside = inside[:: math.ceil(len(inside) / _MOST_LOG_TICKS)]
    return {"tickvals": inside, "ticktext": [name_tick(mark) for mark in inside]}


def name_tick(value: float) -> str:
    """Return a number on an axis in three digits, from 1,000 on as a whole one."""
    return f"{value:,.0f}" if 1e3 <= value < 1e9 else f"{value:.3g}"


def escape(text: str) -> str:
    """Return the text as Plotly shows it: in labels it reads ``<b>`` and ``&amp;``."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def to_json(figure: "go.Figure") -> str:
    """Return a figure as compact JSON: numbers of 5 digits, NaN as null."""
    return json.dumps(_rounded(figure.to_plotly_json()), separators=(",", ":"), allow_nan=False)


def by_outcome(results: "pd.DataFrame") -> Iterator[tuple[str, "pd.DataFrame"]]:
    """Yield the outcomes that occur, in the order of a legend, each with its trials."""
    named = results["outcome"].map(words.outcome, na_action=None)
    for name in OUTCOME_MARKS:
        rows = results[named == name]
        if not rows.empty:
            yield name, rows


def best_against_last(results: "pd.DataFrame", metric: str = "score") -> "go.Figure":
    """Return best-epoch score (y) against last-epoch score (x), a point a trial.

    Args:
        results: ``queries.results``; trials without both scores are left out, and those that
            diverged or were cut short.
        metric: What people call the score.
    """
    titles = {"x": f"{metric} at the last epoch", "y": f"{metric} at the best epoch"}
    figure = new_figure(height=420, **titles)
    scored = results[results["best_score"].notna() & results["last_score"].notna()]
    scored = scored[~scored["outcome"].isin(["diverged", "failed"]) & ~are_cut_short(scored)]
    if scored.empty:
        return figure
    low = float(scored[["best_score", "last_score"]].min().min())
    high = float(scored["best_score"].max())
    room = 0.04 * (high - low) or 0.01
    ends = [low - room, high + room]
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": FAINT, "width": 1, "dash": "dot"},
        name="last epoch is the best",
        hoverinfo="skip",
    )
    for name, rows in by_outcome(scored):
        colour, symbol = OUTCOME_MARKS[name]
        figure.add_scatter(
            x=rows["last_score"].tolist(),
            y=rows["best_score"].tolist(),
            customdata=[
                [int(a), int(b)] for a, b in zip(rows.trial, rows.best_epoch, strict=True)
            ],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.8},
            name=name,
            hovertemplate=(
                "trial %{customdata[0]}<br>best %{y:.4f} at epoch %{customdata[1]}"
                "<br>last %{x:.4f}<extra></extra>"
            ),
        )
    ticks = score_format(*ends)
    figure.update_xaxes(range=ends, tickformat=ticks, nticks=6)
    figure.update_yaxes(range=ends, tickformat=ticks)
    return figure


def epochs_needed(results: "pd.DataFrame", *, max_epochs: int, cap: int | None) -> "go.Figure":
    """Return, by epoch, the share of ranked trials that have come so far; none cut short.

    Three steps: to 95 % and to 99 % of their own best score, and to the best itself.

    Args:
        results: ``queries.results``.
        max_epochs: The study's.
        cap: The recommended one, drawn as a line; None: no line.
    """
    figure = new_figure(height=340, x="epoch", y="share of trials")
    ranked = results[results["rank"].notna() & ~are_cut_short(results)]
    lines = (
        ("epochs_to_95", "95 % of its best", SKY, "dot"),
        ("epochs_to_99", "99 % of its best", BLUE, "solid"),
        ("best_epoch", "its best epoch", INK, "dash"),
    )
    last = max([1, *ranked["epochs_run"].tolist()])
    for column, name, colour, dash in lines:
        epochs = sorted(int(each) for each in ranked[column].dropna())
        if not epochs:
            continue
        shares = {epoch: (i + 1) / len(epochs) for i, epoch in enumerate(epochs)}
        figure.add_scatter(
            x=[0, *shares, last],
            y=[0.0, *shares.values(), 1.0],
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 2, "dash": dash},
            name=name,
            hovertemplate=f"%{{y:.0%}} of the trials reach {name} by epoch %{{x}}<extra></extra>",
        )
    far = last
    if cap is not None:
        far = max(far, cap)
        figure.add_scatter(
            x=[cap, cap],
            y=[0, 1],
            mode="lines",
            line={"color": VERMILION, "width": 2},
            name=f"recommended cap: {cap}",
            hoverinfo="skip",
        )
    figure.update_xaxes(range=[0, min(far, max(max_epochs, far)) * 1.02 + 0.5])
    figure.update_yaxes(range=[0, 1.03], tickformat=".0%")
    return figure


def timeline(results: "pd.DataFrame") -> "go.Figure":
    """Return a bar a trial from its beginning to its end, since the first trial began.

    Args:
        results: ``queries.results``; trials that have not ended are left out.
    """
    ended = results[results["started_at"].notna() & results["finished_at"].notna()]
    ended = ended.sort_values("trial")
    height = min(900, max(240, 80 + 16 * len(ended)))
    if ended.empty:
        return new_figure(height=240, x="time since the first trial began", y="trial")
    start = ended["started_at"].min()
    total = (ended["finished_at"].max() - start).total_seconds()
    unit, divisor = next(
        (each for each in (("days", 86400), ("hours", 3600), ("minutes", 60))
         if total > 2 * each[1]),
        ("seconds", 1),
    )  # fmt: skip
    figure = new_figure(height=height, x=f"{unit} since the first trial began", y="trial")
    few = len(ended) <= _MOST_TIMELINE_LABELS
    for name, rows in by_outcome(ended):
        begun = (rows["started_at"] - start).dt.total_seconds()
        lasted = (rows["finished_at"] - rows["started_at"]).dt.total_seconds()
        figure.add_bar(
            orientation="h",
            y=rows["trial"].tolist(),
            base=(begun / divisor).tolist(),
            x=(lasted / divisor).tolist(),
            customdata=[words.duration(each) for each in lasted],
            # Told, or Plotly makes a bar as wide as the gap to the next trial of its outcome.
            width=0.75 if few else 0.95,
            marker={"color": OUTCOME_MARKS[name][0], "line": {"width": 0}},
            name=name,
            hovertemplate="trial %{y}: %{customdata}<extra></extra>",
        )
    # Plotly leaves the legend of a single outcome out, and a colour says nothing by itself.
    figure.update_layout(barmode="overlay", showlegend=True)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(autorange="reversed", dtick=1 if few else None, showgrid=False)
    return figure


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
