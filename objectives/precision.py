"""In which precision matrix products are taken: float32, or faster and coarser.

``bf16`` takes their operands, forward and backward, in bfloat16 (8 bits of mantissa) by
``torch.autocast``, which reaches the layers of a user's model as well as our own; what autocast
cannot see, products into a given tensor and backward passes of our own, asks ``is_reduced``. The
processor sums in float32 and rounds each sum once more. Weights, optimizers, losses and metrics
stay float32, and so does what our layers return; so do linear layers of one or two outputs, and
under ``vmap`` a user's ``nn.Conv1d`` and attention, which autocast does not reach there.

Not ``torch.backends.mkldnn.matmul.fp32_precision = "bf16"``, which would need no code in a layer:
on AVX512_BF16 without AMX oneDNN computes in float32 all the same (torch 2.13, AMD EPYC).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["float32", "bf16", "tf32"]

_REDUCED = torch.bfloat16
#: Processor features that make bfloat16 products fast, by the names that torch gives them.
_FAST = ("avx512_bf16", "amx_bf16", "bf16")


def use(precision: Precision) -> None:
    """Set what holds for the whole process: whether CUDA may take float32 as TF32."""
    allowed = "tf32" if precision == "tf32" else "ieee"
    for switch in _switches():
        switch.fp32_precision = allowed


def products(precision: Precision, device_type: str) -> AbstractContextManager[object]:
    """Return the context in which a model's forward takes its products in a precision."""
    return resumed(precision == "bf16", device_type)


def is_reduced(device_type: str) -> bool:
    """Return whether products are taken in bfloat16 here."""
    return torch.is_autocast_enabled(device_type)


def resumed(is_bf16: bool, device_type: str) -> AbstractContextManager[object]:
    """Return the context of a forward pass for its backward, which runs outside of it."""
    return torch.autocast(device_type, _REDUCED) if is_bf16 else nullcontext()


def rounded(is_bf16: bool, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the operands of products: in bfloat16, or as they are."""
    return tuple(tensor.to(_REDUCED) for tensor in tensors) if is_bf16 else tensors


@contextmanager
def exact() -> Iterator[None]:
    """Take products in float32 for a while, whatever the process has been told."""
    before = [switch.fp32_precision for switch in _switches()]
    for switch in _switches():
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, value in zip(_switches(), before, strict=True):
            switch.fp32_precision = value


def find_obstacle(precision: Precision, device_type: str) -> str | None:
    """Return why a precision cannot be had on a device, with the way out, or None if it can."""
    if precision == "tf32" and device_type == "cpu":
        return "tf32 needs a CUDA device; take float32, or bf16 on a CPU"
    return None


def find_drawback(precision: Precision, device_type: str) -> str | None:
    """Return why a precision is no gain on this machine, or None if it may be one."""
    if precision != "bf16" or device_type != "cpu":
        return None
    features = torch.cpu.get_capabilities()
    if any(features.get(name) for name in _FAST):
        return None
    return (
        "precision: this processor has neither AVX512_BF16 nor AMX, so that bf16 is slower than "
        "float32 here"
    )


def _switches() -> tuple[Any, ...]:
    """Return what holds a ``fp32_precision``; PyTorch's own default is TF32 in convolutions."""
    cudnn: Any = torch.backends.cudnn
    return torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
