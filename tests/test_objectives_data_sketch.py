"""Sketches of data sets: the same despite rounding, others for other data."""

from dataclasses import replace

import numpy as np
import pytest

from objectives.api import Data, Split
from objectives.data.sketch import is_same, sketch_data


def make_data(seed: int = 3, scale: float = 1.0) -> Data:
    rng = np.random.default_rng(seed)
    parts = [
        Split((scale * rng.normal(size=(rows, 7)).astype(np.float32),), np.arange(rows) % 2)
        for rows in (211, 53, 0)
    ]
    return Data(*parts, ("no", "yes"))


def change(data: Data, inputs: np.ndarray) -> Data:
    return replace(data, train=replace(data.train, inputs=(inputs,)))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_rounding_leaves_a_sketch_the_same(scale: float) -> None:
    data = make_data(scale=scale)
    rounded = np.nextafter(data.train.inputs[0], np.float32(np.inf))
    assert is_same(sketch_data(data), sketch_data(change(data, rounded)))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_other_draw_order_or_size_is_another_sketch(scale: float) -> None:
    data = make_data(scale=scale)
    sketch = sketch_data(data)
    x = data.train.inputs[0]
    others = [make_data(5, scale), change(data, x[::-1]), change(data, x[:-1])]
    assert not any(is_same(sketch, sketch_data(other)) for other in others)
    assert not is_same(sketch, sketch[:-3])
