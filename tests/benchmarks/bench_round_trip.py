"""What the coordinator costs: trainers' waiting at each command, its processor time, and memory.

    python tests/benchmarks/bench_round_trip.py [--epochs 20]

One trainer and one lane of tabular-mlp (batch 200) with 16 and with 128 trials, which all run to
the last epoch. ``epoch``: seconds of a lane's epoch; ``waited``: milliseconds from an answer to
the next command, the records of all trials in between; ``busy``: milliseconds of the
coordinator's processor time an epoch, asks, records and Optuna's copy included. Then the largest
proportional set size (PSS, in which shared pages count once in all) of each process of a sweep
with two trainers.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import sweeps
from sweeps.running.events import EpochDone, Event

SETTINGS = (
    "space.optimizer='adam'",
    "space.batch_size=200",
    "sampler.name='random'",
    "pruner.name='none'",
)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs
    print(f"{'slots':>6} {'epoch s':>9} {'waited ms':>10} {'share':>7} {'busy ms':>9}")
    for slots in (16, 128):
        print(*measure(slots, epochs))
    for name, mib in measure_memory(epochs).items():
        print(f"{name:>12} {mib:7.0f} MiB")


def measure(slots: int, epochs: int) -> tuple[str, ...]:
    """Return a row of the first table."""
    seconds = 0.0

    def add(event: Event) -> None:
        nonlocal seconds
        seconds += event.seconds if isinstance(event, EpochDone) else 0.0

    with tempfile.TemporaryDirectory() as folder:
        config = sweeps.load_config(
            "tabular-mlp",
            [*SETTINGS, f"max_epochs={epochs}", f"patience={epochs}", f"prune_patience={epochs}"],
            trials=slots,
            slots=slots,
            workers=1,
            storage=f"sqlite:///{folder}/study.db",
        )
        end = sweeps.run(config, on_event=add)
    waited, busy = end.waited_s / epochs, end.bookkeeping_s / epochs
    share = end.waited_s / (seconds + end.waited_s)
    return (
        f"{slots:>6}",
        f"{seconds / epochs:>9.3f}",
        f"{1e3 * waited:>10.1f}",
        f"{share:>7.1%}",
        f"{1e3 * busy:>9.1f}",
    )


def measure_memory(epochs: int) -> dict[str, float]:
    """Return the largest PSS of each process of a sweep with two trainers, in MiB."""
    largest: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-c", "from sweeps.cli import main; main()", "run"]
        command += ["tabular-mlp", "--quiet", "--trials", "64", "--workers", "2"]
        for each in (*SETTINGS, f"max_epochs={epochs}"):
            command += ["--set", each]
        process = subprocess.Popen(command, cwd=Path(folder), stdout=subprocess.DEVNULL)
        coordinator = psutil.Process(process.pid)
        while process.poll() is None:
            time.sleep(0.1)
            for name, each in list_processes(coordinator):
                try:
                    mib = each.memory_full_info().pss / 2**20
                except psutil.Error:
                    continue
                largest[name] = max(mib, largest.get(name, 0.0))
    return largest


def list_processes(coordinator: psutil.Process) -> list[tuple[str, psutil.Process]]:
    """Return the processes of a sweep by what they are."""
    try:
        loaders = coordinator.children()
        trainers = [child for loader in loaders for child in loader.children()]
    except psutil.Error:
        return []
    named = [("coordinator", coordinator), *(("loader", each) for each in loaders)]
    return named + [(f"trainer {i}", each) for i, each in enumerate(trainers)]


if __name__ == "__main__":
    main()
