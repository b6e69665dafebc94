"""Optuna's dashboard on a study's database: on this machine alone, and read-only.

Each trial's running best score stands in Optuna's intermediate values; a study's note and figures
are written by its sweep (``note_writer``), not here. Beside Optuna's pages the report is served:
``/report/STUDY``, and ``/report`` of the study that was created last.
"""

import re
import sys
import threading
from collections.abc import Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import optuna_dashboard

from storage import queries
from storage.database import Database, StorageError
from storage.optuna_mirror import optuna_storage
from sweeps.report.page import report_html

LOOPBACK = "127.0.0.1"

_READING = frozenset({"GET", "HEAD"})
_TEXT, _HTML = "text/plain; charset=utf-8", "text/html; charset=utf-8"
_OWN_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
#: No page of another site may show ours in a frame, nor take one of our texts for a script.
_SAFETY = [
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Content-Security-Policy", "frame-ancestors 'self'"),
    ("X-Content-Type-Options", "nosniff"),
]


class _Server(ThreadingMixIn, WSGIServer):
    # A browser that keeps a connection open must not keep the program.
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print what went wrong, unless a browser hung up or fell silent."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(WSGIRequestHandler):
    """Reads a request; says nothing of it on the terminal."""

    #: Seconds for which a client may be silent within a request: it takes a thread.
    timeout = 20.0

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a page asks for dozens of things every few seconds."""


def make_server(db: Database, *, port: int, is_writable: bool = False) -> WSGIServer:
    """Return a server of the dashboard, bound to the loopback address; the caller serves it.

    Args:
        db: The database; stays open as long as the server.
        port: Port to listen on; 0: any free one.
        is_writable: Whether the dashboard may change the database.

    Raises:
        OSError: If the port is taken or not allowed.
        StorageError: If Optuna's tables cannot be opened.
    """
    server = _Server((LOOPBACK, port), Handler)
    try:
        pages = cast("WSGIApplication", optuna_dashboard.wsgi(optuna_storage(db)))
        server.set_app(guard(beside_reports(pages, db), is_writable=is_writable))
    except BaseException:
        server.server_close()
        raise
    return server


def guard(pages: WSGIApplication, *, is_writable: bool = False) -> WSGIApplication:
    """Return the application, open to this machine's own readers alone.

    A page of another site cannot read through it: its requests carry that site's name as Host,
    also after its name was made to point here (DNS rebinding). Nobody can write through it
    unless ``is_writable``, and then only its own pages can: the dashboard can delete studies and
    tell trials, and a sweep would not know.
    """

    def guarded(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        def start_safely(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start(status, [*headers, *_SAFETY], *rest)

        refusal = _find_refusal(environ, is_writable=is_writable)
        if refusal is None:
            return pages(environ, start_safely)
        return _answer(start_safely, HTTPStatus.FORBIDDEN, _TEXT, f"{refusal}\n")

    return guarded


def _find_refusal(environ: WSGIEnvironment, *, is_writable: bool) -> str | None:
    """Return why a request is refused, None if it is not."""
    host = environ.get("HTTP_HOST", "")
    if not _OWN_HOST.fullmatch(host):
        return "this dashboard answers to localhost and 127.0.0.1 alone"
    if environ["REQUEST_METHOD"] in _READING:
        return None
    if not is_writable:
        way_out = "bestepoch dashboard --writable lets it change studies"
        return f"this dashboard is read-only; {way_out}"
    origin = environ.get("HTTP_ORIGIN", f"http://{host}").lower()
    # A browser says of which site the page is; another port of localhost is "same-site".
    site = environ.get("HTTP_SEC_FETCH_SITE", "same-origin")
    if origin != f"http://{host}".lower() or site not in ("same-origin", "none"):
        return "this dashboard takes changes from its own pages alone"
    return None


def beside_reports(pages: WSGIApplication, db: Database) -> WSGIApplication:
    """Return the application with ``/report`` and ``/report/STUDY``, rendered when asked for."""
    # One at a time: of 500 trials it takes seconds of a processor, and a reader may press reload.
    one_at_a_time = threading.Lock()

    def routed(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        root, _, study = environ.get("PATH_INFO", "").strip("/").partition("/")
        if root != "report" or environ["REQUEST_METHOD"] not in _READING:
            return pages(environ, start)
        with one_at_a_time:
            status, kind, text = _render(db, study)
        body = _answer(start, status, kind, text)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    return routed


def _render(db: Database, study: str) -> tuple[HTTPStatus, str, str]:
    try:
        return HTTPStatus.OK, _HTML, _report_page(db, study)
    except queries.UnknownStudyError as error:
        return HTTPStatus.NOT_FOUND, _TEXT, f"{error}\n"
    except StorageError as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{error}\n"


def _report_page(db: Database, study: str) -> str:
    if not study:
        oldest_first = queries.studies(db.url)["study"].tolist()
        if not oldest_first:
            raise queries.UnknownStudyError("no study yet")
        study = oldest_first[-1]
    return report_html(db.url, study)


def _answer(start: StartResponse, status: HTTPStatus, kind: str, text: str) -> Iterable[bytes]:
    body = text.encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    start(f"{status.value} {status.phrase}", [*headers, ("Cache-Control", "no-store")])
    return [body]
