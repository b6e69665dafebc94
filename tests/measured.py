"""Facts of trials whose curves a test gives; nothing is trained or stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from objectives.metrics import make_metric
from sweeps.analysis.facts import Targets, TrialFacts, measure

#: Standard error of a score where a test says nothing else.
ERROR = 0.01
TWO = Targets(
    shares=(0.5, 0.5),
    supports=(1500, 1500),
    class_names=("a", "b"),
    metric=make_metric("macro-f1", ("a", "b")),
)


def make(
    trial: int,
    scores: Sequence[float],
    params: Mapping[str, Any],
    *,
    outcome: str = "exhausted",
    train: Sequence[float] | None = None,
    val: Sequence[float] | None = None,
    error: float = ERROR,
) -> TrialFacts:
    """Return the facts of one trial of a balanced task of two classes."""
    losses = [0.5] * len(scores)
    return measure(
        trial,
        scores,
        train_losses=losses if train is None else train,
        val_losses=losses if val is None else val,
        targets=TWO,
        error=error,
        params={"optimizer": "adam", **params},
        outcome=outcome,
    )
