"""What an optimizer steps at once, and the weights as views of it. Shapes: S slots."""

import torch

from objectives.lanes.rows import PACKED, find_small, join, views

S = 3


def group() -> dict[str, torch.Tensor]:
    shapes = {"first": (7, 5), "table": (16385, 1), "bias": (11,), "scale": (), "wide": (13,)}
    draw = torch.Generator().manual_seed(2)
    made = {name: torch.randn(S, *shape, generator=draw) for name, shape in shapes.items()}
    return made | {"wide": made["wide"].double()}


def test_small_weights_are_packed_and_large_ones_and_doubles_are_not() -> None:
    weights = group()
    small = find_small(weights, list(weights))
    assert small == ("first", "bias", "scale")
    joined = join(weights, list(weights), small)
    assert {name: tuple(tensor.shape) for name, tensor in joined.items()} == {
        PACKED: (S, 7 * 5 + 11 + 1),
        "table": (S, 16385, 1),
        "wide": (S, 13),
    }


def test_views_are_the_weights_and_change_with_what_is_packed() -> None:
    weights = group()
    small = find_small(weights, list(weights))
    joined = join(weights, list(weights), small)
    seen = views(joined, weights, small)
    assert seen.keys() == weights.keys()
    assert all(torch.equal(seen[name], weights[name]) for name in weights)
    joined[PACKED].mul_(2.0)
    assert all(torch.equal(seen[name], 2 * weights[name]) for name in small)


def test_one_small_weight_is_left_as_it_is() -> None:
    weights = {name: group()[name] for name in ("first", "table")}
    assert find_small(weights, list(weights)) == ()
    joined = join(weights, list(weights), ())
    assert joined == weights
    assert views(joined, weights, ()) is joined
