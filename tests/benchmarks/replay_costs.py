"""Measures what a lane epoch costs for each shape of the benchmark tasks.

    OMP_NUM_THREADS=1 python tests/benchmarks/replay_costs.py

writes ``replay_costs.json``: for each table a list of [fusion key as text, seconds of one core of
a lane epoch, seconds more for each slot], for the whole data set. It is timed on the smaller data
of the tables, with 1 and 16 slots (4 where a lane takes trials one by one), the faster of two
epochs each, in seconds of the processor, and multiplied by the number of examples.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from record_tables import draw_settings
from tasks import SPACES, TASKS, Task

from objectives.api import FusionKey, find_fusion_key
from objectives.lanes.trainer import ModelTrainer
from objectives.registry import find_objective
from search_spaces.hparams import Hparams

COSTS = Path(__file__).parent / "replay_costs.json"


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    costs: dict[str, list[tuple[str, float, float]]] = {}
    if COSTS.exists():
        costs = json.loads(COSTS.read_text())
    for task in TASKS.values():
        for kind in SPACES:
            name = f"{task.name}-{kind}"
            if name in costs:
                continue
            settings = draw_settings(task.space(kind), task.num_settings)
            costs[name] = measure_task(task, settings)
            COSTS.write_text(json.dumps(costs, indent=1) + "\n")
            print(name, *costs[name], sep="\n  ", flush=True)


def measure_task(task: Task, settings: Iterable[Hparams]) -> list[tuple[str, float, float]]:
    """Return the cost of each shape among the settings."""
    small = task.load_small()
    pixels = 4 if task.is_halved else 1
    scale = pixels * len(task.load().train.targets) / len(small.train.targets)
    trainer = ModelTrainer(find_objective(task.objective), small)
    of_key = {find_fusion_key(hparams): hparams for hparams in settings}
    return [(str(key), *measure_shape(trainer, key, of_key[key], scale)) for key in of_key]


def measure_shape(
    trainer: ModelTrainer, key: FusionKey, hparams: Hparams, scale: float
) -> tuple[float, float]:
    """Return seconds of a lane epoch, and more for each slot."""
    slots = 4 if trainer.open_lane(key, 0).max_slots == 1 else 16
    alone, many = (time_epoch(trainer, key, hparams, count) for count in (1, slots))
    each = min(alone, max(0.0, (many - alone) / (slots - 1)))
    return round(scale * (alone - each), 5), round(scale * each, 5)


def time_epoch(trainer: ModelTrainer, key: FusionKey, hparams: Hparams, slots: int) -> float:
    """Return the faster of two epochs, in seconds of the processor, after one that warms up."""
    lane = trainer.open_lane(key, 0)
    for i in range(slots):
        lane.place(i, i, hparams)
    times = []
    for _ in range(3):
        started = time.process_time()
        lane.train_epoch()
        times.append(time.process_time() - started)
    return min(times[1:])


if __name__ == "__main__":
    main()
