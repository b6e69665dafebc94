"""The note and the figures that a sweep writes for the dashboard: what, how often, how large."""

import io
import itertools
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pandas as pd
import pytest
import sqlalchemy
from written import NOW

import sweeps
from storage import recorder
from storage.database import open_database
from storage.optuna_mirror import optuna_storage
from storage.records import StudyRow
from sweeps import cli, notes
from sweeps.analysis import study_note
from sweeps.analysis.report_facts import Facts, StudyData
from sweeps.notes import MAX_FIGURE_BYTES, StudyNotes
from sweeps.running.events import Event, Note, TrialEnded, TrialStarted

IDS = {"bestepoch-1-curves", "bestepoch-2-best-against-last", "bestepoch-3-verdicts"}
ENDED = TrialEnded(0, "stalled", "no rise", 7, 3, 0.5)


@pytest.fixture
def url(write_study: Callable[..., None], folder: Path) -> str:
    """A database of a study whose best trial is number 12."""
    url = f"sqlite:///{folder / 'bestepoch.db'}"
    write_study("a_study", [[0.2, 0.3 + 0.01 * i, 0.25] for i in range(13)])
    return url


def stored(url: str) -> tuple[str, dict[str, Any]]:
    """Return the note, and the figures by id, as the dashboard reads them."""
    study = optuna.load_study(study_name="a_study", storage=url)
    attributes = study._storage.get_study_system_attrs(study._study_id)
    figures = optuna_dashboard._custom_plot_data.get_plotly_graph_objects(attributes)
    return optuna_dashboard.get_note(study), {k: json.loads(v) for k, v in figures.items()}


def test_note_says_the_answer_and_ranks_ten_trials(url: str) -> None:
    notes.write_note(url, "a_study", now=NOW)
    text, _ = stored(url)
    assert text.startswith("**Trial 12 is the best of 13 trials: macro-F1 0.4200 on validation")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 10
    cells = [cell.replace("&nbsp;", "").strip() for cell in rows[2].strip("|").split("|")]
    assert cells == ["1", "12", "0.4200 at epoch 2: too short", "adam, learning rate 0.01"]
    assert text.splitlines()[2] == "It is adam, learning rate 0.01."
    assert text.splitlines()[4].startswith("To try next: ")
    assert "3 more trials in the report." in text
    assert "](/report/a_study)" in text
    assert "Written by the sweep, 7 May 2031, 11:13 UTC." in text


def test_every_write_replaces_the_same_three_figures(
    url: str, write_study: Callable[..., None]
) -> None:
    notes.write_note(url, "a_study", now=NOW)
    text, first = stored(url)
    assert set(first) == IDS
    assert "trial 12" in {line.get("name") for line in first["bestepoch-1-curves"]["data"]}
    with closing(sqlite3.connect("bestepoch.db")) as connection, connection:
        connection.execute("delete from epoch_records where trial > 1")
        connection.execute("delete from trial_results where trial > 1")
    notes.write_note(url, "a_study", now=NOW)
    again, second = stored(url)
    assert set(second) == IDS
    assert "Trial 1 is the best of 2 trials: macro-F1 0.3100" in again
    assert len(again) < len(text)
    names = {line.get("name") for line in second["bestepoch-1-curves"]["data"]}
    assert {"trial 0", "trial 1"} <= names
    assert "trial 12" not in names


def test_reader_never_sees_a_note_or_figure_in_part(url: str) -> None:
    notes.write_note(url, "a_study", now=NOW)
    with closing(sqlite3.connect("bestepoch.db")) as connection, connection:
        connection.execute("delete from epoch_records where trial > 1")
        connection.execute("delete from trial_results where trial > 1")
    seen = []

    def read(_: object) -> None:
        """Read what others see before this commit, as the dashboard does."""
        with closing(sqlite3.connect("bestepoch.db")) as connection:
            query = "select key, value_json from study_system_attributes"
            found = {key: json.loads(value) for key, value in connection.execute(query)}
        figures = optuna_dashboard._custom_plot_data.get_plotly_graph_objects(found)
        note = optuna_dashboard._note.get_note_from_system_attrs(found, None)["body"]
        seen.append((note, {name: json.loads(text) for name, text in figures.items()}))

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", read)
    try:
        notes.write_note(url, "a_study", now=NOW)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "commit", read)
    assert len(seen) > 1
    assert all(each == seen[0] for each in seen)
    assert stored(url) != seen[0]


def test_deleting_the_study_deletes_them(url: str) -> None:
    notes.write_note(url, "a_study", now=NOW)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["delete", "a_study", "--yes"])
    assert exit_.value.code == 0
    with closing(sqlite3.connect("bestepoch.db")) as connection:
        query = "select count(*) from study_system_attributes"
        assert connection.execute(query).fetchone() == (0,)


def test_study_without_a_score_has_a_note_and_no_curves(
    url: str, write_study: Callable[..., None]
) -> None:
    write_study("empty", [])
    notes.write_note(url, "empty", now=NOW)
    study = optuna.load_study(study_name="empty", storage=url)
    assert optuna_dashboard.get_note(study).startswith("**This study has no trial yet.**")


def test_note_of_one_trial_has_the_values_that_it_drew(
    url: str, write_study: Callable[..., None]
) -> None:
    rate = {"low": 1e-4, "high": 1e-1, "log": True}
    space = {"optimizer": "adam", "learning_rate": rate, "dropout": {"low": 0.0, "high": 0.7}}
    space |= {"batch_size": [50, 100], "model": {"filters": {"low": 20, "high": 100, "int": True}}}
    params = {0: {"dropout": 0.272, "batch_size": 100, "model": {"filters": 37}}}
    write_study("one", [[0.2, 0.3]], params=params, config={"space": space})
    notes.write_note(url, "one", now=NOW)
    text = optuna_dashboard.get_note(optuna.load_study(study_name="one", storage=url))
    said = "It is adam, learning rate 0.01, dropout 0.272, batches of 100, filters 37."
    assert said in text.splitlines()


@pytest.mark.parametrize(
    ("outcomes", "curves", "said"),
    [
        (
            {},
            [[0.3, 0.9], [0.2, 0.3, 0.9]],
            "trial 0, the lowest number with this score, at which trial 1 has the lower",
        ),
        ({1: "behind"}, [[0.2, 0.3], [0.3, 0.9]], "trial 0, the best of those that were not"),
        ({}, [[0.3, 0.9], [0.2, 0.3]], None),  # the same one
        ({0: "behind"}, [[0.3, 0.9]], None),  # it has none
    ],
)
def test_note_names_the_best_trial_of_the_other_pages_where_it_differs(
    outcomes: dict[int, str],
    curves: list[list[float]],
    said: str | None,
    write_study: Callable[..., None],
    url: str,
) -> None:
    write_study("two", curves, outcomes=outcomes, val_losses={1: 0.5})
    notes.write_note(url, "two", now=NOW)
    text = optuna_dashboard.get_note(optuna.load_study(study_name="two", storage=url))
    assert ("Their best trial is" in text) == (said is not None)
    assert said is None or f"Their best trial is {said}" in text


def test_note_is_written_on_each_kind_of_database(storage_url: str) -> None:
    with open_database(storage_url, create=True) as db:
        config = {"max_epochs": 3}
        recorder.create_study(db, StudyRow("u", "a_study", "o", "macro-f1", NOW, config))
    for _ in range(2):
        notes.write_note(storage_url, "a_study", now=NOW)
    with open_database(storage_url, create=False) as db:
        study = optuna.load_study(study_name="a_study", storage=optuna_storage(db))
        assert optuna_dashboard.get_note(study).startswith("**This study has no trial yet.**")


def test_figures_of_500_trials_of_200_epochs_are_small() -> None:
    trials, epochs = 500, 200
    curve = [0.7123456 * e / (e + 7.654321) for e in range(1, epochs + 1)]
    results = pd.DataFrame(
        {
            "rank": pd.Series(range(1, trials + 1), dtype="Int64"),
            "trial": range(trials),
            "best_score": [0.7654321 - t / 3333 for t in range(trials)],
            "best_epoch": [197] * trials,
            "last_score": [0.7123456 - t / 7777 for t in range(trials)],
            "last_epoch": [epochs] * trials,
            "epochs_run": [epochs] * trials,
            "outcome": ["stalled", "exhausted", "behind", "interrupted"] * (trials // 4),
        }
    )
    curves = pd.DataFrame(
        {
            "trial": [t for t in range(trials) for _ in range(epochs)],
            "epoch": [*range(1, epochs + 1)] * trials,
            "score": curve * trials,
        }
    )
    judged = pd.DataFrame({"trial": range(trials), "verdict": ["overfit", "converged"] * 250})
    empty = pd.DataFrame()
    data = StudyData("s", "o", NOW, {}, None, {}, results, curves, empty, empty, verdicts=judged)
    facts = Facts("", [], [], 0.0, 0.0, results[["rank", "trial"]], None)
    figures = study_note.note_figures(data, facts)
    assert set(figures) == IDS
    sizes = {name: len(figure.to_json()) for name, figure in figures.items()}
    assert max(sizes.values()) < MAX_FIGURE_BYTES
    assert sum(sizes.values()) < MAX_FIGURE_BYTES


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b*c*", r"a\_b\*c\*"),
        ("<img src=x>", r"\<img src=x\>"),
        ("[x](y) | `z`", r"\[x\](y) \| \`z\`"),
        ("two\nlines & \\", r"two lines \& \\"),
    ],
)
def test_names_cannot_steer_the_note(text: str, shown: str) -> None:
    assert study_note.escape_markdown(text) == shown


class Script:
    """A clock that is set by hand, and writes that are counted and take as long as told."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.takes_s = 0.0
        self.writes: list[float] = []
        self.events: list[Event] = []
        self.error: Exception | None = None
        self.thread = threading.get_ident()

    def write(self, url: str, study: str, *, now: datetime) -> None:
        assert threading.get_ident() != self.thread
        self.writes.append(self.time - 1000.0)
        self.time += self.takes_s
        if self.error is not None:
            raise self.error


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(notes, "write_note", script.write)
    return script


@pytest.fixture
def writer(script: Script) -> Iterator[StudyNotes]:
    with StudyNotes(
        "u", "s", on_event=script.events.append, now=lambda: script.time, busy=lambda: script.time
    ) as writer:
        yield writer


def pass_seconds(writer: StudyNotes, script: Script, seconds: int, *, trials: bool) -> None:
    """Poll once a second, each time until what was begun is done, as a test can wait for it."""
    for _ in range(seconds):
        script.time += 1.0
        if trials:
            writer.add(ENDED)
        writer.poll()
        if writer._writing is not None:
            writer._writing.exception()


def test_writes_are_30_s_apart_while_trials_end(writer: StudyNotes, script: Script) -> None:
    pass_seconds(writer, script, 29, trials=True)
    assert script.writes == []
    pass_seconds(writer, script, 71, trials=True)
    assert script.writes == [30.0, 60.0, 90.0]
    writer.finish()
    assert script.writes[3:] == [100.0]


def test_nothing_is_written_where_trials_do_nothing(writer: StudyNotes, script: Script) -> None:
    pass_seconds(writer, script, 100, trials=False)
    writer.finish()
    assert script.writes == []


def test_trial_that_ends_too_soon_is_written_when_it_is_time(
    writer: StudyNotes, script: Script
) -> None:
    writer.add(ENDED)
    pass_seconds(writer, script, 100, trials=False)
    assert script.writes == [30.0]


def test_slow_write_costs_two_percent_at_most(writer: StudyNotes, script: Script) -> None:
    script.takes_s = 3.0
    pass_seconds(writer, script, 400, trials=True)
    assert script.writes[0] == 30.0
    assert all(b - a >= 150.0 for a, b in itertools.pairwise(script.writes))
    assert len(script.writes) >= 3


def test_error_is_one_note_and_the_sweep_goes_on(writer: StudyNotes, script: Script) -> None:
    script.error = RuntimeError("no\nroom")
    pass_seconds(writer, script, 100, trials=True)
    writer.finish()
    assert len(script.writes) == 4
    assert script.events == [Note("the dashboard's note was not written: no room")]


def test_real_sweep_leaves_its_note_and_figures(folder: Path) -> None:
    rows = io.StringIO("x,y,label\n")
    rows.seek(0, io.SEEK_END)
    for i in range(170):
        rows.write(f"{i % 7},{i % 11},{('low', 'high')[i % 7 > 3]}\n")
    (folder / "small.csv").write_text(rows.getvalue())
    config = sweeps.load_config(
        "tabular-mlp",
        ["max_epochs=3", "study=a_study"],
        data=str(folder / "small.csv"),
        trials=3,
        workers=1,
    )
    events: list[Event] = []
    assert sweeps.run(config, on_event=events.append).ending == "done"
    assert not [event for event in events if isinstance(event, Note) and "note" in event.text]
    text, figures = stored(f"sqlite:///{folder / 'bestepoch.db'}")
    assert "is the best of 3 trials" in text
    assert set(figures) == IDS


def test_run_that_ends_before_any_trial_leaves_a_note(writer: StudyNotes, script: Script) -> None:
    writer.add(TrialStarted(0, {}))
    pass_seconds(writer, script, 20, trials=False)
    assert script.writes == []
    writer.finish()
    assert script.writes == [20.0]
