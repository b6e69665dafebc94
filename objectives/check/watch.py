"""Watches a training loop through PyTorch's public hooks, while it runs as it is.

Hooks of modules and optimizers, of the accumulation of gradients, and a ``TorchFunctionMode``,
which sees calls of loss functions and of ``backward``. Only the thread that watches is seen.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer
from torch.overrides import TorchFunctionMode

from objectives.check import losses, replay
from objectives.check.seen import Call, Epoch, Inputs, Optimized, Replay, Seen
from objectives.places import find_caller

#: Examples of an epoch whose inputs are compared.
MAX_ROWS = 20_000
#: Steps whose own batch is tried again after them.
MAX_OWN_BATCHES = 40
#: Share of the whole gradient below which one is rounding: of a bias before BatchNorm, say.
NEGLIGIBLE = 1e-4
_DROPOUTS = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout
)  # fmt: skip
#: Layers that do another thing in training than in validation.
_SWITCHED = (
    *_DROPOUTS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.RNNBase
)  # fmt: skip


class LoopWatch:
    """Watches what happens inside a ``with`` block; ``seen`` holds it.

    Args:
        on_step: Called after each step, to end a check that takes too long.
    """

    def __init__(self, on_step: Callable[[], None] = lambda: None) -> None:
        self.seen = Seen()
        self._on_step = on_step
        self._stack: list[nn.Module] = []
        self._is_off = False
        self._in_step = 0
        self._moment = 0
        # Gradients that a step has used, and those that were added to such.
        self._stale: set[int] = set()
        self._mixed: set[int] = set()
        self._reached: set[int] = set()
        self._last_call: Inputs | None = None
        self._last_loss: losses.LossCall | None = None
        self._last_value = math.nan
        self._own_batch: tuple[Replay, float] | None = None
        self._parameters: dict[int, torch.Tensor] = {}
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        handles = [
            torch_module.register_module_forward_pre_hook(self._before_call),
            torch_module.register_module_forward_hook(
                self._after_call, with_kwargs=True, always_call=True
            ),
            torch_optimizer.register_optimizer_step_pre_hook(self._before_step),
            torch_optimizer.register_optimizer_step_post_hook(self._after_step),
        ]
        for handle in handles:
            self._hooks.callback(handle.remove)
        self._hooks.enter_context(_Mode(self))
        self.seen.epochs.append(Epoch())
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def end_epoch(self, targets: Any, predictions: Any) -> None:
        """Take in that an epoch of the loop has ended, with what it recorded."""
        epoch = self.seen.epochs[-1]
        epoch.targets, epoch.predictions = targets, predictions
        self.seen.num_ended += 1
        self.seen.epochs.append(Epoch())

    @property
    def _epoch(self) -> Epoch:
        return self.seen.epochs[-1]

    @contextmanager
    def _off(self) -> Any:
        self._is_off = True
        try:
            yield
        finally:
            self._is_off = False

    def _before_call(self, module: nn.Module, args: Any) -> None:
        if not self._is_off:
            self._stack.append(module)

    def _after_call(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self._is_off:
            return
        if self._stack:
            self._stack.pop()
        has_parameters = next(module.parameters(), None) is not None
        if not has_parameters:
            return
        if self._stack:
            self._find_unregistered(module)
            return
        rows = replay.count_rows(output)
        self._moment += 1
        has_grad = torch.is_grad_enabled()
        is_eval, is_training = _find_mode(module)
        epoch = self._epoch
        known = sum(len(each.hashes) for each in epoch.calls)
        hashes = replay.hash_rows(args, kwargs, rows) if known < MAX_ROWS else ()
        epoch.calls.append(
            Call(module, has_grad, is_eval, is_training, rows, hashes, find_caller(), self._moment)
        )
        inputs = Inputs(module, args, kwargs, output)
        if has_grad:
            self._last_call = inputs
            self.seen.trained[id(module)] = module
            self._know(module.named_parameters())
        else:
            self.seen.last_validation = inputs

    def _find_unregistered(self, module: nn.Module) -> None:
        top = self._stack[0]
        if all(module is not each for each in top.modules()):
            name = f"{type(module).__name__} in {type(top).__name__}"
            if name not in self.seen.unregistered:
                self.seen.unregistered[name] = find_caller()

    def _know(self, named: Iterable[tuple[str, torch.Tensor]]) -> None:
        for name, parameter in named:
            key = id(parameter)
            if key in self._parameters or not parameter.is_leaf or not parameter.requires_grad:
                continue
            self._parameters[key] = parameter
            self.seen.names.setdefault(key, name)
            hook = parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                self._after_gradient
            )
            self._hooks.callback(hook.remove)

    def _after_gradient(self, parameter: torch.Tensor) -> None:
        self._reached.add(id(parameter))

    def backward(self, run: Callable[[], Any], value: Any) -> Any:
        """Run a backward pass, and see which gradients it is added to."""
        if self._is_off:
            return run()
        epoch = self._epoch
        epoch.backward_line = find_caller()
        if not self._in_step:
            epoch.backwards += 1
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            self._last_value = float(value.detach())
            epoch.backward_values.append(self._last_value)
        for key in list(self._stale | self._mixed):
            gradient = self._parameters[key].grad
            if gradient is None or not _is_nonzero(gradient):
                self._stale.discard(key)
                self._mixed.discard(key)
        self._reached.clear()
        found = run()
        self._mixed |= self._reached & self._stale
        self.seen.touched |= self._reached
        return found

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        key = id(optimizer)
        if key not in self.seen.optimizers:
            self.seen.optimizers[key] = Optimized(optimizer, find_caller())
        facts = self.seen.optimizers[key]
        self._know((f"parameter {tuple(each.shape)}", each) for each in facts.parameters)
        for each in facts.parameters:
            if id(each) not in facts.start:
                facts.start[id(each)] = each.detach().clone()
        self._in_step += 1
        self._own_batch = None
        if _has_closure(args, kwargs):
            return  # the gradients are those of the closure
        self._judge_gradients(facts)
        self._own_batch = self._try_own_batch(facts)

    def _judge_gradients(self, facts: Optimized) -> None:
        """See the gradients with which an optimizer steps."""
        norms = {
            id(each): float(torch.linalg.vector_norm(each.grad.detach().to_dense().float()))
            for each in facts.parameters
            if each.grad is not None
        }
        total = math.hypot(*norms.values())
        facts.norms.append(total)
        facts.reached |= {key for key, norm in norms.items() if norm != 0.0}
        facts.moved |= {key for key, norm in norms.items() if norm > NEGLIGIBLE * total}
        if any(id(each) in self._mixed for each in facts.parameters):
            facts.stale_steps += 1

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        facts = self.seen.optimizers[id(optimizer)]
        self._in_step = max(0, self._in_step - 1)
        if _has_closure(args, kwargs):
            self._judge_gradients(facts)
        facts.steps += 1
        self._moment += 1
        self._epoch.steps += 1
        self._epoch.last_step = self._moment
        self._stale |= {id(each) for each in facts.parameters if each.grad is not None}
        if self._own_batch is not None:
            again, before = self._own_batch
            with self._off():
                self.seen.own_batch.append((before, again(), find_caller()))
        self._own_batch = None
        self._on_step()

    def _try_own_batch(self, facts: Optimized) -> tuple[Replay, float] | None:
        """Return a call for the loss of the step's own batch, and what it is before the step."""
        call, loss = self._last_call, self._last_loss
        if call is None or loss is None or len(self.seen.own_batch) >= MAX_OWN_BATCHES:
            return None
        mine = {id(each) for each in facts.parameters}
        if not any(id(each) in mine for each in call.model.parameters()):
            return None
        with self._off():
            if not losses.is_multiple(self._last_value, loss.repeat(loss.given)):
                return None  # the loss has other parts
            again = replay.make_replay(call, loss)
            return None if again is None else (again, again())

    def loss(self, name: str, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a loss function, and see what it is given."""
        if self._is_off:
            return run(*args, **kwargs)
        call = losses.LossCall.read(name, run, args, kwargs)
        line = find_caller()
        losses.note(self.seen, call, line)
        found = run(*args, **kwargs)
        has_grad = torch.is_grad_enabled()
        self._epoch.losses.append(losses.to_loss(call, found, line, has_grad=has_grad))
        if has_grad:
            self._last_loss = call
        return found


class _Mode(TorchFunctionMode):
    """Tells a watch of loss functions and backward passes."""

    def __init__(self, watch: LoopWatch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.backward or func is torch.autograd.backward:
            return self._watch.backward(lambda: func(*args, **kwargs), args[0] if args else None)
        name = losses.NAMES.get(func)
        if name is not None:
            return self._watch.loss(name, func, args, kwargs)
        return func(*args, **kwargs)


def _has_closure(args: Any, kwargs: Any) -> bool:
    """Return whether a step was given a closure; the first argument is the optimizer."""
    return len(args) > 1 or kwargs.get("closure") is not None


def _find_mode(model: nn.Module) -> tuple[bool, bool]:
    """Return whether all switched layers that are trained are in eval mode, and one in training.

    A layer is trained where the module that holds it has a parameter that is.
    """
    live, training = [], False
    for parent in model.modules():
        for child in [parent, *parent.children()] if parent is model else parent.children():
            if not isinstance(child, _SWITCHED) or _is_off(child):
                continue
            training |= child.training
            if any(each.requires_grad for each in parent.parameters()):
                live.append(child.training)
    return bool(live) and not any(live), training


def _is_off(layer: nn.Module) -> bool:
    if isinstance(layer, nn.RNNBase):
        return layer.dropout == 0.0
    return isinstance(layer, _DROPOUTS) and layer.p == 0.0


def _is_nonzero(gradient: torch.Tensor) -> bool:
    return bool(gradient.detach().to_dense().any())
