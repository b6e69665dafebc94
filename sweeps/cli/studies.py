"""``list``, ``results`` and ``delete``: the studies of a database."""

import sys
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from sweeps.cli import ranking
from sweeps.cli.output import (
    FormatOption,
    OutputOption,
    StorageOption,
    StudyArgument,
    UsageMistake,
    choose_format,
    command_line,
    console,
    save_text,
    write_frame,
)
from sweeps.read.words import clean, count, score, whole

if TYPE_CHECKING:
    import pandas as pd

    from storage.database import Database
    from storage.records import StudyRow


def list_studies(
    storage: StorageOption = None, format: FormatOption = None, output: OutputOption = None
) -> None:
    """List the studies of a database, oldest first."""
    from storage import locations, queries

    kind = choose_format(format, output)
    url = locations.resolve_url(storage)
    frame = queries.studies(url)
    if kind != "table":
        write_frame(frame, kind, output=output)
    elif output is not None:
        save_text([_studies_table(frame)], output)
    elif frame.empty:
        start = command_line("run", "relation-cnn", storage=storage)
        console().print(f"{locations.redact(url)} holds no study; start one: {start}")
    else:
        console().print(_studies_table(frame))


def results(
    study: StudyArgument,
    by: Annotated[
        Literal["best", "last", "tail"],
        typer.Option(help="Score that ranks: best epoch, last epoch, or mean of the last 5."),
    ] = "best",
    storage: StorageOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Rank the trials of a study."""
    from storage import locations, queries
    from sweeps.read.study import Study

    kind = choose_format(format, output)
    url = locations.resolve_url(storage)
    if kind != "table":
        write_frame(queries.results(url, study, by), kind, output=output)
        return
    read = Study.read(url, study)
    frame = queries.rank(read.results, f"{by}_score")
    if output is not None:
        save_text(ranking.ranked_lines(frame, width=400, by=by), output, width=400)
        return
    printer = console()
    if frame.empty:
        printer.print(f"study {study} has no trial yet")
        return
    for line in ranking.ranked_lines(frame, width=printer.width, by=by):
        printer.print(line)
    for line in ranking.answer_lines(frame, by=by, space=read.space, metric=clean(read.metric)):
        printer.print(line)


def delete(
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: StorageOption = None,
) -> None:
    """Delete a study: its results, Optuna's trials and its weights files."""
    from storage import locations, queries
    from storage.database import open_database

    url = locations.resolve_url(storage)
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
        files = _delete(db, settings)
        console().print(
            f"deleted study {study!r} from {db.where}: {trials}, {count(files, 'weights file')}",
            soft_wrap=True,
        )


def _delete(db: "Database", settings: "StudyRow") -> int:
    """Delete a study for good; return how many weights files went with it.

    Optuna's study goes first: killed in between, our rows still name the study and a second
    delete finds them.
    """
    from storage import recorder
    from storage.optuna_mirror import delete_study
    from sweeps.running.study import make_holder

    with db.hold_study(settings.name, holder=make_holder(datetime.now(UTC))):
        delete_study(db, settings.uuid)
        names = recorder.delete_study(db, settings.uuid)
    return _delete_weights(db.weights_dir, names, study_uuid=settings.uuid)


def _delete_weights(folder: Path, names: Collection[str], *, study_uuid: str) -> int:
    """Delete files of the weights folder; whatever a name says, nothing outside it."""
    # Trials that were not ended have files that no row names.
    leftover = folder.glob(f"*-{study_uuid[:8]}/trial-*.safetensors")
    paths = {folder / name for name in names} | set(leftover)
    for state in folder.glob(f"*-{study_uuid[:8]}/states-*"):
        state.unlink()
    inside = folder.resolve()
    deleted = 0
    for path in sorted(paths):
        if path.parent.resolve().is_relative_to(inside) and path.is_file():
            path.unlink()
            deleted += 1
    for emptied in {path.parent for path in paths} - {folder}:
        # Not a folder, not empty, or not inside: then it stays.
        if emptied.resolve().is_relative_to(inside):
            with suppress(OSError):
                emptied.rmdir()
    return deleted


def _studies_table(frame: "pd.DataFrame") -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("study", overflow="fold")
    table.add_column("objective", overflow="fold")
    for name in ("trials", "unfinished", "best\nscore", "best\ntrial"):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    table.add_column("created (UTC)", no_wrap=True)
    for row in frame.to_dict(orient="records"):
        table.add_row(
            row["study"],
            row["objective"],
            whole(row["num_trials"]),
            whole(row["num_unfinished"]),
            score(row["best_score"]),
            whole(row["best_trial"]),
            f"{row['created_at']:%Y-%m-%d %H:%M}",
        )
    return table
