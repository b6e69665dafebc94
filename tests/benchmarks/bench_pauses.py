"""What pausing and promoting costs a lane: files of states written and read, against its epochs.

    python tests/benchmarks/bench_pauses.py [--pauses 10000] [--slots 16] [--objective tabular-mlp]

At each epoch three of four trials leave the lane, their states written to one file, and as many
enter from files of earlier epochs; each file goes once all of its trials have left it. In a second
lane the same trials stay. Processor seconds of one thread, in turn, because a machine's speed
drifts. Also the most bytes of states on disk at once, and the peak of the process's memory.
"""

import argparse
import os
import platform
import random
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from objectives.api import Lane, find_fusion_key
from objectives.lanes.checkpoints import load_states, save_states
from objectives.lanes.trainer import ModelTrainer
from objectives.registry import find_objective
from search_spaces.hparams import Hparams
from search_spaces.presets import PRESETS

KNOWN = 64
"""Trials that take turns in the lane."""


def make_hparams(objective: str) -> Hparams:
    preset = PRESETS[objective]
    model = {k: v[0] if isinstance(v, list) else v for k, v in preset["model"].items()}
    batch_size = preset["batch_size"][0]
    return Hparams(learning_rate=1e-3, dropout=0.1, batch_size=batch_size, model=model)


def train(lane: Lane) -> float:
    began = time.process_time()
    lane.train_epoch()
    return time.process_time() - began


def swap(
    lane: Lane, present: list[int], states: dict[int, Path], hparams: Hparams, path: Path
) -> None:
    """Pause three of four trials of the lane, and promote as many that wait."""
    chance = random.Random(len(str(path)) + sum(present))
    leaving = chance.sample(present, len(present) * 3 // 4)
    save_states(lane.copy_states(leaving), path)
    entering = [trial for trial in range(KNOWN) if trial not in present][: len(leaving)]
    chance.shuffle(entering)
    by_file: dict[Path, list[int]] = {}
    for trial in leaving:
        lane.drop(trial)
        present.remove(trial)
    for trial in entering:
        if trial in states:
            by_file.setdefault(states.pop(trial), []).append(trial)
        else:
            lane.place(trial, trial, hparams)
    for file, trials in by_file.items():
        for trial, state in load_states(file, trials).items():
            lane.place(trial, trial, hparams, state)
        if file not in states.values():
            file.unlink()
    present.extend(entering)
    states.update(dict.fromkeys(leaving, path))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pauses", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--objective", choices=PRESETS, default="tabular-mlp")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    objective = find_objective(arguments.objective)
    trainer = ModelTrainer(objective, objective.load(None))
    hparams = make_hparams(arguments.objective)
    lanes = [trainer.open_lane(find_fusion_key(hparams), 0) for _ in range(2)]
    for lane in lanes:
        for trial in range(arguments.slots):
            lane.place(trial, trial, hparams)
        lane.train_epoch()
    swapping, still = lanes
    present, states = list(range(arguments.slots)), {}
    swapped_s = still_s = 0.0
    pauses = epochs = most = 0
    with tempfile.TemporaryDirectory() as folder:
        while pauses < arguments.pauses:
            epochs += 1
            pauses += arguments.slots * 3 // 4
            began = time.process_time()
            swap(swapping, present, states, hparams, Path(folder, f"{epochs}.safetensors"))
            swapped_s += time.process_time() - began + train(swapping)
            still_s += train(still)
            most = max(most, sum(each.stat().st_size for each in Path(folder).iterdir()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{arguments.objective}, {arguments.slots} slots, {epochs} epochs, {pauses} pauses"
    )
    print(
        f"an epoch of trials that stay {still_s / epochs * 1e3:.1f} ms, of trials that come and "
        f"go {swapped_s / epochs * 1e3:.1f} ms: {swapped_s / still_s - 1:+.1%}; states on disk "
        f"{most / 2**20:.1f} MiB at most, memory {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
