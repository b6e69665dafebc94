"""The audit of stopping: which trials run on, what is remembered, and what others see of it."""

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from scripted import make_config, run_scripted

import sweeps
from storage import queries
from sweeps.cli import main
from sweeps.config.changes import describe_changes
from sweeps.config.load import load_config
from sweeps.config.settings import SweepConfig
from sweeps.running.judge import is_audited
from sweeps.running.sweep import SweepEnd

STUDY = "relation-cnn"
MAX_EPOCHS = 12
STALLS = [0.30, 0.70, *[0.60] * 10]
RISES_LATE = [0.30, 0.70, *[0.60] * 6, 0.8, 0.9, 0.6, 0.6]
RISING = [0.1 + 0.05 * i for i in range(12)]


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


def run(url: str, audit: float, curves: Sequence[Sequence[float]], *options: str) -> None:
    options = (f"audit={audit}", f"trials={len(curves)}", "sampler.name=random", *options)
    run_scripted(make_config(url, *options), curves.__getitem__)


def outcomes(url: str) -> dict[int, str]:
    frame = queries.results(url, STUDY).sort_values("trial")
    return dict(zip(frame["trial"], frame["outcome"], strict=True))


def test_audited_trial_runs_on_and_tells_its_whole_curve(sqlite_url: str) -> None:
    run(sqlite_url, 0.999, [RISES_LATE, STALLS, RISING])
    assert outcomes(sqlite_url) == {0: "exhausted", 1: "exhausted", 2: "exhausted"}
    late = queries.trial(sqlite_url, STUDY, 0)
    assert (late["would_stop_outcome"], late["would_stop_epoch"]) == ("stalled", 6)
    assert late["would_stop_score"] == pytest.approx(0.7)
    assert (late["best_epoch"], late["epochs_run"]) == (10, 12)
    assert late["value"] == pytest.approx(0.9)
    rising = queries.trial(sqlite_url, STUDY, 2)
    assert rising["would_stop_outcome"] is None
    assert rising["would_stop_epoch"] is None


def test_without_an_audit_nothing_is_held_back(sqlite_url: str) -> None:
    run(sqlite_url, 0.0, [RISES_LATE, STALLS, RISING])
    assert outcomes(sqlite_url) == {0: "stalled", 1: "stalled", 2: "exhausted"}
    assert queries.results(sqlite_url, STUDY)["would_stop_epoch"].isna().all()


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
        url = f"sqlite:///{tmp_path}/audit-{share}.db"
        run(url, share, curves, "slots=11", f"pruner.name={pruner}", "seed=12")
        ended.append(queries.results(url, STUDY).set_index("trial").sort_index())
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
    assert describe_changes(plain.stored(), audited.stored()) == []


@pytest.mark.parametrize("share", [-0.1, 1.0, 5])
def test_share_outside_0_to_1_is_a_mistake(share: float) -> None:
    with pytest.raises(ValueError, match="--audit: audit must be"):
        load_config("relation-cnn", audit=share)


def test_audited_trial_that_was_cut_off_is_audited_again(sqlite_url: str) -> None:
    config = make_config(sqlite_url, "audit=0.999", "trials=1")

    def stop(turn: int) -> None:
        if turn == 8:
            signal.raise_signal(signal.SIGINT)

    run_scripted(config, lambda number: RISES_LATE, on_turn=stop)
    assert outcomes(sqlite_url) == {0: "interrupted"}
    run_scripted(config, lambda number: RISES_LATE)
    row = queries.trial(sqlite_url, STUDY, 0)
    assert (row["outcome"], row["would_stop_epoch"]) == ("exhausted", 6)


def test_later_run_compares_with_what_an_audited_trial_would_have_been(tmp_path: Path) -> None:
    # Five audited trials that would have stalled at 0.70 rose to 0.9 at epoch 10; another is above
    # 0.70 there, in the run of the five as in one that finds them stored.
    curves = [RISES_LATE] * 5 + [[0.70 + 0.005 * epoch for epoch in range(12)]]
    assert find_audited(2, 0.9, 6) == [0, 1, 2, 3, 4]
    for targets in ((6,), (5, 6)):
        url = f"sqlite:///{tmp_path}/{len(targets)}.db"
        for trials in targets:
            run(url, 0.9, curves[:trials], "slots=1", "seed=2")
        assert outcomes(url)[5] == "exhausted"


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
