"""Which trials go on: successive halving that pauses and promotes, without waiting for rounds.

Pure policy over scores; it knows neither how trials are trained nor where they are stored. The
numbers behind it are in ``tests/benchmarks/RESULTS.md``, "Replays: who goes on".
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence

#: Trials at most that wait for each other at the first rung. With 32, 64, 128 and without a limit
#: the mean regret after budgets of 100 to 1,600 epochs was 0.112, 0.107, 0.105 and 0.107, and
#: where nobody waits 0.122 (tests/benchmarks/RESULTS.md, "Replays: who goes on").
FIRST_COHORT = 128


def list_rungs(first: int, factor: int, max_epochs: int) -> list[int]:
    """Return the epochs at which trials are compared: first, first * factor, ... < max_epochs."""
    rungs = []
    while first < max_epochs:
        rungs.append(first)
        first *= factor
    return rungs


def halving_epochs(trials: int, first: int, factor: int, max_epochs: int) -> int:
    """Return how many epochs it takes to halve so many trials down to a winner at max_epochs."""
    total, before = 0, 0
    for epoch in [*list_rungs(first, factor, max_epochs), max_epochs]:
        total += trials * (epoch - before)
        trials, before = -(-trials // factor), epoch
    return total


def may_start(
    started: int,
    max_total_epochs: int,
    *,
    first: int,
    factor: int,
    max_epochs: int,
    audited: int = 0,
) -> bool:
    """Return whether a budget has epochs for one more trial beside those that have started.

    It has if halving them all down to a winner takes no more: trials beyond that would take the
    epochs with which the best ones go on. ``audited`` of them, the new one included, take all
    their epochs.
    """
    need = halving_epochs(started + 1 - audited, first, factor, max_epochs)
    return started == 0 or need + audited * max_epochs <= max_total_epochs


def may_finish(epochs: Iterable[int], *, max_epochs: int, epochs_left: int) -> bool:
    """Return whether a budget can take trials to their last epoch, all of them.

    Asked before a paused trial that was not promoted goes on beside others: where the budget is
    short, each such trial takes epochs from those that are ahead. ``epochs`` are those that each
    of them has had.
    """
    return sum(max_epochs - each for each in epochs) <= epochs_left


class Rungs:
    """The trials of a study by the rungs that they have reached.

    A trial goes on from a rung if it is among the best share of those that have reached it: one
    in ``factor``, rounded up, so that the best always goes on. Where scores are noisy, so do
    those within one standard error of the last of these, up to half of all. The others pause;
    one that comes to be in the share, because more trials have reached its rung, is promoted
    (Li et al. 2020, ASHA, arXiv 1810.05934). While the first rung is held all pause there: who is
    ahead of few may not be ahead of many, and a budget of epochs is short.

    What is compared is the mean score of a trial's last two epochs at the rung.

    Args:
        first: The first rung, in epochs, from 1.
        factor: One in so many goes on; from 2.
        max_epochs: The last epoch of a trial, which is no rung.
        num_validation: Examples that a score in [0, 1] is taken over, which give its standard
            error; None: scores are exact.
        is_first_exact: Whether scores count as exact at the first rung. Where all wait there it
            judges most of the trials, and those within an error cost more epochs than it is worth.
    """

    def __init__(
        self,
        first: int,
        factor: int,
        max_epochs: int,
        *,
        num_validation: int | None = None,
        is_first_exact: bool = False,
    ) -> None:
        assert first >= 1, f"epochs count from 1, got {first=}"
        assert factor >= 2, f"every trial would go on, got {factor=}"
        self._num_validation = num_validation
        self._is_first_exact = is_first_exact
        self._factor = factor
        self._rungs = list_rungs(first, factor, max_epochs)
        # By rung: (-score at the rung, trial), the best first.
        self._reached: list[list[tuple[float, int]]] = [[] for _ in self._rungs]
        # By rung: paused trials, the best first.
        self._paused: list[list[tuple[float, int]]] = [[] for _ in self._rungs]
        self._place: dict[int, tuple[int, float]] = {}

    @property
    def paused(self) -> set[int]:
        """The trials that are paused."""
        return {trial for rung in self._paused for _, trial in rung}

    def is_paused(self, trial: int) -> bool:
        """Return whether a trial is paused at a rung."""
        if (place := self._place.get(trial)) is None:
            return False
        rung, score = place
        entry, paused = (-score, trial), self._paused[rung]
        index = bisect_left(paused, entry)
        return paused[index : index + 1] == [entry]

    def judge(
        self, curves: Mapping[int, Sequence[float]], *, is_first_held: bool = False
    ) -> list[int]:
        """Take in the last epoch of trials that are judged together; return those that pause.

        Args:
            curves: By trial, its score per epoch, epoch 1 first; NaN: none.
            is_first_held: Whether all pause at the first rung.
        """
        at_rung = [trial for trial, scores in curves.items() if len(scores) in self._rungs]
        for trial in at_rung:
            self._enter(trial, curves[trial])
        pausing = [
            trial
            for trial in at_rung
            if not self.is_ahead(trial) or (is_first_held and self._place[trial][0] == 0)
        ]
        for trial in pausing:
            self._pause(trial)
        return pausing

    def restore(self, trial: int, scores: Sequence[float], *, is_paused: bool) -> None:
        """Take in a trial of an earlier run, which may be paused at its last epoch.

        Between two rungs nobody is paused: there it was cut off, and is to go on.
        """
        for epoch in self._rungs:
            if epoch <= len(scores):
                self._enter(trial, scores[:epoch])
        if is_paused and len(scores) in self._rungs:
            self._pause(trial)

    def promote(self, *, is_first_held: bool = False) -> int | None:
        """Return the paused trial that is to go on, no longer paused; None: none deserves it.

        From the highest rung down, the best of a rung first; none from a first rung that is held.
        """
        for rung in reversed(range(1 if is_first_held else 0, len(self._rungs))):
            paused = self._paused[rung]
            if paused and self._rank(rung, paused[0]) < self._share(rung):
                return paused.pop(0)[1]
        return None

    def best_paused(self) -> int | None:
        """Return the paused trial with the best score, which stays paused; None: none is."""
        best = min((paused[0] for paused in self._paused if paused), default=None)
        return None if best is None else best[1]

    def is_ahead(self, trial: int) -> bool:
        """Return whether a trial is in the share of its last rung, which goes on."""
        rung, score = self._place[trial]
        return self._rank(rung, (-score, trial)) < self._share(rung)

    def leave(self, trial: int) -> None:
        """Forget that a trial is paused: it has ended, or goes on without a promotion.

        Those that it was compared with still count it.
        """
        for paused in self._paused:
            paused[:] = [entry for entry in paused if entry[1] != trial]

    def lag(self, trial: int) -> str:
        """Return why a trial is paused, for people."""
        rung, score = self._place[trial]
        place = self._rank(rung, (-score, trial)) + 1
        share, epoch = self._share(rung), self._rungs[rung]
        best = "the best one goes on" if share == 1 else f"the best {share} go on"
        when = " when the others have come to it" if place <= share else ""
        return f"place {place} of {len(self._reached[rung])} at epoch {epoch}, where {best}{when}"

    def _enter(self, trial: int, scores: Sequence[float]) -> None:
        rung = self._rungs.index(len(scores))
        last = [-math.inf if math.isnan(score) else score for score in scores[-2:]]
        score = sum(last) / len(last)
        if self._place.get(trial) == (rung, score):
            return  # it has trained this epoch again
        self._place[trial] = (rung, score)
        insort(self._reached[rung], (-score, trial))

    def _pause(self, trial: int) -> None:
        rung, score = self._place[trial]
        insort(self._paused[rung], (-score, trial))

    def _rank(self, rung: int, entry: tuple[float, int]) -> int:
        return bisect_left(self._reached[rung], entry)

    def _share(self, rung: int) -> int:
        """Return how many of a rung go on."""
        reached = self._reached[rung]
        share = -(-len(reached) // self._factor)
        if rung == 0 and self._is_first_exact:
            return share
        within = bisect_right(reached, (reached[share - 1][0] + self._error(rung, share), 0))
        return max(share, min(within, -(-len(reached) // 2)))

    def _error(self, rung: int, place: int) -> float:
        """Return the standard error of the score at a place, as that of a share of examples."""
        score = -self._reached[rung][place - 1][0]
        if self._num_validation is None or not 0.0 < score < 1.0:
            return 0.0
        return math.sqrt(score * (1.0 - score) / self._num_validation)
