"""One row's trial of a lane, and what an epoch makes of it."""

from dataclasses import dataclass, replace

from objectives.api import EpochReport
from objectives.lanes.checkpoints import RowState
from objectives.lanes.validation import no_counts
from objectives.optimizers import schedules
from search_spaces.hparams import LINE_SEARCHES, Hparams


@dataclass(frozen=True, slots=True)
class LaneTrial:
    """A lane's ``number``-th trial; ``epochs`` and ``steps`` it has trained.

    ``rate`` is its learning rate in its next epoch.
    """

    number: int
    slot: int
    seed: int
    hparams: Hparams
    rate: schedules.Rate
    epochs: int = 0
    steps: int = 0

    @property
    def is_search(self) -> bool:
        """Whether its optimizer searches its own step, which needs a lane of its own."""
        return self.hparams.optimizer in LINE_SEARCHES

    def after_epoch(self, num_steps: int, val_loss: float) -> "LaneTrial":
        """Return the trial an epoch of so many steps later."""
        epochs = self.epochs + 1
        rate = schedules.next_rate(self.rate, self.hparams, epochs=epochs, val_loss=val_loss)
        return replace(self, rate=rate, epochs=epochs, steps=self.steps + num_steps)

    def resumed(self, state: RowState) -> "LaneTrial":
        """Return the trial as it was when its state was copied."""
        return replace(self, rate=state.rate, epochs=state.epochs, steps=state.steps)

    def failure(self, reason: str, num_classes: int) -> EpochReport:
        """Return the report of an epoch in which the trial's model raised."""
        nan = float("nan")
        return EpochReport(
            slot=self.slot,
            epoch=self.epochs + 1,
            train_loss=nan,
            val_loss=nan,
            counts=no_counts(num_classes),
            learning_rate=self.rate.learning_rate,
            grad_norm=nan,
            seconds=0.0,
            error=reason,
        )
