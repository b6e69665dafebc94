"""Figures from literal frames: what is drawn, on which axis, under which name."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from storage import frames
from sweeps.report import figures, figures_classes, figures_curves, figures_parameters

NAN = math.nan


def make_results(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Results of trials that stalled after 7 epochs, but for what is told."""
    usual = {"outcome": "stalled", "epochs_run": 7, "params": "{}", "kills": 0, "seed": 7}
    told = [usual | {"trial": i} | row for i, row in enumerate(rows)]
    columns = {name: kind for name, kind in frames.RESULTS.items() if name != "rank"}
    found = frames.to_frame([[row.get(name) for name in columns] for row in told], columns)
    ranked = found["best_score"].where(found["outcome"].isin(["stalled", "behind"]))
    found.insert(0, "rank", ranked.rank(method="min", ascending=False).astype("Int64"))
    return found


def curves_of(rows: list[tuple[int, int, float]], column: str = "score") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["trial", "epoch", column])


def test_thinned_curves_keep_first_best_and_last_epochs() -> None:
    curves = curves_of([(t, e, 0.5) for t in range(3) for e in range(1, 101)])
    results = make_results([{"best_epoch": 53}, {"best_epoch": 97}, {}])
    whole, step = figures_curves.thin(curves, results, most=300)
    assert (len(whole), step) == (300, 1)
    thinned, step = figures_curves.thin(curves, results, most=30)
    assert step == 10
    epochs = thinned.groupby("trial")["epoch"].agg(list)
    every_tenth = set(range(1, 101, 10))
    assert set(epochs[0]) == every_tenth | {53, 100}
    assert set(epochs[1]) == every_tenth | {97, 100}
    assert set(epochs[2]) == every_tenth | {100}


def test_scatter_leaves_out_what_has_no_best_epoch_to_compare() -> None:
    rows: list[dict[str, Any]] = [
        {"best_score": 0.7, "last_score": 0.6, "best_epoch": 3},
        {"best_score": 0.5, "last_score": 0.5, "best_epoch": 2, "outcome": "behind"},
        {"best_score": 0.9, "last_score": 0.1, "best_epoch": 1, "outcome": "diverged"},
        {"best_score": 0.3, "last_score": 0.3, "best_epoch": 1, "outcome": "behind"},
        {"outcome": "failed", "epochs_run": 0},
    ]
    figure = figures.best_against_last(make_results(rows), metric="accuracy", alone={3})
    assert figure is not None
    drawn = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data[1:]}
    assert drawn == {"stalled": ([0.6], [0.7]), "behind": ([0.5], [0.5])}
    assert figure.layout.xaxis.title.text == "accuracy at the last epoch"
    assert figures.best_against_last(make_results(rows[2:]), metric="f", alone={1}) is None


def test_curves_colour_the_shown_trials_and_mark_best_epochs_and_ends() -> None:
    results = make_results([{"best_epoch": 2}, {"best_epoch": 1, "outcome": "paused"}, {}])
    rows = [(0, 1, 0.5), (0, 2, 0.7), (0, 3, 0.6), (1, 1, 0.5), (1, 2, 0.4), (2, 1, 0.3)]
    figure = figures_curves.draw_curves(curves_of(rows), results, [0, 1], label="macro-F1")
    traces = {trace.name: trace for trace in figure.data if trace.showlegend is not False}
    legend = ["other trials", "trial 0", "trial 1", "best epoch", "end: stalled", "end: paused"]
    assert list(traces) == legend
    assert list(traces["other trials"].y) == [0.3, None]
    assert list(traces["trial 0"].y) == [0.5, 0.7, 0.6]
    marks = {(t.x[0], t.y[0], t.marker.symbol) for t in figure.data if t.showlegend is False}
    assert marks == {
        *((3, 0.6, "circle"), (2, 0.7, "circle-open")),
        *((2, 0.4, "triangle-down-open"), (1, 0.5, "circle-open")),
    }
    dashes = [traces[name].line.dash for name in ("trial 0", "trial 1")]
    assert len(set(dashes)) == 2


def test_trial_that_is_running_has_an_end_so_far() -> None:
    results = make_results([{"outcome": None, "best_epoch": None}])
    figure = figures_curves.draw_curves(curves_of([(0, 1, 0.4)]), results, [0], label="f")
    assert "end: running" in {trace.name for trace in figure.data}
    figure = figures_curves.draw_curves(curves_of([(0, 1, 0.4)]), results, [], label="f")
    assert figure.data[0].name == "trials"


def test_axis_of_one_score_holds_no_score_that_cannot_be() -> None:
    results = make_results([{"best_epoch": 1}])
    curves = curves_of([(0, 1, 0.98), (0, 2, 0.98)])
    figure = figures_curves.draw_curves(curves, results, [0], label="f")
    assert list(figure.layout.yaxis.range) == pytest.approx([0.93, 1.0])


def test_axis_of_curves_begins_where_the_best_trials_differ() -> None:
    rows = [(0, e, 0.7 + 0.001 * e if e > 2 else 0.1) for e in range(1, 14)]
    rows += [(1, e, 0.2) for e in range(1, 6)]
    results = make_results([{"best_epoch": 13}, {"best_epoch": 1}])
    figure = figures_curves.draw_curves(curves_of(rows), results, [0], label="f")
    low, high = figure.layout.yaxis.range
    assert 0.69 < low < 0.71
    assert high > 0.713
    assert figures_curves.count_below(curves_of(rows), [0]) == 1
    whole = figures_curves.draw_curves(curves_of(rows), results, [], label="f")
    assert whole.layout.yaxis.range[0] < 0.1


def test_loss_that_blew_up_has_a_logarithmic_axis_with_full_numbers() -> None:
    results = make_results([{"best_epoch": 2}])
    curves = curves_of([(0, 1, 3917.0), (0, 2, 0.7), (0, 3, 0.31)], "train_loss")
    axis = figures_curves.draw_curves(curves, results, [0], "train_loss", label="f").layout.yaxis
    assert axis.type == "log"
    assert {"0.3", "1", "10", "1,000"} < set(axis.ticktext)
    assert axis.title.text == "training loss (nats an example), logarithmic axis"


def test_json_is_short_and_has_no_nan() -> None:
    figure = figures.new_figure(height=100)
    figure.add_scatter(x=[1, 2, 3], y=[0.123456789, NAN, math.inf])
    text = figures.to_json(figure)
    assert json.loads(text)["data"][0]["y"] == [0.12346, None, None]
    assert " " not in text.split('"layout"')[0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.3, 4000.0, ["0.3", "1", "3", "10", "30", "100", "300", "1,000", "3,000"]),
        (0.0002, 25.0, ["0.001", "0.01", "0.1", "1", "10"]),
        (2e-5, 3e-3, ["3e-05", "0.0001", "0.0003", "0.001", "0.003"]),
        (0.211, 0.271, ["0.211", "0.271"]),  # no round number lies between them
    ],
)
def test_ticks_of_a_log_axis_are_written_in_full(
    low: float, high: float, expected: list[str]
) -> None:
    assert figures.log_ticks(low, high)["ticktext"] == expected


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


def slices_of(params: list[dict[str, Any]], **given: Any) -> dict[str, Any]:
    """The figures by name, of trials with scores of 0.5, 0.51, ... and these hyperparameters."""
    rows: list[dict[str, Any]] = [{"best_score": 0.5 + 0.01 * i} for i in range(len(params))]
    bands = figures_parameters.list_bands(make_results(rows), [])
    ranges = {"learning_rate": True, "momentum": False, "beta1": False, "clip_norm": False}
    given = {"ranges": ranges, "bands": bands, "metric": "f"} | given
    return dict(figures_parameters.slice_figures(make_results(rows), params, **given))


def test_slices_have_an_axis_that_fits_the_values() -> None:
    params: list[dict[str, Any]] = [
        {"optimizer": "adam", "learning_rate": 1e-4, "batch_size": 100, "beta1": 0.9},
        {"optimizer": "sgd", "learning_rate": 1e-2, "batch_size": 50, "momentum": 0.3},
        {"optimizer": "sgd", "learning_rate": 1e-1, "batch_size": 50, "momentum": 0.9},
        {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 100, "beta1": 0.99},
    ]
    drawn = slices_of(params)
    assert list(drawn)[:2] == ["optimizer", "learning rate"]
    assert set(drawn) == {"optimizer", "learning rate", "batch size", "momentum", "beta 1"}
    assert drawn["learning rate"].layout.xaxis.type == "log"
    assert list(drawn["batch size"].layout.xaxis.categoryarray) == ["50", "100"]
    assert sorted(drawn["beta 1"].data[0].x) == pytest.approx([0.01, 0.1])
    assert drawn["beta 1"].layout.xaxis.title.text == "1 - beta 1"
    # Trials without the hyperparameter are left out, those without a value in a range too.
    assert list(drawn["momentum"].data[0].x) == [0.3, 0.9]
    clipped = slices_of([{"clip_norm": 5.0}, {"clip_norm": "none"}, {"clip_norm": 2.0}])
    assert list(clipped["gradient clipping"].data[0].x) == [5.0, 2.0]
    chosen = slices_of([{"clip_norm": 5.0}, {"clip_norm": "none"}], ranges={})
    assert list(chosen["gradient clipping"].layout.xaxis.categoryarray) == ["5", "none"]


def test_points_are_the_darker_the_longer_trials_were_trained() -> None:
    rows: list[dict[str, Any]] = [
        {"best_score": 0.5, "epochs_run": n, "outcome": "behind"} for n in (1, 1, 3, 4, 16, 17)
    ]
    results = make_results(rows)
    bands = figures_parameters.list_bands(results, [1, 4, 16])
    assert [band.name for band in bands] == ["1", "2 to 4", "5 to 16", "over 16"]
    params = [{"dropout": 0.1 * i} for i in range(6)]
    ranges = {"dropout": False}
    ((_, figure),) = figures_parameters.slice_figures(results, params, ranges, bands, metric="f")
    assert [len(trace.x) for trace in figure.data] == [2, 2, 1, 1]
    assert figure.data[-1].marker.color == figures_parameters.list_bands(results, [])[0].colour
    # The last rungs that any trial has passed.
    names = [band.name for band in figures_parameters.list_bands(results, [1, 2, 4, 8, 16, 32])]
    assert names == ["1 to 2", "3 to 4", "5 to 8", "9 to 16", "over 16"]
    assert len(figures_parameters.list_bands(make_results([]), [1, 4])) == 1


def test_confusion_is_coloured_by_the_share_of_the_true_class() -> None:
    counts = np.array([[3, 1], [0, 0]])
    figure = figures_classes.confusion_matrix(counts, ["a", "<b>"])
    table, texts = figure.data
    assert [list(row) for row in table.z] == [[0.75, 0.25], [0.0, 0.0]]
    assert list(texts.text) == ["3", "1", "0", "0"]
    black, white = "#000000", "#ffffff"
    assert list(texts.textfont.color) == [white, black, black, black]
    assert list(figure.layout.xaxis.ticktext) == ["a", "&lt;b&gt;"]
    assert figures.escape("x" * 40) == "x" * 25 + "..."
