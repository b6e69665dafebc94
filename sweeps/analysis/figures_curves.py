"""Figures of learning curves: the score of every trial, and the losses of the best ones.

Takes frames of ``storage.queries``. Shapes: E epochs, T trials.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeps.analysis import report_words as words
from sweeps.analysis.figures import (
    BEST_COLOURS,
    FAINT,
    OUTCOME_MARKS,
    by_outcome,
    new_figure,
    pad_epochs,
    score_format,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: Points of all curves of a figure together: 20,000 are about 0.4 MB of a page.
MAX_POINTS = 20_000
_FEWEST_POINTS = 12
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def points_a_curve(num_trials: int) -> int:
    """Return how many epochs of each curve a figure draws, so that all stay ``MAX_POINTS``."""
    return max(_FEWEST_POINTS, MAX_POINTS // max(num_trials, 1))


def thin_epochs(num_epochs: int, keep: Sequence[int], *, most: int) -> list[int]:
    """Return the epochs to draw of a curve, ascending: evenly spaced ones and those to keep.

    Args:
        num_epochs: E, from 1.
        keep: Epochs that must be among them, such as the best one; the first and last are.
        most: Epochs to draw, those of ``keep`` not counted.
    """
    if num_epochs <= most:
        return list(range(1, num_epochs + 1))
    step = (num_epochs - 1) / (most - 1)
    spaced = {1 + round(i * step) for i in range(most)}
    return sorted(spaced | {each for each in keep if 1 <= each <= num_epochs})


def learning_curves(
    curves: "pd.DataFrame",
    results: "pd.DataFrame",
    best: Sequence[int],
    metric: str = "score",
) -> "go.Figure":
    """Return the validation score by epoch, best epochs and ends marked.

    The best trials have a colour and a dash each, the others are grey. A hollow circle is a
    trial's best epoch, the symbol of its outcome its last one.

    Args:
        curves: ``queries.curves``.
        results: ``queries.results``.
        best: Numbers of the best trials, at most 5, the best first.
        metric: What people call the score.
    """
    figure = new_figure(height=460, x="epoch", y=f"validation {metric}")
    epochs = {int(trial): rows for trial, rows in curves.groupby("trial", sort=True)}
    most = points_a_curve(len(epochs))
    known = results.set_index("trial")
    others: dict[str, list[Any]] = {"x": [], "y": [], "customdata": []}
    for trial, rows in epochs.items():
        if trial not in best:
            x, y = _thinned(rows, known.loc[trial], most=most)
            others["x"] += [*x, None]
            others["y"] += [*y, None]
            others["customdata"] += [trial] * (len(x) + 1)
    if others["x"]:
        figure.add_scatter(
            **others,
            mode="lines",
            line={"color": "#b9c0c7", "width": 1},
            name="other trials" if best else "trials",
            hovertemplate="trial %{customdata}, epoch %{x}: %{y:.4f}<extra></extra>",
        )
    for i, trial in enumerate(best):
        if trial in epochs:
            x, y = _thinned(epochs[trial], known.loc[trial], most=max(most, 400))
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": BEST_COLOURS[i], "width": 2.5, "dash": _DASHES[i]},
                name=f"trial {trial}",
                hovertemplate=f"trial {trial}, epoch %{{x}}: %{{y:.4f}}<extra></extra>",
            )
    _mark_ends(figure, results)
    _mark_best_epochs(figure, results, best)
    pad_epochs(figure, max([1, *curves["epoch"].tolist()]))
    ends = score_range(curves, best)
    if ends is not None:
        figure.update_yaxes(range=ends, tickformat=score_format(*ends))
    return figure


def score_range(curves: "pd.DataFrame", best: Sequence[int]) -> list[float] | None:
    """Return the ends of an axis on which the best trials differ: from their lower quartile.

    From the lowest score where the upper three quarters of the best trials' epochs take half of
    the height already, or where no trial is the best. None without a finite score.
    """
    scores = curves[curves["score"].notna()]
    if scores.empty:
        return None
    low, high = float(scores["score"].min()), float(scores["score"].max())
    own = scores[scores["trial"].isin(best)]["score"]
    if len(own):
        quartile = float(own.quantile(0.25))
        low = quartile if high - quartile < 0.5 * (high - low) else low
    room = 0.06 * (high - low) or 0.01
    return [low - room, high + room]


def count_below(curves: "pd.DataFrame", ends: Sequence[float]) -> int:
    """Return how many trials have scores, all of them below an axis."""
    highest = curves.groupby("trial")["score"].max().dropna()
    return int((highest < ends[0]).sum())


def caption(best: Sequence[int], num_below: int, metric: str = "score") -> str:
    """Return what ``learning_curves`` shows, in sentences.

    Args:
        best: Numbers of the best trials; without any none is coloured.
        num_below: ``count_below``.
        metric: What people call the score.
    """
    marks = (
        "a hollow circle is a best epoch, a filled symbol the last epoch and why the trial ended "
        "there."
    )
    if not best:
        return (
            f"Validation {metric} by epoch. No trial has a score that may be ranked, so all are "
            f"grey; {marks}"
        )
    below = f"; {words.count(num_below, 'trial')} {'stays' if num_below == 1 else 'stay'} below it"
    return (
        f"Validation {metric} by epoch. The best trials are coloured; {marks} The axis shows "
        f"where the best trials differ{below if num_below else ''}."
    )


def losses(curves: "pd.DataFrame", trial: int, best_epoch: int | None) -> "go.Figure":
    """Return one trial's training and validation loss by epoch, its best epoch marked.

    Args:
        curves: ``queries.curves``.
        trial: Number of the trial.
        best_epoch: Its best epoch, from 1; None: no mark.
    """
    figure = new_figure(height=300, x="epoch", y="loss (nats an example)")
    rows = curves[curves["trial"] == trial]
    keep = [] if best_epoch is None else [best_epoch]
    shown = rows[rows["epoch"].isin(thin_epochs(len(rows), keep, most=400))]
    lines = (
        ("train_loss", "training", BEST_COLOURS[0], "dash"),
        ("val_loss", "validation", BEST_COLOURS[1], "solid"),
    )
    for column, name, colour, dash in lines:
        figure.add_scatter(
            x=shown["epoch"].tolist(),
            y=_finite(shown[column].tolist()),
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash},
            name=name,
            hovertemplate=f"{name}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
        )
    if best_epoch is not None:
        figure.add_vline(x=best_epoch, line={"color": FAINT, "width": 1.5, "dash": "dot"})
        figure.add_annotation(
            x=best_epoch,
            y=1,
            yref="paper",
            yanchor="top",
            # Beside the line, on the side that has room.
            xanchor="left" if 2 * best_epoch <= len(rows) else "right",
            xshift=4 if 2 * best_epoch <= len(rows) else -4,
            bgcolor="rgba(255, 255, 255, 0.8)",
            text=f"best epoch {best_epoch}",
            showarrow=False,
            font={"size": 12},
        )
    return figure


def _thinned(
    rows: "pd.DataFrame", result: "pd.Series[Any]", *, most: int
) -> tuple[list[int], list[float]]:
    import pandas as pd

    keep = [] if pd.isna(result["best_epoch"]) else [int(result["best_epoch"])]
    total = int(rows["epoch"].max())
    shown = rows[rows["epoch"].isin(thin_epochs(total, keep, most=most))]
    return shown["epoch"].tolist(), [round(each, 4) for each in shown["score"].tolist()]


def _mark_ends(figure: "go.Figure", results: "pd.DataFrame") -> None:
    ended = results[results["last_epoch"].notna() & results["last_score"].notna()]
    for name, rows in by_outcome(ended):
        colour, symbol = OUTCOME_MARKS[name]
        figure.add_scatter(
            x=[int(each) for each in rows["last_epoch"]],
            y=rows["last_score"].tolist(),
            customdata=rows["trial"].tolist(),
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8},
            name=f"end: {name}",
            hovertemplate=(
                f"trial %{{customdata}} {name} after epoch %{{x}}: %{{y:.4f}}<extra></extra>"
            ),
        )


def _mark_best_epochs(figure: "go.Figure", results: "pd.DataFrame", best: Sequence[int]) -> None:
    scored = results[results["best_epoch"].notna() & results["best_score"].notna()]
    if scored.empty:
        return
    trials = scored["trial"].tolist()
    figure.add_scatter(
        x=[int(each) for each in scored["best_epoch"]],
        y=scored["best_score"].tolist(),
        customdata=trials,
        mode="markers",
        marker={
            "color": "#ffffff",
            "symbol": "circle",
            "size": [12 if trial in best else 7 for trial in trials],
            "line": {
                "width": [2.5 if trial in best else 1 for trial in trials],
                "color": [
                    BEST_COLOURS[best.index(trial)] if trial in best else "#6b737b"
                    for trial in trials
                ],
            },
        },
        name="best epoch",
        hovertemplate="trial %{customdata}: best epoch %{x}, %{y:.4f}<extra></extra>",
    )


def _finite(values: list[float]) -> list[float | None]:
    return [None if value in (float("inf"), float("-inf")) else value for value in values]
