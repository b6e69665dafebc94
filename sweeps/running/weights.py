"""Writes the weights of trials that do not train: they are placed as they stood, and saved."""

from collections.abc import Callable, Sequence
from pathlib import Path

from objectives.api import FusionKey
from sweeps.trainers.executor import LocalExecutor, ParentEnded
from sweeps.trainers.messages import Answer, Command, Place, Save, Saved

_POLL_S = 0.2
#: Gives a trainer a command and waits for its answer; None: it died of it.
Call = Callable[[Command], Answer | None]


def write_weights(
    call: Call, lane: int, key: FusionKey, places: Sequence[Place], path_of: Callable[[int], Path]
) -> tuple[Answer, tuple[Saved, ...]] | None:
    """Write the weights of the best epochs of trials of one key.

    Args:
        call: Does a command with a trainer that has nothing else to do.
        lane: Number of a lane that the trainer does not have.
        key: What the trials share.
        places: The trials.
        path_of: Returns the file of a trial's weights, by its number.

    Returns:
        What became of the placing (who was refused, and whom memory had no room for) and the
        weights that were written; None: the trainer died.
    """
    placed = call(Command(lane, key, 0, place=tuple(places), is_trained=False))
    if placed is None:
        return None
    absent = {*placed.deferred, *(trial for trial, _ in placed.refused)}
    present = tuple(each.trial for each in places if each.trial not in absent)
    save = tuple(Save(trial, path_of(trial)) for trial in present)
    told = Command(lane, key, 0, save=save, drop=present, is_closed=True, is_trained=False)
    done = call(told)
    return None if done is None else (placed, done.saved)


def call_trainer(
    executor: LocalExecutor, command: Command, free_since: dict[int, float]
) -> Answer | None:
    """Let the first free trainer do something, and wait for it; None: none is left that could.

    Args:
        executor: Carries the command.
        command: What to do.
        free_since: The trainers that have nothing else to do, and since when; those that die
            are taken out.
    """
    index = min(free_since, default=None)
    if index is None:
        return None
    executor.send(index, command)
    while True:
        for report in executor.wait(_POLL_S):
            if isinstance(report, ParentEnded):
                free_since.clear()
                return None
            if isinstance(report[1], Answer):
                return report[1]
            free_since.pop(report[0], None)
            if report[0] == index:
                return None
