"""Plain PyTorch loops of what ships, and lanes beside them: what the benchmarks time.

The plain loop is the module as most people would write it: ``nn.Linear``, ``nn.GRU`` or
``nn.Conv1d``, on batches that are trimmed to their longest example. Knows nothing of sweeps.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from objectives.api import Data, Split, find_fusion_key
from objectives.lanes.batches import TensorSplit, batch_order, on_device
from objectives.lanes.lane import ModelLane
from objectives.lanes.trainer import ModelTrainer
from objectives.registry import find_objective
from search_spaces.hparams import Hparams

STEPS = 20
ROUNDS = 5


class PlainMlp(nn.Sequential):
    """64-16-16-1 and binary cross-entropy, as logits (0, z)."""

    def __init__(self, data: Data, *, width: int = 16) -> None:
        features = data.train.inputs[0].shape[1]
        super().__init__(
            nn.Linear(features, width), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = super().forward(features)
        return torch.cat([torch.zeros_like(logits), logits], dim=-1)


class PlainGru(nn.Module):
    """One recurrent layer on packed sequences, its last state classified."""

    kind: type[nn.RNNBase] = nn.GRU

    def __init__(self, data: Data, *, hidden: int = 32) -> None:
        super().__init__()
        self.recurrent = self.kind(data.train.inputs[0].shape[2], hidden, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(hidden, len(data.class_names))

    def forward(self, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            steps, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        state = self.recurrent(packed)[1]
        last = state[0][-1] if isinstance(state, tuple) else state[-1]
        logits: torch.Tensor = self.output(self.dropout(last))
        return logits


class PlainLstm(PlainGru):
    """The same with an LSTM."""

    kind = nn.LSTM


class PlainCnn(nn.Module):
    """Word and position embeddings, ``nn.Conv1d``, maximum over time."""

    def __init__(
        self, data: Data, *, filters: int = 100, window: int = 3, is_frozen: bool = False
    ) -> None:
        super().__init__()
        words = torch.from_numpy(data.extras["word_vectors"])
        self.words = nn.Embedding.from_pretrained(words, freeze=is_frozen)
        self.positions = nn.ModuleList(nn.Embedding(61, 5) for _ in range(2))
        self.conv = nn.Conv1d(words.shape[1] + 10, filters, window, padding=window // 2)
        self.dropout = nn.Dropout(0.5)
        self.classes = nn.Linear(filters, len(data.class_names))

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


def few_examples(case: Case, train: int, validation: int) -> Data:
    """Return the data that ship, with so many examples."""
    data = find_objective(case.objective).load(None)
    return replace(
        data,
        train=repeated(data.train, train),
        validation=repeated(data.validation, validation),
    )


def open_lane(data: Data, case: Case, batch: int, slots: int, device: str) -> ModelLane:
    """Return a lane with so many trials."""
    trainer = ModelTrainer(find_objective(case.objective), data, device=device)
    hparams = Hparams(batch_size=batch, dropout=case.dropout, model=case.model)
    lane = trainer.open_lane(find_fusion_key(hparams), 0)
    assert lane.note is None, lane.note
    for slot in range(slots):
        lane.place(slot, slot, hparams)
    return lane


def plain_epoch(
    data: Data, case: Case, batch: int, device: str, *, padded: bool
) -> Callable[[], Any]:
    """Return a function that trains the plain module for an epoch."""
    model = case.plain(data).to(device)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    train = on_device(data.train, torch.device(device))
    order = batch_order(
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
    name: str,
    batch: int,
    slots: list[int],
    device: str,
    *,
    steps: int = STEPS,
    rounds: int = ROUNDS,
) -> list[dict[str, Any]]:
    """Return a row a loop: the plain ones, and the lanes; timed in turn, an epoch each."""
    case = CASES[name]
    data = few_examples(case, steps * batch, 1)
    plain = ("plain", 1)
    loops = {plain: plain_epoch(data, case, batch, device, padded=False)}
    if data.train.lengths is not None:
        loops["padded", 1] = plain_epoch(data, case, batch, device, padded=True)
    loops |= {("lane", s): open_lane(data, case, batch, s, device).train_epoch for s in slots}
    times: dict[tuple[str, int], list[float]] = {key: [] for key in loops}
    for _ in range(rounds + 1):
        for key, epoch in loops.items():
            started = time.perf_counter()
            epoch()
            if device != "cpu":
                torch.cuda.synchronize()
            times[key].append((time.perf_counter() - started) / steps / key[1])
    # The first round warms up.
    medians = {key: statistics.median(values[1:]) for key, values in times.items()}
    return [
        {"model": name, "batch": batch, "loop": loop, "slots": count}
        | {"us_a_trial_step": round(median * 1e6, 1)}
        | {"times_plain": round(medians[plain] / median, 2)}
        for (loop, count), median in medians.items()
    ]
