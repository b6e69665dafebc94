"""Time of a training step: the lane of one slot, and a plain PyTorch loop, in turn.

    python tests/benchmarks/bench_paths.py [--case NAME] [--slots 1 --slots 4] [--rounds 5]

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
from plain_loops import PlainCnn, PlainGru, PlainLstm, PlainMlp, repeated
from torch import nn

from objectives.api import Data, Objective, Split, find_fusion_key
from objectives.lanes.batches import batch_order, on_device
from objectives.lanes.trainer import ModelTrainer
from objectives.registry import find_objective
from search_spaces.hparams import Hparams
from sweeps.trainers.local_executor import MALLOC

STEPS = 100


class Wide(PlainMlp):
    """64-64-64-1."""

    def __init__(self, data: Data) -> None:
        super().__init__(data, width=64)


class NormMlp(nn.Sequential):
    """Two hidden layers of 128 with batch norm."""

    def __init__(self, data: Data) -> None:
        def block(inputs: int) -> list[nn.Module]:
            return [nn.Linear(inputs, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.1)]

        super().__init__(*block(32), *block(128), nn.Linear(128, 10))


class NormCnn(nn.Sequential):
    """Three blocks of Conv2d, BatchNorm2d and ReLU on 32 x 32 pictures."""

    def __init__(self, data: Data) -> None:
        def block(inputs: int, outputs: int) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

        super().__init__(
            *block(3, 16), *block(16, 32), *block(32, 32), nn.Flatten(), nn.Dropout(0.1),
            nn.Linear(512, 10),
        )  # fmt: skip


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which halves the picture if it widens it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = outputs // inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, stride=stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(inside)) + self.short(x))


class ResNet8(nn.Sequential):
    """Three residual blocks of 16, 32 and 64 channels."""

    def __init__(self, data: Data) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            Residual(16, 16), Residual(16, 32), Residual(32, 64),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 10),
        )  # fmt: skip


class Steps(nn.Module):
    """A recurrent layer or an encoder on 20 steps, its last state or mean classified."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, 10)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        found = self.body(steps)
        last = found[0][:, -1] if isinstance(found, tuple) else found.mean(dim=1)
        logits: torch.Tensor = self.head(self.dropout(last))
        return logits


def gru(data: Data) -> nn.Module:
    return Steps(nn.GRU(16, 32, batch_first=True), 32)


def bilstm(data: Data) -> nn.Module:
    return Steps(nn.LSTM(16, 32, batch_first=True, bidirectional=True), 64)


def encoder(data: Data) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
    return Steps(nn.Sequential(nn.Linear(16, 32), layer), 32)


class TextCnn(nn.Module):
    """Word vectors, convolutions of three widths, maxima over time (Kim 2014)."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.words = nn.Embedding(2000, 50)
        self.convs = nn.ModuleList(nn.Conv1d(50, 32, size) for size in (3, 4, 5))
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(96, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        words = self.words(tokens).transpose(1, 2)
        pooled = [torch.relu(conv(words)).amax(dim=2) for conv in self.convs]
        logits: torch.Tensor = self.head(self.dropout(torch.cat(pooled, dim=1)))
        return logits


@dataclass
class Own:
    """An objective of a person's own: random examples of a shape, ten classes."""

    plain: Callable[[Data], nn.Module]
    shape: tuple[int, ...]
    words: int = 0  # 0: numbers
    name: str = "own"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(0)
        size = (512, *self.shape)
        x = rng.integers(self.words, size=size) if self.words else rng.normal(size=size)
        x = x if self.words else x.astype(np.float32)
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


def own(plain: Callable[[Data], nn.Module], *shape: int, words: int = 0) -> Case:
    return Case(Own(plain, shape, words), plain, 32, 0.1)


CASES = {
    "mlp-16": shipped("tabular-mlp", PlainMlp, 200, 0.1),
    "mlp-16-b32": shipped("tabular-mlp", PlainMlp, 32, 0.1),
    "mlp-64": shipped("tabular-mlp", Wide, 200, 0.1, {"hidden_width": 64}),
    "rnn": shipped("sequence-rnn", PlainGru, 16, 0.2, {"cell": "gru", "hidden": 32}),
    "rnn-lstm": shipped("sequence-rnn", PlainLstm, 16, 0.2, {"cell": "lstm", "hidden": 32}),
    "cnn": shipped("relation-cnn", PlainCnn, 50, 0.5, {"filters": 100, "vectors": "trainable"}),
    "norm-mlp": own(NormMlp, 32),
    "norm-cnn": own(NormCnn, 3, 32, 32),
    "resnet-8": own(ResNet8, 3, 32, 32),
    "encoder": own(encoder, 20, 16),
    "gru": own(gru, 20, 16),
    "bilstm": own(bilstm, 20, 16),
    "text-cnn": own(TextCnn, 30, words=2000),
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
    order = batch_order(
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
    parser.add_argument("--slots", type=int, action="append", help="1, 4 and 16 unless told")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.environ.update(MALLOC)  # read by the C library when a process starts
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, torch {torch.__version__}")
    print(f"{'case':13} {'path':8} {'slots':>5} {'us a trial-step':>15} {'ratio':>6}")
    for name in arguments.case or CASES:
        for row in measure(CASES[name], arguments.slots or [1, 4, 16], arguments.rounds):
            print("{:13} {:8} {:5} {:15.0f} {:6.2f}".format(name, *row), flush=True)


if __name__ == "__main__":
    main()
