"""Tables and views: what is stored about a study, its trials and their epochs.

A study is keyed by a UUID that also stands in the Optuna study's user attribute
``bestepoch:uuid``, because Optuna's own ids are used again after a delete. Columns come from the
fields of ``records``. A NaN is stored as NULL (SQLite cannot hold one, and PostgreSQL sorts it
above all numbers); infinities are stored as they are; timestamps are UTC.

To rank by hand: ``select * from best_epochs where study = '...' and outcome not in
('diverged', 'failed') order by score desc nulls last, val_loss nulls last, trial``.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, MetaData, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from search_spaces.hparams import Hparams
from storage import records

#: The user attribute of the Optuna study that holds our UUID.
UUID_ATTRIBUTE = "bestepoch:uuid"

CUT_SHORT, BEHIND = "cut short", "behind"
#: Outcomes of trials that have ended.
ENDED = ("stalled", "exhausted", CUT_SHORT, BEHIND, "diverged", "failed")
#: Outcomes whose score may be ranked.
RANKED = ("stalled", "exhausted", CUT_SHORT, BEHIND)
INTERRUPTED = "interrupted"
PAUSED = "paused"


class Real(TypeDecorator[float]):
    """A double; NaN is stored as NULL, infinities as they are."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """Return what is stored: the number as a Python float, None for NaN."""
        return None if value is None or math.isnan(value) else float(value)


class Words(TypeDecorator[str]):
    """A text, without what a database refuses."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text without NUL (PostgreSQL) and halves of a pair (UTF-8)."""
        return value and value.replace("\x00", " ").encode("utf-8", "replace").decode()


class Json(TypeDecorator[Any]):
    """A JSON text of a mapping or a sequence; NaN in a sequence of numbers is null."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return the JSON text; a NaN elsewhere is an error."""
        if value is None:
            return None
        if isinstance(value, Mapping):
            return json.dumps(dict(value), allow_nan=False)
        # NaN is not JSON: neither database could read the text.
        return json.dumps([None if each != each else each for each in value], allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Return the decoded value."""
        return None if value is None else json.loads(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment; aware in Python, UTC in the database (text without a zone in SQLite)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC; it must be aware."""
        assert value is None or value.tzinfo is not None, f"{value!r} has no time zone"
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_SQL_TYPES: Any = {
    int: BigInteger,
    float: Real,
    str: Words,
    bytes: sa.LargeBinary,
    datetime: UtcDateTime,
}


@cache
def column_names(record: type) -> tuple[str, ...]:
    """Return the fields of a record that are columns, in its order."""
    hints: dict[str, Any] = record.__annotations__
    return tuple(name for name, hint in hints.items() if get_origin(hint) is Annotated)


def _columns(record: type, *, keys: tuple[str, ...] = (), is_late: bool = False) -> list[Any]:
    """Return the columns of a record; one that is late is written after the row exists."""
    columns: list[Column[Any]] = []
    for name in column_names(record):
        kind, comment = get_args(record.__annotations__[name])
        options = get_args(kind) if isinstance(kind, UnionType) else (kind,)
        # A float may be NaN, which is stored as NULL.
        is_nullable = is_late or kind is float or len(options) > 1
        kind, is_key = _SQL_TYPES.get(options[0], Json), name in keys
        columns.append(Column(name, kind, nullable=is_nullable, primary_key=is_key))
        columns[-1].comment = comment
    return columns


METADATA = MetaData()

SCHEMA = Table(
    "bestepoch_schema",
    METADATA,
    Column("version", BigInteger, primary_key=True, comment="version of our tables"),
    Column("applied_at", UtcDateTime, nullable=False, comment="when, UTC, the database's clock"),
    comment="Version of our tables; Optuna keeps its own in alembic_version.",
)

STUDIES = Table(
    "bestepoch_studies",
    METADATA,
    *_columns(records.StudyRow, keys=("uuid",)),
    sa.UniqueConstraint("name"),
    comment="One row a study: its settings.",
)

HOLDERS = Table(
    "bestepoch_holders",
    METADATA,
    Column("study", Text, primary_key=True, comment="name of the study, which may not exist yet"),
    Column("token", Text, nullable=False, comment="UUID of this run of the study"),
    *_columns(records.Holder),
    comment="One row a study that is run, or whose last run was killed: who has its lock.",
)

_OF_STUDY = sa.ForeignKey(STUDIES.c.uuid, ondelete="CASCADE")
TRIAL_RESULTS = Table(
    "trial_results",
    METADATA,
    Column("study", Text, nullable=False, comment="name of the study"),
    Column("study_uuid", Text, _OF_STUDY, primary_key=True, comment="UUID of the study"),
    *_columns(records.NewTrial, keys=("trial",)),
    *_columns(records.Placed, is_late=True),
    *_columns(records.Checkpoint, is_late=True),
    Column("kills", BigInteger, nullable=False, comment="trainers that died training it"),
    *_columns(records.TrialEnd, is_late=True),
    *_columns(records.Weights, is_late=True),
    *_columns(records.HeldStop, is_late=True),
    Column("started_at", UtcDateTime, nullable=False, comment="when the trial began, UTC"),
    Column("finished_at", UtcDateTime, comment="when the trial ended, UTC; null: not yet"),
    comment="One row a trial: what it is, its outcome and its scores.",
)

#: The order of trials: higher score, lower validation loss, earlier number.
BEST_FIRST = (
    TRIAL_RESULTS.c.best_score.desc().nulls_last(),
    TRIAL_RESULTS.c.best_val_loss.asc().nulls_last(),
    TRIAL_RESULTS.c.trial,
)


def _table_of_trials(name: str, *columns: Any, **options: Any) -> Table:
    """Return a table whose rows belong to trials, and go with them."""
    key = [TRIAL_RESULTS.c.study_uuid, TRIAL_RESULTS.c.trial]
    return Table(
        name,
        METADATA,
        Column("study_uuid", Text, primary_key=True, comment="UUID of the study"),
        Column("trial", BigInteger, primary_key=True, comment="number of the trial, from 0"),
        *columns,
        sa.ForeignKeyConstraint(["study_uuid", "trial"], key, ondelete="CASCADE"),
        # The key is the row: half the size and one tree less to write an epoch to.
        sqlite_with_rowid=False,
        **options,
    )


EPOCH_RECORDS = _table_of_trials(
    "epoch_records",
    *_columns(records.EpochRecord, keys=("epoch",)),
    comment="One row an epoch of a trial.",
)

CLASS_SCORES = _table_of_trials(
    "class_scores",
    *_columns(records.ClassScore, keys=("class_index",)),
    comment="One row a class of a trial that has ended, at its best epoch.",
)

PREDICTIONS = _table_of_trials(
    "predictions",
    Column("predictions", sa.LargeBinary, nullable=False, comment="class of each example, a byte"),
    comment="One row a trial of a study's best 50: what it predicts on validation, best epoch.",
)


def _list_hyperparameters() -> dict[str, tuple[str, Any]]:
    """Return the place in ``params`` and the type of each hyperparameter, by column name."""
    found: dict[str, tuple[str, Any]] = {}
    kinds: dict[Any, Any] = {float: Real(), int: BigInteger(), bool: Boolean()}
    for name, info in Hparams.model_fields.items():
        kind: Any = info.annotation
        # An optional hyperparameter, or one with limits: float | None, Annotated[float, ...].
        while get_origin(kind) not in (None, Literal, dict):
            kind = get_args(kind)[0]
        found[name] = (name, kinds.get(kind, Text()))
    return found


_HYPERPARAMETERS = _list_hyperparameters()
_OFF = "hyperparameter; null: the trial has none, or it is off"
#: Columns of the views with a hyperparameter; NULL: the trial has none, or it is off.
HYPERPARAMETERS = tuple(_HYPERPARAMETERS)


def _best_epochs() -> Table:
    trial, epoch = TRIAL_RESULTS.c, EPOCH_RECORDS.c
    last = ("seed", "kills", "path", "segments", "reason", "started_at", "finished_at")
    columns = [
        *(trial.study, trial.study_uuid, trial.trial, STUDIES.c.metric, trial.outcome),
        *(epoch.score, Column("epoch", BigInteger, comment="the best so far, from 1")),
        *(epoch.train_loss, epoch.val_loss),
        Column("epochs_run", BigInteger, nullable=False, comment="epochs trained so far"),
        *(Column(each, kind, comment=_OFF) for each, (_, kind) in _HYPERPARAMETERS.items()),
        *(trial[each] for each in last),
    ]
    copies = [
        Column(
            each.name,
            each.type,
            nullable=each.nullable,
            primary_key=each.primary_key,
            comment=each.comment,
        )
        for each in columns
    ]
    return Table("best_epochs", MetaData(), *copies, comment="One row a trial, at its best epoch.")


#: The view: a row a trial, of every outcome; score and losses are those at its best epoch so far.
BEST_EPOCHS = _best_epochs()


def create_view(dialect: str) -> str:
    """Return the statement that creates the view, for ``sqlite`` or ``postgresql``."""
    own = "e.study_uuid = r.study_uuid AND e.trial = r.trial"
    count = f"SELECT count(*) FROM epoch_records e WHERE {own}"
    # The subselects run only for trials without a result yet: COALESCE stops at the first value.
    special = {
        "metric": "m.metric",
        "score": "COALESCE(r.best_score, s.score)",
        "epoch": "r.shown_epoch",
        "train_loss": "s.train_loss",
        "val_loss": "s.val_loss",
        "epochs_run": f"COALESCE(r.epochs_run, ({count}))",
        **{name: _read_json(dialect, *read) for name, read in _HYPERPARAMETERS.items()},
    }
    names = [each.name for each in BEST_EPOCHS.c]
    columns = ", ".join(f"{special.get(name, f'r.{name}')} AS {name}" for name in names)
    return f"""
CREATE VIEW best_epochs AS SELECT {columns}
FROM (
    SELECT r.*, COALESCE(r.best_epoch, (
        SELECT e.epoch FROM epoch_records e WHERE {own}
        ORDER BY score DESC NULLS LAST, epoch LIMIT 1
    )) AS shown_epoch
    FROM trial_results r
) r
JOIN bestepoch_studies m ON m.uuid = r.study_uuid
LEFT JOIN epoch_records s ON s.study_uuid = r.study_uuid AND s.trial = r.trial
    AND s.epoch = r.shown_epoch"""


_SQL_NAMES = {Real: "DOUBLE PRECISION", BigInteger: "BIGINT", Boolean: "BOOLEAN", Text: "TEXT"}


def _read_json(dialect: str, place: str, kind: TypeEngine[Any]) -> str:
    value = f"json_extract(r.params, '$.{place}')"
    if dialect == "postgresql":
        steps = place.replace("[", ",").rstrip("]")
        value = f"CAST(r.params AS jsonb) #>> '{{{steps}}}'"
    return f"CAST({value} AS {_SQL_NAMES[type(kind)]})"
