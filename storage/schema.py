"""Tables and views: what is stored about a study, its trials and their epochs.

A study is keyed by a UUID that also stands in the Optuna study's user attribute
``bestepoch:uuid``, because Optuna's own ids are used again after a delete. Units: scores are
macro-F1 or F1 in [0, 1]; losses are mean cross-entropy in nats an example; times are seconds;
timestamps are UTC. A NaN is stored as NULL in every database (SQLite cannot hold one, and
PostgreSQL sorts it above all numbers); infinities are stored as they are.

To rank by hand: ``select * from best_epochs where study = '...' and outcome not in
('diverged', 'failed') order by score desc nulls last``.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    TableClause,
    Text,
    column,
    table,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

#: The user attribute of the Optuna study that holds our UUID.
UUID_ATTRIBUTE = "bestepoch:uuid"

#: Outcomes of trials that have ended; such a row never changes again, except for ``told``.
ENDED = ("stalled", "exhausted", "behind", "diverged", "failed")
#: Outcomes whose score may be ranked.
RANKED = ("stalled", "exhausted", "behind")
INTERRUPTED = "interrupted"


class Real(TypeDecorator[float]):
    """A double; NaN is stored as NULL, infinities as they are."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """Return what is stored: the number as a Python float, None for NaN."""
        if value is None or math.isnan(value):
            return None
        return float(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment; aware in Python, UTC in the database (text without a zone in SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC; it must be aware."""
        if value is None:
            return None
        assert value.tzinfo is not None, f"{value!r} has no time zone"
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _col(name: str, kind: Any, comment: str, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=options.pop("nullable", False), comment=comment, **options)


def _maybe(name: str, kind: Any, comment: str) -> Column[Any]:
    return _col(name, kind, comment, nullable=True)


def _key(name: str, kind: Any, comment: str) -> Column[Any]:
    # SQLite counts an INTEGER key column up by itself unless told not to.
    return _col(name, kind, comment, primary_key=True, autoincrement=False)


METADATA = MetaData()

SCHEMA = Table(
    "bestepoch_schema",
    METADATA,
    _key("version", Integer, "number of the migration step, from 1"),
    _col("applied_at", UtcDateTime, "when the step was applied, UTC, the database's clock"),
    comment="Version of our tables; Optuna keeps its own in alembic_version.",
)

STUDIES = Table(
    "bestepoch_studies",
    METADATA,
    _key("uuid", Text, "UUID of the study, also in Optuna's user attribute bestepoch:uuid"),
    _col("name", Text, "name of the study, as in Optuna", unique=True),
    _col("objective", Text, "what is trained: a shipped objective's name, or FILE:CLASS"),
    _col("created_at", UtcDateTime, "when the study was created, UTC"),
    _col("config", Text, "settings of the sweep, a JSON object"),
    _maybe("class_names", Text, "names of the classes by index, a JSON list; null: not loaded"),
    _maybe("data_fingerprint", Text, "SHA-256 over the data's arrays; null: not loaded"),
    comment="One row a study: its settings.",
)


def _study_key() -> Column[str]:
    return Column(
        "study_uuid",
        Text,
        ForeignKey(STUDIES.c.uuid, ondelete="CASCADE"),
        primary_key=True,
        comment="UUID of the study",
    )


TRIAL_RESULTS = Table(
    "trial_results",
    METADATA,
    _col("study", Text, "name of the study"),
    _study_key(),
    _key("trial", Integer, "Optuna's trial number, from 0"),
    _col("attempt", Integer, "how often the trial was begun, from 1; only the last one counts"),
    _maybe("token", Text, "UUID of this attempt's owner, who alone may write; null: released"),
    _col("host", Text, "name of the machine of the owner"),
    _col("pid", Integer, "process number of the owner on that machine"),
    _col("process_started", Double, "when the owner's process began, seconds since 1970, UTC"),
    _maybe(
        "outcome",
        Text,
        "why the trial ended: stalled, exhausted, behind, diverged or failed; interrupted: to be"
        " taken up again; null: running",
    ),
    _maybe("reason", Text, "the outcome in a sentence"),
    _col("seed", BigInteger, "seed of the initial weights and of dropout, 0 to 2^63 - 1"),
    _maybe("first_data_epoch", Integer, "data epochs its lane had trained before it entered"),
    _col("params", Text, "hyperparameters, a JSON object, betas as betas"),
    _maybe("value", Real, "what Optuna is told, macro-F1; null for failed trials"),
    _col("told", Boolean, "whether Optuna has been told"),
    _maybe("best_epoch", Integer, "epoch of the highest validation macro-F1, from 1, earliest"),
    _maybe("best_score", Real, "validation macro-F1 at the best epoch, 0 to 1"),
    _maybe("last_epoch", Integer, "last epoch that was trained, from 1"),
    _maybe("last_score", Real, "validation macro-F1 at the last epoch, 0 to 1"),
    _maybe("tail_score", Real, "mean validation macro-F1 of the last 5 epochs, 0 to 1"),
    _maybe("best_val_loss", Real, "validation loss at the best epoch, nats an example"),
    _maybe("epochs_run", Integer, "epochs trained in this attempt"),
    _maybe("epochs_to_95", Integer, "first epoch with 95 % of the best macro-F1, from 1"),
    _maybe("epochs_to_99", Integer, "first epoch with 99 % of the best macro-F1, from 1"),
    _maybe("test_score", Real, "macro-F1 on the test set, 0 to 1; null until scored"),
    _maybe("seconds", Real, "wall-clock share of the trial, seconds"),
    _col("device", Text, "device of the owner, such as cpu or cuda:0"),
    _col("versions", Text, "versions of the libraries, a JSON object"),
    _maybe("data_fingerprint", Text, "SHA-256 over the data's arrays"),
    _maybe("weights_file", Text, "file of the best epoch's weights, in the weights folder"),
    _maybe("weights_sha256", Text, "SHA-256 of that file, hexadecimal"),
    _col("started_at", UtcDateTime, "when this attempt began, UTC"),
    _maybe("finished_at", UtcDateTime, "when the trial ended, UTC; null while running"),
    _maybe(
        "confusion",
        Text,
        "validation examples by true class and predicted class at the best epoch, a JSON list of"
        " rows; null: no epoch, over 50 classes, or written before version 4",
    ),
    _maybe("would_stop_outcome", Text, "stalled or behind: an audited trial's, which ran on"),
    _maybe("would_stop_epoch", Integer, "epoch at which it would have been stopped, from 1"),
    _maybe("would_stop_score", Real, "its best validation macro-F1 up to that epoch, 0 to 1"),
    comment="One row a trial: its owner, its outcome and its scores.",
)

#: The engine asks at each epoch which trials have ended, run, or are to be told: from this index,
#: it need not read 10,000 wide rows.
TRIALS_BY_OUTCOME = Index(
    "trial_results_by_outcome",
    *(TRIAL_RESULTS.c[name] for name in ("study_uuid", "outcome", "told", "trial")),
)

EPOCH_RECORDS = Table(
    "epoch_records",
    METADATA,
    _key("study_uuid", Text, "UUID of the study"),
    _key("trial", Integer, "Optuna's trial number, from 0"),
    _key("attempt", Integer, "attempt of the trial, from 1"),
    _key("epoch", Integer, "epoch of the attempt, from 1"),
    _maybe("train_loss", Real, "mean training loss with dropout, nats an example; null: NaN"),
    _maybe("val_loss", Real, "mean validation loss, nats an example; null: NaN"),
    _maybe("score", Real, "validation macro-F1, 0 to 1; null: NaN"),
    _col("class_f1", Text, "validation F1 of each class by index, a JSON list; null: NaN"),
    _maybe("learning_rate", Real, "rate of the epoch's last step; null: NaN"),
    _maybe("grad_norm", Real, "mean L2 norm of the gradient over the steps; null: NaN"),
    _maybe("seconds", Real, "wall-clock share of the trial in this epoch, seconds"),
    ForeignKeyConstraint(
        ["study_uuid", "trial"],
        [TRIAL_RESULTS.c.study_uuid, TRIAL_RESULTS.c.trial],
        ondelete="CASCADE",
    ),
    comment="One row an epoch of an attempt of a trial.",
    # The key is the row: half the size and one tree less to write an epoch to.
    sqlite_with_rowid=False,
)

CLASS_SCORES = Table(
    "class_scores",
    METADATA,
    _key("study_uuid", Text, "UUID of the study"),
    _key("trial", Integer, "Optuna's trial number, from 0"),
    _key("class_index", Integer, "index of the class, from 0"),
    _col("class_name", Text, "name of the class"),
    _maybe("precision", Real, "validation precision at the best epoch, 0 to 1"),
    _maybe("recall", Real, "validation recall at the best epoch, 0 to 1"),
    _maybe("f1", Real, "validation F1 at the best epoch, 0 to 1"),
    _col("support", Integer, "validation examples of the class"),
    ForeignKeyConstraint(
        ["study_uuid", "trial"],
        [TRIAL_RESULTS.c.study_uuid, TRIAL_RESULTS.c.trial],
        ondelete="CASCADE",
    ),
    comment="One row a class of a trial that has ended, at its best epoch.",
    sqlite_with_rowid=False,
)

LANE_SLOTS = Table(
    "lane_slots",
    METADATA,
    _study_key(),
    _key("token", Text, "UUID of the worker that measured"),
    _key("lane", Text, "what its trials share, a JSON object: batch_size, model, code_path"),
    _col("device", Text, "device of the worker, such as cpu or cuda:0"),
    _col("slots", Integer, "slots that were chosen"),
    _col("step_seconds", Text, "seconds a training step a trial, a JSON object by slots"),
    _col("measured_at", UtcDateTime, "when it was measured, UTC"),
    comment="One row a lane that a worker timed: how many slots it got, and why.",
    sqlite_with_rowid=False,
)

_VIEW_COLUMNS: tuple[tuple[str, TypeEngine[Any]], ...] = (
    ("study", Text()),
    ("study_uuid", Text()),
    ("trial", Integer()),
    ("attempt", Integer()),
    ("outcome", Text()),
    ("score", Real()),
    ("epoch", Integer()),
    ("train_loss", Real()),
    ("val_loss", Real()),
    ("epochs_run", Integer()),
    ("optimizer", Text()),
    ("learning_rate", Real()),
    ("beta1", Real()),
    ("beta2", Real()),
    ("momentum", Real()),
    ("dropout", Real()),
    ("batch_size", Integer()),
    ("class_weights", Text()),
    ("model", Text()),
    ("seed", BigInteger()),
    ("reason", Text()),
    ("started_at", UtcDateTime()),
    ("finished_at", UtcDateTime()),
)


def _view(name: str) -> TableClause:
    return table(name, *(column(each, kind) for each, kind in _VIEW_COLUMNS))


#: One row a trial of its current attempt, at its best epoch so far; every outcome is present.
BEST_EPOCHS = _view("best_epochs")
#: The same columns at the last epoch so far.
LAST_EPOCHS = _view("last_epochs")


def create_views(dialect: str) -> tuple[str, ...]:
    """Return the statements that create the views, for ``sqlite`` or ``postgresql``."""
    best = "score DESC NULLS LAST, epoch"
    return (
        f"CREATE VIEW best_epochs AS {_view_sql(dialect, shown='best', order=best)}",
        f"CREATE VIEW last_epochs AS {_view_sql(dialect, shown='last', order='epoch DESC')}",
    )


def _view_sql(dialect: str, *, shown: str, order: str) -> str:
    read = _JSON_READERS[dialect]
    own = "e.study_uuid = r.study_uuid AND e.trial = r.trial AND e.attempt = r.attempt"
    # The subselects run only for trials without a result yet: COALESCE stops at the first value.
    return f"""
SELECT r.study, r.study_uuid, r.trial, r.attempt, r.outcome,
    COALESCE(r.{shown}_score, s.score) AS score,
    r.shown_epoch AS epoch, s.train_loss, s.val_loss,
    COALESCE(r.epochs_run, (SELECT count(*) FROM epoch_records e WHERE {own})) AS epochs_run,
    {read("optimizer", "TEXT")} AS optimizer,
    {read("learning_rate", "DOUBLE PRECISION")} AS learning_rate,
    {read("betas.0", "DOUBLE PRECISION")} AS beta1,
    {read("betas.1", "DOUBLE PRECISION")} AS beta2,
    {read("momentum", "DOUBLE PRECISION")} AS momentum,
    {read("dropout", "DOUBLE PRECISION")} AS dropout,
    {read("batch_size", "INTEGER")} AS batch_size,
    {read("class_weights", "TEXT")} AS class_weights,
    {read("model", "TEXT")} AS model,
    r.seed, r.reason, r.started_at, r.finished_at
FROM (
    SELECT r.*, COALESCE(r.{shown}_epoch, (
        SELECT e.epoch FROM epoch_records e WHERE {own} ORDER BY {order} LIMIT 1
    )) AS shown_epoch
    FROM trial_results r
) r
LEFT JOIN epoch_records s ON s.study_uuid = r.study_uuid AND s.trial = r.trial
    AND s.attempt = r.attempt AND s.epoch = r.shown_epoch"""


def _read_sqlite(path: str, kind: str) -> str:
    name, _, index = path.partition(".")
    place = f"$.{name}[{index}]" if index else f"$.{name}"
    return f"CAST(json_extract(r.params, '{place}') AS {kind})"


def _read_postgresql(path: str, kind: str) -> str:
    return f"CAST(CAST(r.params AS jsonb) #>> '{{{path.replace('.', ',')}}}' AS {kind})"


_JSON_READERS: dict[str, Callable[[str, str], str]] = {
    "sqlite": _read_sqlite,
    "postgresql": _read_postgresql,
}
