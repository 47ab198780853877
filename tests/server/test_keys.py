"""The key of a run, in a file that only its user can read, and programs that find it there."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from agentpulse_exporter._delivery.endpoint import key_file, read_key
from fakes import processes
from server.conftest import get, request

import agentpulse
from agentpulse.cli import main
from agentpulse.server import LocalServer

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
HOSTED = "ap_0123456789abcdef"


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


@posix
def test_only_its_user_can_read_the_key_and_only_while_the_server_runs(own_data_folder: Path):
    before = os.umask(0)
    try:
        with LocalServer() as server:
            file = own_data_folder / "agentpulse" / f"local-{server.port}.key"
            assert file.read_text() == f"{server.key}\n"
            assert server.key_file == file
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)

    assert list(file.parent.iterdir()) == []


@posix
def test_what_is_there_by_that_name_is_replaced_and_not_written_to(own_data_folder: Path):
    with LocalServer() as server:
        port = server.port
    victim = own_data_folder / "victim"
    victim.write_text("precious")
    folder = own_data_folder / "agentpulse"
    folder.chmod(0o777)
    file = folder / f"local-{port}.key"
    file.symlink_to(victim)

    with LocalServer(port) as server:
        assert read_key(file) == server.key
        assert not file.is_symlink()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    assert victim.read_text() == "precious"


def test_a_key_that_a_dead_server_left_is_replaced():
    with LocalServer() as server:
        port = server.port
    key_file(port).write_text("ap_local_dead")
    key_file(port).chmod(0o444)

    with LocalServer(port) as server:
        assert read_key(key_file(port)) == server.key
        assert get(server, "/v1/events")["events"] == []

    assert not key_file(port).exists()


def test_the_key_of_another_server_is_left_where_it_is():
    # As where two containers share a folder.
    with LocalServer() as server:
        file = key_file(server.port)
        file.write_text("ap_local_other")

    assert file.read_text() == "ap_local_other"


def test_where_no_key_can_be_left_the_server_runs_all_the_same(own_data_folder: Path):
    own_data_folder.write_text("in the way")

    with LocalServer() as server:
        assert server.key_file is None
        assert get(server, "/v1/events")["events"] == []
        reply = request(server, "GET", "/v1/events", headers={"Authorization": ""})
        assert reply.json["error"].endswith("with the key that was printed as it started.")


def test_a_program_finds_the_key_of_each_run_and_loses_nothing_in_between(tmp_path: Path):
    database = tmp_path / "events.sqlite3"
    with LocalServer(database=database) as server:
        port = server.port
        agentpulse.init(endpoint=server.url, heartbeat_interval=0, flush_interval=60)
        agentpulse.event("first")
        assert agentpulse.flush()
    try:
        for name in ("second", "third"):
            with LocalServer(port, database):
                agentpulse.event(name)
                assert agentpulse.flush()
                assert agentpulse.stats().dropped == {}
        with LocalServer(database=database) as server:
            names = [each["data"]["name"] for each in server.events("event")]
    finally:
        agentpulse.shutdown(timeout=0)

    assert names == ["first", "second", "third"]


@pytest.mark.parametrize("key", [None, HOSTED])
def test_the_sdk_and_the_commands_find_the_key_by_themselves(
    key: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_AUTO_PATCH", "false")
    if key:
        monkeypatch.setenv("AGENTPULSE_API_KEY", key)
    with LocalServer() as server:
        monkeypatch.setenv("AGENTPULSE_ENDPOINT", server.url)
        assert main(["test"]) == 0
        assert main(["status", "--json"]) == 0
        _, _, printed = capsys.readouterr().out.partition("\n")
        code = "import agentpulse; agentpulse.init(); agentpulse.event('x')"
        program = processes.run([sys.executable, "-c", code])
        names = [each["data"].get("name") for each in server.events("event")]

    beside = ", which is tried before yours" if key else ", found by itself"
    assert json.loads(printed)["findings"]["key"] == {
        "ok": True, "detail": f"accepted: that of the local server{beside}",
    }  # fmt: skip
    assert (program.returncode, names) == (0, ["agentpulse test", "x"])


def test_a_command_explains_a_server_of_another_user(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with LocalServer() as server:
        monkeypatch.setenv("AGENTPULSE_ENDPOINT", server.url)
        file = server.key_file
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
        assert main(["test"]) == 1

    printed = capsys.readouterr().err
    assert "check AGENTPULSE_API_KEY" in printed
    assert f"send Authorization: Bearer KEY with the key in {file}" in printed
