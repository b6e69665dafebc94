"""The engine with scripted curves: what is stored, what Optuna is told, what is taken up again.

The lanes are fakes, which train nothing; real lanes run in ``test_sweeps_workers.py``. Database
and Optuna are real.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

import sweeps
from objectives.api import EpochReport, FusionKey, SlotChoice
from search_spaces.hparams import Hparams
from storage import queries, recorder, schema
from storage.database import Database, open_database
from storage.records import FinishedTrial, TrialResult
from sweeps import studies
from sweeps.bookkeeping import Bookkeeper, make_owner
from sweeps.config import SweepConfig
from sweeps.engine import Engine
from sweeps.events import EpochDone, Event, Note, TrialEnded, TrialStarted, WorkerEnded
from sweeps.samplers import trial_seed

NAN = float("nan")
CLASSES = ("no", "yes")
Script = Callable[[int], Sequence[float]]


def confusion(score: float) -> np.ndarray:
    """Counts of two classes of 1000 examples each that have this macro-F1."""
    right = round(score * 1000)
    return np.array([[right, 1000 - right], [1000 - right, right]])


class ScriptedLane:
    """Plays a curve of macro-F1 for each trial, in the order in which trials are admitted."""

    max_slots = None
    note = None

    def __init__(self, trainer: "ScriptedTrainer", data_epoch: int) -> None:
        self.data_epoch = data_epoch
        self.trainer = trainer
        self.slots: dict[int, tuple[int, int]] = {}
        self.kept: dict[int, int] = {}

    def admit(self, slot: int, seed: int, hparams: Hparams) -> None:
        self.slots[slot] = (seed, 0)

    def train_epoch(self) -> list[EpochReport]:
        self.data_epoch += 1
        reports = []
        for slot, (seed, epoch) in self.slots.items():
            self.slots[slot] = (seed, epoch + 1)
            curve = self.trainer.curve_of(seed)
            score = curve[epoch]
            is_error = score == "error"
            loss = NAN if is_error or math.isnan(score) or math.isinf(score) else 0.5
            reports.append(
                EpochReport(
                    slot=slot,
                    epoch=epoch + 1,
                    train_loss=math.inf if not is_error and math.isinf(score) else loss,
                    val_loss=loss,
                    confusion=confusion(score if loss == 0.5 else 0.999),
                    learning_rate=0.1,
                    grad_norm=1.0,
                    seconds=0.25,
                    error="RuntimeError: boom" if is_error else None,
                )
            )
        return reports

    def keep_best(self, slot: int) -> None:
        self.kept[slot] = self.slots[slot][1]

    def save_best(self, slot: int, path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"epoch {self.kept[slot]}")
        return "sha"

    def release(self, slot: int) -> None:
        del self.slots[slot]


class ScriptedTrainer:
    class_names = CLASSES
    fingerprint = "data"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seeds: dict[int, int] = {}

    def curve_of(self, seed: int) -> Sequence[float]:
        return self.script(self.seeds[seed])

    def fusion_key(self, hparams: Hparams) -> FusionKey:
        return FusionKey(hparams.batch_size, (), "gradient")

    def open_lane(self, key: FusionKey, data_epoch: int) -> ScriptedLane:
        return ScriptedLane(self, data_epoch)

    def choose_slots(
        self, key: FusionKey, hparams: Hparams, *, most: int, num_workers: int
    ) -> SlotChoice:
        return SlotChoice(2, ((1, 0.003), (2, 0.002)))


def make_config(url: str, *overrides: str) -> SweepConfig:
    defaults = ("max_epochs=12", "patience=4", "prune_patience=2", "seed=3", "slots=4")
    return sweeps.load_config("relation-cnn", (*defaults, *overrides), storage=url)


def run_engine(
    config: SweepConfig,
    db: Database,
    script: Script,
    *,
    stop_after: int | None = None,
    worker: int = 0,
) -> list[Event]:
    """Run one worker to its end, or to the end of so many turns; return its events."""
    study_uuid, _ = studies.prepare(
        db,
        config,
        class_names=CLASSES,
        data_fingerprint="data",
        force=False,
        now=datetime.now(UTC),
    )
    trainer = ScriptedTrainer(script)
    trainer.seeds = {trial_seed(config.seed, number): number for number in range(config.trials)}
    book = Bookkeeper(
        db,
        config,
        study_uuid=study_uuid,
        owner=make_owner("cpu"),
        data_fingerprint="data",
        now=lambda: datetime.now(UTC),
    )
    events: list[Event] = []
    turns = iter(range(10_000))

    def stop_requested(wait_s: float) -> str | None:
        turn = next(turns)
        return "interrupted" if stop_after is not None and turn + 1 >= stop_after else None

    engine = Engine(
        config,
        trainer,
        book,
        worker=worker,
        num_workers=1,
        weights_dir=db.weights_dir,
        study_uuid=study_uuid,
        on_event=events.append,
        stop_requested=stop_requested,
    )
    engine.run()
    return events


@pytest.fixture
def db(sqlite_url: str) -> Iterator[Database]:
    with open_database(sqlite_url, create=True) as database:
        yield database


def optuna_study(db: Database) -> optuna.Study:
    return optuna.load_study(study_name="relation-cnn", storage=db.optuna_storage())


def outcomes(db: Database) -> dict[int, str]:
    frame = queries.results(db.url, "relation-cnn")
    return dict(zip(frame["trial"], frame["outcome"], strict=True))


RISING = [0.1 + 0.05 * i for i in range(12)]
PEAK_THEN_STALL = [0.30, 0.90, 0.60, 0.60, 0.60, 0.60, 0.60]


def test_trial_that_peaked_and_stalled_is_the_best_trial(db: Database) -> None:
    config = make_config(db.url, "trials=3")
    run_engine(config, db, lambda n: PEAK_THEN_STALL if n == 1 else RISING)
    study = optuna_study(db)
    assert study.best_trial.number == 1
    assert study.best_value == pytest.approx(0.90)
    assert outcomes(db) == {0: "exhausted", 1: "stalled", 2: "exhausted"}
    best = queries.trial(db.url, "relation-cnn", 1)
    assert (best["best_epoch"], best["last_epoch"], best["epochs_run"]) == (2, 6, 6)
    assert best["last_score"] == pytest.approx(0.60)
    assert (db.weights_dir / best["weights_file"]).read_text() == "epoch 2"


@pytest.mark.parametrize(
    "curve",
    [
        [0.3] * 12,  # an exact plateau
        [0.3 + 0.0005 * (i % 2) for i in range(12)],  # swings by less than min_delta
        [1 / 3] * 12,  # one class only
    ],
)
def test_flat_curve_stops_after_patience(db: Database, curve: list[float]) -> None:
    run_engine(make_config(db.url, "trials=1"), db, lambda n: curve)
    assert outcomes(db) == {0: "stalled"}
    assert queries.trial(db.url, "relation-cnn", 0)["epochs_run"] == 5


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_diverged_trial_never_wins_and_keeps_its_real_best(db: Database, bad: float) -> None:
    def script(n: int) -> list[float]:
        return [0.95, bad] if n == 0 else [0.4] * 5

    run_engine(make_config(db.url, "trials=2"), db, script)
    study = optuna_study(db)
    assert study.best_trial.number == 1
    assert study.trials[0].state == TrialState.COMPLETE
    assert study.trials[0].value == 0.0
    kept = queries.trial(db.url, "relation-cnn", 0)
    assert (kept["outcome"], kept["best_epoch"]) == ("diverged", 1)
    assert kept["best_score"] == pytest.approx(0.95)
    ranked = queries.results(db.url, "relation-cnn")
    assert ranked.loc[ranked["trial"] == 0, "rank"].isna().all()


def test_pruned_trial_has_its_best_score_as_value_and_peers_that_all_stalled(
    db: Database,
) -> None:
    # The first five stall; each is a peer, so the pruner still has something to compare with.
    def script(n: int) -> list[float]:
        return [0.8] * 5 if n < 10 else [0.30, 0.20, 0.20, 0.20, 0.20, 0.20]

    run_engine(make_config(db.url, "trials=12"), db, script)
    ended = outcomes(db)
    assert {ended[n] for n in range(10)} == {"stalled"}
    assert {ended[10], ended[11]} == {"behind"}
    study = optuna_study(db)
    assert study.trials[11].state == TrialState.PRUNED
    assert study.trials[11].value == pytest.approx(0.30)
    assert study.best_value == pytest.approx(0.8)


def test_pruner_none_never_ends_a_trial_as_behind(db: Database) -> None:
    def script(n: int) -> list[float]:
        return [0.8] * 5 if n < 10 else [0.30, 0.20, 0.20, 0.20, 0.20, 0.20]

    run_engine(make_config(db.url, "trials=12", "pruner.name=none"), db, script)
    assert set(outcomes(db).values()) == {"stalled"}


def test_optuna_sees_running_bests_at_doubling_epochs_and_at_the_end(db: Database) -> None:
    curve = [0.1, 0.3, 0.2, 0.4, 0.35, 0.5, 0.45, 0.6, 0.55, 0.5, 0.5, 0.5]
    run_engine(make_config(db.url, "trials=1"), db, lambda n: curve)
    reported = optuna_study(db).trials[0].intermediate_values
    assert reported == pytest.approx({1: 0.1, 2: 0.3, 4: 0.4, 8: 0.6, 12: 0.6})


def test_every_epoch_is_recorded(db: Database) -> None:
    run_engine(make_config(db.url, "trials=2"), db, lambda n: RISING)
    frame = queries.curves(db.url, "relation-cnn")
    for trial in (0, 1):
        scores = frame.loc[frame["trial"] == trial, "score"]
        assert list(scores) == pytest.approx(RISING)
    scores = queries.class_scores(db.url, "relation-cnn")
    assert list(scores.loc[scores["trial"] == 0, "class_name"]) == list(CLASSES)
    assert scores["f1"].tolist() == pytest.approx([RISING[-1]] * 4)


def test_failed_trial_stores_its_reason_and_the_study_goes_on(db: Database) -> None:
    def script(n: int) -> list[object]:
        return ["error"] if n == 1 else [0.5] * 5

    run_engine(make_config(db.url, "trials=4"), db, script)  # type: ignore[arg-type]
    assert outcomes(db)[1] == "failed"
    assert queries.trial(db.url, "relation-cnn", 1)["reason"] == "RuntimeError: boom"
    states = [trial.state for trial in optuna_study(db).trials]
    assert states.count(TrialState.FAIL) == 1
    assert states.count(TrialState.COMPLETE) == 3


def test_worker_gives_up_after_five_failures_in_a_row(db: Database) -> None:
    events = run_engine(make_config(db.url, "trials=40"), db, lambda n: ["error"])  # type: ignore[list-item]
    ending = events[-1]
    assert isinstance(ending, WorkerEnded)
    assert ending.ending == "failed"
    assert ending.reason is not None
    assert "RuntimeError: boom" in ending.reason
    assert sum(isinstance(event, TrialEnded) for event in events) < 40


def test_interrupted_trials_start_again_under_their_own_numbers(db: Database) -> None:
    config = make_config(db.url, "trials=9")
    run_engine(config, db, lambda n: RISING, stop_after=5)
    study = optuna_study(db)
    running = {t.number for t in study.trials if t.state == TrialState.RUNNING}
    assert running
    before = {n: queries.trial(db.url, "relation-cnn", n) for n in running}
    assert {row["outcome"] for row in before.values()} == {"interrupted"}

    events = run_engine(config, db, lambda n: RISING)
    restarted = {e.trial: e.attempt for e in events if isinstance(e, TrialStarted)}
    assert {n for n, attempt in restarted.items() if attempt == 2} == running
    study = optuna_study(db)
    assert [t.number for t in study.trials] == list(range(9))
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    for n in running:
        after = queries.trial(db.url, "relation-cnn", n)
        for same in ("seed", "params"):
            assert after[same] == before[n][same]
        # A trial that was claimed and not yet placed had no clock to keep.
        assert before[n]["first_data_epoch"] in (None, after["first_data_epoch"])
        assert after["epochs_run"] == 12


def test_study_grows_to_a_larger_target_and_no_further(db: Database) -> None:
    run_engine(make_config(db.url, "trials=3"), db, lambda n: RISING)
    run_engine(make_config(db.url, "trials=5"), db, lambda n: RISING)
    events = run_engine(make_config(db.url, "trials=5"), db, lambda n: RISING)
    assert len(optuna_study(db).trials) == 5
    assert [type(event) for event in events] == [WorkerEnded]


def test_result_that_optuna_was_not_told_is_told_at_the_next_start(db: Database) -> None:
    config = make_config(db.url, "trials=2")
    run_engine(config, db, lambda n: RISING, stop_after=1)
    # A worker that dies between its own table and Optuna leaves exactly this.
    uuid = optuna_study(db).user_attrs[schema.UUID_ATTRIBUTE]
    owner = make_owner("cpu")
    claim = recorder.restart_trial(
        db, study_uuid=uuid, trial=0, attempt=1, owner=owner, now=datetime.now(UTC)
    )
    result = TrialResult("stalled", "by hand", value=0.77, best_epoch=1, best_score=0.77)
    recorder.finish_trials(db, [FinishedTrial(claim, result, ())], now=datetime.now(UTC))
    assert optuna_study(db).trials[0].state == TrialState.RUNNING

    run_engine(config, db, lambda n: RISING)
    told = optuna_study(db).trials[0]
    assert (told.state, told.value) == (TrialState.COMPLETE, 0.77)


def test_trial_asked_by_a_worker_that_died_before_writing_it_is_adopted(db: Database) -> None:
    config = make_config(db.url, "trials=3")
    run_engine(config, db, lambda n: RISING, stop_after=1)
    study = optuna_study(db)
    number = len(study.trials)
    grown = make_config(db.url, f"trials={number + 1}")
    study.ask()
    run_engine(grown, db, lambda n: RISING)
    assert [t.state for t in optuna_study(db).trials] == [TrialState.COMPLETE] * (number + 1)
    assert outcomes(db)[number] == "exhausted"


def test_whole_sweep_of_one_worker_is_the_same_each_time(tmp_path: Path) -> None:
    def script(n: int) -> list[float]:
        return [0.5 + 0.01 * (n % 7)] * 12

    seen = []
    for name in ("first", "second"):
        url = f"sqlite:///{tmp_path / name}.db"
        with open_database(url, create=True) as db:
            run_engine(make_config(url, "trials=16"), db, script)
            seen.append([(t.params, t.value) for t in optuna_study(db).trials])
    assert seen[0] == seen[1]


def test_started_study_refuses_other_settings_and_says_what_changed(db: Database) -> None:
    from sweeps.config_errors import ConfigError

    run_engine(make_config(db.url, "trials=2"), db, lambda n: RISING)
    with pytest.raises(ConfigError) as error:
        run_engine(make_config(db.url, "trials=2", "patience=5"), db, lambda n: RISING)
    assert "patience: 4 -> 5" in str(error.value)
    assert "--force" in str(error.value)


def test_lane_gets_the_slots_that_were_measured_to_pay(db: Database, sqlite_url: str) -> None:
    config = make_config(sqlite_url, "trials=5", "space.batch_size=50")
    measuring = config.model_copy(update={"slots": None})
    events = run_engine(measuring, db, lambda number: [0.5] * 12)
    # A trial trains from its first epoch on, whenever it was claimed: two at a time.
    first = [e.trial for e in events if isinstance(e, EpochDone) and e.epoch == 1]
    third = [e.trial for e in events if isinstance(e, EpochDone)].index(2)
    ended = [e for e in events if isinstance(e, EpochDone | TrialEnded)]
    assert (first, type(ended[third])) == ([0, 1, 2, 3, 4], TrialEnded)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == ["2 slots for batches of 50: 3, 2 ms a trial's step with 1, 2"]
    (row,) = queries.lane_slots(sqlite_url, "relation-cnn").to_dict(orient="records")
    assert (row["slots"], row["device"]) == (2, "cpu")
    assert json.loads(row["step_seconds"]) == {"1": 0.003, "2": 0.002}
    assert json.loads(row["lane"]) == {"batch_size": 50, "model": {}, "code_path": "gradient"}
    ended = events[-1]
    assert isinstance(ended, WorkerEnded)
    assert 0 < ended.bookkeeping_s < ended.seconds
