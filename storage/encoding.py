"""What the recorder writes, as the tables take it: JSON texts, plain numbers, clean words."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from storage.records import EpochRow, Owner, TrialResult


def owner_columns(owner: Owner, now: datetime) -> dict[str, Any]:
    """Return the columns of ``trial_results`` that say who trains, and since when."""
    return {
        "token": owner.token,
        "host": owner.host,
        "pid": owner.pid,
        "process_started": owner.process_started,
        "device": owner.device,
        "versions": to_json(owner.versions),
        "started_at": now,
    }


def epoch_columns(row: EpochRow) -> dict[str, Any]:
    """Return a row of ``epoch_records``."""
    return {
        "study_uuid": row.claim.study_uuid,
        "trial": row.claim.trial,
        "attempt": row.claim.attempt,
        "epoch": row.epoch,
        "train_loss": row.train_loss,
        "val_loss": row.val_loss,
        "score": row.score,
        "class_f1": to_json([None if math.isnan(f1) else f1 for f1 in row.class_f1]),
        "learning_rate": row.learning_rate,
        "grad_norm": row.grad_norm,
        "seconds": row.seconds,
    }


def result_columns(result: TrialResult) -> dict[str, Any]:
    """Return the columns of ``trial_results`` that say how a trial ended."""
    counts = result.confusion
    return asdict(result) | {
        "reason": printable(result.reason),
        "confusion": None if counts is None else to_json(counts),
    }


def to_json(value: object) -> str:
    """Return the value as JSON text; a NaN in it is an error."""
    # NaN is not JSON: neither database could read the text.
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, allow_nan=False)


def printable(text: str) -> str:
    """Return the text without what a database refuses."""
    # An exception's text may hold what PostgreSQL refuses (NUL) or UTF-8 lacks (half a pair).
    return text.replace("\x00", " ").encode("utf-8", "replace").decode()
