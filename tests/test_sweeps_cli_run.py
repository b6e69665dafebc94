"""What ``run`` shows while a sweep runs and in the end; the sweep itself is a fake."""

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from written import ADAM, EACH_OUTCOME, SGD, write_each_outcome

import sweeps.running.sweep
from sweeps.budget import Budget
from sweeps.cli.progress import MAX_LISTED, Best, Display, Progress
from sweeps.cli.run import head_lines, make_progress
from sweeps.running.events import EpochDone, Note, TrialEnded, TrialStarted
from sweeps.running.sweep import SweepEnd

Call = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")


def fake_run(end: tuple[str, str | None, int], *events: Any) -> Callable[..., SweepEnd]:
    def run(config: Any, *, on_event: Callable[[Any], None], **_: Any) -> SweepEnd:
        for event in events:
            on_event(event)
        return SweepEnd(config.study, "sqlite:///x", *end)

    return run


@pytest.mark.parametrize(
    ("end", "trials", "code", "words"),
    [
        (("done", None, 0), EACH_OUTCOME, 0, ""),
        (("done", None, 0), EACH_OUTCOME[2:], 1, "no trial of study relation got a score"),
        (("failed", "five in a row", 1), EACH_OUTCOME, 1, "failed: five in a row"),
        (("time is up", None, 0), EACH_OUTCOME, 0, "time is up: 12 of 250 epochs, 5 trials: 4"),
        (("interrupted", None, 130), EACH_OUTCOME, 130, ": 4 ended, 1 unfinished, which"),
    ],
)
def test_run_exits_by_how_the_sweep_ended(
    call: Call,
    end: tuple[str, str | None, int],
    trials: list[Any],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_each_outcome(trials)
    monkeypatch.setattr(sweeps.running.sweep, "run", fake_run(end))
    args = ["run", "relation-cnn", "--study", "relation", "--set", "space.optimizer='adam'"]
    assert call(*args) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert ("1 unfinished" in captured.err) == (end[0] in ("interrupted", "time is up"))
    again = "to carry on: bestepoch run --like relation --study relation\n"
    assert (again in captured.err) == (end[0] in ("interrupted", "time is up"))


def test_ctrl_c_that_nobody_caught_is_an_interruption(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: Any, **__: Any) -> SweepEnd:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps.running.sweep, "run", run)
    assert call("run", "relation-cnn") == 130
    assert capsys.readouterr().err == "interrupted: nothing had begun\n"


def test_run_prints_a_line_a_trial_the_ranks_and_what_to_do_next(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_each_outcome()
    events = [
        TrialStarted(0, ADAM),
        Note("one slot: it has [a] reason"),
        Note("one slot: it has [a] reason"),
        Note("trainer 0 died"),
        EpochDone(0, 1, 0.5, 1, 0.5, 0.1),
        TrialEnded(0, "stalled", "no rise", 15, 9, 0.7132),
        TrialEnded(4, "failed", "RuntimeError: no", 0, None, None),
    ]
    monkeypatch.setattr(sweeps.running.sweep, "run", fake_run(("done", None, 0), *events))
    assert call("run", "relation-cnn", "--study", "relation", "--storage", "bestepoch.db") == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "budget    250 epochs in total\n" in out
    assert re.search(r"^so far    \d+ of 250 epochs, 5 trials: 4 ended$", out, re.MULTILINE)
    line = (
        "trial   0 stalled    0.7132 at epoch  9 of 15  adam lr=0.00123 dropout=0.457 batch=50\n"
    )
    assert line[:70] in out
    assert "trial   4 failed     RuntimeError: no\n" in out
    assert out.count("note: one slot: it has [a] reason\n") == 1
    assert "note: trainer 0 died\n" in out
    assert "trial 4 failed: it failed\n" in out
    tail = out.splitlines()[-3:]
    assert tail == [
        "  bestepoch show relation 0 --storage bestepoch.db",
        "  bestepoch results relation --storage bestepoch.db",
        "  bestepoch dashboard --storage bestepoch.db",
    ]


def test_quiet_run_prints_the_table_alone(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_each_outcome()
    events = [TrialEnded(0, "stalled", "no rise", 15, 9, 0.7132)]
    monkeypatch.setattr(sweeps.running.sweep, "run", fake_run(("done", None, 0), *events))
    assert call("run", "relation-cnn", "--study", "relation", "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["rank", "trial"]
    assert not any("bestepoch show" in line or "trial   0" in line for line in lines)


def test_long_study_shows_its_head(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_each_outcome([(ADAM, [0.01 * number], "stalled") for number in range(1, 34)])
    monkeypatch.setattr(sweeps.running.sweep, "run", fake_run(("done", None, 0)))
    assert call("run", "relation-cnn", "--study", "relation", "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[2:12]] == [str(n) for n in range(32, 22, -1)]
    assert lines[12] == "... 23 more: bestepoch results relation"


def begin(ended: set[int], *, target: int = 24) -> tuple[Progress, list[float]]:
    clock = [100.0]
    progress = Progress(Budget(trials=target), now=lambda: clock[0])
    for number in ended:
        progress.add_earlier(number, 3, "stalled", Best(number, 3, 0.4, 0.6))
    return progress, clock


def draw(progress: Progress) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=80, force_terminal=True, color_system=None).print(progress.render())
    return text.getvalue().splitlines()


def test_display_counts_trials_of_earlier_runs_and_those_resumed() -> None:
    progress, clock = begin({0, 1, 2})
    progress.add(TrialStarted(3, ADAM))  # for the second time: its trainer died
    progress.add(TrialStarted(4, SGD))
    assert "5 of 24 trials" in draw(progress)[0]
    assert draw(progress)[1].rstrip() == "trials    2 train, 3 ended"
    progress.add(EpochDone(3, 1, 0.5, 1, 0.5, 0.1))
    clock[0] += 10.0
    progress.add(TrialEnded(3, "stalled", "no rise", 7, 1, 0.5))
    progress.add(TrialEnded(3, "stalled", "no rise", 7, 1, 0.5))  # told twice
    lines = draw(progress)
    assert lines[1].rstrip() == "trials    1 train, 4 ended"
    assert lines[2].rstrip() == "best      score 0.5000 (trial 3, epoch 1)"
    # Of one trial it cannot be said how long twenty will take.
    assert "0:00:10 elapsed, 0.1 epochs/s" in lines[3]


def test_display_takes_back_the_best_of_a_trial_that_diverged() -> None:
    progress, _ = begin({0})
    progress.add(TrialStarted(1, ADAM))
    progress.add(EpochDone(1, 1, 0.9, 1, 0.9, 0.1))
    assert "0.9000 (trial 1, epoch 1)" in draw(progress)[2]
    progress.add(TrialEnded(1, "diverged", "loss is not a number", 2, 1, 0.9))
    assert "0.4000 (trial 0, epoch 3)" in draw(progress)[2]


def test_display_lists_at_most_20_trials_in_80_columns() -> None:
    progress, _ = begin(set(), target=300)
    for number in range(100, 123):
        progress.add(TrialStarted(number, ADAM))
        progress.add(EpochDone(number, 117, 0.5, 113, 0.51, 0.1))
    lines = draw(progress)
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines if line.split()[1:2] == ["117"]]
    assert len(rows) == MAX_LISTED
    assert rows[0] == ["100", "117", "0.5000", "0.5100", "@", "113", "adam", "0.00123"]
    assert lines[-1] == "... 3 more"


def test_terminal_gets_a_display_and_no_line_a_trial() -> None:
    text = io.StringIO()
    printer = Console(file=text, width=80, force_terminal=True)
    progress, _ = begin(set())
    with Display(progress, printer, is_quiet=False) as display:
        display.show(TrialStarted(0, ADAM))
        display.show(TrialEnded(0, "stalled", "no rise", 7, 1, 0.5))
    assert "1 of 24 trials" in text.getvalue()
    assert "trial   0 stalled" not in text.getvalue()


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("armijo", ["dropout"]),
        ("sgd", ["learning_rate", "dropout", "momentum"]),
        (["adam", "armijo"], ["optimizer", "learning_rate", "dropout", "beta1", "beta2"]),
    ],
)
def test_head_names_what_the_optimizers_have(optimizer: Any, expected: list[str]) -> None:
    config = sweeps.load_config("tabular-mlp", [f"space.optimizer={optimizer!r}"])
    assert make_progress(config).varying == expected


def test_head_counts_one_as_one() -> None:
    model = {"hidden_width": 16, "hidden_depth": 2}
    space = {"optimizer": "adam", "learning_rate": 0.1, "beta1": 0.9, "beta2": 0.99}
    space |= {"batch_size": 200, "class_weights": "none", "model": model}
    config = sweeps.load_config("tabular-mlp", space=space, trials=1)
    (first, *_) = EACH_OUTCOME
    write_each_outcome([first], name=config.study)
    text = "\n".join(head_lines(config, make_progress(config), width=200))
    assert "budget    1 trial\n" in text
    assert "1 hyperparameter varies: dropout; 8 fixed\n" in text
    assert ", 1 of 1 trial: 1 ended; for more give a larger --max-total-epochs or --trials" in text
