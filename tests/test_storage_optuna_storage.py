"""Optuna's storage on a database of ours, which its dashboard reads by."""

from pathlib import Path

import optuna
from sqlalchemy import text

from storage.database import open_database
from storage.optuna_mirror import optuna_storage


def test_storage_for_the_dashboard_is_closed_with_the_database(tmp_path: Path) -> None:
    # Optuna passes a URL through str.format.
    with open_database(str(tmp_path / "a{b}.db"), create=True) as db:
        storage = optuna_storage(db)
        optuna.create_study(study_name="x", storage=storage)
        assert storage.engine.pool.checkedin() > 0  # type: ignore[attr-defined]
        with storage.engine.connect() as connection:
            assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 5_000
    assert storage.engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".db"] == ["a{b}.db"]
