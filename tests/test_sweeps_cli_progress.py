"""What ``run`` says while it runs: how long it will take, a log's lines, and lines of JSON."""

import io
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

import sweeps.running.sweep
from sweeps import cli
from sweeps.budget import Budget
from sweeps.cli import json_lines
from sweeps.cli.progress import Best, Display, Progress
from sweeps.running.events import (
    EpochDone,
    Event,
    Note,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from sweeps.running.sweep import SweepEnd

ADAM = {
    "optimizer": "adam",
    "learning_rate": 0.00123456,
    "beta1": 0.9,
    "beta2": math.inf,
    "model": {},
}


class Sweep:
    """A sweep on a scripted clock: one epoch a second, of one trial at a time."""

    def __init__(self, *, ended: int = 0, **budget: float) -> None:
        self.time = 100.0
        self.trial = ended
        limits = Budget(**budget)  # type: ignore[arg-type]
        self.progress = Progress(limits, varying=["optimizer"], now=lambda: self.time)
        for number in range(ended):
            self.progress.add_earlier(number, 7, "stalled", None)

    def train(self, epochs: int, *, outcome: str | None = "stalled") -> list[Event]:
        """Train the next trial; None as its outcome: it runs on."""
        events: list[Event] = [TrialStarted(self.trial, ADAM)]
        events += [EpochDone(self.trial, e, 0.5, 1, 0.5, 1.0) for e in range(1, epochs + 1)]
        if outcome is not None:
            events.append(TrialEnded(self.trial, outcome, "so", epochs, 1, 0.5))
        self.trial += 1
        for event in events:
            self.progress.add(event)
            self.time += isinstance(event, EpochDone)
        return events


def test_line_of_a_trial_says_what_is_off_as_the_tables_do() -> None:
    varying = ["optimizer", "learning_rate", "clip_norm", "schedule", "dropout"]
    state = Progress(Budget(3), varying=varying, now=lambda: 0.0)
    adam = {"optimizer": "adam", "schedule": "constant", "learning_rate": 0.01, "clip_norm": 1e6}
    shown = []
    armijo = {"optimizer": "armijo", "shrink": 0.5, "dropout": 0.2}
    for number, params in enumerate((adam, armijo)):
        state.add(TrialStarted(number, params))
        state.add(EpochDone(number, 1, 0.5, 1, 0.5, 0.1))
        out = io.StringIO()
        Console(file=out, width=100).print(state.render())
        assert ("by line search" in out.getvalue()) == (number == 1)
        ended = TrialEnded(number, "stalled", "so", 2, 1, 0.5)
        state.add(ended)
        shown.append(state.ended_line(ended, width=120).split("of 2")[1].strip())
    assert shown == ["adam lr=0.01 clip_norm=none schedule=constant", "armijo dropout=0.2"]


def test_of_equal_scores_the_display_names_the_one_of_the_lower_loss() -> None:
    found = [(2, 1.0, 0.7), (4, 1.0, 0.5), (5, 1.0, 0.5), (6, 0.9, 0.1)]
    state = Progress(Budget(7), now=lambda: 0.0)
    for trial, score, loss in found:
        state.add_earlier(trial, 3, "stalled", Best(trial, 3, score, loss))
    assert "best score 1.0000 (trial 4, epoch 3)" in state.state_line()
    state.add(TrialStarted(1, ADAM))
    state.add(EpochDone(1, 1, 1.0, 1, 1.0, 0.1, best_val_loss=0.3))
    assert "best score 1.0000 (trial 1, epoch 1)" in state.state_line()
    state.add(TrialEnded(1, "stalled", "so", 1, 1, 1.0, best_val_loss=0.6))
    assert "best score 1.0000 (trial 4, epoch 3)" in state.state_line()


def test_time_to_go_is_told_at_this_runs_pace_once_a_twentieth_of_the_budget_is_spent() -> None:
    sweep = Sweep(trials=40, ended=10)
    sweep.train(7)
    assert sweep.progress.seconds_left() is None
    assert "to go" not in sweep.progress.state_line()
    for epochs in (5, 6):
        sweep.train(epochs)
    # Three trials of this run took 18 seconds, and 27 are left.
    assert sweep.progress.seconds_left() == pytest.approx(27 * 6.0)
    assert "0:00:18 elapsed, about 0:02:42 to go, 1.0 epochs/s" in sweep.progress.state_line()
    for _ in range(27):
        sweep.train(3)
    assert sweep.progress.seconds_left() is None


def test_trials_behind_are_counted_among_those_that_ended() -> None:
    sweep = Sweep(trials=9)
    sweep.train(3)
    sweep.train(2, outcome="behind")
    sweep.train(1, outcome=None)
    assert sweep.progress.state_line().startswith(
        "6 epochs, 3 of 9 trials: 1 train, 2 ended; best score 0.5000 (trial 0, epoch 1); 0:00:06"
    )


def test_paused_trials_are_counted_apart_and_go_on_when_promoted() -> None:
    sweep = Sweep(epochs=40)
    for _ in range(3):
        sweep.train(1, outcome=None)
        sweep.progress.add(TrialPaused(sweep.trial - 1, 1, 0.5, "third of 3"))
    assert "3 of 40 epochs, 3 trials: 0 train, 3 paused, 0 ended" in sweep.progress.state_line()
    sweep.progress.add(TrialPromoted(1, 2))
    sweep.progress.add(EpochDone(1, 2, 0.7, 2, 0.7, 1.0))
    sweep.time += 1.0
    line = sweep.progress.state_line()
    assert "4 of 40 epochs, 3 trials: 1 train, 2 paused, 0 ended" in line
    # At one epoch a second.
    assert "best score 0.7000 (trial 1, epoch 2); 0:00:04 elapsed, about 0:00:36 to go" in line


def test_epochs_that_are_trained_again_are_no_progress() -> None:
    sweep = Sweep(epochs=40)
    sweep.train(5, outcome=None)
    sweep.trial = 0
    sweep.train(3, outcome=None)
    assert "5 of 40 epochs, 1 trial:" in sweep.progress.state_line()


def test_minutes_that_are_left_are_the_time_to_go() -> None:
    sweep = Sweep(minutes=2.0, epochs=10_000)
    sweep.train(15)
    assert sweep.progress.seconds_left() == pytest.approx(105.0)


def test_log_gets_the_state_every_30_seconds() -> None:
    sweep = Sweep(trials=90)
    text = io.StringIO()
    with Display(sweep.progress, Console(file=text, width=80), is_quiet=False) as display:
        for _ in range(35):
            for event in sweep.train(2):
                display.show(event)
    states = [line for line in text.getvalue().splitlines() if " of 90 trials: " in line]
    assert len(states) == 2
    assert sum(line.startswith("trial ") for line in text.getvalue().splitlines()) == 35


def parse(line: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            TrialStarted(3, ADAM),
            {"trial": 3, "params": ADAM | {"beta2": None}},
        ),
        (
            EpochDone(3, 5, math.nan, None, math.nan, 0.25),
            {"epoch": 5, "score": None, "best_epoch": None, "best_score": None},
        ),
        (TrialPaused(3, 4, math.nan, "7th of 20"), {"epoch": 4, "best_score": None}),
        (TrialPromoted(3, 5), {"trial": 3, "epoch": 5}),
        (TrialEnded(3, "diverged", "loss\nis inf", 7, None, None), {"reason": "loss\nis inf"}),
        (Note('a "quoted" \x1b[31m line'), {"text": 'a "quoted" \x1b[31m line'}),
    ],
)
def test_each_event_is_one_line_of_json(event: Event, expected: dict[str, Any]) -> None:
    line = json_lines.event_line(event)
    assert "\n" not in line
    assert line.isascii()
    values = parse(line)
    assert values["event"] == type(event).__name__
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (("done", None, 0), 0),
        (("failed", "five in a row", 1), 1),
        (("interrupted", None, 130), 130),
    ],
)
def test_json_lines_are_all_that_stands_on_standard_output(
    write_study: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    end: tuple[str, str | None, int],
    code: int,
) -> None:
    scores = [0.3, 0.6, 0.5]
    curves = [[score + 0.01 * i for score in scores] for i in range(13)]
    write_study("relation", [*curves, [0.1, math.nan]], outcomes={13: "diverged"})

    def run(config: Any, *, on_event: Callable[[Event], None], **_: Any) -> SweepEnd:
        sys.stdout.write("printed by an objective of one's own\n")
        for event in Sweep(trials=2).train(3):
            on_event(event)
        return SweepEnd(config.study, "sqlite:///x", *end)

    monkeypatch.setattr(sweeps.running.sweep, "run", run)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["run", "relation-cnn", "--study", "relation", "--json-lines"])
    assert exit_.value.code == code
    captured = capsys.readouterr()
    lines = [parse(line) for line in captured.out.splitlines()]
    assert [line["event"] for line in lines] == [
        "TrialStarted", "EpochDone", "EpochDone", "EpochDone", "TrialEnded", "SweepEnded",
    ]  # fmt: skip
    last = lines[-1]
    assert (last["ending"], last["reason"], last["exit_code"]) == (*end[:2], code)
    assert last["num_trials"] == 14
    assert [row["trial"] for row in last["ranked"]] == list(range(12, 2, -1))
    first = last["ranked"][0]
    assert (first["rank"], first["best_epoch"], first["last_epoch"]) == (1, 2, 3)
    assert first["best_score"] == pytest.approx(0.72)
    assert first["params"]["optimizer"] == "adam"
    assert ("to carry on: bestepoch run" in captured.err) == (code == 130)


def test_mistake_leaves_standard_output_empty(
    folder: object, capsys: pytest.CaptureFixture[str]
) -> None:
    for args in (["--trials", "0"], ["--quiet"]):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["run", "relation-cnn", "--json-lines", *args])
        assert exit_.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
