"""What every data file says of its examples: the class of each, and the split that it is in.

Shapes: N examples, C classes.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import Data, DataError, Split
from objectives.data.rows import Rows
from objectives.data.targets import Targets, read_targets
from objectives.metrics import find_classes

SPLITS = ("train", "validation", "test")
#: How the examples of a file without a split column are shared between SPLITS.
SHARES = (0.70, 0.15, 0.15)
#: What a split may be called in a file, lower case.
SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "dev": "validation",
    "val": "validation",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Examples:
    """The classes and splits of N examples.

    Attributes:
        class_names: Names of the C classes, by index.
        targets: A class for each example by index, (N,), a distribution over them, (N, C), or
            which labels it has, (N, C).
        splits: "train", "validation" or "test", (N,).
    """

    class_names: tuple[str, ...]
    targets: Targets
    splits: npt.NDArray[np.str_]

    @property
    def labels(self) -> npt.NDArray[np.str_]:
        """Name of each example's class, (N,): of a distribution its likeliest.

        Raises:
            DataError: If an example may have several labels.
        """
        if self.targets.dtype == np.bool_:
            raise DataError("the examples have several labels each; expected one class")
        return np.array(self.class_names)[find_classes(self.targets)]

    @property
    def is_train(self) -> npt.NDArray[np.bool_]:
        """Whether each example is trained on, (N,)."""
        is_train: npt.NDArray[np.bool_] = self.splits == "train"
        return is_train

    def make_data(
        self,
        make_inputs: Callable[[npt.NDArray[np.int64]], tuple[npt.NDArray[Any], ...]],
        lengths: npt.NDArray[np.int64] | None = None,
        **more: Any,
    ) -> Data:
        """Return the data set of the examples.

        Args:
            make_inputs: Returns the inputs of the examples with these indexes.
            lengths: Real steps of each example, (N,).
            more: Other fields of ``Data``.
        """

        def make_split(name: str) -> Split:
            chosen = np.flatnonzero(self.splits == name)
            chosen_lengths = None if lengths is None else lengths[chosen]
            return Split(make_inputs(chosen), self.targets[chosen], chosen_lengths)

        train, validation, test = map(make_split, SPLITS)
        return Data(train, validation, test, self.class_names, **more)


def read_examples(
    rows: Rows, *, label: str, groups: Callable[[], Sequence[Hashable]], seed: int
) -> Examples:
    """Return the classes and splits of rows, one an example.

    The column split says train, validation (also dev, val) or test. Without it the examples are
    shared 70/15/15, each class apart, and those of one group stay on one side.

    Args:
        rows: With the column ``label``, or ``label.NAME`` for each class, and perhaps split.
        label: Name of the column.
        groups: Returns what must stay together, by ``repr``; (N,). Asked where there is no split.
        seed: Decides which groups go where.

    Raises:
        DataError: If a row has no class or no split, or if nothing could be trained or measured.
    """
    class_names, targets = read_targets(rows, label)
    classes = _stratify(class_names, targets)
    if "split" in rows.names:
        splits = _read_splits(rows)
    else:
        splits = assign_splits(groups(), classes, seed=seed)
    for name in ("train", "validation"):
        if name not in splits:
            raise DataError(f"{rows.source}: nothing is in the split {name!r}; expected both")
    trained = {name for name, split in zip(classes, splits, strict=True) if split == "train"}
    untrained = [row for row, name in enumerate(classes) if name not in trained]
    if untrained and targets.ndim == 1:
        name, split = classes[untrained[0]], splits[untrained[0]]
        text = f"class {name!r} of the split {split!r} is absent from train"
        raise rows.error(untrained, f"{text}; expected every class there")
    return Examples(class_names, targets, np.array(splits, dtype=np.str_))


def _stratify(class_names: Sequence[str], targets: Targets) -> list[str]:
    """Return the class of each example; of several labels the rarest, "" of none."""
    if targets.dtype != np.bool_:
        return [class_names[index] for index in find_classes(targets)]
    order = np.argsort(targets.sum(axis=0), kind="stable")
    rarest = targets[:, order].argmax(axis=1)
    has_any = np.asarray(targets.any(axis=1))
    return [class_names[order[i]] if has else "" for i, has in zip(rarest, has_any, strict=True)]


def _read_splits(rows: Rows) -> list[str]:
    names = [name.lower() for name in rows.texts("split")]
    wrong = [row for row, name in enumerate(names) if name not in SPLIT_NAMES]
    if wrong:
        text = f"unknown split {rows.texts('split')[wrong[0]]!r}"
        expected = "expected train, validation (also dev, val) or test"
        raise rows.error(wrong, f"{text}; {expected}")
    return [SPLIT_NAMES[name] for name in names]


def assign_splits(groups: Sequence[Hashable], labels: Sequence[str], *, seed: int) -> list[str]:
    """Return a split for each row, SHARES of every label; rows of one group share a split.

    Depends on the groups and the labels alone, not on the order of the rows or on a library's
    random numbers. A group is counted under its rarest label. The first group of a label goes to
    train and the second to validation, so that what is trained is measured where it can be.

    Args:
        groups: What must stay together, by ``repr``; (N,).
        labels: Class of each row, (N,).
        seed: Decides which groups go where.
    """
    sizes = Counter(labels)
    members: defaultdict[Hashable, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        members[group][label] += 1

    def rank(group: Hashable) -> tuple[int, str, bytes]:
        rarest = min((sizes[label], label) for label in members[group])
        return *rarest, hashlib.sha256(f"{seed} {group!r}".encode()).digest()

    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(SPLITS))
    chosen: dict[Hashable, str] = {}
    ranks = {group: rank(group) for group in members}
    for group in sorted(members, key=lambda group: ranks[group]):
        label = ranks[group][1]
        placed = counts[label]
        num_after = sum(placed) + members[group][label]
        deficits = [share * num_after - num for share, num in zip(SHARES, placed, strict=True)]
        index = deficits.index(max(deficits))
        if placed[0] and not placed[1]:
            index = 1
        chosen[group] = SPLITS[index]
        for member_label, num_rows in members[group].items():
            counts[member_label][index] += num_rows
    return [chosen[group] for group in groups]
