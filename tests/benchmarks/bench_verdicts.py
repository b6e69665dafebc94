"""How often what is said of a trial's future comes true, on curves of real trials.

    python tests/benchmarks/bench_verdicts.py
    python tests/benchmarks/bench_verdicts.py --tasks mnist1d relations
    python tests/benchmarks/bench_verdicts.py --taskset FILE

Cuts the curves of ``tables/`` after 8, 12 and 25 of their 50 epochs, judges what is left, and
looks at what the trial did until twice as many epochs. A trial gained if its best score rose by
more than one standard error. The thresholds and the logistic function were tuned on mnist1d and
relations; the default is the other three tasks. Prints

- for each table and cut the Brier score of the probability beside three baselines (always no, the
  straight line of the last quarter, the share of the tasks that were tuned on), how many gains
  were inside the interval, and the mean gain;
- how often trials gained by the probability that was said, and by verdict;
- for each verdict the 10, 50 and 90 % quantiles of the learning rate, in decades above that of
  the best tenth of the optimizer's trials: whether "the steps are too large" is true.
"""

import argparse
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from record_tables import FOLDER, read_table
from replay_tables import NUM_VALIDATION, read_taskset

from objectives.metrics import make_metric
from sweeps.analysis.facts import Targets, measure
from sweeps.analysis.fit import fit_curve
from sweeps.analysis.outlook import FINEST, Outlook, look_ahead
from sweeps.analysis.verdicts import Reason, Verdict, judge

Floats = npt.NDArray[np.float64]

#: Tasks that thresholds were tuned on, and the others.
TUNED, HELD_OUT = ("mnist1d", "relations"), ("adult", "digits", "fashion")
CUTS = (8, 12, 25)
#: Settings of a table, of its first seed.
SETTINGS = 150
#: Examples of each class, per 1000, where classes are not equal.
SHARES = {"adult": (759, 241), "relations": (50, 300, 30, 620)}
CLASSES = {"mnist1d": 10, "digits": 10, "fashion": 10}
BINS = (0.0, 0.1, 0.2, 1 / 3, 0.5, 0.75, 1.01)


@dataclass(frozen=True, slots=True)
class Case:
    """A curve that was cut, what was said of it, and what came.

    Attributes:
        table: Where it is from.
        cut: Epochs that were seen.
        verdict: What was said.
        reason: Why.
        outlook: What was predicted.
        error: Standard error of the best score.
        slope_gain: What the straight line of the last quarter of the epochs, at least 4, promises.
        gain: What the best score rose by until twice the epochs.
        rate: Learning rate, in decades above that of the best tenth of its optimizer's trials.
        learned: Best of all 50 scores, between guessing (0) and the best of the table (1).
    """

    table: str
    cut: int
    verdict: Verdict
    reason: Reason
    outlook: Outlook
    error: float
    slope_gain: float
    gain: float
    rate: float
    learned: float

    @property
    def has_gained(self) -> bool:
        """Whether the best score rose by more than its standard error."""
        return self.gain > self.error


def score_error(task: str, score: float) -> float:
    """Return about the standard error of a macro-F1: each class's F1 as if it were a share."""
    shares = np.array(SHARES.get(task, (1,) * CLASSES.get(task, 1)), dtype=np.float64)
    examples = NUM_VALIDATION[task] * shares / shares.sum()
    spread = max(score * (1 - score), 0.25 / NUM_VALIDATION[task])
    return math.sqrt(spread * float((1 / examples).sum())) / len(shares)


def make_targets(task: str) -> Targets:
    """Return what is known of a task's targets."""
    parts = SHARES.get(task, (1,) * CLASSES.get(task, 1))
    supports = tuple(round(NUM_VALIDATION[task] * part / sum(parts)) for part in parts)
    names = tuple(map(str, range(len(parts))))
    shares = tuple(part / sum(parts) for part in parts)
    return Targets(shares, 0.0, supports, names, make_metric("macro-f1", names))


def list_cases(tasks: Sequence[str]) -> Iterator[Case]:
    """Yield the curves of all tables of these tasks, cut."""
    for path in sorted(FOLDER.glob("*.npz")):
        task = path.stem.split("-")[0]
        if task not in tasks:
            continue
        table, targets = read_table(path), make_targets(task)
        curves = [
            curve[0, :SETTINGS].astype(np.float64)
            for curve in (table.score, table.train_loss, table.val_loss)
        ]
        bests = np.nanmax(np.nan_to_num(curves[0]), axis=1)
        rates = _rates(table.params[:SETTINGS], bests)
        for index, params in enumerate(table.params[:SETTINGS]):
            scores, train, val = (curve[index] for curve in curves)
            for cut in CUTS:
                if not np.isfinite(scores[:cut]).all():
                    continue
                best = float(scores[:cut].max())
                error = score_error(task, best)
                facts = measure(
                    index,
                    scores[:cut].tolist(),
                    train_losses=train[:cut].tolist(),
                    val_losses=val[:cut].tolist(),
                    targets=targets,
                    error=error,
                    params=params,
                )
                (judged,) = judge([facts])
                assert facts.outlook is not None
                room = bests.max() - facts.guess_score
                yield Case(
                    table=path.stem,
                    cut=cut,
                    verdict=judged.verdict,
                    reason=judged.reason,
                    outlook=facts.outlook,
                    error=error,
                    slope_gain=_slope(scores[cut - max(4, cut // 4) : cut]) * cut,
                    gain=max(float(np.nanmax(scores[: 2 * cut])) - best, 0.0),
                    rate=rates[index],
                    learned=float((bests[index] - facts.guess_score) / room),
                )


def list_taskset(path: Path) -> Iterator[Case]:
    """Yield cut curves of TaskSet; a score is minus the loss, its error the noise of the line."""
    for table in read_taskset(path, (1.0, 1.0)):
        for scores in table.scores[:SETTINGS]:
            for cut in CUTS:
                fits = fit_curve((-scores[:cut]).tolist())
                found = look_ahead(scores[:cut].tolist(), error=math.nan, val=fits)
                if found is None or not np.isfinite(scores[:cut]).all():
                    continue
                gain = max(float(np.nanmax(scores[: 2 * cut]) - scores[:cut].max()), 0.0)
                yield Case(
                    table="TaskSet",
                    cut=cut,
                    verdict=Verdict.UNCLEAR,
                    reason=Reason.NOISE_HIDES,
                    outlook=found[1],
                    error=max(found[0].noise, FINEST),
                    slope_gain=_slope(scores[cut - max(4, cut // 4) : cut]) * cut,
                    gain=gain,
                    rate=math.nan,
                    learned=math.nan,
                )


def _rates(params: Sequence[Mapping[str, Any]], bests: Floats) -> Floats:
    """Return each rate in decades above the median of its optimizer's best tenth, (N,)."""
    names = np.array([each["optimizer"] for each in params])
    rates = np.log10([each["learning_rate"] for each in params])
    for name in set(names.tolist()):
        own = np.flatnonzero(names == name)
        best = own[np.argsort(bests[own])[-max(3, len(own) // 10) :]]
        rates[own] -= np.median(rates[best])
    return rates


def _slope(values: Floats) -> float:
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


def brier(said: Sequence[float], happened: Sequence[bool]) -> float:
    """Return the mean squared distance of probabilities from what happened."""
    return float(np.mean((np.array(said) - np.array(happened, dtype=np.float64)) ** 2))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=HELD_OUT, choices=TUNED + HELD_OUT)
    parser.add_argument("--taskset", type=Path, help="npz file of TaskSet (replay_tables.py)")
    given = parser.parse_args()
    tasks, tuned = given.tasks, list(list_cases(TUNED))
    cases = list(list_taskset(given.taskset) if given.taskset else list_cases(tasks))
    what = "TaskSet" if given.taskset else ", ".join(tasks)
    print(f"{what}: {len(cases)} cut curves; {platform.machine()}, ", end="")
    print(f"numpy {np.__version__}\n")
    _print_scores(cases, tuned)
    print(f"\n| said | {' | '.join(f'{cut} epochs' for cut in CUTS)} |\n{'|---' * 4}|")
    for low, high in pairwise(BINS):
        part = [x for x in cases if low <= x.outlook.gain_probability < high]
        print(f"| {low:.2f} to {min(high, 1):.2f} | {_shares(part)} |")
    if given.taskset:
        return
    print("\n| verdict, reason | " + " | ".join(f"{cut} epochs" for cut in CUTS), end="")
    print(f" | rate, decades | learned |\n{'|---' * 6}|")
    for reason in Reason:
        part = [x for x in cases if x.reason is reason]
        if part:
            decades = np.quantile([x.rate for x in part], (0.1, 0.5, 0.9))
            told = " / ".join(f"{each:+.1f}" for each in decades)
            learned = float(np.median([x.learned for x in part]))
            name = f"{part[0].verdict.value}: {reason.name.lower()}"
            print(f"| {name} | {_shares(part)} | {told} | {learned:.2f} |")


def _print_scores(cases: Sequence[Case], tuned: Sequence[Case]) -> None:
    print("| table | cut | curves | gained | Brier | always no | last slope | share |", end="")
    print(f" inside 90 % | gain, said / came |\n{'|---' * 10}|")
    for name in [*sorted({x.table for x in cases}), "all"]:
        for cut in CUTS:
            part = [x for x in cases if x.cut == cut and name in (x.table, "all")]
            happened = [x.has_gained for x in part]
            share = float(np.mean([x.has_gained for x in tuned if x.cut == cut]))
            said = (
                [x.outlook.gain_probability for x in part],
                [0.0] * len(part),
                [float(x.slope_gain > x.error) for x in part],
                [share] * len(part),
            )
            cells = " | ".join(f"{brier(each, happened):.3f}" for each in said)
            low, high = np.array([(x.outlook.gain_low, x.outlook.gain_high) for x in part]).T
            gains = np.array([x.gain for x in part])
            # Scores are stored in steps of 0.0005.
            inside = ((low - 5e-4 <= gains) & (gains <= high + 5e-4)).mean()
            print(f"| {name} | {cut} | {len(part)} | {np.mean(happened):.2f} | {cells} |", end="")
            told = float(np.mean([x.outlook.gain for x in part]))
            print(f" {inside:.2f} | {told:.3f} / {gains.mean():.3f} |")


def _shares(cases: Sequence[Case]) -> str:
    """Return the share of the curves of each cut that gained, and their number."""
    cells = []
    for cut in CUTS:
        part = [x.has_gained for x in cases if x.cut == cut]
        cells.append(f"{np.mean(part):.2f} of {len(part)}" if part else "-")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
