"""Studies of drawn predictions, where it is known what each model has on new examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from objectives.api import Counts, DataFacts
from objectives.metrics import make_metric
from storage import frames
from sweeps.analysis import noise
from sweeps.analysis.facts import Targets, TrialFacts, measure
from sweeps.read.study import Study

CLASSES = ("a", "b", "c")
SHARES = (0.6, 0.3, 0.1)
METRIC = make_metric("macro-f1", CLASSES)
#: Predictions of so many of the best trials are kept.
KEPT = 50
_UNKNOWN = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A study, and the score that each trial's best epoch has on new examples."""

    study: Study
    facts: tuple[TrialFacts, ...]
    true_scores: tuple[float, ...]


def draw_study(
    rng: np.random.Generator,
    *,
    skills: Sequence[float],
    examples: int,
    epochs: int = 1,
    kept: int = KEPT,
    is_true_known: bool = False,
) -> Drawn:
    """Return a study whose trials find the same examples hard, and have errors of their own.

    An example is right where skill + 1 + its own ease + what the trial makes of it + what the
    epoch makes of it is above 0; the parts are normal, with deviations 1, 0.7 and 0.4.
    """
    total = examples + (_UNKNOWN if is_true_known else 0)
    true_N = rng.choice(len(CLASSES), size=total, p=SHARES).astype(np.uint8)
    wrong_N = ((true_N + rng.integers(1, 3, total)) % 3).astype(np.uint8)
    ease_N = 1.0 + rng.normal(size=total)
    curves, predictions = [], []
    for skill in skills:
        own_N, epoch_N = 0.7 * rng.normal(size=total), rng.normal(size=total)
        curve, best_N = [], true_N
        for _ in range(epochs):
            epoch_N = 0.5 * epoch_N + math.sqrt(0.75) * rng.normal(size=total)
            is_right = skill + ease_N + own_N + 0.4 * epoch_N > 0
            found_N = np.where(is_right, true_N, wrong_N)
            curve.append(score(true_N[:examples], found_N[:examples]))
            best_N = found_N if curve[-1] == max(curve) else best_N
        curves.append(curve)
        predictions.append(best_N)
    seen_N = true_N[:examples]
    study = make_study(seen_N, curves, [each[:examples] for each in predictions], kept=kept)
    known = [score(true_N[examples:], each[examples:]) for each in predictions]
    return Drawn(study, tuple(make_facts(study, curves)), tuple(known if is_true_known else ()))


def score(true_N: npt.NDArray[np.uint8], found_N: npt.NDArray[np.uint8]) -> float:
    """Return the macro-F1; NaN without an example."""
    if not len(true_N):
        return math.nan
    counts = noise.count_confusion(true_N, found_N, len(CLASSES))
    return METRIC.score(Counts.of_matrix(counts))


def make_study(
    true_N: npt.NDArray[np.uint8],
    curves: Sequence[Sequence[float]],
    predictions: Sequence[npt.NDArray[np.uint8]],
    *,
    kept: int = KEPT,
) -> Study:
    """Return a study of trials that stalled."""
    from storage import queries

    now = datetime(2031, 5, 7, tzinfo=UTC)
    usual = {"outcome": "stalled", "best_val_loss": 0.5, "started_at": now, "params": "{}"}
    rows = []
    for trial, curve in enumerate(curves):
        own = usual | {"trial": trial, "best_score": max(curve), "epochs_run": len(curve)}
        own |= {"seed": 7, "kills": 0, "last_epoch": len(curve), "last_score": curve[-1]}
        rows.append([own.get(name) for name in frames.RESULTS])
    results = queries.rank(frames.to_frame(rows, frames.RESULTS))
    best = results["trial"].tolist()[:kept]
    count = noise.count_confusion
    return Study(
        name="drawn",
        uuid="u",
        objective="tabular-mlp",
        created_at=now,
        config={},
        class_names=CLASSES,
        data_fingerprint=None,
        versions={},
        processor=None,
        data=DataFacts(1000, len(true_N), SHARES, 0.0),
        is_running=False,
        results=results,
        curves=frames.to_frame([], frames.CURVES),
        class_scores=frames.to_frame([], frames.CLASS_SCORES),
        confusions={i: count(true_N, each, len(CLASSES)) for i, each in enumerate(predictions)},
        predictions={trial: predictions[trial] for trial in best},
        targets=true_N,
        taken=frozenset({"drawn"}),
    )


def make_facts(study: Study, curves: Sequence[Sequence[float]]) -> list[TrialFacts]:
    """Return the facts of each trial; losses stay at 0.5."""
    flat = [[0.5] * len(curve) for curve in curves]
    return [
        measure(
            trial,
            curve,
            train_losses=flat[trial],
            val_losses=flat[trial],
            targets=Targets(),
            error=noise.score_error(study.confusions[trial], METRIC),
            outcome="stalled",
        )
        for trial, curve in enumerate(curves)
    ]
