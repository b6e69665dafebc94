"""``list``: the studies of a database."""

from pathlib import Path

from storage import queries
from storage.locations import redact, resolve_url
from sweeps.cli.console import command_line, console
from sweeps.cli.files import Format, choose_format, write_frame
from sweeps.cli.tables import add_numbers, add_texts, new_table
from sweeps.read.words import score, whole


def list_studies(*, storage: str | None, format: Format | None, output: Path | None) -> None:
    """Print or write a line a study, oldest first."""
    kind = choose_format(format, output)
    url = resolve_url(storage)
    frame = queries.studies(url)
    if kind != "table":
        write_frame(frame, kind, output=output)
        return
    if frame.empty:
        start = command_line("run", "relation-cnn", storage=storage)
        console().print(f"{redact(url)} holds no study; start one: {start}")
        return
    table = new_table()
    add_texts(table, "study", "objective", folds=True)
    add_numbers(table, "trials", "unfinished", "best\nscore", "best\ntrial")
    add_texts(table, "created (UTC)")
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
    console().print(table)
