"""What any executor's trainers do with commands: one suite for all of them."""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import CLASSES, PATIENCE_S, VALIDATION, make_params, write_objective

from objectives.api import EpochReport, FusionKey, find_fusion_key
from search_spaces.hparams import Hparams
from sweeps.trainers.executor import Report
from sweeps.trainers.local_executor import LocalExecutor
from sweeps.trainers.messages import Answer, Command, Load, Loaded, Place, Save, Stop

Segments = tuple[tuple[int, int], ...]
LANES = itertools.count(0, 10)
EXECUTORS: dict[str, Callable[[], LocalExecutor]] = {"local": LocalExecutor}


class Trainers:
    """An executor with two trainers, which gives a command and waits for its answer."""

    def __init__(self, executor: LocalExecutor, objective: Path) -> None:
        self.executor = executor
        self.loaded: Loaded = executor.load(make_order(objective))
        for index, device in enumerate(self.loaded.devices):
            executor.start(index, device)

    def obey(self, command: Command, trainer: int = 0) -> Answer:
        self.executor.send(trainer, command)
        (report,) = self.wait()
        assert isinstance(report, tuple)
        index, answer = report
        assert index == trainer
        assert isinstance(answer, Answer), answer
        assert answer.lane == command.lane
        return answer

    def wait(self) -> list[Report]:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            reports = self.executor.wait(1.0)
            if reports:
                return reports
        raise AssertionError("no answer came")


def make_order(objective: Path, **given: Any) -> Load:
    settings: dict[str, Any] = {
        "objective": str(objective),
        "data": None,
        "label": "label",
        "model": {"hidden": 5, "mode": "fine"},
        "device": "cpu",
        "num_trainers": 2,
        "precision": "float32",
        "seed": 3,
        "metric": "macro-f1",
        "step_limit_s": 60.0,
        "max_epochs": 40,
    }
    return Load(**(settings | given))


@pytest.fixture(scope="module", params=list(EXECUTORS))
def trainers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trainers]:
    objective = write_objective(tmp_path_factory.mktemp("objective"))
    with EXECUTORS[request.param]() as executor:
        yield Trainers(executor, objective)


@pytest.fixture
def lane() -> int:
    """Number of a lane that no other test has, and nor have the few behind it."""
    return next(LANES)


def make_key(**given: Any) -> FusionKey:
    return find_fusion_key(Hparams.model_validate(make_params(**given)))


def place(
    trial: int,
    state: Path | None = None,
    *,
    segments: Segments = (),
    best_epoch: int | None = None,
    **given: Any,
) -> Place:
    return Place(trial, 100 + trial, make_params(**given), segments, best_epoch, state)


def tell(lane: int, *, data_epoch: int = 0, mode: str = "fine", **given: Any) -> Command:
    return Command(lane, make_key(mode=mode), data_epoch, **given)


def same(reports: tuple[EpochReport, ...]) -> list[tuple[Any, ...]]:
    """Return all of the reports but what the clock has measured."""
    return [
        (
            *(one.slot, one.epoch, one.train_loss, one.val_loss, one.grad_norm, one.error),
            *(*one.counts.right.tolist(), *one.counts.predicted.tolist()),
        )
        for one in reports
    ]


def test_data_are_described(trainers: Trainers) -> None:
    loaded = trainers.loaded
    assert loaded.class_names == CLASSES
    assert (loaded.facts.num_train, loaded.facts.num_validation) == (91, VALIDATION)
    assert sum(loaded.facts.train_shares) == pytest.approx(1.0)
    assert loaded.targets is not None
    assert set(loaded.targets) <= {0, 1, 2}
    assert len(loaded.targets) == VALIDATION
    assert loaded.devices == ("cpu", "cpu")
    assert len(loaded.fingerprint) == 64
    assert {"torch", "numpy"} <= set(loaded.versions)
    assert "91 train, 31 validation, 11 test examples of 3 classes" in loaded.notes[0]


def test_placed_trials_train_an_epoch_with_each_command(trainers: Trainers, lane: int) -> None:
    first = trainers.obey(tell(lane, place=(place(5), place(3, learning_rate=0.1))))
    assert [(one.slot, one.epoch) for one in first.reports] == [(5, 1), (3, 1)]
    assert first.path == "stacked"
    assert first.seconds > 0.0
    for one in first.reports:
        assert one.error is None
        assert one.counts.matrix is not None
        assert one.counts.matrix.sum() == VALIDATION
    second = trainers.obey(tell(lane))
    assert [(one.slot, one.epoch) for one in second.reports] == [(5, 2), (3, 2)]


def test_trials_report_the_same_in_any_company_and_any_trainer(
    trainers: Trainers, lane: int
) -> None:
    together = trainers.obey(tell(lane, place=(place(5), place(3, learning_rate=0.1))))
    alone = trainers.obey(tell(lane + 1, place=(place(3, learning_rate=0.1),)), trainer=1)
    assert same(together.reports)[1:] == same(alone.reports)
    later = trainers.obey(tell(lane + 2, data_epoch=7, place=(place(5),)))
    assert same(later.reports) != same(together.reports)[:1]  # another order of the data


def test_commands_of_two_trainers_are_obeyed_side_by_side(trainers: Trainers, lane: int) -> None:
    for trainer in (0, 1):
        trainers.executor.send(trainer, tell(lane, place=(place(trainer),)))
    answers: dict[int, Any] = {}
    while len(answers) < 2:
        answers.update(report for report in trainers.wait() if isinstance(report, tuple))
    assert [answers[trainer].reports[0].slot for trainer in (0, 1)] == [0, 1]


def test_dropped_trial_leaves_and_its_neighbour_does_not_notice(
    trainers: Trainers, lane: int
) -> None:
    trainers.obey(tell(lane, place=(place(5), place(3))))
    trainers.obey(tell(lane + 1, place=(place(3),)))
    after = trainers.obey(tell(lane, drop=(5,), place=(place(7),)))
    alone = trainers.obey(tell(lane + 1))
    assert [one.slot for one in after.reports] == [3, 7]
    assert same(after.reports)[:1] == same(alone.reports)


def test_saved_weights_and_predictions_are_those_of_the_kept_epoch(
    trainers: Trainers, lane: int, tmp_path: Path
) -> None:
    first = trainers.obey(tell(lane, place=(place(5, learning_rate=0.05),)))
    second = trainers.obey(tell(lane, keep=(5,)))
    path = tmp_path / "new folder" / "weights.safetensors"
    saving = tell(lane, save=(Save(5, path),), drop=(5,), is_trained=False, is_closed=True)
    answer = trainers.obey(saving)
    assert answer.reports == ()
    (saved,) = answer.saved
    assert saved.trial == 5
    assert saved.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert saved.predictions is not None
    counted = np.bincount(np.frombuffer(saved.predictions, dtype=np.uint8), minlength=3)
    assert counted.tolist() == first.reports[0].counts.predicted.tolist()
    assert counted.tolist() != second.reports[0].counts.predicted.tolist()


def test_paused_trial_goes_on_as_if_it_had_never_stood_still(
    trainers: Trainers, lane: int, tmp_path: Path
) -> None:
    for each in (lane, lane + 1):
        trainers.obey(tell(each, place=(place(5), place(3))))
    path = tmp_path / "states.safetensors"
    pausing = tell(lane, checkpoint=path, checkpointed=(5,), drop=(5,), is_trained=False)
    assert trainers.obey(pausing).reports == ()
    whole = trainers.obey(tell(lane + 1))
    resumed = trainers.obey(tell(lane, place=(place(5, path, segments=((0, 1),)),)))
    assert [(one.slot, one.epoch) for one in resumed.reports] == [(3, 2), (5, 2)]
    assert sorted(same(resumed.reports)) == sorted(same(whole.reports))


@pytest.mark.parametrize("file", ["whole", "cut", "gone", "never written", "of another"])
def test_trial_goes_on_in_another_trainer_from_what_is_left_of_its_state(
    trainers: Trainers, lane: int, tmp_path: Path, file: str
) -> None:
    """The state was written after epoch 1, and three more were trained: one is not seen here."""
    path = tmp_path / "states.safetensors"
    rates = {5: 0.01, 3: 0.1, 7: 0.03}
    first = trainers.obey(
        tell(lane, place=tuple(place(n, learning_rate=rate) for n, rate in rates.items()))
    )
    written = (7,) if file == "of another" else (5, 3, 7)
    trainers.obey(tell(lane, keep=(3,), checkpoint=path, checkpointed=written))
    third = trainers.obey(tell(lane))
    expected = trainers.obey(tell(lane, keep=(5,)))
    if file == "cut":
        path.write_bytes(path.read_bytes()[:-13])
    elif file == "gone":
        path.unlink()
    state = None if file == "never written" else path
    places = [
        place(n, state, segments=((0, 3),), best_epoch=best, learning_rate=rates[n])
        for n, best in ((5, 3), (3, 1), (7, None))
    ]
    moved = trainers.obey(tell(lane, data_epoch=3, place=tuple(places)), trainer=1)
    is_damaged = file in ("cut", "gone", "of another")
    again = [note for note in moved.notes if "they are trained again" in note]
    assert len(again) == is_damaged
    assert same(moved.reports) == same(expected.reports)
    # What was kept has moved along, or was found again, in the state or after it.
    counted = {trial: counts.matrix for trial, counts in moved.best_counts}
    assert list(counted) == [5, 3]
    for report in (third.reports[0], first.reports[1]):
        assert np.array_equal(counted[report.slot], report.counts.matrix)
    for trial in (5, 3):
        files = tmp_path / "here", tmp_path / "there"
        for trainer, weights in enumerate(files):
            told = tell(lane, save=(Save(trial, weights),), is_trained=False)
            trainers.obey(told, trainer=trainer)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_trials_whose_clocks_differ_are_trained_again_and_go_on_in_one_lane(
    trainers: Trainers, lane: int, tmp_path: Path
) -> None:
    segments: dict[int, Segments] = {5: ((0, 2), (7, 1)), 3: ((0, 3),), 2: ((9, 1),)}
    paths = {trial: tmp_path / f"states-{trial}.safetensors" for trial in segments}
    pause = {
        trial: {"checkpoint": path, "checkpointed": (trial,), "drop": (trial,)}
        for trial, path in paths.items()
    }
    trainers.obey(tell(lane, place=(place(5), place(3))))
    trainers.obey(tell(lane))
    trainers.obey(tell(lane, **pause[5]))
    trainers.obey(tell(lane, **pause[3], is_trained=False))
    at_seven = place(5, paths[5], segments=((0, 2),))
    trainers.obey(tell(lane + 1, data_epoch=7, place=(at_seven,)))
    paths[5].unlink()
    trainers.obey(tell(lane + 1, **pause[5], is_trained=False))
    trainers.obey(tell(lane + 2, data_epoch=9, place=(place(2),)))
    trainers.obey(tell(lane + 2, **pause[2], is_trained=False))
    answers = []
    for trainer in (0, 1):
        states = {**paths, 5: None, 3: None} if trainer else paths
        places = [place(n, states[n], segments=each) for n, each in segments.items()]
        told = tell(lane + 3, data_epoch=11, place=tuple(places))
        answers.append(same(trainers.obey(told, trainer=trainer).reports))
    assert [(one[0], one[1]) for one in answers[0]] == [(5, 4), (3, 4), (2, 2)]
    assert answers[0] == answers[1]


def test_files_that_cannot_be_written_are_said_and_the_lane_trains_on(
    trainers: Trainers, lane: int, tmp_path: Path
) -> None:
    first = trainers.obey(tell(lane, place=(place(5), place(3))))
    assert first.is_written
    full = tmp_path / "no folder"
    full.write_text("a file")
    answer = trainers.obey(
        tell(
            lane,
            keep=(3,),
            save=(Save(3, full / "w.safetensors"),),
            checkpoint=full / "s.safetensors",
            checkpointed=(5,),
            drop=(3,),
        )
    )
    assert not answer.is_written
    (note,) = answer.notes
    assert note.startswith("trials that pause must be trained again to go on: ")
    assert (answer.saved, [trial for trial, _ in answer.unsaved]) == ((), [3])
    assert [(one.slot, one.epoch) for one in answer.reports] == [(5, 2)]


def test_epoch_that_is_stopped_leaves_the_states_before_it(
    trainers: Trainers, lane: int, tmp_path: Path
) -> None:
    places = tuple(place(n, mode="slow") for n in (5, 3))
    trainers.obey(tell(lane, mode="slow", place=places))
    expected = trainers.obey(tell(lane, mode="slow"))
    trainers.obey(tell(lane, mode="slow", drop=(5, 3), is_closed=True, is_trained=False))
    trainers.obey(tell(lane + 1, mode="slow", place=places))
    path = tmp_path / "states.safetensors"
    trainers.executor.send(0, tell(lane + 1, mode="slow"))
    trainers.executor.send(0, Stop(path))
    ((_, stopped),) = trainers.wait()
    assert isinstance(stopped, Answer)
    assert (stopped.is_stopped, stopped.reports, sorted(stopped.kept)) == (True, (), [3, 5])
    # One that comes too late is not answered: the next command is.
    trainers.executor.send(0, Stop(path))
    places = tuple(place(n, path, segments=((0, 1),), mode="slow") for n in (5, 3))
    resumed = trainers.obey(tell(lane + 2, mode="slow", data_epoch=1, place=places))
    assert same(resumed.reports) == same(expected.reports)


def test_trial_that_cannot_be_trained_again_is_refused(trainers: Trainers, lane: int) -> None:
    told = tell(lane, mode="raises", place=(place(5, mode="raises", segments=((0, 2),)),))
    answer = trainers.obey(told)
    ((trial, reason),) = answer.refused
    assert (trial, answer.reports) == (5, ())
    assert "KeyError: 'seven'" in reason


@pytest.mark.parametrize(
    ("mode", "reason"), [("cannot", "ValueError: no such model"), ("leaves", "SystemExit: 7")]
)
def test_model_that_cannot_be_built_is_refused(
    trainers: Trainers, lane: int, mode: str, reason: str
) -> None:
    told = tell(lane, mode=mode, place=(place(5, mode=mode), place(3, mode=mode)))
    answer = trainers.obey(told)
    assert [trial for trial, _ in answer.refused] == [5, 3]
    assert all(text.startswith(reason) for _, text in answer.refused)
    assert (answer.reports, answer.path) == ((), "")
    closed = trainers.obey(tell(lane, mode=mode, drop=(5, 3), is_trained=False, is_closed=True))
    assert closed.reports == ()


@pytest.mark.parametrize(
    ("mode", "reason"), [("raises", "KeyError: 'seven'"), ("exits", "SystemExit: enough")]
)
def test_model_whose_forward_raises_reports_an_error_in_its_own_lane(
    trainers: Trainers, lane: int, mode: str, reason: str
) -> None:
    fine = trainers.obey(tell(lane, place=(place(3),)))
    answer = trainers.obey(tell(lane + 1, mode=mode, place=(place(5, mode=mode),)))
    errors = [text for _, text in answer.refused] + [one.error for one in answer.reports]
    (error,) = errors
    assert error is not None
    assert error.startswith(reason)
    after = trainers.obey(tell(lane))
    assert (fine.reports[0].error, after.reports[0].error) == (None, None)


def test_closed_lane_can_be_opened_anew(trainers: Trainers, lane: int) -> None:
    first = trainers.obey(tell(lane, place=(place(5),)))
    trainers.obey(tell(lane, drop=(5,), is_trained=False, is_closed=True))
    again = trainers.obey(tell(lane, place=(place(5),)))
    assert same(again.reports) == same(first.reports)
