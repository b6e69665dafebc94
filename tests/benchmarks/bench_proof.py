"""Whether verdicts come true on test, and whether changing what they blame helps more than chance.

    python tests/benchmarks/bench_proof.py [--seeds 2]

Judges the trials of ``proof/trials.csv`` (``record_proof.py``) by their epochs up to the cap. A
trial has gained if the epoch that validation chooses among twice (or 4 times) the epochs scores
more on *test* than the one chosen up to the cap, by more than the standard error of its validation
score. Prints

- the Brier score of the probability of a gain for each task, beside four that say less: always
  no; the line through the last quarter of the epochs; the share of gains in the other tasks;
- how many gained by the probability that was said, and by verdict and reason;
- for each reason what a fifth of the rate, five times the rate, and 0.3 more dropout bring on test
  beside the same setting from the same other seed (the placebo), for cap epochs: the mean and its
  standard error, and in how many trials it is better, and worse, by more than a standard error;
- of the sweeps of ``proof/advice.csv`` (``record_advice.py``) how many were told something, and
  what following it brought on test beside a next sweep in the old settings.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from record_proof import ADVICE, CHANGES, TARGETS, TRIALS, read_rows

from objectives.metrics import make_metric
from sweeps.analysis.facts import Targets, TrialFacts, measure
from sweeps.analysis.verdicts import Judged, Reason, judge

Floats = npt.NDArray[np.float64]
BINS = (0.0, 0.1, 0.2, 1 / 3, 0.5, 0.75, 1.01)


@dataclass(frozen=True, slots=True)
class Case:
    """A trial at its cap, and what came.

    Attributes:
        task: Where it is from.
        facts: What is known of it.
        judged: What is said of it.
        error: Standard error of its score.
        gains: What twice and 4 times the epochs bring on test.
        slope_gain: What the line through the last quarter promises of twice the epochs.
        changed: What each of ``CHANGES`` but the placebo brings on test beside the placebo.
    """

    task: str
    facts: TrialFacts
    judged: Judged
    error: float
    gains: tuple[float, float]
    slope_gain: float
    changed: dict[str, float]

    @property
    def probability(self) -> float:
        """Of a gain, as it is said; 0 where nothing is."""
        return 0.0 if self.facts.outlook is None else self.facts.outlook.gain_probability

    @property
    def has_gained(self) -> bool:
        """Whether twice the epochs brought more than a standard error."""
        return self.gains[0] > self.error


def list_cases(seeds: Sequence[str]) -> list[Case]:
    """Return the recorded trials of these seeds."""
    targets = read_targets()
    cases = []
    for row in read_rows(TRIALS):
        if row["seed"] not in seeds:
            continue
        curves = {
            name: [float(each) for each in row[name].split()]
            for name in ("score", "train_loss", "val_loss")
        }
        facts = measure(
            int(row["trial"]),
            curves["score"],
            train_losses=curves["train_loss"],
            val_losses=curves["val_loss"],
            targets=targets[row["task"]],
            error=float(row["error"]),
            params=json.loads(row["params"]),
        )
        (judged,) = judge([facts])
        test = {name: float(row[f"test_{name}"]) for name in (1, 2, 4, *CHANGES)}
        cap = len(curves["score"])
        tail = np.nan_to_num(curves["score"][cap - max(4, cap // 4) :])
        cases.append(
            Case(
                task=row["task"],
                facts=facts,
                judged=judged,
                error=0.0 if math.isnan(facts.error) else facts.error,
                gains=(test[2] - test[1], test[4] - test[1]),
                slope_gain=cap * float(np.polyfit(np.arange(len(tail)), tail, 1)[0]),
                changed={name: test[name] - test["again"] for name in CHANGES[1:]},
            )
        )
    return cases


def read_targets() -> dict[str, Targets]:
    """Return what is known of each task's targets."""
    found = {}
    for name, (shares, supports) in json.loads(TARGETS.read_text()).items():
        names = tuple(map(str, range(len(shares))))
        metric = make_metric("macro-f1", names)
        found[name] = Targets(tuple(shares), 0.0, tuple(supports), names, metric)
    return found


def brier(said: Sequence[float], happened: Sequence[bool]) -> float:
    """Return the mean squared distance of probabilities from what happened."""
    return float(np.mean((np.array(said) - np.array(happened, dtype=np.float64)) ** 2))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"], metavar="SEED")
    seeds = parser.parse_args().seeds
    cases = list_cases(seeds)
    print(f"{len(cases)} trials\n")
    _print_brier(cases)
    print("\n| said | trials | gained by twice | by 4 times |\n|---|---|---|---|")
    for low, high in pairwise(BINS):
        part = [case for case in cases if low <= case.probability < high]
        print(f"| {low:.2f} to {min(high, 1):.2f} | {_tell_gains(part)} |")
    _print_by(cases, "verdict, reason", lambda case: case.judged.reason)
    print("\n| reason | trials | lower: mean, better, worse | higher | more dropout |")
    print("|---|---|---|---|---|")
    for reason in Reason:
        part = [case for case in cases if case.judged.reason is reason]
        if part:
            cells = " | ".join(_tell_change(part, name) for name in CHANGES[1:])
            name = f"{reason.name.lower()}"
            print(f"| {name} | {len(part)} | {cells} |")
    _print_notes(cases)
    _print_advice([row for row in read_rows(ADVICE) if row["seed"] in seeds])


def _print_brier(cases: Sequence[Case]) -> None:
    heads = ("task", "trials", "gained", "Brier", "always no", "last slope", "share of others")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    names = list(dict.fromkeys(case.task for case in cases))
    shares = {
        name: float(np.mean([case.has_gained for case in cases if case.task != name] or [0.5]))
        for name in names
    }
    for name in [*names, "all"]:
        part = [case for case in cases if name in (case.task, "all")]
        happened = [case.has_gained for case in part]
        said = (
            [case.probability for case in part],
            [0.0] * len(part),
            [float(case.slope_gain > case.error) for case in part],
            [shares[case.task] for case in part],
        )
        cells = " | ".join(f"{brier(each, happened):.3f}" for each in said)
        print(f"| {name} | {len(part)} | {np.mean(happened):.2f} | {cells} |")


def _print_by(cases: Sequence[Case], head: str, key: Callable[[Case], Reason]) -> None:
    print(f"\n| {head} | trials | gained by twice | by 4 times | the slope says so |")
    print("|---|---|---|---|---|")
    for reason in Reason:
        part = [case for case in cases if key(case) is reason]
        if part:
            slope = np.mean([case.slope_gain > case.error for case in part])
            name = f"{reason.name.lower()}"
            print(f"| {name} | {_tell_gains(part)} | {slope:.2f} |")
    part = [case for case in cases if case.slope_gain > case.error]
    print(f"| (all whose slope says so) | {_tell_gains(part)} | 1.00 |")


def _print_notes(cases: Sequence[Case]) -> None:
    print("\n| note | trials | lower: mean, better, worse | higher | more dropout |")
    print("|---|---|---|---|---|")
    for remark in sorted({note.name for case in cases for note in case.judged.notes}):
        part = [case for case in cases if remark in [note.name for note in case.judged.notes]]
        cells = " | ".join(_tell_change(part, name) for name in CHANGES[1:])
        print(f"| {remark} | {len(part)} | {cells} |")


def _print_advice(rows: Sequence[Mapping[str, str]]) -> None:
    print("\n| wrong | sweeps | told | brought on test | better | worse | kinds |")
    print("|---|---|---|---|---|---|---|")
    for wrong in dict.fromkeys(row["wrong"] for row in rows):
        part = [row for row in rows if row["wrong"] == wrong]
        told = [row for row in part if row["kinds"]]
        gains = np.array([float(row["test_advised"]) - float(row["test_again"]) for row in told])
        kinds = Counter(kind for row in told for kind in row["kinds"].split())
        spread = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
        mean = f"{gains.mean():+.3f} ({spread:.3f})" if len(gains) else "-"
        counts = f"{(gains > 0).sum()} | {(gains < 0).sum()}"
        said = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        print(f"| {wrong} | {len(part)} | {len(told)} | {mean} | {counts} | {said} |")


def _tell_gains(part: Sequence[Case]) -> str:
    """Return how many trials, and the share that gained and the mean gain at both horizons."""
    if not part:
        return "0 | - | -"
    cells = [str(len(part))]
    for gains in zip(*(case.gains for case in part), strict=True):
        gained = np.mean([g > case.error for g, case in zip(gains, part, strict=True)])
        cells.append(f"{gained:.2f}, {np.mean(gains):+.3f}")
    return " | ".join(cells)


def _tell_change(part: Sequence[Case], name: str) -> str:
    values = np.array([case.changed[name] for case in part])
    errors = np.array([case.error for case in part])
    spread = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    better, worse = (values > errors).mean(), (values < -errors).mean()
    return f"{values.mean():+.3f} ({spread:.3f}), {better:.2f}, {worse:.2f}"


if __name__ == "__main__":
    main()
