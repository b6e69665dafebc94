"""A figure of one metric of a few trials by epoch, for any column of ``queries.curves``."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sweeps.analysis.figures import BEST_COLOURS, INK, new_figure

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: What can be drawn, and its unit in words.
METRICS: Mapping[str, str] = {
    "macro_f1": "validation macro-F1",
    "train_loss": "training loss (nats an example)",
    "val_loss": "validation loss (nats an example)",
    "learning_rate": "learning rate of the epoch's last step",
    "grad_norm": "mean L2 norm of the gradient",
}
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def metric_curves(
    curves: "pd.DataFrame", best_epochs: Mapping[int, int | None], metric: str
) -> "go.Figure":
    """Return a metric by epoch, a line a trial in the order given, best epochs marked.

    Args:
        curves: ``queries.curves``.
        best_epochs: The trials to draw, and each one's epoch with the best macro-F1, from 1.
        metric: One of ``METRICS``.
    """
    figure = new_figure(height=560, x="epoch", y=METRICS[metric])
    for i, (trial, best) in enumerate(best_epochs.items()):
        rows = curves[curves["trial"] == trial]
        epochs, values = rows["epoch"].tolist(), _finite(rows[metric].tolist())
        colour = BEST_COLOURS[i % len(BEST_COLOURS)]
        dash = _DASHES[i // len(BEST_COLOURS) % len(_DASHES)]
        hover = f"trial {trial}, epoch %{{x}}: %{{y:.4g}}<extra></extra>"
        figure.add_scatter(
            x=epochs,
            y=values,
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash},
            name=f"trial {trial}",
            legendgroup=str(trial),
            hovertemplate=hover,
        )
        if best in epochs:
            figure.add_scatter(
                x=[best],
                y=[values[epochs.index(best)]],
                mode="markers",
                marker={"color": colour, "size": 10, "line": {"color": INK, "width": 1}},
                legendgroup=str(trial),
                showlegend=False,
                hovertemplate=f"best epoch of {hover}",
            )
    return figure


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
