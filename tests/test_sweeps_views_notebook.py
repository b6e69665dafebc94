"""The frames of a study: as the README's table says, equal to its SQL, writable to Parquet."""

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from describe_storage import BEGIN, END, describe_tables

from storage import frames, queries
from storage.locations import StorageError
from sweeps import notebook
from sweeps.analysis.audit import STOP_AUDIT
from sweeps.analysis.compare import COMPARISON
from sweeps.views.notebook import ADVICE, VERDICTS

NAN = float("nan")
README = (Path(__file__).parent.parent / "storage" / "README.md").read_text()
COLUMNS: dict[str, Mapping[str, str]] = {
    "best_epochs": frames.EPOCHS,
    "curves": frames.CURVES,
    "class_scores": frames.CLASS_SCORES,
    "verdicts": VERDICTS,
    "advice": ADVICE,
    "compare": COMPARISON,
    "stop_audit": STOP_AUDIT,
}
SQL = dict(
    re.findall(
        r"^-- (\w+)\n(.*?;)$", re.findall(r"```sql\n(.*?)```", README, re.DOTALL)[0], re.M | re.S
    )
)
RISING = [0.30 + 0.03 * epoch for epoch in range(17)]
PEAKED = [0.3, 0.5, 0.83, *[0.6] * 8]
NAMES = sorted(COLUMNS)
IN_SQL = [name for name in NAMES if name != "advice"]  # all of which is computed


@pytest.fixture
def study(write_study: Any) -> str:
    """Trials of every outcome, one that was audited, two that tie."""
    curves = [RISING, PEAKED, PEAKED, [0.2, NAN], [], [0.1, 0.2], [0.3] * 3 + [0.5] * 17]
    write_study(
        "relation-cnn",
        curves,
        outcomes={0: "exhausted", 3: "diverged", 4: "failed", 5: None, 6: "exhausted"},
        held={6: ("behind", 3, 0.3)},
    )
    write_study("second", [PEAKED, RISING])
    write_study("empty", [])
    return "relation-cnn"


def read(name: str, study: str) -> pd.DataFrame:
    frame: pd.DataFrame = getattr(notebook, name)(study)
    return frame


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", ["relation-cnn", "empty"])
def test_columns_and_types_are_those_of_the_readme(name: str, which: str, study: str) -> None:
    frame = read(name, which)
    assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == COLUMNS[name]
    # These trials show nothing that would help.
    assert frame.empty == (which == "empty" or name == "advice")


@pytest.mark.parametrize("name", ["verdicts", "advice", "compare", "stop_audit"])
def test_readme_describes_every_column_and_no_other(name: str) -> None:
    table = README.split("| columns | type | in | what |\n")[1].split("\n\n")[0]
    told = {}
    for row in table.splitlines()[1:]:
        columns, kind, places, _ = (cell.strip() for cell in row.strip("|").split("|"))
        if name in places.split(", "):
            told.update(dict.fromkeys(re.findall(r"`(\w+)`", columns), kind))
    assert told == dict(COLUMNS[name])


def test_readme_describes_the_tables_of_the_schema_and_the_frames_made_of_them() -> None:
    made = README.split(BEGIN)[1].split(END)[0]
    assert made == describe_tables(), "run python tests/describe_storage.py"
    tables = {
        "best_epochs": "best_epochs",
        "curves": "epoch_records",
        "class_scores": "class_scores",
    }
    for name, table in tables.items():
        section = made.split(f" `{table}`\n")[1].split("\n### ")[0]
        told = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", section, re.MULTILINE))
        if name != "best_epochs":
            del told["study_uuid"]
        assert told == dict(COLUMNS[name])


@pytest.mark.parametrize("name", IN_SQL)
def test_frame_equals_the_sql_of_the_readme(name: str, study: str) -> None:
    frame = read(name, study)
    with sqlite3.connect("bestepoch.db") as connection:
        plain = pd.read_sql(SQL[name], connection)
    connection.close()
    if name == "verdicts":  # a running trial has verdicts, and nothing is stored yet
        frame = frame[frame["trial"] != 5]
    assert len(plain) == len(frame) > 0
    for column in plain.columns:
        if column in ("started_at", "finished_at"):
            continue  # text in SQLite
        ours, theirs = frame[column], plain[column]
        if str(ours.dtype) in ("float64", "int64", "Int64"):
            numbers = ours.astype("float64").tolist()
            expected = theirs.astype("float64").tolist()
            assert numbers == pytest.approx(expected, abs=1e-12, nan_ok=True), column
        else:
            shown = [each.astype(object).fillna("-").tolist() for each in (ours, theirs)]
            assert shown[0] == shown[1], column


@pytest.mark.parametrize("name", NAMES)
def test_frame_survives_parquet(name: str, study: str, tmp_path: Path) -> None:
    frame = read(name, study)
    frame.to_parquet(tmp_path / "frame.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "frame.parquet"), frame)


def test_storage_may_be_named(study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "bestepoch.db"
    monkeypatch.setenv("BESTEPOCH_STORAGE", str(tmp_path / "none.db"))
    assert notebook.best_epochs(study, str(other)).equals(queries.best_epochs(str(other), study))
    with pytest.raises(StorageError, match=r"none\.db"):
        notebook.best_epochs(study)


def test_studies_are_compared_in_one_ranking(study: str) -> None:
    frame = notebook.compare([study, "second", study], at_epoch=3, score=0.5)
    assert frame["study"].value_counts().to_dict() == {study: 4, "second": 2}
    assert frame.loc[0, "rank_best"] == 1
    assert frame["is_tied"].sum() >= 3
    peaked = frame[(frame["study"] == "second") & (frame["trial"] == 0)].iloc[0]
    assert (peaked["epochs_to_score"], peaked["at_epoch"]) == (2, 0.83)


def test_audited_trial_is_in_the_audit(study: str) -> None:
    row = notebook.stop_audit(study).set_index("trial").loc[6]
    assert (row["would_stop_outcome"], row["would_stop_epoch"]) == ("behind", 3)
    # At 20 epochs it has 0.5, and trial 0 had 0.83 by then.
    assert row["missed"] == pytest.approx(0.5 - 0.83)
    assert not row["is_wrong"]


def test_study_of_another_program_has_no_stopping_to_audit(write_study: Any) -> None:
    write_study("foreign", [RISING], config={"max_epochs": None})
    from storage.database import open_database
    from storage.schema import STUDIES

    with open_database("bestepoch.db", create=False) as db, db.write() as connection:
        connection.execute(STUDIES.update().values(config="{}"))
    with pytest.raises(StorageError, match="no settings of a sweep"):
        notebook.stop_audit("foreign")
    with pytest.raises(StorageError, match="no settings of a sweep"):
        notebook.advice("foreign")


@pytest.mark.parametrize("at_epoch", [0, 1000])
def test_wrong_epoch_is_named(study: str, at_epoch: int) -> None:
    said = f"at_epoch must be 1 to 20, the longest trial's, got {at_epoch}"
    with pytest.raises(ValueError, match=re.escape(said)):
        notebook.compare(study, at_epoch=at_epoch)


def test_no_study_to_compare_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one study, got none"):
        notebook.compare([])


@pytest.mark.parametrize("name", IN_SQL)
def test_readme_names_the_columns_that_are_no_sql(name: str, study: str) -> None:
    with sqlite3.connect("bestepoch.db") as connection:
        plain = pd.read_sql(SQL[name], connection)
    connection.close()
    table = README.split("| frame | computed, not in the query |\n")[1].split("\n\n")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    computed = set(re.findall(r"`(\w+)`", told.get(name, "")))
    assert computed == set(COLUMNS[name]) - set(plain.columns)


def test_advice_is_that_of_the_summary(study: str) -> None:
    from sweeps.analysis.summary import summarise
    from sweeps.read.study import Study

    found = summarise(Study.read("bestepoch.db", study)).advice
    frame = notebook.advice(study)
    assert frame["text"].tolist() == [each.text for each in found]
    assert frame["kind"].tolist() == [each.kind.value for each in found]


def test_notebook_is_an_attribute_of_the_package_and_nothing_else_is() -> None:
    import sweeps

    assert sweeps.notebook is notebook
    with pytest.raises(AttributeError, match="has no attribute 'notebok'"):
        _ = sweeps.notebok
