"""The style of all figures, and best against last epochs.

A figure is Plotly's, from the frames of a ``Study``; it knows no page and no database. Colours
are those of Okabe and Ito (2008, "Color universal design"); each outcome has a symbol too.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sweeps.read import words

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

INK, FAINT, RULE, GREY = "#22262b", "#9aa1a9", "#e3e6e9", "#b9c0c7"
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
#: Colours of the best trials, in the order of their ranks.
BEST_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
#: Colour and symbol of each outcome, in the order of a legend.
OUTCOME_MARKS: Mapping[str, tuple[str, str]] = {
    "stalled": (BLUE, "circle"),
    "exhausted": (GREEN, "square"),
    "cut short": (SKY, "triangle-right"),
    "behind": (ORANGE, "triangle-down"),
    "diverged": (VERMILION, "x"),
    "failed": (INK, "cross"),
    "paused": (PURPLE, "triangle-down-open"),
    "interrupted": (FAINT, "diamond"),
    words.CUT_OFF: (FAINT, "diamond-open"),
    "running": (SKY, "circle-open"),
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
#: Ticks of a decade of a log axis, by the most decades that it has.
_TICKS_A_DECADE = ((1, (1, 2, 3, 4, 6, 8)), (2, (1, 2, 5)), (4.5, (1, 3)), (math.inf, (1,)))
_FEW_EPOCHS = 10


def new_figure(*, height: int, x: str = "", y: str = "") -> "go.Figure":
    """Return an empty figure in the report's style: quiet axes, the legend above the plot.

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
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "xaxis": {**axis, "title": {"text": x, **title}},
            "yaxis": {**axis, "title": {"text": y, **title}},
        }
    )


def pad_epochs(figure: "go.Figure", last: int) -> None:
    """Set the horizontal axis to epochs 1 to ``last``, with room for the marks at its ends."""
    room = max(0.3, 0.02 * last)
    # Without it a short axis has ticks between the epochs.
    step = {"dtick": 1} if last < _FEW_EPOCHS else {}
    figure.update_xaxes(range=[1 - room, last + room], **step)


def score_format(low: float, high: float) -> str:
    """Return the format of ticks between two scores that makes no two of them the same text."""
    digits = 2 - math.floor(math.log10(min(max(high - low, 1e-4), 0.08) / 0.08))
    return f".{min(digits, 5)}f"


def log_ticks(low: float, high: float, *, most: int = 12) -> dict[str, Any]:
    """Return ticks at round numbers, written in full: the shorter the axis, the more a decade.

    Plotly names those between two powers of ten by their first digit alone.

    Args:
        low: Lower end of the axis, above 0.
        high: Upper end, not below it.
        most: How many at most.

    Returns:
        ``tickvals`` and ``ticktext`` of an axis; the ends where less than two lie between them.
    """
    decades = math.log10(high / low)
    factors = next(each for limit, each in _TICKS_A_DECADE if decades <= limit)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    marks = [float(f"{factor}e{power}") for power in powers for factor in factors]
    inside = [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]
    inside = inside if len(inside) > 1 else sorted({low, high})
    inside = inside[:: math.ceil(len(inside) / most)]
    return {"tickvals": inside, "ticktext": [words.number(mark) for mark in inside]}


def escape(text: str, *, most: int = 28) -> str:
    """Return a name that fits a figure, as Plotly shows it: in labels it reads ``<b>``."""
    short = text if len(text) <= most else f"{text[: most - 3]}..."
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


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


def are_drawn(results: "pd.DataFrame") -> "pd.Series[bool]":
    """Return which trials have a score that means something: not those that blew up."""
    return results["best_score"].notna() & ~results["outcome"].isin(["diverged", "failed"])


def best_against_last(
    results: "pd.DataFrame", *, metric: str, alone: Collection[int] = ()
) -> "go.Figure | None":
    """Return best-epoch score (y) against last-epoch score (x), a point a trial.

    Args:
        results: ``Study.results``.
        metric: What people call the score.
        alone: Trials to leave out, such as those that were paused after one epoch.

    Returns:
        None where no trial is left; those that diverged or failed are left out.
    """
    is_left = are_drawn(results) & results["last_score"].notna()
    scored = results[is_left & ~results["trial"].isin(alone)]
    if scored.empty:
        return None
    figure = new_figure(
        height=400, x=f"{metric} at the last epoch", y=f"{metric} at the best epoch"
    )
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
            customdata=rows[["trial", "best_epoch"]].astype(int).to_numpy().tolist(),
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


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
