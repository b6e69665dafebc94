"""Which setting of a table is tried next."""

import math
from zlib import crc32

import numpy as np
from replay_engine import Run
from replay_tables import Table
from tasks import TASKS

from search_spaces.hparams import Hparams
from search_spaces.space import parse_space
from sweeps.config.sampler import SamplerConfig
from sweeps.running.sampling import Known, Sampling, read_sampled

#: Seconds of one core for a random trial, and for one of TPE beside none and beside 300 or more,
#: the most that it learns from.
RANDOM_S, ASK_S = 0.001, (0.004, 0.009)
#: Share of one core that asks may take.
ASKS_SHARE = 0.1


class RandomDraw:
    """Settings in a random order."""

    def __init__(self, table: Table, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(table.shapes)).tolist()
        self._order: list[int] = order[::-1]
        self._by_shape: list[list[int]] = [[] for _ in table.costs]
        for trial in self._order:
            self._by_shape[table.shapes[trial]].append(trial)

    def __call__(self, run: Run, shape: int | None) -> tuple[int, float] | None:
        """Return the next one; None: there is none left."""
        waiting = self._order if shape is None else self._by_shape[shape]
        while waiting:
            trial = waiting.pop()
            if trial not in run.bests:
                return trial, RANDOM_S
        return None


class TpeDraw:
    """Asks the engine's TPE, and takes the setting of the table that is nearest and not used yet.

    Where asks have taken more than a tenth of one core, a random one.

    Args:
        table: One of this engine's tables.
        seed: Of the sampler.
        batch: Trials that are asked for together.
    """

    def __init__(self, table: Table, seed: int, batch: int = 8) -> None:
        task, kind = table.name.split("-")
        space = parse_space(TASKS[task].space(kind))
        self._random = RandomDraw(table, seed)
        self._sampling = Sampling(SamplerConfig(name="tpe"), space, seed)
        self._sampled = [read_sampled(space, each) for each in table.settings]
        self._places = np.array([_place(each) for each in table.settings])
        self._shapes = table.shapes
        self._batch = batch
        self._asked: list[Hparams] = []
        self._asked_s = 0.0

    def __call__(self, run: Run, shape: int | None) -> tuple[int, float] | None:
        """Return the next one; None: there is none left."""
        if not self._asked:
            if self._asked_s > ASKS_SHARE * run.seconds:
                return self._random(run, shape)
            self._asked = self._ask(run)
        is_free = np.ones(len(self._shapes), dtype=bool)
        is_free[list(run.bests)] = False
        if shape is not None:
            is_free &= self._shapes == shape
        if not is_free.any():
            return None
        away = np.abs(self._places - _place(self._asked.pop(0))).sum(axis=1)
        ask_s = min(ASK_S[1], ASK_S[0] + (ASK_S[1] - ASK_S[0]) * len(run.bests) / 300)
        self._asked_s += ask_s
        return int(np.argmin(np.where(is_free, away, np.inf))), ask_s

    def _ask(self, run: Run) -> list[Hparams]:
        known = [
            Known(number, self._sampled[trial], None if best == -math.inf else best)
            for number, (trial, best) in enumerate(run.bests.items())
        ]
        asked = self._sampling.ask(len(known), [{}] * self._batch, known)
        return [hparams for hparams, _ in asked]


def _place(hparams: Hparams) -> list[float]:
    """Return a setting as a point; another choice is as far as a third of the learning rates."""
    choices = {"optimizer": hparams.optimizer, "batch": hparams.batch_size, **hparams.model}
    point = [0.0] * 128
    for name, value in sorted(choices.items()):
        point[crc32(f"{name}={value}".encode()) % 128] = 0.5
    rate = 3.0 * math.log10(hparams.learning_rate or 1.0) / 5.0
    return [rate, hparams.momentum or 0.0, (hparams.dropout or 0.0) / 0.6, *point]
