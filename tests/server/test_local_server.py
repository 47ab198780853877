"""`LocalServer`, its database, and where that is."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import sys
import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from agentpulse_exporter._delivery.endpoint import data_folder
from fakes import ports, processes
from server.conftest import call, event, get, send

from agentpulse.server import DatabaseError, LocalServer, PortError

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


def test_it_leaves_neither_thread_nor_port_behind():
    threads = set(threading.enumerate())

    with ports.kept() as port:
        with LocalServer(port) as server:
            get(server, "/v1/health")
            keeping = socket.create_connection(("127.0.0.1", port))

        with keeping:
            assert set(threading.enumerate()) <= threads
        with LocalServer(port) as again:
            assert again.port == port


def test_head_and_body_of_an_answer_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch):
    accepted: list[socket.socket] = []
    accept = socket.socket.accept

    def noting(listening: socket.socket) -> tuple[socket.socket, Any]:
        connection, address = accept(listening)
        accepted.append(connection)
        return connection, address

    monkeypatch.setattr(socket.socket, "accept", noting)
    with LocalServer() as server:
        client = HTTPConnection("127.0.0.1", server.port, timeout=20)
        client.request("GET", "/v1/health")
        client.getresponse().read()
        (connection,) = accepted
        is_sent_at_once = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()

    assert is_sent_at_once


def test_what_is_kept_in_memory_is_gone_afterwards():
    server = LocalServer()
    with server:
        send(server, event())
        assert len(server.events()) == 1

    with server:
        assert server.events() == []


def test_a_port_that_is_taken_is_an_error_before_the_database_is_touched(tmp_path: Path):
    database = tmp_path / "events.sqlite3"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(PortError, match=f"Port {port} is in use by another program."):
            LocalServer(port, database).__enter__()

    assert not database.exists()


def test_a_file_keeps_events_and_ids_from_one_run_to_the_next(tmp_path: Path):
    database = tmp_path / "deep" / "er" / "events.sqlite3"
    with LocalServer(database=database) as server:
        send(server, call(id="c1", tokens=5), event("cron", id="r1", data={"job": "a"}))

    with LocalServer(database=str(database)) as server:
        send(server, call(id="c1", tokens=5), call(id="c2", tokens=1))
        assert [each["id"] for each in server.events()] == ["c1", "r1", "c2"]
        assert get(server, "/v1/stats")["cost"]["tokens"] == 6

    # Nothing that only this process could read is left beside it.
    assert [path.name for path in database.parent.iterdir()] == ["events.sqlite3"]


@posix
def test_the_file_is_its_users_alone(tmp_path: Path):
    database = tmp_path / "agentpulse" / "events.sqlite3"
    with LocalServer(database=database) as server:
        send(server, event())
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in database.parent.iterdir()}

    assert modes.pop("events.sqlite3") == 0o600
    assert set(modes.values()) <= {0o600}
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700


def test_two_servers_can_share_a_file(tmp_path: Path):
    database = tmp_path / "events.sqlite3"
    with LocalServer(database=database) as one, LocalServer(database=database) as other:
        send(one, event(id="a"))
        send(other, event(id="a"), event(id="b"))

        assert [each["id"] for each in one.events()] == ["a", "b"]


def make(path: Path, *statements: str) -> Path:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all" * 10)
    foreign = make(tmp_path / "foreign.sqlite3", "CREATE TABLE users (name TEXT)")
    before = text.read_bytes(), foreign.read_bytes()

    for path, words in (
        (text, "file is not a database"),
        (foreign, "is a database of another program"),
        (tmp_path, "unable to open database file"),
    ):
        with pytest.raises(DatabaseError, match=words) as raised:
            LocalServer(database=path).__enter__()
        assert str(path) in str(raised.value)
        assert "--database" in str(raised.value)

    assert (text.read_bytes(), foreign.read_bytes()) == before


def test_all_files_are_made_at_the_start_so_that_no_first_event_fails_by_them(tmp_path: Path):
    with LocalServer(database=tmp_path / "events.sqlite3"):
        assert {path.name for path in tmp_path.iterdir()} == {
            "events.sqlite3", "events.sqlite3-shm", "events.sqlite3-wal",
        }  # fmt: skip


def test_a_file_of_another_version_is_left_alone(tmp_path: Path):
    database = tmp_path / "events.sqlite3"
    with LocalServer(database=database) as server:
        send(server, event())
    make(database, "PRAGMA user_version = 99")

    with pytest.raises(DatabaseError, match="is a database of another version of agentpulse"):
        LocalServer(database=database).__enter__()


def test_a_database_that_fails_is_a_503_and_the_server_goes_on(tmp_path: Path):
    database = tmp_path / "events.sqlite3"
    with LocalServer(database=database) as server:
        from server.conftest import batch, post

        make(
            database,
            "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'full'); END",
        )
        refused = post(server, batch(event(id="a")))
        make(database, "DROP TRIGGER full")
        send(server, event(id="a"))

        assert (refused.status, list(refused.json)) == (503, ["error"])
        assert len(server.events()) == 1


HOME = Path.home()


@pytest.mark.parametrize(
    ("platform", "environ", "folder"),
    [
        ("linux", {}, HOME / ".local/share"),
        ("linux", {"XDG_DATA_HOME": "/data"}, Path("/data")),
        ("linux", {"XDG_DATA_HOME": "relative"}, HOME / ".local/share"),
        ("linux", {"XDG_DATA_HOME": ""}, HOME / ".local/share"),
        ("darwin", {}, HOME / "Library/Application Support"),
        ("win32", {"LOCALAPPDATA": "/Users/me/AppData/Local"}, Path("/Users/me/AppData/Local")),
        ("win32", {}, HOME / "AppData/Local"),
    ],
)
@posix
def test_the_users_folder_for_data_is_that_of_the_platform(
    platform: str, environ: dict[str, str], folder: Path
):
    assert data_folder(environ, platform) == folder / "agentpulse"


def test_importing_agentpulse_loads_nothing_of_the_server():
    code = """
import sys, agentpulse
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"starlette", "uvicorn", "jinja2", "sqlite3"}
assert "agentpulse.server" not in sys.modules
"""
    processes.run([sys.executable, "-c", code], check=True)


def test_outside_with_the_error_explains_its_use():
    server = LocalServer()

    for use in (lambda: server.url, lambda: server.port, server.events):
        with pytest.raises(AttributeError, match="with LocalServer"):
            use()


def test_entered_twice_it_goes_on_as_it_was(server: LocalServer):
    with pytest.raises(RuntimeError, match="running already"):
        server.__enter__()

    assert get(server, "/v1/health")["status"] == "ok"
