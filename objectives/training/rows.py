"""The tensors of a lane's trials, a row each: weights, what optimizers remember, best weights.

Shapes: S slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

Group = dict[str, torch.Tensor]

#: Name of the tensor that holds a row of all small weights, one behind the other.
PACKED = "small weights"
# Above it, to copy the gradients together costs as much as the calls that it saves.
_SMALL = 4096


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

    @classmethod
    def joined(cls, parts: "Sequence[Rows]") -> "Rows":
        """Return copies of the rows of all parts, one part after the other."""
        groups = zip(*(part.groups() for part in parts), strict=True)
        return cls(
            *({n: torch.cat([each[n] for each in some]) for n in some[0]} for some in groups)
        )


def find_small(group: Group, names: Sequence[str]) -> tuple[str, ...]:
    """Return the weights that are packed: those of up to 4,096 numbers, if there are several."""
    small = [n for n in names if group[n][0].numel() <= _SMALL and group[n].dtype == torch.float32]
    return tuple(small) if len(small) > 1 else ()


def join(group: Group, names: Sequence[str], small: Sequence[str]) -> Group:
    """Return the named tensors, the small ones as one, (S, numbers), under ``PACKED``.

    An optimizer steps that one with a tenth of the calls, and in a small network its calls cost
    more than its arithmetic.
    """
    if not small:
        return {name: group[name] for name in names}
    packed = torch.cat([group[name].reshape(len(group[name]), -1) for name in small], dim=1)
    return {PACKED: packed} | {name: group[name] for name in names if name not in small}


def views(joined: Group, like: Group, small: Sequence[str]) -> Group:
    """Return the tensors that ``join`` was given, as views of what it returned.

    Args:
        joined: What it returned.
        like: Tensors of the shapes wanted, by name.
        small: Those that were packed.
    """
    if not small:
        return joined
    sizes = [like[name][0].numel() for name in small]
    parts = dict(zip(small, torch.split(joined[PACKED], sizes, dim=1), strict=True))
    large = {name: tensor for name, tensor in joined.items() if name != PACKED}
    return {name: part.view(like[name].shape) for name, part in parts.items()} | large


def between(group: Group, start: int, stop: int) -> Group:
    """Return views of the rows from ``start`` to before ``stop``."""
    return {name: tensor[start:stop] for name, tensor in group.items()}
