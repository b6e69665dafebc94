"""A study as everything that looks at one reads it: one connection, one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from objectives.api import DataFacts
from objectives.metric_names import DEFAULT_METRIC, label_metric
from storage import queries
from storage.database import open_database
from sweeps.budget import Budget, read_budget
from sweeps.read.words import CUT_OFF

if TYPE_CHECKING:
    import pandas as pd

Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """Everything that is known of a study at one moment. Shapes: N validation examples, C classes.

    Attributes:
        name: Its name.
        uuid: Its key in our tables.
        objective: What is trained.
        created_at: When it was created, UTC.
        config: Settings of the sweep, as ``SweepConfig.stored``; others of a foreign study.
        class_names: Names of the classes by index, empty while no data was loaded.
        data_fingerprint: SHA-256 over the data's arrays, None while no data was loaded.
        versions: Versions of the libraries that trained last, by name.
        processor: Processor that trained last.
        data: What is known of the data; None while no data was loaded.
        is_running: Whether a process trains it.
        results: ``storage.frames.RESULTS``, ranked by the best epoch; the outcome of a trial that
            nobody trains any more, and that has none, is ``words.CUT_OFF``.
        curves: ``storage.frames.CURVES``.
        class_scores: ``storage.frames.CLASS_SCORES``.
        confusions: Counts by true and predicted class at the best epoch, (C, C), by trial; up to
            50 classes.
        predictions: Predicted class of each example at the best epoch, (N,), of the best 50
            trials; up to 256 classes.
        targets: True class of each example, (N,); None where there are no predictions either.
        taken: Names of all studies of the database.
    """

    name: str
    uuid: str
    objective: str
    created_at: datetime
    config: Mapping[str, Any]
    class_names: tuple[str, ...]
    data_fingerprint: str | None
    versions: Mapping[str, str]
    processor: str | None
    data: DataFacts | None
    is_running: bool
    results: "pd.DataFrame"
    curves: "pd.DataFrame"
    class_scores: "pd.DataFrame"
    confusions: Mapping[int, Counts]
    predictions: Mapping[int, Bytes]
    targets: Bytes | None
    taken: frozenset[str]

    @classmethod
    def read(cls, url: str, name: str) -> "Study":
        """Return the study of this name. Does not write, and runs nobody's code.

        Raises:
            StorageError: If the database cannot be opened.
            UnknownStudyError: If there is no such study.
        """
        with open_database(url, create=False) as db:
            # Before the read: a process that ends its trials and then lets go is not cut off.
            was_running = db.is_held(name)
            with queries.snapshot(db, name) as stored:
                row, results = stored.row, stored.results()
                curves, class_scores = stored.curves(), stored.class_scores()
                confusions, predictions = stored.confusions(), stored.predictions()
                taken = stored.study_names()
            # And after it: nor is one that took the study in between.
            is_running = was_running or db.is_held(name)
        if not is_running:
            # A process that is killed writes nothing, but it lets go of the study.
            results["outcome"] = results["outcome"].fillna(CUT_OFF)
        return cls(
            name=row.name,
            uuid=row.uuid,
            objective=row.objective,
            created_at=row.created_at,
            config=row.config,
            class_names=row.class_names or _name_classes(class_scores),
            data_fingerprint=row.data_fingerprint,
            versions=row.versions or {},
            processor=row.processor,
            data=None if row.data_facts is None else _make_facts(row.data_facts),
            is_running=is_running,
            results=results,
            curves=curves,
            class_scores=class_scores,
            confusions={trial: np.array(rows, np.int64) for trial, rows in confusions.items()},
            predictions={
                trial: np.frombuffer(each, np.uint8) for trial, each in predictions.items()
            },
            targets=None if row.targets is None else np.frombuffer(row.targets, np.uint8),
            taken=taken,
        )

    @property
    def is_sweep(self) -> bool:
        """Whether it has the settings of a sweep: a foreign study has not."""
        return {"space", "max_epochs", "min_delta"} <= set(self.config)

    @property
    def max_epochs(self) -> int:
        """Epochs that a trial may have; of a foreign study those of the longest trial."""
        longest = max(self.results["epochs_run"].tolist(), default=1)
        return int(self.config.get("max_epochs", max(longest, 1)))

    @property
    def patience(self) -> int | None:
        """Epochs without a rise after which a trial stalls; None of a foreign study."""
        return self.config.get("patience")

    @property
    def min_delta(self) -> float:
        """Smallest rise of the score that counts, in points."""
        return float(self.config.get("min_delta") or 0.0)

    @property
    def metric(self) -> str:
        """What people call the score: ``macro-F1``, ``accuracy``, ``F1 of spam``."""
        return label_metric(self.config.get("metric", DEFAULT_METRIC))

    @property
    def space(self) -> Mapping[str, Any]:
        """The search space, as ``SearchSpace.to_table`` writes it; empty of a foreign study."""
        space: Mapping[str, Any] = self.config.get("space") or {}
        return space

    @property
    def budget(self) -> Budget:
        """What limited the last run; nothing of a foreign study."""
        return read_budget(self.config)

    @property
    def audit(self) -> float | None:
        """Share of the trials that the last run audited; None: none."""
        return self.config.get("audit") or None

    @property
    def ranked(self) -> "pd.DataFrame":
        """The rows of ``results`` that have a rank, the best first."""
        return self.results[self.results["rank"].notna()]

    def scores_of(self, trial: int) -> Sequence[float]:
        """Return the score of each epoch of a trial, epoch 1 first, NaN where there is none."""
        scores: list[float] = self.curves.loc[self.curves["trial"] == trial, "score"].tolist()
        return scores


def _name_classes(class_scores: "pd.DataFrame") -> tuple[str, ...]:
    """Return the names of the classes that trials have scores of: an own loop may tell none."""
    named = class_scores[["class_index", "class_name"]].drop_duplicates()
    return tuple(named.sort_values("class_index")["class_name"])


def _make_facts(stored: Mapping[str, Any]) -> DataFacts:
    return DataFacts(**{**stored, "train_shares": tuple(stored["train_shares"])})
