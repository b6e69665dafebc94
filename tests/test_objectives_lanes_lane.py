"""What a trial does is its own: not its slot's, its neighbours' or its lane's.

Axes have sizes of their own: 63 and 83 training examples in batches of 20 (the last has 3),
layers of 17, 29, 13 and 3, windows of 150 and 6 numbers, 19 filters.
"""

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from objectives.api import Data, EpochReport, FusionKey, Objective, Split, find_fusion_key
from objectives.data import relations
from objectives.lanes.batches import batch_order
from objectives.lanes.trainer import ModelTrainer
from objectives.relation_cnn import RelationCnn
from search_spaces.hparams import RATED, Hparams
from tests.rounding import Rounding, compare_runs

BATCH_SIZE = 20
NUM_CLASSES = 3
CNN = {"filters": 19, "position_dim": 1}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Mlp:
    """A user's objective: plain layers, the first of which all slots give the same input."""

    name = "mlp"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(5)
        teacher = rng.normal(size=(17, NUM_CLASSES))

        def split(num_examples: int) -> Split:
            features = rng.normal(size=(num_examples, 17)).astype(np.float32)
            # No class is as frequent as another, or balanced weights would be 1.
            scores = features @ teacher + np.array([0.0, 1.0, 3.0])
            return Split(inputs=(features,), targets=scores.argmax(axis=1))

        return Data(split(63), split(41), split(11), class_names=("a", "b", "c"))

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return nn.Sequential(
            nn.Linear(17, 29),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(29, 13),
            nn.Tanh(),
            nn.Dropout(0.25),
            nn.Linear(13, NUM_CLASSES),
        )


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first sentences of the shipped data, in a user's file: 83 to train on."""
    wanted = {"train": 83, "validation": 37, "test": 5}
    taken: Counter[str] = Counter()
    path = tmp_path_factory.mktemp("data") / "relations.tsv"
    with gzip.open(relations.SHIPPED, "rt") as shipped, path.open("w") as file:
        file.write(next(shipped))
        for line in shipped:
            split = line.rsplit("\t", 1)[1].strip()
            if taken[split] < wanted[split]:
                taken[split] += 1
                file.write(line)
    return path


@pytest.fixture(scope="module", params=["mlp", "frozen", "trainable"])
def place(request: pytest.FixtureRequest, sentences: Path) -> tuple[ModelTrainer, FusionKey]:
    """A trainer and the key of its lane, of each objective in turn."""
    if request.param == "mlp":
        trainer, model = ModelTrainer(Mlp(), Mlp().load(None)), {}
    else:
        objective: Objective = RelationCnn()
        trainer = ModelTrainer(objective, objective.load(sentences), data_seed=3)
        model = {**CNN, "vectors": request.param}
    return trainer, find_fusion_key(Hparams(batch_size=BATCH_SIZE, model=model))


@dataclass(frozen=True)
class Trial:
    """When a trial enters a lane (data epochs behind it), where, and for how long."""

    hparams: Hparams
    slot: int = 0
    seed: int = 7
    enters: int = 0
    epochs: int = 4
    best_epoch: int = 2


@dataclass
class Curve:
    """A trial's reports and its kept weights, as values that compare bit by bit."""

    reports: list[tuple[str, ...]]
    weights: dict[str, bytes]


def as_bits(report: EpochReport) -> tuple[str, ...]:
    # Hexadecimal floats differ in the last bit and call NaN by one name.
    numbers = (report.train_loss, report.val_loss, report.grad_norm, report.learning_rate)
    return (
        str(report.epoch),
        *(number.hex() for number in numbers),
        str(report.counts.matrix.tolist()),
        str(report.error),
    )


def train(
    place: tuple[ModelTrainer, FusionKey], trials: list[Trial], tmp_path: Path, opened: int = 0
) -> list[Curve]:
    """Train the trials in one lane that opens at a data epoch; curves in the order of trials."""
    trainer, key = place
    lane = trainer.open_lane(key, opened)
    curves = [Curve([], {}) for _ in trials]
    for clock in range(opened, max(trial.enters + trial.epochs for trial in trials)):
        for trial in trials:
            if trial.enters == clock:
                lane.place(trial.slot, trial.seed, trial.hparams)
        running = {
            trial.slot: (number, trial)
            for number, trial in enumerate(trials)
            if trial.enters <= clock < trial.enters + trial.epochs
        }
        reports = {report.slot: report for report in lane.train_epoch()}
        assert reports.keys() == running.keys()
        for slot, (number, trial) in running.items():
            curves[number].reports.append(as_bits(reports[slot]))
            if reports[slot].epoch == trial.best_epoch:
                lane.keep_best(slot)
            if reports[slot].epoch == trial.epochs:
                path = tmp_path / "best.safetensors"
                lane.save_best(slot, path)
                kept = safetensors.torch.load_file(path)
                curves[number].weights = {n: t.numpy().tobytes() for n, t in kept.items()}
                lane.drop(slot)
    return curves


# Half-dropped, with moments: the trial that is compared.
SUBJECT = Trial(Hparams(learning_rate=0.01, beta1=0.8, beta2=0.99, dropout=0.4))
DIVERGING = Trial(Hparams(optimizer="sgd", learning_rate=3e38), slot=1, seed=8)
# One of each optimizer, and all that a neighbour may do and the subject does not.
OTHERS = [
    Trial(
        Hparams(optimizer=optimizer, learning_rate=rate, dropout=dropout, **more),
        slot=slot,
        seed=slot + 6,
    )
    for slot, (optimizer, rate, dropout, more) in enumerate(
        [
            ("sgd", 0.1, 0.0, {"class_weights": "balanced", "momentum": 0.9, "nesterov": True}),
            ("adam", 0.003, None, {"clip_norm": 0.05, "label_smoothing": 0.2}),
            ("adadelta", 1.0, 0.3, {"rho": 0.5}),
            ("adamax", 0.01, 0.7, {"class_weights": "balanced", "schedule": "cosine"}),
            ("rmsprop", 0.003, 0.1, {"momentum": 0.5, "weight_decay": 0.01}),
            ("adam", 0.3, 0.5, {"class_weights": "balanced", "weight_decay": 0.1}),
            ("adamw", 0.01, 0.2, {"weight_decay": 0.1, "schedule": "step", "step_epochs": 1}),
            ("nadam", 0.01, 0.2, {"schedule": "warmup", "clip_norm": 0.5}),
            ("adagrad", 0.1, 0.2, {"schedule": "plateau", "plateau_patience": 0}),
        ],
        start=5,
    )
]
# The slots of trials that come and go beside the subject.
LEAVING = Trial(Hparams(learning_rate=0.02), slot=2, seed=21, epochs=2)
TAKING_OVER = Trial(
    Hparams(optimizer="rmsprop", learning_rate=0.01), slot=2, seed=22, enters=2, epochs=2
)

COMPANY: Mapping[str, list[Trial]] = {
    "again": [SUBJECT],
    "slot 4": [replace(SUBJECT, slot=4)],
    "admitted last": [DIVERGING, replace(LEAVING, epochs=4), replace(SUBJECT, slot=4)],
    "diverging neighbour": [SUBJECT, DIVERGING],
    "other optimizers": [SUBJECT, *OTHERS, DIVERGING],
    "neighbour replaced half-way": [SUBJECT, LEAVING, TAKING_OVER, DIVERGING],
    "neighbour enters late": [SUBJECT, TAKING_OVER],
    "left alone half-way": [replace(LEAVING, slot=0), replace(SUBJECT, slot=1)],
    "same trial twice": [SUBJECT, replace(SUBJECT, slot=3)],
}


@pytest.fixture(scope="module")
def alone(
    place: tuple[ModelTrainer, FusionKey], tmp_path_factory: pytest.TempPathFactory
) -> Curve:
    return train(place, [SUBJECT], tmp_path_factory.mktemp("alone"))[0]


@pytest.mark.parametrize("company", COMPANY)
def test_curve_and_weights_are_bit_equal_in_company(
    place: tuple[ModelTrainer, FusionKey], alone: Curve, company: str, tmp_path: Path
) -> None:
    trials = COMPANY[company]
    curves = train(place, trials, tmp_path)
    for trial, curve in zip(trials, curves, strict=True):
        if trial.seed == SUBJECT.seed:
            assert curve == alone
        if trial is DIVERGING:
            assert curve.reports[-1][1] == "nan"


def test_every_trial_of_a_mixed_lane_equals_itself_alone(
    place: tuple[ModelTrainer, FusionKey], tmp_path: Path
) -> None:
    crowd = train(place, [DIVERGING, *OTHERS], tmp_path)
    for trial, curve in zip([DIVERGING, *OTHERS], crowd, strict=True):
        assert train(place, [replace(trial, slot=0)], tmp_path) == [curve]


def test_late_trial_equals_one_alone_in_a_lane_of_its_clock(
    place: tuple[ModelTrainer, FusionKey], alone: Curve, tmp_path: Path
) -> None:
    late = replace(SUBJECT, enters=2)
    # Of the same optimizer as an older one, whose bias correction is not the late one's.
    beside = train(place, [DIVERGING, OTHERS[1], late], tmp_path)[2]
    (own_lane,) = train(place, [late], tmp_path, opened=2)
    assert beside == own_lane
    # The clock decides the batches, so this is not the curve of a trial that enters at once.
    assert own_lane.reports != alone.reports


def test_seed_and_dropout_change_the_curve(
    place: tuple[ModelTrainer, FusionKey], alone: Curve, tmp_path: Path
) -> None:
    other_rate = SUBJECT.hparams.model_copy(update={"dropout": 0.2})
    models_own = SUBJECT.hparams.model_copy(update={"dropout": None})
    trials = [replace(SUBJECT, seed=9, slot=1)] + [
        replace(SUBJECT, hparams=hparams, slot=slot)
        for slot, hparams in ((2, other_rate), (3, models_own))
    ]
    curves = [alone, *train(place, trials, tmp_path)]
    assert len({curve.reports[0] for curve in curves}) == len(curves)


def test_kept_weights_are_those_of_their_epoch(
    place: tuple[ModelTrainer, FusionKey], tmp_path: Path
) -> None:
    kept, ended = train(place, [replace(SUBJECT, slot=1), replace(SUBJECT, epochs=2)], tmp_path)
    last = train(place, [replace(SUBJECT, best_epoch=4)], tmp_path)[0]
    assert kept.weights == ended.weights
    assert kept.weights != last.weights


def test_masks_follow_the_trial_s_own_epoch(tmp_path: Path) -> None:
    # With one example to train on, the data epoch decides nothing: only the masks could differ.
    data = Mlp().load(None)
    one = Split(inputs=(data.train.inputs[0][:1],), targets=data.train.targets[:1])
    trainer = ModelTrainer(Mlp(), replace(data, train=one))
    key = find_fusion_key(SUBJECT.hparams)
    early = train((trainer, key), [SUBJECT], tmp_path)
    assert train((trainer, key), [replace(SUBJECT, enters=2)], tmp_path, opened=2) == early


#: Inputs of each layer on the way from a batch to a gradient and back, and the batch.
NUM_TERMS = 2 * (17 + 29 + 13 + NUM_CLASSES) + BATCH_SIZE


def plain_epochs(
    data: Data, seed: int, hparams: Hparams, data_seed: int, rounding: Rounding
) -> list[list[float]]:
    """Train a module as anyone would, on the batches of the lane; four numbers an epoch."""
    torch.manual_seed(seed)
    module = Mlp().build_model(data).double()
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    shared = {"lr": hparams.learning_rate, "weight_decay": hparams.weight_decay}
    adam = {"betas": hparams.betas} | shared
    optimizer: torch.optim.Optimizer = {
        "adam": lambda p: torch.optim.Adam(p, **adam),
        "adamw": lambda p: torch.optim.AdamW(p, **adam),
        "adamax": lambda p: torch.optim.Adamax(p, **adam),
        "nadam": lambda p: torch.optim.NAdam(p, **adam),
        "rmsprop": lambda p: torch.optim.RMSprop(p, momentum=hparams.momentum, **shared),
        "adagrad": lambda p: torch.optim.Adagrad(p, **shared),
        "adadelta": lambda p: torch.optim.Adadelta(p, rho=hparams.rho, **shared),
        "sgd": lambda p: torch.optim.SGD(p, momentum=hparams.momentum, **shared),
    }[hparams.optimizer](module.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(
        optimizer, hparams.step_epochs or 100, hparams.factor or 0.1
    )
    inputs, targets = (
        torch.from_numpy(data.train.inputs[0]).double(),
        torch.from_numpy(data.train.targets),
    )
    counts = torch.bincount(targets, minlength=NUM_CLASSES).double()
    balanced = len(targets) / (NUM_CLASSES * counts)
    criterion = nn.CrossEntropyLoss(
        weight=balanced if hparams.class_weights != "none" else None,
        label_smoothing=hparams.label_smoothing,
    )
    records = []
    for data_epoch in (1, 2, 3, 4):
        batches = batch_order(
            data_seed, data_epoch, num_examples=len(targets), batch_size=BATCH_SIZE
        )
        module.train()
        loss_sum = norm_sum = 0.0
        for batch in batches:
            optimizer.zero_grad()
            loss = criterion(module(inputs[batch]), targets[batch])
            loss.backward()
            rounding.gradients(module.parameters())
            # It returns the norm before clipping; 1e12 is never reached and changes nothing.
            bound = hparams.clip_norm or 1e12
            norm_sum += float(nn.utils.clip_grad_norm_(module.parameters(), bound))
            rounding.step(optimizer)
            loss_sum += loss.item() * len(batch)
        scheduler.step()
        module.eval()
        with torch.no_grad():
            logits = module(torch.from_numpy(data.validation.inputs[0]).double())
            val_targets = torch.from_numpy(data.validation.targets)
            val_loss = nn.functional.cross_entropy(logits, val_targets)
        right = float((logits.argmax(dim=1) == val_targets).sum())
        records.append([loss_sum / len(targets), val_loss.item(), norm_sum / len(batches), right])
    return records


ADDED = {
    "weight_decay": 0.01,
    "clip_norm": 0.5,
    "label_smoothing": 0.1,
    "schedule": "step",
    "step_epochs": 2,
    "factor": 0.5,
}


@pytest.mark.parametrize("added", [{}, ADDED], ids=["plain", "added"])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_lane_equals_a_plain_loop_for_every_optimizer(
    class_weights: str, added: dict[str, Any]
) -> None:
    data = Mlp().load(None)
    trainer = ModelTrainer(Mlp(), data, data_seed=3)
    rates = {"rmsprop": 0.001, "adagrad": 0.03, "adadelta": 1.0, "sgd": 0.1}
    trials = [
        Hparams(
            optimizer=name,
            learning_rate=rates.get(name, 0.01),
            momentum=0.9 if name in ("sgd", "rmsprop") else None,
            dropout=0.0,
            batch_size=BATCH_SIZE,
            class_weights=class_weights,
            **added,
        )
        for name in RATED
    ]
    lane = trainer.open_lane(find_fusion_key(trials[0]), 0)
    lane.place(len(trials), 99, DIVERGING.hparams)
    for slot, hparams in enumerate(trials):
        lane.place(slot, 30 + slot, hparams)
    reports = [{report.slot: report for report in lane.train_epoch()} for _ in range(4)]
    for slot, hparams in enumerate(trials):
        ours = [epoch[slot] for epoch in reports]
        compare_runs(
            [[r.train_loss, r.val_loss, r.grad_norm, r.counts.right.sum()] for r in ours],
            partial(plain_epochs, data, 30 + slot, hparams, 3),
            NUM_TERMS,
        )
        support = np.bincount(data.validation.targets, minlength=NUM_CLASSES).tolist()
        assert all(report.counts.support.tolist() == support for report in ours)


def test_dropout_rate_of_the_lane_is_that_of_the_model_unless_told(tmp_path: Path) -> None:
    # Rates of 0.5 and 0.25 are the model's: told both, no single rate gives the same curve.
    trainer = ModelTrainer(Mlp(), Mlp().load(None))
    key = find_fusion_key(Hparams(batch_size=BATCH_SIZE))
    told = [
        replace(SUBJECT, hparams=Hparams(dropout=rate), slot=slot)
        for slot, rate in enumerate((None, 0.0, 0.25, 0.5))
    ]
    curves = train((trainer, key), told, tmp_path)
    assert len({curve.reports[0] for curve in curves}) == 4
