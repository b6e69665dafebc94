"""A few numbers of a data set that are other ones for other data, and the same despite rounding.

What one process tells another, so that both train on the same data. A hash will not do: a sum
over several threads is rounded in another way than over one, and a worker process has one.
"""

from collections.abc import Sequence

import numpy as np

from objectives.api import Data

#: Of the mean size of a row: rounding of float32 is far smaller, another draw far larger.
_TOLERANCE = 1e-5


def sketch_data(data: Data) -> tuple[float, ...]:
    """Return three numbers for each array: its rows, their size, and a mean that weighs them."""
    numbers: list[float] = []
    for split in (data.train, data.validation, data.test):
        lengths = () if split.lengths is None else (split.lengths,)
        for array in (*split.inputs, split.targets, *lengths):
            rows = len(array)
            means = array.reshape(rows, -1).mean(axis=1, dtype=np.float64) if array.size else None
            if means is None:
                numbers += [float(rows), 0.0, 0.0]
                continue
            # By position, or the same rows in another order would have the same mean.
            weights = 0.5 + np.arange(rows) / rows
            numbers += [float(rows), float(np.abs(means).mean()), float((means * weights).mean())]
    return tuple(numbers)


def is_same(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether two sketches are of the same data."""
    if len(one) != len(other):
        return False
    ours, theirs = (np.array(numbers).reshape(-1, 3) for numbers in (one, other))
    bound = _TOLERANCE * ours[:, 1:2]
    return bool((np.abs(ours - theirs)[:, 1:] <= bound).all() and (ours == theirs)[:, 0].all())
