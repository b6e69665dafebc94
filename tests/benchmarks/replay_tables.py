"""Tables of real learning curves, and what a lane epoch of each shape costs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from replay_costs import COSTS

from objectives.api import find_fusion_key
from search_spaces.hparams import Hparams

#: Smallest rise that counts, as in a sweep.
MIN_DELTA = 0.001
#: Examples that a score of the recorded tables is taken over; see ``tasks.py``.
NUM_VALIDATION = {
    "mnist1d": 2000,
    "adult": 3000,
    "digits": 540,
    "fashion": 1000,
    "relations": 1000,
}


@dataclass(frozen=True)
class Table:
    """Curves of one task; N settings, E epochs.

    Attributes:
        name: The task, and its space.
        scores: Score per epoch, higher is better; NaN from where a trial had diverged, (N, E).
        val_losses: Validation loss per epoch, (N, E).
        shapes: Index of each setting's shape, (N,).
        costs: Per shape, seconds of one core: of a lane epoch, and more for each slot.
        settings: The settings; none for tables of others.
    """

    name: str
    scores: NDArray[np.float64]
    val_losses: NDArray[np.float64]
    shapes: NDArray[np.int64]
    costs: list[tuple[float, float]]
    settings: list[Hparams]

    @property
    def num_epochs(self) -> int:
        """Epochs of a curve."""
        return self.scores.shape[1]

    @property
    def num_validation(self) -> int | None:
        """Examples that a score is taken over; None: it is a loss."""
        return NUM_VALIDATION.get(self.name.split("-")[0])

    @property
    def width(self) -> int:
        """Trials at once that pay: 1.5 times as many as double the time of a lane epoch."""
        return max(2, round(1.5 * float(np.median([a / b for a, b in self.costs]))))

    @cached_property
    def curves(self) -> list[list[float]]:
        """The scores as lists, which plain Python reads faster."""
        return self.scores.tolist()  # type: ignore[no-any-return]

    @cached_property
    def loss_curves(self) -> list[list[float]]:
        """Minus the validation loss."""
        return (-self.val_losses).tolist()  # type: ignore[no-any-return]

    @cached_property
    def bests(self) -> list[list[float]]:
        """The best score so far, -inf before the first."""
        filled = np.where(np.isnan(self.scores), -np.inf, self.scores)
        return np.maximum.accumulate(filled, axis=1).tolist()  # type: ignore[no-any-return]

    @cached_property
    def waits(self) -> list[list[int]]:
        """Epochs since a curve last rose by more than ``MIN_DELTA``, as ``epochs_since_best``."""
        reference = np.full(len(self.scores), -np.inf)
        waits = np.zeros(self.scores.shape, dtype=np.int64)
        for epoch, score in enumerate(self.scores.T):
            rises = score - MIN_DELTA > reference
            reference = np.where(rises, score, reference)
            waits[:, epoch] = np.where(rises, 0, waits[:, epoch - 1] + 1)
        return waits.tolist()  # type: ignore[no-any-return]

    @cached_property
    def best(self) -> float:
        """The best score of all."""
        return max(curve[-1] for curve in self.bests)

    @cached_property
    def _median(self) -> float:
        return float(np.median([curve[-1] for curve in self.bests]))

    def regret(self, score: float) -> float:
        """Return 0 for the best setting's best score, 1 for the median one's; at most 2."""
        return min(2.0, (self.best - score) / (self.best - self._median))


def read_taskset(path: Path, cost: tuple[float, float]) -> list[Table]:
    """Return 12 tasks of 1,000 settings and 50 epochs; one shape, and scores are -loss.

    Args:
        path: An npz file of TaskSet (arXiv 2002.11887): ``tasks`` (names) and ``valid``, losses
            (12, 1000, 51), the first before training; from releaunifreiburg/DPL on GitHub.
        cost: Seconds of one core, of a lane epoch and more for each slot.
    """
    with np.load(path) as file:
        names, losses = file["tasks"], file["valid"][:, :, 1:].astype(float)
    return [
        Table(
            str(name),
            np.where(np.isfinite(loss), -np.minimum(loss, 10.0), np.nan),
            loss,
            np.zeros(len(loss), dtype=np.int64),
            [cost],
            [],
        )
        for name, loss in zip(names, losses, strict=True)
    ]


def _read_params(params: Mapping[str, Any]) -> Hparams:
    """Return recorded hyperparameters; the tables hold both betas in a list."""
    betas = params.get("betas", ())
    named = {f"beta{i}": beta for i, beta in enumerate(betas, start=1)}
    return Hparams(**{name: one for name, one in params.items() if name != "betas"}, **named)


def read_own(path: Path) -> list[Table]:
    """Return a table that ``record_tables.py`` has recorded, for each seed that is complete.

    The first seed may be incomplete.
    """
    cost_of = {key: (a, b) for key, a, b in json.loads(COSTS.read_text())[path.stem]}
    with np.load(path) as file:
        settings = [_read_params(each) for each in json.loads(bytes(file["params"]))]
        scores, val_losses, slots = (file[name] for name in ("score", "val_loss", "slots"))
    tables = []
    for seed in range(len(scores)):
        recorded = np.flatnonzero(slots[seed])
        if seed and len(recorded) < len(settings):
            break
        keys = [str(find_fusion_key(settings[i])) for i in recorded]
        shapes = sorted(set(keys))
        tables.append(
            Table(
                path.stem,
                scores[seed, recorded].astype(float),
                val_losses[seed, recorded].astype(float),
                np.array([shapes.index(key) for key in keys]),
                [cost_of[key] for key in shapes],
                [settings[i] for i in recorded],
            )
        )
    return tables
