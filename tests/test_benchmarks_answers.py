"""What ``bench_answers.py`` counts: which epoch a tool hands over, and what it scores on test."""

import importlib
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from objectives.api import Split


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent / "benchmarks"), *sys.path])
    return importlib.import_module("bench_answers")


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (1.9, None),  # nothing has been reported yet
        (2.0, None),  # an epoch without a score is no answer
        (3.0, ("0", 2)),
        (6.0, ("1", 1)),
        (9.0, ("1", 1)),  # the earliest of equals
    ],
)
def test_answer_is_the_best_epoch_reported_so_far(
    bench: ModuleType, moment: float, expected: tuple[str, int] | None
) -> None:
    epochs = [
        bench.Epoch(9.0, "2", 7, 0.7),
        bench.Epoch(2.0, "0", 1, -1.0),
        bench.Epoch(5.0, "0", 3, 0.3),
        bench.Epoch(3.0, "0", 2, 0.5),
        bench.Epoch(6.0, "1", 1, 0.7),
    ]
    best = bench.best_at(epochs, moment)
    assert (None if best is None else (best.trial, best.epoch)) == expected


def test_joined_splits_keep_their_examples_and_lengths(bench: ModuleType) -> None:
    def split(count: int, longest: int) -> Split:
        steps = np.arange(count * longest * 2, dtype=np.float32).reshape(count, longest, 2)
        return Split((steps,), np.arange(count), np.full(count, longest))

    short, long = split(3, 5), split(7, 11)
    both = bench.joined(short, long)
    np.testing.assert_array_equal(both.inputs[0][:3, :5], short.inputs[0])
    np.testing.assert_array_equal(both.inputs[0][3:], long.inputs[0])
    assert not both.inputs[0][:3, 5:].any()
    assert both.lengths.tolist() == [5] * 3 + [11] * 7
    assert both.targets.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 6]


def test_spaces_are_settings_of_the_command(bench: ModuleType) -> None:
    for task in bench.TASKS.values():
        space = task.space("mixed")
        text = "\n".join(f"{name} = {bench.inline(spec)}" for name, spec in space.items())
        assert tomllib.loads(text) == space


def test_filter_leaves_the_runs_it_names(bench: ModuleType) -> None:
    runs = list(bench.list_runs(["adult:mixed", "digits::random"], 8, 2))
    named = {(run.task, run.space, run.tool) for run in runs}
    assert named == {("adult", "mixed", tool) for tool in bench.TOOLS} | {
        ("digits", space, "random") for space in ("one", "mixed")
    }
    assert [run.seed for run in runs] == [0] * 7 + [1] * 7


def test_held_out_task_runs_only_if_it_is_named(bench: ModuleType) -> None:
    held_out = {task.name for task in bench.TASKS.values() if task.is_held_out}
    for only in ([], [":mixed:random"]):
        assert not {run.task for run in bench.list_runs(only, 8, 1)} & held_out
    for name in held_out:
        assert {run.task for run in bench.list_runs([name], 8, 1)} == {name}
