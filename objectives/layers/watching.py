"""Whether a model reads a value that its weights decide, such as ``if self.gate.sum() > 0``.

Trials in company would then branch together. One small batch cannot show it, so the model's calls
of PyTorch are followed: what is computed from weights is marked, and a marked tensor must not
become a number of Python's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_READS = frozenset(
    {
        torch.Tensor.__bool__,
        torch.Tensor.__float__,
        torch.Tensor.__index__,
        torch.Tensor.__int__,
        torch.Tensor.item,
        torch.Tensor.nonzero,
        torch.Tensor.numpy,
        torch.Tensor.tolist,
        torch.allclose,
        torch.equal,
        torch.is_nonzero,
        torch.nonzero,
    }
)


def reads_values(model: nn.Module, inputs: Sequence[torch.Tensor], names: Iterable[str]) -> bool:
    """Return whether a forward pass reads what the tensors of these names decide."""
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    watch = _Watch([tensors[name] for name in names])
    with watch:
        model(*inputs)
    return watch.has_read


class _Watch(TorchFunctionMode):
    def __init__(self, marked: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.has_read = False
        # Held, so that no other tensor gets the same id.
        self._marked = {id(tensor): tensor for tensor in marked}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if any(id(tensor) in self._marked for tensor in _tensors((args, kwargs))):
            self.has_read |= func in _READS
            self._marked |= {id(tensor): tensor for tensor in _tensors(result)}
        return result


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
