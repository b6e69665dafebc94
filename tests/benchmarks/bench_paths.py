"""Time of a training step: the lane of one slot, and a plain PyTorch loop, in turn.

    python tests/benchmarks/bench_paths.py [--case NAME] [--slots 1 --slots 8] [--rounds 15]

The plain loop is the module as most people would write it, its tensors where they are needed:
batches by ``index_select``, ``torch.optim.Adam(fused=True)``, the same batches, threads (one) and
dropout. A lane also adds up losses and gradient norms, which the loop does not. Loop and lanes
take turns, an epoch each, in a new order every round; ``ratio`` is the median over the rounds of
a lane's time a trial-step by the loop's in the same round, so below 1 the lane is faster.
"""

import argparse
import os
import platform
import random as shuffling
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_loops import PlainCnn, PlainGru, PlainMlp, repeated
from torch import nn

from objectives.api import Data, Objective, Split, find_fusion_key
from objectives.lanes.batches import on_device
from objectives.lanes.trainer import ModelTrainer
from objectives.layers import random
from objectives.registry import find_objective
from search_spaces.hparams import Hparams
from sweeps.trainers.executor import MALLOC

STEPS = 100


class Wide(PlainMlp):
    """64-64-64-1."""

    def __init__(self, data: Data) -> None:
        super().__init__(data, width=64)


class NormCnn(nn.Sequential):
    """Two blocks of Conv2d, BatchNorm2d and ReLU on 16 x 16 pictures."""

    def __init__(self, data: Data, *, is_normed: bool = True) -> None:
        def block(inputs: int, outputs: int) -> list[nn.Module]:
            norm = [nn.BatchNorm2d(outputs)] if is_normed else []
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not is_normed)
            return [conv, *norm, nn.ReLU(), nn.MaxPool2d(2)]

        super().__init__(
            *block(1, 8), *block(8, 16), nn.Flatten(), nn.Dropout(0.1), nn.Linear(256, 10)
        )


class SmallCnn(NormCnn):
    """The same without batch norm, which ``vmap`` can batch."""

    def __init__(self, data: Data) -> None:
        super().__init__(data, is_normed=False)


class Lstm(nn.Module):
    """``nn.LSTM`` of 32 units on 20 steps, its last state classified."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.layer = nn.LSTM(16, 32, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(32, 10)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.dropout(self.layer(steps)[1][0][-1]))
        return logits


@dataclass
class Own:
    """An objective of a person's own: random examples of a shape, ten classes."""

    plain: Callable[[Data], nn.Module]
    shape: tuple[int, ...]
    name: str = "own"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(512, *self.shape)).astype(np.float32)
        split = Split((x,), rng.integers(10, size=512))
        return Data(split, split, split, tuple(map(str, range(10))))

    def build_model(self, data: Data, **model: Any) -> nn.Module:
        return self.plain(data)


@dataclass(frozen=True)
class Case:
    objective: Objective
    plain: Callable[[Data], nn.Module]
    batch: int
    dropout: float
    model: dict[str, Any] = field(default_factory=dict)


def shipped(name: str, plain: Callable[[Data], nn.Module], *args: Any) -> Case:
    return Case(find_objective(name), plain, *args)


CASES = {
    "mlp-16": shipped("tabular-mlp", PlainMlp, 200, 0.1),
    "mlp-16-b32": shipped("tabular-mlp", PlainMlp, 32, 0.1),
    "mlp-64": shipped("tabular-mlp", Wide, 200, 0.1, {"hidden_width": 64}),
    "rnn": shipped("sequence-rnn", PlainGru, 16, 0.2, {"cell": "gru", "hidden": 32}),
    "cnn": shipped("relation-cnn", PlainCnn, 50, 0.5, {"filters": 100, "vectors": "trainable"}),
    "own-norm-cnn": Case(Own(NormCnn, (1, 16, 16)), NormCnn, 32, 0.1),
    "own-cnn": Case(Own(SmallCnn, (1, 16, 16)), SmallCnn, 32, 0.1),
    "own-lstm": Case(Own(Lstm, (20, 16)), Lstm, 32, 0.1),
}


def lane_epoch(data: Data, case: Case, slots: int) -> tuple[str, Callable[[], Any]]:
    """Return the path of a lane, and a function that trains its trials for an epoch."""
    trainer = ModelTrainer(case.objective, data)
    hparams = Hparams(batch_size=case.batch, dropout=case.dropout, model=case.model)
    lane = trainer.open_lane(find_fusion_key(hparams), 0)
    for slot in range(slots):
        lane.place(slot, slot, hparams)
    return lane.path, lane.train_epoch


def plain_epoch(data: Data, case: Case) -> Callable[[], Any]:
    """Return a function that trains the plain module for an epoch."""
    model = case.plain(data).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, fused=True)
    train = on_device(data.train, torch.device("cpu"))
    order = random.batch_order(
        0, 1, num_examples=len(train), batch_size=case.batch, lengths=data.train.lengths
    )

    def epoch() -> None:
        for rows in order:
            inputs, targets = train.batch(rows)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(*inputs), targets).backward()
            optimizer.step()

    return epoch


def measure(case: Case, slots: list[int], rounds: int) -> list[tuple[str, int, float, float]]:
    """Return path, slots, microseconds a trial-step and the ratio to the plain loop's."""
    data = case.objective.load(None)
    data = replace(
        data,
        train=repeated(data.train, STEPS * case.batch),
        validation=repeated(data.validation, 1),
    )
    loops = {0: plain_epoch(data, case)}
    paths = {0: "loop"}
    for count in slots:
        paths[count], loops[count] = lane_epoch(data, case, count)
    times: dict[int, list[float]] = {count: [] for count in loops}
    turn = shuffling.Random(0)
    for _ in range(rounds + 1):
        for count in turn.sample(sorted(loops), len(loops)):
            started = time.thread_time()
            loops[count]()
            times[count].append((time.thread_time() - started) / STEPS / max(1, count) * 1e6)
    # The first round warms up.
    return [
        (
            paths[count],
            count,
            statistics.median(times[count][1:]),
            statistics.median(
                ours / plain for ours, plain in zip(times[count][1:], times[0][1:], strict=True)
            ),
        )
        for count in loops
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--slots", type=int, action="append", help="1 and 8 unless told")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.environ.update(MALLOC)  # read by the C library when a process starts
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, torch {torch.__version__}")
    print(f"{'case':13} {'path':8} {'slots':>5} {'us a trial-step':>15} {'ratio':>6}")
    for name in arguments.case or CASES:
        for row in measure(CASES[name], arguments.slots or [1, 8], arguments.rounds):
            print("{:13} {:8} {:5} {:15.0f} {:6.2f}".format(name, *row), flush=True)


if __name__ == "__main__":
    main()
