"""Optuna's dashboard on a study's database: on this machine alone, and read-only.

Each trial's running best macro-F1 stands in Optuna's intermediate values, at epochs 1, 2, 4, 8,
... and its last. Knows our tables not at all; what is drawn is Optuna's.
"""

import re
import socket
import sys
from collections.abc import Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from storage.database import Database

LOOPBACK = "127.0.0.1"

_READING = frozenset({"GET", "HEAD"})
_OWN_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)


class _Server(ThreadingMixIn, WSGIServer):
    # A browser that keeps a connection open must not keep the program.
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that has hung up; print what else went wrong."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a page asks for dozens of things every few seconds."""


def make_server(db: "Database", *, port: int) -> WSGIServer:
    """Return a server of the dashboard, bound to the loopback address; the caller serves it.

    Args:
        db: The database; stays open as long as the server.
        port: Port to listen on; 0: any free one.

    Raises:
        OSError: If the port is taken or not allowed.
        StorageError: If Optuna's tables cannot be opened.
    """
    import optuna_dashboard

    server = _Server((LOOPBACK, port), _QuietHandler)
    try:
        pages = cast("WSGIApplication", optuna_dashboard.wsgi(db.optuna_storage()))
        server.set_app(guard(pages))
    except BaseException:
        server.server_close()
        raise
    return server


def guard(pages: "WSGIApplication") -> "WSGIApplication":
    """Return the application, behind a door that lets only this machine's own readers in.

    A page of another site cannot read through it: its requests carry that site's name as Host,
    also after its name was made to point here (DNS rebinding). Nobody can write through it: the
    dashboard can delete studies and tell trials, and a sweep would not know.
    """

    def guarded(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if not _OWN_HOST.fullmatch(environ.get("HTTP_HOST", "")):
            return _refuse(start, "this dashboard answers to localhost and 127.0.0.1 alone")
        if environ["REQUEST_METHOD"] not in _READING:
            return _refuse(start, "this dashboard is read-only; change studies with bestepoch")
        return pages(environ, start)

    return guarded


def find_free_port(start: int, *, tries: int) -> int | None:
    """Return the first port from ``start`` that nobody listens on now, or None."""
    for port in range(start, min(start + tries, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    return None


def _refuse(start: "StartResponse", reason: str) -> Iterable[bytes]:
    status = f"{HTTPStatus.FORBIDDEN.value} {HTTPStatus.FORBIDDEN.phrase}"
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{reason}\n".encode()]
