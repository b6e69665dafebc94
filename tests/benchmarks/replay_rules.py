"""The rules that are replayed."""

from bisect import insort

from replay_engine import Run
from replay_tables import Table

from sweeps.running.rungs import FIRST_COHORT, Rungs, halving_epochs, may_finish, may_start


class Stall:
    """Every trial to its end: it has stalled, diverged or has no more epochs.

    Args:
        table: The curves.
        patience: Epochs without a rise after which a trial ends; None: never.
    """

    def __init__(self, table: Table, *, patience: int | None = 6) -> None:
        self.table = table
        self.most = table.scores.shape[1]
        self.patience = patience or self.most

    def judge(self, ages: dict[int, int]) -> tuple[list[int], list[int]]:
        return [trial for trial, age in ages.items() if self.has_ended(trial, age)], []

    def has_ended(self, trial: int, age: int) -> bool:
        score = self.table.curves[trial][age - 1]
        is_stalled = self.table.waits[trial][age - 1] >= self.patience
        return score != score or age >= self.most or is_stalled

    def resume(self, run: Run) -> int | None:
        return None

    def may_start(self, run: Run) -> bool:
        return True

    def finish(self, run: Run) -> int | None:
        return None


class OldDefault(Stall):
    """Median of complete trials from epoch 7 on, and stall after 3 epochs below it."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.complete: list[list[float]] = [[] for _ in range(self.most)]

    def judge(self, ages: dict[int, int]) -> tuple[list[int], list[int]]:
        ended = []
        for trial, age in ages.items():
            score, bests = self.table.curves[trial][age - 1], self.table.bests[trial]
            if self.has_ended(trial, age):
                ended.append(trial)
                if score == score:
                    for epoch, complete in enumerate(self.complete):
                        insort(complete, bests[min(epoch, age - 1)])
                continue
            peers = self.complete[age - 1]
            if len(peers) < 5 or (age <= 6 and self.table.waits[trial][age - 1] < 3):
                continue
            if bests[age - 1] < (peers[(len(peers) - 1) // 2] + peers[len(peers) // 2]) / 2:
                ended.append(trial)
        return ended, []


class Promotion(Stall):
    """The engine's rungs.

    Args:
        table: The curves.
        budget: Epochs of all trials; 0: there is none.
        first: The first rung.
        factor: One in so many goes on.
        patience: As in ``Stall``.
        compare: By which curve: "score", "best" (the best score so far) or "loss".
        has_noise: Whether those within a standard error go on too.
        is_open: Whether new trials start as long as a budget of epochs lasts, and paused ones
            fill the slots that are left.
        may_hold: Whether all pause at the first rung while a budget of epochs has new trials.
        is_exact: Whether nobody goes on for the noise from a first rung at which all pause.
    """

    def __init__(
        self,
        table: Table,
        budget: int,
        first: int = 1,
        factor: int = 4,
        *,
        patience: int | None = 15,
        compare: str = "score",
        has_noise: bool = True,
        is_open: bool = False,
        may_hold: bool = True,
        is_exact: bool = True,
    ) -> None:
        super().__init__(table, patience=patience)
        self.first, self.factor, self.is_open = first, factor, is_open
        self.may_hold, self.is_held = may_hold and not is_open, False
        noise = table.num_validation if has_noise and compare != "loss" else None
        self.rungs = Rungs(
            first,
            factor,
            self.most,
            num_validation=noise,
            is_first_exact=is_exact and self.may_hold and budget > 0,
        )
        self.curves = {"score": table.curves, "best": table.bests, "loss": table.loss_curves}[
            compare
        ]

    def judge(self, ages: dict[int, int]) -> tuple[list[int], list[int]]:
        ended, _ = super().judge(ages)
        curves = {trial: self.curves[trial][:age] for trial, age in ages.items()}
        paused = self.rungs.judge(curves, is_first_held=self.is_held)
        for trial in ended:
            self.rungs.leave(trial)
        return ended, [trial for trial in paused if trial not in ended]

    def resume(self, run: Run) -> int | None:
        is_cohort = self.may_hold and run.max_epochs is not None and run.started < FIRST_COHORT
        self.is_held = is_cohort and self.may_start(run)
        return self.rungs.promote(is_first_held=self.is_held)

    def may_start(self, run: Run) -> bool:
        if self.is_open or run.max_epochs is None:
            return True
        return may_start(
            run.started,
            run.max_epochs,
            first=self.first,
            factor=self.factor,
            max_epochs=self.most,
        )

    def finish(self, run: Run) -> int | None:
        trial = self.rungs.best_paused()
        if trial is None:
            return None
        if run.training and run.max_epochs is not None and not self.is_open:
            epochs = [run.ages[trial], *(run.ages[each] for each in run.training)]
            left = run.max_epochs - run.epochs
            if not may_finish(epochs, max_epochs=self.most, epochs_left=left):
                return None
        self.rungs.leave(trial)
        return trial


class Rounds(Stall):
    """Synchronous halving of as many trials as the budget has epochs for."""

    def __init__(self, table: Table, budget: int, first: int = 1, factor: int = 4) -> None:
        super().__init__(table, patience=15)
        self.num = 1
        while halving_epochs(self.num + 1, first, factor, self.most) <= budget:
            self.num += 1
        self.num = min(self.num, len(table.shapes))
        self.factor, self.rung = factor, first
        self.left = self.num  # trials that have not come to the rung
        self.arrived: list[tuple[float, int]] = []
        self.ready: list[int] = []
        self.gone: set[int] = set()

    def judge(self, ages: dict[int, int]) -> tuple[list[int], list[int]]:
        ended, _ = super().judge(ages)
        self.gone.update(ended)
        arrived = [trial for trial, age in ages.items() if trial in ended or age == self.rung]
        for trial in arrived:
            insort(self.arrived, (-self.table.bests[trial][ages[trial] - 1], trial))
        self.left -= len(arrived)
        if not self.left and self.rung < self.most:
            self._begin_round()
        return ended, [trial for trial in arrived if trial not in ended]

    def resume(self, run: Run) -> int | None:
        return self.ready.pop(0) if self.ready else None

    def may_start(self, run: Run) -> bool:
        return run.started < self.num

    def _begin_round(self) -> None:
        best = self.arrived[: -(-len(self.arrived) // self.factor)]
        self.arrived = [entry for entry in best if entry[1] in self.gone]
        self.ready = [trial for _, trial in best if trial not in self.gone]
        self.left = len(self.ready)
        self.rung = min(self.rung * self.factor, self.most)


class ThenTheBest(Rounds):
    """A few epochs each, then the best three to their end (Egele et al. 2024)."""

    def __init__(self, table: Table, budget: int, first: int = 1, num_best: int = 3) -> None:
        super().__init__(table, budget, first)
        wanted = max(num_best, (budget - num_best * (self.most - first)) // first)
        self.left = self.num = min(wanted, len(table.shapes))
        self.num_best = num_best

    def _begin_round(self) -> None:
        best = [trial for _, trial in self.arrived[: self.num_best]]
        self.arrived = []
        self.ready = [trial for trial in best if trial not in self.gone]
        self.left, self.rung = len(self.ready), self.most
