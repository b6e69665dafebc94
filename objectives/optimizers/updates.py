"""Optimizers that step many trials at once, each row with its own learning rate and decays.

Each update is PyTorch's own (``torch.optim``, the single-tensor path, its default constants),
written for rows: the hyperparameters are tensors, one value a slot, so that one program serves
every slot and no step waits for the host. armijo, which searches its steps, is none of them: see
``line_search``. Shapes: S slots, T steps of an epoch, K scalars of an optimizer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from search_spaces.hparams import Hparams

_Array = npt.NDArray[np.float64]
_Scalars = dict[str, _Array]

#: The number of a step, on the host or on the device.
Index = int | torch.Tensor

#: PyTorch's defaults for what is not a hyperparameter here.
_EPS = {
    "adam": 1e-8,
    "adamw": 1e-8,
    "adamax": 1e-8,
    "nadam": 1e-8,
    "rmsprop": 1e-8,
    "adagrad": 1e-10,
    "adadelta": 1e-6,
    "sgd": 0.0,
}
_ALPHA = 0.99  # rmsprop's
_MOMENTUM_DECAY = 0.004  # nadam's
_PRODUCT_STEPS = 100
# Steps whose scalars are cut from the table by one call: each by itself took 12 us a step.
_CUT_STEPS = 64


@dataclass(frozen=True, slots=True)
class Tensors:
    """One parameter of S trials, with what their optimizer remembers.

    Attributes:
        param: The weights, (S, *shape); updated in place.
        grad: Their gradient, (S, *shape).
        first: First moment, velocity, or accumulated update, (S, *shape), zeros at the start.
        second: Second moment, or sum of squares, (S, *shape), zeros at the start.
        scratch: Room for one intermediate result, (S, *shape); its contents are lost.
    """

    param: torch.Tensor
    grad: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    scratch: torch.Tensor


class Family:
    """S trials of one optimizer type in one epoch, with the scalars of each of its T steps.

    Args:
        hparams_S: Each trial's hyperparameters.
        learning_rates_S: Each trial's rate in this epoch, in place of ``learning_rate``.
        steps_S: Steps that each trial has taken before.
        num_steps: Steps of the epoch, T.
        device: Where the trials are trained.
    """

    def __init__(
        self,
        hparams_S: Sequence[Hparams],
        learning_rates_S: Sequence[float],
        steps_S: Sequence[int],
        *,
        num_steps: int,
        device: torch.device,
    ) -> None:
        self.optimizer = hparams_S[0].optimizer
        self.lr_S: _Array = np.array(learning_rates_S)
        self.betas_S2: _Array = np.array([hparams.betas for hparams in hparams_S])
        self.momentum_S: _Array = np.array([hparams.momentum or 0.0 for hparams in hparams_S])
        self.rho_S: _Array = np.array([hparams.rho or 0.0 for hparams in hparams_S])
        self.nesterov_S = np.array([float(one.nesterov or False) for one in hparams_S])
        decay_S: _Array = np.array([hparams.weight_decay for hparams in hparams_S])
        steps_TS = np.array(steps_S, dtype=np.float64) + np.arange(1.0, num_steps + 1)[:, None]
        scalars = _SCALARS[self.optimizer](self, steps_TS)
        if decay_S.any():
            is_decoupled = self.optimizer == "adamw"
            scalars["kept" if is_decoupled else "weight_decay"] = (
                1 - self.lr_S * decay_S if is_decoupled else decay_S
            )
        # Once an epoch: for eight families at each step they took a tenth of a small step.
        table_TKS = np.stack(np.broadcast_arrays(steps_TS, *scalars.values())[1:], axis=1)
        self._names = tuple(scalars)
        wide = torch.from_numpy(table_TKS).to(device)
        self._cut: dict[tuple[torch.dtype, int], tuple[int, list[dict[str, torch.Tensor]]]] = {}
        self.tables = {torch.float32: wide.to(torch.float32), torch.float64: wide}

    def rows(self, index: Index, like: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return each scalar of a step of the epoch, as (S, 1, ...) beside ``like``."""
        if isinstance(index, int):
            return self._known(index, like)
        table = self.tables.get(like.dtype)
        # In another precision than these two a model's weights are rare.
        table_KS = (
            at(self.tables[torch.float64], index).to(like.dtype)
            if table is None
            else at(table, index)
        )
        values = table_KS.view(*table_KS.shape, *[1] * (like.dim() - 1)).unbind()
        return dict(zip(self._names, values, strict=True))

    def _known(self, step: int, like: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the same of a step known on the host, cut from the table with those after it."""
        kind = (like.dtype, like.dim())
        first, cut = self._cut.get(kind, (0, []))
        if not first <= step < first + len(cut):
            table = self.tables.get(like.dtype, self.tables[torch.float64])
            table = table[step : step + _CUT_STEPS].to(like.dtype).flatten(0, 1)
            values = table.view(*table.shape, *[1] * (like.dim() - 1)).unbind()
            width = len(self._names)
            first, cut = self._cut[kind] = (
                step,
                [
                    dict(zip(self._names, values[i : i + width], strict=True))
                    for i in range(0, len(values), width)
                ],
            )
        return cut[step - first]


def at(table: torch.Tensor, index: Index) -> torch.Tensor:
    """Return a step's part of a table of the epoch's steps, (T, ...).

    Args:
        table: The table.
        index: The step's number, or (1,) on the device: known only when the device gets there.
    """
    return table[index] if isinstance(index, int) else table.index_select(0, index)[0]


def step(family: Family, index: Index, tensors: Sequence[Tensors]) -> None:
    """Update the weights of a family's trials, in place.

    Args:
        family: The trials.
        index: The step's number in the epoch, from 0; see ``at``.
        tensors: The trials' parameters; all have S rows.
    """
    update = _UPDATES[family.optimizer]
    rows_of: dict[tuple[torch.dtype, int], dict[str, torch.Tensor]] = {}
    for tensor in tensors:
        kind = (tensor.param.dtype, tensor.param.dim())
        if kind not in rows_of:
            rows_of[kind] = family.rows(index, tensor.param)
        update(_decayed(tensor, rows_of[kind]), rows_of[kind], _EPS[family.optimizer])


def norms(grads: Mapping[str, torch.Tensor], scratch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the L2 norm of each slot's gradient, (S,).

    Args:
        grads: The gradients by parameter, (S, *shape) each.
        scratch: Room for one of each shape; its contents are lost.
    """
    # Not vector_norm, nor a sum over the parameters as rows: how many slots lie beside a slot
    # would change its last bit. A sum along a row does not see the other rows.
    squares_S = [
        torch.mul(grad, grad, out=scratch[name]).view(grad.shape[0], -1).sum(dim=1)
        for name, grad in grads.items()
    ]
    sums_S = squares_S[0] if len(squares_S) == 1 else torch.stack(squares_S, dim=1).sum(dim=1)
    return sums_S.sqrt_()


def clip(
    grads: Sequence[torch.Tensor], norms_S: torch.Tensor, bounds_S: torch.Tensor
) -> list[torch.Tensor]:
    """Return the gradients, (S, *shape) each, scaled down to each slot's largest norm.

    As ``torch.nn.utils.clip_grad_norm_``: an infinite norm leaves zeros and NaN, a NaN only NaN.

    Args:
        grads: The gradients; not changed.
        norms_S: Norm of each slot's whole gradient.
        bounds_S: Largest norm of each slot; NaN leaves its gradient to the bit.
    """
    scales_S = (bounds_S / (norms_S + 1e-6)).clamp(max=1.0)
    scales_S = torch.where(bounds_S.isnan(), 1.0, scales_S)
    return [grad * scales_S.view(-1, *[1] * (grad.dim() - 1)) for grad in grads]


def _decayed(t: Tensors, rows: Mapping[str, torch.Tensor]) -> Tensors:
    """Apply the weight decay, if a slot has one: to the weights (adamw) or the gradient."""
    if "kept" in rows:
        t.param.mul_(rows["kept"])
    if "weight_decay" not in rows:
        return t
    # A slot without decay keeps its gradient to the bit, where its weights are infinite too.
    decay = rows["weight_decay"]
    return replace(t, grad=torch.where(decay == 0, t.grad, t.grad + t.param * decay))


# The scalars of a family's updates by name, (T, S) or (S,) where they are the same at each step,
# given the number of each step, (T, S). In float64, as PyTorch computes them in Python floats.


def _adam_scalars(family: Family, steps_TS: _Array) -> _Scalars:
    betas = family.betas_S2
    first_bias, second_bias = 1 - betas[:, 0] ** steps_TS, 1 - betas[:, 1] ** steps_TS
    return {
        "first_weight": 1 - betas[:, 0],
        "second_decay": betas[:, 1],
        "second_weight": 1 - betas[:, 1],
        "rate": family.lr_S / first_bias,
        "second_scale": 1 / np.sqrt(second_bias),
    }


def _nadam_scalars(family: Family, steps_TS: _Array) -> _Scalars:
    lr_S, beta1_S = family.lr_S, family.betas_S2[:, 0]

    def mu(steps: _Array) -> _Array:
        return 1.0 - 0.5 * 0.96 ** (steps * _MOMENTUM_DECAY)

    # PyTorch keeps the product of mu as state. Here it is a function of the step: mu is below
    # 0.52 for 100 steps, after which the product is lost beside the 1 it is subtracted from.
    early_PS = beta1_S * mu(np.arange(1.0, _PRODUCT_STEPS + 1))[:, None]
    last = np.minimum(steps_TS, _PRODUCT_STEPS).astype(np.int64) - 1
    product_TS = np.take_along_axis(early_PS.cumprod(axis=0), last, axis=0)
    next_TS = beta1_S * mu(steps_TS + 1)
    return {
        **_adam_scalars(family, steps_TS),
        "grad_rate": lr_S * (1 - beta1_S * mu(steps_TS)) / (1 - product_TS),
        "first_rate": lr_S * next_TS / (1 - product_TS * next_TS),
    }


def _rmsprop_scalars(family: Family, steps_TS: _Array) -> _Scalars:
    alpha_S = np.full(len(family.lr_S), _ALPHA)
    moved = {"momentum": family.momentum_S} if family.momentum_S.any() else {}
    return {"rate": family.lr_S, "second_decay": alpha_S, "second_weight": 1 - alpha_S, **moved}


def _adagrad_scalars(family: Family, steps_TS: _Array) -> _Scalars:
    return {"rate": family.lr_S}


def _adadelta_scalars(family: Family, steps_TS: _Array) -> _Scalars:
    rho_S = family.rho_S
    return {"rate": family.lr_S, "second_decay": rho_S, "second_weight": 1 - rho_S}


def _sgd_scalars(family: Family, steps_TS: _Array) -> _Scalars:
    ahead = {"nesterov": family.nesterov_S} if family.nesterov_S.any() else {}
    return {"rate": family.lr_S, "momentum": family.momentum_S, **ahead}


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


def _nadam(t: Tensors, rows: Mapping[str, torch.Tensor], eps: float) -> None:
    t.first.lerp_(t.grad, rows["first_weight"])
    _decay_squares(t.second, t, rows)
    _root_of_squares(t).mul_(rows["second_scale"]).add_(eps)
    update = (t.grad * rows["grad_rate"]).addcmul_(t.first, rows["first_rate"])
    t.param.sub_(update.div_(t.scratch))


def _rmsprop(t: Tensors, rows: Mapping[str, torch.Tensor], eps: float) -> None:
    _decay_squares(t.second, t, rows)
    _root_of_squares(t).add_(eps)
    update = torch.div(t.grad, t.scratch, out=t.scratch)
    if "momentum" in rows:
        update = t.first.mul_(rows["momentum"]).add_(update)
    t.param.addcmul_(update, rows["rate"], value=-1)


def _adagrad(t: Tensors, rows: Mapping[str, torch.Tensor], eps: float) -> None:
    t.second.addcmul_(t.grad, t.grad)
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
    update = t.first
    if "nesterov" in rows:
        torch.mul(t.first, rows["momentum"], out=t.scratch).add_(t.grad)
        update = torch.where(rows["nesterov"] == 0, t.first, t.scratch)
    t.param.addcmul_(update, rows["rate"], value=-1)


def _decay_squares(squares: torch.Tensor, t: Tensors, rows: Mapping[str, torch.Tensor]) -> None:
    torch.mul(t.grad, rows["second_weight"], out=t.scratch)
    squares.mul_(rows["second_decay"]).addcmul_(t.scratch, t.grad)


def _root_of_squares(t: Tensors) -> torch.Tensor:
    # The root of 0 takes torch five times as long as any other (a special case of MKL), and word
    # vectors that no batch has touched are all zeros. 1e-36 is lost beside eps, and its root too.
    return torch.add(t.second, 1e-36, out=t.scratch).sqrt_()


_UPDATES: Mapping[str, Callable[[Tensors, Mapping[str, torch.Tensor], float], None]] = {
    "adam": _adam,
    "adamw": _adam,
    "adamax": _adamax,
    "nadam": _nadam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "sgd": _sgd,
}

_SCALARS: Mapping[str, Callable[[Family, _Array], _Scalars]] = {
    "adam": _adam_scalars,
    "adamw": _adam_scalars,
    "adamax": _adam_scalars,
    "nadam": _nadam_scalars,
    "rmsprop": _rmsprop_scalars,
    "adagrad": _adagrad_scalars,
    "adadelta": _adadelta_scalars,
    "sgd": _sgd_scalars,
}
