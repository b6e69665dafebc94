"""The tasks that benchmarks of whole sweeps share: data, model, and two search spaces of each.

``task_data.py`` makes the data files that are not shipped; Fashion-MNIST is ``apt-get install
dataset-fashion-mnist``. The spaces are what a newcomer would write: learning rates from 1e-5 to 1
for every optimizer. ``one`` has one shape, ``mixed`` has 18: widths, depths (or what stands for
them) and batch sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from objectives.api import Data, Split
from objectives.registry import find_objective

HERE = Path(__file__).parent
#: Files that ``task_data.py`` makes.
DATA = HERE / "data"
SPACES = ("one", "mixed")
RATES: Mapping[str, Any] = {
    "optimizer": ["adam", "rmsprop", "sgd"],
    "learning_rate": {"low": 1e-5, "high": 1.0, "log": True},
    "beta1": 0.9,
    "beta2": 0.999,
    "momentum": {"low": 0.0, "high": 0.95, "by_optimizer": {"rmsprop": 0.0}},
    "dropout": {"low": 0.0, "high": 0.6},
}


@dataclass(frozen=True, slots=True)
class Task:
    """A data set and a model.

    Attributes:
        name: In tables and file names.
        objective: As ``bestepoch run`` takes it.
        one: Batch size and model of the space with one shape.
        mixed: Choices of the space with 18.
        source: The data file; None: what the objective has.
        num_settings: Settings of a table of curves.
        table_examples: Most training and validation examples of a table; None: all there are.
        is_halved: Whether a table's images have half the side.
        is_held_out: Whether it is kept for the end: it has no table, and ``bench_answers.py``
            runs it only if it is named, once the defaults are frozen.
    """

    name: str
    objective: str
    one: Mapping[str, Any]
    mixed: Mapping[str, Any]
    source: Path | None = None
    num_settings: int = 500
    table_examples: tuple[int, int] | None = None
    is_halved: bool = False
    is_held_out: bool = False

    def space(self, kind: str) -> dict[str, Any]:
        """Return the search space ``one`` or ``mixed``, as it stands in a sweep file."""
        return {**RATES, **{"one": self.one, "mixed": self.mixed}[kind]}

    def load(self) -> Data:
        """Return the whole data set.

        Raises:
            FileNotFoundError: If its file is missing; the message says how to get it.
        """
        if self.source is not None and not self.source.exists():
            raise FileNotFoundError(f"{self.source}: see tests/benchmarks/task_data.py")
        return find_objective(self.objective).load(self.source)

    def load_small(self) -> Data:
        """Return the data set of the task's tables: first examples, halved images."""
        data = self.load()
        if self.table_examples is not None:
            train, validation = self.table_examples
            data = replace(
                data,
                train=first(data.train, train),
                validation=first(data.validation, validation),
            )
        if self.is_halved:
            data = replace(data, train=halved(data.train), validation=halved(data.validation))
        return data


TASKS = {
    task.name: task
    for task in (
        Task(
            "mnist1d",
            "tabular-mlp",
            {"batch_size": [64], "model": {"hidden_width": 64, "hidden_depth": 2}},
            {
                "batch_size": [32, 128],
                "model": {"hidden_width": [16, 64, 128], "hidden_depth": [1, 2, 3]},
            },
            source=DATA / "mnist1d.npz",
        ),
        Task(
            "adult",
            "tabular-mlp",
            {"batch_size": [200], "model": {"hidden_width": 32, "hidden_depth": 2}},
            {
                "batch_size": [50, 200],
                "model": {"hidden_width": [16, 32, 64], "hidden_depth": [1, 2, 3]},
            },
            table_examples=(6000, 3000),
        ),
        Task(
            "digits",
            "sequence-rnn",
            {"batch_size": [16], "model": {"cell": "gru", "hidden": 16}},
            {
                "batch_size": [8, 16, 32],
                "model": {"cell": "gru", "hidden": [8, 12, 16, 20, 24, 32]},
            },
            source=DATA / "digits.npz",
        ),
        Task(
            "fashion",
            str(HERE / "own_fashion.py"),
            {"batch_size": [64], "model": {"channels": 8, "depth": 2}},
            {"batch_size": [32, 128], "model": {"channels": [4, 8, 16], "depth": [1, 2, 3]}},
            num_settings=150,
            table_examples=(1000, 1000),
            is_halved=True,
        ),
        Task(
            "relations",
            "relation-cnn",
            {
                "batch_size": [50],
                "model": {"filters": 100, "window": 3, "position_dim": 5, "vectors": "frozen"},
            },
            {
                "batch_size": [50, 100],
                "model": {
                    "filters": [25, 50, 100],
                    "window": [1, 3, 5],
                    "position_dim": 5,
                    "vectors": "frozen",
                },
            },
            num_settings=150,
            table_examples=(1500, 1000),
        ),
        Task(
            "letters",
            "tabular-mlp",
            {"batch_size": [128], "model": {"hidden_width": 64, "hidden_depth": 2}},
            {
                "batch_size": [64, 256],
                "model": {"hidden_width": [32, 64, 128], "hidden_depth": [1, 2, 3]},
            },
            source=DATA / "letters.npz",
            is_held_out=True,
        ),
        Task(
            "splice",
            "sequence-rnn",
            {"batch_size": [32], "model": {"cell": "gru", "hidden": 16}},
            {
                "batch_size": [16, 32, 64],
                "model": {"cell": "gru", "hidden": [8, 12, 16, 20, 24, 32]},
            },
            source=DATA / "splice.npz",
            is_held_out=True,
        ),
    )
}


def first(split: Split, count: int) -> Split:
    """Return a split's first examples."""
    lengths = None if split.lengths is None else split.lengths[:count]
    inputs = tuple(array[:count] for array in split.inputs)
    return replace(split, inputs=inputs, targets=split.targets[:count], lengths=lengths)


def halved(split: Split) -> Split:
    """Return images, (N, C, H, W), at half the side: the mean of each 2 x 2 pixels."""
    (images,) = split.inputs
    n, channels, height, width = images.shape
    blocks = images.reshape(n, channels, height // 2, 2, width // 2, 2)
    return replace(split, inputs=(blocks.mean(axis=(3, 5), dtype=np.float32),))
