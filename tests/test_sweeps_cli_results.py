"""``results`` of a study that still runs, or was cut off: who is ahead, and what nobody trains."""

import socket
from collections.abc import Callable

import pytest

from sweeps import cli

Write = Callable[..., None]
RUNNING = {0: None, 1: None, 2: None}


def call(*args: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(args))
    code = exit_.value.code
    assert isinstance(code, int)
    return code


def test_running_trials_stand_by_their_best_so_far_and_the_leader_is_named(
    write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [[0.2, 0.3], [0.5, 0.71, 0.6], []], outcomes=RUNNING)
    assert call("results", "mine") == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.lstrip().startswith("-")]
    assert [row[1] for row in rows] == ["1", "0", "2"]
    assert "best so far: trial 1, macro-F1 0.7100 at epoch 2; no trial has ended yet" in out


def test_leader_is_named_beside_trials_that_diverged(
    write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [[0.2, 0.3], [0.9]], outcomes={0: None, 1: "diverged"})
    assert call("results", "mine") == 0
    said = "best so far: trial 0, macro-F1 0.3000 at epoch 2; none that has ended may be ranked"
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("host", "word"), [("node7", "cut off"), ("another", "running")])
@pytest.mark.parametrize(
    "command", [("results", "mine"), ("show", "mine", "0"), ("curves", "mine")]
)
def test_trial_whose_process_is_gone_is_cut_off(
    command: tuple[str, ...],
    host: str,
    word: str,
    write_study: Write,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The writer says that process 4211 of node7, begun in 1970, trains it.
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    write_study("mine", [[0.2, 0.3], [0.1]], outcomes=RUNNING)
    assert call(*command) == 0
    out = capsys.readouterr().out
    assert word in out
    assert ("running" in out) == (word == "running")


def test_list_names_the_trial_that_results_names(
    write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [[0.2, 0.3, 0.9, 0.1], [0.3, 0.9, 0.1], [0.2, 0.9]])
    assert call("list") == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[2:6] == ["3", "0", "0.9000", "1"]


def test_only_trial_is_described_by_all_that_was_sampled(
    write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": [50, 100]}
    space |= {"dropout": {"low": 0.0, "high": 0.7}}
    write_study("one", [[0.2, 0.3]], params={0: {"dropout": 0.272}}, config={"space": space})
    assert call("results", "one") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "trial 0 is adam, learning rate 0.01, batches of 50, dropout 0.272" in out
