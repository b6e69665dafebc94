"""Targets: a class for each row, a distribution over the classes (a soft label), or labels.

Shapes: N rows, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import MAX_LABELS, DataError
from objectives.data.rows import Rows

#: How far the sum of a distribution may be from 1.
TOLERANCE = 1e-4
#: Classes from which on more classes than half of the rows mean that the label is a number to
#: predict, or a name.
_MANY = 20

Targets = npt.NDArray[np.int64] | npt.NDArray[np.float32] | npt.NDArray[np.bool_]


def is_target(name: str, label: str) -> bool:
    """Return whether a column is the label, or label.NAME: a class's share of a soft label."""
    return name == label or name.startswith(f"{label}.")


def read_targets(rows: Rows, label: str) -> tuple[tuple[str, ...], Targets]:
    """Return the names of the classes, and the target of each row.

    Classes of a column stand in sorted order, those of distributions in the order of the file.
    Columns of zeros and ones that are no distribution in some row say which labels a row has.

    Raises:
        DataError: If a row has no class, or no distribution, or if there are no two classes.
    """
    shares = [name for name in rows.names if name != label and is_target(name, label)]
    if shares:
        return _read_distributions(rows, label, shares)
    labels = rows.texts(label)
    empty = [row for row, text in enumerate(labels) if not text]
    if empty:
        raise rows.error(empty, "the label is empty; expected the name of a class")
    names, targets = np.unique(np.array(labels, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        text = f"only one class, {str(names[0])!r}; expected at least two labels"
        raise DataError(f"{rows.source}: {text}")
    if len(names) > max(_MANY, len(labels) / 2):
        text = f"{label!r} holds {len(names):,} different values in {len(labels):,} rows"
        raise DataError(f"{rows.source}: {text}; expected classes, each of several rows")
    return tuple(names.tolist()), targets.astype(np.int64)


def _read_distributions(
    rows: Rows, label: str, found: Sequence[str]
) -> tuple[tuple[str, ...], Targets]:
    if label in rows.names:
        text = f"columns {label!r} and {found[0]!r}; expected one label or its distribution"
        raise DataError(f"{rows.source}: {text}")
    names = tuple(name.removeprefix(f"{label}.").strip() for name in found)
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        text = f"found {', '.join(map(repr, found))} as the distribution of the label; expected"
        raise DataError(f"{rows.source}: {text} {label}.NAME for each of two or more classes")
    shares = np.stack([rows.numbers(name) for name in found], axis=1)
    if np.isin(shares, (0.0, 1.0)).all() and (shares.sum(axis=1) != 1.0).any():
        return names, check_targets(shares == 1.0, len(names), rows.source)
    wrong = _find_wrong(shares)
    if len(wrong):
        raise rows.error(wrong, _explain(shares[wrong[0]]))
    return names, shares.astype(np.float32)


def check_targets(targets: npt.NDArray[Any], num_classes: int, where: str) -> Targets:
    """Return a split's targets as the trainer takes them, see ``objectives.api.Split``.

    Distributions stay as they are: nothing is scaled to sum to 1.

    Args:
        targets: A class by index for each row, (N,) whole numbers in [0, C), or a distribution
            over the classes for each, (N, C), or true for each label that it has, (N, C).
        num_classes: C.
        where: What the targets are of, for the message.

    Raises:
        DataError: If they are neither; rows are counted from 1.
    """
    if targets.ndim == 2 and targets.shape[1] == num_classes and targets.dtype.kind == "b":
        if num_classes > MAX_LABELS:
            raise DataError(f"{where}: {num_classes} labels; expected at most {MAX_LABELS}")
        return targets
    if targets.ndim == 2 and targets.shape[1] == num_classes and targets.dtype.kind in "iuf":
        wrong = _find_wrong(targets)
        if len(wrong):
            raise DataError(f"{where}, row {wrong[0] + 1}: {_explain(targets[wrong[0]])}")
        return targets.astype(np.float32)
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise DataError(
            f"{where}: targets of the shape {targets.shape} of {targets.dtype}; expected whole "
            f"numbers, (examples,), or class distributions, (examples, {num_classes})"
        )
    wrong = np.flatnonzero((targets < 0) | (targets >= num_classes))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}, row {row + 1}: class {targets[row]}; expected 0 to {num_classes - 1}, one "
            f"of {num_classes} classes"
        )
    return targets.astype(np.int64)


def _find_wrong(shares: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the rows that hold a negative number or NaN, or that do not sum to 1."""
    numbers = np.asarray(shares, dtype=np.float64)
    # 1e-9 allows for the rounding of binary sums.
    is_right = (np.abs(numbers.sum(axis=1) - 1.0) <= TOLERANCE + 1e-9) & (numbers >= 0.0).all(
        axis=1
    )
    return np.flatnonzero(~is_right)


def _explain(shares: npt.NDArray[Any]) -> str:
    numbers = np.asarray(shares, dtype=np.float64)
    beside = f" and holds {numbers.min():g}" if numbers.min() < 0 else ""
    return (
        f"the class distribution sums to {_show_sum(float(numbers.sum()))}{beside}; expected "
        f"non-negative numbers that sum to 1 within {TOLERANCE:g}"
    )


def _show_sum(total: float) -> str:
    # As many digits as show it to be off: 1.000101 and not 1.0001, which would be right.
    texts = [f"{total:.{digits}g}" for digits in range(6, 18)]
    return next((text for text in texts if abs(float(text) - 1.0) > TOLERANCE + 1e-9), texts[0])
