"""``list``, ``results`` and ``delete``: the studies of a database."""

import sys
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
    score,
    whole,
    write_frame,
)

if TYPE_CHECKING:
    import pandas as pd

    from storage.database import Database


def list_studies(
    storage: StorageOption = None, format: FormatOption = None, output: OutputOption = None
) -> None:
    """List the studies of a database, oldest first."""
    from storage import locations, queries

    url = locations.resolve_url(storage)
    frame = queries.studies(url)
    kind = choose_format(format, output)
    if kind != "table":
        write_frame(frame, kind, output)
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

    frame = queries.results(locations.resolve_url(storage), study, by)
    kind = choose_format(format, output)
    if kind != "table":
        write_frame(frame, kind, output)
        return
    if output is not None:
        save_text(ranking.ranked_lines(frame, width=400, by=by), output, width=400)
        return
    printer = console()
    if frame.empty:
        printer.print(f"study {study} has no trial yet")
        return
    for line in ranking.ranked_lines(frame, width=printer.width, by=by):
        printer.print(line)
    for line in ranking.answer_lines(frame, by=by):
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
    trials = len(queries.results(url, study))
    with open_database(url, create=False) as db:
        _refuse_if_running(db, study, settings.uuid)
        if not yes:
            if not sys.stdin.isatty():
                raise UsageMistake(f"not a terminal to ask at; to delete {study!r} give --yes")
            question = f"Delete study {study!r} in {db.where} with its {trials} trials?"
            if not typer.confirm(question):
                console().print("kept")
                return
        files = _delete(db, study, settings.uuid)
        console().print(
            f"deleted study {study!r} from {db.where}: {trials} trials, {files} weights files",
            soft_wrap=True,
        )


def _refuse_if_running(db: "Database", study: str, study_uuid: str) -> None:
    import socket

    from storage import queries
    from sweeps.bookkeeping import is_left

    here = socket.gethostname()
    running = [one for one in queries.unfinished_trials(db, study_uuid) if not is_left(one)]
    mine = sorted({one.pid for one in running if one.host == here})
    if mine:
        pids = ", ".join(map(str, mine))
        raise UsageMistake(f"study {study!r} is being trained by process {pids}; stop it first")
    others = sorted({one.host for one in running})
    if others:
        # Nothing here can tell whether those still live.
        console(stderr=True).print(
            f"note: trials are unfinished on {', '.join(others)}; a worker there would lose them"
        )


def _delete(db: "Database", study: str, study_uuid: str) -> int:
    """Delete a study for good; return how many weights files went with it.

    Optuna's study goes first: killed in between, our rows still name the study and a second
    delete finds them.
    """
    import optuna

    from storage import queries, recorder

    with db.study_lock(study):
        _refuse_if_running(db, study, study_uuid)
        assert queries.find_study(db, study) is not None, f"study {study} went away"
        try:
            optuna.delete_study(study_name=study, storage=db.optuna_storage())
        except KeyError:
            pass  # deleted in Optuna before, or ours is an older one under another name
        names = recorder.delete_study(db, study_uuid=study_uuid)
    return _delete_weights(db.weights_dir, names, study_uuid)


def _delete_weights(folder: Path, names: tuple[str, ...], study_uuid: str) -> int:
    """Delete files of the weights folder; whatever a name says, nothing outside it."""
    # Attempts that were given up have files that no row names.
    leftover = [path.name for path in folder.glob(f"{study_uuid}-*")] if folder.is_dir() else []
    deleted = 0
    for name in sorted({*names, *leftover}):
        path = folder / name
        if Path(name).name != name or not (path.is_file() or path.is_symlink()):
            continue
        path.unlink()
        deleted += 1
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
            score(row["best_macro_f1"]),
            whole(row["best_trial"]),
            f"{row['created_at']:%Y-%m-%d %H:%M}",
        )
    return table
