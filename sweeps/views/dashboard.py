"""Optuna's dashboard on a study's database: on this machine alone, and read-only.

Each trial's running best score stands in Optuna's intermediate values; a study's note and figures
are written by its sweep (``note_writer``), not here. Beside Optuna's pages the report is served:
``/report/STUDY``, and ``/report`` of the study that was created last.
"""

import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from storage.database import Database

LOOPBACK = "127.0.0.1"

_READING = frozenset({"GET", "HEAD"})
_TEXT, _HTML = "text/plain; charset=utf-8", "text/html; charset=utf-8"
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


def make_server(db: "Database", *, port: int, is_writable: bool = False) -> WSGIServer:
    """Return a server of the dashboard, bound to the loopback address; the caller serves it.

    Args:
        db: The database; stays open as long as the server.
        port: Port to listen on; 0: any free one.
        is_writable: Whether the dashboard may change the database.

    Raises:
        OSError: If the port is taken or not allowed.
        StorageError: If Optuna's tables cannot be opened.
    """
    import optuna_dashboard

    from storage.optuna_mirror import optuna_storage

    server = _Server((LOOPBACK, port), _QuietHandler)
    try:
        pages = cast("WSGIApplication", optuna_dashboard.wsgi(optuna_storage(db)))
        server.set_app(guard(beside_reports(pages, db), is_writable=is_writable))
    except BaseException:
        server.server_close()
        raise
    return server


def guard(pages: "WSGIApplication", *, is_writable: bool = False) -> "WSGIApplication":
    """Return the application, behind a door that lets only this machine's own readers in.

    A page of another site cannot read through it: its requests carry that site's name as Host,
    also after its name was made to point here (DNS rebinding). Nobody can write through it
    unless ``is_writable``, and then only its own pages can: the dashboard can delete studies and
    tell trials, and a sweep would not know.
    """

    def guarded(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "")
        if not _OWN_HOST.fullmatch(host):
            return _refuse(start, "this dashboard answers to localhost and 127.0.0.1 alone")
        if environ["REQUEST_METHOD"] in _READING:
            return pages(environ, start)
        if not is_writable:
            way_out = "bestepoch dashboard --writable lets it change studies"
            return _refuse(start, f"this dashboard is read-only; {way_out}")
        if environ.get("HTTP_ORIGIN", f"http://{host}").lower() != f"http://{host}".lower():
            return _refuse(start, "this dashboard takes changes from its own pages alone")
        return pages(environ, start)

    return guarded


def beside_reports(pages: "WSGIApplication", db: "Database") -> "WSGIApplication":
    """Return the application with ``/report`` and ``/report/STUDY``, rendered when asked for."""
    # One at a time: of 500 trials it takes seconds of a processor, and a reader may press reload.
    one_at_a_time = threading.Lock()

    def routed(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        root, _, study = environ.get("PATH_INFO", "").strip("/").partition("/")
        if root != "report" or environ["REQUEST_METHOD"] not in _READING:
            return pages(environ, start)
        with one_at_a_time:
            status, kind, text = _answer(lambda: _report_page(db, study))
        body = text.encode()
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start(f"{status.value} {status.phrase}", [*headers, ("Cache-Control", "no-store")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return routed


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


def _answer(page: Callable[[], str]) -> tuple[HTTPStatus, str, str]:
    from storage.locations import StorageError
    from storage.queries import UnknownStudyError

    try:
        return HTTPStatus.OK, _HTML, page()
    except UnknownStudyError as error:
        return HTTPStatus.NOT_FOUND, _TEXT, f"{error}\n"
    except StorageError as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{error}\n"


def _report_page(db: "Database", study: str) -> str:
    from storage import queries
    from sweeps.report.page import report_html

    if not study:
        oldest_first = queries.studies(db.url)["study"].tolist()
        if not oldest_first:
            raise queries.UnknownStudyError("no study yet")
        study = oldest_first[-1]
    return report_html(db.url, study)


def _refuse(start: "StartResponse", reason: str) -> Iterable[bytes]:
    status = HTTPStatus.FORBIDDEN
    start(f"{status.value} {status.phrase}", [("Content-Type", _TEXT)])
    return [f"{reason}\n".encode()]
