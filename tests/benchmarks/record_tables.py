"""Trains random settings of the benchmark tasks to their end, and writes their learning curves.

    OMP_NUM_THREADS=1 nice -n 19 python tests/benchmarks/record_tables.py [--only TASK-SPACE] ...

Trains every setting of every table of ``tables/`` for 50 epochs with each of 3 seeds, in this
engine's lanes, without stopping any. One seed of every table comes before the second. A table is
written anew after each lane, so that the same command goes on where it was stopped; a table that
is complete is left alone. What a table holds is in ``tables/README.md``.
"""

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import torch
from tasks import SPACES, TASKS

from objectives.api import Data, EpochReport, FusionKey, Objective, find_fusion_key
from objectives.lanes.trainer import ModelTrainer
from objectives.metrics import make_metric
from objectives.registry import find_objective
from search_spaces.hparams import Hparams
from search_spaces.space import parse_space

FOLDER = Path(__file__).parent / "tables"
SEEDS, EPOCHS = 3, 50
#: Settings that are trained together; where a lane takes trials one by one, fewer are lost when
#: the command is stopped.
MOST_SLOTS, MOST_ALONE = 125, 10


@dataclass(frozen=True, slots=True)
class Table:
    """Learning curves of settings; see ``tables/README.md`` for each array.

    Shapes: ``score``, ``train_loss`` and ``val_loss`` (seeds, settings, epochs), NaN where the
    trial has diverged or has not been trained; ``seconds`` and ``slots`` (seeds, settings), 0
    where it has not.
    """

    params: tuple[Mapping[str, Any], ...]
    score: npt.NDArray[np.float16]
    train_loss: npt.NDArray[np.float16]
    val_loss: npt.NDArray[np.float16]
    seconds: npt.NDArray[np.float32]
    slots: npt.NDArray[np.int16]

    @property
    def is_complete(self) -> bool:
        """Whether every setting has been trained with every seed."""
        return bool((self.slots > 0).all())

    def add(self, seed: int, report: EpochReport, score: float) -> None:
        """Write an epoch of the setting whose number is the report's slot."""
        at = seed, report.slot, report.epoch - 1
        with np.errstate(over="ignore"):  # such a loss becomes infinite: it has diverged
            self.train_loss[at], self.val_loss[at] = report.train_loss, report.val_loss
        self.score[at] = score

    def forget_diverged(self, seed: int, chosen: Sequence[int]) -> None:
        """Leave no number from the first epoch on in which a loss is not finite."""
        is_finite = np.isfinite(self.train_loss[seed, chosen])
        is_finite &= np.isfinite(self.val_loss[seed, chosen])
        is_over = np.logical_or.accumulate(~is_finite, axis=-1)
        for array in (self.score, self.train_loss, self.val_loss):
            array[seed, chosen] = np.where(is_over, np.float16(np.nan), array[seed, chosen])


def new_table(settings: Sequence[Hparams], *, seeds: int, epochs: int) -> Table:
    """Return a table without curves."""
    score, train_loss, val_loss = (
        np.full((seeds, len(settings), epochs), np.nan, dtype=np.float16) for _ in range(3)
    )
    seconds = np.zeros((seeds, len(settings)), dtype=np.float32)
    params = tuple(hparams.to_params() for hparams in settings)
    return Table(params, score, train_loss, val_loss, seconds, seconds.astype(np.int16))


def read_table(path: Path) -> Table:
    """Return the table in a file, complete or not."""
    with np.load(path) as arrays:
        params = tuple(json.loads(bytes(arrays["params"])))
        return Table(params, **{name: arrays[name] for name in arrays.files if name != "params"})


def write_table(table: Table, path: Path) -> None:
    """Write a table atomically."""
    arrays = {
        name: getattr(table, name)
        for name in ("score", "train_loss", "val_loss", "seconds", "slots")
    }
    text = json.dumps(table.params, separators=(",", ":")).encode()
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, params=np.frombuffer(text, np.uint8), **arrays)
    os.replace(unfinished, path)


def draw_settings(space: Mapping[str, Any], count: int, *, seed: int = 0) -> list[Hparams]:
    """Return settings drawn at random from a search space, the same in each call."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    parsed = parse_space(space)
    return [parsed.suggest(study.ask()) for _ in range(count)]


def record(
    objective: Objective, data: Data, settings: Sequence[Hparams], table: Table, seed: int
) -> Iterator[None]:
    """Train what the table lacks of a seed and write it there; yield after each lane.

    The data seed is ``seed``, and a trial's is ``trial_seed`` of its place in the settings.
    """
    trainer = ModelTrainer(objective, data, data_seed=seed)
    score_of = make_metric("macro-f1", data.class_names).score
    by_key: dict[FusionKey, list[int]] = defaultdict(list)
    for i, hparams in enumerate(settings):
        by_key[find_fusion_key(hparams)].append(i)
    for key, members in by_key.items():
        lacking = [i for i in members if table.slots[seed, i] == 0]
        is_alone = trainer.open_lane(key, 0).max_slots == 1
        most = MOST_ALONE if is_alone else MOST_SLOTS
        for start in range(0, len(lacking), most):
            chosen = lacking[start : start + most]
            lane = trainer.open_lane(key, 0)
            for i in chosen:
                lane.place(i, trial_seed(seed, i), settings[i])
            started = time.process_time()
            for _ in range(table.score.shape[2]):
                for report in lane.train_epoch():
                    table.add(seed, report, score_of(report.counts))
            took = time.process_time() - started
            table.forget_diverged(seed, chosen)
            table.seconds[seed, chosen] = took / len(chosen) / table.score.shape[2]
            table.slots[seed, chosen] = 1 if is_alone else len(chosen)
            yield


def trial_seed(seed: int, setting: int) -> int:
    """Return the seed of a setting's weights and dropout masks."""
    return 1_000_000 * seed + setting


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    tasks = [task.name for task in TASKS.values() if not task.is_held_out]
    names = [f"{task}-{kind}" for task in tasks for kind in SPACES]
    parser.add_argument("--only", choices=names, action="append", help="this table; repeat")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="record so many seeds now")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    FOLDER.mkdir(exist_ok=True)
    for seed in range(arguments.seeds):
        for name in arguments.only or names:
            record_seed(name, seed)


def record_seed(name: str, seed: int) -> None:
    """Record what a table lacks of a seed."""
    task_name, kind = name.split("-")
    task, path = TASKS[task_name], FOLDER / f"{name}.npz"
    settings = draw_settings(task.space(kind), task.num_settings)
    table = new_table(settings, seeds=SEEDS, epochs=EPOCHS)
    if path.exists():
        table = read_table(path)
        drawn = tuple(hparams.to_params() for hparams in settings)
        assert table.params == drawn, f"{path}: other settings than {task_name} has now"
    if (table.slots[seed] > 0).all():
        return
    objective = find_objective(task.objective)
    started = time.time()
    for _ in record(objective, task.load_small(), settings, table, seed):
        write_table(table, path)
        done = int((table.slots[seed] > 0).sum())
        took = time.time() - started
        print(f"{name}, seed {seed}: {done} of {len(settings)} settings, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
