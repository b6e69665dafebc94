"""Literal results of a sweep of one space, and the advice on them."""

import json
from typing import Any

import pandas as pd

from search_spaces.space import parse_space
from sweeps.analysis import advice, epoch_advice
from sweeps.analysis.range_advice import Advice
from sweeps.budget import Budget

SPACE = parse_space(
    {
        "optimizer": ["adam", "sgd"],
        "learning_rate": {
            "low": 1e-3,
            "high": 1e-1,
            "log": True,
            "by_optimizer": {"sgd": {"low": 0.1, "high": 1.0}},
        },
        "beta1": {"low": 0.8, "high": 0.99},
        "dropout": {"low": 0.0, "high": 0.5},
        "batch_size": 50,
        "model": {"filters": {"low": 20, "high": 100, "int": True}},
    }
).to_table()
MIDDLE = {
    "optimizer": "adam",
    "learning_rate": 0.01,
    "betas": [0.95, 0.999],
    "dropout": 0.25,
    "batch_size": 50,
    "model": {"filters": 60},
}


def results(scores: list[float], params: list[dict[str, Any]], **columns: Any) -> pd.DataFrame:
    frame = {
        "trial": range(n := len(scores)),
        "outcome": ["stalled"] * n,
        "best_score": scores,
        "best_epoch": [9] * n,
        "best_val_loss": [0.6] * n,
        "epochs_run": [23] * n,
        "epochs_to_99": [10] * n,
        "would_stop_epoch": [pd.NA] * n,
        "optimizer": [each["optimizer"] for each in params],
        "params": [json.dumps(each) for each in params],
    }
    return pd.DataFrame(frame | columns)


def judged(verdict: str, n: int, *, needed: list[int] | None = None) -> pd.DataFrame:
    columns = {"verdicts": [verdict] * n, "advice": "", "epochs_needed": needed or [10] * n}
    columns["evidence"] = [""] * n
    return pd.DataFrame({"trial": range(n), **columns, "sampling_error": [0.014] * n})


def advise(
    frame: pd.DataFrame,
    verdicts: pd.DataFrame,
    *,
    max_epochs: int = 23,
    error: float = 0.014,
    budget: Budget | None = None,
) -> list[Advice]:
    epochs = epoch_advice.plan_epochs(frame, verdicts, max_epochs=max_epochs)
    return advice.advise(frame, SPACE, verdicts, epochs=epochs, error=error, budget=budget)
