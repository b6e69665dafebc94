"""The dashboard answers this machine's readers and nobody else; against the real server."""

import http.client
import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import pytest

from storage.database import open_database
from storage.optuna_mirror import optuna_storage
from sweeps import cli
from sweeps.views import dashboard


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Port of a running dashboard of one study."""
    with open_database(str(tmp_path / "sweeps.db"), create=True) as db:
        study = optuna.create_study(study_name="relation", storage=optuna_storage(db))
        trial = study.ask()
        trial.suggest_float("dropout", 0.2, 0.7)
        for epoch, best in ((1, 0.25), (2, 0.5), (3, 0.5)):
            trial.report(best, epoch)
        study.tell(trial, 0.5)
    with serve(tmp_path / "sweeps.db") as served:
        yield served


@contextmanager
def serve(path: Path, *, is_writable: bool = False) -> Iterator[int]:
    """Port of a dashboard of a database."""
    with (
        open_database(str(path), create=False) as db,
        dashboard.make_server(db, port=0, is_writable=is_writable) as server,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(
    port: int,
    path: str,
    *,
    method: str = "GET",
    host: str | None = None,
    origin: str | None = None,
    site: str | None = None,
    body: object = None,
) -> tuple[int, str, str]:
    """Return the status, the location and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {} if host is None else {"Host": host}
    headers |= {} if origin is None else {"Origin": origin}
    headers |= {} if site is None else {"Sec-Fetch-Site": site}
    headers |= {} if body is None else {"Content-Type": "application/json"}
    connection.request(
        method, path, body=None if body is None else json.dumps(body), headers=headers
    )
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    # Of every answer: no foreign frame shows it, and no browser guesses its type.
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "frame-ancestors 'self'" in answer.headers.get_all("Content-Security-Policy", ())
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.status, answer.headers.get("Location", ""), text


def test_pages_and_data_are_served(port: int) -> None:
    status, location, _ = ask(port, "/")
    assert status == 302
    assert location.endswith("/dashboard")
    status, _, body = ask(port, "/dashboard")
    assert status == 200
    assert "<html" in body
    status, _, body = ask(port, "/api/studies")
    assert status == 200
    assert [study["study_name"] for study in json.loads(body)["study_summaries"]] == ["relation"]


def test_running_bests_are_its_intermediate_values(port: int) -> None:
    _, _, body = ask(port, "/api/studies/1")
    (trial,) = json.loads(body)["trials"]
    values = [(one["step"], one["value"]) for one in trial["intermediate_values"]]
    assert values == [(1, 0.25), (2, 0.5), (3, 0.5)]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"])
def test_own_names_are_answered(port: int, host: str) -> None:
    assert ask(port, "/dashboard", host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8080", "localhost:x", ""],
)
def test_foreign_names_are_refused(port: int, host: str) -> None:
    status, _, body = ask(port, "/api/studies", host=host)
    assert status == 403
    assert "localhost" in body
    assert "relation" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(port: int, method: str) -> None:
    status, _, body = ask(port, "/api/studies/1", method=method)
    assert status == 403
    assert body == (
        "this dashboard is read-only; bestepoch dashboard --writable lets it change studies\n"
    )
    assert ask(port, "/api/studies/1")[0] == 200
    assert ask(port, "/report/relation", method=method)[0] == 403


def test_writable_dashboard_takes_changes_from_its_own_pages_alone(
    port: int, tmp_path: Path
) -> None:
    with serve(tmp_path / "sweeps.db", is_writable=True) as open_port:
        note = {"version": 1, "body": "mine"}
        for origin in ("http://evil.example", "null", f"http://localhost:{open_port + 1}"):
            answer = ask(open_port, "/api/studies/1/note", method="PUT", origin=origin, body=note)
            assert answer[0] == 403
            assert "own pages" in answer[2]
        for site in ("cross-site", "same-site"):  # the latter: another port of localhost
            status, *_ = ask(open_port, "/api/studies/1", method="DELETE", site=site)
            assert status == 403
        assert ask(open_port, "/api/studies", method="PUT", host="evil.example")[0] == 403
        own = f"http://127.0.0.1:{open_port}"
        status, *_ = ask(open_port, "/api/studies/1/note", method="PUT", origin=own, body=note)
        assert status == 204
        assert json.loads(ask(open_port, "/api/studies/1")[2])["note"]["body"] == "mine"
        assert ask(open_port, "/api/studies/1", method="DELETE")[0] == 204
    assert json.loads(ask(port, "/api/studies")[2])["study_summaries"] == []


@pytest.mark.parametrize(("option", "expected"), [((), 403), (("--writable",), 204)])
def test_command_is_read_only_unless_told(
    port: int,
    tmp_path: Path,
    option: tuple[str, ...],
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    statuses = []

    def ask_once(self: dashboard.WSGIServer) -> None:
        thread = threading.Thread(target=self.handle_request)
        thread.start()
        path = "/api/studies/1/note"
        body = {"version": 1, "body": "x"}
        statuses.append(ask(self.server_port, path, method="PUT", body=body)[0])
        thread.join()

    monkeypatch.setattr(dashboard.WSGIServer, "serve_forever", ask_once)
    storage = str(tmp_path / "sweeps.db")
    with pytest.raises(SystemExit) as exit_:
        cli.main(["dashboard", "--port", "0", "--storage", storage, *option])
    assert exit_.value.code == 0
    assert statuses == [expected]
    assert ("writable: who opens it can delete" in capsys.readouterr().out) == bool(option)


def test_report_is_rendered_beside_it_and_writes_nothing(
    write_study: Callable[..., None], folder: Path
) -> None:
    write_study("relation", [[0.31, 0.7132, 0.69], [0.3, 0.5, 0.6]])
    with serve(folder / "bestepoch.db") as port:
        before = contents(folder / "bestepoch.db")
        for path in ("/report", "/report/", "/report/relation"):
            status, _, body = ask(port, path)
            assert status == 200
            assert "<h1>relation</h1>" in body
            assert "0.7132" in body
        assert ask(port, "/report/relation", method="HEAD")[::2] == (200, "")
        status, _, body = ask(port, "/report/relatoin")
        assert status == 404
        assert "did you mean 'relation'?" in body
        assert ask(port, "/report", host="evil.example")[0] == 403
        assert contents(folder / "bestepoch.db") == before


def test_report_without_a_name_is_that_of_the_last_study(
    write_study: Callable[..., None], folder: Path
) -> None:
    write_study("first", [[0.31, 0.7132, 0.69]])
    write_study("second", [])
    with serve(folder / "bestepoch.db") as port:
        assert "<h1>second</h1>" in ask(port, "/report")[2]
        assert "<h1>first</h1>" in ask(port, "/report/first")[2]


def test_report_without_a_study_is_one_line(port: int) -> None:
    assert ask(port, "/report")[::2] == (404, "no study yet\n")


def contents(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_only_the_loopback_address_listens(port: int) -> None:
    with socket.socket() as probe, pytest.raises(OSError, match="in use"):
        probe.bind(("127.0.0.1", port))
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", port))


def test_client_that_falls_silent_is_dropped(
    port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dashboard.Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localh")
        assert slow.recv(1) == b""
    assert capfd.readouterr().err == ""


def test_taken_port_is_one_line_that_offers_another(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["dashboard", "--port", str(port), "--storage", str(tmp_path / "sweeps.db")])
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"port {port} cannot be used: ")
    assert "--port" in err
    assert err.count("\n") == 1


def test_ctrl_c_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: object) -> None:
        raise KeyboardInterrupt

    open_database(str(tmp_path / "sweeps.db"), create=True).close()
    monkeypatch.setattr(dashboard.WSGIServer, "serve_forever", interrupt)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["dashboard", "--port", "0", "--storage", str(tmp_path / "sweeps.db")])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert "open http://127.0.0.1:" in out
    assert "/report/NAME\n" in out
