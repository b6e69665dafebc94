"""Rules about the optimizer, its parameters and their gradients."""

import math
import statistics
from collections.abc import Collection, Iterator

from objectives.check.findings import Finding
from objectives.check.seen import Epoch, Optimized, Seen

#: Batches of an epoch from which one step is too few.
MIN_BATCHES = 3
#: Gradients that grow so many times in a few epochs explode.
EXPLOSION = 100.0


def find_error(seen: Seen) -> Iterator[Finding]:
    """Find what the loop raised."""
    if seen.error is not None:
        text, line = seen.error
        yield Finding("raised", True, f"the loop raised {text}", "mend what raised", line)


def find_few_steps(seen: Seen) -> Iterator[Finding]:
    """Find epochs without a backward pass or a step, and those of many batches and one step."""
    for epoch in seen.ended:
        batches = max(epoch.backwards, _count_batches(epoch))
        if not epoch.backwards and not epoch.steps:
            yield Finding(
                "no-backward",
                True,
                f"an epoch of {len(epoch.calls)} calls of the model had no loss.backward() and no "
                "optimizer.step()",
                "call loss.backward() and optimizer.step() for each batch",
                next((each.line for each in epoch.calls), None),
            )
        elif not epoch.steps:
            yield Finding(
                "no-step",
                True,
                f"loss.backward() ran {epoch.backwards} times in an epoch, optimizer.step() never",
                "call optimizer.step() after loss.backward()",
                epoch.backward_line,
            )
        elif epoch.steps == 1 and batches >= MIN_BATCHES:
            line = next(iter(seen.optimizers.values())).line
            yield Finding(
                "one-step-an-epoch",
                True,
                f"optimizer.step() ran once in an epoch of {batches} batches, so the model learns "
                f"{batches} times slower than it could",
                "call optimizer.step() for each batch: move it inside the loop over the batches",
                line,
            )


def _count_batches(epoch: Epoch) -> int:
    """Return how many different batches were trained on; 0 where inputs cannot be told apart."""
    return len({each.hashes for each in epoch.training if each.hashes})


def find_stale_gradients(seen: Seen) -> Iterator[Finding]:
    """Find steps whose gradients hold those of earlier steps."""
    lines = [each.backward_line for each in seen.epochs if each.backward_line]
    for facts in seen.optimizers.values():
        if facts.stale_steps >= 2:
            yield Finding(
                "no-zero-grad",
                True,
                f"{facts.stale_steps} of {facts.steps} steps used gradients to which those of "
                "earlier steps were added",
                "call optimizer.zero_grad() once a step, before loss.backward()",
                lines[-1] if lines else facts.line,
            )


def find_parameters(seen: Seen) -> Iterator[Finding]:
    """Find parameters that no optimizer has, and layers that the model does not contain."""
    if not seen.optimizers:
        return
    line = next(iter(seen.optimizers.values())).line
    held = {id(one) for each in seen.optimizers.values() for one in each.parameters}
    missing = {key for key in seen.touched if key not in held}
    models = list(seen.trained.values())
    for model in models:
        own = {id(each): each for each in model.parameters() if each.requires_grad}
        if held & set(own):
            missing |= set(own) - held
    if models and not any(held & {id(one) for one in each.parameters()} for each in models):
        yield Finding(
            "other-model",
            True,
            "the optimizer has no parameter of the model that is trained",
            "give the optimizer model.parameters() of this model, after it was built and moved",
            line,
        )
    elif missing:
        yield Finding(
            "not-in-optimizer",
            False,
            f"{_name(seen, missing)}: no optimizer has it",
            "build the optimizer after the model is complete; freeze what is not to be trained "
            "with requires_grad_(False)",
            line,
        )
    for name, called in seen.unregistered.items():
        yield Finding(
            "unregistered",
            False,
            f"{name} is called but is no part of the model: no optimizer, no .to(device), no "
            "weights file has it",
            "hold layers in nn.ModuleList or as attributes, not in a list",
            called,
        )


def find_still_parameters(seen: Seen) -> Iterator[Finding]:
    """Find parameters without a gradient, and those that steps do not change."""
    for facts in seen.optimizers.values():
        trained = {id(each): each for each in facts.parameters if each.requires_grad}
        if facts.steps < 2 or not trained:
            continue
        dead = {key for key in trained if key not in facts.reached}
        if dead:
            is_all = len(dead) == len(trained)
            yield Finding(
                "no-gradient",
                is_all,
                f"{_name(seen, dead)}: the gradient was none or exactly 0 at all {facts.steps} "
                "steps",
                "look for detach(), no_grad(), an activation that is always 0, or a layer that "
                "the loss does not use",
                facts.line,
            )
        still = {
            key
            for key, each in trained.items()
            if key in facts.moved and bool((each.detach() == facts.start[key]).all())
        }
        if still:
            rates = sorted({float(group["lr"]) for group in facts.optimizer.param_groups})
            shown = ", ".join(f"{rate:g}" for rate in rates)
            yield Finding(
                "unchanged",
                not (set(trained) & facts.moved) - still,
                f"{_name(seen, still)}: not changed by {facts.steps} steps, learning rate {shown}",
                "look at the learning rate, and whether weights are loaded or tied anew each step",
                facts.line,
            )


def find_wild_gradients(seen: Seen) -> Iterator[Finding]:
    """Find gradients and losses that are no numbers, and gradients that explode."""
    for facts in seen.optimizers.values():
        wrong = [norm for norm in facts.norms if not math.isfinite(norm)]
        if wrong:
            yield Finding(
                "nan-gradient",
                True,
                f"the gradient was {wrong[0]} at {len(wrong)} of {len(facts.norms)} steps",
                "lower the learning rate, clip the gradient, look for log(0), sqrt(0) and 0/0",
                facts.line,
            )
        elif _is_exploding(facts):
            first, last = facts.norms[0], facts.norms[-1]
            yield Finding(
                "exploding-gradient",
                False,
                f"the gradient's norm went from {first:.3g} to {last:.3g} in {facts.steps} steps",
                "lower the learning rate, or clip with torch.nn.utils.clip_grad_norm_",
                facts.line,
            )
    for epoch in seen.epochs:
        bad = [value for value in epoch.backward_values if not math.isfinite(value)]
        if bad:
            yield Finding(
                "nan-loss",
                True,
                f"the training loss was {bad[0]} in {len(bad)} of {len(epoch.backward_values)} "
                "batches",
                "look for NaN in the inputs, log(0), and a learning rate that is too large",
                epoch.backward_line,
            )


def _is_exploding(facts: Optimized) -> bool:
    part = len(facts.norms) // 4
    if part < 2:
        return False
    first, last = (statistics.median(each) for each in (facts.norms[:part], facts.norms[-part:]))
    return last > 10.0 and last > EXPLOSION * first


def _name(seen: Seen, keys: Collection[int]) -> str:
    names = sorted(seen.names.get(key, "a parameter") for key in keys)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return shown
