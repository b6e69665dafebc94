"""The dashboard answers this machine's readers and nobody else; against the real server."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from storage.database import open_database
from sweeps import cli, dashboard


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Port of a running dashboard of one study."""
    with open_database(str(tmp_path / "sweeps.db"), create=True) as db:
        study = optuna.create_study(study_name="relation", storage=db.optuna_storage())
        trial = study.ask()
        trial.suggest_float("dropout", 0.2, 0.7)
        for epoch, best in ((1, 0.25), (2, 0.5), (3, 0.5)):
            trial.report(best, epoch)
        study.tell(trial, 0.5)
        with dashboard.make_server(db, port=0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield server.server_port
            server.shutdown()
            thread.join()


def ask(
    port: int, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, str, str]:
    """Return the status, the location and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers.get("Location", ""), body


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
    assert "read-only" in body
    assert ask(port, "/api/studies/1")[0] == 200


def test_only_the_loopback_address_listens(port: int) -> None:
    with socket.socket() as probe, pytest.raises(OSError, match="in use"):
        probe.bind(("127.0.0.1", port))
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", port))


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
    assert "open http://127.0.0.1:" in capsys.readouterr().out
