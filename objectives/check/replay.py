"""Repeats calls of a model: the loss of one batch, and whether rows know of each other.

Nothing that the loop sees is changed: buffers are copied, generators and modes put back.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from objectives.check.losses import LossCall
from objectives.check.seen import Inputs, Replay

#: A row that changes by more than this share of the largest output knows of another one.
TOLERANCE = 1e-3


def list_tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors of an argument or an output, however deep they are."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [each for one in value.values() for each in list_tensors(one)]
    if isinstance(value, list | tuple):
        return [each for one in value for each in list_tensors(one)]
    return []


def count_rows(output: Any) -> int:
    """Return the examples of a model's output; 0 where it has no axis of examples."""
    return next((len(each) for each in list_tensors(output) if each.ndim), 0)


def hash_rows(args: Any, kwargs: Mapping[str, Any], rows: int) -> tuple[int, ...]:
    """Return a hash of the inputs of each example, targets left out; empty if there is none."""
    given = [args, {name: one for name, one in kwargs.items() if not name.startswith("label")}]
    tensors = [each for each in list_tensors(given) if each.ndim and len(each) == rows]
    if not tensors or not rows:
        return ()
    flat = [np.ascontiguousarray(each.detach().cpu().float().numpy()) for each in tensors]
    return tuple(hash(tuple(each[i].tobytes() for each in flat)) for i in range(rows))


def make_replay(call: Inputs, loss: LossCall) -> Replay | None:
    """Return a call for the present loss of a batch; None where the loss is not of the output."""
    wanted = loss.given.detach()
    places = [
        i
        for i, each in enumerate(list_tensors(call.output))
        if each.numel() == wanted.numel() and torch.equal(each.reshape(wanted.shape), wanted)
    ]
    if not places:
        return None

    def again() -> float:
        with torch.no_grad(), _same_chance(wanted.device):
            output = _call(call, call.args, call.kwargs)
            return loss.repeat(list_tensors(output)[places[0]].reshape(wanted.shape))

    return again


def find_leak(call: Inputs) -> float | None:
    """Return by how much outputs change where only inputs of other rows did.

    As a share of the largest output; None where rows cannot be told apart.
    """
    outputs = _read_outputs(call.output)
    if outputs is None or len(outputs) < 4:
        return None
    rows, kept = len(outputs), len(outputs) // 2
    with torch.no_grad(), _eval(call.model):
        before = _repeat(call, call.args, call.kwargs)
        args, kwargs = _repeat_one((call.args, call.kwargs), rows, kept)
        after = _repeat(call, args, kwargs)
    if before is None or after is None or before.shape != after.shape:
        return None
    scale = float(before.abs().max()) or 1.0
    return float((before[:kept] - after[:kept]).abs().max()) / scale


def is_constant(call: Inputs) -> bool:
    """Return whether a model gives the same output for all examples, although these differ."""
    outputs = _read_outputs(call.output)
    if outputs is None or len(outputs) < 4:
        return False
    differ = len(set(hash_rows(call.args, call.kwargs, len(outputs)))) > 1
    spread = float((outputs - outputs[0]).abs().max())
    return differ and spread <= 1e-6 * (1.0 + float(outputs.abs().max()))


def _read_outputs(output: Any) -> torch.Tensor | None:
    """Return the first output of numbers with an axis of examples, (B, ...)."""
    for each in list_tensors(output):
        if each.ndim and each.is_floating_point():
            return each.detach().float()
    return None


def _repeat(call: Inputs, args: Any, kwargs: Any) -> torch.Tensor | None:
    with _same_chance(next(call.model.parameters()).device):
        return _read_outputs(_call(call, args, kwargs))


def _call(call: Inputs, args: Any, kwargs: Any) -> Any:
    # BatchNorm writes to its buffers: to copies.
    buffers = {name: each.clone() for name, each in call.model.named_buffers()}
    return functional_call(call.model, buffers, args, kwargs)


def _repeat_one(value: Any, rows: int, kept: int) -> Any:
    """Return arguments whose rows after the first ``kept`` are all the first of these."""
    if isinstance(value, torch.Tensor):
        if not value.ndim or len(value) != rows:
            return value
        return torch.cat([value[:kept], value[kept : kept + 1].expand_as(value[kept:])])
    if isinstance(value, dict):
        return {name: _repeat_one(one, rows, kept) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_repeat_one(one, rows, kept) for one in value)
    return value


@contextmanager
def _same_chance(device: torch.device) -> Iterator[None]:
    """Draw the same numbers each time, and leave the loop's generators as they are."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


@contextmanager
def _eval(model: nn.Module) -> Iterator[None]:
    modes = [(each, each.training) for each in model.modules()]
    for each, _ in modes:
        each.training = False
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode
