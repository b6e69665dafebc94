"""The commands as a person types them: names, arguments, options and help texts.

What a command does stands in a module of its own, which is imported when the command is called:
help must not wait for pandas, SQLAlchemy and Optuna.
"""

import functools
import importlib
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from objectives.metric_names import DEFAULT_METRIC, METRICS
from sweeps.cli import choices, quit_at_once

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study.")]
TrialArgument = Annotated[
    int, typer.Argument(metavar="TRIAL", help="Number of the trial.", parser=choices.read_trial)
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Database URL or SQLite file. (BESTEPOCH_STORAGE, else bestepoch.db here)",
        show_default=False,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", help="What to write; -o's suffix decides if not given.", **choices.FORMAT
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write to.")
]


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
    add_completion=False,
    pretty_exceptions_enable=False,
)
new = typer.Typer(help="Write a file to begin with.", no_args_is_help=True)


def _command(name: str, *, of: typer.Typer = app) -> Callable[[Callable[..., None]], None]:
    """Return a decorator that makes a command of a signature.

    The command calls the function of the signature's name in the module of the same name.
    """

    def decorate(signature: Callable[..., None]) -> None:
        @functools.wraps(signature)
        def call(**given: Any) -> None:
            place = signature.__name__
            getattr(importlib.import_module(f"sweeps.cli.{place}"), place)(**given)

        of.command(name)(call)

    return decorate


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


@_command("run")
def run(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="OBJECTIVE_OR_FILE",
            help="An objective (relation-cnn), yours (FILE.py, FILE.py:Class, "
            "package.module:Class), or a sweep file (.toml); none with --like.",
            show_default=False,
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Take all settings of this study, and run them with those given here as the "
            "next study, or as --study.",
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Most trials that the study starts. (no limit)")
    ] = None,
    max_total_epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs that all trials train together. (the objective's, without another limit)"
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the study. (the objective's)")
    ] = None,
    storage: StorageOption = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"The score: {', '.join(METRICS)}, f1:CLASS. ({DEFAULT_METRIC})"
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Data file. (the one that ships with it)")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes. (one a core)")] = None,
    slots: Annotated[
        int | None, typer.Option(help="Trials that train together. (as many as pay, measured)")
    ] = None,
    checkpoint_seconds: Annotated[
        float | None,
        typer.Option(help="Seconds of training that a dead process may cost. (60)"),
    ] = None,
    db_wait: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES", help="How long to wait for a database that is silent. (10)"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the whole study.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Matrix products: float32 or tf32. (float32)"),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Minutes after which no further epoch starts.")
    ] = None,
    audit: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the trials, such as 0.05, that run on to max_epochs where they would "
            "have been stopped: what did stopping cost?",
        ),
    ] = None,
    tries: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="NAME=VALUE,...",
            help="A trial to run first: learning_rate=0.001,optimizer=adam. May be repeated.",
        ),
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(metavar="STUDY", help="Train this study's five best configurations first."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any key of a sweep file: patience=8, space.dropout=0.5. May be repeated.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Carry a study on although its settings changed.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print the final table and nothing else.")
    ] = False,
    json_lines: Annotated[
        bool,
        typer.Option(
            "--json-lines", help="Print each event as a line of JSON, the ranked best as the last."
        ),
    ] = False,
) -> None:
    """Run a sweep until its budget is spent; the same command again carries it on.

    Exit codes: 0 done, 1 no trial got a score, 2 a mistake of yours, 130 interrupted.
    """


app.add_typer(new, name="new")


@new.callback()
def _new() -> None:
    """Keep ``objective`` a command of its own: Typer would merge the only one into ``new``."""


@_command("objective", of=new)
def new_objective(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the file, with or without .py.")
    ],
) -> None:
    """Write NAME.py: data, a model and a search space of your own, ready to run."""


@_command("list")
def list_studies(
    storage: StorageOption = None, format: FormatOption = None, output: OutputOption = None
) -> None:
    """List the studies of a database, oldest first."""


@_command("results")
def results(
    study: StudyArgument,
    by: Annotated[
        str,
        typer.Option(
            help="Score that ranks: best epoch, last epoch, or mean of the last 5.", **choices.RULE
        ),
    ] = "best",
    storage: StorageOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Rank the trials of a study."""


@_command("show")
def show(study: StudyArgument, trial: TrialArgument, storage: StorageOption = None) -> None:
    """Show a trial: scores, curve, classes, and how to load its best weights."""


@_command("weights")
def weights(study: StudyArgument, trial: TrialArgument, storage: StorageOption = None) -> None:
    """Print where the weights of a trial's best epoch are; train it again if they are not there.

    A sweep writes the weights of its best 20 trials, and of those that ended by themselves.
    """


@_command("diagnose")
def diagnose(
    study: StudyArgument,
    trial: Annotated[
        int | None,
        typer.Argument(metavar="TRIAL", help="Number of a trial.", parser=choices.read_trial),
    ] = None,
    storage: StorageOption = None,
    sweep: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the next sweep as a file, with the advice in comments."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, evidence and advice of every trial.")
    ] = False,
) -> None:
    """Say what each learning curve shows, and what to change; of one trial, all of it."""


@_command("curves")
def curves(
    study: StudyArgument,
    top: Annotated[
        int, typer.Option(help="How many of the best trials to draw.", min=1, max=26)
    ] = 5,
    metric: Annotated[str, typer.Option(help="What to draw.", **choices.COLUMN)] = "score",
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one HTML file instead; it needs no network."),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Draw the learning curves of the best trials, best epochs marked."""


@_command("compare")
def compare(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY", help="Names of one or several studies.")
    ],
    at_epoch: Annotated[
        int | None,
        typer.Option(
            metavar="X",
            min=1,
            help="Compare at this epoch too. (the last that all reached but those cut short)",
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Rule that orders the table.", **choices.RULE)] = "best",
    to_score: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            min=-1.0,
            max=1.0,
            help="Count the epochs to this score. (the lowest that ties with the best)",
        ),
    ] = None,
    storage: StorageOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Rank trials by best, last and tail score and at an epoch, side by side.

    Scores that cannot be told apart from the best are marked as ties.
    """


@_command("report")
def report(
    study: StudyArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="File to write to.")
    ] = Path("report.html"),
    storage: StorageOption = None,
) -> None:
    """Write a study as one HTML file that opens without a network."""


@_command("dashboard")
def dashboard(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8080,
    storage: StorageOption = None,
    is_writable: Annotated[
        bool,
        typer.Option("--writable", help="Let the dashboard change and delete what it shows."),
    ] = False,
) -> None:
    """Show the studies in the browser, read-only, on this machine alone.

    From another machine: ssh -L 8080:127.0.0.1:8080 THIS_MACHINE
    """


@_command("delete")
def delete(
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: StorageOption = None,
) -> None:
    """Delete a study: its results, Optuna's trials and its weights files."""


@_command("doctor")
def doctor(storage: StorageOption = None) -> None:
    """Check the installation and the database; exit code 1 if something is wrong."""
