"""Rules about modes, the loss, the model's outputs and the data."""

import math
import statistics
from collections.abc import Iterator

import numpy as np

from objectives.check import replay
from objectives.check.findings import Finding
from objectives.check.seen import Epoch, Seen

#: Examples of validation that may be in train as well, beside twice as many as train repeats.
MAX_SHARED = 0.05


def find_modes(seen: Seen) -> Iterator[Finding]:
    """Find training in eval mode, and validation in training mode."""
    for number, epoch in enumerate(seen.ended, start=1):
        training = epoch.training
        asleep = [each for each in training if each.is_eval]
        if len(asleep) * 2 > len(training):
            yield Finding(
                "eval-in-training",
                True,
                f"in epoch {number} the model was in eval mode for {len(asleep)} of "
                f"{len(training)} training batches: no dropout, BatchNorm does not learn",
                "call model.train() at the start of each epoch",
                asleep[0].line,
            )
        after = epoch.validation
        awake = [each for each in after if each.is_training]
        needed = 1 if epoch.targets is None else len(epoch.targets)
        has_eval = sum(each.rows for each in after if not each.is_training) >= needed
        if not has_eval and sum(each.rows for each in awake) >= needed:
            yield Finding(
                "train-in-validation",
                True,
                f"in epoch {number} validation ran in training mode: dropout or BatchNorm makes "
                "each score depend on chance and on the batch",
                "call model.eval() before validation, and model.train() after it",
                awake[-1].line,
            )


def find_first_loss(seen: Seen) -> Iterator[Finding]:
    """Find a first loss far above that of guessing."""
    first = next((one for each in seen.epochs for one in each.losses if one.has_grad), None)
    if first is None or first.value is None:
        return
    chance = math.log(max(first.num_classes, 2))
    if first.value > 2.0 * chance + 0.5:
        yield Finding(
            "first-loss",
            False,
            f"the first training loss is {first.value:.3g}; a model that guesses has {chance:.3g}",
            "scale the inputs to about -1 to 1, and look at the weights of the last layer",
            first.line,
        )


def find_loss_arguments(seen: Seen) -> Iterator[Finding]:
    """Find targets that the loss cannot take, and probabilities where it takes logits."""
    for name, (evidence, line) in seen.odd_losses.items():
        yield Finding(name, True, evidence, "number the classes from 0, one output a class", line)
    advice = {
        "cross_entropy": ("cross_entropy takes logits, and its input is a softmax's", "softmax"),
        "nll_loss": ("nll_loss takes logarithms, and its input is a softmax's", "log_softmax"),
        "binary_cross_entropy_with_logits": (
            "binary_cross_entropy_with_logits takes logits, and its input is a sigmoid's",
            "sigmoid",
        ),
    }
    for name, (text, layer) in advice.items():
        calls = seen.loss_inputs.get(name, [])
        numbers = sum(count for _, count, _ in calls)
        if calls and numbers >= 32 and all(is_one for is_one, _, _ in calls):
            is_log = layer == "log_softmax"
            fix = "use log_softmax" if is_log else f"give the loss the output before the {layer}"
            yield Finding(
                "softmax-twice", True, f"{text} in all {len(calls)} calls", fix, calls[0][2]
            )


def find_own_batch(seen: Seen) -> Iterator[Finding]:
    """Find steps that raise the loss of their own batch."""
    tried = [each for each in seen.own_batch if each[0] != each[1]]
    rising = [each for each in tried if not each[1] < each[0]]
    if len(tried) >= 6 and len(rising) >= 0.8 * len(tried):
        before = statistics.median(each[0] for each in tried)
        after = statistics.median(each[1] for each in tried)
        yield Finding(
            "loss-rises",
            True,
            f"{len(rising)} of {len(tried)} steps raised the loss of their own batch, from "
            f"{before:.3g} to {after:.3g} in the median: it would not learn one batch by heart",
            "lower the learning rate; look at the sign of the loss",
            tried[0][2],
        )


def find_rows(seen: Seen) -> Iterator[Finding]:
    """Find outputs that are all equal, and outputs that depend on other rows of a batch."""
    call = seen.last_validation
    if call is None or not seen.ended:
        return
    line = next((each.line for each in reversed(seen.ended[-1].validation)), None)
    if replay.is_constant(call):
        yield Finding(
            "constant-output",
            True,
            "the model gives the same output for every validation example",
            "look for inputs that are overwritten, dead activations, a rate that is too large",
            line,
        )
    try:
        leak = replay.find_leak(call)
    except Exception:  # a model may take no other rows: packed sequences, caches
        return
    if leak is not None and leak > replay.TOLERANCE:
        yield Finding(
            "leak-between-rows",
            True,
            f"outputs of examples change by {leak:.0%} of the largest where only other examples "
            "of the batch do",
            "look for view() or reshape() in place of transpose(), a softmax or a norm over the "
            "batch, batch_first",
            line,
        )


def find_shared_rows(seen: Seen) -> Iterator[Finding]:
    """Find validation examples that are trained on."""
    if not seen.ended:
        return
    epoch = seen.ended[0]
    rows = [one for each in epoch.training for one in each.hashes]
    train = set(rows)
    calls = [each for each in epoch.validation if not each.has_grad or not each.is_training]
    validation = {one for each in calls for one in each.hashes}
    if epoch.targets is not None:  # the last calls are those that were scored
        validation, left = set(), len(epoch.targets)
        for each in reversed(calls):
            if left > 0:
                validation |= set(each.hashes)
                left -= each.rows
    if len(train) < 10 or len(validation) < 10:
        return
    repeated = 1.0 - len(train) / len(rows)
    shared = len(validation & train) / len(validation)
    if shared > MAX_SHARED + 2.0 * repeated:
        yield Finding(
            "shared-rows",
            True,
            f"{shared:.0%} of the validation examples are in the training data",
            "split before copies are made, and validate on examples that are not trained on",
            calls[-1].line if calls else None,
        )


def find_classes(seen: Seen) -> Iterator[Finding]:
    """Find classes that are in one split alone."""
    if not seen.ended or seen.ended[-1].targets is None:
        return
    # A batch of one class says nothing: an adversary's, or one of a sorted data set.
    batches = [
        one.targets
        for each in seen.ended
        for one in each.losses
        if one.has_grad and one.targets is not None and len(np.unique(one.targets)) > 1
    ]
    if not batches:
        return
    train = set(np.unique(np.concatenate(batches)).tolist())
    validation = set(np.unique(seen.ended[-1].targets).tolist())
    for lacking, where, what in (
        (train - validation, "validation", "no score counts what is predicted as such"),
        (validation - train, "the training data", "no model can learn it"),
    ):
        if lacking:
            yield Finding(
                "absent-class",
                False,
                f"class {', '.join(map(str, sorted(lacking)[:5]))} is not in {where}: {what}",
                "split each class by itself (stratify)",
            )


def find_order(seen: Seen) -> Iterator[Finding]:
    """Find epochs with the same batches in the same order."""
    if len(seen.ended) < 2:
        return
    first, second = (_list_batches(each) for each in seen.ended[:2])
    if len(set(first)) >= 2 and first == second:
        yield Finding(
            "no-shuffle",
            False,
            f"both epochs had the same {len(first)} batches in the same order",
            "give the training DataLoader shuffle=True",
            next((each.line for each in seen.ended[0].training), None),
        )


def _list_batches(epoch: Epoch) -> list[bytes] | list[tuple[int, ...]]:
    """Return what tells the batches of an epoch apart: their targets, else their inputs."""
    targets = [
        each.targets.tobytes()
        for each in epoch.losses
        if each.has_grad and each.targets is not None
    ]
    return targets or [each.hashes for each in epoch.training if each.hashes]
