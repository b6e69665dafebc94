"""How many slots a lane gets: by a scripted clock, and by the real one on real lanes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from objectives.api import Data, EpochReport, Split
from objectives.training import capacity
from objectives.training.trainer import ModelTrainer
from search_spaces.hparams import Hparams

CLASSES, FEATURES = 3, 17


@dataclass
class Timed:
    """A lane whose epoch takes so many seconds with its slots, on a clock of its own."""

    seconds: Callable[[int], float]
    clock: list[float]
    opened: list[int]
    slots: set[int] = field(default_factory=set)

    def admit(self, slot: int, seed: int, hparams: Hparams) -> None:
        self.slots.add(slot)

    def train_epoch(self) -> list[EpochReport]:
        self.clock[0] += self.seconds(len(self.slots))
        if self.opened[-1] != len(self.slots):
            self.opened.append(len(self.slots))
        return []


@pytest.mark.parametrize(
    ("seconds", "most", "chosen", "measured"),
    [
        (lambda s: 1.0, 8, 8, [1, 2, 4, 8]),  # a step costs the same, whatever it trains
        (lambda s: s, 8, 1, [1, 2]),  # bound by arithmetic
        (lambda s: s**2, 8, 1, [1, 2]),  # worse together
        (lambda s: {1: 1.0, 2: 1.2, 4: 1.8, 8: 3.59}[s], 64, 4, [1, 2, 4, 8]),  # a tie: fewer
        (lambda s: 1.0, 1, 1, [1]),
        (lambda s: 1.0, 7, 4, [1, 2, 4]),  # 8 could not be filled
        # A look costs little: one doubling more is looked at.
        (lambda s: 0.001 * s, 8, 1, [1, 2, 4]),
        (
            lambda s: 0.001 * {1: 1, 2: 1, 4: 4, 8: 2, 16: 3, 32: 7, 64: 15}[s],
            64,
            16,
            [1, 2, 4, 8, 16, 32, 64],
        ),
    ],
)
def test_doubling_stops_where_a_trial_gets_no_cheaper(
    seconds: Callable[[int], float],
    most: int,
    chosen: int,
    measured: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, opened = [0.0], [0]
    monkeypatch.setattr(capacity, "_now_s", lambda: clock[0])
    choice = capacity.choose_slots(
        lambda: Timed(seconds, clock, opened),  # type: ignore[arg-type, return-value]
        Hparams(),
        most=most,
        num_workers=1,
    )
    assert choice.slots == chosen
    assert [slots for slots, _ in choice.step_s] == measured
    for slots, step_s in choice.step_s:
        assert step_s == pytest.approx(seconds(slots) / capacity.STEPS / slots)


def test_one_bad_figure_does_not_stop_the_doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, opened = [0.0], [0]
    # Its first epochs of two slots are slow: the warm-up and those that are timed.
    slow = iter([5.0] * (1 + capacity._ROUNDS))

    def seconds(slots: int) -> float:
        return next(slow, 1.0) if slots == 2 else 1.0

    monkeypatch.setattr(capacity, "_ENOUGH_S", 100.0)
    monkeypatch.setattr(capacity, "_now_s", lambda: clock[0])
    choice = capacity.choose_slots(
        lambda: Timed(seconds, clock, opened),  # type: ignore[arg-type, return-value]
        Hparams(),
        most=8,
        num_workers=1,
    )
    assert choice.slots == 8


def test_a_lane_is_timed_by_what_its_own_thread_computes() -> None:
    started = capacity._now_s()
    time.sleep(0.3)
    assert torch.cuda.is_available() or capacity._now_s() - started < 0.1


def test_doubling_stops_before_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, opened = [0.0], [0]
    # 100 free; each slot takes 4: two workers leave room for 20, so for 4 slots and not for 8.
    free = iter([100.0, 96.0, 96.0, 88.0, 88.0, 72.0])
    monkeypatch.setattr(capacity, "_free_bytes", lambda: next(free))
    monkeypatch.setattr(capacity, "_now_s", lambda: clock[0])
    choice = capacity.choose_slots(
        lambda: Timed(lambda s: 1.0, clock, opened),  # type: ignore[arg-type, return-value]
        Hparams(),
        most=64,
        num_workers=2,
    )
    assert choice.slots == 4


class Small:
    name = "small"

    def load(self, source: object) -> Data:
        rng = np.random.default_rng(0)

        def split(n: int) -> Split:
            inputs = rng.normal(size=(n, FEATURES)).astype(np.float32)
            return Split((inputs,), rng.integers(0, CLASSES, n))

        return Data(split(41), split(11), split(3), tuple("abc"))

    def build_model(self, data: Data, **model: object) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 13), nn.ReLU(), nn.Linear(13, CLASSES))


@pytest.mark.usefixtures("one_thread")
def test_small_network_gets_more_than_one_slot_and_its_trials_do_not_notice() -> None:
    objective = Small()
    trainer = ModelTrainer(objective, objective.load(None))
    hparams = Hparams(batch_size=5)
    key = trainer.fusion_key(hparams)

    def losses() -> list[float]:
        lane = trainer.open_lane(key, 0)
        lane.admit(0, 7, hparams)
        return [lane.train_epoch()[0].train_loss for _ in range(3)]

    torch.manual_seed(3)
    state = torch.get_rng_state()
    before = losses()
    choice = trainer.choose_slots(key, hparams, most=8, num_workers=1)
    # 20 us of arithmetic in a step of 300: far from a tie, so the clock may be as bad as it likes.
    assert choice.slots >= 2
    assert losses() == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("overrides", "shape"),
    [
        ([], "batches of 200"),
        (["space.model.hidden_width=[16, 32]"], "batches of 200, hidden_width=16"),
        (["try=[{model = {hidden_depth = 3}}]"], "batches of 200, hidden_depth=2"),
    ],
)
def test_shape_of_a_lane_names_what_varies(overrides: list[str], shape: str) -> None:
    import sweeps
    from objectives.api import FusionKey
    from sweeps.engine import describe_shape

    fixed = ["space.model.hidden_width=16", "space.model.hidden_depth=2"]
    config = sweeps.load_config("tabular-mlp", [*fixed, *overrides])
    model = (("hidden_depth", 2), ("hidden_width", 16))
    assert describe_shape(FusionKey(200, model, "gradient"), config) == shape
    assert describe_shape(FusionKey(200, model, "armijo"), config) == f"armijo, {shape}"


def test_line_of_a_choice_reads_well() -> None:
    from objectives.api import SlotChoice
    from sweeps.engine import describe_slots

    choice = SlotChoice(4, ((1, 8577e-6), (2, 310e-6), (4, 123.4e-3)))
    line = describe_slots("batches of 100", choice)
    assert line == "4 slots for batches of 100: 8.6, 0.31, 120 ms a trial's step with 1, 2, 4"
