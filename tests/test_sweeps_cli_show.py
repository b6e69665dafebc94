"""What ``show`` prints of a trial, and that the lines it offers load the trial's weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written import ADAM, NOW, uuid_of, write_each_outcome, write_study

from objectives.api import find_fusion_key
from storage import queries, recorder
from storage.database import open_database
from storage.records import ClassScore, TrialEnd

Call = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")

PARAMS = ADAM | {"batch_size": 5, "model": {"filters": 3, "vectors": "frozen"}}


def test_show_draws_the_curve_and_marks_the_best_epoch(
    call: Call,
    capsys: pytest.CaptureFixture[str],
) -> None:
    classes = ClassScore(0, "no", 0.125, 0.25, 0.5, 11), ClassScore(1, "[b]", 1, 1, 1, 13)
    write_each_outcome(ends={0: {"class_scores": classes}})
    assert call("show", "relation", "0") == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "trial 0 of relation, rank 1"
    assert "stalled: it stalled" in out
    assert "0.7132 at epoch 2" in out
    assert sum(line.count("A") for line in lines if "\u2524" in line) == 1
    assert [line.split() for line in lines if line.startswith(("no ", "[b]"))] == [
        ["no", "0.1250", "0.2500", "0.5000", "11"],
        ["[b]", "1.0000", "1.0000", "1.0000", "13"],
    ]


def test_show_says_in_which_parts_a_trial_was_trained(
    call: Call, write_study: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    curves, parts = [[0.5] * 16, [0.5] * 3], {0: [(3, 1), (7, 3), (19, 12)]}
    write_study("promoted", curves, segments=parts, outcomes={1: "paused"})
    assert call("show", "promoted", "0") == 0
    assert "trained in 3 parts: epochs 1, 2-4, 5-16" in capsys.readouterr().out
    assert call("show", "promoted", "1") == 0
    out = capsys.readouterr().out
    assert "outcome     paused: it paused" in out
    assert "parts" not in out


@pytest.mark.parametrize("trial", [2, 3, 4])  # diverged, unfinished, failed without an epoch
def test_show_takes_every_outcome(
    call: Call, trial: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_each_outcome()
    assert call("show", "relation", str(trial)) == 0
    out = capsys.readouterr().out
    assert "nan" not in out.lower()
    assert ("0.2500 at epoch 2" in out) == (trial == 3)


@pytest.mark.parametrize(
    ("trial", "words"),
    [(0, "mean of the last 4 epochs"), (3, "mean of the last 2 epochs")],
)
def test_tail_says_of_how_many_epochs_it_is_the_mean(
    call: Call, trial: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_each_outcome()
    assert call("show", "relation", str(trial)) == 0
    assert words in capsys.readouterr().out


def test_show_says_what_is_off_as_the_tables_do(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    params = {
        0: {"clip_norm": 1e6, "schedule": "constant"},
        1: {"clip_norm": 5.0, "schedule": "cosine"},
    }
    write_study("mine", [[0.3, 0.4], [0.2, 0.3]], params=params)
    assert call("show", "mine", "0") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "clip_norm=none" in out
    assert "schedule=constant" in out


def test_show_reads_a_trial_at_one_moment(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("moving", [[0.3, 0.4]], outcomes={0: None})
    look = queries.trial

    def look_and_end(url: str, study: str, number: int) -> dict[str, Any]:
        found = look(url, study, number)
        end = TrialEnd(0, "stalled", "it ends", value=0.4, best_epoch=2, best_score=0.4)
        with open_database(url, create=False) as db:
            recorder.record(db, uuid_of("moving"), stopped=[end], now=NOW)
        return found

    monkeypatch.setattr(queries, "trial", look_and_end)
    assert call("show", "moving", "0") == 0
    assert "stalled: it ends" in capsys.readouterr().out


def test_show_of_an_unknown_trial_is_one_line(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    write_each_outcome()
    assert call("show", "relation", "99") == 2
    assert "trials count from 0 to 4" in capsys.readouterr().err


def test_shown_lines_load_the_best_epochs_weights(
    call: Call, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from objectives.lanes.trainer import ModelTrainer
    from objectives.registry import find_objective
    from search_spaces.hparams import Hparams

    rows = [
        f"the <e1>{first}</e1> {verb} the <e2>wheel</e2>\t{label}\t{split}"
        for split in ("train", "validation", "test")
        for verb, label in (("has", "whole"), ("causes", "cause"))
        for first in ("car", "storm", "cart")
    ]
    Path("tiny.tsv").write_text("\n".join(["sentence\tlabel\tsplit", *rows]) + "\n")
    hparams = Hparams.model_validate(PARAMS)
    objective = find_objective("relation-cnn")
    trainer = ModelTrainer(objective, objective.load(Path("tiny.tsv")))
    lane = trainer.open_lane(find_fusion_key(hparams), 0)
    lane.place(0, 17, hparams)
    lane.train_epoch()
    lane.keep_best(0)
    lane.save_best(0, Path("bestepoch-weights/here/trial-0-1.safetensors"))
    write_study(
        "relation",
        [[0.5, 0.6]],
        params={0: PARAMS},
        config={"data": str(folder / "tiny.tsv")},
        weights={0: "here/trial-0-1.safetensors"},
    )
    assert call("show", "relation", "0") == 0
    pasted = capsys.readouterr().out.partition("in Python:\n")[2]
    names: dict[str, Any] = {}
    exec(pasted, names)
    saved = names["safetensors"].torch.load_file("bestepoch-weights/here/trial-0-1.safetensors")
    state = names["model"].state_dict()
    assert sorted(state) == sorted(saved)
    assert all(bool((state[name] == saved[name]).all()) for name in saved)
    assert not names["model"].training
    with Path("bestepoch-weights/here/trial-0-1.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x3f")
    assert call("show", "relation", "0") == 0
    out = capsys.readouterr().out
    assert "its best epoch's weights are damaged: " in out
    assert "to train it again: bestepoch weights relation 0\n" in out
    assert "load_file" not in out


def test_unknown_objective_is_answered_with_the_nearest() -> None:
    from objectives.api import OBJECTIVES
    from objectives.registry import find_objective

    with pytest.raises(ValueError, match="did you mean 'relation-cnn'"):
        find_objective("relation_cnn")
    assert [find_objective(name).name for name in OBJECTIVES] == list(OBJECTIVES)
