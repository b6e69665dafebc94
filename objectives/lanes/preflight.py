"""A model on one small batch, before anything is written: what is wrong at once is said at once.

Shapes: B batch, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from objectives.api import Augment, Data, Objective
from objectives.lanes.batches import on_device
from objectives.layers.dropout import find_rates
from objectives.layers.fusion import Inputs, find_logits
from objectives.own import explain
from objectives.references import ObjectiveError

_EXAMPLES = 5


def check_model(
    objective: Objective,
    data: Data,
    model: Mapping[str, Any],
    device: str,
    *,
    needs_dropout: bool = False,
) -> None:
    """Build the model once and run one small training batch through it.

    On the CPU, which starts at once, and where that fails on the device too: it may need one.

    Args:
        objective: What will be trained.
        data: Its data.
        model: Arguments of ``build_model``.
        device: Where it will be trained.
        needs_dropout: Whether trials set a dropout.

    Raises:
        ObjectiveError: If the model cannot be built or run, has nothing to train or no dropout
            that it needs, or if its output has another shape than the classes ask for, or is not
            finite.
    """
    place = getattr(objective, "place", objective.name)
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            module = _check_on(objective, data, model, device="cpu", place=place)
        except ObjectiveError:
            if device == "cpu":
                raise
            module = _check_on(objective, data, model, device=device, place=place)
    if needs_dropout and not find_rates(module):
        raise ObjectiveError(
            f"{place}: space.dropout is set, but the model has no dropout layer that it could "
            "set; give it an nn.Dropout, or set space.dropout = 0"
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    # Threads that spin on busy cores: 0.34 s for sequence-rnn in place of 0.004 (2 cores).
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_on(
    objective: Objective,
    data: Data,
    model: Mapping[str, Any],
    *,
    device: str,
    place: str,
) -> nn.Module:
    arguments = ", ".join(["data", *(f"{name}={value!r}" for name, value in model.items())])
    built = f"build_model({arguments})"
    try:
        module = objective.build_model(data, **model)
    except (Exception, SystemExit) as error:
        raise explain(built, error, place=place) from error
    if not isinstance(module, nn.Module):
        raise ObjectiveError(
            f"{place}: build_model must return an nn.Module, got {type(module).__name__}"
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ObjectiveError(f"{place}: the model of {built} has no parameter to train")
    train = on_device(data.train, torch.device(device))
    inputs, _ = train.batch(np.arange(min(_EXAMPLES, len(train))))
    augment = getattr(objective, "augment", None)
    if augment is not None:
        inputs = _augmented(augment, inputs, place=place)
    try:
        logits = module.to(device).train()(*inputs)
    except (Exception, SystemExit) as error:
        raise explain(f"forward of {built}", error, place=place) from error
    num_classes = len(data.class_names)
    widths = [num_classes]
    if num_classes == 2 and data.train.targets.dtype != np.bool_:
        widths.append(1)
    _check_logits(logits, inputs, widths, place=place)
    return module


def _augmented(augment: Augment, inputs: Inputs, *, place: str) -> Inputs:
    try:
        found = augment(inputs, torch.Generator(inputs[0].device).manual_seed(0))
    except (Exception, SystemExit) as error:
        raise explain("augment", error, place=place) from error
    rows = len(inputs[0])
    if not isinstance(found, tuple) or [len(x) for x in found] != [rows] * len(inputs):
        raise ObjectiveError(
            f"{place}: augment must return a tuple as it gets: {len(inputs)} tensors of {rows} "
            "rows"
        )
    return found


def _check_logits(
    output: object, inputs: tuple[torch.Tensor, ...], widths: Sequence[int], *, place: str
) -> None:
    logits = find_logits(output)
    if logits is None:
        raise ObjectiveError(
            f"{place}: forward must return a tensor of logits, got {type(output).__name__}; in a "
            "tuple they are the first part, in a dict they are called 'logits'"
        )
    batch = len(inputs[0])
    allowed = [(batch, width) for width in widths]
    if tuple(logits.shape) not in allowed:
        expected = " or ".join(str(shape) for shape in allowed)
        raise ObjectiveError(
            f"{place}: the model's output for {batch} examples has the shape "
            f"{tuple(logits.shape)}; expected {expected}, as there are {widths[0]} classes"
        )
    is_finite = all(bool(x.isfinite().all()) for x in inputs)
    if is_finite and not bool(logits.isfinite().all()):
        value = float(logits.detach()[~logits.isfinite()][0])
        raise ObjectiveError(
            f"{place}: the untrained model's output holds {value} for finite inputs"
        )
