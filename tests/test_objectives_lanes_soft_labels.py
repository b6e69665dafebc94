"""Trials that train on class distributions, in a lane of several.

61 training examples in batches of 20 (the last has 1), layers of 17, 13 and 3.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from objectives.api import Data, EpochReport, Split, find_fusion_key
from objectives.lanes.batches import batch_order
from objectives.lanes.trainer import ModelTrainer, fingerprint
from search_spaces.hparams import Hparams
from tests.rounding import Rounding, compare_runs

C = 3


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class SoftMlp:
    """An objective whose targets are the shares of a teacher."""

    name = "soft-mlp"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(5)
        teacher = rng.normal(size=(17, C))

        def split(num_examples: int) -> Split:
            features = rng.normal(size=(num_examples, 17)).astype(np.float32)
            shares = np.exp(features @ teacher + np.array([0.0, 0.5, 1.0]))
            shares /= shares.sum(axis=1, keepdims=True)
            return Split(inputs=(features,), targets=shares.astype(np.float32))

        return Data(split(61), split(41), split(11), class_names=("a", "b", "c"))

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return nn.Sequential(
            nn.Linear(17, 13), nn.ReLU(), nn.Dropout(model.get("dropout", 0.25)), nn.Linear(13, C)
        )


def with_targets(data: Data, *, one_hot: bool) -> Data:
    """Return the data with the likeliest class of each row, as a class or as a distribution."""

    def convert(split: Split) -> Split:
        classes = split.targets.argmax(axis=1)
        shares: npt.NDArray[np.float32] = np.eye(C, dtype=np.float32)[classes]
        return replace(split, targets=shares if one_hot else classes.astype(np.int64))

    return replace(
        data,
        train=convert(data.train),
        validation=convert(data.validation),
        test=convert(data.test),
    )


def train(data: Data, trials: list[Hparams], *, epochs: int = 4) -> list[list[EpochReport]]:
    """Return the curve of each trial, all in one lane; its slot decides its seed."""
    trainer = ModelTrainer(SoftMlp(), data, data_seed=3)
    lane = trainer.open_lane(find_fusion_key(trials[0]), 0)
    for slot, hparams in enumerate(trials):
        lane.place(slot, 7 if hparams == TRIALS[1] else 11 + slot, hparams)
    return [
        list(curve) for curve in zip(*(lane.train_epoch() for _ in range(epochs)), strict=True)
    ]


TRIALS = [
    Hparams(batch_size=20, learning_rate=0.01),
    Hparams(batch_size=20, learning_rate=0.02, class_weights="balanced", label_smoothing=0.1),
    Hparams(batch_size=20, optimizer="sgd", learning_rate=1e12),  # diverges
]


def as_bits(report: EpochReport) -> tuple[str, ...]:
    numbers = (report.train_loss, report.val_loss, report.grad_norm)
    return (*(number.hex() for number in numbers), str(report.counts.matrix.tolist()))


def plain_epochs(
    data: Data, hparams: Hparams, seed: int, num_epochs: int, rounding: Rounding
) -> list[list[float]]:
    """Train as anyone would, on the batches of the lane; losses and right answers an epoch."""
    torch.manual_seed(seed)
    model = SoftMlp().build_model(data, dropout=0.0).double()
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[hparams.optimizer](
        model.parameters(), lr=hparams.learning_rate
    )
    (x, y), (val_x, val_y) = (
        [torch.from_numpy(a) for a in (split.inputs[0].astype(np.float64), split.targets)]
        for split in (data.train, data.validation)
    )
    if y.is_floating_point():
        y, val_y = y.double(), val_y.double()
    rows = []
    for epoch in range(1, num_epochs + 1):
        total = 0.0
        for batch in batch_order(3, epoch, num_examples=61, batch_size=hparams.batch_size):
            loss = nn.functional.cross_entropy(
                model(x[batch]), y[batch], label_smoothing=hparams.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            rounding.gradients(model.parameters())
            rounding.step(optimizer)
            total += loss.item() * len(batch)
        with torch.no_grad():
            logits = model(val_x)
        # The true class of a distribution is its likeliest.
        true = val_y.argmax(dim=1) if val_y.is_floating_point() else val_y
        right = float((logits.argmax(dim=1) == true).sum())
        rows.append([total / 61, nn.functional.cross_entropy(logits, val_y).item(), right])
    return rows


def assert_plain(curve: list[EpochReport], data: Data, hparams: Hparams, seed: int) -> None:
    compare_runs(
        [[report.train_loss, report.val_loss, report.counts.right.sum()] for report in curve],
        partial(plain_epochs, data, hparams, seed, len(curve)),
        2 * (17 + 13 + C) + hparams.batch_size,
    )


def test_distributions_and_classes_train_as_a_plain_loop_does() -> None:
    data = SoftMlp().load(None)
    # Balanced weights are left out: PyTorch divides them otherwise for distributions.
    trials = [
        TRIALS[0].model_copy(update={"dropout": 0.0, "label_smoothing": share})
        for share in (0.0, 0.2)
    ]
    targets = (data, with_targets(data, one_hot=True), with_targets(data, one_hot=False))
    for each in targets:
        for slot, (hparams, curve) in enumerate(zip(trials, train(each, trials), strict=True)):
            assert_plain(curve, each, hparams, 11 + slot)


def test_trial_on_distributions_is_bit_equal_in_company() -> None:
    data = SoftMlp().load(None)
    (alone,) = train(data, [TRIALS[1]])
    beside = train(data, TRIALS)[1]
    assert [as_bits(one) for one in beside] == [as_bits(one) for one in alone]
    assert not np.isfinite(train(data, TRIALS)[2][-1].train_loss)


def test_curve_equals_that_of_a_plain_loop() -> None:
    data = SoftMlp().load(None)
    hparams = Hparams(batch_size=61, optimizer="sgd", learning_rate=0.5, dropout=0.0)
    ours = train(data, [hparams], epochs=5)[0]
    assert_plain(ours, data, hparams, 11)
    # The true class is the likeliest of the distribution.
    true = np.asarray(data.validation.targets).argmax(axis=1)
    support = np.bincount(true, minlength=C).tolist()
    assert all(report.counts.support.tolist() == support for report in ours)


def test_fingerprint_tells_distributions_from_others_and_from_classes() -> None:
    data = SoftMlp().load(None)
    moved = np.array(data.train.targets)
    moved[4, :2] = moved[4, 1::-1]
    others = [
        data,
        with_targets(data, one_hot=True),
        with_targets(data, one_hot=False),
        replace(data, train=replace(data.train, targets=moved)),
    ]
    prints = {fingerprint(one) for one in others}
    assert len(prints) == len(others)
    assert fingerprint(SoftMlp().load(None)) in prints
