"""Trains again, unseen, what trials have trained before: their records are all that it takes.

A trial's curve is a function of its seed, its hyperparameters and the clocks of the lanes that it
was in, so its state can be had again from these. Trials that were in one lane together are
trained together again.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from objectives.api import Lane, TrialState
from search_spaces.hparams import Hparams
from sweeps.trainers.messages import Place


def repeat(
    open_lane: Callable[[int], Lane],
    places: Sequence[Place],
    states: Mapping[int, TrialState],
) -> dict[int, TrialState]:
    """Return the states of trials of one fusion key at the end of their segments.

    Args:
        open_lane: Returns an empty lane with its clock at a data epoch.
        places: The trials.
        states: Where some of them stand already, by number; the others begin anew.

    Raises:
        Exception: Whatever a person's model raises.
    """
    found = dict(states)
    left = {place.trial: _list_clocks(place, found.get(place.trial)) for place in places}
    while clocks := Counter(each[0] for each in left.values() if each):
        clock = clocks.most_common(1)[0][0]
        group = [place for place in places if left[place.trial][:1] == [clock]]
        lane = open_lane(clock)
        for place in group:
            hparams = Hparams.model_validate(dict(place.params))
            lane.place(place.trial, place.seed, hparams, found.get(place.trial))
        best_of = {place.trial: place.best_epoch for place in group}
        while all(left[trial][:1] == [lane.data_epoch] for trial in best_of):
            for report in lane.train_epoch():
                if report.error is not None:
                    raise RuntimeError(report.error)
                left[report.slot].pop(0)
                if report.epoch == best_of[report.slot]:
                    lane.keep_best(report.slot)
        found |= lane.copy_states(list(best_of))
    return found


def _list_clocks(place: Place, state: TrialState | None) -> list[int]:
    """Return the clock of each epoch that a trial has trained, those of its state left out."""
    clocks = [clock + i for clock, epochs in place.segments for i in range(epochs)]
    return clocks[0 if state is None else state.epochs :]
