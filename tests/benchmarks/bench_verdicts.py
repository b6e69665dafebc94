"""How often the verdicts are right, on curves whose truth is known.

    python tests/benchmarks/bench_verdicts.py
    python tests/benchmarks/bench_verdicts.py --epochs 8 30

Draws learning curves of nine kinds, at the sampling noise of the three objectives: the recall of
each class follows a line that is known, its right predictions are drawn for as many validation
examples as the objective has (half of the curves keep half of the examples' luck from epoch to
epoch, as a real validation set does), and macro-F1 is that of the counts. A quarter of those that
still improve have too low a rate: their losses fall while macro-F1 wanders. Prints the table of
truth by leading verdict.
"""

import argparse
import math
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objectives.api import Counts
from objectives.metrics import class_scores, make_metric
from sweeps.analysis.findings import UNTELLING, TrialCurve, Verdict
from sweeps.analysis.noise import macro_f1_error
from sweeps.analysis.verdicts import judge

Floats = npt.NDArray[np.float64]

#: Validation examples of each class of the three objectives, and a good recall of each.
NOISE = {
    "relation-cnn": ((150, 900, 90, 1860), (0.65, 0.78, 0.55, 0.86)),
    "tabular-mlp": ((4944, 1568), (0.92, 0.62)),
    "sequence-rnn": ((45, 45, 45, 45), (0.93, 0.95, 0.9, 0.94)),
}
#: Fewest and most epochs of a drawn curve; one of diminishing returns has 400 to 1000.
EPOCHS = (12, 119)
#: A curve of each of these is drawn; a trial of fewer than 8 epochs needs no test.
TRUTHS = tuple(verdict for verdict in Verdict if verdict not in UNTELLING)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A curve, and what it is."""

    truth: Verdict
    objective: str
    curve: TrialCurve


def draw(
    truth: Verdict,
    objective: str,
    rng: np.random.Generator,
    lengths: tuple[int, int] = EPOCHS,
) -> Drawn:
    """Return a curve of this kind; its length, its pace and its noise are drawn too."""
    if truth is Verdict.STILL_IMPROVING and rng.integers(0, 4) == 0:
        return Drawn(truth, objective, draw_slow(objective, rng, lengths))
    supports, recalls = NOISE[objective]
    epochs = int(rng.integers(lengths[0], lengths[1] + 1))
    if truth is Verdict.DIMINISHING_RETURNS:
        epochs = int(rng.integers(400, 1000))
    time = np.arange(1, epochs + 1) / epochs
    shape, train, val = _lines(truth, time, rng)
    guessing = _guessing(supports)
    best = np.array(recalls)
    floor = 0.45 * best
    error = _error(supports, best)
    if truth is Verdict.OSCILLATING:
        # Each recall swings as macro-F1 does, by 2 to 5 standard errors.
        swing = rng.uniform(2.0, 5.0) * error * rng.standard_normal(epochs)
        table = floor + shape[:, None] * (0.9 * best - floor) + swing[:, None]
    elif truth is Verdict.DIMINISHING_RETURNS:
        # A logarithm: the last half of the epochs is worth 1.5 to 3 standard errors.
        rise = rng.uniform(1.5, 3.0) * error / math.log(2)
        table = best + rise * np.log(time)[:, None]
    else:
        table = floor + shape[:, None] * (best - floor)
    if truth is Verdict.CLASS_COLLAPSE:
        table[:, int(np.argmin(supports))] = 0.0
    keeps_luck = bool(rng.integers(0, 2))
    scores, class_f1s = _sample(np.clip(table, 0.0, 1.0), supports, rng, 0.5 * keeps_luck)
    loss_noise = 1 + 0.02 * rng.standard_normal((2, epochs))
    trains, vals = guessing * train * loss_noise[0], guessing * val * loss_noise[1]
    if truth is Verdict.DIVERGED and rng.integers(0, 2):
        trains[-1] = math.nan
    elif truth is Verdict.DIVERGED:
        trains[-4:] = 5 * math.log(len(supports))
    curve = TrialCurve(
        trial=0,
        train_losses=tuple(trains.tolist()),
        val_losses=tuple(vals.tolist()),
        scores=tuple(scores),
        class_f1s=tuple(class_f1s),
        supports=supports,
    )
    return Drawn(truth, objective, curve)


def draw_slow(
    objective: str, rng: np.random.Generator, lengths: tuple[int, int] = EPOCHS
) -> TrialCurve:
    """Return a curve of a rate that is too low for its epochs: it still improves.

    Both losses fall on a line, from above the loss of guessing to hardly below it, while what the
    model says of every example drifts from a rare class to the most frequent one: macro-F1 rises,
    falls and stays, and means nothing yet.
    """
    supports, _ = NOISE[objective]
    epochs = int(rng.integers(lengths[0], lengths[1] + 1))
    time = np.arange(1, epochs + 1) / epochs
    common = np.array(supports) == max(supports)
    if common.all():
        common = np.arange(len(supports)) == 0
    known = rng.uniform(0.1, 0.3) + rng.uniform(0.1, 0.5) * time
    drift = rng.uniform(-2.5, -0.5) + rng.uniform(2.0, 5.0) * time
    side = np.where(common, 1.0, -1.0)
    table = _normal_share(known[:, None] + drift[:, None] * side)
    scores, class_f1s = _sample(table, supports, rng, 0.5)
    line = rng.uniform(1.0, 1.3) - rng.uniform(0.15, 0.4) * time
    losses = _guessing(supports) * line * (1 + 0.0005 * rng.standard_normal((2, epochs)))
    return TrialCurve(
        trial=0,
        train_losses=tuple(losses[0].tolist()),
        val_losses=tuple((0.99 * losses[1]).tolist()),
        scores=tuple(scores),
        class_f1s=tuple(class_f1s),
        supports=supports,
    )


def draw_all(per_cell: int, seed: int, lengths: tuple[int, int] = EPOCHS) -> Iterator[Drawn]:
    """Yield ``per_cell`` curves of each kind at each objective's noise."""
    rng = np.random.default_rng(seed)
    for objective in NOISE:
        for truth in TRUTHS:
            for _ in range(per_cell):
                yield draw(truth, objective, rng, lengths)


def _lines(
    truth: Verdict, time: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Return the rise of the recalls, 0 to 1, and both losses over that of guessing, (E,) each."""
    pace = rng.uniform(6.0, 14.0)
    shape = 1 - np.exp(-pace * time)
    train = 0.4 + 0.6 * np.exp(-pace * time)
    val = 0.5 + 0.5 * np.exp(-pace * time)
    if truth is Verdict.STILL_IMPROVING:
        kind = rng.integers(0, 3)
        shapes = (0.7 * time, 1 - np.exp(-1.5 * time), 0.7 * time ** rng.uniform(0.4, 0.9))
        shape = shapes[int(kind)]
        train, val = 1 - 0.5 * shape, 1 - 0.45 * shape
    elif truth is Verdict.RATE_TOO_HIGH:
        turn = rng.uniform(0.15, 0.6)
        lost = rng.uniform(0.25, 1.0) / (1 + np.exp(-(time - turn - 0.1) * 40))
        shape = shape * (1 - 0.6 * lost)
        train = train + 0.55 * lost
        val = val + 0.45 * lost
    elif truth is Verdict.OVERFIT:
        turn = rng.uniform(0.2, 0.6)
        late = np.maximum(time - turn, 0.0)
        train = 0.15 + 0.85 * np.exp(-4 * time)
        val = val + rng.uniform(0.3, 1.5) * late
        shape = shape - rng.uniform(0.0, 0.3) * late
    elif truth is Verdict.UNDERFIT:
        floor = rng.uniform(0.84, 0.95)
        shape = 0.3 * shape
        train = floor + (1 - floor) * np.exp(-pace * time)
        val = floor + (1 - floor) * np.exp(-pace * time)
    return shape, train, val


def _sample(
    recalls: Floats, supports: tuple[int, ...], rng: np.random.Generator, kept: float
) -> tuple[list[float], list[tuple[float, ...]]]:
    """Return macro-F1 and the classes' F1 per epoch of predictions with these recalls, (E, C)."""
    classes = len(supports)
    luck = [np.sort(rng.random(round(kept * support))) for support in supports]
    macro_f1 = make_metric("macro-f1", [])
    scores, class_f1s = [], []
    for row in recalls:
        confusion = np.zeros((classes, classes), dtype=np.int64)
        for k, support in enumerate(supports):
            fresh = support - len(luck[k])
            right = int(np.searchsorted(luck[k], row[k])) + int(rng.binomial(fresh, row[k]))
            shares = np.where((np.arange(classes) != k) & (row > 0), supports, 0.0)
            if not shares.any():  # no other class is ever predicted
                confusion[k, k] = support
                continue
            confusion[k] = rng.multinomial(support - right, shares / shares.sum())
            confusion[k, k] = right
        counts = Counts.of_matrix(confusion)
        scores.append(macro_f1.score(counts))
        class_f1s.append(tuple(class_scores(counts).f1.tolist()))
    return scores, class_f1s


def _normal_share(values: Floats) -> Floats:
    """Return the share of a standard normal below each value."""
    return np.vectorize(lambda value: 0.5 * math.erfc(-value / math.sqrt(2)))(values)


def _error(supports: tuple[int, ...], recalls: Floats) -> float:
    right = recalls * np.array(supports)
    wrong = np.array(supports) - right
    shares = np.array(supports)[None, :] * (1 - np.eye(len(supports)))
    table = wrong[:, None] * shares / shares.sum(axis=1, keepdims=True) + np.diag(right)
    return macro_f1_error(table)


def _guessing(supports: tuple[int, ...]) -> float:
    shares = np.array(supports) / sum(supports)
    return float(-(shares * np.log(shares)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-cell", type=int, default=40, help="curves a truth and objective")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, nargs=2, default=EPOCHS, help="fewest and most")
    arguments = parser.parse_args()
    counts: Counter[tuple[Verdict, Verdict]] = Counter()
    listed: Counter[Verdict] = Counter()
    right: Counter[str] = Counter()
    for drawn in draw_all(arguments.per_cell, arguments.seed, tuple(arguments.epochs)):
        judged = judge(drawn.curve)
        counts[drawn.truth, judged.leading.verdict] += 1
        listed[drawn.truth] += drawn.truth in judged.verdicts
        right[drawn.objective] += judged.leading.verdict is drawn.truth
    per_truth = arguments.per_cell * len(NOISE)
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, ",
        end="",
    )
    print(f"seed {arguments.seed}, {per_truth} curves of each truth")
    marks = [verdict.value.split()[-1][:8] for verdict in Verdict]
    print(f"{'truth':<20}" + "".join(f"{mark:>9}" for mark in marks) + "  listed")
    for truth in TRUTHS:
        row = "".join(f"{counts[truth, verdict] or '.':>9}" for verdict in Verdict)
        print(f"{truth.value:<20}{row}{listed[truth]:>8}")
    total = per_truth * len(TRUTHS)
    hits = sum(counts[truth, truth] for truth in TRUTHS)
    print(f"right: {hits} of {total}, {hits / total:.1%}; ", end="")
    shares = (f"{name} {n / (total / len(NOISE)):.1%}" for name, n in right.items())
    print(", ".join(shares))


if __name__ == "__main__":
    main()
