"""The tensors of a lane's trials, a row each: weights, what optimizers remember, best weights.

Shapes: S slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

Group = dict[str, torch.Tensor]

#: Name of the tensor that holds a row of all small weights, one behind the other.
PACKED = "small weights"
LAST, BEST = "last", "best"
# Above it, to copy the gradients together costs as much as the calls that it saves.
_SMALL = 2**14


@dataclass(frozen=True, slots=True)
class Rows:
    """The tensors of S trials, each (S, *shape), by name; row i belongs to trial i.

    Attributes:
        own: Weights and buffers.
        first: First moments by weight; of armijo what ``line_search.first_state`` names.
        second: Second moments by weight; of armijo nothing.
        best: What ``own`` was at the best epoch.
        predictions: Validation predictions, (S, N), ``LAST`` of the last epoch and ``BEST`` of
            the best one.
    """

    own: Group
    first: Group
    second: Group
    best: Group
    predictions: Group

    def groups(self) -> tuple[Group, ...]:
        """Return the groups, in the order of the fields."""
        return self.own, self.first, self.second, self.best, self.predictions

    def take(self, index: Sequence[int]) -> Self:
        """Return copies of the rows in ``index``, in its order."""
        where: dict[torch.device, torch.Tensor] = {}

        def taken(tensor: torch.Tensor) -> torch.Tensor:
            device = tensor.device
            if device not in where:
                where[device] = torch.tensor(index, dtype=torch.int64, device=device)
            return tensor.index_select(0, where[device])

        return type(self)(*({n: taken(t) for n, t in group.items()} for group in self.groups()))

    def row(self, index: int) -> Self:
        """Return one row, in the same memory."""
        return type(self)(
            *({n: t[index : index + 1] for n, t in group.items()} for group in self.groups())
        )

    def to(self, device: torch.device) -> Self:
        """Return the rows on a device; the same tensors where they are there."""
        if all(t.device == device for group in self.groups() for t in group.values()):
            return self
        return type(self)(*({n: t.to(device) for n, t in each.items()} for each in self.groups()))

    def is_like(self, other: "Rows") -> bool:
        """Return whether another's rows have the same tensors by name, shape and type."""
        return all(
            {n: (t.shape[1:], t.dtype) for n, t in ours.items()}
            == {n: (t.shape[1:], t.dtype) for n, t in theirs.items()}
            for ours, theirs in zip(self.groups(), other.groups(), strict=True)
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return copies of the rows of all parts, one part after the other."""
        groups = zip(*(part.groups() for part in parts), strict=True)
        return cls(
            *({n: torch.cat([each[n] for each in some]) for n in some[0]} for some in groups)
        )

    def packed(self, names: Sequence[str], *, is_search: bool) -> "tuple[Rows, Trained]":
        """Return the rows, and what steps change of them: the same memory, small weights packed.

        Args:
            names: The weights.
            is_search: They are stepped by a line search, which takes each as it is.
        """
        if is_search:
            scratch = {name: torch.empty_like(self.own[name]) for name in names}
            stepped = (self.own, self.first, self.second)
            return self, Trained(self.own, self.first, stepped, scratch, ())
        small = find_small(self.own, names)
        own, first, second = (join(g, names, small) for g in (self.own, self.first, self.second))
        scratch = {name: torch.empty_like(tensor) for name, tensor in own.items()}
        rows = Rows(
            self.own | views(own, self.own, small),
            views(first, self.own, small),
            views(second, self.own, small),
            self.best,
            self.predictions,
        )
        return rows, Trained(rows.own, rows.first, (own, first, second), scratch, small)


@dataclass(frozen=True, slots=True)
class Trained:
    """What the steps of an epoch change, in place: S rows of each tensor, by name.

    Attributes:
        own: Weights and buffers.
        state: What a line search remembers.
        stepped: Weights, first and second moments, as the optimizers step them.
        scratch: Room for one of each of these.
        small: Names of the weights that are packed there.
    """

    own: Group
    state: Group
    stepped: tuple[Group, Group, Group]
    scratch: Group
    small: Sequence[str]

    def between(self, start: int, stop: int) -> "Trained":
        """Return the rows from ``start`` to before ``stop``, the same memory."""
        own, first, second = (between(group, start, stop) for group in self.stepped)
        return Trained(
            between(self.own, start, stop),
            between(self.state, start, stop),
            (own, first, second),
            between(self.scratch, start, stop),
            self.small,
        )

    def tensors(self) -> list[torch.Tensor]:
        """Return what the steps change."""
        return [tensor for group in (self.own, *self.stepped) for tensor in group.values()]

    def copies(self) -> list[torch.Tensor]:
        """Return copies of what the steps change, for ``restore``."""
        return [tensor.clone() for tensor in self.tensors()]

    def restore(self, copies: list[torch.Tensor]) -> None:
        """Undo all steps since the copies were made."""
        for tensor, copy in zip(self.tensors(), copies, strict=True):
            tensor.copy_(copy)


def find_small(group: Group, names: Sequence[str]) -> tuple[str, ...]:
    """Return the weights that are packed: those of up to 16,384 numbers, if there are several."""
    small = [n for n in names if group[n][0].numel() <= _SMALL and group[n].dtype == torch.float32]
    return tuple(small) if len(small) > 1 else ()


def join(group: Group, names: Sequence[str], small: Sequence[str]) -> Group:
    """Return the named tensors, the small ones as one, (S, numbers), under ``PACKED``.

    An optimizer steps that one with a tenth of the calls, and in a small network its calls cost
    more than its arithmetic.
    """
    if not small:
        return {name: group[name] for name in names}
    slots = group[small[0]].shape[0]
    packed = torch.cat([group[name].reshape(slots, -1) for name in small], dim=1)
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


def num_bytes(group: Group) -> int:
    """Return how much memory the tensors of a group take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in group.values())
