"""Seconds from a command's start to its data, its trainers and its first scores.

    python tests/benchmarks/bench_start.py [--rounds 3]

The three sweeps that ship, as they are, and one whose trials have 18 shapes (widths 16, 64, 256,
depths 1 to 3, batches of 32 and 128) on 12,000 rows of 16 columns and 26 classes, half a minute
long. ``data``: the data are loaded and the model has been tried; ``asked``: the trainers have been
started and the first trials have been asked for; ``score``: the first epoch is stored;
``epochs``: trial-epochs that are stored after half a minute; ``end``: the command has ended.
Medians of the rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

COLUMNS = ("sweep", "data", "asked", "score", "best", "epochs", "end")
COMMAND = (sys.executable, "-P", "-c", "from sweeps.cli import main; main()", "run")
MIXED = """
objective = "tabular-mlp"
data = "letters.csv"
trials = 400
max_epochs = 50

[space]
optimizer = "adam"
learning_rate = { low = 1e-5, high = 1.0, log = true }
batch_size = [32, 128]

[space.model]
hidden_width = [16, 64, 256]
hidden_depth = [1, 2, 3]
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"torch {torch.__version__}, medians of {rounds} rounds, seconds")
    print(*(f"{name:>13}" for name in COLUMNS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_letters(folder / "letters.csv")
        (folder / "mixed.toml").write_text(MIXED)
        for target in ("mixed.toml", "tabular-mlp", "sequence-rnn", "relation-cnn"):
            runs = [time_run(target, folder) for _ in range(rounds)]
            medians = [statistics.median(each) for each in zip(*runs, strict=True)]
            print(f"{target:>13}", *(f"{each:>13.2f}" for each in medians), flush=True)


def time_run(target: str, folder: Path) -> tuple[float, ...]:
    """Return the columns of one run, half a minute at most."""
    for old in folder.glob("bestepoch.db*"):
        old.unlink()
    started = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, target, "--json-lines", "--max-minutes", "0.5"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    first: dict[str, float] = {}
    epochs, best = 0, 0.0
    for line in process.stdout:
        event = json.loads(line)
        first.setdefault(event["event"], time.perf_counter() - started)
        if event["event"] == "EpochDone":
            epochs += 1
            best = max(best, event["score"] or 0.0)
    process.wait()
    end = time.perf_counter() - started
    return first["Note"], first["TrialStarted"], first["EpochDone"], best, epochs, end


def write_letters(path: Path) -> None:
    """Write 18,000 rows of 26 classes, each of four clusters in 16 dimensions."""
    rng = np.random.default_rng(0)
    rows, columns, classes, clusters = 18_000, 16, 26, 4
    centers = rng.normal(size=(classes, clusters, columns)) * 1.4
    labels = rng.integers(classes, size=rows)
    inputs = centers[labels, rng.integers(clusters, size=rows)] + rng.normal(size=(rows, columns))
    splits = np.repeat(["train", "validation", "test"], [12_000, 3_000, 3_000])
    with path.open("w") as file:
        file.write(",".join([*(f"x{i}" for i in range(columns)), "label", "split"]) + "\n")
        for row, label, split in zip(inputs, labels, splits, strict=True):
            numbers = ",".join(f"{number:.6g}" for number in row)
            file.write(f"{numbers},{chr(65 + label)},{split}\n")


if __name__ == "__main__":
    main()
