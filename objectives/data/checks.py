"""What is wrong with the data that a person's own ``load`` returned, said before it is trained on.

Numbers become what a model expects: arrays, float32. Rows and columns are counted from 1.
Shapes: N examples, L steps, C classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import Data, DataError, Split
from objectives.data.large import is_read_by_row, iterate_chunks, map_rows, to_float32
from objectives.data.targets import Targets, check_targets
from objectives.metrics import count_classes

#: Examples in all, up to which a class is called rare.
_RARE = 2
_SPLITS = ("train", "validation", "test")


def checked(data: object, place: str) -> Data:
    """Return the data as arrays, float inputs as float32, targets as the trainer takes them.

    Args:
        data: What ``load`` returned; arrays, tensors and lists of numbers alike.
        place: Where ``load`` is written, for people.

    Raises:
        DataError: If it cannot be trained on; one line names the split, the place and the rule.
    """
    if not isinstance(data, Data):
        raise DataError(
            f"{place}: load must return Data(train, validation, test, class_names) of "
            f"objectives.api, got {type(data).__name__}"
        )
    names = _check_class_names(data.class_names, place)
    splits = {
        name: _check_split(getattr(data, name), len(names), f"{place}: {name}") for name in _SPLITS
    }
    for name in ("train", "validation"):
        if not len(splits[name].targets):
            raise DataError(f"{place}: {name} is empty; expected examples in train and validation")
    for name in ("validation", "test"):
        if len(splits[name].targets):
            _check_shapes(splits["train"], splits[name], name, place)
    _check_trained(splits["train"], names, place)
    train, validation, test = splits.values()
    return replace(data, train=train, validation=validation, test=test, class_names=names)


def _check_class_names(names: object, place: str) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence | np.ndarray):
        raise DataError(f"{place}: class_names must be a list of names, got {names!r}")
    found = tuple(str(name) for name in names)
    if len(found) < 2 or len(set(found)) < len(found):
        text = f"two or more different names, got {', '.join(found) or 'none'}"
        raise DataError(f"{place}: class_names must hold {text}")
    return found


def _check_split(split: object, num_classes: int, place: str) -> Split:
    if not isinstance(split, Split):
        raise DataError(
            f"{place} must be Split(inputs, targets) of objectives.api, got {type(split).__name__}"
        )
    # Split(inputs=x) for Split(inputs=(x,)): what is an array itself is the one input.
    is_one = hasattr(split.inputs, "shape") or is_read_by_row(split.inputs)
    arrays = (split.inputs,) if is_one else split.inputs
    if not isinstance(arrays, tuple | list) or not arrays:
        raise DataError(f"{place}.inputs must be a tuple of arrays, such as (x,)")
    targets = _check_targets(split.targets, num_classes, f"{place}.targets")
    inputs = tuple(_check_input(one, f"{place}.inputs[{i}]") for i, one in enumerate(arrays))
    lengths = None
    if split.lengths is not None:
        lengths = _to_integers(split.lengths, f"{place}.lengths", "numbers of steps")
    sized = {f"inputs[{i}]": one for i, one in enumerate(inputs)}
    if lengths is not None:
        sized["lengths"] = lengths
    for name, array in sized.items():
        if len(array) != len(targets):
            raise DataError(
                f"{place}.{name} has {len(array)} rows and targets has {len(targets)}; "
                "expected a target for each row"
            )
    if lengths is not None and len(lengths):
        longest = min((one.shape[1] for one in inputs if one.ndim > 1), default=int(lengths.max()))
        if lengths.min() < 1 or lengths.max() > longest:
            row = int(np.flatnonzero((lengths < 1) | (lengths > longest))[0])
            text = f"is {lengths[row]} in row {row + 1}; expected 1 to {longest} steps"
            raise DataError(f"{place}.lengths {text}")
    return replace(split, inputs=inputs, targets=targets, lengths=lengths)


def _to_array(values: object, place: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(map_rows(values, place) if is_read_by_row(values) else values)
    except DataError:
        raise
    except Exception as error:  # rows of unequal length, a tensor on a GPU or with a gradient
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{place} is no array of numbers: {reason}") from error
    if array.dtype.kind == "O" and _is_ragged(array):
        raise DataError(f"{place} has rows of unequal length; expected one length, padded")
    if array.dtype.kind not in "biuf" or not array.ndim:
        kind = "text" if array.dtype.kind in "US" else str(array.dtype)
        if array.dtype.kind == "O" and array.size:
            kind = "text" if isinstance(array.flat[0], str) else type(array.flat[0]).__name__
        raise DataError(f"{place} holds {kind}; expected numbers, a row an example")
    return array


def _is_ragged(array: npt.NDArray[Any]) -> bool:
    """Return whether an array of objects holds rows of which some are longer than others."""
    lengths = {len(row) for row in array.flat if isinstance(row, Sequence | np.ndarray)}
    is_text = any(isinstance(row, str) for row in array.flat)
    return len(lengths) > 1 and not is_text


def _check_input(values: object, place: str) -> npt.NDArray[Any]:
    array = _to_array(values, place)
    if array.dtype.kind != "f":
        return array
    array = to_float32(array)
    for rows in iterate_chunks(array):
        wrong = np.argwhere(~np.isfinite(array[rows]))
        if len(wrong):
            row, *rest = wrong[0].tolist()
            column = f", column {', '.join(str(i + 1) for i in rest)}" if rest else ""
            value = array[(rows.start + row, *rest)]
            place = f"{place}, row {rows.start + row + 1}{column}"
            raise DataError(f"{place}: {value}; expected finite numbers")
    return array


def _to_integers(values: object, place: str, what: str) -> npt.NDArray[np.int64]:
    array = _to_array(values, place)
    if array.ndim != 1:
        raise DataError(f"{place} has the shape {array.shape}; expected one axis, ({len(array)},)")
    if array.dtype.kind == "f" and len(array):
        raise DataError(f"{place} holds {array.dtype} numbers; expected {what}, whole numbers")
    return array.astype(np.int64)


def _check_targets(values: object, num_classes: int, place: str) -> Targets:
    targets = _to_array(values, place)
    if targets.shape == (0,) or (targets.dtype.kind == "b" and targets.ndim == 1):
        targets = targets.astype(np.int64)
    return check_targets(targets, num_classes, place)


def _check_shapes(train: Split, other: Split, name: str, place: str) -> None:
    if len(train.inputs) != len(other.inputs):
        raise DataError(
            f"{place}: {name} has {len(other.inputs)} inputs and train {len(train.inputs)}; "
            "expected the same ones"
        )
    if (train.lengths is None) != (other.lengths is None):
        raise DataError(f"{place}: {name} and train: one has lengths, the other has none")
    # Padded sequences are cut to each batch's longest, so that their axis may differ.
    first = 1 if train.lengths is None else 2
    for i, (mine, theirs) in enumerate(zip(train.inputs, other.inputs, strict=True)):
        if mine.shape[first:] != theirs.shape[first:] or mine.ndim != theirs.ndim:
            text = f"rows of shape {theirs.shape[1:]}, those of train are {mine.shape[1:]}"
            raise DataError(f"{place}: {name}.inputs[{i}] has {text}; expected one shape")


def describe_classes(data: Data) -> list[str]:
    """Return a sentence for what the classes' examples are too few for; none if all are enough.

    Of a distribution the likeliest class counts.
    """
    train, validation, test = (
        count_classes(split.targets, len(data.class_names))
        for split in (data.train, data.validation, data.test)
    )
    sentences = []
    absent = np.flatnonzero((train > 0) & (validation == 0))
    if len(absent):
        named = _name_some(data, absent)
        sentences.append(f"validation has no example of {named}: no score counts them")
    rare = np.flatnonzero((train > 0) & (train + validation + test <= _RARE))
    if len(rare):
        named = _name_some(data, rare)
        sentences.append(f"{_RARE} examples or fewer: {named}; so few tell nothing of a class")
    return sentences


def _name_some(data: Data, indexes: npt.NDArray[np.int64]) -> str:
    names = [repr(data.class_names[index]) for index in indexes[:5]]
    return ", ".join(names) + (", ..." if len(indexes) > 5 else "")


def _check_trained(train: Split, names: tuple[str, ...], place: str) -> None:
    for index in np.flatnonzero(count_classes(train.targets, len(names)) == 0):
        text = f"class {names[index]!r} (target {index}) has no row in train"
        raise DataError(f"{place}: {text}; expected every class there")
