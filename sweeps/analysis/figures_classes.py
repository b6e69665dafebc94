"""Figures of classes: the F1 of each at the best epochs, and a confusion matrix.

Takes frames of ``storage.queries``. Shapes: C classes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sweeps.analysis.figures import BEST_COLOURS, RULE, escape, new_figure

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: Classes that a figure shows; of more, those with the lowest F1 of the best trial.
MOST_CLASSES = 40
_MOST_COUNTED = 15
#: Share from which white is read better than black: there the colour's luminance falls below 0.18.
_WHITE_FROM = 0.72
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down")
_MOST_LETTERS = 28
#: Trials of a class stand one below the other, in class heights: equal ones hid each other.
_DODGE = 0.15
#: CSS pixels of a class; where there are few its symbols have room beside each other.
_ROW, _TALL_ROW, _FEW_CLASSES = 34, 46, 8


def class_f1(class_scores: "pd.DataFrame", best: Sequence[int]) -> "go.Figure":
    """Return F1 of each class at the best epoch of the best trials, a symbol a trial.

    Args:
        class_scores: ``queries.class_scores``.
        best: Numbers of the best trials, at most 5, the best first.
    """
    first = class_scores[class_scores["trial"] == best[0]] if best else class_scores.head(0)
    lowest = first.fillna({"f1": 0.0}).nsmallest(MOST_CLASSES, "f1")
    shown = sorted(int(each) for each in lowest["class_index"])
    names = dict(zip(first["class_index"], first["class_name"], strict=True))
    supports = dict(zip(first["class_index"], first["support"], strict=True))
    row = _TALL_ROW if len(shown) <= _FEW_CLASSES else _ROW
    figure = new_figure(height=110 + row * max(len(shown), 1), x="F1 on validation")
    middle = (len(best) - 1) / 2
    for i, trial in enumerate(best):
        scores = class_scores[class_scores["trial"] == trial].set_index("class_index")["f1"]
        known = [index for index in shown if index in scores.index]
        figure.add_scatter(
            x=[float(scores[index]) for index in known],
            y=[shown.index(index) + (i - middle) * _DODGE for index in known],
            customdata=[[escape(names[index]), int(supports[index])] for index in known],
            mode="markers",
            marker={
                "color": BEST_COLOURS[i],
                "symbol": _SYMBOLS[i],
                "size": 9,
            },
            name=f"trial {trial}",
            hovertemplate=(
                f"trial {trial}, %{{customdata[0]}}: F1 %{{x:.3f}}"
                "<br>%{customdata[1]} validation examples<extra></extra>"
            ),
        )
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(
        tickvals=list(range(len(shown))),
        ticktext=[shorten(names[index]) for index in shown],
        range=[len(shown) - 0.5, -0.5],
        ticks="",
        gridcolor=RULE,
    )
    return figure


def confusion_matrix(
    confusion: Sequence[Sequence[int]], class_names: Sequence[str]
) -> "go.Figure":
    """Return a table of colours: the share of each true class (row) by predicted class.

    Cells show counts for up to 15 classes. A class without examples is white.

    Args:
        confusion: Counts, rows the true class, columns the predicted one, (C, C).
        class_names: Names of the classes, (C,).
    """
    counts = np.asarray(confusion, dtype=np.int64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    names = [shorten(name, most=18) for name in class_names]
    places = list(range(len(names)))
    figure = new_figure(
        height=min(760, 170 + max(26 * len(names), 90)), x="predicted class", y="true class"
    )
    figure.add_heatmap(
        z=[[round(share, 4) for share in row] for row in shares.tolist()],
        x=places,
        y=places,
        customdata=counts.tolist(),
        # One hue, light to dark: read by lightness alone.
        colorscale=[[0, "#ffffff"], [0.5, "#7fb3d5"], [1, "#08306b"]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
        hovertemplate=(
            "true class %{y}, predicted %{x}:<br>%{customdata} examples, %{z:.0%} of the true "
            "class<extra></extra>"
        ),
    )
    if len(names) <= _MOST_COUNTED:
        _write_counts(figure, counts, shares)
    # Texts would widen the axes beyond the cells.
    figure.update_xaxes(range=[-0.5, len(names) - 0.5])
    figure.update_yaxes(range=[len(names) - 0.5, -0.5])
    axis = {"tickvals": places, "ticktext": names, "showgrid": False, "ticks": ""}
    figure.update_xaxes(**axis, tickangle=-40)
    figure.update_yaxes(**axis)
    return figure


def _write_counts(
    figure: "go.Figure", counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]
) -> None:
    """Write each cell's count in black or white, whichever is read better on its colour.

    A heatmap's own texts are grey on every colour that is not dark: 2.5 to 1 on a middle blue.
    """
    rows, columns = np.indices(counts.shape)
    is_dark = (shares > _WHITE_FROM).ravel().tolist()
    figure.add_scatter(
        x=columns.ravel().tolist(),
        y=rows.ravel().tolist(),
        text=[str(count) for count in counts.ravel().tolist()],
        mode="text",
        textfont={"color": ["#ffffff" if dark else "#000000" for dark in is_dark]},
        hoverinfo="skip",
        showlegend=False,
    )


def shorten(name: str, *, most: int = _MOST_LETTERS) -> str:
    """Return a name that fits a figure, with nothing in it that Plotly reads as a tag."""
    return escape(name if len(name) <= most else f"{name[: most - 3]}...")
