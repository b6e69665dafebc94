"""Columns and dtypes of the DataFrames that ``queries`` returns; the same when a frame is empty.

Integers that may be missing are ``Int64``, texts ``string`` (missing: ``pd.NA``), numbers
``float64`` (missing: NaN), moments UTC. What a column means and its unit stands in
``schema.py`` under the same name; the others are explained here.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MOMENT = "datetime64[us, UTC]"

#: ``num_unfinished``: running or interrupted trials; ``best_trial``: the one with the highest
#: ``best_score`` of those that may be ranked.
STUDIES: Mapping[str, str] = {
    "study": "string",
    "study_uuid": "string",
    "objective": "string",
    "created_at": MOMENT,
    "num_trials": "int64",
    "num_unfinished": "int64",
    "best_trial": "Int64",
    "best_score": "float64",
}

#: ``lane`` and ``step_seconds``: JSON objects.
LANE_SLOTS: Mapping[str, str] = {
    "token": "string",
    "lane": "string",
    "device": "string",
    "slots": "int64",
    "step_seconds": "string",
    "measured_at": MOMENT,
}

#: Hyperparameters, missing where the optimizer or the study has none; ``model``: JSON object.
HYPERPARAMETERS: Mapping[str, str] = {
    "optimizer": "string",
    "learning_rate": "float64",
    "beta1": "float64",
    "beta2": "float64",
    "momentum": "float64",
    "dropout": "float64",
    "batch_size": "Int64",
    "class_weights": "string",
    "model": "string",
}

#: The views: ``score``, ``train_loss`` and ``val_loss`` are those at ``epoch``.
EPOCHS: Mapping[str, str] = {
    "study": "string",
    "study_uuid": "string",
    "trial": "int64",
    "attempt": "int64",
    "outcome": "string",
    "score": "float64",
    "epoch": "Int64",
    "train_loss": "float64",
    "val_loss": "float64",
    "epochs_run": "int64",
    **HYPERPARAMETERS,
    "seed": "int64",
    "reason": "string",
    "started_at": MOMENT,
    "finished_at": MOMENT,
}

#: ``class_f1``: JSON list by class index.
CURVES: Mapping[str, str] = {
    "trial": "int64",
    "epoch": "int64",
    "train_loss": "float64",
    "val_loss": "float64",
    "score": "float64",
    "class_f1": "string",
    "learning_rate": "float64",
    "grad_norm": "float64",
    "seconds": "float64",
}

CLASS_SCORES: Mapping[str, str] = {
    "trial": "int64",
    "class_index": "int64",
    "class_name": "string",
    "precision": "float64",
    "recall": "float64",
    "f1": "float64",
    "support": "int64",
}

#: ``confusion``: JSON list of rows, the true class, of counts by predicted class.
CONFUSIONS: Mapping[str, str] = {"trial": "int64", "confusion": "string"}

#: ``rank``: from 1, equal scores share one, missing where a trial is not ranked;
#: ``best_epoch``, ``best_score`` and ``epochs_run`` are those so far while a trial runs.
RESULTS: Mapping[str, str] = {
    "rank": "Int64",
    "trial": "int64",
    "outcome": "string",
    "reason": "string",
    "best_epoch": "Int64",
    "best_score": "float64",
    "last_epoch": "Int64",
    "last_score": "float64",
    "tail_score": "float64",
    "best_val_loss": "float64",
    "test_score": "float64",
    "value": "float64",
    "epochs_run": "int64",
    "epochs_to_95": "Int64",
    "epochs_to_99": "Int64",
    "seconds": "float64",
    "would_stop_outcome": "string",
    "would_stop_epoch": "Int64",
    "would_stop_score": "float64",
    **HYPERPARAMETERS,
    "params": "string",
    "attempt": "int64",
    "seed": "int64",
    "first_data_epoch": "Int64",
    "device": "string",
    "weights_file": "string",
    "weights_sha256": "string",
    "started_at": MOMENT,
    "finished_at": MOMENT,
}


def to_frame(rows: Sequence[Sequence[Any]], columns: Mapping[str, str]) -> "pd.DataFrame":
    """Return the rows as a frame with these columns and dtypes, an empty one included."""
    import pandas as pd

    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pd.DataFrame(
        {
            name: pd.Series(list(column), dtype=dtype)
            for (name, dtype), column in zip(columns.items(), values, strict=True)
        }
    )
