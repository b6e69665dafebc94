"""What limits a sweep, how much of it is spent, and how people are told. Knows no study."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Budget:
    """What limits a sweep; None: this does not.

    Attributes:
        trials: Trials that the study starts.
        epochs: Epochs that its trials train together.
        minutes: Minutes of each run.
    """

    trials: int | None = None
    epochs: int | None = None
    minutes: float | None = None

    def is_spent(self, *, trials: int, epochs: int) -> bool:
        """Return whether no trial may start any more; minutes are those of a run, not a study's.

        Args:
            trials: Trials that were started.
            epochs: Epochs that they have trained together.
        """
        spent = ((trials, self.trials), (epochs, self.epochs))
        return any(most is not None and number >= most for number, most in spent)

    def use(self, *, trials: int, epochs: int) -> str:
        """Return what is spent for people: ``312 of 900 epochs, 41 trials``.

        Args:
            trials: Trials that were started.
            epochs: Epochs that they have trained together.
        """
        return f"{_use(epochs, self.epochs, 'epoch')}, {_use(trials, self.trials, 'trial')}"

    def __str__(self) -> str:
        texts = [
            *([] if self.epochs is None else [_count(self.epochs, "epoch") + " in total"]),
            *([] if self.trials is None else [_count(self.trials, "trial")]),
            *([] if self.minutes is None else [f"{self.minutes:g} minutes a run"]),
        ]
        return ", ".join(texts)


def read_budget(settings: Mapping[str, Any]) -> Budget:
    """Return the budget of a sweep's settings (``SweepConfig.stored()``, or of another study)."""
    names = ("trials", "max_total_epochs", "max_minutes")
    return Budget(*(settings.get(name) for name in names))


def _use(number: int, most: int | None, word: str) -> str:
    return _count(number, word) if most is None else f"{number:,} of {_count(most, word)}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
