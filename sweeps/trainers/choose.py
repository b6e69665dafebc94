"""Which executor runs the trainers of a sweep."""

from sweeps.trainers.executor import Executor
from sweeps.trainers.local_executor import LocalExecutor


def open_executor() -> Executor:
    """Return the executor, for a ``with`` block."""
    return LocalExecutor()
