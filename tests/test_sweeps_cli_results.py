"""``results`` of a study that still runs, or was cut off: who is ahead, and what nobody trains."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from written import hold

from sweeps.analysis.summary import summarise
from sweeps.config.load import load_config
from sweeps.read.study import Study
from sweeps.views import note

Call = Callable[..., int]
Write = Callable[..., None]
Held = Callable[[str], AbstractContextManager[None]]
RUNNING = {0: None, 1: None, 2: None}


def test_running_trials_stand_by_their_best_so_far_and_the_leader_is_named(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [[0.2, 0.3], [0.5, 0.71, 0.6], []], outcomes=RUNNING)
    assert call("results", "mine") == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.lstrip().startswith("-")]
    assert [row[1] for row in rows] == ["1", "0", "2"]
    assert "best so far: trial 1, macro-F1 0.7100 at epoch 2; no trial has ended yet" in out


def test_leader_is_named_beside_trials_that_diverged(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("mine", [[0.2, 0.3], [0.9]], outcomes={0: None, 1: "diverged"})
    assert call("results", "mine") == 0
    said = "best so far: trial 0, macro-F1 0.3000 at epoch 2; none that has ended may be ranked"
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("held", "word"), [(nullcontext, "cut off"), (hold, "running")])
@pytest.mark.parametrize(
    "command",
    [
        ("results", "mine"),
        ("show", "mine", "0"),
        ("curves", "mine"),
        ("diagnose", "mine"),
        ("diagnose", "mine", "0"),
    ],
)
def test_trial_of_a_study_that_nobody_holds_is_cut_off(
    call: Call,
    command: tuple[str, ...],
    held: Held,
    word: str,
    write_study: Write,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_study("mine", [[0.2, 0.3], [0.1]], outcomes=RUNNING)
    with held("mine"):
        assert call(*command) == 0
    out = capsys.readouterr().out
    is_running = "running" in out or "still train" in out
    assert ("cut off" in out, is_running) == (word == "cut off", word == "running")


@pytest.mark.parametrize(("held", "word"), [(nullcontext, "cut off"), (hold, "running")])
def test_every_page_calls_an_unfinished_trial_what_results_calls_it(
    held: Held, word: str, call: Call, write_study: Write
) -> None:
    write_study("mine", [[0.2, 0.3], [0.1]], outcomes={0: "stalled", 1: None})
    with held("mine"):
        assert_pages_say(word, call)


def assert_pages_say(word: str, call: Call) -> None:
    """Assert that every page calls trial 1 of the study so, and nothing else."""
    study = Study.read("bestepoch.db", "mine")
    assert study.results["outcome"].fillna("running").tolist() == ["stalled", word]
    for command in (("report", "mine", "-o"), ("curves", "mine", "--html")):
        assert call(*command, "page.html") == 0
        page = Path("page.html").read_text()
        others = {"cut off", "running"} - {word}
        assert f"end: {word}" in page or f"<td>{word}</td>" in page
        assert not any(f"end: {each}" in page or f"<td>{each}</td>" in page for each in others)


def test_list_names_the_trial_that_results_names(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of equal scores the lower validation loss leads, then the earlier trial.
    curves = [[0.2, 0.9], [0.3, 0.2, 0.9, 0.1], [0.3, 0.9, 0.1]]
    write_study("mine", curves, val_losses={1: 0.5, 2: 0.5})
    assert call("list") == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[2:6] == ["3", "0", "0.9000", "1"]
    assert call("results", "mine") == 0
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines()[2:5]] == ["1", "2", "0"]
    assert "\n3 trials share 0.9000; trial 1 leads as the earliest\n" in out


def test_only_trial_is_described_by_all_that_was_sampled(
    call: Call, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": [50, 100]}
    space |= {"dropout": {"low": 0.0, "high": 0.7}}
    write_study("one", [[0.2, 0.3]], params={0: {"dropout": 0.272}}, config={"space": space})
    assert call("results", "one") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "trial 0 is adam, learning rate 0.01, dropout 0.272, batches of 50" in out


def test_score_has_the_name_of_the_studys_metric_wherever_people_read_it(
    call: Call, write_study: Write, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rising = [0.30 + 0.03 * epoch for epoch in range(17)]
    config = load_config("relation-cnn", metric="f1:part of").stored()
    write_study("mine", [rising, rising[:11], [0.5]], outcomes={1: "exhausted"}, config=config)
    read: list[str] = []
    for words in (
        ("results", "mine"),
        ("results", "mine", "--by", "last"),
        ("show", "mine", "0"),
        ("curves", "mine"),
    ):
        assert call(*words) == 0
        read.append(capsys.readouterr().out)
    for words in (("curves", "mine", "--html", "page"), ("report", "mine", "-o", "page")):
        assert call(*words) == 0
        read.append((folder / "page").read_text().split("<script")[0])
    study = Study.read("bestepoch.db", "mine")
    read.append(note.note_text(summarise(study), now=study.created_at))
    for text in read:
        assert "F1 of part of" in text.replace("&nbsp;", " ").replace("&shy;", "")
        assert "macro-F1" not in text
