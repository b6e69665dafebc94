"""Ten tasks that no threshold of the analysis was tuned on.

Letters and splice junctions are held out everywhere (``task_data.py`` makes them); the written
digits of 8 x 8 pixels are scikit-learn's. MNIST-1D and Fashion-MNIST, of which tables of curves
exist, appear only as other tasks: with 30 % of the labels wrong, and as one class in 20 examples
against all others. Test labels are never wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tasks import TASKS, Task, first, halved

from objectives.api import Data, Objective, Split
from objectives.registry import find_objective

#: Share of the training and validation labels that are another class, and of rare examples.
NOISE, RARE = 0.3, 0.05
#: Most examples of train, validation and test.
EXAMPLES: Mapping[str, tuple[int, int, int]] = {
    "mnist1d": (4000, 2000, 2000),
    "letters": (4000, 2000, 4000),
    "splice": (1600, 793, 793),
    "pixels": (800, 500, 497),
    "fashion": (1000, 1000, 4000),
}
#: The class that is rare, where it is one against all others.
_RARE_CLASS = 0


@dataclass(frozen=True, slots=True)
class ProofTask:
    """A data set and a model; the variant is ``plain``, ``noise`` or ``rare``."""

    base: str
    variant: str

    @property
    def name(self) -> str:
        """In the rows of results."""
        return f"{self.base}-{self.variant}"

    @property
    def objective(self) -> Objective:
        """What builds the model."""
        return find_objective("tabular-mlp" if self.base == "pixels" else self._task.objective)

    @property
    def space(self) -> dict[str, Any]:
        """The search space with one shape of model, rates from 1e-5 to 1."""
        return self._task.space("one")

    @property
    def _task(self) -> Task:
        return TASKS["mnist1d" if self.base == "pixels" else self.base]

    def load(self) -> Data:
        """Return the data, the same in each call."""
        data = _load_pixels() if self.base == "pixels" else self._task.load()
        splits = [data.train, data.validation, data.test]
        if self.base == "fashion":
            splits = [halved(split) for split in splits]
        if self.variant == "rare":
            splits = [_make_rare(split, seed) for seed, split in enumerate(splits)]
            data = replace(data, class_names=("other", data.class_names[_RARE_CLASS]))
        splits = [first(split, n) for split, n in zip(splits, EXAMPLES[self.base], strict=True)]
        train, validation, test = splits
        if self.variant == "noise":
            classes = len(data.class_names)
            train, validation = (_add_noise(split, classes) for split in (train, validation))
        return replace(data, train=train, validation=validation, test=test)


PROOF_TASKS = (
    ProofTask("mnist1d", "noise"),
    ProofTask("letters", "plain"),
    ProofTask("fashion", "rare"),
    ProofTask("letters", "noise"),
    ProofTask("mnist1d", "rare"),
    ProofTask("fashion", "noise"),
    ProofTask("letters", "rare"),
    ProofTask("pixels", "noise"),
    ProofTask("splice", "plain"),
    ProofTask("splice", "noise"),
)


def _load_pixels() -> Data:
    """Return 1,797 written digits, each number in [0, 1]."""
    from sklearn.datasets import load_digits

    features, targets = load_digits(return_X_y=True)
    shuffled = np.random.default_rng(0).permutation(len(targets))
    features, targets = features[shuffled].astype(np.float32) / 16, targets[shuffled]
    ends = np.cumsum(EXAMPLES["pixels"])[:2]
    parts = zip(np.split(features, ends), np.split(targets, ends), strict=True)
    return Data(*(Split((x,), y) for x, y in parts), class_names=tuple("0123456789"))


def _add_noise(split: Split, classes: int) -> Split:
    """Return a split in which a share of the examples has another class, drawn evenly."""
    rng = np.random.default_rng(len(split.targets))
    wrong = rng.random(len(split.targets)) < NOISE
    others = (split.targets + rng.integers(1, classes, len(split.targets))) % classes
    return replace(split, targets=np.where(wrong, others, split.targets))


def _make_rare(split: Split, seed: int) -> Split:
    """Return one class against all others, with few enough of it, in a new order."""
    rng = np.random.default_rng(seed)
    is_rare = split.targets == _RARE_CLASS
    rest = np.flatnonzero(~is_rare)
    wanted = round(len(rest) * RARE / (1 - RARE))
    kept = rng.permutation(np.concatenate([rest, np.flatnonzero(is_rare)[:wanted]]))
    lengths = None if split.lengths is None else split.lengths[kept]
    return Split(
        tuple(each[kept] for each in split.inputs), is_rare[kept].astype(np.int64), lengths
    )
