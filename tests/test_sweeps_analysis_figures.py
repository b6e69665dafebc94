"""Figures from literal frames: what is drawn, what is left out, and how it is thinned."""

import json
import math
from typing import Any

import pandas as pd
import pytest

from storage import frames
from sweeps.analysis import (
    figures,
    figures_classes,
    figures_curves,
    figures_importances,
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
        {"trial": i, "outcome": "stalled", "epochs_run": 7, "attempt": 1, "seed": 0}
        | {"params": json.dumps({"optimizer": "adam"})}
        | row
        for i, row in enumerate(rows)
    ]
    found = frames.to_frame([[row.get(name) for name in columns] for row in filled], columns)
    ranked = found["best_macro_f1"].where(found["outcome"].isin(["stalled", "behind"]))
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
            {"best_macro_f1": 0.7, "last_macro_f1": 0.6, "best_epoch": 3},
            {"best_macro_f1": 0.5, "last_macro_f1": 0.5, "best_epoch": 2, "outcome": "behind"},
            {"best_macro_f1": 0.9, "last_macro_f1": 0.1, "best_epoch": 1, "outcome": "diverged"},
            {"outcome": "failed", "epochs_run": 0},
        ]
    )
    figure = figures.best_against_last(results)
    drawn = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data[1:]}
    assert drawn == {"stalled": ([0.6], [0.7]), "behind": ([0.5], [0.5])}


def test_curves_colour_the_best_and_mark_best_epochs_and_ends() -> None:
    results = make_results(
        [
            {"best_macro_f1": 0.7, "best_epoch": 2, "last_epoch": 3, "last_macro_f1": 0.6},
            {"best_macro_f1": 0.5, "best_epoch": 1, "last_epoch": 2, "last_macro_f1": 0.4},
        ]
    )
    rows = [(0, 1, 0.5), (0, 2, 0.7), (0, 3, 0.6), (1, 1, 0.5), (1, 2, 0.4)]
    columns = ("trial", "epoch", "macro_f1")
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
        rows.append({"best_macro_f1": score, "params": json.dumps(params)})
    return make_results(rows)


def test_what_decides_the_score_is_the_most_important() -> None:
    shares = figures_importances.measure_importances(spread(41), SPACE)
    assert next(iter(shares)) == "learning_rate"
    assert set(shares) == {"learning_rate", "dropout", "optimizer", "momentum", "batch_size"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["learning_rate"] > 3 * shares["dropout"]


def test_few_trials_have_no_importances() -> None:
    assert figures_importances.measure_importances(spread(9), SPACE) == {}


def test_what_a_trial_does_not_have_stands_at_the_foot_of_its_axis() -> None:
    (lines,) = figures_parameters.parallel_coordinates(spread(13), SPACE).data
    axes = {axis.label: axis for axis in lines.dimensions}
    assert list(axes) == [
        "optimizer",
        "learning rate",
        "dropout",
        "batch size",
        "momentum",
        "best macro-F1",
    ]
    momentum = axes["momentum"]
    foot = dict(zip(momentum.ticktext, momentum.tickvals, strict=True))["not set"]
    assert list(momentum.values).count(foot) == 7
    assert min(momentum.values) == foot
    assert list(axes["batch size"].ticktext) == ["50", "100"]
    # Of a log range the axis holds the logarithms.
    assert -4.01 < min(axes["learning rate"].values) < max(axes["learning rate"].values) < -1


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
            {"best_macro_f1": 0.7, "best_epoch": 5, "epochs_to_95": 2, "epochs_to_99": 5},
            {"best_macro_f1": 0.6, "best_epoch": 3, "epochs_to_95": 2, "epochs_to_99": 3},
            {"best_macro_f1": 0.9, "best_epoch": 1, "outcome": "diverged"},
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
    curves = pd.DataFrame(rows, columns=["trial", "epoch", "macro_f1"])
    ends = figures_curves.score_range(curves, [0])
    assert ends is not None
    assert 0.69 < ends[0] < 0.71
    assert ends[1] > 0.713
    assert figures_curves.count_below(curves, ends) == 1
    whole = figures_curves.score_range(curves, [])
    assert whole is not None
    assert whole[0] < 0.1


def test_curves_without_a_score_have_no_axis() -> None:
    curves = pd.DataFrame({"trial": [0, 0], "epoch": [1, 2], "macro_f1": [NAN, NAN]})
    assert figures_curves.score_range(curves, []) is None


def schedules() -> pd.DataFrame:
    """Three trials a schedule, a constant one stored as the studies store it."""
    rows = []
    for i in range(12):
        schedule = ("constant", "plateau", "warmup")[i % 3]
        params: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.01 * (i + 1)}
        params |= {} if schedule == "constant" else {"schedule": schedule}
        params |= {"clip_norm": (5.0, 1e6)[i % 2]}
        rows.append({"best_macro_f1": 1.0 if i < 7 else 0.5, "params": json.dumps(params)})
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
    shares = figures_importances.measure_importances(schedules(), SCHEDULES)
    assert set(shares) == {"learning_rate", "schedule", "clip_norm"}


def test_names_of_an_axis_do_not_run_into_each_other() -> None:
    rows = [
        {"best_macro_f1": 0.1 * i, "params": json.dumps({"optimizer": "sgd", "momentum": each})}
        for i, each in enumerate([0.0, 0.0311, 0.5, 0.89, 0.9])
    ]
    (lines,) = figures_parameters.parallel_coordinates(make_results(rows), SPACE).data
    (axis,) = (each for each in lines.dimensions if each.label == "momentum")
    assert list(axis.ticktext) == ["0", "0.5", "0.9"]


def test_all_that_tie_at_the_cut_are_among_the_best() -> None:
    best = figures_importances.find_best(schedules())
    assert (best.number, best.num_ranked, best.lowest, best.is_tie) == (7, 12, 1.0, False)
    best = figures_importances.find_best(spread(13))
    assert (best.number, best.is_tie) == (5, False)
    assert 0.6 < best.lowest < 0.7


def decided_by_rate(num_low: int) -> pd.DataFrame:
    """24 trials: a low rate loses by far; of the others, dropout decides a thousandth."""
    rows = []
    for i in range(24):
        is_low, dropout = i < num_low, 0.7 * ((7 * i) % 24) / 24
        params = {
            "optimizer": "adam",
            "learning_rate": (2e-4 if is_low else 2e-2) * (1 + i / 100),
            "dropout": dropout,
        }
        score = (0.5 if is_low else 0.99) + 0.001 * dropout
        rows.append({"best_macro_f1": score, "params": json.dumps(params)})
    return make_results(rows)


def test_what_decides_between_trials_that_tie_is_not_important() -> None:
    results = decided_by_rate(5)
    # Told apart by their scores, the best 5 are those of the largest dropout.
    assert next(iter(figures_importances.measure_importances(results, SPACE))) == "dropout"
    shares = figures_importances.measure_importances(results, SPACE, margin=0.015)
    assert next(iter(shares)) == "learning_rate"
    assert shares["learning_rate"] > 5 * shares["dropout"]
    best = figures_importances.find_best(results, margin=0.015)
    assert (best.number, best.is_tie) == (19, True)
    assert "Here the best one and the 18 that tie with it count as the best: those of the 24" in (
        figures_importances.say_best(best)
    )


@pytest.mark.parametrize(
    ("num_low", "sentence"),
    [
        (0, "the best one and the 23 that tie with it are all that are ranked"),
        (4, "beside the best one and the 19 that tie with it, the 4 other ranked trials are"),
    ],
)
def test_importances_are_not_said_where_too_many_tie(num_low: int, sentence: str) -> None:
    results = decided_by_rate(num_low)
    assert figures_importances.measure_importances(results, SPACE, margin=0.015) == {}
    best = figures_importances.find_best(results, margin=0.015)
    assert sentence in figures_importances.say_no_importances(best)


def test_what_shows_no_effect_has_a_grey_bar_and_leads_no_chart() -> None:
    shares = {"dropout": 0.7, "beta1": 0.297, "rho": 0.003}
    figure = figures_importances.importances(shares, {"beta1", "rho"})
    bars = {bar.marker.color: (list(bar.y), list(bar.text)) for bar in figure.data}
    assert bars == {
        figures.BLUE: (["dropout"], ["70%"]),
        figures.FAINT: (["beta 1", "rho"], ["30%", "&lt;1%"]),
    }
    assert list(figure.layout.yaxis.categoryarray) == ["dropout", "beta 1", "rho"]
    assert figures_importances.say_idle_leader(shares, {"beta1"}) is None
    said = figures_importances.say_idle_leader(shares, {"dropout"})
    assert said is not None
    assert "most in dropout (70% by PED-ANOVA), which shows no effect" in said


def test_curves_of_trials_without_a_rank_are_grey_and_the_caption_says_so() -> None:
    results = make_results(
        [{"outcome": "diverged", "best_macro_f1": 0.4, "best_epoch": 1, "last_epoch": 2}]
    )
    curves = pd.DataFrame([(0, 1, 0.4), (0, 2, 0.3)], columns=["trial", "epoch", "macro_f1"])
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
    results = make_results([{"best_macro_f1": 0.7, "started_at": begun, "finished_at": ended}])
    assert figures.timeline(results).layout.showlegend
