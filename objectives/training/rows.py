"""The tensors of a lane's trials, a row each: weights, what optimizers remember, best weights.

Shapes: S slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

Group = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Rows:
    """The tensors of S trials, each (S, *shape), by name; row i belongs to trial i.

    Attributes:
        own: Weights and buffers.
        first: First moments by weight; of armijo what ``line_search.first_state`` names.
        second: Second moments by weight; of armijo nothing.
        best: What ``own`` was at the best epoch.
    """

    own: Group
    first: Group
    second: Group
    best: Group

    def groups(self) -> tuple[Group, ...]:
        """Return the four groups, in the order of the fields."""
        return self.own, self.first, self.second, self.best

    def take(self, index: Sequence[int]) -> "Rows":
        """Return copies of the rows in ``index``, in its order."""

        def taken(tensor: torch.Tensor) -> torch.Tensor:
            return tensor[torch.tensor(index, dtype=torch.int64, device=tensor.device)]

        return Rows(*({n: taken(t) for n, t in group.items()} for group in self.groups()))

    def extended(self, other: "Rows") -> "Rows":
        """Return these rows and, after them, copies of the other's."""
        pairs = zip(self.groups(), other.groups(), strict=True)
        return Rows(*({n: torch.cat([a[n], b[n]]) for n in a} for a, b in pairs))


def between(group: Group, start: int, stop: int) -> Group:
    """Return views of the rows from ``start`` to before ``stop``."""
    return {name: tensor[start:stop] for name, tensor in group.items()}
