"""What ``run`` shows while a sweep runs and in the end; the sweep itself is a fake.

``test_sweeps_workers.py`` runs real ones.
"""

import io
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

import sweeps.workers
from storage import recorder, study_recorder
from storage.database import open_database
from storage.records import FinishedTrial, NewTrial, Owner, TrialResult
from sweeps import cli
from sweeps.cli.progress import MAX_LISTED, Best, Display, Progress
from sweeps.events import EpochDone, Note, TrialEnded, TrialStarted, WorkerEnded
from sweeps.workers import SweepEnd

Call = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")

NOW = datetime(2031, 5, 7, 11, 13, 17, tzinfo=UTC)
UUID = "4c0f1f0e-0000-4000-8000-000000000001"
ADAM = {
    "optimizer": "adam",
    "learning_rate": 0.00123456,
    "betas": [0.9, 0.99876],
    "dropout": 0.4567891,
    "batch_size": 50,
    "class_weights": "none",
    "model": {"filters": 150, "vectors": "trainable"},
}
SGD = {name: value for name, value in ADAM.items() if name != "betas"} | {
    "optimizer": "sgd",
    "learning_rate": 0.25,
    "momentum": 0.5,
    "batch_size": 100,
}
#: Parameters, curve and outcome of each trial; trial 1 is the best by its last epoch.
TRIALS: list[tuple[dict[str, Any], list[float], str | None]] = [
    (ADAM, [0.31, 0.7132, 0.69, 0.61], "stalled"),
    (SGD, [0.30, 0.50, 0.70], "exhausted"),
    (ADAM | {"learning_rate": 0.002}, [0.11, math.nan, math.nan], "diverged"),
    (ADAM | {"dropout": 0.2}, [0.20, 0.25], None),
    (ADAM | {"dropout": 0.3}, [], "failed"),
]


def write_study(trials: Sequence[tuple[dict[str, Any], list[float], str | None]] = TRIALS) -> None:
    """Write the study ``relation`` as a sweep would, into bestepoch.db here."""
    with open_database("bestepoch.db", create=True) as db:
        study_recorder.create_study(
            db, study_uuid=UUID, name="relation", objective="relation-cnn", config={}, now=NOW
        )
        for number, (params, curve, outcome) in enumerate(trials):
            (claim,) = recorder.begin_trials(
                db,
                trials=[NewTrial(number, 7, params)],
                study_uuid=UUID,
                owner=Owner(f"t{number}", "node7", 4211, 1.0, "cpu", {}),
                now=NOW,
            )
            if outcome is None:
                continue
            best = max((f1 for f1 in curve if not math.isnan(f1)), default=None)
            result = TrialResult(
                outcome=outcome,
                reason=f"it {outcome}",
                value=best,
                best_epoch=None if best is None else curve.index(best) + 1,
                best_score=best,
                last_epoch=len(curve) or None,
                last_score=curve[-1] if curve else None,
                epochs_run=len(curve),
            )
            recorder.finish_trials(db, [FinishedTrial(claim, result, ())], now=NOW)


def fake_run(end: tuple[str, str | None, int], *events: Any) -> Callable[..., SweepEnd]:
    def run(config: Any, *, force: bool, on_event: Callable[[Any], None]) -> SweepEnd:
        for event in events:
            on_event(event)
        return SweepEnd(config.study, "sqlite:///x", *end)

    return run


@pytest.mark.parametrize(
    ("end", "trials", "code", "words"),
    [
        (("done", None, 0), TRIALS, 0, ""),
        (("done", None, 0), TRIALS[2:], 1, "no trial of study relation got a score"),
        (("failed", "five in a row", 1), TRIALS, 1, "failed: five in a row"),
        (("time is up", None, 0), TRIALS, 0, "time is up: 4 of 24 trials"),
        (("interrupted", None, 130), TRIALS, 130, "interrupted: 4 of 24 trials have ended"),
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
    write_study(trials)
    monkeypatch.setattr(sweeps.workers, "run", fake_run(end))
    args = ["run", "relation-cnn", "--study", "relation", "--set", "space.optimizer='adam'"]
    assert call(*args) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert ("1 unfinished" in captured.err) == (end[0] in ("interrupted", "time is up"))
    again = "bestepoch run relation-cnn --study relation --set 'space.optimizer='\"'\"'adam'"
    assert (again in captured.err) == (end[0] in ("interrupted", "time is up"))


@pytest.mark.parametrize(
    "limit",
    [
        ["--max-minutes", "0.5"],
        ["--max-minutes=0.5"],
        ["--set", "max_minutes=0.5"],
        ["--set=max_minutes=0.5"],
    ],
)
def test_command_that_carries_on_has_no_time_limit(
    call: Call,
    limit: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_study()
    monkeypatch.setattr(sweeps.workers, "run", fake_run(("time is up", None, 0)))
    rest = ["--set", "patience=7", "--trials=24"]
    assert call("run", "relation-cnn", "--study", "relation", *limit, *rest) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("to carry on")]
    again = "bestepoch run relation-cnn --study relation --set patience=7 --trials=24"
    assert line == f"to carry on: {again}"


def test_ctrl_c_that_nobody_caught_is_an_interruption(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: Any, **__: Any) -> SweepEnd:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps.workers, "run", run)
    assert call("run", "relation-cnn") == 130
    assert "to carry on: bestepoch run relation-cnn" in capsys.readouterr().err


def test_run_prints_a_line_a_trial_the_ranks_and_what_to_do_next(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study()
    events = [
        TrialStarted(0, 0, 1, ADAM),
        Note(0, "one slot: it has [a] reason"),
        Note(1, "one slot: it has [a] reason"),
        Note(0, "4 slots: 8.6 ms", about="slots, batches of 50"),
        Note(1, "4 slots: 8.7 ms", about="slots, batches of 50"),
        Note(1, "4 slots: 9.9 ms", about="slots, batches of 100"),
        EpochDone(0, 0, 1, 0.5, 1, 0.5, 0.1),
        TrialEnded(0, 0, "stalled", "no rise", 15, 9, 0.7132),
        TrialEnded(0, 4, "failed", "RuntimeError: no", 0, None, None),
    ]
    monkeypatch.setattr(sweeps.workers, "run", fake_run(("done", None, 0), *events))
    assert call("run", "relation-cnn", "--study", "relation", "--storage", "bestepoch.db") == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "so far    4 of 24 trials have ended\n" in out
    line = "trial  0 stalled    0.7132 at epoch  9 of 15  adam lr=0.00123 dropout=0.457 batch=50\n"
    assert line[:70] in out
    assert "trial  4 failed     RuntimeError: no\n" in out
    assert out.count("note: one slot: it has [a] reason\n") == 1
    notes = [line for line in out.splitlines() if "note: 4 slots" in line]
    assert notes == ["note: 4 slots: 8.6 ms", "note: 4 slots: 9.9 ms"]
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
    write_study()
    events = [TrialEnded(0, 0, "stalled", "no rise", 15, 9, 0.7132)]
    monkeypatch.setattr(sweeps.workers, "run", fake_run(("done", None, 0), *events))
    assert call("run", "relation-cnn", "--study", "relation", "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["rank", "trial"]
    assert not any("bestepoch show" in line or "trial  0" in line for line in lines)


def test_long_study_shows_its_head(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study([(ADAM, [0.01 * number], "stalled") for number in range(1, 34)])
    monkeypatch.setattr(sweeps.workers, "run", fake_run(("done", None, 0)))
    assert call("run", "relation-cnn", "--study", "relation", "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[2:12]] == [str(n) for n in range(32, 22, -1)]
    assert lines[12] == "... 23 more: bestepoch results relation"


def make_progress(ended: set[int], *, target: int = 24) -> tuple[Progress, list[float]]:
    clock = [100.0]
    progress = Progress(
        target=target,
        varying=["optimizer", "learning_rate"],
        ended=ended,
        bests={number: Best(0.4, number, 3) for number in ended},
        now=lambda: clock[0],
    )
    return progress, clock


def draw(progress: Progress) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=80, force_terminal=True, color_system=None).print(progress.render())
    return text.getvalue().splitlines()


def test_display_counts_trials_of_earlier_runs_and_those_resumed() -> None:
    progress, clock = make_progress({0, 1, 2})
    progress.add(TrialStarted(0, 3, 2, ADAM))  # its second attempt
    progress.add(TrialStarted(1, 4, 1, SGD))
    assert "3 of 24 ended, 2 running" in draw(progress)[0]
    progress.add(EpochDone(0, 3, 1, 0.5, 1, 0.5, 0.1))
    clock[0] += 10.0
    progress.add(TrialEnded(0, 3, "stalled", "no rise", 7, 1, 0.5))
    progress.add(TrialEnded(0, 3, "stalled", "no rise", 7, 1, 0.5))  # told twice
    lines = draw(progress)
    assert "4 of 24 ended, 1 running" in lines[0]
    assert lines[1].rstrip() == "best      0.5000, trial 3 at epoch 1"
    # Of one trial it cannot be said how long twenty will take.
    assert "0:00:10 elapsed, 0.1 epochs/s" in lines[2]


def test_display_forgets_the_trials_of_a_worker_that_ended() -> None:
    progress, _ = make_progress(set())
    progress.add(TrialStarted(0, 0, 1, ADAM))
    progress.add(TrialStarted(1, 1, 1, ADAM))
    progress.add(WorkerEnded(0, "interrupted"))
    assert "0 of 24 ended, 1 running" in draw(progress)[0]


def test_display_takes_back_the_best_of_a_trial_that_diverged() -> None:
    progress, _ = make_progress({0})
    progress.add(TrialStarted(0, 1, 1, ADAM))
    progress.add(EpochDone(0, 1, 1, 0.9, 1, 0.9, 0.1))
    assert "0.9000, trial 1 at epoch 1" in draw(progress)[1]
    progress.add(TrialEnded(0, 1, "diverged", "loss is not a number", 2, 1, 0.9))
    assert "0.4000, trial 0 at epoch 3" in draw(progress)[1]


def test_display_lists_at_most_20_trials_in_80_columns() -> None:
    progress, _ = make_progress(set(), target=300)
    for number in range(100, 123):
        progress.add(TrialStarted(0, number, 1, ADAM))
        progress.add(EpochDone(0, number, 117, 0.5, 113, 0.51, 0.1))
    lines = draw(progress)
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines if line.split()[1:2] == ["117"]]
    assert len(rows) == MAX_LISTED
    assert rows[0] == ["100", "117", "0.5000", "0.5100", "@", "113", "adam", "0.00123"]
    assert lines[-1] == "... 3 more"


def test_terminal_gets_a_display_and_no_line_a_trial() -> None:
    text = io.StringIO()
    printer = Console(file=text, width=80, force_terminal=True)
    progress, _ = make_progress(set())
    with Display(progress, printer, is_quiet=False) as display:
        display.show(TrialStarted(0, 0, 1, ADAM))
        display.show(TrialEnded(0, 0, "stalled", "no rise", 7, 1, 0.5))
    assert "1 of 24 ended" in text.getvalue()
    assert "trial  0 stalled" not in text.getvalue()


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
    assert cli.run._list_varying(config) == expected


def test_head_counts_one_as_one() -> None:
    model = {"hidden_width": 16, "hidden_depth": 2}
    space = {"optimizer": "adam", "learning_rate": 0.1, "beta1": 0.9, "beta2": 0.99}
    space |= {"batch_size": 200, "class_weights": "none", "model": model}
    config = sweeps.load_config("tabular-mlp", space=space, trials=1)
    text = "\n".join(cli.run._head_lines(config, num_ended=1, width=200))
    assert ", 1 trial\n" in text
    assert "1 hyperparameter varies: dropout; 8 are fixed\n" in text
    assert "1 of 1 trial has ended; for more give --trials" in text
