"""Examples of several labels each: trained and counted as a plain loop would.

61 training examples in batches of 20 (the last has 1), 17 features, layers of 13, 11 labels.
"""

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import nn

from objectives.api import Data, EpochReport, Split, find_fusion_key
from objectives.data.checks import checked
from objectives.lanes.batches import batch_order
from objectives.lanes.trainer import ModelTrainer
from objectives.metrics import count_predictions, make_metric
from objectives.optimizers import losses
from search_spaces.hparams import Hparams
from sweeps import cli
from tests.rounding import Rounding, compare_runs

pytestmark = pytest.mark.usefixtures("one_thread")

C = 11
NAMES = tuple(f"l{i}" for i in range(C))


class Labels:
    name = "labels"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(5)
        teacher = rng.normal(size=(17, C))

        def split(num_examples: int) -> Split:
            features = rng.normal(size=(num_examples, 17)).astype(np.float32)
            return Split((features,), features @ teacher > 3.0)

        return checked(Data(split(61), split(41), split(11), NAMES), "labels.py")

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(17, 13), nn.ReLU(), nn.Dropout(0.25), nn.Linear(13, C))


PLAIN = Hparams(batch_size=20, learning_rate=0.01, dropout=0.0)
TRIALS = [
    PLAIN,
    PLAIN.model_copy(update={"class_weights": "balanced", "label_smoothing": 0.1, "dropout": 0.3}),
    PLAIN.model_copy(update={"optimizer": "sgd", "learning_rate": 1e30}),
]


def train(trials: list[Hparams]) -> tuple[list[list[EpochReport]], Any]:
    trainer = ModelTrainer(Labels(), Labels().load(None), data_seed=3)
    lane = trainer.open_lane(find_fusion_key(trials[0]), 0)
    for slot, hparams in enumerate(trials):
        lane.place(slot, 7 if hparams == TRIALS[1] else 11 + slot, hparams)
    reports = [lane.train_epoch() for _ in range(4)]
    return [list(curve) for curve in zip(*reports, strict=True)], lane


def plain_epochs(data: Data, rounding: Rounding) -> list[list[float]]:
    """Train as anyone would, on the batches of the lane; losses and right answers an epoch."""
    torch.manual_seed(11)
    model = Labels().build_model(data).double()
    model[2].p = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    (x, y), (val_x, val_y) = (
        [torch.from_numpy(a).double() for a in (split.inputs[0], split.targets)]
        for split in (data.train, data.validation)
    )
    judge = nn.BCEWithLogitsLoss()
    rows = []
    for epoch in range(1, 5):
        total = 0.0
        for batch in batch_order(3, epoch, num_examples=61, batch_size=20):
            loss = judge(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            rounding.gradients(model.parameters())
            rounding.step(optimizer)
            total += loss.item() * len(batch)
        with torch.no_grad():
            logits = model(val_x)
        right = float(((logits > 0) & (val_y > 0)).sum())
        rows.append([total / 61, judge(logits, val_y).item(), right])
    return rows


def test_labels_train_as_in_a_plain_loop() -> None:
    curve = train([PLAIN])[0][0]
    ours = [[each.train_loss, each.val_loss, float(each.counts.right.sum())] for each in curve]
    compare_runs(ours, partial(plain_epochs, Labels().load(None)), 2 * (17 + 13 + C) + 20)


def as_bits(report: EpochReport) -> tuple[str, ...]:
    numbers = (report.train_loss, report.val_loss, report.grad_norm)
    return (*(number.hex() for number in numbers), str(report.counts.predicted.tolist()))


def test_trial_is_bit_equal_in_company() -> None:
    (alone,), _ = train([TRIALS[1]])
    company, _ = train(TRIALS)
    assert [as_bits(one) for one in company[1]] == [as_bits(one) for one in alone]
    assert not np.isfinite(company[2][-1].train_loss)


def test_kept_predictions_give_the_counts_of_their_epoch_again() -> None:
    (curve,), lane = train([PLAIN])
    lane.keep_best(0)
    true = Labels().load(None).validation.targets
    counts = count_predictions(true, lane.best_predictions(0), num_classes=C)
    for name in ("right", "support", "predicted"):
        assert getattr(counts, name).tolist() == getattr(curve[-1].counts, name).tolist()
    chosen = (lane.best_predictions(0)[:, None].astype(int) >> np.arange(C)) & 1
    present = np.flatnonzero(true.any(axis=0))
    for name, average in (("macro-f1", "macro"), ("weighted-f1", "weighted")):
        expected = sklearn_metrics.f1_score(
            true, chosen, labels=present, average=average, zero_division=0
        )
        assert make_metric(name, NAMES).score(counts) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("is_balanced", [False, True])
def test_loss_is_that_of_bce_with_logits(smoothing: float, is_balanced: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    logits_SBC = torch.randn(3, 5, 7, generator=generator)
    targets_BC = torch.rand(5, 7, generator=generator) > 0.6
    weights_C = losses.balanced_weights(targets_BC, 7)
    present_C = targets_BC.sum(dim=0)
    assert torch.allclose(weights_C, torch.where(present_C > 0, (5 - present_C) / present_C, 0.0))
    kind = "balanced" if is_balanced else "none"
    hparams = Hparams(class_weights=kind, label_smoothing=smoothing)
    criterion = losses.criterion([hparams] * 3, weights_C)
    soft_BC = targets_BC.float() * (1 - smoothing) + smoothing / 2
    judge = nn.BCEWithLogitsLoss(pos_weight=weights_C if is_balanced else None)
    expected_S = torch.stack([judge(logits_BC, soft_BC) for logits_BC in logits_SBC])
    assert torch.allclose(criterion.losses(logits_SBC, targets_BC), expected_S)
    first = criterion.loss_of_first(logits_SBC[0], targets_BC)
    assert torch.allclose(first, expected_S[0])


@pytest.mark.usefixtures("folder")
def test_table_of_several_labels_is_swept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(300, 3))
    labels = x + 0.1 * rng.normal(size=x.shape) > 0.3
    rows = zip(x.tolist(), labels.astype(int).tolist(), strict=True)
    text = "a,b,c,label.hot,label.new,label.red\n"
    text += "".join(f"{','.join(map(str, [*one, *each]))}\n" for one, each in rows)
    (tmp_path / "t.csv").write_text(text)
    options = ["--trials", "2", "--set", "max_epochs=12", "--set", "space.batch_size=[20]"]
    command = ["run", "tabular-mlp", "--data", "t.csv", "--workers", "1", *options]
    with pytest.raises(SystemExit) as exit_:
        cli.main([*command, "--metric", "accuracy"])
    assert exit_.value.code == 2
    assert "accuracy needs one class an example, these have several" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        cli.main(command)
    assert exit_.value.code == 0, capsys.readouterr().err
    connection = sqlite3.connect(tmp_path / "bestepoch.db")
    best = connection.execute("select max(score) from best_epochs").fetchone()[0]
    connection.close()
    assert best > 0.8
