"""The audit of stopping: which trials run on, what is remembered, and what others see of it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

import sweeps
from storage import queries
from storage.database import Database, open_database
from storage.records import EndedTrial
from sweeps.audit import HeldStop, compared_end, find_held_stop, is_audited, make_audit_rule
from sweeps.cli import main
from sweeps.config import SweepConfig
from sweeps.config_changes import describe_changes
from sweeps.config_files import load_config
from sweeps.stopping import Decision, Outcome, Peers, StopRule
from sweeps.workers import SweepEnd

MAX_EPOCHS = 12
STALLS = [0.30, 0.70, *[0.60] * 10]
RISES_LATE = [0.30, 0.70, *[0.60] * 6, 0.8, 0.9, 0.6, 0.6]
RISING = [0.1 + 0.05 * i for i in range(12)]


def load_engine_tests() -> ModuleType:
    path = Path(__file__).parent / "test_sweeps_engine.py"
    spec = util.spec_from_file_location("engine_with_scripted_lanes", path)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ENGINE = load_engine_tests()


@pytest.fixture
def db(sqlite_url: str) -> Iterator[Database]:
    with open_database(sqlite_url, create=True) as database:
        yield database


def find_audited(seed: int, share: float, trials: int) -> list[int]:
    return [trial for trial in range(trials) if is_audited(seed, trial, share=share)]


def test_same_seed_audits_the_same_trials_and_another_others() -> None:
    assert find_audited(7, 0.05, 2000) == find_audited(7, 0.05, 2000)
    assert find_audited(7, 0.05, 2000) != find_audited(11, 0.05, 2000)


def test_share_of_audited_trials_is_the_one_asked_for() -> None:
    # 5 standard deviations of a binomial draw: sqrt(20000 * 0.05 * 0.95) = 31.
    assert abs(len(find_audited(3, 0.05, 20_000)) - 1000) < 155
    assert find_audited(3, 0.0, 20_000) == []


def test_larger_share_audits_those_of_a_smaller_one_too() -> None:
    assert set(find_audited(5, 0.05, 997)) < set(find_audited(5, 0.1, 997))


@pytest.mark.parametrize(
    ("outcome", "epochs", "is_held"),
    [
        (Outcome.STALLED, 7, True),
        (Outcome.BEHIND, 7, True),
        (Outcome.EXHAUSTED, 12, False),
        (Outcome.DIVERGED, 7, False),
        (Outcome.FAILED, 7, False),
        (Outcome.STALLED, 12, False),  # nothing is left to run
    ],
)
def test_only_stops_with_epochs_left_are_held_back(
    outcome: Outcome, epochs: int, is_held: bool
) -> None:
    held = find_held_stop(Decision(outcome, "why"), STALLS[:epochs], max_epochs=MAX_EPOCHS)
    assert held == (HeldStop(outcome, epochs, 0.70) if is_held else None)


def test_trial_that_runs_on_ends_at_the_last_epoch_or_where_it_diverges() -> None:
    rule = StopRule(MAX_EPOCHS, 2, 2, 0.001, 3, None)
    losses = [0.5] * MAX_EPOCHS
    peers = Peers(MAX_EPOCHS)
    audit = make_audit_rule(rule)
    for epochs in range(1, MAX_EPOCHS):
        some = losses[:epochs]
        assert audit.decide(some, some, scores=STALLS[:epochs], peers=peers) is None
    ended = audit.decide(losses, losses, scores=STALLS, peers=peers)
    assert ended is not None
    assert ended.outcome is Outcome.EXHAUSTED
    broken = audit.decide([0.5, float("nan")], [0.5, 0.5], scores=STALLS[:2], peers=peers)
    assert broken is not None
    assert broken.outcome is Outcome.DIVERGED


def test_others_see_an_audited_trial_as_it_would_have_ended() -> None:
    plain = EndedTrial(0, "exhausted", "why", 0.9, None, None, tuple(RISES_LATE))
    assert compared_end(plain) == (Outcome.EXHAUSTED, tuple(RISES_LATE))
    audited = EndedTrial(0, "exhausted", "why", 0.9, "behind", 6, tuple(RISES_LATE))
    assert compared_end(audited) == (Outcome.BEHIND, tuple(RISES_LATE[:6]))


def run(db: Database, audit: float, curves: Sequence[Sequence[float]], *options: str) -> None:
    config = ENGINE.make_config(
        db.url, f"audit={audit}", f"trials={len(curves)}", "sampler.name=random", *options
    )
    ENGINE.run_engine(config, db, lambda number: curves[number])


def test_audited_trial_runs_on_and_tells_its_whole_curve(db: Database) -> None:
    run(db, 0.999, [RISES_LATE, STALLS, RISING])
    assert ENGINE.outcomes(db) == {0: "exhausted", 1: "exhausted", 2: "exhausted"}
    late = queries.trial(db.url, "relation-cnn", 0)
    assert (late["would_stop_outcome"], late["would_stop_epoch"]) == ("stalled", 6)
    assert late["would_stop_score"] == pytest.approx(0.7)
    assert (late["best_epoch"], late["epochs_run"]) == (10, 12)
    assert ENGINE.optuna_study(db).trials[0].value == pytest.approx(0.9)
    rising = queries.trial(db.url, "relation-cnn", 2)
    assert rising["would_stop_outcome"] is None
    assert rising["would_stop_epoch"] is None


def test_without_an_audit_nothing_is_held_back(db: Database) -> None:
    run(db, 0.0, [RISES_LATE, STALLS, RISING])
    assert ENGINE.outcomes(db) == {0: "stalled", 1: "stalled", 2: "exhausted"}
    assert queries.results(db.url, "relation-cnn")["would_stop_epoch"].isna().all()


@pytest.mark.parametrize("pruner", ["median", "none"])
def test_audit_leaves_the_results_of_other_trials_alone(tmp_path: Path, pruner: str) -> None:
    # Six stall at epoch 6 with the scores that the last two are compared with; all eight
    # are in flight at once, so an audited one keeps nobody waiting.
    curves = [[round(score * (1 - 0.02 * n), 3) for score in RISES_LATE] for n in range(6)]
    curves += [[0.5 * score for score in RISING]] * 2
    audited = find_audited(12, 0.4, 8)
    assert (6 in audited, 7 in audited, len(audited)) == (True, False, 3)
    ended = []
    for share in (0.0, 0.4):
        with open_database(str(tmp_path / f"audit-{share}.db"), create=True) as db:
            run(db, share, curves, "slots=11", f"pruner.name={pruner}", "seed=12")
            frame = queries.results(db.url, "relation-cnn").set_index("trial").sort_index()
            ended.append(frame)
    same = ["outcome", "reason", "best_epoch", "best_score", "epochs_run", "params", "value"]
    others = [trial for trial in range(8) if trial not in audited]
    plain, with_audit = (frame.loc[others, same] for frame in ended)
    assert plain.equals(with_audit)
    is_behind = plain.loc[7, "outcome"] == "behind"
    assert is_behind == (pruner == "median")
    held = ended[1].loc[audited].query("would_stop_epoch.notna()")
    assert len(held) == (3 if is_behind else 2)
    before = ended[0].loc[held.index]
    assert held["would_stop_outcome"].tolist() == before["outcome"].tolist()
    assert held["would_stop_epoch"].tolist() == before["epochs_run"].tolist()
    assert held["would_stop_score"].tolist() == before["best_score"].tolist()


def test_audit_is_no_change_of_settings(sqlite_url: str) -> None:
    plain = load_config("relation-cnn", storage=sqlite_url)
    audited = load_config("relation-cnn", audit=0.05, storage=sqlite_url)
    assert audited.audit == 0.05
    assert describe_changes(plain.settings(), audited.settings()) == []


@pytest.mark.parametrize("share", [-0.1, 1.0, 5])
def test_share_outside_0_to_1_is_a_mistake(share: float) -> None:
    with pytest.raises(ValueError, match="--audit: audit must be"):
        load_config("relation-cnn", audit=share)


def test_audited_trial_that_was_cut_off_is_audited_again(db: Database) -> None:
    config = ENGINE.make_config(db.url, "audit=0.999", "trials=1")
    ENGINE.run_engine(config, db, lambda number: RISES_LATE, stop_after=8)
    assert queries.trial(db.url, "relation-cnn", 0)["outcome"] == "interrupted"
    ENGINE.run_engine(config, db, lambda number: RISES_LATE)
    row = queries.trial(db.url, "relation-cnn", 0)
    assert (row["outcome"], row["attempt"], row["would_stop_epoch"]) == ("exhausted", 2, 6)
    assert row["finished_at"] <= datetime.now(UTC)


def test_option_of_run_sets_the_share(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def note(config: SweepConfig, **_: object) -> SweepEnd:
        seen.append(config.audit)
        return SweepEnd(config.study, "", "done", None, 0)

    monkeypatch.setattr(sweeps, "run", note)
    for args in (["--audit", "0.05"], ["--set", "audit=0.25"], []):
        with pytest.raises(SystemExit):
            main(["run", "relation-cnn", "--quiet", *args])
    assert seen == [0.05, 0.25, 0.0]
