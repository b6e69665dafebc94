"""A study as one page of HTML that opens without a network.

The pages are ``templates/*.jinja`` with ``page.css`` and ``page.js``; Plotly's own script (4.8 MB)
stands in them, packed to 1.9 MB. Texts of people, such as names of classes, are escaped by the
template.
"""

import base64
import functools
import gzip
import json
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.metric_names import DEFAULT_METRIC, explain_metric
from search_spaces.space import parse_space
from sweeps.analysis.summary import Summary, summarise
from sweeps.read import words
from sweeps.read.params import read_shown_params
from sweeps.read.study import Study
from sweeps.report import figures, figures_classes, figures_curves, figures_parameters, tables

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FOLDER = Path(__file__).parent / "templates"
_NUM_BEST = 5
_NUM_DETAILED = 3
#: An option with its value, such as --set 'space.filters=[50, 100]', or a word.
_WORD = re.compile(r"--\S+(?:\s+(?!--)(?:'[^']*'|\S+))?|\S+")


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure of a page.

    Attributes:
        name: What it shows: its heading in a group, read out where it cannot be seen.
        json: The figure, for Plotly.
        height: CSS pixels.
    """

    name: str
    json: str
    height: int


def report_html(url: str, study: str, *, now: datetime | None = None) -> str:
    """Return the report of a study. Does not write; a running study is shown as it is now.

    Args:
        url: The database.
        study: Name of the study.
        now: When the report is written, UTC; None: now.

    Raises:
        StorageError: If the database cannot be opened.
        UnknownStudyError: If there is no such study.
    """
    return render(summarise(Study.read(url, study)), now=now or datetime.now(UTC))


def render(summary: Summary, *, now: datetime) -> str:
    """Return the report of a study, one HTML page that asks for nothing over a network.

    Args:
        summary: What is said of the study.
        now: When the report is written, UTC.
    """
    study = summary.study
    verdicts = tables.verdict_rows(summary)
    return _fill(
        "report.html.jinja",
        summary=summary,
        study=study,
        title=f"{study.name} - bestepoch report",
        metric_in_words=explain_metric(study.config.get("metric", DEFAULT_METRIC)),
        rungs=words.explain_rungs(study.config),
        again=shlex.join(["bestepoch", "run", "--like", study.name]),
        written=words.moment(now),
        numbers=tables.key_numbers(summary),
        trials=tables.trial_table(summary),
        same=tables.list_same(summary),
        verdicts=verdicts,
        num_unlisted=len(summary.judged) - len(verdicts),
        verdict_counts=tables.count_verdicts(summary),
        classes=tables.class_table(summary),
        provenance=tables.provenance(summary),
        settings=json.dumps(study.config, indent=2, ensure_ascii=False, default=str),
        **_draw_all(summary),
    )


def render_curves(figure: "go.Figure", *, study: str, name: str) -> str:
    """Return one metric's curves as a page that asks for nothing over a network.

    Args:
        figure: ``figures_curves.draw_curves``.
        study: Name of the study.
        name: ``figures_curves.name_column`` of what it shows.
    """
    drawing = _draw(name, figure)
    return _fill("curves.html.jinja", title=f"{study} - {name}", study=study, drawing=drawing)


def best_trials(study: Study) -> list[int]:
    """Return the numbers of the trials with the best scores so far, at most five.

    While a sweep runs most of its trials wait, and none of these has a rank yet.
    """
    scored = study.results[figures.are_drawn(study.results)]
    ahead = scored.sort_values("best_score", ascending=False, kind="stable")
    return [int(trial) for trial in ahead["trial"].head(_NUM_BEST)]


def short_trials(study: Study) -> set[int]:
    """Return the trials that were paused at the first rung: nothing came after their epochs."""
    rungs = words.list_rungs(study.config)
    is_short = study.results["epochs_run"] <= (rungs[0] if rungs else 0)
    return {int(trial) for trial in study.results.loc[is_short, "trial"]}


def _draw_all(summary: Summary) -> dict[str, Any]:
    """Return the figures of each section; None: nothing to draw."""
    study = summary.study
    best = best_trials(study)
    results = study.results
    has_scores = bool(study.curves["score"].notna().any())
    drawn, step = figures_curves.thin(study.curves, results)
    scatter = figures.best_against_last(results, metric=study.metric, alone=short_trials(study))
    drawn_from = parse_space(study.space).parameters if study.space else ()
    ranges = {each.row.name: each.is_log for each in drawn_from if not each.choices}
    bands = figures_parameters.list_bands(results, words.list_rungs(study.config))
    winner = summary.ties.best
    epochs = dict(zip(results["trial"], results["best_epoch"], strict=True))
    trained = dict(zip(results["trial"], results["epochs_run"], strict=True))
    return {
        "curves": _draw(
            "Learning curves",
            figures_curves.draw_curves(drawn, results, best, label=study.metric),
        )
        if has_scores
        else None,
        "num_below": figures_curves.count_below(study.curves, best),
        "step": step,
        "losses": [
            _draw(f"Losses of trial {t}", figures_curves.draw_losses(drawn, t, int(epochs[t])))
            for t in best[:_NUM_DETAILED]
            if trained[t] > 1
        ],
        "scatter": None if scatter is None else _draw("Best epoch against last epoch", scatter),
        "slices": [
            _draw(name, figure)
            for name, figure in figures_parameters.slice_figures(
                results, read_shown_params(results), ranges, bands, metric=study.metric
            )
        ],
        "bands": bands,
        "confusion": _draw(
            f"Confusion matrix of trial {winner}",
            figures_classes.confusion_matrix(study.confusions[winner], study.class_names),
        )
        if winner is not None and winner in study.confusions and study.class_names
        else None,
    }


def _draw(name: str, figure: "go.Figure") -> Drawing:
    return Drawing(name, figures.to_json(figure), int(figure.layout.height))


def _fill(template: str, **values: Any) -> str:
    """Return a page of a template with the style, the script and Plotly's own."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"in_script": _embeddable, "heading": _unbroken, "whole_words": _spans}
    environment.globals["words"] = words
    return environment.get_template(template).render(
        plotly=_pack_plotly(),
        css=(_FOLDER / "page.css").read_text(encoding="utf-8"),
        script=(_FOLDER / "page.js").read_text(encoding="utf-8"),
        **values,
    )


@functools.cache
def _pack_plotly() -> str:
    """Return Plotly's script as gzip in base64, which browsers since 2023 unpack themselves."""
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode()


def _unbroken(heading: str) -> str:
    """Return a heading of a column that breaks neither at a hyphen nor before ``1`` of a beta."""
    return heading.replace("-", "\u2011").replace("beta ", "beta\u00a0")


def _spans(command: str) -> Any:
    """Return a command that breaks between options, never after the dashes of one."""
    from markupsafe import Markup

    span = Markup('<span class="word">{}</span>')
    return Markup(" ").join(span.format(each) for each in _WORD.findall(command))


def _embeddable(text: str) -> Any:
    """Return JSON that may stand in a script element: no name can end it or begin a comment."""
    from markupsafe import Markup

    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
