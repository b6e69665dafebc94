"""A study as one page of HTML that opens without a network: the frames in, the text out.

The page is ``report.html.jinja`` with ``report.css`` and ``report.js`` beside this file; Plotly's
own script (4.8 MB) stands in it, packed to 1.9 MB. Opens no database. Texts of people, such as
names of classes, are escaped by the template.
"""

import base64
import functools
import gzip
import json
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.metric_names import DEFAULT_METRIC, explain_metric
from sweeps.analysis import (
    figures,
    figures_classes,
    figures_curves,
    figures_importances,
    figures_parameters,
    report_tables,
)
from sweeps.analysis import report_words as words
from sweeps.analysis.report_facts import Facts, StudyData, gather
from sweeps.commands import next_command

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FOLDER = Path(__file__).parent
_NUM_BEST = 5
_NUM_DETAILED = 3


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure of a page.

    Attributes:
        name: What it shows, read out where it cannot be seen, and its heading in a group.
        json: The figure, for Plotly.
        height: CSS pixels.
        fit: ``fits`` the page's width, is as good as ``square``, or ``wide``: scrolls in its
            box where the page is narrow.
    """

    name: str
    json: str
    height: int
    fit: str = "fits"


def render(
    data: StudyData,
    *,
    now: datetime,
    facts: Facts | None = None,
) -> str:
    """Return the report of a study, one HTML page that asks for nothing over a network.

    Args:
        data: The study.
        now: When the report is written, UTC.
        facts: ``report_facts.gather`` of it, None: gathered here.
    """
    facts = gather(data) if facts is None else facts
    return _fill(
        "report.html.jinja",
        data=data,
        facts=facts,
        next_command=next_command(data.study, facts.options, taken=data.taken),
        metric_in_words=explain_metric(data.config.get("metric", DEFAULT_METRIC)),
        rungs=words.explain_rungs(data.config),
        again=shlex.join(["bestepoch", "run", "--like", data.study]),
        is_same_study=all("--set" not in each for each in facts.options),
        written=words.moment(now),
        created=words.moment(data.created_at),
        trials=report_tables.trial_table(data, facts),
        verdicts=(verdicts := report_tables.verdict_rows(data)),
        num_unclear=len(data.results) - len(verdicts),
        verdict_counts=report_tables.count_verdicts(data),
        class_columns=report_tables.class_columns(),
        classes=report_tables.class_rows(data, _best_trials(facts)[:1]),
        provenance=report_tables.provenance(data),
        settings=json.dumps(data.config, indent=2, ensure_ascii=False),
        **_drawings(data, facts),
    )


def render_curves(figure: "go.Figure", *, study: str, name: str) -> str:
    """Return one metric's curves as a page that asks for nothing over a network.

    Args:
        figure: ``curve_figure.metric_curves``.
        study: Name of the study.
        name: ``curve_figure.name_column`` of what it shows.
    """
    return _fill("curves.html.jinja", study=study, metric=name, drawing=_draw(name, figure))


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
    environment.filters["figure_json"] = _embeddable
    environment.filters["heading"] = _unbroken
    environment.globals["words"] = words
    return environment.get_template(template).render(
        plotly=_pack_plotly(),
        css=(_FOLDER / "report.css").read_text(encoding="utf-8"),
        script=(_FOLDER / "report.js").read_text(encoding="utf-8"),
        **values,
    )


@functools.cache
def _pack_plotly() -> str:
    """Return Plotly's script as gzip in base64, which browsers since 2023 unpack themselves."""
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode()


def _best_trials(facts: Facts) -> list[int]:
    return [int(trial) for trial in facts.ranks["trial"].head(_NUM_BEST)]


def _drawings(data: StudyData, facts: Facts) -> dict[str, Any]:
    """Return the figures of each section, and the notes below them; None: nothing to draw."""
    best = _best_trials(facts)
    space, results = data.config["space"], data.results
    has_scores = not facts.ranks.empty
    num_curves = int(data.curves["trial"].nunique())
    ends = figures_curves.score_range(data.curves, best)
    longest = int(data.curves["epoch"].max()) if num_curves else 0
    most = figures_curves.points_a_curve(num_curves)
    parallel = (
        figures_parameters.parallel_coordinates(results, space, data.metric)
        if has_scores
        else None
    )
    cap_figure = figures.epochs_needed(results, max_epochs=data.max_epochs, cap=facts.cap)
    return {
        "scatter": _draw(
            "Best epoch against last epoch",
            figures.best_against_last(results, data.metric),
            fit="square",
        )
        if has_scores
        else None,
        "curves": _draw(
            "Learning curves",
            figures_curves.learning_curves(data.curves, results, best, data.metric),
        )
        if ends is not None
        else None,
        "num_curves": num_curves,
        "curves_caption": ""
        if ends is None
        else figures_curves.caption(
            best, figures_curves.count_below(data.curves, ends), data.metric
        ),
        "losses": [
            _draw(
                f"Losses of trial {trial}",
                figures_curves.losses(data.curves, trial, _best_epoch(data, trial)),
            )
            for trial in best[:_NUM_DETAILED]
        ],
        "thinned": most if longest > most else None,
        "parallel": _draw("Parallel coordinates", parallel, fit="wide")
        if parallel is not None and len(parallel.data) and len(parallel.data[0].dimensions) > 1
        else None,
        "slices": [
            _draw(name, figure)
            for name, figure in figures_parameters.slices(results, space, data.metric)
        ],
        **_importances(data, facts),
        "class_f1": _draw("F1 of each class", figures_classes.class_f1(data.class_scores, best))
        if best and not data.class_scores.empty
        else None,
        "most_classes": figures_classes.MOST_CLASSES,
        "confusions": _confusions(data, best[:_NUM_DETAILED]),
        "timeline": _draw("Timeline", figures.timeline(results))
        if results["finished_at"].notna().any()
        else None,
        "epochs": _draw("Epochs needed", cap_figure) if has_scores else None,
    }


def _importances(data: StudyData, facts: Facts) -> dict[str, Any]:
    """Return the figure of importances, which trials are its best ones, and what has no share.

    What the advice says to show no effect has none. Where nothing is left, or too many trials
    tie to say anything, there is a sentence in place of the figure.
    """
    best = figures_importances.find_best(data.results, margin=facts.margin)
    found = figures_importances.measure_importances(
        data.results,
        data.config["space"],
        margin=facts.margin,
        idle={each.about for each in facts.advice if "variance_share" in each.numbers},
    )
    return {
        "importances": _draw(
            "Parameter importances", figures_importances.importances(found.shares)
        )
        if found.shares
        else None,
        "why_no_importances": figures_importances.say_no_importances(best, found),
        "best_of_importances": figures_importances.say_best(best),
        "left_out_of_importances": figures_importances.say_left_out(found),
    }


def _confusions(data: StudyData, best: list[int]) -> list[Drawing]:
    found = []
    for trial in best:
        counts = data.confusions[data.confusions["trial"] == trial]["confusion"]
        names = data.class_scores[data.class_scores["trial"] == trial]["class_name"].tolist()
        if len(counts) and names:
            figure = figures_classes.confusion_matrix(json.loads(counts.iloc[0]), names)
            found.append(_draw(f"Confusion matrix of trial {trial}", figure))
    return found


def _best_epoch(data: StudyData, trial: int) -> int | None:
    epochs = data.results.loc[data.results["trial"] == trial, "best_epoch"].dropna()
    return int(epochs.iloc[0]) if len(epochs) else None


def _draw(name: str, figure: "go.Figure", *, fit: str = "fits") -> Drawing:
    return Drawing(name, figures.to_json(figure), int(figure.layout.height), fit)


def _unbroken(heading: str) -> str:
    """Return a heading of a column that breaks neither at a hyphen nor before ``1`` of a beta."""
    return heading.replace("-", "\u2011").replace("beta ", "beta\u00a0")


def _embeddable(text: str) -> Any:
    """Return JSON that may stand in a script element: no name can end it or begin a comment."""
    from markupsafe import Markup

    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
