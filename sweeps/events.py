"""What workers report while a sweep runs: plain facts, for a display, a log or a test.

Events cross a pipe as one line of JSON each. Knows nothing of how they are shown.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial was given a slot; ``params`` as ``Hparams.to_params()``."""

    worker: int
    trial: int
    attempt: int
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EpochDone:
    """A trial was trained and validated for one epoch; ``seconds`` is its share of the time."""

    worker: int
    trial: int
    epoch: int
    score: float
    best_epoch: int | None
    best_score: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial ended and its result is stored; ``outcome`` and ``reason`` as in SQL."""

    worker: int
    trial: int
    outcome: str
    reason: str
    epochs_run: int
    best_epoch: int | None
    best_score: float | None


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the person (a model that cannot be fused, a worker that died).

    Of the notes of all workers about the same thing one will do; None: no other is about it.
    """

    worker: int
    text: str
    about: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker is through: ``done``, ``interrupted``, ``time is up`` or ``failed``.

    Attributes:
        worker: The worker's number.
        ending: One of the four.
        reason: Why it failed, else None.
        seconds: Wall-clock seconds of its work, from its first claim on.
        bookkeeping_s: Processor seconds of its second thread: claims, asks, records.
        waited_s: Seconds in which training waited for that thread.
    """

    worker: int
    ending: str
    reason: str | None = None
    seconds: float = 0.0
    bookkeeping_s: float = 0.0
    waited_s: float = 0.0


Event = TrialStarted | EpochDone | TrialEnded | Note | WorkerEnded

_TYPES = {cls.__name__: cls for cls in (TrialStarted, EpochDone, TrialEnded, Note, WorkerEnded)}


def to_line(event: Event) -> str:
    """Return the event as one line of JSON, without the line's end; NaN becomes null."""
    values = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(event).items()
    }
    return json.dumps({"event": type(event).__name__, **values})


def from_line(line: str) -> Event:
    """Return the event of a line that ``to_line`` made; scores that were NaN are NaN again."""
    values = json.loads(line)
    kind = _TYPES[values.pop("event")]
    if kind is EpochDone:
        for name in ("score", "best_score"):
            values[name] = math.nan if values[name] is None else values[name]
    event: Event = kind(**values)
    return event
