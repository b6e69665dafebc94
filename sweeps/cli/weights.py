"""``weights``: where the weights of a trial's best epoch are, trained again if they are gone."""

from storage.locations import resolve_url
from sweeps.cli.console import console
from sweeps.read.words import clean
from sweeps.running.weights import find_weights


def weights(*, study: str, trial: int, storage: str | None) -> None:
    """Print the path; say on standard error if the trial is trained again."""

    def report_start(text: str) -> None:
        console(stderr=True).print(clean(text), soft_wrap=True)

    path = find_weights(resolve_url(storage), study, trial, on_start=report_start)
    console().print(clean(str(path)), soft_wrap=True)
