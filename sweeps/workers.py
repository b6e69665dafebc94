"""Local worker processes: starts them, listens to them, stops them, replaces those that die."""

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sweeps.config import SweepConfig
from sweeps.events import Event, Note, WorkerEnded, from_line
from sweeps.notes import StudyNotes
from sweeps.parameters import Probe, answer_first
from sweeps.processes import Process, ProcessStarter, close_pipes
from sweeps.worker import STOP, Orders

if TYPE_CHECKING:
    from storage.database import Database

#: Workers that may die and be replaced in one run; past that something kills them all.
MAX_REPLACEMENTS = 3
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class SweepEnd:
    """How a run of a sweep ended.

    Attributes:
        study: Name of the study.
        url: The database, password masked.
        ending: ``done``, ``interrupted``, ``time is up`` or ``failed``.
        reason: Why it failed, else None.
        exit_code: 0 done or time is up; 1 failed; 130 interrupted.
        worker_s: Seconds that all workers worked, from their first claim on.
        bookkeeping_s: Processor seconds of these that went into claims, asks and records.
        waited_s: Seconds of these in which training waited for such.
    """

    study: str
    url: str
    ending: str
    reason: str | None
    exit_code: int
    worker_s: float = 0.0
    bookkeeping_s: float = 0.0
    waited_s: float = 0.0


_EXIT_CODES = {"done": 0, "time is up": 0, "failed": 1, "interrupted": 130}
_GRAVITY = ("done", "time is up", "interrupted", "failed")


def run(
    config: SweepConfig,
    *,
    force: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> SweepEnd:
    """Run a sweep until its study has ``config.trials`` trials that have ended.

    Ctrl-C and SIGTERM end it after the epochs that are being trained: what was done is kept, and
    the same call carries on. In a thread that is not the main one, only the end counts.

    Args:
        config: The sweep's settings.
        force: Go on although the study was started with other settings.
        on_event: Called in this thread with each event of a worker.

    Raises:
        ConfigError: If the study was started with other settings, one line a change.
        DataError: If the data file is not what the objective reads.
        ObjectiveError: If the objective or its model cannot be used.
        StorageError: If the database cannot be opened.
    """
    from storage.database import open_database, redact, resolve_url

    started = time.monotonic()
    url = resolve_url(config.storage)
    config = config.model_copy(update={"storage": url})
    emit = on_event or (lambda event: None)
    with ProcessStarter() as starter:
        starter.start_ahead(_count_workers_ahead(config))
        study_uuid, devices, data_sketch = _prepare(config, emit, force=force)
        seconds = None if config.max_minutes is None else config.max_minutes * 60
        orders = [
            Orders(
                config=config,
                study_uuid=study_uuid,
                worker=worker,
                num_workers=len(devices),
                device=device,
                seconds_left=None if seconds is None else seconds - (time.monotonic() - started),
                data_sketch=data_sketch,
            )
            for worker, device in enumerate(devices)
        ]
        with StudyNotes(url, config.study, on_event=emit) as notes:
            pool = _Pool(starter, emit, notes)
            with _stop_on_signals(pool.request_stop):
                endings = pool.run(orders)
            notes.finish()
    gravest = max(endings, key=lambda event: _GRAVITY.index(event.ending))
    ending, reason = gravest.ending, gravest.reason
    if ending == "done":
        with open_database(url, create=False) as db:
            reason = _find_emptiness(db, study_uuid)
        ending = ending if reason is None else "failed"
    return SweepEnd(
        config.study,
        redact(url),
        ending,
        reason,
        _EXIT_CODES[ending],
        worker_s=sum(event.seconds for event in endings),
        bookkeeping_s=sum(event.bookkeeping_s for event in endings),
        waited_s=sum(event.waited_s for event in endings),
    )


def _prepare(
    config: SweepConfig, emit: Callable[[Event], None], *, force: bool
) -> tuple[str, list[str], tuple[float, ...] | None]:
    """Check the data and the model, and create the study; return its UUID and a device a worker.

    The third is a sketch of an own objective's data, or None. Nothing is written before all has
    been found sound.
    """
    import optuna

    from objectives.data.sketch import sketch_data
    from objectives.registry import find_objective
    from objectives.training import precision
    from objectives.training.preflight import check_model
    from objectives.training.trainer import fingerprint
    from storage.database import open_database
    from sweeps import studies

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    devices = _list_devices(config)
    objective = find_objective(config.objective)
    data = objective.load(config.data)
    first_trial = config.space.suggest(Probe(answer_first))
    check_model(objective, data, first_trial.model, devices[0], config.precision)
    assert config.storage is not None
    studies.check_needs(config, config.storage)
    with open_database(config.storage, create=True) as db:
        study_uuid, changes = studies.prepare(
            db,
            config,
            class_names=data.class_names,
            data_fingerprint=fingerprint(data),
            force=force,
            now=datetime.now(UTC),
        )
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    sizes = ", ".join(f"{len(split.targets):,} {name}" for name, split in splits.items())
    own = getattr(objective, "place", None)
    source = str(config.data or own or "the data that ship")
    emit(Note(0, f"{source}: {sizes} examples of {len(data.class_names)} classes"))
    drawback = precision.find_drawback(config.precision, devices[0])
    if drawback is not None:
        emit(Note(0, drawback))
    if changes:
        told = "; ".join(changes)
        emit(Note(0, f"carried on with other settings, old trials keep theirs: {told}"))
    return study_uuid, devices, None if own is None else sketch_data(data)


def _count_workers_ahead(config: SweepConfig) -> int:
    """Return how many workers will surely be needed, without importing torch.

    None where there may be a GPU: it decides how many, and CUDA workers are not forked.
    """
    if config.device != "cpu" and Path("/dev/nvidiactl").exists():
        return 0
    return config.workers or len(os.sched_getaffinity(0))


def _list_devices(config: SweepConfig) -> list[str]:
    """Return a device for each worker.

    Raises:
        ConfigError: If a device is asked for that is not here, or a precision that it has not.
    """
    import torch

    from objectives.training import precision
    from sweeps.config_errors import ConfigError

    gpus = torch.cuda.device_count() if config.device != "cpu" else 0
    if config.device == "cuda" and not gpus:
        raise ConfigError(["device: no CUDA device here; take device = 'cpu' or 'auto'"])
    obstacle = precision.find_obstacle(config.precision, "cuda" if gpus else "cpu")
    if obstacle is not None:
        raise ConfigError([f"precision: {obstacle}"])
    if gpus:
        return [f"cuda:{i % gpus}" for i in range(config.workers or gpus)]
    return ["cpu"] * (config.workers or len(os.sched_getaffinity(0)))


def _find_emptiness(db: "Database", study_uuid: str) -> str | None:
    """Return why a complete study has no score, or None if it has one."""
    from storage import queries

    ended = queries.finished_curves(db, study_uuid)
    if any(trial.value for trial in ended) or not ended:
        return None
    return f"no trial got a score; trial {ended[-1].trial}: {ended[-1].reason}"


class _Pool:
    """The worker processes of one run."""

    def __init__(
        self, starter: ProcessStarter, on_event: Callable[[Event], None], notes: StudyNotes
    ) -> None:
        self._starter = starter
        self._on_event = on_event
        self._notes = notes
        self._processes: dict[int, Process] = {}
        # A SimpleQueue, because a signal handler may put into it while the main thread gets.
        self._lines: queue.SimpleQueue[tuple[int | None, str | None]] = queue.SimpleQueue()
        self._stopping = False
        self._replacements = 0

    def run(self, orders: list[Orders]) -> list[WorkerEnded]:
        """Run a worker for each of the orders to its end; return how each ended."""
        endings: list[WorkerEnded] = []
        try:
            for each in orders:
                self._start(each)
            while self._processes:
                self._notes.poll()
                try:
                    worker, line = self._lines.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if worker is None:
                    self._stop_as_asked()
                elif line is None:
                    self._reap(orders[worker], endings)
                else:
                    self._take(from_line(line), endings)
        finally:
            for process in self._processes.values():
                process.kill()
                process.wait()
        return endings

    def request_stop(self) -> None:
        """Let the workers stop after their epochs; asked again, kill them. For signal handlers."""
        self._lines.put((None, None))

    def _stop_as_asked(self) -> None:
        if self._stopping:
            for process in self._processes.values():
                process.kill()
        else:
            self._on_event(Note(0, "stopping after this epoch; once more to stop at once"))
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for process in self._processes.values():
            self._tell(process, STOP)

    def _take(self, event: Event, endings: list[WorkerEnded]) -> None:
        if isinstance(event, WorkerEnded):
            endings.append(event)
            if event.ending == "failed":
                self._stop()
        self._notes.add(event)
        self._on_event(event)

    def _start(self, orders: Orders) -> None:
        process = self._starter.take()
        self._processes[orders.worker] = process
        self._tell(process, orders.model_dump_json())
        if self._stopping:
            self._tell(process, STOP)
        threading.Thread(target=self._listen, args=(orders.worker, process), daemon=True).start()

    def _listen(self, worker: int, process: Process) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            # A line without an end was cut off by the worker's death.
            if line.endswith("\n"):
                self._lines.put((worker, line))
        self._lines.put((worker, None))

    def _tell(self, process: Process, line: str) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        except BrokenPipeError:  # it has died, which its listener will say
            pass

    def _reap(self, orders: Orders, endings: list[WorkerEnded]) -> None:
        """Take note of a worker's end; one that died without a word is replaced."""
        process = self._processes.pop(orders.worker)
        code = process.wait()
        close_pipes(process)
        if any(event.worker == orders.worker for event in endings):
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if self._stopping:
            endings.append(WorkerEnded(orders.worker, "interrupted"))
        elif self._replacements < MAX_REPLACEMENTS:
            self._replacements += 1
            text = f"worker {orders.worker} died ({how}); another takes up its trials"
            self._on_event(Note(orders.worker, text))
            self._start(orders)
        else:
            reason = f"worker {orders.worker} died ({how}), the {MAX_REPLACEMENTS + 1}th to do so"
            endings.append(WorkerEnded(orders.worker, "failed", reason))
            self._stop()


@contextmanager
def _stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on Ctrl-C and SIGTERM inside the block; not possible outside main."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop()

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, handle) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
