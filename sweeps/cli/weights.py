"""``weights``: where the weights of a trial's best epoch are, trained again if they are gone."""

from typing import Annotated

import typer

from storage import locations
from sweeps.cli.output import StorageOption, StudyArgument, console, read_trial
from sweeps.read.words import clean


def weights(
    study: StudyArgument,
    trial: Annotated[
        int, typer.Argument(metavar="TRIAL", help="Number of the trial.", parser=read_trial)
    ],
    storage: StorageOption = None,
) -> None:
    """Print where the weights of a trial's best epoch are; train it again if they are not there.

    A sweep writes the weights of its best 20 trials, and of those that ended by themselves.
    """
    from sweeps.running.weights import find_weights

    def tell(text: str) -> None:
        console(stderr=True).print(clean(text), soft_wrap=True)

    path = find_weights(locations.resolve_url(storage), study, trial, on_start=tell)
    console().print(clean(str(path)), soft_wrap=True)
