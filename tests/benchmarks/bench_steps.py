"""Time of a training step a trial, in lanes of 1 to 256 slots and in plain PyTorch loops.

    python tests/benchmarks/bench_steps.py [--csv FILE] [--model mlp|gru|cnn] [--most-slots 256]
        [--precision float32 --precision bf16]

Same model, same batches, Adam, dropout, one thread (the GPU with --device cuda). The plain loop
is the module as most people would write it: ``nn.Linear``, ``nn.GRU`` or ``nn.Conv1d`` on batches
that are trimmed to their longest example; the padded loop pads every batch to the longest example
of the data. Both are float32; lanes are timed in each --precision. All are timed in turn, several
rounds in one run, because a shared machine's speed drifts: quote the ratios.
"""

import argparse
import csv
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from objectives.api import Data, Split
from objectives.registry import find_objective
from objectives.training import precision, random
from objectives.training.batches import TensorSplit, on_device
from objectives.training.precision import Precision
from objectives.training.trainer import ModelTrainer
from search_spaces.hparams import Hparams
from sweeps.processes import MALLOC

STEPS = 20
ROUNDS = 5
COLUMNS = ("model", "batch", "loop", "precision", "slots", "us_a_trial_step", "times_plain")


class PlainMlp(nn.Sequential):
    """64-16-16-1 and binary cross-entropy, as logits (0, z)."""

    def __init__(self, data: Data) -> None:
        features = data.train.inputs[0].shape[1]
        super().__init__(
            nn.Linear(features, 16), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1),
        )  # fmt: skip

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = super().forward(features)
        return torch.cat([torch.zeros_like(logits), logits], dim=-1)


class PlainGru(nn.Module):
    """One recurrent layer of 32 units on packed sequences, its last state classified."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.recurrent = nn.GRU(data.train.inputs[0].shape[2], 32, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(32, len(data.class_names))

    def forward(self, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            steps, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        logits: torch.Tensor = self.output(self.dropout(self.recurrent(packed)[1][-1]))
        return logits


class PlainCnn(nn.Module):
    """Word and position embeddings, ``nn.Conv1d`` of 100 filters, maximum over time."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        words = torch.from_numpy(data.extras["word_vectors"])
        self.words = nn.Embedding.from_pretrained(words, freeze=False)
        self.positions = nn.ModuleList(nn.Embedding(61, 5) for _ in range(2))
        self.conv = nn.Conv1d(words.shape[1] + 10, 100, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.classes = nn.Linear(100, len(data.class_names))

    def forward(
        self, tokens: torch.Tensor, one: torch.Tensor, two: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        real = real.unsqueeze(-1)
        embedded = [self.words(tokens), self.positions[0](one), self.positions[1](two)]
        response = torch.tanh(self.conv((torch.cat(embedded, -1) * real).mT))
        largest = response.masked_fill(~real.mT, -torch.inf).amax(-1)
        logits: torch.Tensor = self.classes(self.dropout(largest))
        return logits


@dataclass(frozen=True)
class Case:
    objective: str
    plain: Callable[[Data], nn.Module]
    batches: tuple[int, ...]
    model: dict[str, Any]
    dropout: float


CASES = {
    "mlp": Case("tabular-mlp", PlainMlp, (32, 200), {}, 0.1),
    "gru": Case("sequence-rnn", PlainGru, (8, 32), {"cell": "gru", "hidden": 32}, 0.2),
    "cnn": Case("relation-cnn", PlainCnn, (50,), {"filters": 100, "vectors": "trainable"}, 0.5),
}


def repeated(split: Split, examples: int) -> Split:
    """So many examples of a split, the first again where it has fewer."""
    rows = np.arange(examples) % len(split.targets)
    return replace(
        split,
        inputs=tuple(array[rows] for array in split.inputs),
        targets=split.targets[rows],
        lengths=None if split.lengths is None else split.lengths[rows],
    )


def lane_epoch(
    data: Data, case: Case, batch: int, slots: int, device: str, products: Precision
) -> Callable[[], Any]:
    """Return a function that trains ``slots`` trials for an epoch."""
    trainer = ModelTrainer(find_objective(case.objective), data, device=device, precision=products)
    hparams = Hparams(batch_size=batch, dropout=case.dropout, model=case.model)
    lane = trainer.open_lane(trainer.fusion_key(hparams), 0)
    assert lane.note is None, lane.note
    for slot in range(slots):
        lane.admit(slot, slot, hparams)
    return lane.train_epoch


def plain_epoch(
    data: Data, case: Case, batch: int, device: str, *, padded: bool
) -> Callable[[], Any]:
    """Return a function that trains the plain module for an epoch."""
    model = case.plain(data).to(device)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    train = on_device(data.train, torch.device(device))
    order = random.batch_order(
        0, 1, num_examples=len(train), batch_size=batch, lengths=data.train.lengths
    )

    def epoch() -> None:
        for rows in order:
            inputs, targets = whole(train, rows) if padded else train.batch(rows)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(*inputs), targets).backward()
            optimizer.step()

    return epoch


def whole(split: TensorSplit, rows: np.ndarray) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """Return a batch that is padded to the longest example of the data."""
    index = torch.from_numpy(rows).to(split.targets.device)
    assert split.lengths is not None
    inputs = (*(array[index] for array in split.inputs), split.lengths[index])
    return inputs, split.targets[index]


def measure(
    name: str, batch: int, slots: list[int], device: str, precisions: list[Precision]
) -> list[dict[str, Any]]:
    case = CASES[name]
    data = find_objective(case.objective).load(None)
    few = repeated(data.train, STEPS * batch)
    data = replace(data, train=few, validation=repeated(data.validation, 1))
    plain = ("plain", "float32", 1)
    loops = {plain: plain_epoch(data, case, batch, device, padded=False)}
    if few.lengths is not None:
        loops["padded", "float32", 1] = plain_epoch(data, case, batch, device, padded=True)
    loops |= {
        ("lane", products, s): lane_epoch(data, case, batch, s, device, products)
        for s in slots
        for products in precisions
    }
    times: dict[tuple[str, str, int], list[float]] = {key: [] for key in loops}
    for _ in range(ROUNDS + 1):
        for key, epoch in loops.items():
            precision.use("tf32" if key[1] == "tf32" else "float32")
            started = time.perf_counter()
            epoch()
            if device != "cpu":
                torch.cuda.synchronize()
            times[key].append((time.perf_counter() - started) / STEPS / key[2])
    # The first round warms up.
    medians = {key: statistics.median(values[1:]) for key, values in times.items()}
    return [
        {"model": name, "batch": batch, "loop": loop, "precision": products, "slots": count}
        | {"us_a_trial_step": round(median * 1e6, 1)}
        | {"times_plain": round(medians[plain] / median, 2)}
        for (loop, products, count), median in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=CASES, help="only this one")
    parser.add_argument("--most-slots", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    names = get_args(Precision)
    parser.add_argument("--precision", action="append", choices=names, help="float32 unless told")
    parser.add_argument("--csv", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.environ.update(MALLOC)  # read by the C library when a process starts
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    if arguments.device != "cpu":
        machine = torch.cuda.get_device_name()
    versions = f"torch {torch.__version__}, numpy {np.__version__}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {versions}")
    print(
        f"{'model':5} {'batch':>5} {'loop':>6} {'products':>8} {'slots':>5} "
        f"{'us a trial-step':>15} x plain"
    )
    slots = [2**i for i in range(9) if 2**i <= arguments.most_slots]
    precisions = arguments.precision or ["float32"]
    rows: list[dict[str, Any]] = []
    for name in [arguments.model] if arguments.model else CASES:
        for batch in CASES[name].batches:
            for row in measure(name, batch, slots, arguments.device, precisions):
                rows.append(row)
                print(
                    "{:5} {:5} {:>6} {:>8} {:5} {:15.1f} {:7.2f}".format(*row.values()), flush=True
                )
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
