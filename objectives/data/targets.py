"""Class distributions as targets (soft labels): their check, and the class that each names.

What every reader of targets shares. Knows no file format and no model.
Shapes: N rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import DataError

#: How far the sum of a distribution may be from 1.
TOLERANCE = 1e-4

#: Of one column for each class, which together hold a distribution in place of a label.
SOFT_PREFIX = "label."

Targets = npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """A distribution over the classes for each of N rows.

    Attributes:
        class_names: Names of the C classes, by index.
        rows: Share of each class, (N, C).
    """

    class_names: tuple[str, ...]
    rows: npt.NDArray[np.float32]

    def likeliest(self) -> tuple[str, ...]:
        """Return the name of each row's likeliest class, the earliest of equal ones, (N,)."""
        return tuple(self.class_names[i] for i in find_classes(self.rows))


def check_distributions(
    rows: npt.NDArray[Any], where: str, *, unit: str = "row", places: Sequence[int] | None = None
) -> npt.NDArray[np.float32]:
    """Return class distributions as float32, (N, C), as they are: nothing is scaled to sum to 1.

    Args:
        rows: Numbers, (N, C).
        where: What the rows are of, for the message: a file, or a split's targets.
        unit: What ``places`` count.
        places: Where each row stands, (N,); None: counted from 1.

    Raises:
        DataError: If a row holds a negative number, NaN or infinity, or does not sum to 1 within
            ``TOLERANCE``; the first such row is named, with its sum.
    """
    numbers = np.asarray(rows, dtype=np.float64)
    sums = numbers.sum(axis=1)
    # Written so that a NaN is wrong too; the slack is that of adding in binary.
    is_right = (np.abs(sums - 1.0) <= TOLERANCE + 1e-9) & (numbers >= 0.0).all(axis=1)
    if is_right.all():
        return numbers.astype(np.float32)
    row = int(np.flatnonzero(~is_right)[0])
    place = row + 1 if places is None else places[row]
    lowest = numbers[row].min()
    beside = f" and holds {lowest:g}" if lowest < 0 else ""
    raise DataError(
        f"{where}, {unit} {place}: the class distribution sums to {_show_sum(sums[row])}{beside}; "
        f"expected non-negative numbers that sum to 1 within {TOLERANCE:g}"
    )


def check_targets(targets: npt.NDArray[Any], num_classes: int, where: str) -> Targets:
    """Return a split's targets as the trainer takes them: (N,) int64, or (N, C) float32.

    Args:
        targets: A class by index for each row, (N,) whole numbers in [0, C), or a distribution
            over the classes for each, (N, C).
        num_classes: C.
        where: What the targets are of, for the message.

    Raises:
        DataError: If they are neither; rows are counted from 1.
    """
    if targets.ndim == 2 and targets.shape[1] == num_classes and targets.dtype.kind in "biuf":
        return check_distributions(targets, where)
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


def find_classes(targets: Targets) -> npt.NDArray[np.int64]:
    """Return the class of each row, (N,); of a distribution the likeliest, earliest on ties."""
    classes = targets if targets.ndim == 1 else targets.argmax(axis=1)
    return classes.astype(np.int64)


def split_columns(
    path: Path, shares: npt.NDArray[Any], class_names: npt.NDArray[Any] | None
) -> dict[str, npt.NDArray[Any]]:
    """Return the columns label.NAME of an array of class distributions, (N, C).

    Args:
        path: The file, for the message.
        shares: Share of each class.
        class_names: Names of the classes, (C,); None: "0", "1" and so on.

    Raises:
        DataError: If the shares are no numbers, or there is not one name for each class.
    """
    num_classes = shares.shape[1]
    if shares.dtype.kind not in "biuf":
        raise DataError(f"{path}: class distributions of {shares.dtype}; expected numbers")
    names = np.arange(num_classes) if class_names is None else class_names
    texts = [str(name).strip() for name in names.tolist()] if names.ndim == 1 else []
    if len(texts) != num_classes or len(set(texts)) < num_classes:
        raise DataError(
            f"{path}: array 'class_names' has the shape {names.shape}; expected {num_classes} "
            "different names, one for each class of the distributions"
        )
    return {f"{SOFT_PREFIX}{text}": shares[:, i] for i, text in enumerate(texts)}


def encode_targets(
    labels: Sequence[str], soft: SoftLabels | None
) -> tuple[tuple[str, ...], Targets]:
    """Return the names of the classes, and the targets: distributions where there are some.

    Args:
        labels: Class of each row, (N,); by index they stand in sorted order.
        soft: The distributions of the same rows, or None; their classes keep their order.
    """
    if soft is not None:
        return soft.class_names, soft.rows
    names, targets = np.unique(np.array(labels, dtype=np.str_), return_inverse=True)
    return tuple(names.tolist()), targets.astype(np.int64)


def _show_sum(total: float) -> str:
    # As many digits as show it to be off: 1.000101 and not 1.0001, which would be right.
    texts = [f"{total:.{digits}g}" for digits in range(6, 18)]
    return next((text for text in texts if abs(float(text) - 1.0) > TOLERANCE + 1e-9), texts[0])
