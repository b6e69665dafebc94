"""Runs a sweep: loads, prepares the study, and lets a coordinator work until the end."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Protocol

from objectives.metrics import make_metric
from storage.database import open_database
from storage.locations import redact, resolve_url
from sweeps.config.rules import list_notes
from sweeps.config.settings import SweepConfig
from sweeps.running import study
from sweeps.running.asking import choose_capacity
from sweeps.running.coordinator import Coordinator
from sweeps.running.events import Event, Note
from sweeps.running.first_trials import list_first_trials
from sweeps.running.judge import Judge
from sweeps.running.run_state import Run
from sweeps.running.scheduler import Scheduler
from sweeps.running.states import StateFiles
from sweeps.running.study_writer import StudyWriter
from sweeps.trainers.choose import open_executor
from sweeps.trainers.executor import Executor, ExecutorError
from sweeps.trainers.messages import Load, Loaded


class Watcher(Protocol):
    """Something that follows a run in its thread, such as what writes the dashboard's note."""

    def add(self, event: Event) -> None:
        """Take note of an event."""

    def poll(self) -> None:
        """Do what is due; returns at once."""

    def finish(self) -> None:
        """Do what is due at the end."""


#: Given the database, the study's name and a call for its own events.
Watch = Callable[[str, str, Callable[[Event], None]], AbstractContextManager[Watcher]]


@dataclass(frozen=True, slots=True)
class SweepEnd:
    """How a run of a sweep ended."""

    study: str
    url: str
    """The database, password masked."""
    ending: str
    """``done``, ``interrupted``, ``time is up`` or ``failed``."""
    reason: str | None
    """Why it failed."""
    exit_code: int
    trainer_s: float = 0.0
    """Seconds of all trainers together, from their start on."""
    bookkeeping_s: float = 0.0
    """Processor seconds of the coordinator meanwhile."""
    waited_s: float = 0.0
    """Seconds of ``trainer_s`` in which a trainer waited for its next command."""


#: What ends a run in order; SIGHUP, where there is one, is a terminal that was closed.
STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
EXIT_CODES = {"done": 0, "time is up": 0, "failed": 1, "interrupted": 130}


def run(
    config: SweepConfig,
    *,
    force: bool = False,
    on_event: Callable[[Event], None] | None = None,
    watch: Watch | None = None,
) -> SweepEnd:
    """Run a sweep until its budget of trials, epochs or minutes is spent.

    Ctrl-C, SIGTERM and SIGHUP end it after the epochs that are being trained, or after
    ``coordinator.STOP_S`` seconds: what was done is kept, and the same call carries on. In a
    thread that is not the main one, only the end counts.

    Args:
        config: The sweep's settings.
        force: Go on although the study was started with other settings.
        on_event: Called in this thread with each event.
        watch: Returns what follows the run, given the database, the study's name and a call for
            its own events.

    Raises:
        ConfigError: If the study was started with other settings, one line a change.
        DataError: If the data file is not what the objective reads.
        ObjectiveError: If the objective or its model cannot be used.
        StorageError: If the database cannot be opened, or another process runs the study.
    """
    started = time.monotonic()
    deadline = None if config.max_minutes is None else started + config.max_minutes * 60
    url, emit = resolve_url(config.storage), on_event or (lambda event: None)
    with open_executor() as executor:
        study.check_needs(config, url)
        order = study.make_order(config)
        try:
            loaded = executor.load(order)
        except ExecutorError as error:
            return _make_end(config, "failed", str(error))
        now = datetime.now(UTC)
        with (
            open_database(url, create=True) as db,
            db.hold_study(config.study, holder=study.make_holder(now)) as hold,
        ):
            begun = study.prepare(db, config, loaded, force=force, now=now)
            copy = study.open_copy(db, begun)
            for text in [*list_notes(config), *_list_notes(loaded, begun.changes)]:
                emit(Note(text))
            with nullcontext() if watch is None else watch(url, config.study, emit) as watcher:

                def tell(event: Event) -> None:
                    if watcher is not None:
                        watcher.add(event)
                    emit(event)

                writer = StudyWriter(
                    db,
                    hold,
                    begun.uuid,
                    copy,
                    lambda: datetime.now(UTC),
                    tell,
                    patience_s=config.db_wait * 60,
                )
                coordinator = _make_coordinator(
                    begun, executor, order, loaded, writer, db.weights_dir
                )
                end = _work(coordinator, begun.config, len(loaded.devices), deadline, watcher)
                if watcher is not None:
                    watcher.finish()
                return end


def _make_coordinator(
    begun: study.Begun,
    executor: Executor,
    order: Load,
    loaded: Loaded,
    writer: StudyWriter,
    weights_dir: Path,
) -> Coordinator:
    """Return a coordinator that knows what the study has."""
    config = begun.config
    metric = make_metric(config.metric, loaded.class_names)
    trials = study.restore_trials(begun)
    num_validation = None if loaded.facts is None else loaded.facts.num_validation
    judge = Judge(
        config, metric, len(loaded.class_names), num_validation, may_lack_losses=loaded.is_loop
    )
    for trial in trials:
        judge.remember(trial)
    for trial in trials:
        # Its end was decided at its last epoch, and its run died before it was written.
        if trial.outcome is None and trial.curve.best_epoch is not None:
            trial.ending = judge.decide(trial)
    writer.catch_up(trials, begun.stored)
    # A study that was deleted and begun again must not find the old one's files.
    folder = f"{config.study}-{begun.uuid[:8]}"
    run_state = Run(
        config,
        executor,
        order,
        loaded,
        writer,
        judge,
        lowest=metric.lowest,
        trials={each.number: each for each in trials},
        folder=folder,
        files=StateFiles(weights_dir, folder, trials),
        scheduler=Scheduler(
            choose_capacity(config, loaded.devices, is_loop=loaded.is_loop), config.slots
        ),
    )
    return Coordinator(run_state, list_first_trials(config, [each.hparams for each in trials]))


def _work(
    coordinator: Coordinator,
    config: SweepConfig,
    num_trainers: int,
    deadline: float | None,
    watcher: Watcher | None,
) -> SweepEnd:
    """Let a coordinator work until the study is done or the run is to stop."""
    began, busy = time.monotonic(), time.thread_time()
    with _stop_on_signals(deadline) as stop_requested:

        def check() -> str | None:
            if watcher is not None:
                watcher.poll()
            return stop_requested()

        ending, reason = coordinator.run(check)
    if ending == "done" and (reason := coordinator.find_emptiness()) is not None:
        ending = "failed"
    return _make_end(
        config,
        ending,
        reason,
        trainer_s=(time.monotonic() - began) * num_trainers,
        bookkeeping_s=time.thread_time() - busy,
        waited_s=coordinator.waited_s,
    )


def _make_end(config: SweepConfig, ending: str, reason: str | None, **times: float) -> SweepEnd:
    url = redact(resolve_url(config.storage))
    return SweepEnd(config.study, url, ending, reason, EXIT_CODES[ending], **times)


def _list_notes(loaded: Loaded, changes: Sequence[str]) -> list[str]:
    notes = list(loaded.notes)
    if changes:
        told = "; ".join(changes)
        notes.append(f"carried on with other settings, old trials keep theirs: {told}")
    return notes


@contextmanager
def _stop_on_signals(deadline: float | None) -> Iterator[Callable[[], str | None]]:
    """Yield what says why to stop now, or None: a signal, or the clock.

    The same signal again ends the run at once. Outside the main thread signals are not ours.
    """
    told: list[int] = []

    def check() -> str | None:
        if told:
            return "interrupted"
        return "time is up" if deadline is not None and time.monotonic() >= deadline else None

    def handle(number: int, frame: FrameType | None) -> None:
        # Another signal than the first one is no second wish: a pipeline's Ctrl-C also ends the
        # reader of the output, which is told as SIGTERM.
        if number in told:
            raise KeyboardInterrupt
        told.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    # ``nohup`` lets a run live on when its terminal is closed.
    is_ignored = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [each for each in STOP_SIGNALS if not (is_ignored and each == signal.SIGHUP)]
    previous = [signal.signal(number, handle) for number in numbers]
    try:
        yield check
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
