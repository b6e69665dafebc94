"""What a check finds: each with its evidence, the line, and the fix. Knows no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """A bug, or what looks like one.

    Attributes:
        name: Its name, for programs: ``one-step-an-epoch``.
        is_fatal: Whether a sweep of this loop is wasted.
        evidence: What was seen, with numbers.
        fix: What to do.
        line: ``file:line`` of the person's code; None: no single line has it.
    """

    name: str
    is_fatal: bool
    evidence: str
    fix: str
    line: str | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check of a loop came to.

    Attributes:
        findings: Fatal ones first.
        epochs: Epochs that were watched to their end.
        steps: Optimizer steps in them.
        unchecked: What could not be checked, and why, a sentence each.
    """

    findings: tuple[Finding, ...]
    epochs: int
    steps: int
    unchecked: tuple[str, ...] = ()

    @property
    def is_fatal(self) -> bool:
        """Whether a sweep of this loop is wasted."""
        return any(each.is_fatal for each in self.findings)
