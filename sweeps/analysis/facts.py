"""What is known of each trial of a study: its curves, their lines, and what they are measured by.

Measures; says nothing about what it means. Shapes: E epochs, C classes, N examples.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.metrics import Metric, make_metric
from sweeps.analysis import noise
from sweeps.analysis.fit import Fit, fit_curve, last_step
from sweeps.analysis.outlook import Outlook, look_ahead
from sweeps.read import words
from sweeps.read.study import Study

Floats = npt.NDArray[np.float64]

#: Outcomes of trials whose curve was cut by what others did or by a stop, not by its own end.
CUT = frozenset({"behind", *words.UNENDED})
#: Epochs at the end in which a class must have had no right prediction.
_SILENT_EPOCHS = 5
#: Share of the highest learning rate: a cosine is there after two thirds of its epochs.
_ANNEALED = 0.25
#: A class is not called silent if chance would leave one so in more than 5 % of studies.
_CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """One trial, measured; NaN is missing or not finite.

    Attributes:
        trial: Number of the trial.
        outcome: Why it ended, None while it runs.
        epochs: E, the epochs that it was trained.
        params: Its hyperparameters.
        best_epoch: Epoch of its best score, from 1; None without a score.
        best_score: The best score.
        last_score: That of the last epoch.
        error: Standard error of the best score: against another validation set; NaN unknown.
        is_cut: Whether its future is unknown: it was paused, or stopped by others or by a person.
        score: The line through its scores; None with too few epochs, as the two below.
        train: The line through its training losses.
        val: The line through its validation losses.
        outlook: What twice the epochs would bring; None with fewer than 8 epochs.
        is_annealed: Whether the learning rate went down to a quarter of its highest, and never up:
            what more epochs of a longer schedule would bring is unknown.
        even_loss: Training loss of who holds all classes for equally likely, nats; NaN unknown.
        guess_loss: Training loss of who knows the shares of the classes alone, nats; NaN unknown.
        floor: Lowest training loss that its targets allow, nats.
        guess_score: Best score of who looks at no example; NaN unknown.
        scores: Score per epoch, (E,).
        train_losses: Training loss per epoch, (E,), with dropout, weights and smoothing.
        val_losses: Validation loss per epoch, (E,), plain cross-entropy.
        silent: Names of the classes without a right prediction in any of the last 5 epochs,
            where that is no accident of a few examples.
    """

    trial: int
    outcome: str | None
    epochs: int
    params: Mapping[str, Any]
    best_epoch: int | None
    best_score: float
    last_score: float
    error: float
    is_cut: bool
    score: Fit | None
    train: Fit | None
    val: Fit | None
    outlook: Outlook | None
    is_annealed: bool
    even_loss: float
    guess_loss: float
    floor: float
    guess_score: float
    scores: tuple[float, ...]
    train_losses: tuple[float, ...]
    val_losses: tuple[float, ...]
    silent: tuple[str, ...] = ()

    @property
    def has_learned(self) -> bool:
        """Whether the score is above guessing by two standard errors; True if that is unknown.

        The error is that of another validation set, as the question is one about the data.
        """
        level = self.best_score if self.score is None else self.score.level
        error = self.error
        if math.isnan(error) and self.score is not None:
            error = self.score.noise
        return not level - self.guess_score <= 2 * error

    def explained(self, loss: float) -> float:
        """Return what share of the loss of guessing is gone: 1 at the floor, below 0 is worse.

        McFadden's pseudo R2, between guessing and the floor. NaN unknown.
        """
        room = self.guess_loss - self.floor
        return (self.guess_loss - loss) / room if room > 0 else math.nan

    @staticmethod
    def lowest(losses: Sequence[float]) -> tuple[float, int]:
        """Return the lowest median of three epochs, and the epoch in its middle, from 1."""
        values = np.nan_to_num(np.array(losses, dtype=np.float64), nan=math.inf)
        if len(values) < 3:
            return float(values.min()), int(values.argmin()) + 1
        medians = np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1)
        return float(medians.min()), int(medians.argmin()) + 2


@dataclass(frozen=True, slots=True)
class Targets:
    """What the training targets of a study allow.

    Attributes:
        shares: Share of each class, (C,); empty where it is unknown.
        entropy: Mean entropy of a target, nats; 0 of classes.
        supports: Validation examples of each class, (C,); empty where they are unknown.
        class_names: Names of the classes.
        metric: What a score is; None where the study names a class that it does not have.
    """

    shares: tuple[float, ...] = ()
    entropy: float = 0.0
    supports: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    metric: Metric | None = None


def list_facts(study: Study) -> tuple[TrialFacts, ...]:
    """Return the facts of each trial that has an epoch, by number."""
    targets = _read_targets(study)
    errors = _score_errors(study, targets)
    rows = {int(row.trial): row for row in study.results.itertuples()}
    columns = ("train_loss", "val_loss", "score", "learning_rate", "class_f1")
    train, val, scores, rates, class_f1 = (study.curves[name].to_numpy() for name in columns)
    found = []
    for trial, at in sorted(study.curves.groupby("trial").indices.items()):
        row = rows[int(trial)]
        found.append(
            measure(
                int(trial),
                scores[at].tolist(),
                train_losses=train[at].tolist(),
                val_losses=val[at].tolist(),
                rates=rates[at].tolist(),
                class_f1=class_f1[at[-_SILENT_EPOCHS:]].tolist(),
                params=json.loads(row.params),
                outcome=row.outcome if isinstance(row.outcome, str) else None,
                error=errors.get(int(trial), math.nan),
                targets=targets,
            )
        )
    return tuple(found)


def measure(
    trial: int,
    scores: Sequence[float],
    *,
    train_losses: Sequence[float],
    val_losses: Sequence[float],
    targets: Targets,
    error: float = math.nan,
    params: Mapping[str, Any] | None = None,
    outcome: str | None = "exhausted",
    rates: Sequence[float] = (),
    class_f1: Sequence[object] = (),
) -> TrialFacts:
    """Return the facts of one trial.

    Args:
        trial: Number of the trial.
        scores: Score per epoch, (E,).
        train_losses: Likewise.
        val_losses: Likewise.
        targets: The study's.
        error: Standard error of the best score.
        params: Its hyperparameters.
        outcome: Why it ended, None while it runs.
        rates: Learning rate per epoch, (E,); empty: it never changes.
        class_f1: F1 of each class in the last epochs, JSON lists or lists, (E', C).
    """
    params = params or {}
    values = np.asarray(scores, dtype=np.float64)
    best = int(np.nanargmax(values)) if np.isfinite(values).any() else None
    val = fit_curve(val_losses, rates)
    ahead = look_ahead(scores, error=error, rates=rates, val=val)
    return TrialFacts(
        trial=trial,
        outcome=outcome,
        epochs=len(values),
        params=params,
        best_epoch=None if best is None else best + 1,
        best_score=math.nan if best is None else float(values[best]),
        last_score=float(values[-1]),
        error=error,
        is_cut=outcome is None or outcome in CUT,
        score=ahead[0] if ahead else fit_curve(scores, rates),
        train=fit_curve(train_losses, rates),
        val=val,
        outlook=ahead[1] if ahead else None,
        is_annealed=_is_annealed(rates),
        even_loss=math.log(len(targets.shares)) if targets.shares else math.nan,
        guess_loss=_guess_loss(targets, params),
        floor=_floor(targets, params),
        guess_score=_guess_score(targets),
        scores=tuple(scores),
        train_losses=tuple(train_losses),
        val_losses=tuple(val_losses),
        silent=_silent(class_f1, targets, 0.0 if best is None else float(values[best])),
    )


def _read_targets(study: Study) -> Targets:
    first = study.class_scores[study.class_scores["trial"] == study.class_scores["trial"].min()]
    supports = tuple(int(each) for each in first["support"])
    names = study.class_names or tuple(str(each) for each in first["class_name"])
    if not supports and study.targets is not None:
        supports = tuple(np.bincount(study.targets, minlength=len(names)).tolist())
    try:
        metric = make_metric(str(study.config.get("metric", "macro-f1")), names)
    except ValueError:
        metric = None
    total = sum(supports)
    shares = tuple(each / total for each in supports) if total else ()
    if study.data is None:
        return Targets(shares, 0.0, supports, names, metric)
    data = study.data
    return Targets(data.train_shares or shares, data.target_entropy, supports, names, metric)


def _score_errors(study: Study, targets: Targets) -> dict[int, float]:
    """Return the error of each trial's score; that of the nearest score where it is unknown."""
    if targets.metric is None:
        return {}
    tables = dict(study.confusions)
    if study.targets is not None:
        for trial, predictions in study.predictions.items():
            if trial not in tables:
                counts = noise.count_confusion(
                    study.targets, predictions, len(targets.class_names)
                )
                tables[trial] = counts
    known = {trial: noise.score_error(table, targets.metric) for trial, table in tables.items()}
    scores = dict(zip(study.results["trial"], study.results["best_score"], strict=True))
    errors = dict(known)
    for trial, score in scores.items():
        if trial not in known and known and math.isfinite(score):
            nearest = min(known, key=lambda other: abs(scores[other] - score))
            errors[int(trial)] = known[nearest]
    return errors


def _is_annealed(rates: Sequence[float]) -> bool:
    """Return whether the rate only falls, and far, since its last step and its highest."""
    since = np.array(rates[last_step(rates) - 1 :], dtype=np.float64)
    if not np.isfinite(since).all() or not len(since):
        return False
    falls = np.diff(since[int(since.argmax()) :])
    return bool((falls <= 0).all() and since[-1] < _ANNEALED * since.max())


def _guess_loss(targets: Targets, params: Mapping[str, Any]) -> float:
    shares = np.array([each for each in targets.shares if each > 0], dtype=np.float64)
    if len(shares) < 2:
        return math.nan
    if params.get("class_weights") == "balanced":
        shares = np.full(len(shares), 1.0)
    smoothing = float(params.get("label_smoothing") or 0.0)
    return _entropy((1 - smoothing) * shares / shares.sum() + smoothing / len(shares))


def _floor(targets: Targets, params: Mapping[str, Any]) -> float:
    """Return the targets' entropy, or at least what label smoothing adds to it."""
    smoothing, classes = float(params.get("label_smoothing") or 0.0), len(targets.shares)
    if not smoothing or classes < 2:
        return targets.entropy
    smoothed = np.full(classes, smoothing / classes)
    smoothed[0] += 1 - smoothing
    # Entropy is concave: a mixture has at least the mixed entropies.
    mixed = (1 - smoothing) * targets.entropy + smoothing * math.log(classes)
    return max(_entropy(smoothed), mixed) if targets.entropy else _entropy(smoothed)


def _guess_score(targets: Targets) -> float:
    if targets.metric is None or not sum(targets.supports):
        return math.nan
    return noise.guess_score(targets.supports, targets.metric)


def _silent(class_f1: Sequence[object], targets: Targets, score: float) -> tuple[str, ...]:
    """Return the classes that have no right prediction, which chance does not explain.

    Half of the best score stands for the recall that a class might have had: with n examples it
    would be missed by chance in ``(1 - score / 2) ** n``, times the number of classes.
    """
    rows = [json.loads(row) if isinstance(row, str) else row for row in class_f1]
    if len(rows) < _SILENT_EPOCHS or not targets.supports:
        return ()
    lost = (np.nan_to_num(np.array(rows, dtype=np.float64)) == 0).all(axis=0)
    supports = np.array(targets.supports)
    by_chance = len(supports) * (1 - min(max(score / 2, 0.0), 1.0)) ** supports
    names = targets.class_names or tuple(map(str, range(len(supports))))
    return tuple(names[index] for index in np.flatnonzero(lost & (by_chance < _CHANCE)))


def _entropy(shares: Floats) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())
