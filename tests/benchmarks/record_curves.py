"""Trains what the verdicts were made for, and writes the learning curves.

    python tests/benchmarks/record_curves.py [NAME ...]

A convolution network stepped once an epoch (one batch of all its rows), a multilayer perceptron
with Adam at 0.01 for 1000 epochs, another at a rate that is far too low for 12, and a recurrent
network with betas (0.5, 0.999) at a rate that is too high, beside neighbours that differ in one
thing each. Writes ``tests/curves/NAME.csv``; the header says the command, the versions, the
hyperparameters and the validation examples of each class. Takes some minutes on one core.
"""

import argparse
import platform
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from objectives.api import Data, EpochReport, Split, find_fusion_key
from objectives.lanes.trainer import ModelTrainer
from objectives.metrics import class_scores, make_metric
from objectives.registry import find_objective
from search_spaces.hparams import Hparams

FOLDER = Path(__file__).parent.parent / "curves"
COMMAND = "python tests/benchmarks/record_curves.py"
SEED = 7
MACRO_F1 = make_metric("macro-f1", [])


@dataclass(frozen=True, slots=True)
class Recording:
    """One program: trials of one shape on the first rows of a data set."""

    objective: str
    epochs: int
    trials: dict[str, Hparams]
    train_rows: int | None = None
    seed: int = SEED


MLP: dict[str, Any] = {"batch_size": 200, "dropout": 0.0}
RNN: dict[str, Any] = {"batch_size": 16, "dropout": 0.0, "model": {"cell": "gru", "hidden": 32}}
RECORDINGS = (
    Recording(
        "relation-cnn",
        80,
        {"cnn_once_an_epoch": Hparams(learning_rate=1e-3, batch_size=2000, dropout=0.5)},
        train_rows=2000,
    ),
    Recording(
        "relation-cnn",
        40,
        {"cnn_many_steps": Hparams(learning_rate=1e-3, batch_size=50, dropout=0.5)},
        train_rows=2000,
    ),
    Recording(
        "tabular-mlp",
        12,
        {"mlp_rate_too_low": Hparams(learning_rate=2.3e-5, **MLP)},
        seed=1,  # it begins by calling all of them the rare class
    ),
    Recording("tabular-mlp", 1000, {"mlp_1000_epochs": Hparams(learning_rate=1e-2, **MLP)}),
    Recording(
        "sequence-rnn",
        60,
        {
            "rnn_rate_too_high": Hparams(learning_rate=0.05, beta1=0.5, beta2=0.999, **RNN),
            "rnn_clipped": Hparams(
                learning_rate=0.05, beta1=0.5, beta2=0.999, clip_norm=0.5, **RNN
            ),
            "rnn_usual_betas": Hparams(learning_rate=0.05, beta1=0.9, beta2=0.999, **RNN),
            "rnn_lower_rate": Hparams(learning_rate=0.02, beta1=0.5, beta2=0.999, **RNN),
        },
    ),
)


def first_rows(split: Split, rows: int) -> Split:
    lengths = None if split.lengths is None else split.lengths[:rows]
    inputs = tuple(array[:rows] for array in split.inputs)
    return replace(split, inputs=inputs, targets=split.targets[:rows], lengths=lengths)


def train(recording: Recording) -> tuple[Data, dict[str, list[EpochReport]]]:
    objective = find_objective(recording.objective)
    data = objective.load(None)
    if recording.train_rows is not None:
        data = replace(data, train=first_rows(data.train, recording.train_rows))
    trainer = ModelTrainer(objective, data, data_seed=SEED)
    trials = list(recording.trials.items())
    lane = trainer.open_lane(find_fusion_key(trials[0][1]), 0)
    for slot, (_, hparams) in enumerate(trials):
        lane.place(slot, recording.seed, hparams)
    reports: dict[str, list[EpochReport]] = {name: [] for name in recording.trials}
    for _ in range(recording.epochs):
        for report in lane.train_epoch():
            reports[trials[report.slot][0]].append(report)
    return data, reports


def lines(
    data: Data, hparams: Hparams, reports: Iterable[EpochReport], *, seed: int
) -> Iterable[str]:
    supports = np.bincount(data.validation.targets, minlength=len(data.class_names)).tolist()
    params = ", ".join(f"{name}={value}" for name, value in hparams.to_params().items())
    yield f"# {COMMAND}"
    yield f"# torch {torch.__version__}, numpy {np.__version__}, {platform.machine()}, seed {seed}"
    yield f"# {len(data.train.targets)} training rows; {params}"
    yield f"# validation examples: {supports}"
    yield ",".join(["epoch", "train_loss", "val_loss", "score", "class_f1"])
    for report in reports:
        numbers = (report.train_loss, report.val_loss, MACRO_F1.score(report.counts))
        classes = " ".join(f"{f1:.4f}" for f1 in class_scores(report.counts).f1)
        yield ",".join([str(report.epoch), *(f"{number:.5f}" for number in numbers), classes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="curves to write; all if none is named")
    wanted = set(parser.parse_args().names)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for recording in RECORDINGS:
        if wanted and not wanted & set(recording.trials):
            continue
        data, reports = train(recording)
        for name, hparams in recording.trials.items():
            path = FOLDER / f"{name}.csv"
            written = lines(data, hparams, reports[name], seed=recording.seed)
            path.write_text("\n".join(written) + "\n")
            best = max(MACRO_F1.score(report.counts) for report in reports[name])
            print(f"{path.name}: {len(reports[name])} epochs, best macro-F1 {best:.4f}")


if __name__ == "__main__":
    main()
