"""The study's note and figures as the dashboard reads them, and the storage that it reads by."""

import json
from collections.abc import Iterator
from pathlib import Path

import optuna
import optuna_dashboard
import plotly.graph_objects as go
import pytest
from sqlalchemy import event, text

from storage.database import Database, open_database
from storage.optuna_mirror import OptunaMirror, optuna_storage


@pytest.fixture
def db(storage_url: str) -> Iterator[Database]:
    with open_database(storage_url, create=True) as database:
        yield database


def mirror_of(db: Database) -> OptunaMirror:
    return OptunaMirror(db, "ours", "4c0f1f0e-0000-4000-8000-000000000001")


def figure(points: int) -> go.Figure:
    return go.Figure(go.Scatter(y=[i / 7 for i in range(points)]))


def test_note_and_figures_are_read_by_the_dashboard_and_replace_those_of_before(
    db: Database,
) -> None:
    mirror = mirror_of(db)
    study = optuna.load_study(study_name="ours", storage=optuna_storage(db))
    # Long ones are cut into pieces, of which the second time needs fewer.
    for text_, points in (("long " * 1300, 700), ("short", 5)):
        mirror.write_note(text_, {"bestepoch-1-curves": figure(points)})
        assert optuna_dashboard.get_note(study) == text_
        attributes = study._storage.get_study_system_attrs(study._study_id)
        read = optuna_dashboard._custom_plot_data.get_plotly_graph_objects(attributes)
        assert list(read) == ["bestepoch-1-curves"]
        assert len(json.loads(read["bestepoch-1-curves"])["data"][0]["y"]) in (points, 3)


def test_note_is_one_transaction(sqlite_url: str) -> None:
    with open_database(sqlite_url, create=True) as db:
        mirror = mirror_of(db)
        commits = []
        event.listen(db._engine, "commit", commits.append)
        mirror.write_note("long " * 1300, {"bestepoch-1-curves": figure(700)})
        assert len(commits) == 1


def test_storage_for_the_dashboard_is_closed_with_the_database(tmp_path: Path) -> None:
    # Optuna passes a URL through str.format.
    with open_database(str(tmp_path / "a{b}.db"), create=True) as db:
        storage = optuna_storage(db)
        optuna.create_study(study_name="x", storage=storage)
        assert storage.engine.pool.checkedin() > 0  # type: ignore[attr-defined]
        with storage.engine.connect() as connection:
            assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 60_000
    assert storage.engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".db"] == ["a{b}.db"]
