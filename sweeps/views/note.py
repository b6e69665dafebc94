"""What Optuna's dashboard shows of a study beside its own pages: a note and three figures.

Plain functions of a ``Summary``: the note is Markdown, the figures are Plotly's. Opens no
database; ``note_writer`` stores them.
"""

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING

from sweeps.analysis.summary import Summary
from sweeps.read import words
from sweeps.read.params import describe_trial
from sweeps.report import figures, figures_curves, page, tables

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Rows of the table; the report has them all.
MAX_ROWS = 10
_HEIGHT = 460
#: Epochs of all curves, and trials of the scatter: an open dashboard reads all figures anew every
#: few seconds, and a point takes 30 bytes.
_MAX_POINTS = 1000
_STEERS = re.compile(r"([\\`*_\[\]<>|#~&!$])")


def note_text(summary: Summary, *, now: datetime) -> str:
    """Return the note: the answer, what to do next, what else is known, and the best trials.

    Args:
        summary: What is said of the study.
        now: When the note is written, UTC.
    """
    study = summary.study
    lines = [f"**{escape_markdown(summary.answer)}**", ""]
    said = [*(each.text for each in summary.advice), *summary.findings, *summary.unfinished]
    lines += [f"- {escape_markdown(each)}" for each in said]
    if summary.advice:
        # Not the command itself: its options are wider than a phone, and break after hyphens.
        lines += ["", f"`bestepoch diagnose {study.name}` prints the command that follows this."]
    if len(study.results):
        lines += ["", *_table_lines(summary), ""]
    more = len(study.results) - MAX_ROWS
    if more > 0:
        lines += [f"{words.count(more, 'more trial')} in the report.", ""]
    lines += [
        f"All of it: [the report](/report/{study.name}), served by `bestepoch dashboard`.",
        "",
        f"Values in Optuna's pages are a trial's best {escape_markdown(study.metric)} so far. A "
        "trial that fell behind is PRUNED there, a paused one RUNNING, and one that diverged has "
        "the lowest score that there is, so Optuna's own figures mix trials of one epoch with "
        "trials of many.",
        "",
        f"Written by the sweep, {words.moment(now)}.",
    ]
    return "\n".join(lines) + "\n"


def note_figures(summary: Summary) -> dict[str, "go.Figure"]:
    """Return the figures that have something to show, by the id that each always has."""
    study = summary.study
    found = {}
    best = page.best_trials(study)
    if best:
        own = study.curves[study.curves["trial"].isin(best)]
        drawn, _ = figures_curves.thin(own, study.results, most=_MAX_POINTS)
        found["bestepoch-1-curves"] = _titled(
            figures_curves.draw_curves(drawn, study.results, best, label=study.metric),
            "Learning curves of the best",
        )
    scatter = figures.best_against_last(
        study.results.head(_MAX_POINTS), metric=study.metric, alone=page.short_trials(study)
    )
    if scatter is not None:
        found["bestepoch-2-best-against-last"] = _titled(scatter, "Best against last epoch")
    if summary.judged:
        found["bestepoch-3-verdicts"] = _titled(verdict_bars(summary), "What the curves show")
    return found


def verdict_bars(summary: Summary) -> "go.Figure":
    """Return a bar for each verdict that occurs, as long as the number of trials that have it."""
    counts = tables.count_verdicts(summary)[::-1]
    figure = figures.new_figure(height=_HEIGHT, x="trials")
    figure.add_bar(
        orientation="h",
        x=[number for _, number in counts],
        y=[name for name, _ in counts],
        text=[str(number) for _, number in counts],
        textposition="outside",
        cliponaxis=False,
        marker={"color": figures.BLUE},
        hovertemplate="%{y}: %{x}<extra></extra>",
        showlegend=False,
    )
    most = max(number for _, number in counts)
    step = {"dtick": 1} if most < 8 else {"nticks": 8}
    figure.update_xaxes(range=[0, 1.08 * most], tickformat="d", **step)
    figure.update_yaxes(showgrid=False)
    return figure


def escape_markdown(text: object) -> str:
    """Return the text as Markdown that shows it as it is, on one line."""
    return _STEERS.sub(r"\\\1", words.clean(text))


def _table_lines(summary: Summary) -> list[str]:
    """Return the head of the ranked table; a phone shows four columns."""
    study = summary.study
    verdicts = {each.trial: each.verdict.value for each in summary.judged}
    heads = "| rank | trial | what it shows | hyper&shy;parameters |"
    lines = [heads, "| ---: | ---: | --- | --- |"]
    for row in study.results.head(MAX_ROWS).to_dict(orient="records"):
        trial = int(row["trial"])
        shows = [verdicts[trial]] if trial in verdicts else []
        if not words.is_missing(row["best_score"]):
            shows = [f"{words.score(row['best_score'])} at epoch {row['best_epoch']}", *shows]
        drew = describe_trial(study.results, trial, study.space)
        lines.append(_row([words.whole(row["rank"]), str(trial), ": ".join(shows) or "-", drew]))
    return lines


def _row(cells: list[str]) -> str:
    # Spaces that stay: the dashboard draws tables without a gap between columns.
    return "| " + "&nbsp;&nbsp; | ".join(escape_markdown(each) for each in cells) + " |"


def _titled(figure: "go.Figure", title: str) -> "go.Figure":
    """Return the figure, small, with a title, which the dashboard gives it not."""
    import plotly.graph_objects as go

    figure.update_layout(
        title={"text": title, "x": 0.01, "y": 0.97, "yanchor": "top", "font": {"size": 16}},
        legend={"y": -0.16, "yanchor": "top"},
        margin={"t": 56},
        height=_HEIGHT,
    )
    return go.Figure(json.loads(figures.to_json(figure)))
