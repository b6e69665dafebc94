"""``run --json-lines``: each event of a sweep as one line of JSON, and the ranked best at its end.

Every line is an object with the key ``event``; a number that is NaN or infinite is null.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sweeps.read.words import is_missing

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.running.events import Event
    from sweeps.running.sweep import SweepEnd

#: Trials of the last line.
MAX_RANKED = 10
_RANKED = (
    "rank",
    "trial",
    "best_score",
    "best_epoch",
    "last_score",
    "last_epoch",
    "epochs_run",
    "outcome",
)


def event_line(event: "Event") -> str:
    """Return an event as one line of JSON: its class's name, then its fields."""
    return _to_json({"event": type(event).__name__, **asdict(event)})


def end_line(end: "SweepEnd", frame: "pd.DataFrame | None", *, exit_code: int) -> str:
    """Return the last line, ``SweepEnded``: how it ended, and the best trials as ranked.

    Args:
        end: How the sweep ended.
        frame: ``queries.results``; None: there are none.
        exit_code: What the command exits with.
    """
    num_trials, ranked = 0, []
    if frame is not None:
        num_trials = len(frame)
        for row in frame[frame["rank"].notna()].head(MAX_RANKED).to_dict(orient="records"):
            shown = {name: None if is_missing(row[name]) else row[name] for name in _RANKED}
            ranked.append({**shown, "params": json.loads(row["params"])})
    return _to_json(
        {
            "event": "SweepEnded",
            "study": end.study,
            "ending": end.ending,
            "reason": end.reason,
            "exit_code": exit_code,
            "num_trials": num_trials,
            "ranked": ranked,
        }
    )


@contextmanager
def only_lines() -> Iterator[Callable[[str], None]]:
    """Give a function that writes a line to standard output; what else is printed goes elsewhere.

    Inside the block prints, such as those of one's own objective, go to standard error. A line is
    flushed at once: a reader waits for it.
    """
    out = sys.stdout

    def write(line: str) -> None:
        out.write(line + "\n")
        out.flush()

    with redirect_stdout(sys.stderr):
        yield write


def _to_json(values: Mapping[str, Any]) -> str:
    return json.dumps(_finite(values), allow_nan=False, default=lambda value: value.item())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
