"""The figure of a confusion matrix. Shapes: C classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sweeps.report.figures import escape, new_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_COUNTED = 15
#: Share from which white is read better than black: there the colour's luminance falls below 0.18.
_WHITE_FROM = 0.72


def confusion_matrix(counts: npt.NDArray[np.int64], class_names: Sequence[str]) -> "go.Figure":
    """Return a table of colours: the share of each true class (row) by predicted class.

    Cells show counts for up to 15 classes. A class without examples is white.

    Args:
        counts: Examples, rows the true class, columns the predicted one, (C, C).
        class_names: Names of the classes, (C,).
    """
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    places = list(range(len(class_names)))
    height = min(760, 170 + max(26 * len(places), 90))
    figure = new_figure(height=height, x="predicted class", y="true class")
    figure.add_heatmap(
        z=shares.round(4).tolist(),
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
    if len(places) <= _MOST_COUNTED:
        # A heatmap's own texts are grey on every colour that is not dark: 2.5 to 1 on a middle
        # blue.
        rows, columns = np.indices(counts.shape)
        is_dark = (shares > _WHITE_FROM).ravel()
        figure.add_scatter(
            x=columns.ravel().tolist(),
            y=rows.ravel().tolist(),
            text=[f"{count:,}" for count in counts.ravel().tolist()],
            mode="text",
            textfont={"color": ["#ffffff" if dark else "#000000" for dark in is_dark]},
            hoverinfo="skip",
            showlegend=False,
        )
    names = [escape(name, most=18) for name in class_names]
    axis = {"tickvals": places, "ticktext": names, "showgrid": False, "ticks": ""}
    # Texts would widen the axes beyond the cells.
    figure.update_xaxes(**axis, tickangle=-40, range=[-0.5, len(names) - 0.5])
    figure.update_yaxes(**axis, range=[len(names) - 0.5, -0.5])
    return figure
