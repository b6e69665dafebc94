"""What a person sees while a sweep runs: lines in a log, or a display on a terminal.

Counts events; knows neither the database nor how trials are trained.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search_spaces.hparams import flatten
from storage.schema import RANKED
from sweeps.budget import Budget
from sweeps.cli.tables import add_numbers, add_texts, new_table
from sweeps.read.params import BY_LINE_SEARCH, show_params
from sweeps.read.words import UNENDED, clean, setting
from sweeps.running.events import (
    EpochDone,
    Event,
    Note,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)

#: Running trials that are listed; the others are counted.
MAX_LISTED = 20
#: Share of the budget that this run must have spent before it says how long the rest will take.
MIN_SHARE = 0.05
#: Seconds between two lines of the state where there is no terminal.
STATE_INTERVAL_S = 30.0

_BAR_WIDTH = 30
_SHORT = {"learning_rate": "lr", "batch_size": "batch", "class_weights": "weights"}


@dataclass(frozen=True, slots=True)
class Best:
    """A trial's best epoch so far."""

    trial: int
    epoch: int
    score: float
    loss: float


@dataclass(slots=True)
class _Running:
    params: dict[str, Any]
    epoch: int = 0
    score: float = math.nan
    best: Best | None = None


@dataclass(slots=True)
class Progress:
    """The state of a sweep as its events tell it. Threads may share it.

    Attributes:
        budget: What limits the sweep.
        varying: Names of the hyperparameters that are sampled.
        metric: What people call the score.
        now: Returns seconds.
        ended: Numbers of the trials that have ended, those of earlier runs included.
        paused: Numbers of the trials that wait at a rung.
        trained: Epochs that each trial has had, those of earlier runs included.
        bests: The best epoch of each trial that may be ranked, running ones included.
    """

    budget: Budget
    varying: Sequence[str] = ()
    metric: str = "score"
    now: Callable[[], float] = time.monotonic
    ended: set[int] = field(default_factory=set)
    paused: set[int] = field(default_factory=set)
    trained: dict[int, int] = field(default_factory=dict)
    bests: dict[int, Best] = field(default_factory=dict)
    _running: dict[int, _Running] = field(default_factory=dict)
    _params: dict[int, dict[str, Any]] = field(default_factory=dict)
    _epochs: int = 0
    _share_before: float | None = None
    _started: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._started = self.now()

    def add_earlier(self, trial: int, epochs_run: int, outcome: str, best: Best | None) -> None:
        """Take in a trial of an earlier run; ``best`` if it may be ranked."""
        self.trained[trial] = epochs_run
        if outcome == "paused":
            self.paused.add(trial)
        elif outcome not in UNENDED:
            self.ended.add(trial)
        if best is not None:
            self.bests[trial] = best

    def add(self, event: Event) -> None:
        """Take in an event."""
        with self._lock:
            if self._share_before is None:
                self._share_before = self._spent()
            match event:
                case TrialStarted():
                    # Beside all that varies: what the other trials have is not known yet.
                    beside = {"learning_rate", *self.varying}
                    (params,) = show_params([flatten(event.params)], beside=beside)
                    self._params[event.trial] = params
                    self._start(event.trial, epoch=0)
                case EpochDone():
                    self._add_epoch(event)
                case TrialPaused():
                    self._running.pop(event.trial, None)
                    self.paused.add(event.trial)
                case TrialPromoted():
                    self._start(event.trial, epoch=event.epoch - 1)
                case TrialEnded():
                    self._end(event)

    def describe_start(self) -> str:
        """Return what earlier runs have done; "" of a new study."""
        if not self.trained:
            return ""
        paused = f", {len(self.paused)} paused" if self.paused else ""
        is_over = len(self.ended) == len(self.trained)
        more = "; for more give a larger --max-total-epochs or --trials" if is_over else ""
        return f"{self._use()}: {len(self.ended)} ended{paused}{more}"

    def ended_line(self, event: TrialEnded, *, width: int) -> str:
        """Return one line for a trial that has ended."""
        line = f"trial {event.trial:>3} {event.outcome:<9} "
        if event.best_score is None or event.best_epoch is None:
            return f"{line} {clean(event.reason)}"
        line += f" {event.best_score:.4f} at epoch {event.best_epoch:>2}"
        line += f" of {event.epochs_run:<2} "
        params = self._params.get(event.trial, {})
        for name in self.varying:
            if params.get(name, BY_LINE_SEARCH) == BY_LINE_SEARCH:
                continue
            value = setting(params[name])
            word = value if name == "optimizer" else f"{_short(name)}={value}"
            if len(line) + 1 + len(word) > width:
                break
            line += f" {word}"
        return line

    def render(self) -> RenderableType:
        """Return the display for a terminal."""
        with self._lock:
            numbers = sorted(self._running)
            bar = Table.grid(padding=(0, 2, 0, 0))
            bar.add_row(ProgressBar(1.0, self._spent(), width=_BAR_WIDTH), self._use())
            lines: list[RenderableType] = [
                bar,
                Text(f"trials    {self._states()}"),
                Text(f"best      {self._best_text()}", style="bold"),
                Text(f"time      {self._times()}"),
            ]
            if numbers:
                listed = [(number, self._running[number]) for number in numbers[:MAX_LISTED]]
                lines += [Text(""), _running_table(listed, self.metric)]
            if len(numbers) > MAX_LISTED:
                lines.append(Text(f"... {len(numbers) - MAX_LISTED} more"))
            return Group(*lines)

    def state_line(self) -> str:
        """Return the state of the sweep on one line, for a log."""
        with self._lock:
            state = f"{self._use()}: {self._states()}"
            return f"{state}; best {self._best_text()}; {self._times()}"

    def seconds_left(self) -> float | None:
        """Return the seconds to the end of the budget at this run's pace; None: not known yet."""
        share = self._spent()
        own = share - (self._share_before or 0.0)
        if share >= 1.0 or own < MIN_SHARE:
            return None
        return (self.now() - self._started) * (1.0 - share) / own

    def _start(self, trial: int, *, epoch: int) -> None:
        self.trained.setdefault(trial, 0)
        self.paused.discard(trial)
        self._running[trial] = _Running(self._params.get(trial, {}), epoch)

    def _add_epoch(self, event: EpochDone) -> None:
        self._epochs += 1
        # A trial that begins again trains no epoch that the budget has counted before.
        self.trained[event.trial] = max(self.trained.get(event.trial, 0), event.epoch)
        self._set_best(event)
        if (one := self._running.get(event.trial)) is not None:
            one.epoch, one.score = event.epoch, event.score
            one.best = self.bests.get(event.trial)

    def _end(self, event: TrialEnded) -> None:
        self._running.pop(event.trial, None)
        self.paused.discard(event.trial)
        self.ended.add(event.trial)
        self.trained.setdefault(event.trial, event.epochs_run)
        self.bests.pop(event.trial, None)
        if event.outcome in RANKED:
            self._set_best(event)

    def _set_best(self, event: EpochDone | TrialEnded) -> None:
        score, epoch, loss = event.best_score, event.best_epoch, event.best_val_loss
        if epoch is not None and score is not None and not math.isnan(score):
            loss = math.inf if loss is None or math.isnan(loss) else loss
            self.bests[event.trial] = Best(event.trial, epoch, score, loss)

    def _spent(self) -> float:
        """Return the share of the budget that is spent, of that limit of which most is."""
        budget = self.budget
        spent = (
            (len(self.ended) + len(self.paused), budget.trials),
            (sum(self.trained.values()), budget.epochs),
            ((self.now() - self._started) / 60, budget.minutes),
        )
        return min(1.0, max(number / most if most else 0.0 for number, most in spent))

    def _use(self) -> str:
        return self.budget.use(trials=len(self.trained), epochs=sum(self.trained.values()))

    def _states(self) -> str:
        paused = f"{len(self.paused)} paused, " if self.paused else ""
        return f"{len(self._running)} train, {paused}{len(self.ended)} ended"

    def _best_text(self) -> str:
        # Of equal ones that with the lower validation loss, as in every table.
        first = min(self.bests.values(), key=lambda b: (-b.score, b.loss, b.trial), default=None)
        if first is None:
            return "none yet"
        return f"{self.metric} {first.score:.4f} (trial {first.trial}, epoch {first.epoch})"

    def _times(self) -> str:
        elapsed = self.now() - self._started
        texts = [f"{_clock(elapsed)} elapsed"]
        left = self.seconds_left()
        if left is not None:
            texts.append(f"about {_clock(left)} to go")
        if self._epochs and elapsed:
            texts.append(f"{self._epochs / elapsed:.1f} epochs/s")
        return ", ".join(texts)


class Display:
    """Shows a sweep's progress on a console; use it in a ``with`` block.

    Args:
        progress: The state that is shown.
        printer: Where to.
        is_quiet: Whether nothing is shown.
    """

    def __init__(self, progress: Progress, printer: Console, *, is_quiet: bool) -> None:
        self._progress = progress
        self._printer = printer
        self._is_quiet = is_quiet
        self._notes: set[str] = set()
        self._told_at = progress.now()
        self._live: Live | None = None

    def __enter__(self) -> "Display":
        if self._printer.is_terminal and not self._is_quiet:
            self._live = Live(
                get_renderable=self._progress.render,
                console=self._printer,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Take in an event and show what it changes."""
        was_paused = isinstance(event, TrialEnded) and event.trial in self._progress.paused
        self._progress.add(event)
        if self._is_quiet:
            return
        is_log = self._live is None
        if isinstance(event, Note) and event.text not in self._notes:
            self._notes.add(event.text)
            # A terminal gets whole words, a log a line.
            self._printer.print(f"note: {clean(event.text)}", soft_wrap=is_log)
        elif isinstance(event, TrialEnded) and is_log and not was_paused:
            # A paused trial that is behind once the budget ends is no news.
            line = self._progress.ended_line(event, width=self._printer.width)
            self._printer.print(line, soft_wrap=True)
        if is_log and self._progress.now() - self._told_at >= STATE_INTERVAL_S:
            self._told_at = self._progress.now()
            self._printer.print(self._progress.state_line(), soft_wrap=True)


def _running_table(listed: Sequence[tuple[int, _Running]], metric: str) -> Table:
    table = new_table()
    add_numbers(table, "trial", "epoch", clean(metric), "best @ epoch")
    add_texts(table, "optimizer", "learning rate")
    for number, one in listed:
        best = one.best
        table.add_row(
            str(number),
            str(one.epoch) if one.epoch else "-",
            "-" if math.isnan(one.score) else f"{one.score:.4f}",
            "-" if best is None else f"{best.score:.4f} @ {best.epoch:>3}",
            setting(one.params.get("optimizer")),
            setting(one.params.get("learning_rate")),
        )
    return table


def _short(name: str) -> str:
    return _SHORT.get(name, name.removeprefix("model."))


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
