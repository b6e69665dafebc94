"""Says a turn of the scheduler as a trainer is told it: a command."""

from objectives.api import FusionKey
from sweeps.running.run_state import Run
from sweeps.running.scheduler import Turn
from sweeps.running.trial import Trial
from sweeps.trainers.messages import Command, Place, Save

#: Seconds of training after which a lane's states are written: what a dead trainer may cost.
CHECKPOINT_S = 60.0


def to_command(run: Run, index: int, turn: Turn[FusionKey]) -> Command:
    """Return a turn as a trainer is told it; trials that enter have their place from now on.

    Args:
        run: The run.
        index: The trainer.
        turn: What it does next.
    """
    places = []
    for number in turn.entering:
        trial = run.trials[number]
        trial.trainer, trial.lane, trial.is_entering = index, turn.lane, True
        places.append(to_place(run, trial))
    # One whose end is decided is placed for its weights alone; the lane trains in its next turn.
    is_trained = all(run.trials[number].ending is None for number in turn.entering)
    written = turn.pause
    if run.unwritten_s.get(turn.lane, 0.0) >= CHECKPOINT_S:
        written += turn.staying
        run.unwritten_s[turn.lane] = 0.0
    return Command(
        turn.lane,
        turn.key,
        turn.data_epoch,
        keep=turn.keep,
        save=tuple(Save(number, run.weights_path(number)) for number in turn.save),
        checkpoint=run.files.path(run.files.new_name()) if written else None,
        checkpointed=written,
        drop=(*turn.save, *turn.pause, *turn.drop),
        place=tuple(places),
        is_closed=turn.is_closed,
        is_trained=turn.is_trained and is_trained,
    )


def to_place(run: Run, trial: Trial) -> Place:
    """Return a trial as a trainer is told to place it."""
    state = None if trial.state_file is None else run.files.path(trial.state_file)
    return Place(
        trial.number,
        trial.seed,
        trial.hparams.to_params(),
        tuple(trial.segments),
        trial.curve.best_epoch,
        state,
    )
