"""``new objective``: writes a file to begin with."""

import importlib.util
import keyword
from pathlib import Path

import typer

from sweeps.cli.console import UsageMistake, command_line
from sweeps.cli.files import write_new

_EXAMPLE = Path(__file__).parents[2] / "objectives" / "example.py"


def new_objective(*, name: str) -> None:
    """Write NAME.py and print the command that runs it."""
    path = Path(f"{_to_module_name(name)}.py")
    write_new(_EXAMPLE.read_text(encoding="utf-8").replace("example.py", str(path)), path)
    typer.echo(f"wrote {path}: two classes of points and a small network, yours to change")
    typer.echo(f"  {command_line('run', path)}")


def _to_module_name(name: str) -> str:
    """Return the name as that of a new module; UsageMistake if it cannot be one."""
    module = name.removesuffix(".py").replace("-", "_")
    if keyword.iskeyword(module):
        raise UsageMistake(f"NAME: {module!r} is a word of Python; take another name")
    if not (module.isascii() and module.isidentifier()):
        raise UsageMistake(
            f"NAME: must be letters, digits and _, and begin with a letter, got {name!r}"
        )
    if importlib.util.find_spec(module) is not None:
        raise UsageMistake(f"NAME: {module!r} is a module of Python or an installed package")
    return module
