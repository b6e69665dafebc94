"""A worker process: orders come by standard input, events go by standard output.

Run as ``python -m sweeps.worker`` by ``sweeps.workers``. The orders come by a pipe and not as
arguments, because a database's password would stand in the list of processes. When the pipe
closes, the one who gave the orders has died, and the worker stops as if told to.
"""

import os
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, NoReturn

from pydantic import BaseModel, ConfigDict

from sweeps.config import SweepConfig
from sweeps.events import Event, WorkerEnded, to_line

STOP = "stop"


class Orders(BaseModel):
    """What a worker is told; one line of JSON.

    Attributes:
        config: The sweep's settings, the database's URL included.
        study_uuid: The study, which exists.
        worker: This worker's number, from 0.
        num_workers: Workers of this run.
        device: Where to train: ``cpu``, ``cuda:0``.
        seconds_left: Seconds until the worker must stop; None: no limit.
        data_sketch: Of the data that the study was prepared with (``objectives.data.sketch``);
            None: of an objective that ships, whose data are the same in each process.
    """

    model_config = ConfigDict(frozen=True)

    config: SweepConfig
    study_uuid: str
    worker: int
    num_workers: int
    device: str
    seconds_left: float | None
    data_sketch: tuple[float, ...] | None = None


@dataclass(slots=True)
class _StopSign:
    """Whether to stop: told by the parent, by its death, or by the clock."""

    orders: IO[str]
    deadline: float | None
    messages: "queue.Queue[str]"

    def listen(self) -> None:
        """Put each line of the parent into the queue; the end of lines is one too."""
        for line in self.orders:
            self.messages.put(line.strip())
        self.messages.put(STOP)

    def __call__(self, wait_s: float) -> str | None:
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "time is up"
        try:
            message = self.messages.get(timeout=wait_s) if wait_s else self.messages.get_nowait()
        except queue.Empty:
            return None
        return "interrupted" if message == STOP else None


def main() -> int:
    """Train until the study is complete or until told to stop; return the exit code."""
    # Ctrl-C reaches every process of the terminal: the parent alone acts on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a user's print must not be an event
    import_ahead()
    line = sys.stdin.readline()
    if not line:
        return 1  # the parent has ended before it gave orders
    orders = Orders.model_validate_json(line)
    deadline = None
    if orders.seconds_left is not None:
        deadline = time.monotonic() + orders.seconds_left
    sign = _StopSign(sys.stdin, deadline, queue.Queue())
    threading.Thread(target=sign.listen, daemon=True).start()

    def emit(event: Event) -> None:
        try:
            events.write(to_line(event) + "\n")
        except BrokenPipeError:  # the parent has died; the stop sign says so too
            sign.messages.put(STOP)

    try:
        ending = _train(orders, emit, sign)
    except (Exception, SystemExit) as error:  # a person's module may call sys.exit
        if os.environ.get("BESTEPOCH_DEBUG"):
            raise
        from storage.database import redact

        text = str(error).strip().splitlines() or ["no message"]
        reason = redact(f"{type(error).__name__}: {text[0]}")
        emit(WorkerEnded(orders.worker, "failed", reason))
        return 1
    return 1 if ending.ending == "failed" else 0


def import_ahead() -> None:
    """Import what takes long, while the parent checks the data."""
    import optuna
    import torch

    from objectives.training import trainer
    from sweeps import bookkeeping, engine

    assert all((optuna, torch, trainer, bookkeeping, engine))


def _train(orders: Orders, emit: Any, sign: _StopSign) -> WorkerEnded:
    import optuna
    import torch

    from objectives.data.sketch import is_same, sketch_data
    from objectives.registry import find_objective
    from objectives.training import precision
    from objectives.training.trainer import ModelTrainer
    from storage.database import open_database, resolve_url
    from sweeps.bookkeeping import Bookkeeper, make_owner
    from sweeps.engine import Engine

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # One thread a process: the cores are filled with workers, and sums keep their order.
    torch.set_num_threads(1)
    config = orders.config
    objective = find_objective(config.objective)
    data = objective.load(config.data)
    if orders.data_sketch is not None and not is_same(orders.data_sketch, sketch_data(data)):
        place = getattr(objective, "place", objective.name)
        reason = (
            f"{place}: load() returned other data in a worker than in the first process; "
            "seed its random generator (np.random.default_rng(0))"
        )
        refusal = WorkerEnded(orders.worker, "failed", reason)
        emit(refusal)
        return refusal
    # Squared gradients of rare words decay into denormals, at 40 times the cost of a number. After
    # the data, which are those of the first process to the last bit.
    torch.set_flush_denormal(True)
    precision.use(config.precision)
    trainer = ModelTrainer(
        objective,
        data,
        device=orders.device,
        data_seed=config.seed,
        precision=config.precision,
    )
    with open_database(resolve_url(config.storage), create=False) as db:
        book = Bookkeeper(
            db,
            config,
            study_uuid=orders.study_uuid,
            owner=make_owner(orders.device),
            data_fingerprint=trainer.fingerprint,
            now=lambda: datetime.now(UTC),
        )
        engine = Engine(
            config,
            trainer,
            book,
            worker=orders.worker,
            num_workers=orders.num_workers,
            weights_dir=db.weights_dir,
            study_uuid=orders.study_uuid,
            on_event=emit,
            stop_requested=sign,
        )
        return engine.run()


def leave(code: int) -> NoReturn:
    """End the process, without the interpreter's end, in which torch takes half a second.

    It leaves nothing to do: the database is closed, each event is flushed.
    """
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
