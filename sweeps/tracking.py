"""Records a person's own loop inside a plain Optuna script: ``sweeps.track(objective, space)``.

The caller's study samples, in the caller's process and its threads; this only remembers, under the
rules that end a trial, and returns the best score to Optuna.
"""

import functools
import math
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from objectives.api import EpochReport
from objectives.loops.space import find_own_names, nest_space, read_params
from objectives.loops.trial import Order, OwnTrial
from objectives.metric_names import DEFAULT_METRIC, check_metric, label_metric
from objectives.places import describe_error
from objectives.references import name_study
from search_spaces.space import SearchSpace, parse_space
from storage import queries, recorder
from storage.database import Database, open_database
from storage.locations import resolve_url
from storage.records import NewTrial, StudyRow
from sweeps.config.pruner import PrunerConfig
from sweeps.outcomes import Outcome
from sweeps.running.stopping import Decision, Peers, StopRule
from sweeps.running.trial import Curve, to_end, to_record

if TYPE_CHECKING:
    import optuna

_NAMESPACE = uuid.UUID("4e7c1f62-6f0a-4f0c-9a5b-0d6f4f6d7c11")


def track(
    objective: Callable[[Any], object],
    space: Mapping[str, Any] | None = None,
    *,
    study: str | None = None,
    storage: str | None = None,
    metric: str = DEFAULT_METRIC,
    max_epochs: int = 40,
    patience: int = 15,
    min_delta: float = 0.001,
    class_names: Sequence[str] = (),
) -> "Callable[[optuna.Trial], float]":
    """Return an objective for ``optuna.Study.optimize`` that records each trial and its epochs.

    ``storage`` is the database of ``bestepoch``, whose commands then read the study; it may be
    the database of the Optuna study too.

    Args:
        objective: The loop: takes a trial (``OwnTrial``) and trains.
        space: What may vary, as ``[space]`` of a sweep file, names of one's own included. None:
            the loop asks by Optuna's ``trial.suggest_float`` and the like.
        study: Name of the study; None: the loop's, or the next that is free.
        storage: URL or SQLite file; None: ``BESTEPOCH_STORAGE``, else ``bestepoch.db`` here.
        metric: The score of the targets and predictions that the loop records.
        max_epochs: Epochs after which a trial ends.
        patience: Epochs without a rise above ``min_delta`` after which it has stalled.
        min_delta: Smallest rise of the score that counts.
        class_names: Names of the classes by index.

    Raises:
        Mistakes: If the space is wrong; a line a mistake.
        ValueError: If there is no such metric.
    """
    check_metric(metric)
    tracker = _Tracker(
        objective,
        None if space is None else parse_space(nest_space(space)),
        name=study or name_study(getattr(objective, "__name__", "loop")),
        url=resolve_url(storage),
        metric=metric,
        class_names=tuple(class_names),
        rule=StopRule(
            max_epochs=max_epochs,
            patience=patience,
            prune_patience=patience,
            min_delta=min_delta,
            num_classes=len(class_names),
            pruner=PrunerConfig(name="none"),
            label=label_metric(metric),
            may_lack_losses=True,
        ),
    )

    @functools.wraps(objective)
    def run(trial: "optuna.Trial") -> float:
        return tracker.run(trial)

    return run


class TrackedTrial(OwnTrial):
    """A trial in an Optuna script: it can also be asked as Optuna's can.

    Attributes:
        optuna: Optuna's trial.
    """

    def __init__(self, trial: "optuna.Trial", params: Mapping[str, Any], **given: Any) -> None:
        super().__init__(params, number=trial.number, **given)
        self.optuna = trial

    def suggest_float(self, name: str, low: float, high: float, **options: Any) -> float:
        """Return a number, as ``optuna.Trial.suggest_float``."""
        return float(self._note(name, self.optuna.suggest_float(name, low, high, **options)))

    def suggest_int(self, name: str, low: int, high: int, **options: Any) -> int:
        """Return a whole number, as ``optuna.Trial.suggest_int``."""
        return int(self._note(name, self.optuna.suggest_int(name, low, high, **options)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices, as ``optuna.Trial.suggest_categorical``."""
        return self._note(name, self.optuna.suggest_categorical(name, choices))

    def _note(self, name: str, value: Any) -> Any:
        self.params = type(self.params)({**self.params, name: value})  # type: ignore[call-arg]
        return value


@dataclass(slots=True)
class _Tracked:
    """Follows one trial: writes its epochs, and ends it by the rule."""

    tracker: "_Tracker"
    study_uuid: str
    number: int
    curve: Curve = field(default_factory=Curve)
    ending: Decision | None = None

    def take(self, trial: OwnTrial, report: EpochReport) -> Order:
        """Write an epoch; the first one of a trial begins it, with what it had asked for."""
        curve, tracker = self.curve, self.tracker
        assert report.score is not None, "an own loop tells its score"
        score = report.score if not math.isinf(report.val_loss) else math.nan
        curve.add(report, score)
        if report.epoch == 1:
            self.begin(trial)
        record = to_record(trial.number, report, score)
        tracker.write(self.study_uuid, epochs=[record])
        self.ending = tracker.rule.decide(
            curve.train_losses, curve.val_losses, scores=curve.scores, peers=tracker.peers
        )
        return Order.GO_ON if self.ending is None else Order.STOP

    def begin(self, trial: OwnTrial) -> None:
        """Write that the trial has begun."""
        new = NewTrial(trial.number, trial.seed, nest_space(trial.params))
        self.tracker.begin(self.study_uuid, new)


@dataclass(slots=True)
class _Tracker:
    """Runs the trials of one Optuna study and remembers them. For many threads."""

    objective: Callable[[Any], object]
    space: SearchSpace | None
    name: str
    url: str
    metric: str
    class_names: tuple[str, ...]
    rule: StopRule
    peers: Peers = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _db: Database | None = None
    _known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.peers = Peers(self.rule.max_epochs)

    def run(self, optuna_trial: "optuna.Trial") -> float:
        """Run the loop for a trial of Optuna's; return its best score."""
        study_uuid = self._find_study(optuna_trial)
        params: Mapping[str, Any] = {}
        if self.space is not None:
            params = read_params(self.space.suggest(optuna_trial), find_own_names(self.space))
        follower = _Tracked(self, study_uuid, optuna_trial.number)
        trial = TrackedTrial(
            optuna_trial,
            params,
            follower=follower,
            max_epochs=self.rule.max_epochs,
            metric=self.metric,
            class_names=self.class_names,
        )
        try:
            self.objective(trial)
            trial.end()
        except BaseException as error:
            is_error = isinstance(error, Exception)
            outcome = Outcome.FAILED if is_error else Outcome.INTERRUPTED
            reason = describe_error(error) if is_error else "the run was interrupted"
            self._end(follower, trial, Decision(outcome, reason))
            raise
        if follower.curve.best_score is None and follower.ending is None:
            reason = "it ended without a score; call trial.record(...) each epoch"
            self._end(follower, trial, Decision(Outcome.FAILED, reason))
            raise ValueError(f"trial {trial.number}: {reason}")
        ending = follower.ending or Decision(Outcome.EXHAUSTED, "the loop ended by itself")
        value = self._end(follower, trial, ending)
        return math.nan if value is None else value

    def begin(self, study_uuid: str, new: NewTrial) -> None:
        """Write a trial that begins."""
        with self._lock:
            recorder.begin_trials(self._open(), study_uuid, [new], now=datetime.now(UTC))

    def write(self, study_uuid: str, **what: Any) -> None:
        """Write what ``recorder.record`` takes."""
        with self._lock:
            recorder.record(self._open(), study_uuid, now=datetime.now(UTC), **what)

    def _end(self, follower: _Tracked, trial: OwnTrial, decision: Decision) -> float | None:
        if not trial.epochs_done:
            follower.begin(trial)
        lowest = -1.0 if self.metric == "mcc" else 0.0
        end = to_end(follower, decision, self.class_names, lowest=lowest)
        if decision.outcome is Outcome.INTERRUPTED:
            with self._lock:
                # Another process may train another trial of the same study.
                recorder.interrupt_trials(
                    self._open(), follower.study_uuid, decision.reason, trial=follower.number
                )
        else:
            self.write(follower.study_uuid, stopped=[end])
        return end.value

    def _open(self) -> Database:
        if self._db is None:
            self._db = open_database(self.url, create=True)
        return self._db

    def _find_study(self, trial: "optuna.Trial") -> str:
        """Return the UUID of the study that a trial of Optuna's belongs to; create it if need be.

        The first trial of an Optuna study tells it from another of its name, in whichever process
        it goes on.
        """
        begun = (each.datetime_start for each in trial.study.get_trials(deepcopy=False))
        first = next(each for each in begun if each is not None)
        key = str(uuid.uuid5(_NAMESPACE, f"{trial.study.study_name} {first.isoformat()}"))
        with self._lock:
            if key not in self._known:
                self._create(key)
                self._known.add(key)
            return key

    def _create(self, study_uuid: str) -> None:
        db = self._open()
        names = (self.name if i == 1 else f"{self.name}-{i}" for i in range(1, 10**6))
        for name in names:
            found = queries.find_study(db, name)
            if found is not None and found.uuid == study_uuid:
                return
            if found is None:
                break
        row = StudyRow(
            uuid=study_uuid,
            name=name,
            objective=self.objective.__name__,
            metric=self.metric,
            created_at=datetime.now(UTC),
            config={
                "metric": self.metric,
                "max_epochs": self.rule.max_epochs,
                "patience": self.rule.patience,
                "min_delta": self.rule.min_delta,
            },
            class_names=self.class_names or None,
        )
        recorder.create_study(db, row)
