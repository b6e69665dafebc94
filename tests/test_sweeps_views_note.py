"""The note and figures in Optuna's pages: what they say, how large, how often written."""

import io
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
from written import NOW

import sweeps
from storage import queries, recorder
from storage.database import open_database
from storage.optuna_mirror import OptunaMirror, optuna_storage
from storage.records import StudyRow
from sweeps import cli
from sweeps.analysis.advice_kinds import Advice, Kind
from sweeps.analysis.summary import Summary, summarise
from sweeps.read.study import Study
from sweeps.running.events import EpochDone, Event, Note
from sweeps.views import note, note_writer
from sweeps.views.note_writer import FIRST_S, INTERVAL_S, NoteWriter

IDS = {"bestepoch-1-curves", "bestepoch-2-best-against-last", "bestepoch-3-verdicts"}
EPOCH = EpochDone(0, 3, 0.5, 3, 0.5, 0.1)
NAN = float("nan")


@pytest.fixture
def url(write_study: Callable[..., None], folder: Path) -> str:
    """A database of a study whose best trial is number 12, and Optuna's copy of it."""
    url = f"sqlite:///{folder / 'bestepoch.db'}"
    write_study("a_study", [[0.2, 0.3 + 0.01 * i, 0.25] for i in range(13)])
    mirror(url)
    return url


def mirror(url: str, study: str = "a_study") -> None:
    with open_database(url, create=False) as db:
        OptunaMirror(db, study, queries.study_settings(url, study).uuid)


def read_summary(url: str) -> Summary:
    return summarise(Study.read(url, "a_study"))


def stored(url: str) -> tuple[str, dict[str, Any]]:
    """Return the note, and the figures by id, as the dashboard reads them."""
    study = optuna.load_study(study_name="a_study", storage=url)
    attributes = study._storage.get_study_system_attrs(study._study_id)
    figures = optuna_dashboard._custom_plot_data.get_plotly_graph_objects(attributes)
    return optuna_dashboard.get_note(study), {k: json.loads(v) for k, v in figures.items()}


def test_note_says_the_answer_and_ranks_ten_trials(url: str) -> None:
    note_writer.write_note(url, "a_study", now=NOW)
    text, _ = stored(url)
    summary = read_summary(url)
    assert text.startswith(f"**{note.escape_markdown(summary.answer)}**\n")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 10
    cells = [cell.replace("&nbsp;", "").strip() for cell in rows[2].strip("|").split("|")]
    assert cells == ["1", "12", "0.4200 at epoch 2: unclear", "adam, learning rate 0.01"]
    assert "3 more trials in the report." in text
    assert "](/report/a_study)" in text
    assert "Written by the sweep, 7 May 2031, 11:13 UTC." in text


def test_note_has_the_advice_and_where_its_command_is(url: str) -> None:
    advice = Advice(Kind.EPOCHS, "Train *longer*.", "", NAN, NAN, NAN, 0.01, ())
    text = note.note_text(replace(read_summary(url), advice=(advice,)), now=NOW)
    assert "- Train \\*longer\\*.\n" in text
    assert "`bestepoch diagnose a_study` prints the command" in text
    assert "diagnose" not in note.note_text(replace(read_summary(url), advice=()), now=NOW)


def test_every_write_replaces_the_same_three_figures(url: str) -> None:
    note_writer.write_note(url, "a_study", now=NOW)
    text, first = stored(url)
    assert set(first) == IDS
    assert "trial 12" in {line.get("name") for line in first["bestepoch-1-curves"]["data"]}
    with closing(sqlite3.connect("bestepoch.db")) as connection, connection:
        connection.execute("delete from epoch_records where trial > 1")
        connection.execute("delete from trial_results where trial > 1")
    note_writer.write_note(url, "a_study", now=NOW)
    again, second = stored(url)
    assert set(second) == IDS
    assert len(again) < len(text)
    names = {line.get("name") for line in second["bestepoch-1-curves"]["data"]}
    assert {"trial 0", "trial 1"} <= names
    assert "trial 12" not in names


def test_deleting_the_study_deletes_them(url: str) -> None:
    note_writer.write_note(url, "a_study", now=NOW)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["delete", "a_study", "--yes"])
    assert exit_.value.code == 0
    with closing(sqlite3.connect("bestepoch.db")) as connection:
        query = "select count(*) from study_system_attributes"
        assert connection.execute(query).fetchone() == (0,)


def test_note_is_written_on_each_kind_of_database(storage_url: str) -> None:
    with open_database(storage_url, create=True) as db:
        row = StudyRow("u", "a_study", "o", "macro-f1", NOW, {"max_epochs": 3})
        recorder.create_study(db, row)
        OptunaMirror(db, "a_study", "u")
    for _ in range(2):
        note_writer.write_note(storage_url, "a_study", now=NOW)
    answer = summarise(Study.read(storage_url, "a_study")).answer
    with open_database(storage_url, create=False) as db:
        study = optuna.load_study(study_name="a_study", storage=optuna_storage(db))
        assert optuna_dashboard.get_note(study).startswith(f"**{answer}**")


def test_figures_stay_small_however_long_the_curves_are(url: str) -> None:
    summary = read_summary(url)
    rows = [
        [trial, epoch, 0.7123456 * epoch / (epoch + 7.654321)]
        for trial in range(13)
        for epoch in range(1, 2001)
    ]
    own = summary.study.curves
    curves = own.iloc[:0].reindex(range(len(rows)))
    curves[["trial", "epoch", "score"]] = rows
    long = replace(summary, study=replace(summary.study, curves=curves.astype(own.dtypes)))
    figures = note.note_figures(long)
    assert set(figures) == IDS
    assert sum(len(figure.to_json()) for figure in figures.values()) < 100_000


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
    assert note.escape_markdown(text) == shown


class Script:
    """A clock that is set by hand, and writes that are counted."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.writes: list[float] = []
        self.events: list[Event] = []
        self.error: Exception | None = None
        self.threads: set[int] = set()

    def write(self, url: str, study: str, *, now: datetime) -> None:
        self.threads.add(threading.get_ident())
        self.writes.append(self.time - 1000.0)
        if self.error is not None:
            raise self.error


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(note_writer, "write_note", script.write)
    return script


@pytest.fixture
def writer(script: Script) -> Iterator[NoteWriter]:
    with NoteWriter("u", "s", script.events.append, now=lambda: script.time) as writer:
        yield writer


def pass_seconds(writer: NoteWriter, script: Script, seconds: int) -> None:
    """Poll once a second, each time until what was begun is done, as a test can wait for it."""
    for _ in range(seconds):
        script.time += 1.0
        writer.poll()
        for thread in threading.enumerate():
            if thread.name == "note":
                thread.join()


def test_first_note_is_early_and_later_ones_are_rare(writer: NoteWriter, script: Script) -> None:
    writer.add(EPOCH)
    pass_seconds(writer, script, 400)
    assert script.writes == [FIRST_S, FIRST_S + INTERVAL_S, FIRST_S + 2 * INTERVAL_S]
    assert threading.get_ident() not in script.threads
    writer.finish()
    assert script.writes[3:] == [400.0]


def test_nothing_is_written_where_trials_do_nothing(writer: NoteWriter, script: Script) -> None:
    writer.add(Note("a note of the run"))
    pass_seconds(writer, script, 300)
    writer.finish()
    assert script.writes == []


def test_error_is_one_note_and_the_sweep_goes_on(writer: NoteWriter, script: Script) -> None:
    script.error = RuntimeError("no\nroom")
    writer.add(EPOCH)
    pass_seconds(writer, script, 200)
    writer.finish()
    assert len(script.writes) == 3
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
    assert text.startswith("**Trial ")
    assert set(figures) == IDS
