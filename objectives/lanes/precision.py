"""Whether a GPU may round the operands of float32 products to TF32 (10 bits of mantissa).

PyTorch's own default allows it in convolutions and recurrent layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Precision = Literal["float32", "tf32"]


def use(precision: Precision) -> None:
    """Set the precision of products for the whole process."""
    for switch in _switches():
        switch.fp32_precision = "tf32" if precision == "tf32" else "ieee"


@contextmanager
def exact() -> Iterator[None]:
    """Take products in float32 for a while, whatever the process has been told."""
    before = [switch.fp32_precision for switch in _switches()]
    use("float32")
    try:
        yield
    finally:
        for switch, value in zip(_switches(), before, strict=True):
            switch.fp32_precision = value


def _switches() -> tuple[Any, ...]:
    cudnn: Any = torch.backends.cudnn
    return torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
