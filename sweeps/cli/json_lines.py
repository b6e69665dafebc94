"""``run --json-lines``: each event of a sweep as one line of JSON, and the ranked best at its end.

Every line is an object with the key ``event``; a number that is NaN or infinite is null.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING

from sweeps.cli.files import to_json
from sweeps.running.events import Event
from sweeps.running.sweep import SweepEnd

if TYPE_CHECKING:
    import pandas as pd

#: Trials of the last line.
MAX_RANKED = 10
_SCORES = ("best_score", "best_epoch", "last_score", "last_epoch")
_RANKED = ("rank", "trial", *_SCORES, "epochs_run", "outcome")


def event_line(event: Event) -> str:
    """Return an event as one line of JSON: its class's name, then its fields."""
    return json.dumps(to_json({"event": type(event).__name__, **asdict(event)}))


def end_line(end: SweepEnd, frame: "pd.DataFrame | None", *, exit_code: int) -> str:
    """Return the last line, ``SweepEnded``: how it ended, and the best trials as ranked.

    Args:
        end: How the sweep ended.
        frame: ``queries.results``; None: there are none.
        exit_code: What the command exits with.
    """
    ranked = []
    if frame is not None:
        for row in frame[frame["rank"].notna()].head(MAX_RANKED).to_dict(orient="records"):
            shown = {name: row[name] for name in _RANKED}
            ranked.append({**shown, "params": json.loads(row["params"])})
    last = {
        "event": "SweepEnded",
        "study": end.study,
        "ending": end.ending,
        "reason": end.reason,
        "exit_code": exit_code,
        "num_trials": 0 if frame is None else len(frame),
        "ranked": ranked,
    }
    return json.dumps(to_json(last))


@contextmanager
def only_lines() -> Iterator[Callable[[str], None]]:
    """Give a function that writes a line to standard output; other prints go to standard error.

    Inside the block an objective of one's own may print. A line is flushed at once: a reader
    waits for it.
    """
    out = sys.stdout

    def write(line: str) -> None:
        out.write(line + "\n")
        out.flush()

    with redirect_stdout(sys.stderr):
        yield write
