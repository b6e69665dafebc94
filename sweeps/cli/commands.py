"""The commands as a person types them: names, arguments, options and help texts.

What a command does stands in a module of its own, which is imported when the command is called:
help must not wait for pandas, SQLAlchemy and Optuna.
"""

import importlib
import inspect
import logging
import signal
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from objectives.metric_names import DEFAULT_METRIC, METRICS
from sweeps.cli import choices, quit_at_once


def _argument(name: str, kind: Any, metavar: str, text: str, **rest: Any) -> inspect.Parameter:
    """Return an argument; one whose type allows None may be left out."""
    default = None if type(None) in get_args(kind) else inspect.Parameter.empty
    info = typer.Argument(metavar=metavar, help=text, show_default=False, **rest)
    return _parameter(name, kind, info, default)


def _option(
    flag: str, kind: Any, text: str, *, into: str | None = None, default: Any = None, **rest: Any
) -> inspect.Parameter:
    """Return an option; ``into`` is the name of its value where it is not that of the flag."""
    names = [flag] if flag.startswith("--") else [flag, f"--{into}"]
    name = into or flag.removeprefix("--").replace("-", "_")
    return _parameter(name, kind, typer.Option(*names, help=text, **rest), default)


def _parameter(name: str, kind: Any, info: Any, default: Any) -> inspect.Parameter:
    kind = kind | None if default is None else kind
    how = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, how, default=default, annotation=Annotated[kind, info])


_STUDY = _argument("study", str, "STUDY", "Name of the study.")
_TRIAL = _argument("trial", int, "TRIAL", "Number of the trial.", parser=choices.read_trial)
_STORAGE = _option(
    "--storage",
    str,
    "Database URL or SQLite file. (BESTEPOCH_STORAGE, else bestepoch.db here)",
    metavar="URL",
)
_FORMAT = _option(
    "--format", str, "What to write; -o's suffix decides if not given.", **choices.FORMAT
)
_OUTPUT = _option("-o", Path, "File to write to.", into="output", metavar="FILE")


class _Commands(TyperGroup):
    """The commands; Typer alone would exit without a line after Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        if signal.getsignal(signal.SIGINT) is quit_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort from None


app = typer.Typer(
    cls=_Commands,
    help="Hyperparameter sweeps for PyTorch classifiers, compared by their best epoch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
new = typer.Typer(help="Write a file to begin with.", no_args_is_help=True)


def _command(
    name: str, text: str, *given: inspect.Parameter, of: typer.Typer = app, place: str = ""
) -> None:
    """Add a command: the function ``place`` of the module of this name, else ``name``."""

    def call(**values: Any) -> None:
        module = importlib.import_module(f"sweeps.cli.{place or name}")
        getattr(module, place or name)(**values)

    call.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]
    of.command(name, help=text)(call)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib import metadata

        typer.echo(f"bestepoch {metadata.version('bestepoch')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, and what a run trains next and why.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    context.obj.debug = debug
    if debug:
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("bestepoch").setLevel(logging.DEBUG)


_command(
    "run",
    "Run a sweep until its budget is spent; the same command again carries it on.\n\n"
    "Exit codes: 0 done, 1 no trial got a score, 2 a mistake of yours, 130 interrupted.",
    _argument(
        "target",
        str | None,
        "OBJECTIVE_OR_FILE",
        "An objective (relation-cnn), yours (FILE.py, FILE.py:Class, package.module:Class), or a "
        "sweep file (.toml); none with --like.",
    ),
    _option(
        "--like",
        str,
        "Take all settings of this study, and run them with those given here as the next study, "
        "or as --study.",
        metavar="STUDY",
    ),
    _option("--trials", int, "Most trials that the study starts. (no limit)"),
    _option(
        "--max-total-epochs",
        int,
        "Epochs that all trials train together. (the objective's, without another limit)",
    ),
    _option("--study", str, "Name of the study. (the objective's)", metavar="NAME"),
    _STORAGE,
    _option(
        "--metric",
        str,
        f"The score: {', '.join(METRICS)}, f1:CLASS. ({DEFAULT_METRIC})",
        metavar="NAME",
    ),
    _option("--data", Path, "Data file. (the one that ships with it)", metavar="FILE"),
    _option("--label", str, "Column with the classes. (label)", metavar="COLUMN"),
    _option("--workers", int, "Worker processes. (one a core)"),
    _option("--slots", int, "Trials that train together. (as many as pay, measured)"),
    _option("--device", str, "Where to train: auto, cpu or cuda. (auto)", metavar="NAME"),
    _option(
        "--checkpoint-seconds", float, "Seconds of training that a dead process may cost. (60)"
    ),
    _option(
        "--db-wait",
        float,
        "How long a run waits for a database that does not answer. (10)",
        metavar="MINUTES",
    ),
    _option("--seed", int, "Seed of the whole study."),
    _option("--precision", str, "Matrix products: float32 or tf32. (float32)", metavar="NAME"),
    _option("--max-minutes", float, "Minutes after which no further epoch starts."),
    _option(
        "--audit",
        float,
        "Share of the trials, such as 0.05, that run on to max_epochs where they would have been "
        "stopped: what did stopping cost?",
        metavar="SHARE",
    ),
    _option(
        "--try",
        list[str],
        "A trial to run first: learning_rate=0.001,optimizer=adam. May be repeated.",
        into="tries",
        metavar="NAME=VALUE,...",
    ),
    _option(
        "--warm-start",
        str,
        "Train this study's five best configurations first.",
        metavar="STUDY",
    ),
    _option(
        "--set",
        list[str],
        "Any key of a sweep file: patience=8, space.dropout=0.5. May be repeated.",
        into="overrides",
        metavar="KEY=VALUE",
    ),
    _option(
        "--no-check",
        bool,
        "Begin the sweep of your own training loop without a check of it.",
        default=False,
    ),
    _option("--force", bool, "Carry a study on although its settings changed.", default=False),
    _option("--quiet", bool, "Print the final table and nothing else.", default=False),
    _option(
        "--json-lines",
        bool,
        "Print each event as a line of JSON, the ranked best as the last.",
        default=False,
    ),
)

app.add_typer(new, name="new")


@new.callback()
def _new() -> None:
    """Keep ``objective`` a command of its own: Typer would merge the only one into ``new``."""


_command(
    "check",
    "Run a training loop for two epochs and find its bugs: each with evidence, line and fix.\n\n"
    "Exit codes: 0 nothing that wastes a sweep, 2 a fatal finding, or another mistake of yours.",
    _argument(
        "target",
        str,
        "OBJECTIVE_OR_FILE",
        "Your training loop (FILE.py:FUNCTION), an objective, or a sweep file (.toml).",
    ),
    _option(
        "--set",
        list[str],
        "Any key of a sweep file: space.learning_rate=0.01. May be repeated.",
        into="overrides",
        metavar="KEY=VALUE",
    ),
    _option(
        "--seconds", float, "Seconds after which it ends with what it has seen.", default=60.0
    ),
    _option("--json", bool, "Print the findings as JSON.", into="is_json", default=False),
)
_command(
    "objective",
    "Write NAME.py: data, a model and a search space of your own, ready to run.",
    _argument("name", str, "NAME", "Name of the file, with or without .py."),
    of=new,
    place="new_objective",
)
_command(
    "list",
    "List the studies of a database, oldest first.",
    *(_STORAGE, _FORMAT, _OUTPUT),
    place="list_studies",
)
_command(
    "results",
    "Rank the trials of a study.",
    _STUDY,
    _option(
        "--by",
        str,
        "Score that ranks: best epoch, last epoch, or mean of the last 5.",
        default="best",
        **choices.RULE,
    ),
    *(_STORAGE, _FORMAT, _OUTPUT),
)
_command(
    "show",
    "Show a trial: scores, curve, classes, and how to load its best weights.",
    *(_STUDY, _TRIAL, _STORAGE),
)
_command(
    "weights",
    "Print where the weights of a trial's best epoch are; train it again if they are gone.\n\n"
    "A sweep writes the weights of its best 20 trials, and of those that ended by themselves.",
    *(_STUDY, _TRIAL, _STORAGE),
)
_command(
    "diagnose",
    "Say what each learning curve shows, and what to change; of one trial, all of it.",
    _STUDY,
    _argument("trial", int | None, "TRIAL", "Number of a trial.", parser=choices.read_trial),
    _STORAGE,
    _option(
        "--sweep",
        Path,
        "Write the next sweep as a file, with the advice in comments.",
        metavar="FILE",
    ),
    _option(
        "--json",
        bool,
        "Write JSON, evidence and advice of every trial.",
        into="as_json",
        default=False,
    ),
)
_command(
    "curves",
    "Draw the learning curves of the best trials, best epochs marked.",
    _STUDY,
    _option("--top", int, "How many of the best trials to draw.", default=5, min=1, max=26),
    _option("--metric", str, "What to draw.", default="score", **choices.COLUMN),
    _option("--html", Path, "Write one HTML file instead; it needs no network.", metavar="FILE"),
    _STORAGE,
)
_command(
    "compare",
    "Rank trials by best, last and tail score and at an epoch, side by side.\n\n"
    "Scores that cannot be told apart from the best are marked as ties.",
    _argument("studies", list[str], "STUDY", "Names of one or several studies."),
    _option(
        "--at-epoch",
        int,
        "Compare at this epoch too. (the last that all reached but those cut short)",
        metavar="X",
        min=1,
    ),
    _option("--by", str, "Rule that orders the table.", default="best", **choices.RULE),
    _option(
        "--to-score",
        float,
        "Count the epochs to this score. (the lowest that ties with the best)",
        metavar="SCORE",
        min=-1.0,
        max=1.0,
    ),
    *(_STORAGE, _FORMAT, _OUTPUT),
)
_command(
    "report",
    "Write a study as one HTML file that opens without a network.",
    _STUDY,
    _OUTPUT.replace(default=Path("report.html")),
    _STORAGE,
)
_command(
    "dashboard",
    "Show the studies in the browser, read-only, on this machine alone.\n\n"
    "From another machine: ssh -L 8080:127.0.0.1:8080 THIS_MACHINE",
    _option("--port", int, "Port to listen on; 0: any free one.", default=8080, min=0, max=65535),
    _STORAGE,
    _option(
        "--writable",
        bool,
        "Let the dashboard change and delete what it shows.",
        into="is_writable",
        default=False,
    ),
)
_command(
    "delete",
    "Delete a study: its results, Optuna's trials and its weights files.",
    _STUDY,
    _option("--yes", bool, "Do not ask.", default=False),
    _STORAGE,
)
_command(
    "doctor",
    "Check the installation and the database; exit code 1 if something is wrong.",
    _STORAGE,
)
