"""Columns and dtypes of the DataFrames that ``queries`` returns; the same when a frame is empty.

Integers that may be missing are ``Int64``, texts and JSON ``string`` (missing: ``pd.NA``), numbers
``float64`` (missing: NaN), moments UTC. What a column means stands in ``records`` or here.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Column, Table

from storage import schema
from storage.records import EpochRecord, HeldStop, NewTrial, Placed, TrialEnd, Weights

if TYPE_CHECKING:
    import pandas as pd

MOMENT = "datetime64[us, UTC]"
_DTYPES = {schema.Real: "float64", schema.UtcDateTime: MOMENT, Boolean: "boolean"}


def find_dtype(column: Column[Any]) -> str:
    """Return the type that a column has in a frame."""
    if isinstance(column.type, BigInteger):
        return "Int64" if column.nullable else "int64"
    return _DTYPES.get(type(column.type), "string")


def _dtypes(table: Table, *names: str) -> dict[str, str]:
    return {name: find_dtype(table.c[name]) for name in names or table.c.keys()}


def _names(*records: type) -> list[str]:
    return [name for record in records for name in schema.column_names(record)]


#: ``num_unfinished``: trials that wait, run or were interrupted; ``best_trial``: the first of
#: those that may be ranked.
STUDIES: Mapping[str, str] = {
    "study": "string",
    "study_uuid": "string",
    **_dtypes(schema.STUDIES, "objective", "metric", "created_at"),
    **{"num_trials": "int64", "num_unfinished": "int64"},
    **{"best_trial": "Int64", "best_score": "float64"},
}

#: The views: ``score``, ``train_loss`` and ``val_loss`` are those at ``epoch``.
EPOCHS: Mapping[str, str] = _dtypes(schema.BEST_EPOCHS)

#: Hyperparameters, missing where the trial has none or it is off; ``model``: JSON object.
HYPERPARAMETERS: Mapping[str, str] = {name: EPOCHS[name] for name in schema.HYPERPARAMETERS}

CURVES: Mapping[str, str] = _dtypes(schema.EPOCH_RECORDS, "trial", *_names(EpochRecord))

CLASS_SCORES: Mapping[str, str] = _dtypes(schema.CLASS_SCORES, *schema.CLASS_SCORES.c.keys()[1:])

#: ``rank``: from 1, equal scores share one, missing where a trial is not ranked;
#: ``best_epoch``, ``best_score``, ``best_val_loss`` and ``epochs_run`` are those so far while a
#: trial runs.
RESULTS: dict[str, str] = {
    "rank": "Int64",
    **_dtypes(schema.TRIAL_RESULTS, "trial", *_names(TrialEnd, Weights, HeldStop)),
    "epochs_run": "int64",
    **HYPERPARAMETERS,
    **_dtypes(schema.TRIAL_RESULTS, *_names(NewTrial, Placed)),
    **_dtypes(schema.TRIAL_RESULTS, "kills", "started_at", "finished_at"),
}
del RESULTS["confusion"]


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
