"""What the dashboard shows of a study beside Optuna's own pages: a note and three small figures.

Plain functions of a study's data: the note is Markdown, the figures are Plotly's. Opens no
database; ``sweeps.notes`` stores them.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sweeps.analysis import figures, figures_curves, report_tables
from sweeps.analysis import report_words as words
from sweeps.analysis.report_facts import Facts, StudyData
from sweeps.analysis.trial_params import describe_trial

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Rows of the table; the report has them all.
MAX_ROWS = 10
_NUM_CURVES = 5
_HEIGHT = 460
#: Trials of the scatter: a point takes 30 bytes, and a figure must stay below 100 kB.
_MAX_POINTS = 1000
_STEERS = re.compile(r"([\\`*_\[\]<>|#~&!$])")


def note_text(data: StudyData, facts: Facts, *, now: datetime) -> str:
    """Return the note: the answer, what should be known beside it, and the ranked table.

    Args:
        data: The study.
        facts: ``report_facts.gather`` of it.
        now: When the note is written, UTC.
    """
    lines = [f"**{escape_markdown(facts.headline)}**", "", *_say_winner(facts)]
    lines += [_say_outcomes(data)]
    lines += [f"- {escape_markdown(each)}" for each in facts.findings]
    if len(data.results):
        lines += ["", *_table_lines(data, facts), ""]
    more = len(data.results) - MAX_ROWS
    if more > 0:
        lines += [f"{words.count(more, 'more trial')} in the report.", ""]
    lines += [
        f"All of it: [the report](/report/{data.study}), served by `bestepoch dashboard`.",
        "",
        f"Values in Optuna's pages are best-epoch {escape_markdown(data.metric)} so far; a trial "
        "that fell behind is PRUNED there, a paused one RUNNING, and one that diverged has the "
        f"lowest score that there is.{_say_other_best(data)}",
        "",
        f"Written by the sweep, {words.moment(now)}.",
    ]
    return "\n".join(lines) + "\n"


def note_figures(data: StudyData, facts: Facts) -> dict[str, "go.Figure"]:
    """Return the figures that have something to show, by the id that each always has.

    Learning curves of the best trials, best against last epochs, and verdicts; numbers have 5
    digits, and each figure is below 100 kB for any number of trials and epochs.
    """
    found = {}
    best = [int(trial) for trial in facts.ranks["trial"].head(_NUM_CURVES)]
    if best:
        known = data.results[data.results["trial"].isin(best)]
        curves = data.curves[data.curves["trial"].isin(best)]
        drawn = figures_curves.learning_curves(curves, known, best, data.metric)
        found["bestepoch-1-curves"] = _titled(drawn, "Learning curves of the best")
        found["bestepoch-2-best-against-last"] = _titled(
            figures.best_against_last(data.results.head(_MAX_POINTS), data.metric),
            "Best against last epoch",
        )
    if len(data.verdicts):
        found["bestepoch-3-verdicts"] = _titled(verdict_counts(data), "What the curves show")
    return {name: _compact(figure) for name, figure in found.items()}


def verdict_counts(data: StudyData) -> "go.Figure":
    """Return a bar for each leading verdict, as long as the number of trials that have it."""
    counts = report_tables.count_verdicts(data)[::-1]
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
    figure.update_xaxes(range=[0, 1.08 * most], tickformat="d", nticks=8)
    if most < 8:
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(showgrid=False)
    return figure


def escape_markdown(text: object) -> str:
    """Return the text as Markdown that shows it as it is, on one line."""
    line = "".join(char if char.isprintable() else " " for char in str(text))
    return _STEERS.sub(r"\\\1", line)


def _say_winner(facts: Facts) -> list[str]:
    """Return what the best trial is, and what to try next."""
    lines = [escape_markdown(facts.configuration), ""] if facts.configuration else []
    if not facts.next_step:
        return lines
    # A paragraph of its own: within a line the option may break after its two hyphens, and a block
    # of code makes the page wider than a phone.
    code = [f"`{facts.next_option}`", ""] if facts.next_option else []
    more = len(facts.advice) - 1
    rest = [f"{words.count(more, 'more piece')} of advice in the report.", ""] if more > 0 else []
    return [*lines, escape_markdown(facts.next_step), "", *code, *rest]


def _say_other_best(data: StudyData) -> str:
    """Return which trial Optuna's pages take for the best, where it is another one; else "".

    They know no pruned trial, and of equal scores the lowest number.
    """
    ranked = data.results[data.results["rank"].notna()]
    complete = ranked[ranked["outcome"] != "behind"]
    if complete.empty:
        return ""
    highest = complete["best_score"].max()
    theirs = int(complete.loc[complete["best_score"] == highest, "trial"].min())
    first = ranked.iloc[0]
    if theirs == first["trial"]:
        return ""
    why = "the best of those that were not pruned"
    if first["outcome"] != "behind":
        why = (
            f"the lowest number with this score, at which trial {first['trial']} has the lower "
            "validation loss"
        )
    return f" Their best trial is trial {theirs}, {why}."


def _say_outcomes(data: StudyData) -> str:
    counts = data.results["outcome"].map(words.outcome, na_action=None).value_counts()
    named = [f"{counts[name]} {name}" for name in words.OUTCOMES if name in counts]
    total = words.count(len(data.results), "trial")
    return f"{total}: {', '.join(named)}.\n" if named else "The first trial has not begun.\n"


def _table_lines(data: StudyData, facts: Facts) -> list[str]:
    """Return the table: few columns, and cells that wrap, for it is read on phones too."""
    space = data.config.get("space", {})
    table = report_tables.trial_table(data, facts)
    names = [column.name for column in table.columns]
    lines = [
        _row(["rank", "trial", f"best {data.metric}", "hyperparameters"]).replace("rp", "r&shy;p"),
        "| ---: | ---: | --- | --- |",
    ]
    for cells in table.rows[:MAX_ROWS]:
        rank, trial, score, epoch, verdict = (
            cells[names.index(name)].text
            for name in ("rank", "trial", f"best {data.metric}", "best epoch", "verdict")
        )
        shows = "-" if score == "-" else f"{score} at epoch {epoch}"
        drew = describe_trial(data.results, int(trial), space)
        lines.append(_row([rank, trial, shows + ("" if verdict == "-" else f": {verdict}"), drew]))
    return lines


def _row(cells: Sequence[str]) -> str:
    # Spaces that stay: the dashboard draws tables without a gap between columns.
    return "| " + "&nbsp;&nbsp; | ".join(escape_markdown(each) for each in cells) + " |"


def _titled(figure: "go.Figure", title: str) -> "go.Figure":
    """Return the figure with a title, which the dashboard gives it not, and its legend below."""
    figure.update_layout(
        title={"text": title, "x": 0.01, "y": 0.97, "yanchor": "top", "font": {"size": 16}},
        legend={"y": -0.16, "yanchor": "top"},
        margin={"t": 56},
        height=_HEIGHT,
    )
    return figure


def _compact(figure: "go.Figure") -> "go.Figure":
    import plotly.graph_objects as go

    return go.Figure(json.loads(figures.to_json(figure)))
