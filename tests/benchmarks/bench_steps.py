"""Time of a training step a trial, in lanes of 1 to 256 slots and in plain PyTorch loops.

    python tests/benchmarks/bench_steps.py [--csv FILE] [--model mlp|gru|cnn] [--most-slots 256]

Same model, same batches, Adam, dropout, one thread (the GPU with --device cuda). The plain loop
is the module as most people would write it: ``nn.Linear``, ``nn.GRU`` or ``nn.Conv1d`` on batches
that are trimmed to their longest example; the padded loop pads every batch to the longest example
of the data. All are timed in turn, several rounds in one run, because a shared machine's speed
drifts: quote the ratios.
"""

import argparse
import csv
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_loops import CASES, measure

from sweeps.trainers.local_executor import MALLOC

COLUMNS = ("model", "batch", "loop", "slots", "us_a_trial_step", "times_plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=CASES, help="only this one")
    parser.add_argument("--most-slots", type=int, default=256)
    parser.add_argument("--device", default="cpu")
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
    print(f"{'model':5} {'batch':>5} {'loop':>6} {'slots':>5} {'us a trial-step':>15} x plain")
    slots = [2**i for i in range(9) if 2**i <= arguments.most_slots]
    rows: list[dict[str, Any]] = []
    for name in [arguments.model] if arguments.model else CASES:
        for batch in CASES[name].batches:
            for row in measure(name, batch, slots, arguments.device):
                rows.append(row)
                print("{:5} {:5} {:>6} {:5} {:15.1f} {:7.2f}".format(*row.values()), flush=True)
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
