"""Schedules of the learning rate: PyTorch's own, a trial at a time and in a lane.

Axes have sizes of their own: 23 training examples in batches of 7, 5 features, 3 classes.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from objectives.api import Data, Split, find_fusion_key
from objectives.lanes.trainer import ModelTrainer
from objectives.optimizers import schedules
from search_spaces.hparams import SCHEDULES, Hparams

EPOCHS = 40
NAN = math.nan

#: Each schedule as it is unless told, and as told; 40 epochs see a cosine rise again.
CASES = [
    Hparams(learning_rate=0.03),
    Hparams(learning_rate=0.03, schedule="plateau"),
    Hparams(learning_rate=0.7, schedule="plateau", factor=0.5, plateau_patience=2),
    Hparams(learning_rate=0.7, schedule="plateau", factor=0.3, plateau_patience=0),
    Hparams(learning_rate=0.03, schedule="cosine"),
    Hparams(learning_rate=0.03, schedule="cosine", schedule_epochs=13),
    Hparams(learning_rate=0.03, schedule="cosine", schedule_epochs=1),
    Hparams(learning_rate=0.03, schedule="step"),
    Hparams(learning_rate=0.03, schedule="step", step_epochs=3, factor=0.7),
    Hparams(learning_rate=0.03, schedule="warmup"),
    Hparams(learning_rate=0.03, schedule="warmup", warmup_epochs=17),
]
VAL_LOSSES = {
    "falls": [1.0 / epoch for epoch in range(1, EPOCHS + 1)],
    "flat": [0.7] * EPOCHS,
    # Better by less than a ten-thousandth is not better.
    "creeps": [0.7 - 1e-6 * epoch for epoch in range(EPOCHS)],
    "waves": [1.0 + math.sin(epoch) - 0.02 * epoch for epoch in range(EPOCHS)],
    "diverges": [0.7, 0.6, math.inf, *[NAN] * (EPOCHS - 3)],
    "never a number": [NAN] * EPOCHS,
}


def name_of(hparams: Hparams) -> str:
    told = [f"{name}={value}" for name, value in hparams if name in hparams.model_fields_set]
    return " ".join(told[2:]) or hparams.schedule


def torch_rates(hparams: Hparams, val_losses: Sequence[float]) -> list[float]:
    """Return the rate of each epoch, as a plain loop would have it."""
    optimizer = torch.optim.SGD([torch.zeros(1)], hparams.learning_rate)
    makers: dict[str, Callable[[], Any]] = {
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "plateau": lambda: lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=hparams.factor, patience=hparams.plateau_patience
        ),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, hparams.schedule_epochs),
        "step": lambda: lr_scheduler.StepLR(optimizer, hparams.step_epochs, hparams.factor),
        "warmup": lambda: lr_scheduler.LinearLR(optimizer, total_iters=hparams.warmup_epochs),
    }
    scheduler = makers[hparams.schedule]()
    rates = []
    for val_loss in val_losses:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([val_loss] if hparams.schedule == "plateau" else []))
    return rates


@pytest.mark.parametrize("val_losses", VAL_LOSSES.values(), ids=VAL_LOSSES)
@pytest.mark.parametrize("hparams", CASES, ids=name_of)
def test_rate_of_each_epoch_equals_that_of_pytorch(
    hparams: Hparams, val_losses: list[float]
) -> None:
    rate, rates = schedules.first_rate(hparams), []
    for epoch, val_loss in enumerate(val_losses, start=1):
        rates.append(rate.learning_rate)
        rate = schedules.next_rate(rate, hparams, epochs=epoch, val_loss=val_loss)
    # Plateau, step and a constant rate are equal to the bit but for the order of products;
    # PyTorch's cosine multiplies its last rate, so its rounding grows from epoch to epoch.
    assert rates == pytest.approx(torch_rates(hparams, val_losses), rel=1e-12, abs=1e-15)


def test_every_schedule_is_tested_and_moves_the_rate() -> None:
    assert {hparams.schedule for hparams in CASES} == set(SCHEDULES)
    for hparams in CASES[1:]:
        # The default patience of 10 falls in epoch 13.
        assert len(set(torch_rates(hparams, VAL_LOSSES["flat"]))) > 1


class Linear:
    """Noise that a linear layer learns by heart, so that validation loss soon rises."""

    name = "linear"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(7)

        def split(num_examples: int) -> Split:
            features = rng.normal(size=(num_examples, 5)).astype(np.float32)
            return Split(inputs=(features,), targets=rng.integers(3, size=num_examples))

        return Data(split(23), split(11), split(2), class_names=("a", "b", "c"))

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 3))


def test_each_slot_of_a_lane_has_its_own_schedule() -> None:
    trainer = ModelTrainer(Linear(), Linear().load(None))
    trials = [one.model_copy(update={"batch_size": 7}) for one in CASES]
    lane = trainer.open_lane(find_fusion_key(trials[0]), 0)
    lane.place(97, 1, Hparams(optimizer="sgd", learning_rate=3e38, schedule="cosine"))
    reported: dict[int, list[tuple[float, float]]] = {slot: [] for slot in range(len(trials))}
    # Trials enter one epoch after another, so that none is of its neighbours' age.
    for clock in range(EPOCHS + len(trials)):
        if clock < len(trials):
            lane.place(clock, 30 + clock, trials[clock])
        if clock == 5:
            lane.drop(97)
        for report in lane.train_epoch():
            if report.slot != 97:
                assert report.epoch == len(reported[report.slot]) + 1
                reported[report.slot].append((report.learning_rate, report.val_loss))
    for slot, hparams in enumerate(trials):
        rates, val_losses = zip(*reported[slot], strict=True)
        assert len(rates) >= EPOCHS
        expected = torch_rates(hparams, val_losses)
        assert rates == pytest.approx(expected, rel=1e-12, abs=1e-15)
    # Its loss does rise: the plateau schedules have fallen, and not at the same epoch.
    falls = [reported[slot][-1][0] < trials[slot].learning_rate for slot in (1, 2, 3)]
    assert all(falls)
