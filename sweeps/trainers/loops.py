"""What runs inside a trainer whose trials are those of a person's own loop: one at a time.

Answers the same commands as the keeper of lanes. A trial whose loop names no checkpoint is
trained again from its first epoch where it goes on.
"""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from objectives.api import Counts, EpochReport
from objectives.loops.own import OwnLoop
from objectives.loops.trial import Order, OwnTrial
from objectives.places import describe_error
from search_spaces.hparams import MODEL, flatten
from sweeps.trainers.messages import Answer, Command, Load, Place, Saved


class LoopKeeper:
    """The trials of one trainer. For one thread.

    Args:
        order: What is trained.
        loop: The loop.
        device: Where.
        on_step: Called at each step of an optimizer.
    """

    def __init__(
        self, order: Load, loop: OwnLoop, device: str, on_step: Callable[[], None]
    ) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        from objectives.loops.runner import LoopRun

        self._order = order
        self._loop = loop
        self._device = device
        self._on_step = on_step
        self._runs: dict[int, LoopRun] = {}
        self._lanes: dict[int, list[int]] = {}
        register_optimizer_step_post_hook(lambda *_: on_step())

    def obey(self, command: Command) -> Answer:
        """Do what a command says, and train each trial of the lane for an epoch if it says so."""
        for trial in command.keep:
            self._runs[trial].keep_best()
        saved = tuple(self._save(each.trial, each.path) for each in command.save)
        failure = self._checkpoint(command)
        self._drop(command)
        refused: list[tuple[int, str]] = []
        counts: list[tuple[int, Counts]] = []
        for place in command.place:
            try:
                self._place(place, command.lane)
            except (Exception, SystemExit) as error:
                refused.append((place.trial, describe_error(error)))
                continue
            best = self._runs[place.trial].best_counts
            if best is not None:
                counts.append((place.trial, best))
        started = time.perf_counter()
        trials = self._lanes.get(command.lane, []) if command.is_trained else []
        reports = tuple(self._train(trial) for trial in trials)
        return Answer(
            lane=command.lane,
            reports=reports,
            saved=saved,
            refused=tuple(refused),
            path="plain",
            notes=() if failure is None else (failure,),
            max_slots=1,
            seconds=time.perf_counter() - started,
            is_written=failure is None,
            best_counts=tuple(counts),
        )

    def give_up(self, command: Command, path: Path) -> Answer:
        """Drop a lane whose epoch was stopped: its trial goes on from its last checkpoint."""
        for trial in self._lanes.pop(command.lane, []):
            self._runs.pop(trial, None)
        return Answer(command.lane, is_stopped=True)

    def _train(self, trial: int) -> EpochReport:
        run = self._runs[trial]
        try:
            return run.train_epoch()
        except (Exception, SystemExit) as error:
            epoch = run.trial.epochs_done + 1
            return EpochReport(
                slot=trial,
                epoch=epoch,
                train_loss=float("nan"),
                val_loss=float("nan"),
                counts=Counts.none(),
                learning_rate=float("nan"),
                grad_norm=float("nan"),
                seconds=0.0,
                error=describe_error(error),
            )

    def _place(self, place: Place, lane: int) -> None:
        """Let a trial enter, and train again, unseen, what its state does not have."""
        from objectives.loops.runner import LoopRun

        params = {name.removeprefix(MODEL): value for name, value in flatten(place.params).items()}

        def make_trial(follower: Any) -> OwnTrial:
            return OwnTrial(
                params,
                follower,
                number=place.trial,
                seed=place.seed,
                device=self._device,
                max_epochs=self._order.max_epochs,
                metric=self._order.metric,
                class_names=self._loop.class_names,
            )

        done = sum(epochs for _, epochs in place.segments)
        state = _load_state(place.state, place.trial) if done else None
        run = LoopRun(self._loop.function, make_trial, state)
        for epoch in range(state["epochs"] if state else 0, done):
            run.train_epoch()
            if epoch + 1 == place.best_epoch:
                run.keep_best()
        self._runs[place.trial] = run
        self._lanes.setdefault(lane, []).append(place.trial)

    def _drop(self, command: Command) -> None:
        for trial in command.drop:
            run = self._runs.pop(trial, None)
            if run is not None:
                run.leave(Order.PAUSE if trial in command.checkpointed else Order.STOP)
        lane = [each for each in self._lanes.get(command.lane, []) if each in self._runs]
        self._lanes[command.lane] = lane
        if command.is_closed:
            del self._lanes[command.lane]

    def _save(self, trial: int, path: Path) -> Saved:
        from objectives.lanes import weights

        best = self._runs[trial].best
        return Saved(trial, weights.save(best, path) if best else None, None)

    def _checkpoint(self, command: Command) -> str | None:
        """Write states; return why they could not be."""
        if command.checkpoint is None:
            return None
        import torch

        from objectives.lanes import weights

        states = {trial: self._runs[trial].copy_state() for trial in command.checkpointed}
        contents = io.BytesIO()
        try:
            torch.save({each: one for each, one in states.items() if one is not None}, contents)
            weights.write(contents.getvalue(), command.checkpoint)
        except (OSError, AttributeError, TypeError) as error:
            return f"trials that pause must be trained again to go on: {error}"
        return None


def _load_state(path: Path | None, trial: int) -> dict[str, Any] | None:
    """Return the state of a trial; None where there is none that can be read."""
    import torch

    if path is None:
        return None
    try:
        states: dict[int, dict[str, Any]] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:  # it is gone, or holds what is no plain data: the trial is trained again
        return None
    return states.get(trial)
