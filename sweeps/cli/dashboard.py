"""``dashboard``: Optuna's dashboard in the browser."""

import warnings

from storage.database import open_database
from storage.locations import resolve_url
from sweeps.cli.console import UsageMistake, console
from sweeps.views import dashboard as web


def dashboard(*, port: int, storage: str | None, is_writable: bool) -> None:
    """Serve the dashboard until Ctrl-C."""
    # Optuna warns of a hyperparameter that few trials have, each time somebody looks at a page.
    warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
    with open_database(resolve_url(storage), create=False) as db:
        try:
            server = web.make_server(db, port=port, is_writable=is_writable)
        except OSError as error:
            raise UsageMistake(
                f"port {port} cannot be used: {error.strerror or error}; --port 0 takes a free one"
            ) from None
        with server:
            printer = console()
            printer.print(f"dashboard of {db.where}", soft_wrap=True)
            url = f"http://{web.LOOPBACK}:{server.server_port}"
            printer.print(f"open {url}/  (Ctrl-C ends it)")
            printer.print(f"report of the study NAME: {url}/report/NAME")
            if is_writable:
                printer.print("writable: who opens it can delete studies")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                printer.print("\nended")
