"""``new``: writes a file to begin with."""

import importlib.util
import keyword
import re
from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.output import UsageMistake, command_line

app = typer.Typer(help="Write a file to begin with.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Keep ``objective`` a command of its own: Typer would merge the only one into ``new``."""


@app.command("objective")
def objective(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the file, with or without .py.")
    ],
) -> None:
    """Write NAME.py: data, a model and a search space of your own, ready to run."""
    module = _to_module_name(name)
    path = Path(f"{module}.py")
    example = Path(__file__).parents[2] / "objectives" / "example.py"
    text = example.read_text(encoding="utf-8").replace("example.py", str(path))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageMistake(f"{path} exists; take another name") from None
    except OSError as error:
        raise UsageMistake(f"{path}: cannot be written: {error.strerror or error}") from None
    typer.echo(f"wrote {path}: two classes of points and a small network, yours to change")
    typer.echo(f"  {command_line('run', path)}")


def _to_module_name(name: str) -> str:
    """Return the name of a module that no other has.

    Raises:
        UsageMistake: If there is no such name.
    """
    module = name.removesuffix(".py").replace("-", "_")
    if keyword.iskeyword(module):
        raise UsageMistake(f"NAME: {module!r} is a word of Python; take another name")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", module):
        raise UsageMistake(
            f"NAME: must be letters, digits and _, and begin with a letter, got {name!r}"
        )
    if importlib.util.find_spec(module) is not None:
        raise UsageMistake(f"NAME: {module!r} is a module of Python or an installed package")
    return module
