"""What a watch has seen, judged: each rule looks for one kind of bug.

A loop that does a thing on purpose must pass: accumulated gradients, closures, frozen parts,
adversaries, averaged weights, mixed targets.
"""

from collections.abc import Callable, Iterator

from objectives.check import rules_of_data, rules_of_steps
from objectives.check.findings import CheckResult, Finding
from objectives.check.seen import Seen

_RULES: tuple[Callable[[Seen], Iterator[Finding]], ...] = (
    rules_of_steps.find_error,
    rules_of_steps.find_few_steps,
    rules_of_steps.find_stale_gradients,
    rules_of_steps.find_parameters,
    rules_of_steps.find_still_parameters,
    rules_of_steps.find_wild_gradients,
    rules_of_data.find_modes,
    rules_of_data.find_first_loss,
    rules_of_data.find_loss_arguments,
    rules_of_data.find_own_batch,
    rules_of_data.find_rows,
    rules_of_data.find_shared_rows,
    rules_of_data.find_classes,
    rules_of_data.find_order,
)


def judge(seen: Seen) -> CheckResult:
    """Return what is wrong with a loop, for all that was seen."""
    findings: dict[str, Finding] = {}
    for rule in _RULES:
        for found in rule(seen):
            findings.setdefault(found.name, found)
    ended = seen.ended
    unchecked = []
    if not ended:
        unchecked.append("no epoch was seen to its end: steps an epoch, modes, classes, shuffling")
    elif len(ended) < 2:
        unchecked.append("one epoch was seen: whether the second differs")
    if ended and not any(each.losses for each in ended):
        unchecked.append("no loss function of torch was called: its input, its first value")
    return CheckResult(
        findings=tuple(sorted(findings.values(), key=lambda each: not each.is_fatal)),
        epochs=len(ended),
        steps=sum(each.steps for each in seen.optimizers.values()),
        unchecked=tuple(unchecked),
    )
