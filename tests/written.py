"""Studies of known curves, written as a run writes them; nothing is trained."""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from storage import recorder
from storage.database import open_database
from storage.records import (
    ClassScore,
    EpochRecord,
    HeldStop,
    Holder,
    NewTrial,
    Placed,
    StudyRow,
    TrialEnd,
    Weights,
)
from sweeps.curves import best_epoch, epochs_to_fraction, tail_mean

NOW = datetime(2031, 5, 7, 11, 13, 17, tzinfo=UTC)
#: Who runs a study that ``hold`` holds.
HOLDER = Holder("node7", 4211, NOW)
SUPPORTS = (31, 41, 53)
ADAM: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 0.00123456,
    "beta1": 0.9,
    "beta2": 0.99876,
    "dropout": 0.4567891,
    "batch_size": 50,
    "class_weights": "none",
    "model": {"filters": 150, "vectors": "trainable"},
}
SGD = {name: value for name, value in ADAM.items() if name not in ("beta1", "beta2")} | {
    "optimizer": "sgd",
    "learning_rate": 0.25,
    "momentum": 0.5,
    "batch_size": 100,
}
NAN = float("nan")
Trials = Sequence[tuple[dict[str, Any], Sequence[float], str | None]]
#: Parameters, curve and outcome of each trial; trial 1 is the best by its last epoch.
EACH_OUTCOME: Trials = [
    (ADAM, [0.31, 0.7132, 0.69, 0.61], "stalled"),
    (SGD, [0.30, 0.50, 0.70], "exhausted"),
    (ADAM | {"learning_rate": 0.002}, [0.11, NAN, NAN], "diverged"),
    (ADAM | {"dropout": 0.2}, [0.20, 0.25], None),
    (ADAM | {"dropout": 0.3}, [], "failed"),
]

_SPACE = {"optimizer": "adam", "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
_PARAMS = {"optimizer": "adam", "learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999}


def write_study(
    name: str,
    curves: Sequence[Sequence[float]],
    *,
    outcomes: Mapping[int, str | None] | None = None,
    params: Mapping[int, Mapping[str, Any]] | None = None,
    train_losses: Mapping[int, Sequence[float]] | None = None,
    val_losses: Mapping[int, float] | None = None,
    held: Mapping[int, tuple[str, int, float]] | None = None,
    segments: Mapping[int, Sequence[tuple[int, int]]] | None = None,
    weights: Mapping[int, str] | None = None,
    ends: Mapping[int, Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = ("a", "b", "c"),
    fingerprint: str = "data",
    seed: int = 7,
    url: str = "bestepoch.db",
) -> None:
    """Write a study with a trial a curve, in the order of its number.

    Args:
        name: Name of the study; its UUID is made of it.
        curves: Score of each epoch.
        outcomes: How trials ended that did not stall; None: it waits or runs.
        params: Parameters of trials, laid over the usual ones; one that is None is left out.
        train_losses: Training loss of each epoch, where it is not 0.5.
        val_losses: Validation loss of all epochs, where it is not 0.6.
        held: Outcome, epoch and best score with which audited trials would have ended.
        segments: Of trials that were not trained in one part.
        weights: Files of trials that have one.
        ends: Fields of ``TrialEnd`` to be written over.
        config: Settings, laid over the usual ones.
        class_names: Up to three.
        fingerprint: That of the data.
        seed: Of each trial.
        url: The database.
    """
    settings = {"max_epochs": 20, "min_delta": 0.001, "space": _SPACE, "data": None}
    settings |= config or {}
    key = uuid_of(name)
    study = StudyRow(
        key,
        name,
        "relation-cnn",
        "macro-f1",
        NOW,
        settings,
        tuple(class_names),
        fingerprint,
        {"torch": "2.13.0"},
    )
    usual = {**_PARAMS, "batch_size": 50, "model": {}}
    with open_database(url, create=True) as db:
        recorder.create_study(db, study)
        for number, scores in enumerate(curves):
            given = usual | dict((params or {}).get(number, {}))
            given = {key: value for key, value in given.items() if value is not None}
            recorder.begin_trials(db, key, [NewTrial(number, seed, given)], now=NOW)
            losses = (train_losses or {}).get(number, [0.5] * len(scores))
            val_loss = (val_losses or {}).get(number, 0.6)
            rows = [
                EpochRecord(number, i, losses[i - 1], val_loss, score, f1, 0.01, 1.5, 0.1)
                for i, score in enumerate(scores, start=1)
                for f1 in [(score,) * len(class_names)]
            ]
            own = tuple((segments or {}).get(number, [(0, len(scores))]))
            placed = [Placed(number, "stacked", "cpu", own)] if scores else []
            stops = [HeldStop(number, *held[number])] if held and number in held else []
            recorder.record(db, key, placed=placed, epochs=rows, held=stops, now=NOW)
            outcome = (outcomes or {}).get(number, "stalled")
            if outcome is not None:
                end = _make_end(number, scores, outcome, class_names=class_names)
                loss = val_loss if end.best_epoch else None
                end = replace(end, best_val_loss=loss, **(ends or {}).get(number, {}))
                recorder.record(db, key, stopped=[end], now=NOW)
            if weights and number in weights:
                path = db.weights_dir / weights[number]
                sha256 = hashlib.sha256(path.read_bytes() if path.is_file() else b"").hexdigest()
                kept = Weights(number, weights[number], sha256)
                recorder.record(db, key, weights=[kept], now=NOW)


def write_each_outcome(
    trials: Trials = EACH_OUTCOME, *, name: str = "relation", **given: Any
) -> None:
    """Write a study with a trial of each outcome, or with those given."""
    write_study(
        name,
        [curve for _, curve, _ in trials],
        outcomes={number: outcome for number, (_, _, outcome) in enumerate(trials)},
        params={
            number: {"beta1": None, "beta2": None, **given}
            for number, (given, _, _) in enumerate(trials)
        },
        **given,
    )


def confuse(score: float, supports: Sequence[int] = SUPPORTS) -> list[list[int]]:
    """Return a confusion matrix in which about this share of each class is right."""
    rows = [[0] * len(supports) for _ in supports]
    for index, support in enumerate(supports):
        rows[index][index] = round(score * support)
        rows[index][(index + 1) % len(supports)] = support - rows[index][index]
    return rows


@contextmanager
def hold(study: str, *, url: str = "bestepoch.db") -> Iterator[None]:
    """Hold a study as the process ``HOLDER`` does that runs it."""
    with open_database(url, create=True) as db, db.hold_study(study, holder=HOLDER):
        yield


def uuid_of(study: str) -> str:
    """Return the UUID of a study of this name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, study))


def _make_end(
    number: int,
    scores: Sequence[float],
    outcome: str,
    *,
    class_names: Sequence[str],
) -> TrialEnd:
    best = best_epoch(scores)
    best_score = None if best is None else scores[best - 1]
    f1 = best_score or 0.0
    classes = [
        ClassScore(index, name, f1, f1, f1, support)
        for index, (name, support) in enumerate(zip(class_names, SUPPORTS, strict=False))
    ]
    return TrialEnd(
        number,
        outcome,
        f"it {outcome}",
        value={"diverged": 0.0, "failed": None}.get(outcome, best_score),
        best_epoch=best,
        best_score=best_score,
        last_epoch=len(scores) or None,
        last_score=scores[-1] if scores else None,
        tail_score=tail_mean(scores) if scores else None,
        epochs_run=len(scores),
        epochs_to_95=epochs_to_fraction(scores, 0.95),
        epochs_to_99=epochs_to_fraction(scores, 0.99),
        seconds=len(scores) * 0.1,
        class_scores=tuple(classes) if scores else (),
    )
