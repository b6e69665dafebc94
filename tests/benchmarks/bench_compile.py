"""Whether ``torch.compile`` makes a lane's loss and gradient faster, its start-up beside it.

    python tests/benchmarks/bench_compile.py [--csv FILE] [--device cuda]

The network of tabular-mlp, 64-16-16-1 with ReLU and dropout, the weights of all slots stacked, as
a lane computes it, but in PyTorch's own operations and with the dropout masks given: the most that
compiling could gain. Both ways in turn, several rounds, the least time of each counts.
"""

import argparse
import csv
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch.nn import functional

COLUMNS = ("slots", "batch", "eager_us", "compiled_us", "eager_is", "start_up_s")
CASES = ((16, 32), (128, 32), (128, 200))
SHAPES = ((16, 64), (16,), (16, 16), (16,), (1, 16), (1,))
ROUNDS, STEPS = 9, 30

Loss = Callable[..., torch.Tensor]


def loss(
    x: torch.Tensor, targets: torch.Tensor, masks: list[torch.Tensor], *weights: torch.Tensor
) -> torch.Tensor:
    """Return the sum of the slots' losses; targets (slots, batch), weights (slots, *shape)."""
    first, first_bias, second, second_bias, last, last_bias = weights
    hidden = torch.baddbmm(first_bias.unsqueeze(1), x.expand(len(first), -1, -1), first.mT)
    hidden = hidden.relu() * masks[0]
    hidden = torch.baddbmm(second_bias.unsqueeze(1), hidden, second.mT).relu() * masks[1]
    z = (hidden * last).sum(-1, keepdim=True) + last_bias.unsqueeze(1)
    logits = torch.cat([torch.zeros_like(z), z], dim=-1).mT.contiguous()
    return functional.cross_entropy(logits, targets, reduction="none").mean(dim=1).sum()


def time_case(slots: int, batch: int, device: str) -> tuple[float, float, float]:
    """Return the microseconds of a step as it is and compiled, and the seconds of compiling."""
    weights = [(torch.randn(slots, *s, device=device) / 8).requires_grad_() for s in SHAPES]
    x = torch.randn(batch, 64, device=device)
    targets = torch.randint(2, (batch,), device=device).expand(slots, batch)
    masks = [(torch.rand(slots, batch, 16, device=device) > 0.1) / 0.9 for _ in range(2)]

    def step(function: Loss) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(function(x, targets, masks, *weights), weights)

    def time_steps(function: Loss) -> float:
        step(function)
        _wait(device)
        started = time.perf_counter()
        for _ in range(STEPS):
            step(function)
        _wait(device)
        return (time.perf_counter() - started) / STEPS * 1e6

    compiled = torch.compile(loss, dynamic=False)
    started = time.perf_counter()
    gradients = step(compiled)
    start_up = time.perf_counter() - started
    for ours, reference in zip(gradients, step(loss), strict=True):
        torch.testing.assert_close(ours, reference)
    rounds = [(time_steps(loss), time_steps(compiled)) for _ in range(ROUNDS)]
    return min(each[0] for each in rounds), min(each[1] for each in rounds), start_up


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--csv", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    is_gpu = arguments.device == "cuda"
    machine = torch.cuda.get_device_name() if is_gpu else f"{platform.machine()}, one core"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, torch {torch.__version__}")
    print("slots batch  eager us compiled us eager is  start-up s")
    rows = []
    for slots, batch in CASES:
        eager, compiled, start_up = time_case(slots, batch, arguments.device)
        rows.append((slots, batch, eager, compiled, compiled / eager, start_up))
        print("{:5} {:5} {:9.0f} {:11.0f} {:6.2f} x {:11.1f}".format(*rows[-1]), flush=True)
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
