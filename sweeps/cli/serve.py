"""``dashboard``: Optuna's dashboard in the browser."""

import warnings
from typing import Annotated, Literal

import typer

from sweeps.cli.output import StorageOption, UsageMistake, console

_PORTS_TO_TRY = 20


def dashboard(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8080,
    storage: StorageOption = None,
    is_writable: Annotated[
        bool,
        typer.Option("--writable", help="Let the dashboard change and delete what it shows."),
    ] = False,
    host: Annotated[
        Literal["127.0.0.1"], typer.Option(help="This machine alone; there is no other choice.")
    ] = "127.0.0.1",
) -> None:
    """Show the studies in the browser, read-only, on this machine alone.

    From another machine: ssh -L 8080:127.0.0.1:8080 THIS_MACHINE
    """
    from storage import locations
    from storage.database import open_database
    from sweeps.views import dashboard as web

    # Optuna warns on the terminal, at each look at the page, of a hyperparameter that few trials
    # have.
    warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
    with open_database(locations.resolve_url(storage), create=False) as db:
        try:
            server = web.make_server(db, port=port, is_writable=is_writable)
        except OSError as error:
            free = web.find_free_port(port + 1, tries=_PORTS_TO_TRY)
            way_out = "" if free is None else f"; try --port {free}"
            raise UsageMistake(
                f"port {port} cannot be used: {error.strerror or error}{way_out}"
            ) from None
        with server:
            printer = console()
            printer.print(f"dashboard of {db.where}", soft_wrap=True)
            url = f"http://{host}:{server.server_port}"
            printer.print(f"open {url}/  (Ctrl-C ends it)")
            printer.print(f"report of the study NAME: {url}/report/NAME")
            if is_writable:
                printer.print("writable: who opens it can delete studies")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                printer.print("\nended")
