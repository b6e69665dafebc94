"""Attributes read one by one are those that Optuna reads."""

from pathlib import Path

import optuna

from storage import optuna_reads
from storage.database import open_database


def test_attributes_are_those_that_optuna_reads(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path}/studies.db", create=True) as db:
        for name in ("mine", "other"):
            study = optuna.create_study(study_name=name, storage=db.optuna_storage())
            study.set_user_attr("told", {"trials": 12, "by": name})
            study.set_user_attr("else", 1)
            for number in range(4):
                trial = study.ask()
                trial.set_user_attr("else", number)
                if number % 2:
                    trial.set_user_attr("named", {"learning_rate": number / 10, "of": name})
        stored = optuna.load_study(study_name="mine", storage=db.optuna_storage())
        with db.read() as connection:
            told = optuna_reads.study_attribute(connection, "mine", "told")
            named = optuna_reads.trial_attributes(connection, "mine", "named")
            assert told == stored.user_attrs["told"] == {"trials": 12, "by": "mine"}
            assert list(named) == [1, 3]
            for number, value in named.items():
                assert value == stored.trials[number].user_attrs["named"]


def test_attributes_that_nobody_set_are_none(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path}/studies.db", create=True) as db:
        optuna.create_study(study_name="mine", storage=db.optuna_storage()).ask()
        with db.read() as connection:
            assert optuna_reads.study_attribute(connection, "mine", "told") is None
            assert optuna_reads.study_attribute(connection, "yours", "told") is None
            assert optuna_reads.trial_attributes(connection, "mine", "named") == {}
            assert optuna_reads.trial_attributes(connection, "yours", "named") == {}


def test_a_database_without_optunas_tables_has_no_attributes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    with open_database(url, create=True) as db, db.read() as connection:
        assert optuna_reads.study_attribute(connection, "mine", "told") is None
        assert optuna_reads.trial_attributes(connection, "mine", "named") == {}
