"""Optimizers that step many trials at once, each row with its own learning rate and betas.

Each update is PyTorch's own (``torch.optim``, the single-tensor path, its default constants),
written for rows: the hyperparameters are tensors, one value a slot, so that one program serves
every slot and no step waits for the host. Shapes: S slots.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from search_spaces.hparams import ADAM_FAMILY, Hparams

#: PyTorch's defaults for what is not a hyperparameter here.
_EPS = {"adam": 1e-8, "adamax": 1e-8, "rmsprop": 1e-8, "adadelta": 1e-6, "sgd": 0.0}
_DECAY = {"rmsprop": 0.99, "adadelta": 0.9}  # alpha; rho


@dataclass(frozen=True, slots=True)
class Tensors:
    """One parameter of S trials, with what their optimizer remembers.

    Attributes:
        param: The weights, (S, *shape); updated in place.
        grad: Their gradient, (S, *shape).
        first: First moment, velocity, or accumulated update, (S, *shape), zeros at the start.
        second: Second moment, (S, *shape), zeros at the start.
        scratch: Room for one intermediate result, (S, *shape); its contents are lost.
    """

    param: torch.Tensor
    grad: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    scratch: torch.Tensor


def step(
    optimizer: str,
    tensors: Sequence[Tensors],
    hparams_S: Sequence[Hparams],
    steps_S: Sequence[int],
) -> None:
    """Update the weights of S trials of one optimizer type, in place.

    Args:
        optimizer: The type that all S trials have.
        tensors: The trials' parameters; all have S rows.
        hparams_S: Each trial's hyperparameters.
        steps_S: Steps each trial has taken, this one included, from 1.
    """
    update, scalars = _UPDATES[optimizer], _scalars(optimizer, hparams_S, steps_S)
    for tensor in tensors:
        tail = [1] * (tensor.param.dim() - 1)
        dtype, device = tensor.param.dtype, tensor.param.device
        rows = {
            name: torch.as_tensor(value, dtype=dtype, device=device).view(-1, *tail)
            for name, value in scalars.items()
        }
        update(tensor, rows, _EPS[optimizer])


def _scalars(
    optimizer: str, hparams_S: Sequence[Hparams], steps_S: Sequence[int]
) -> dict[str, torch.Tensor]:
    # In float64, as PyTorch computes its bias corrections in Python floats.
    lr_S = np.array([hparams.learning_rate for hparams in hparams_S])
    if optimizer in ADAM_FAMILY:
        betas = np.array([hparams.betas for hparams in hparams_S])
        steps = np.array(steps_S, dtype=np.float64)
        first_bias, second_bias = 1 - betas[:, 0] ** steps, 1 - betas[:, 1] ** steps
        values = {
            "first_weight": 1 - betas[:, 0],
            "second_decay": betas[:, 1],
            "second_weight": 1 - betas[:, 1],
            "rate": lr_S / first_bias,
            "second_scale": 1 / np.sqrt(second_bias),
        }
    elif optimizer == "sgd":
        momentum_S = np.array([hparams.momentum for hparams in hparams_S])
        values = {"rate": lr_S, "momentum": momentum_S}
    else:
        decay = np.full(len(hparams_S), _DECAY[optimizer])
        values = {"rate": lr_S, "second_decay": decay, "second_weight": 1 - decay}
    return {name: torch.from_numpy(value) for name, value in values.items()}


def _adam(t: Tensors, rows: Mapping[str, torch.Tensor], eps: float) -> None:
    t.first.lerp_(t.grad, rows["first_weight"])
    _decay_squares(t.second, t, rows)
    _root_of_squares(t).mul_(rows["second_scale"]).add_(eps)
    torch.div(t.first, t.scratch, out=t.scratch)
    t.param.addcmul_(t.scratch, rows["rate"], value=-1)


def _adamax(t: Tensors, rows: Mapping[str, torch.Tensor], eps: float) -> None:
    t.first.lerp_(t.grad, rows["first_weight"])
    torch.abs(t.grad, out=t.scratch)
    t.second.mul_(rows["second_decay"])
    torch.maximum(t.second, t.scratch.add_(eps), out=t.second)
    torch.div(t.first, t.second, out=t.scratch)
    t.param.addcmul_(t.scratch, rows["rate"], value=-1)


def _rmsprop(t: Tensors, rows: Mapping[str, torch.Tensor], eps: float) -> None:
    _decay_squares(t.second, t, rows)
    _root_of_squares(t).add_(eps)
    torch.div(t.grad, t.scratch, out=t.scratch)
    t.param.addcmul_(t.scratch, rows["rate"], value=-1)


def _adadelta(t: Tensors, rows: Mapping[str, torch.Tensor], eps: float) -> None:
    _decay_squares(t.second, t, rows)
    torch.add(t.first, eps, out=t.scratch)
    update = t.scratch.div_(t.second.add(eps)).sqrt_().mul_(t.grad)
    t.param.addcmul_(update, rows["rate"], value=-1)
    t.first.mul_(rows["second_decay"]).addcmul_(update * rows["second_weight"], update)


def _sgd(t: Tensors, rows: Mapping[str, torch.Tensor], eps: float) -> None:
    t.first.mul_(rows["momentum"]).add_(t.grad)
    t.param.addcmul_(t.first, rows["rate"], value=-1)


def _decay_squares(squares: torch.Tensor, t: Tensors, rows: Mapping[str, torch.Tensor]) -> None:
    torch.mul(t.grad, rows["second_weight"], out=t.scratch)
    squares.mul_(rows["second_decay"]).addcmul_(t.scratch, t.grad)


def _root_of_squares(t: Tensors) -> torch.Tensor:
    # The root of 0 takes torch five times as long as any other (a special case of MKL), and word
    # vectors that no batch has touched are all zeros. 1e-36 is lost beside eps, and its root too.
    return torch.add(t.second, 1e-36, out=t.scratch).sqrt_()


_UPDATES: Mapping[str, Callable[[Tensors, Mapping[str, torch.Tensor], float], None]] = {
    "adam": _adam,
    "adamax": _adamax,
    "rmsprop": _rmsprop,
    "adadelta": _adadelta,
    "sgd": _sgd,
}
