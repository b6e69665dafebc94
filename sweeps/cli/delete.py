"""``delete``: a study, Optuna's copy of it, and its files."""

import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import typer

from storage import optuna_mirror, queries, recorder
from storage.database import open_database
from storage.locations import resolve_url
from sweeps.cli.console import UsageMistake, console
from sweeps.read.words import count
from sweeps.running.study import make_holder

#: What a sweep writes into its folder of the weights folder.
_OWN_FILE = re.compile(r"(trial|states)-\d+\.safetensors.*")


def delete(*, study: str, yes: bool, storage: str | None) -> None:
    """Delete a study, after a question."""
    url = resolve_url(storage)
    settings = queries.study_settings(url, study)
    trials = count(len(queries.results(url, study)), "trial")
    with open_database(url, create=False) as db:
        holder = db.find_holder(study)
        if holder is not None:
            raise UsageMistake(
                f"study {study!r} is being trained by process {holder.pid} on {holder.host}; "
                "stop it first"
            )
        if not yes:
            if not sys.stdin.isatty():
                raise UsageMistake(f"not a terminal to ask at; to delete {study!r} give --yes")
            question = f"Delete study {study!r} in {db.where} with its {trials}?"
            if not typer.confirm(question):
                console().print("kept")
                return
        with db.hold_study(study, holder=make_holder(datetime.now(UTC))):
            # Optuna's study goes first: if this process is killed in between, our rows still
            # name the study, and a second delete finds them.
            optuna_mirror.delete_study(db, settings.uuid)
            recorder.delete_study(db, settings.uuid)
        files = _delete_files(db.weights_dir / f"{study}-{settings.uuid[:8]}")
        console().print(
            f"deleted study {study!r} from {db.where}: {trials}, {count(files, 'weights file')}",
            soft_wrap=True,
        )


def _delete_files(folder: Path) -> int:
    """Delete a study's own files; return how many of them held the weights of a trial.

    What the database says of files is not believed: a row may name any file of this machine.
    """
    if folder.is_symlink() or not folder.is_dir():
        return 0
    own = [path for path in folder.iterdir() if _OWN_FILE.fullmatch(path.name)]
    for path in own:
        path.unlink()
    # A folder with files of others stays.
    with suppress(OSError):
        folder.rmdir()
    return sum(path.name.startswith("trial-") for path in own)
