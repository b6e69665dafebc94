"""Figures from literal frames: what is drawn, what is left out, and how it is thinned."""

import itertools
import json
import math
from typing import Any

import pandas as pd
import pytest

from storage import frames
from sweeps.analysis import (
    curve_figure,
    figures,
    figures_classes,
    figures_curves,
    figures_parameters,
)

NAN = math.nan
SPACE: dict[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "dropout": {"low": 0.0, "high": 0.7},
    "momentum": {"low": 0.0, "high": 0.99},
    "batch_size": [50, 100],
}


def make_results(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """``queries.results`` of these trials, ranked by their best epoch."""
    columns = {name: dtype for name, dtype in frames.RESULTS.items() if name != "rank"}
    filled = [
        {"trial": i, "outcome": "stalled", "epochs_run": 7, "kills": 0, "seed": 0}
        | {"params": json.dumps({"optimizer": "adam"})}
        | row
        for i, row in enumerate(rows)
    ]
    found = frames.to_frame([[row.get(name) for name in columns] for row in filled], columns)
    ranked = found["best_score"].where(found["outcome"].isin(["stalled", "behind"]))
    found.insert(0, "rank", ranked.rank(method="min", ascending=False).astype("Int64"))
    return found


def test_thinned_curve_keeps_first_best_and_last_epoch() -> None:
    assert figures_curves.thin_epochs(5, [2], most=7) == [1, 2, 3, 4, 5]
    thinned = figures_curves.thin_epochs(200, [113], most=11)
    assert thinned[0] == 1
    assert thinned[-1] == 200
    assert 113 in thinned
    assert len(thinned) == 12
    assert figures_curves.thin_epochs(200, [1, 200, 500], most=11)[-1] == 200


@pytest.mark.parametrize(
    ("num_trials", "points"), [(0, 20_000), (16, 1250), (500, 40), (9999, 12)]
)
def test_all_curves_share_the_points(num_trials: int, points: int) -> None:
    assert figures_curves.points_a_curve(num_trials) == points


def test_scatter_leaves_out_what_may_not_be_ranked() -> None:
    results = make_results(
        [
            {"best_score": 0.7, "last_score": 0.6, "best_epoch": 3},
            {
                "best_score": 0.5,
                "last_score": 0.5,
                "best_epoch": 2,
                "outcome": "behind",
                "epochs_run": 9,
            },
            {"best_score": 0.9, "last_score": 0.1, "best_epoch": 1, "outcome": "diverged"},
            {"outcome": "failed", "epochs_run": 0},
        ]
    )
    figure = figures.best_against_last(results)
    drawn = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data[1:]}
    assert drawn == {"stalled": ([0.6], [0.7]), "behind": ([0.5], [0.5])}


def test_curves_colour_the_best_and_mark_best_epochs_and_ends() -> None:
    results = make_results(
        [
            {"best_score": 0.7, "best_epoch": 2, "last_epoch": 3, "last_score": 0.6},
            {"best_score": 0.5, "best_epoch": 1, "last_epoch": 2, "last_score": 0.4},
        ]
    )
    rows = [(0, 1, 0.5), (0, 2, 0.7), (0, 3, 0.6), (1, 1, 0.5), (1, 2, 0.4)]
    columns = ("trial", "epoch", "score")
    curves = pd.DataFrame(rows, columns=columns)
    figure = figures_curves.learning_curves(curves, results, [0])
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces) == ["other trials", "trial 0", "end: stalled", "best epoch"]
    assert list(traces["other trials"].y) == [0.5, 0.4, None]
    assert list(traces["trial 0"].y) == [0.5, 0.7, 0.6]
    assert list(traces["end: stalled"].x) == [3, 2]
    assert list(traces["best epoch"].x) == [2, 1]


def test_json_is_short_and_has_no_nan() -> None:
    figure = figures.new_figure(height=100)
    figure.add_scatter(x=[1, 2, 3], y=[0.123456789, NAN, math.inf])
    text = figures.to_json(figure)
    assert json.loads(text)["data"][0]["y"] == [0.12346, None, None]
    assert " " not in text.split('"layout"')[0]


def spread(num_trials: int) -> pd.DataFrame:
    """Trials whose learning rate decides the score, and whose dropout does not."""
    rows = []
    for i in range(num_trials):
        rate = 10 ** (-4 + 3 * i / num_trials)
        params: dict[str, Any] = {
            "optimizer": ("adam", "sgd")[i % 2],
            "learning_rate": rate,
            "dropout": 0.7 * ((7 * i) % num_trials) / num_trials,
            "batch_size": (100, 50)[i % 3 == 0],
        }
        if i % 2:
            params["momentum"] = 0.01 * i
        score = 0.7 - 0.1 * abs(math.log10(rate) + 2)
        rows.append({"best_score": score, "params": json.dumps(params)})
    return make_results(rows)


def test_what_a_trial_does_not_have_stands_at_the_foot_of_its_axis() -> None:
    (lines,) = figures_parameters.parallel_coordinates(spread(13), SPACE).data
    axes = {axis.label: axis for axis in lines.dimensions}
    assert list(axes) == [
        "optimizer",
        "learning rate",
        "dropout",
        "batch size",
        "momentum",
        "best score",
    ]
    momentum = axes["momentum"]
    foot = dict(zip(momentum.ticktext, momentum.tickvals, strict=True))["not set"]
    assert list(momentum.values).count(foot) == 7
    assert min(momentum.values) == foot
    assert list(axes["batch size"].ticktext) == ["50", "100"]
    # Of a log range the axis holds the logarithms.
    assert -4.01 < min(axes["learning rate"].values) < max(axes["learning rate"].values) < -1


def rated(rates: list[float]) -> pd.DataFrame:
    """Trials that differ in their learning rate alone."""
    rows = [
        {"best_score": 0.5 + 0.01 * i, "params": json.dumps({"learning_rate": rate})}
        for i, rate in enumerate(rates)
    ]
    return make_results(rows)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([0.0989, 0.117, 0.159, 0.238, 0.251, 0.311, 0.43], ["0.0989", "0.2", "0.3", "0.43"]),
        ([1e-4 * 10 ** (i / 4) for i in range(13)], ["0.0001", "0.001", "0.01", "0.1"]),
        # No round number lies between them.
        ([0.211 + 0.01 * i for i in range(7)], ["0.211", "0.271"]),
    ],
)
def test_ticks_of_a_log_axis_go_from_its_lowest_to_its_highest_value(
    rates: list[float], expected: list[str]
) -> None:
    (lines,) = figures_parameters.parallel_coordinates(rated(rates), SPACE).data
    axis = lines.dimensions[0]
    assert set(expected) <= set(axis.ticktext)
    ends = math.log10(min(rates)), math.log10(max(rates))
    assert (axis.tickvals[0], axis.tickvals[-1]) == pytest.approx(ends)
    assert list(axis.range) == pytest.approx(ends)
    for place, text in zip(axis.tickvals, axis.ticktext, strict=True):
        assert 10**place == pytest.approx(float(text), rel=0.005)
    gaps = [after - before for before, after in itertools.pairwise(axis.tickvals)]
    assert min(gaps) >= 0.07 * (ends[1] - ends[0])


def test_slice_of_less_than_a_decade_has_ticks_all_along() -> None:
    rates = [0.0989, 0.117, 0.159, 0.238, 0.251, 0.311, 0.43]
    ((_, figure),) = figures_parameters.slices(rated(rates), SPACE)
    assert list(figure.layout.xaxis.ticktext) == ["0.1", "0.2", "0.3", "0.4"]


def test_slice_of_a_few_trials_has_the_digits_of_their_scores() -> None:
    rows = [
        {"best_score": each, "params": json.dumps({"optimizer": "sgd", "momentum": i / 10})}
        for i, each in enumerate([0.4316, 0.4322, 0.4358])
    ]
    rows += [
        {"best_score": each, "params": json.dumps({"optimizer": "adam"})} for each in (0.79, 0.6)
    ]
    drawn = dict(figures_parameters.slices(make_results(rows), SPACE))
    assert drawn["momentum"].layout.yaxis.tickformat == ".4f"
    assert drawn["optimizer"].layout.yaxis.tickformat == ".2f"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.3, 4000.0, ["0.3", "1", "3", "10", "30", "100", "300", "1,000", "3,000"]),
        (0.0002, 25.0, ["0.001", "0.01", "0.1", "1", "10"]),
        (2e-5, 3e-3, ["3e-05", "0.0001", "0.0003", "0.001", "0.003"]),
    ],
)
def test_ticks_of_a_log_axis_are_written_in_full(
    low: float, high: float, expected: list[str]
) -> None:
    assert figures.log_ticks(low, high)["ticktext"] == expected


def test_slices_have_an_axis_that_fits_the_values() -> None:
    drawn = dict(figures_parameters.slices(spread(13), SPACE))
    assert list(drawn) == ["optimizer", "learning rate", "dropout", "batch size", "momentum"]
    assert drawn["learning rate"].layout.xaxis.type == "log"
    assert drawn["batch size"].layout.xaxis.type == "category"
    assert len(drawn["momentum"].data[0].x) == 6
    assert len(drawn["dropout"].data[0].x) == 13


def test_confusion_is_coloured_by_the_share_of_the_true_class() -> None:
    figure = figures_classes.confusion_matrix([[3, 1], [0, 0]], ["a", "<b>"])
    table, counts = figure.data
    assert [list(row) for row in table.z] == [[0.75, 0.25], [0.0, 0.0]]
    assert list(counts.text) == ["3", "1", "0", "0"]
    black, white = "#000000", "#ffffff"
    assert list(counts.textfont.color) == [white, black, black, black]
    assert list(figure.layout.xaxis.ticktext) == ["a", "&lt;b&gt;"]


def test_of_many_classes_the_worst_are_drawn() -> None:
    rows = [(0, i, f"class {i}", 0.5, 0.5, i / 53, 7) for i in range(53)]
    scores = frames.to_frame(rows, frames.CLASS_SCORES)
    figure = figures_classes.class_f1(scores, [0])
    assert len(figure.layout.yaxis.ticktext) == figures_classes.MOST_CLASSES
    assert "class 52" not in figure.layout.yaxis.ticktext
    assert figures_classes.shorten("x" * 40) == "x" * 25 + "..."


def test_epochs_needed_are_shares_of_the_ranked_trials() -> None:
    results = make_results(
        [
            {"best_score": 0.7, "best_epoch": 5, "epochs_to_95": 2, "epochs_to_99": 5},
            {"best_score": 0.6, "best_epoch": 3, "epochs_to_95": 2, "epochs_to_99": 3},
            {"best_score": 0.9, "best_epoch": 1, "outcome": "diverged"},
        ]
    )
    figure = figures.epochs_needed(results, max_epochs=40, cap=7)
    traces = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert traces["99 % of its best"] == ([0, 3, 5, 7], [0.0, 0.5, 1.0, 1.0])
    assert traces["95 % of its best"] == ([0, 2, 7], [0.0, 1.0, 1.0])
    assert traces["recommended cap: 7"] == ([7, 7], [0, 1])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, ".2f"), (0.70, 0.76, ".3f"), (0.771, 0.7779, ".4f"), (0.77, 0.77, ".5f")],
)
def test_ticks_of_a_narrow_range_are_told_apart(low: float, high: float, expected: str) -> None:
    assert figures.score_format(low, high) == expected
    # About eight ticks, at the format's digits.
    if high > low:
        ticks = [f"{low + i * (high - low) / 7:{expected}}" for i in range(8)]
        assert len(set(ticks)) == 8


def test_axis_of_curves_begins_where_the_best_trials_differ() -> None:
    rows = [(0, e, 0.7 + 0.001 * e if e > 2 else 0.1) for e in range(1, 14)]
    rows += [(1, e, 0.2) for e in range(1, 6)]
    curves = pd.DataFrame(rows, columns=["trial", "epoch", "score"])
    ends = figures_curves.score_range(curves, [0])
    assert ends is not None
    assert 0.69 < ends[0] < 0.71
    assert ends[1] > 0.713
    assert figures_curves.count_below(curves, ends) == 1
    whole = figures_curves.score_range(curves, [])
    assert whole is not None
    assert whole[0] < 0.1


def test_curves_without_a_score_have_no_axis() -> None:
    curves = pd.DataFrame({"trial": [0, 0], "epoch": [1, 2], "score": [NAN, NAN]})
    assert figures_curves.score_range(curves, []) is None


def schedules() -> pd.DataFrame:
    """Three trials a schedule, a constant one stored as the studies store it."""
    rows = []
    for i in range(12):
        schedule = ("constant", "plateau", "warmup")[i % 3]
        params: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.01 * (i + 1)}
        params |= {} if schedule == "constant" else {"schedule": schedule}
        params |= {"clip_norm": (5.0, 1e6)[i % 2]}
        rows.append({"best_score": 1.0 if i < 7 else 0.5, "params": json.dumps(params)})
    return make_results(rows)


SCHEDULES: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": {"low": 0.01, "high": 0.2, "log": True},
    "schedule": ["constant", "plateau", "warmup"],
    "clip_norm": [5.0, 1e6],
}


def test_constant_rate_and_no_clipping_are_drawn_as_choices() -> None:
    (lines,) = figures_parameters.parallel_coordinates(schedules(), SCHEDULES).data
    axes = {axis.label: axis for axis in lines.dimensions}
    assert list(axes["schedule"].ticktext) == ["constant", "plateau", "warmup"]
    assert list(axes["gradient clipping"].ticktext) == ["5", "none"]
    drawn = dict(figures_parameters.slices(schedules(), SCHEDULES))
    assert sorted(drawn["schedule"].data[0].x) == sorted(["constant", "plateau", "warmup"] * 4)


def test_names_of_an_axis_do_not_run_into_each_other() -> None:
    rows = [
        {"best_score": 0.1 * i, "params": json.dumps({"optimizer": "sgd", "momentum": each})}
        for i, each in enumerate([0.0, 0.0311, 0.5, 0.89, 0.9])
    ]
    (lines,) = figures_parameters.parallel_coordinates(make_results(rows), SPACE).data
    (axis,) = (each for each in lines.dimensions if each.label == "momentum")
    assert list(axis.ticktext) == ["0", "0.5", "0.9"]


def test_curves_of_trials_without_a_rank_are_grey_and_the_caption_says_so() -> None:
    results = make_results(
        [{"outcome": "diverged", "best_score": 0.4, "best_epoch": 1, "last_epoch": 2}]
    )
    curves = pd.DataFrame([(0, 1, 0.4), (0, 2, 0.3)], columns=["trial", "epoch", "score"])
    figure = figures_curves.learning_curves(curves, results, [])
    assert figure.data[0].name == "trials"
    said = figures_curves.caption([], 0)
    assert "No trial has a score that may be ranked, so all are grey" in said
    assert "coloured" not in said
    assert "best trials are coloured" in figures_curves.caption([0], 1)
    assert figures_curves.caption([0], 1).endswith("differ; 1 trial stays below it.")


def test_range_of_clipping_has_numbers_alone() -> None:
    space = {**SCHEDULES, "clip_norm": {"low": 0.5, "high": 10.0}}
    results = schedules()
    results["params"] = [
        json.dumps({**json.loads(text), "clip_norm": 1e6 if i == 3 else 0.5 + i})
        for i, text in enumerate(results["params"])
    ]
    (lines,) = figures_parameters.parallel_coordinates(results, space).data
    axes = {axis.label: axis for axis in lines.dimensions}
    assert "not set" in axes["gradient clipping"].ticktext


def test_timeline_of_one_outcome_has_a_legend() -> None:
    begun = pd.Timestamp("2031-05-07T11:13:17Z")
    ended = begun + pd.Timedelta(seconds=7)
    results = make_results([{"best_score": 0.7, "started_at": begun, "finished_at": ended}])
    assert figures.timeline(results).layout.showlegend


def test_log_axis_of_a_metric_has_full_numbers_and_the_title_of_any_other() -> None:
    rows = [(0, 1, 3917.0), (0, 2, 0.7), (0, 3, 0.31)]
    curves = pd.DataFrame(rows, columns=["trial", "epoch", "train_loss"])
    figure = curve_figure.metric_curves(curves, {0: 2}, "train_loss", outcomes={})
    axis = figure.layout.yaxis
    assert {"0.3", "1", "10", "1,000"} < set(axis.ticktext)
    assert axis.title.text.endswith("logarithmic axis")
    assert axis.title.font.size == figure.layout.xaxis.title.font.size == 13
