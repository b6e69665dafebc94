"""Trials side by side: ranks by several scores, ties, speed, and the luck of a best epoch.

Takes the frames of ``storage.queries``; opens no database. Shapes: E epochs, T trials.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sweeps.analysis.noise import (
    TIE_ERRORS,
    Floats,
    epoch_noise,
    finite,
    macro_f1_error_from_scores,
    moving_median,
)
from sweeps.analysis.sweep_progress import are_cut_short
from sweeps.curves import running_best

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``compare``. ``best``, ``last``, ``tail``, ``at_epoch``: score by each rule (tail:
#: mean of the last 5 epochs; at_epoch: best up to epoch X); ``rank_best`` and so on: the rank by
#: each, 1 is the highest, equal scores share one; ``rank_range``: largest minus smallest rank;
#: ``is_tied``: whether the best score is too near the highest to be told apart from it;
#: ``epochs_to_score``: first epoch with a given score; ``noise``, ``luck``,
#: ``best_without_luck``: see ``LUCK``.
COMPARISON: Mapping[str, str] = {
    "study": "string",
    "trial": "int64",
    "best": "float64",
    "last": "float64",
    "tail": "float64",
    "at_epoch": "float64",
    "rank_best": "Int64",
    "rank_last": "Int64",
    "rank_tail": "Int64",
    "rank_at_epoch": "Int64",
    "rank_range": "Int64",
    "is_tied": "bool",
    "epochs_to_score": "Int64",
    "noise": "float64",
    "luck": "float64",
    "best_without_luck": "float64",
}
#: The rules to compare by.
RULES = ("best", "last", "tail", "at_epoch")
#: Columns of ``convergence_speed``: best score up to an epoch, first epoch with a score.
SPEED: Mapping[str, str] = {"trial": "int64", "score_at_epoch": "float64", "epochs": "Int64"}
#: Columns of ``luck_of_best_epochs``: best score, its noise between epochs, what the best owes
#: to luck (``luck_of_best``), and the best without that.
LUCK: Mapping[str, str] = {
    "trial": "int64",
    "best": "float64",
    "noise": "float64",
    "luck": "float64",
    "best_without_luck": "float64",
}
_SMOOTHING = 1 / 3
_STEP = 0.01
_GRID = np.linspace(-9.0, 9.0, 1801, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class StudyFrames:
    """What is compared of one study.

    Attributes:
        study: Its name.
        results: ``queries.results``; trials without a rank are left out.
        curves: ``queries.curves``.
        error: Standard error of one validation score (``validation_error``); NaN: not known.
    """

    study: str
    results: "pd.DataFrame"
    curves: "pd.DataFrame"
    error: float = math.nan


def compare(
    studies: Sequence[StudyFrames], *, epoch: int, score: float, margin: float = math.nan
) -> "pd.DataFrame":
    """Return the ranked trials of all studies in one ranking (``COMPARISON``), the best first.

    Args:
        studies: Those to compare; ranks count over all of them.
        epoch: Epoch X of ``at_epoch``, from 1; its score is NaN for a trial that ended before.
        score: Macro-F1 of ``epochs_to_score``.
        margin: Difference below which scores tie (``tie_margin``); NaN: none does.
    """
    import pandas as pd

    parts = [_score_by_rules(each, epoch=epoch, score=score) for each in studies]
    frame = pd.concat(parts, ignore_index=True)
    for rule in RULES:
        frame[f"rank_{rule}"] = frame[rule].rank(method="min", ascending=False).astype("Int64")
    ranks = frame[[f"rank_{rule}" for rule in RULES]]
    frame["rank_range"] = ranks.max(axis=1) - ranks.min(axis=1)
    frame["is_tied"] = frame["best"].max() - frame["best"] < (0 if math.isnan(margin) else margin)
    frame = frame[list(COMPARISON)].astype(dict(COMPARISON))
    return frame.sort_values(["rank_best", "study", "trial"], ignore_index=True)


def shared_epoch(studies: Sequence[StudyFrames]) -> int:
    """Return the last epoch that all ranked trials of the studies reached; 1 without any.

    Trials that were cut short do not count, unless all were.
    """
    ranked = [_ranked(each.results) for each in studies]
    whole = [int(end) for each in ranked for end in each[~are_cut_short(each)]["epochs_run"]]
    ends = whole or [int(end) for each in ranked for end in each["epochs_run"]]
    return max(1, min(ends, default=1))


def longest_run(studies: Sequence[StudyFrames]) -> int | None:
    """Return the epochs of the longest ranked trial of the studies; None without any."""
    ends = [int(end) for each in studies for end in _ranked(each.results)["epochs_run"]]
    return max(ends, default=None)


def best_score(studies: Sequence[StudyFrames]) -> float:
    """Return the highest best-epoch score of the ranked trials; NaN without any."""
    scores = [float(one) for each in studies for one in _ranked(each.results)["best_score"]]
    return max(scores, default=math.nan)


def validation_error(results: "pd.DataFrame", class_scores: "pd.DataFrame") -> float:
    """Return the standard error of a validation score in a study: that of its best trial.

    Args:
        results: ``queries.results``.
        class_scores: ``queries.class_scores``.

    Returns:
        NaN where no ranked trial has class scores.
    """
    known = set(class_scores["trial"])
    ranked = [int(trial) for trial in _ranked(results)["trial"] if int(trial) in known]
    if not ranked:
        return math.nan
    classes = class_scores[class_scores["trial"] == ranked[0]]
    columns = (classes[name].tolist() for name in ("precision", "recall", "support"))
    return macro_f1_error_from_scores(*columns)


def tie_margin(error: float, *, correlation: float = 0.5) -> float:
    """Return the difference of two trials' scores below which they tie.

    Two standard errors of the difference, sqrt(2 (1 - correlation)) times that of one score: both
    are scored on the same examples, and what is hard for one is hard for the other.

    Args:
        error: Standard error of one validation score.
        correlation: Of the two scores over other validation sets. 0.5 is assumed, not measured;
            0 is that of two independent sets, and the cautious choice.

    Raises:
        ValueError: If ``correlation`` is outside [0, 1).
    """
    if not 0.0 <= correlation < 1.0:
        raise ValueError(f"correlation must be in [0, 1), got {correlation}")
    return TIE_ERRORS * error * math.sqrt(2 * (1 - correlation))


def convergence_speed(curves: "pd.DataFrame", *, epoch: int, score: float) -> "pd.DataFrame":
    """Return how fast each trial rose (``SPEED``), by number.

    Args:
        curves: ``queries.curves``.
        epoch: Epoch X, from 1; ``score_at_epoch`` is the best score up to it, NaN for a trial
            that ended before.
        score: Macro-F1; ``epochs`` is the first epoch that reaches it, missing if none does.

    Raises:
        ValueError: If ``epoch`` is below 1.
    """
    import pandas as pd

    if epoch < 1:
        raise ValueError(f"epoch must be >= 1, got {epoch}")
    rows = []
    for trial, records in curves.groupby("trial", sort=True):
        scores, numbers = records["score"].tolist(), records["epoch"].tolist()
        bests = running_best(scores)
        seen = [best for best, number in zip(bests, numbers, strict=True) if number <= epoch]
        reached = max(numbers) >= epoch and seen
        first = [n for each, n in zip(scores, numbers, strict=True) if each >= score]
        rows.append((int(trial), seen[-1] if reached else math.nan, first[0] if first else pd.NA))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SPEED)
    named = zip(SPEED.items(), columns, strict=True)
    return pd.DataFrame({name: pd.Series(list(c), dtype=dtype) for (name, dtype), c in named})


def luck_of_best_epochs(curves: "pd.DataFrame") -> "pd.DataFrame":
    """Return what each trial's best epoch owes to luck (``LUCK``), by number.

    Trials with fewer than 4 scores are left out.
    """
    import pandas as pd

    rows = []
    for trial, records in curves.groupby("trial", sort=True):
        scores = finite(records["score"].tolist())
        if len(scores) < 4:
            continue
        best, luck = float(scores.max()), luck_of_best(scores)
        rows.append((int(trial), best, epoch_noise(scores), luck, best - luck))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(LUCK)
    named = zip(LUCK.items(), columns, strict=True)
    return pd.DataFrame({name: pd.Series(list(c), dtype=dtype) for (name, dtype), c in named})


def luck_of_best(curve: Sequence[float] | Floats) -> float:
    """Return what the best of a curve's epochs owes to luck: the larger of two measures.

    The first is by how much the best exceeds a smooth line on average. With a line m_t (straight
    through a third of the epochs around each, at least 7) and independent normal noise of
    standard deviation s (``epoch_noise``), the best score is expected at E[max_t (m_t + s z_t)],
    and the luck is that minus max_t m_t. On a flat curve it is s times the expected maximum of E
    normals (``expected_maximum``); on a steep one only the last epochs compete.

    The second is how far the best epoch stands above the median of itself and its two neighbours:
    the noise is robust, so that one epoch far above the others does not count for it, and what no
    neighbour confirms cannot be told from luck. The first and the last epoch have one neighbour,
    and whether a rise would have lasted is not known: there the first measure is all.

    Choosing by the same noisy score that is reported is the selection bias of Cawley and Talbot
    (2010, "On over-fitting in model selection", JMLR 11). The luck of the epochs alone: that of
    the best of many trials, and of this validation set, comes on top.

    Args:
        curve: Validation score per epoch, (E,); missing ones are left out.

    Returns:
        NaN with fewer than 4 scores.
    """
    scores = finite(curve)
    noise = epoch_noise(scores)
    if math.isnan(noise):
        return noise
    i = int(np.argmax(scores))
    alone = float(scores[i] - moving_median(scores)[i])
    return max(alone, _expected_luck(scores, noise))


def expected_maximum(draws: int) -> float:
    """Return the expected maximum of independent standard normal draws: 0, 0.564, 0.846, ...

    The integral of 1 - F(x)^n above 0 minus that of F(x)^n below (David and Nagaraja 2003,
    "Order statistics", section 3.1).

    Args:
        draws: How many, from 1.
    """
    return _expectation(_normal_shares(_GRID) ** draws)


def _ranked(results: "pd.DataFrame") -> "pd.DataFrame":
    return results[results["rank"].notna()].sort_values(["rank", "best_val_loss", "trial"])


def _score_by_rules(each: StudyFrames, *, epoch: int, score: float) -> "pd.DataFrame":
    """Return the ranked trials of one study with the columns of ``COMPARISON`` but the ranks."""
    import pandas as pd

    ranked = _ranked(each.results)
    speed = convergence_speed(each.curves, epoch=epoch, score=score).set_index("trial")
    luck = luck_of_best_epochs(each.curves).set_index("trial")
    trials = ranked["trial"].astype("int64")
    return pd.DataFrame(
        {
            "study": pd.Series(each.study, index=ranked.index, dtype="string"),
            "trial": trials,
            "best": ranked["best_score"],
            "last": ranked["last_score"],
            "tail": ranked["tail_score"],
            "at_epoch": trials.map(speed["score_at_epoch"]).astype("float64"),
            "epochs_to_score": trials.map(speed["epochs"]).astype("Int64"),
            **{
                name: trials.map(luck[name]).astype("float64")
                for name in ("noise", "luck", "best_without_luck")
            },
        }
    )


def _expected_luck(scores: Floats, noise: float) -> float:
    """Return by how much the best epoch exceeds the curve's smooth line on average."""
    if noise == 0:
        return 0.0
    line = _local_lines(scores, max(7, round(_SMOOTHING * len(scores))))
    distances = (line - line.max()) / noise
    below = np.ones_like(_GRID)
    for distance in distances[distances > -9].tolist():
        below *= _normal_shares(np.asarray(_GRID - distance, dtype=np.float64))
    return noise * _expectation(below)


def _expectation(below: Floats) -> float:
    """Return the mean of a distribution from its cumulative shares on the grid."""
    # The jump at 0 is in the integrand, so the halves are summed apart.
    return _sum(1 - below, _GRID >= 0) - _sum(below, _GRID <= 0)


def _sum(values: Floats, where: npt.NDArray[np.bool_]) -> float:
    part = values[where]
    return float(((part[1:] + part[:-1]) / 2).sum()) * _STEP


def _normal_shares(points: Floats) -> Floats:
    return np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in points.tolist()])


def _local_lines(values: Floats, width: int) -> Floats:
    """Return each epoch's place on the straight line through the ``width`` epochs around it."""
    width = min(width, len(values))
    line = np.empty_like(values)
    for i in range(len(values)):
        start = min(max(i - width // 2, 0), len(values) - width)
        epochs = np.arange(start, start + width) - i
        line[i] = np.polyfit(epochs, values[start : start + width], 1)[1]
    return line
