"""Time of a training step a trial, in a lane of 1 to 8 slots and in a plain PyTorch loop.

    python tests/benchmarks/bench_lane.py

Same model, same batches (batch 50, Adam, dropout 0.5), one thread; the plain loop is an ordinary
module with ``nn.Conv1d`` on batches that are trimmed too. All are timed in turn, several rounds
in one run, because a shared machine's speed drifts: quote the ratio of the medians.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from objectives.api import Data, Split
from objectives.relation_cnn import RelationCnn
from objectives.training import random
from objectives.training.batches import on_device
from objectives.training.trainer import ModelTrainer
from search_spaces.hparams import Hparams
from sweeps.workers import MALLOC

STEPS = 40
BATCH = 50
SLOTS = (1, 2, 4, 8)


class PlainCnn(nn.Module):
    """The model of relation-cnn as most people would write it."""

    def __init__(self, word_vectors: torch.Tensor, num_classes: int, filters: int) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(word_vectors, freeze=True)
        self.positions = nn.ModuleList(nn.Embedding(61, 5) for _ in range(2))
        self.conv = nn.Conv1d(word_vectors.shape[1] + 10, filters, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.classes = nn.Linear(filters, num_classes)

    def forward(
        self, tokens: torch.Tensor, one: torch.Tensor, two: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        real = (torch.arange(tokens.shape[1]) < lengths[:, None]).unsqueeze(-1)
        embedded = [self.words(tokens), self.positions[0](one), self.positions[1](two)]
        response = torch.tanh(self.conv((torch.cat(embedded, -1) * real).mT))
        largest = response.masked_fill(~real.mT, -torch.inf).amax(-1)
        logits: torch.Tensor = self.classes(self.dropout(largest))
        return logits


def shortened(split: Split, examples: int) -> Split:
    assert split.lengths is not None
    return replace(
        split,
        inputs=tuple(array[:examples] for array in split.inputs),
        targets=split.targets[:examples],
        lengths=split.lengths[:examples],
    )


def lane_epoch(data: Data, slots: int, filters: int) -> Callable[[], object]:
    """Return a function that trains ``slots`` trials for an epoch."""
    trainer = ModelTrainer(RelationCnn(), data)
    hparams = Hparams(
        batch_size=BATCH, dropout=0.5, model={"filters": filters, "vectors": "frozen"}
    )
    lane = trainer.open_lane(trainer.fusion_key(hparams), 0)
    for slot in range(slots):
        lane.admit(slot, slot, hparams)
    return lane.train_epoch


def plain_epoch(data: Data, filters: int) -> Callable[[], object]:
    """Return a function that trains the plain module for an epoch."""
    words = torch.from_numpy(data.extras["word_vectors"])
    model = PlainCnn(words, len(data.class_names), filters)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    train = on_device(data.train, torch.device("cpu"))
    order = random.batch_order(
        0, 1, num_examples=len(train), batch_size=BATCH, lengths=data.train.lengths
    )

    def epoch() -> None:
        for rows in order:
            inputs, targets = train.batch(rows)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(*inputs), targets).backward()
            optimizer.step()

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filters", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.environ.update(MALLOC)  # read by the C library when a process starts
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data = RelationCnn().load(None)
    few = shortened(data.train, STEPS * BATCH)
    data = replace(data, train=few, validation=shortened(data.validation, 1))
    epochs = {"plain loop": plain_epoch(data, arguments.filters)}
    epochs |= {f"{s} slots": lane_epoch(data, s, arguments.filters) for s in SLOTS}
    trials = {"plain loop": 1} | {f"{s} slots": s for s in SLOTS}
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(arguments.rounds + 1):
        for name, epoch in epochs.items():
            started = time.perf_counter()
            epoch()
            seconds[name].append((time.perf_counter() - started) / STEPS / trials[name])
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, ", end="")
    print(f"numpy {np.__version__}, {arguments.filters} filters, batch {BATCH}")
    plain = statistics.median(seconds["plain loop"][1:])
    for name, values in seconds.items():
        median = statistics.median(values[1:])  # the first round warms up
        print(f"{name:>11}  {median * 1e3:6.2f} ms a trial-step  {plain / median:5.2f} x plain")


if __name__ == "__main__":
    main()
