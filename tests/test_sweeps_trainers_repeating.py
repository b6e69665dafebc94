"""Training again what was trained before: bit for bit the same, together where it was together."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small import make_params, write_objective

from objectives.api import Lane, TrialState, find_fusion_key
from objectives.lanes.checkpoints import save_states
from objectives.lanes.lane import ModelLane
from objectives.lanes.trainer import ModelTrainer
from objectives.registry import find_objective
from search_spaces.hparams import Hparams
from sweeps.trainers.messages import Place
from sweeps.trainers.repeating import repeat

pytestmark = pytest.mark.usefixtures("one_thread")

Segments = tuple[tuple[int, int], ...]
PARAMS = make_params()
HPARAMS = Hparams.model_validate(PARAMS)


@pytest.fixture
def open_lane(tmp_path: Path) -> Callable[[int], Lane]:
    objective = find_objective(str(write_objective(tmp_path)))
    trainer = ModelTrainer(objective, objective.load(None), data_seed=3)
    return lambda clock: trainer.open_lane(find_fusion_key(HPARAMS), clock)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The trials of each epoch of a lane."""
    epochs: list[tuple[int, ...]] = []
    train_epoch = ModelLane.train_epoch

    def note(self: ModelLane) -> object:
        reports = train_epoch(self)
        epochs.append(tuple(each.slot for each in reports))
        return reports

    monkeypatch.setattr(ModelLane, "train_epoch", note)
    return epochs


def place(trial: int, *segments: tuple[int, int], best_epoch: int | None = None) -> Place:
    return Place(trial, 100 + trial, PARAMS, segments, best_epoch)


def train(open_lane: Callable[[int], Lane], told: Place, epochs: int | None = None) -> TrialState:
    """Train a trial alone, epoch by epoch of its segments; return its state after so many."""
    clocks = [start + i for start, count in told.segments for i in range(count)][:epochs]
    state: TrialState | None = None
    for epoch, clock in enumerate(clocks, start=1):
        lane = open_lane(clock)
        lane.place(0, told.seed, HPARAMS, state)
        lane.train_epoch()
        if epoch == told.best_epoch:
            lane.keep_best(0)
        state = lane.copy_states([0])[0]
    assert state is not None
    return state


def as_bytes(state: TrialState, folder: Path) -> bytes:
    save_states({0: state}, folder / "state")
    return (folder / "state").read_bytes()


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([place(5, (0, 3), best_epoch=2)], [(5,)] * 3),
        # Two that were in one lane are trained together, a third apart from where it left them.
        (
            [place(5, (0, 3)), place(3, (0, 3), best_epoch=3), place(2, (0, 1), (4, 2))],
            [(5, 3, 2), (5, 3), (5, 3), (2,), (2,)],
        ),
        # They have met later.
        ([place(5, (1, 1), (7, 2)), place(3, (7, 2))], [(5,), (5, 3), (5, 3)]),
        ([], []),
    ],
)
def test_states_are_those_of_the_first_time(
    open_lane: Callable[[int], Lane],
    trained: list[tuple[int, ...]],
    places: list[Place],
    expected: list[tuple[int, ...]],
    tmp_path: Path,
) -> None:
    states = repeat(open_lane, places, {})
    again = list(trained)
    assert set(states) == {each.trial for each in places}
    for told in places:
        first = train(open_lane, told)
        assert as_bytes(states[told.trial], tmp_path) == as_bytes(first, tmp_path)
    assert again == expected
