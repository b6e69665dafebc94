"""What starts trainers and carries commands to them, wherever they run."""

from dataclasses import dataclass
from typing import Protocol, Self

from sweeps.trainers.messages import Answer, Broken, Command, Load, Loaded, Stop, TrainerEnded


class ExecutorError(RuntimeError):
    """The process that loads the data has died, or met an error that is no person's; one line."""


@dataclass(frozen=True, slots=True)
class ParentEnded:
    """The process that loads the data has died; its trainers end as they notice."""


Report = tuple[int, Answer | Broken | TrainerEnded] | ParentEnded


class Executor(Protocol):
    """Trainers by index; use it in a ``with`` block, which ends all of them. For one thread.

    A trainer that dies is a report, never an error.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def load(self, order: Load) -> Loaded:
        """Load the data once for all trainers; waits until that is done.

        Raises:
            ConfigError: If a device, a precision or a class that was asked for is not here.
            DataError: If the data are not what the objective reads.
            ObjectiveError: If the objective or its model cannot be used.
            ExecutorError: If the process died, or met an error of another kind.
        """

    def restart(self, order: Load) -> Loaded:
        """Load the data anew, without trainers, where the process that held them has died."""

    def start(self, index: int, device: str) -> None:
        """Start a trainer; its end is reported if that fails."""

    def send(self, index: int, command: Command | Stop) -> None:
        """Give a trainer a command; the end of one that has died is reported, not raised."""

    def wait(self, timeout_s: float) -> list[Report]:
        """Return what has been reported by now, waiting for something up to a time.

        All that a trainer said before its end comes before its end.
        """
