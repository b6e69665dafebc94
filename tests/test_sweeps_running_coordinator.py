"""Whole sweeps on scripted trainers: what is commanded, stored and reported, and in which order.

Real trainers run in ``test_sweeps_trainers_local.py``; here their processes are fakes, which train
nothing. Database and Optuna are real.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scripted import (
    CLASSES,
    STUDY,
    Curve,
    ScriptedExecutor,
    make_config,
    of_kind,
    outcomes,
    read,
    run_scripted,
    scores,
)
from sqlalchemy import select

from storage import queries
from storage.database import WEIGHTS_FOLDER, open_database
from storage.schema import PREDICTIONS
from sweeps.running.events import EpochDone, Event, Note, TrialEnded, TrialStarted
from sweeps.trainers.messages import Command

NAN = math.nan
RISING = [0.1 + 0.05 * i for i in range(12)]
PEAK_THEN_STALL = [0.30, 0.90, 0.60, 0.60, 0.60, 0.60]


def weights_of(url: str, row: dict[str, Any]) -> str:
    folder = Path(url.removeprefix("sqlite:///")).with_name(WEIGHTS_FOLDER)
    return (folder / row["weights_file"]).read_text()


def test_trial_that_peaked_and_stalled_is_the_best_with_the_weights_of_its_peak(
    sqlite_url: str,
) -> None:
    config = make_config(sqlite_url, "trials=3")
    end, _ = run_scripted(config, lambda n: PEAK_THEN_STALL if n == 1 else RISING)
    assert (end.ending, end.reason, end.exit_code) == ("done", None, 0)
    assert outcomes(sqlite_url) == {0: "exhausted", 1: "stalled", 2: "exhausted"}
    best = queries.trial(sqlite_url, STUDY, 1)
    assert (best["best_epoch"], best["last_epoch"]) == (2, 6)
    assert read(sqlite_url).loc[1, "rank"] == 1
    assert (best["value"], best["last_score"]) == (0.9, 0.6)
    assert best["weights_sha256"] == "sha of 1"
    assert weights_of(sqlite_url, best) == "epoch 2"
    with open_database(sqlite_url, create=False) as db, db.read() as connection:
        query = select(PREDICTIONS.c.predictions).where(PREDICTIONS.c.trial == 1)
        assert connection.execute(query).scalar_one() == bytes([2])


def test_trainer_is_told_what_to_keep_before_it_trains_on_and_to_save_before_it_drops(
    sqlite_url: str,
) -> None:
    executor = ScriptedExecutor(lambda n: [0.3, 0.5, 0.5, 0.4, 0.4, 0.4])
    run_scripted(make_config(sqlite_url, "trials=1"), executor)
    told = [
        (
            tuple(each.trial for each in command.place),
            command.keep,
            tuple(each.trial for each in command.save),
            command.drop,
            command.is_trained,
            command.is_closed,
        )
        for _, command in executor.commands
    ]
    assert told == [
        ((0,), (), (), (), True, False),
        ((), (0,), (), (), True, False),
        ((), (0,), (), (), True, False),
        *[((), (), (), (), True, False)] * 3,  # an equal score is no new best
        ((), (), (0,), (0,), False, True),
    ]


def test_end_is_stored_only_with_its_weights_and_reported_only_once_stored(
    sqlite_url: str,
) -> None:
    seen: list[tuple[int, str | None]] = []

    class Watched(ScriptedExecutor):
        def send(self, index: int, command: Command) -> None:
            for each in command.save:  # decided, and not yet true
                assert pd.isna(read(sqlite_url).loc[each.trial, "outcome"])
                assert not each.path.exists()
                seen.append((each.trial, None))
            super().send(index, command)

    def check(event: Event) -> None:
        if isinstance(event, TrialStarted):
            assert event.trial in read(sqlite_url).index
        elif isinstance(event, EpochDone):
            recorded = scores(sqlite_url)[event.trial]
            assert recorded[event.epoch - 1] == pytest.approx(event.score, abs=0.0, nan_ok=True)
        elif isinstance(event, TrialEnded):
            row = queries.trial(sqlite_url, STUDY, event.trial)
            assert (row["outcome"], row["reason"]) == (event.outcome, event.reason)
            if event.best_epoch is not None:
                assert weights_of(sqlite_url, row) == f"epoch {event.best_epoch}"
            seen.append((event.trial, event.outcome))

    curves: list[Curve] = [RISING, PEAK_THEN_STALL, ["error"], [NAN], [0.4, NAN]]
    run_scripted(make_config(sqlite_url, "trials=5"), Watched(curves.__getitem__), on_event=check)
    assert sorted(seen, key=lambda each: each[0]) == [
        (0, None), (0, "exhausted"),
        (1, None), (1, "stalled"),
        (2, "failed"),
        (3, "diverged"),  # without a score there are no weights
        (4, None), (4, "diverged"),
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_diverged_trial_never_wins_and_keeps_its_real_best(sqlite_url: str, bad: float) -> None:
    config = make_config(sqlite_url, "trials=2")
    run_scripted(config, lambda n: [0.95, bad] if n == 0 else [0.4] * 5)
    row = queries.trial(sqlite_url, STUDY, 0)
    assert (row["outcome"], row["value"]) == ("diverged", 0.0)
    assert (row["best_epoch"], row["best_score"]) == (1, 0.95)
    assert list(read(sqlite_url)["rank"].isna()) == [True, False]
    recorded = scores(sqlite_url)[0]
    assert recorded[0] == 0.95
    # Predictions of a model whose loss is not a number are no score.
    assert math.isnan(recorded[1])


def test_trial_behind_has_its_best_score_as_value(sqlite_url: str) -> None:
    # The first ten stall; each is a peer, so that the pruner has something to compare with.
    def script(n: int) -> list[float]:
        return [0.8] * 5 if n < 10 else [0.3, 0.2, 0.2, 0.2, 0.2]

    run_scripted(make_config(sqlite_url, "trials=12"), script)
    ended = outcomes(sqlite_url)
    assert [ended[n] for n in range(12)] == ["stalled"] * 10 + ["behind"] * 2
    assert read(sqlite_url).loc[11, "value"] == 0.3


def test_every_epoch_is_recorded_and_the_classes_of_the_best_one(sqlite_url: str) -> None:
    run_scripted(make_config(sqlite_url, "trials=2"), lambda n: RISING)
    assert scores(sqlite_url) == {0: pytest.approx(RISING), 1: pytest.approx(RISING)}
    frame = queries.curves(sqlite_url, STUDY)
    assert set(frame["grad_norm"]) == {1.5}
    classes = queries.class_scores(sqlite_url, STUDY)
    assert list(classes["class_name"]) == [*CLASSES, *CLASSES]
    assert list(classes["f1"]) == pytest.approx([RISING[-1]] * 4)
    placed = queries.trial(sqlite_url, STUDY, 1)
    assert (placed["path"], placed["segments"]) == ("plain", [[0, 12]])


def test_failed_trials_store_their_reasons_and_the_study_goes_on(sqlite_url: str) -> None:
    curves: list[Curve] = [[0.5] * 5, ["RuntimeError: boom"], [0.5, "KeyError: 7"], [0.5] * 5]
    executor = ScriptedExecutor([*curves, [0.5] * 5].__getitem__, refused=frozenset({4}))
    end, _ = run_scripted(make_config(sqlite_url, "trials=5"), executor)
    assert end.ending == "done"
    assert outcomes(sqlite_url) == dict(
        enumerate(["stalled", "failed", "failed", "stalled", "failed"])
    )
    rows = [queries.trial(sqlite_url, STUDY, n) for n in (1, 2, 4)]
    reasons = ["RuntimeError: boom", "KeyError: 7", "ValueError: no such model"]
    assert [row["reason"] for row in rows] == reasons
    assert [row["epochs_run"] for row in rows] == [0, 1, 0]
    assert [row["value"] for row in rows] == [None] * 3


def test_run_gives_up_after_five_failures_in_a_row(sqlite_url: str) -> None:
    end, events = run_scripted(make_config(sqlite_url, "trials=40"), lambda n: ["KeyError: 7"])
    assert (end.ending, end.exit_code) == ("failed", 1)
    assert end.reason is not None
    assert end.reason.startswith("8 trials in a row failed")
    assert end.reason.endswith("KeyError: 7")
    assert len(of_kind(events, TrialEnded)) == 8  # those that were in flight


def test_one_success_ends_a_row_of_failures(sqlite_url: str) -> None:
    config = make_config(sqlite_url, "trials=12", "slots=1")
    end, _ = run_scripted(config, lambda n: [0.5] * 5 if n % 5 == 4 else ["KeyError: 7"])
    assert end.ending == "done"


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        (lambda n: [NAN], "failed"),
        (lambda n: [0.0] * 5, "done"),  # a score of 0 is one
    ],
)
def test_study_in_which_no_trial_got_a_score_has_failed(
    sqlite_url: str, script: Callable[[int], Curve], ending: str
) -> None:
    end, _ = run_scripted(make_config(sqlite_url, "trials=3"), script)
    assert end.ending == ending
    if ending == "failed":
        assert end.reason == "no trial got a score; trial 2: the validation loss is nan at epoch 1"


def test_one_trainer_with_fixed_slots_gives_the_same_sweep_each_time(sqlite_url: str) -> None:
    seen = []
    for name in ("first", "second"):
        config = make_config(sqlite_url, "trials=31", f"study={name}", "sampler.name=random")
        run_scripted(config, lambda n: [0.5 + 0.01 * (n % 7), *[0.5 - 0.01 * (n % 3)] * 11])
        frame = queries.results(sqlite_url, name)
        seen.append(frame[["trial", "params", "outcome", "value", "epochs_run"]])
    assert seen[0].equals(seen[1])


def test_trials_of_several_shapes_train_in_lanes_of_their_own_on_two_trainers(
    sqlite_url: str,
) -> None:
    shapes = ("space.batch_size=[20, 50, 100]", "workers=2", "trials=23")
    executor = ScriptedExecutor(lambda n: RISING, max_slots=3)
    config = make_config(sqlite_url, *shapes)
    end, _ = run_scripted(config.model_copy(update={"slots": None}), executor)
    assert end.ending == "done"
    sizes = {(index, command.lane): command.key.batch_size for index, command in executor.commands}
    assert {index for index, _ in sizes} == {0, 1}
    for (index, command), place in (
        (each, place) for each in executor.commands for place in each[1].place
    ):
        assert place.params["batch_size"] == sizes[index, command.lane]
        device = queries.trial(sqlite_url, STUDY, place.trial)["device"]
        assert device == ("cpu", "cuda:1")[index]


def test_note_about_lanes_is_reported_once(sqlite_url: str) -> None:
    class Noting(ScriptedExecutor):
        def answer_to(self, index: int, command: Command) -> Any:
            from dataclasses import replace

            answer = ScriptedExecutor.answer_to(self, index, command)
            return None if answer is None else replace(answer, notes=("one slot: why",))

    _, events = run_scripted(make_config(sqlite_url, "trials=9"), Noting(lambda n: RISING))
    assert [note.text for note in of_kind(events, Note)] == ["one slot: why"]
