"""Armijo's search: each row its own, equal to a plain loop, and none of its neighbours' business.

Axes have sizes of their own: 63 training examples in batches of 20 (the last has 3), layers of
17, 29, 13 and 3.
"""

import gzip
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from objectives.api import Data, EpochReport, Split, find_fusion_key
from objectives.data import relations
from objectives.lanes.batches import batch_order
from objectives.lanes.checkpoints import RowState
from objectives.lanes.lane import ModelLane
from objectives.lanes.trainer import ModelTrainer
from objectives.layers import random
from objectives.optimizers import line_search
from objectives.relation_cnn import RelationCnn
from search_spaces.hparams import Hparams
from tests.rounding import Rounding, compare_runs

pytestmark = pytest.mark.usefixtures("one_thread")

BATCH_SIZE, NUM_CLASSES, NUM_EPOCHS = 20, 3, 5


class Mlp:
    """A user's objective; ``kind`` adds a layer that keeps it out of company, or draws."""

    name = "mlp"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(5)
        teacher = rng.normal(size=(17, NUM_CLASSES))

        def split(num_examples: int) -> Split:
            features = rng.normal(size=(num_examples, 17)).astype(np.float32)
            return Split(inputs=(features,), targets=(features @ teacher).argmax(axis=1))

        return Data(split(63), split(41), split(11), class_names=("a", "b", "c"))

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        between: dict[str, Callable[[], nn.Module]] = {
            "plain": nn.Identity,
            "statistics": lambda: nn.BatchNorm1d(29),
            "own draws": OwnDraws,
            "dropout": lambda: nn.Dropout(0.4),
        }
        layer = between[str(model.get("kind", "plain"))]()
        last = nn.Linear(13, NUM_CLASSES)
        last.bias.requires_grad_(not model.get("frozen", False))
        # Not 0, or each trial's would be the same in all and shared for that alone.
        last.bias.data.fill_(0.3 if model.get("frozen") else 0.0)
        return nn.Sequential(
            nn.Linear(17, 29), layer, nn.Tanh(), nn.Linear(29, 13), nn.ReLU(), last
        )


class OwnDraws(nn.Module):
    """A mask from torch's generator, as ``functional.dropout`` draws it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return functional.dropout(input, 0.4, training=self.training)


def armijo(**more: Any) -> Hparams:
    return Hparams(optimizer="armijo", batch_size=BATCH_SIZE, **more)


def open_lane(hparams: Hparams, data_epoch: int = 0) -> ModelLane:
    trainer = ModelTrainer(Mlp(), Mlp().load(None), data_seed=3)
    return trainer.open_lane(find_fusion_key(hparams), data_epoch)


def as_bits(report: EpochReport) -> tuple[str, ...]:
    numbers = (report.train_loss, report.val_loss, report.grad_norm, report.learning_rate)
    return (*(number.hex() for number in numbers), str(report.counts.matrix.tolist()))


COLUMNS = ("train_loss", "val_loss", "learning_rate", "grad_norm")
#: Inputs of each layer on the way from a batch to a gradient and back, and the batch.
NUM_TERMS = 2 * (17 + 29 + 13 + NUM_CLASSES) + BATCH_SIZE


def plain_epochs(hparams: Hparams, seed: int, rounding: Rounding) -> list[list[float]]:
    """Train a module by backtracking as a page of a text book says; four numbers an epoch."""
    data = Mlp().load(None)
    torch.manual_seed(seed)
    module = Mlp().build_model(data, **hparams.model).double()
    inputs, targets = (torch.from_numpy(a) for a in (data.train.inputs[0], data.train.targets))
    inputs = inputs.double()
    params = [p for p in module.parameters() if p.requires_grad]
    counts = torch.bincount(targets, minlength=NUM_CLASSES).double()
    criterion = nn.CrossEntropyLoss(
        weight=len(targets) / (NUM_CLASSES * counts)
        if hparams.class_weights == "balanced"
        else None,
        label_smoothing=hparams.label_smoothing,
    )
    c, shrink = hparams.sufficient_decrease, hparams.shrink
    assert c is not None
    assert shrink is not None
    start, records, num_probes = 1.0, [], 0
    for epoch in range(1, NUM_EPOCHS + 1):
        batches = batch_order(3, epoch, num_examples=63, batch_size=BATCH_SIZE)
        keys = random.step_keys([seed], [epoch], len(batches))
        module.train()
        sums = dict.fromkeys(COLUMNS, 0.0)
        for batch, (key,) in zip(batches, keys, strict=True):

            def loss(batch: Any = batch, key: int = int(key)) -> torch.Tensor:
                torch.manual_seed(key)
                return criterion(module(inputs[batch]), targets[batch])

            module.zero_grad()
            before = loss()
            before.backward()  # type: ignore[no-untyped-call]
            rounding.gradients(params)
            grads = [p.grad for p in params if p.grad is not None]
            first = rounding.value(before.item())
            buffers = [b.clone() for b in module.buffers()]
            old = [p.detach().clone() for p in params]
            square = sum(float((g.double() ** 2).sum()) for g in grads)
            step, taken = start, 0.0
            with torch.no_grad():
                while step >= start * 1e-5:
                    for p, w, g in zip(params, old, grads, strict=True):
                        p.copy_(w - step * g)
                    num_probes += 1
                    if rounding.value(loss().item()) <= first - c * step * square:
                        taken = step
                        break
                    step *= shrink
                else:
                    for p, w in zip(params, old, strict=True):
                        p.copy_(w)
                for now, then in zip(module.buffers(), buffers, strict=True):
                    now.copy_(then)
            start = min(taken * 2 ** (len(batch) / 63), 10.0) if taken else start
            sums["train_loss"] += first * len(batch) / 63
            sums["learning_rate"] += taken / len(batches)
            sums["grad_norm"] += square**0.5 / len(batches)
        module.eval()
        with torch.no_grad():
            logits = module(torch.from_numpy(data.validation.inputs[0]).double())
        val_loss = functional.cross_entropy(logits, torch.from_numpy(data.validation.targets))
        sums["val_loss"] = val_loss.item()
        records.append(list(sums.values()))
    # More than a probe in some steps, or the test would not see a backtrack.
    assert num_probes > 4 * NUM_EPOCHS
    return records


ROWS = [
    armijo(),
    armijo(sufficient_decrease=0.5, shrink=0.9, class_weights="balanced"),
    armijo(sufficient_decrease=0.01, shrink=0.3, label_smoothing=0.2),
]


@pytest.mark.parametrize("kind", ["plain", "frozen", "statistics", "own draws"])
def test_lane_equals_a_plain_loop_that_backtracks(kind: str) -> None:
    model: dict[str, Any] = {"frozen": True} if kind == "frozen" else {"kind": kind}
    trials = [one.model_copy(update={"model": model}) for one in ROWS]
    lane = open_lane(trials[0])
    is_alone = kind == "own draws"
    assert lane.max_slots == (1 if is_alone else None)
    slots = range(1) if is_alone else range(len(trials))
    for slot in slots:
        lane.place(slot, 30 + slot, trials[slot])
    reports = [lane.train_epoch() for _ in range(NUM_EPOCHS)]
    for slot in slots:
        ours = [[getattr(epoch[slot], name) for name in COLUMNS] for epoch in reports]
        compare_runs(ours, partial(plain_epochs, trials[slot], 30 + slot), NUM_TERMS)


def curves(
    company: dict[int, Hparams], lane: ModelLane, num_epochs: int = 3
) -> dict[int, list[tuple[str, ...]]]:
    for slot, hparams in company.items():
        lane.place(slot, 7 + slot, hparams)
    epochs = [{r.slot: as_bits(r) for r in lane.train_epoch()} for _ in range(num_epochs)]
    return {slot: [epoch[slot] for epoch in epochs] for slot in company}


def break_weights(lane: ModelLane, slot: int, hparams: Hparams) -> None:
    """Make a slot diverge: no search that begins with finite weights does so by itself."""
    state = lane.copy_states([slot])[slot]
    assert isinstance(state, RowState)
    for name, tensor in state.rows.own.items():
        if name.endswith(("weight", "bias")):
            tensor.mul_(1e30)
    lane.drop(slot)
    lane.place(slot, 99, hparams, state)


MODELS: dict[str, dict[str, Any]] = {"plain": {}, "dropout": {"kind": "dropout"}}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_curve_is_bit_equal_beside_others_and_one_that_diverges(model: dict[str, Any]) -> None:
    trials = dict(enumerate(one.model_copy(update={"model": model}) for one in ROWS))
    lane = open_lane(trials[0])
    lane.place(4, 99, trials[1])
    break_weights(lane, 4, trials[1])
    beside = curves(trials, lane)
    broken = next(report for report in lane.train_epoch() if report.slot == 4)
    assert np.isnan([broken.train_loss, broken.learning_rate, broken.grad_norm]).all()
    for slot, hparams in trials.items():
        assert curves({slot: hparams}, open_lane(hparams))[slot] == beside[slot]
    assert len({curve[0] for curve in beside.values()}) == len(beside)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first sentences of the shipped data: 83 to train on."""
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


@pytest.mark.parametrize("vectors", ["frozen", "trainable"])
def test_relation_cnn_searches_with_the_masks_of_its_step(sentences: Path, vectors: str) -> None:
    objective = RelationCnn()
    model = {"filters": 19, "position_dim": 1, "vectors": vectors}
    hparams = armijo(dropout=0.5, model=model)
    trainer = ModelTrainer(objective, objective.load(sentences), data_seed=3)
    lanes = [trainer.open_lane(find_fusion_key(hparams), 0) for _ in range(2)]
    beside = curves({0: hparams, 3: ROWS[1], 5: hparams}, lanes[0])
    assert curves({0: hparams}, lanes[1])[0] == beside[0]
    assert beside[5] != beside[0]
    # Each step is judged by a pass of its own masks: at a step of 0 it has the loss of the first.
    seen: list[torch.Tensor] = []
    step = line_search.step

    def spy(probe: Any, weights: Any, grads: Any, **more: Any) -> int:
        with torch.no_grad():
            seen.extend(torch.equal(probe(weights), more["losses_S"]) for _ in range(2))
        return step(probe, weights, grads, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_search, "step", spy)
        lanes[0].train_epoch()
    assert len(seen) == 10
    assert all(seen)


def test_refilled_slot_begins_its_search_anew_and_the_others_keep_theirs() -> None:
    lane = open_lane(ROWS[0])
    before = curves({0: ROWS[0], 1: ROWS[1]}, lane)
    lane.drop(0)
    lane.place(0, 21, ROWS[2])
    after = [{report.slot: as_bits(report) for report in lane.train_epoch()} for _ in range(2)]
    kept = curves({1: ROWS[1]}, open_lane(ROWS[1]), num_epochs=5)[1]
    assert [*before[1], *(epoch[1] for epoch in after)] == kept
    own = open_lane(ROWS[2], data_epoch=3)
    own.place(5, 21, ROWS[2])
    assert [as_bits(own.train_epoch()[0]) for _ in range(2)] == [epoch[0] for epoch in after]


def test_armijo_has_a_lane_of_its_own() -> None:

    keys = [find_fusion_key(Hparams(optimizer=name)) for name in ("armijo", "adam", "sgd")]
    assert keys[1] == keys[2]
    assert keys[0] == replace(keys[1], code_path="armijo")
    assert find_fusion_key(Hparams(optimizer="armijo", shrink=0.8)) == keys[0]


def search(
    probe_losses: list[list[float]], *, loss: list[float], grad: list[float], **more: Any
) -> tuple[int, torch.Tensor, dict[str, torch.Tensor]]:
    """Search from weights of 1 with scripted losses, a list a probe; the last one is repeated."""
    hparams = [armijo(sufficient_decrease=0.5, **more)] * len(loss)
    weights = {"w": torch.ones(len(loss), 1)}
    grads = {"w": torch.tensor(grad).unsqueeze(1)}
    states = [line_search.first_state(torch.device("cpu")) for _ in loss]
    state = {name: torch.cat([one[name] for one in states]) for name in states[0]}
    script = iter(probe_losses)

    def probe(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tensor(next(script, probe_losses[-1]))

    probes = line_search.step(
        probe,
        weights,
        grads,
        losses_S=torch.tensor(loss),
        norms_S=grads["w"].abs().squeeze(1),
        hparams_S=hparams,
        epoch_share=0.5,
        state=state,
        scratch={"w": torch.full((len(loss), 1), torch.nan)},
    )
    return probes, weights["w"].squeeze(1), state


def test_rows_accept_their_own_steps_and_a_loss_of_nan_never_counts() -> None:
    # A gradient of 1 and c of 0.5: a step of 1 must bring 0.5, one of 0.5 a quarter.
    nan, inf = float("nan"), float("inf")
    script = [[1.5, 1.51, nan, -inf], [9.0, 1.75, inf, 9.0], [9.0, 9.0, 1.875, 9.0]]
    probes, weights, state = search(script, loss=[2.0] * 4, grad=[1.0] * 4)
    assert probes == 3
    assert weights.tolist() == [0.0, 0.5, 0.75, 0.0]
    assert state["taken"].tolist() == [1.0, 0.5, 0.25, 1.0]
    # Half of an epoch: the step may grow by the root of 2.
    assert state["start"].tolist() == pytest.approx([2**0.5, 0.5**0.5, 0.125**0.5, 2**0.5])


@pytest.mark.parametrize(("shrink", "expected"), [(0.5, 17), (0.9, line_search.MAX_PROBES)])
def test_search_without_an_answer_ends_and_takes_no_step(shrink: float, expected: int) -> None:
    probes, weights, state = search([[2.0]], loss=[2.0], grad=[1.0], shrink=shrink)
    assert probes == expected
    assert (weights.item(), state["taken"].item(), state["start"].item()) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("loss", "grad"), [(float("nan"), 1.0), (float("inf"), 1.0), (2.0, float("inf"))]
)
def test_row_that_is_lost_takes_no_probes_and_ends_as_nan(loss: float, grad: float) -> None:
    probes, weights, _ = search([[0.0, 0.0]], loss=[loss, 2.0], grad=[grad, 1.0])
    assert probes == 1
    assert weights.isnan().tolist() == [True, False]


def test_minimum_is_kept_and_the_step_grows_to_its_limit() -> None:
    probes, weights, state = search([[0.0]], loss=[0.0], grad=[0.0])
    assert (probes, weights.item()) == (1, 1.0)
    assert state["start"].item() == pytest.approx(2**0.5)
    assert line_search.mean_steps(state, 5) == [pytest.approx(0.2)]
    assert state["taken"].item() == 0.0
