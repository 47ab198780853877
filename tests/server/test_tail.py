"""`agentpulse tail`: every event that arrives, once, and a clear word where it can't."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fakes import ports, processes
from server.conftest import call, event, get, send

from agentpulse.cli import main
from agentpulse.cli._requests import RequestError
from agentpulse.cli._tail import LOOK_BACK, Following, line, summary
from agentpulse.server import LocalServer

posix = pytest.mark.skipif(os.name != "posix", reason="signals and terminals are POSIX's")
NOW = time.time()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AGENTPULSE_")]:
        monkeypatch.delenv(name)


def follow(server: LocalServer, **wanted: str) -> Callable[[], list[str]]:
    """The ids, or else the names, of what has arrived since the last call."""
    following = Following(lambda path: get(server, path), wanted)

    def arrived() -> list[str]:
        found: list[Any] = [*following.arrived()]
        return [each.get("id") or each["data"]["name"] for each in found]

    return arrived


def test_only_what_arrives_after_the_beginning_is_new(server: LocalServer):
    send(server, event(ts=NOW - 1, id="before"))
    arrived = follow(server)

    assert arrived() == []
    send(server, event(ts=NOW + 1, id="b"), event(ts=NOW, id="a"))
    assert arrived() == ["a", "b"]
    assert arrived() == []


def test_of_a_server_without_events_the_first_ones_are_new(server: LocalServer):
    arrived = follow(server)

    assert arrived() == []
    send(server, event(id="first", ts=NOW - 5000))
    assert arrived() == ["first"]


def test_events_of_one_moment_come_all_and_once_however_they_arrive(server: LocalServer):
    send(server, event(ts=NOW, id="e0"))
    arrived = follow(server)
    arrived()

    found = list[str]()
    for number in range(1, 6):
        send(server, event(ts=NOW, id=f"e{number}"), event(ts=NOW, id=f"f{number}"))
        found += arrived()

    assert sorted(found) == sorted(f"{kind}{number}" for kind in "ef" for number in range(1, 6))


def test_an_event_that_happened_earlier_but_arrives_later_is_not_skipped(server: LocalServer):
    send(server, event(ts=NOW, id="latest"))
    arrived = follow(server)
    arrived()

    send(server, event(ts=NOW - LOOK_BACK + 1, id="sent late"))
    assert arrived() == ["sent late"]
    send(server, event(ts=NOW + 10, id="on"), event(ts=NOW - 20, id="late too"))
    assert arrived() == ["late too", "on"]
    assert arrived() == []


def test_events_that_are_alike_and_have_no_id_come_as_often_as_they_were_sent(
    server: LocalServer,
):
    same = event(ts=NOW, data={"name": "tick"})
    send(server, same, same)
    arrived = follow(server)
    arrived()

    send(server, same)
    assert arrived() == ["tick"]
    send(server, same, same)
    assert arrived() == ["tick", "tick"]
    assert arrived() == []


def test_more_events_than_one_answer_has_come_all(server: LocalServer):
    arrived = follow(server)
    arrived()

    for part in range(5):
        send(server, *(event(ts=NOW + part / 100, id=f"{part}-{n}") for n in range(450)))

    assert sorted(arrived()) == sorted(f"{part}-{n}" for part in range(5) for n in range(450))
    assert arrived() == []


def test_an_event_from_the_future_hides_none_of_the_present(server: LocalServer):
    send(server, event(ts=time.time() + 20_000, id="ahead"))
    arrived = follow(server)
    arrived()

    send(server, event(ts=time.time(), id="now"))
    assert arrived() == ["now"]


def test_kind_and_session_are_asked_for(server: LocalServer):
    arrived = follow(server, kind="alert", session="a b&c:1")
    arrived()

    send(
        server,
        event("alert", id="both", session="a b&c:1"),
        event("alert", id="kind", session="other"),
        event("event", id="session", session="a b&c:1"),
    )

    assert arrived() == ["both"]


def test_a_look_that_fails_loses_nothing(server: LocalServer):
    failing: list[bool] = []

    def get_json(path: str) -> object:
        if failing and "before" in parse_qs(urlsplit(path).query):
            raise ConnectionError
        return get(server, path)

    following = Following(get_json, {})
    following.arrived()
    for part in range(3):
        send(server, *(event(id=f"{part}-{number}") for number in range(450)))

    failing.append(True)
    with pytest.raises(ConnectionError):  # in the middle of its pages
        following.arrived()
    failing.clear()

    assert len(following.arrived()) == 1350
    assert following.arrived() == []


def test_a_server_that_keeps_repeats_does_not_make_them_come_twice():
    listed = [event(id="old")]

    following = Following(lambda path: {"events": listed[::-1]}, {})
    following.arrived()
    listed += [event(id="new"), event(id="new"), event(id="old")]

    assert [each.get("id") for each in following.arrived()] == ["new"]
    listed.append(event(id="new"))
    assert following.arrived() == []


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"events": {}},
        {"events": [5]},
        {"events": [{"kind": "event", "ts": "now", "data": {}}]},
        {"events": [{"kind": "event", "ts": 1e300, "data": {}}]},
        {"events": [{"kind": "event", "ts": 5, "data": []}]},
    ],
)
def test_an_answer_of_something_else_is_an_error(answer: object):
    with pytest.raises(RequestError, match="doesn't list events"):
        Following(lambda path: answer, {}).arrived()


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (
            "llm_call",
            {"name": "chat gpt-4o", "model": "gpt-4o", "status": "error", "tokens": 1200,
             "error_type": "RateLimitError", "cost_usd": None, "latency_ms": 830.4},
            "gpt-4o error RateLimitError 1,200 tokens 830 ms",
        ),
        (
            "cron",
            {"job": "cleanup", "status": "ok", "cost_usd": 0.0125, "calls": 2, "tokens": 50,
             "duration_ms": 2000, "summary": "20 deleted"},
            "cleanup ok 50 tokens 2 calls $0.012500 2,000 ms 20 deleted",
        ),
        ("session", {"action": "start", "type": "cron", "label": "a"}, "start cron a"),
        ("metric", {"name": "queue", "value": 3.5, "tags": {}}, "queue = 3.5"),
        ("alert", {"title": "Budget", "severity": "warning"}, "warning Budget"),
        ("heartbeat", {"active_sessions": 0, "uptime_s": 5}, "0 active sessions"),
        ("event", {"name": "sent", "to": ["ž"], "status": 5}, 'sent {"to": ["ž"], "status": 5}'),
        ("event", {"name": "plain"}, "plain"),
        ("odd", {"x": [1]}, '{"x": [1]}'),
        ("odd", {"name": 5, "tokens": "many", "status": True}, None),
        ("event", {"name": "long", "x": "y" * 500}, 'long {"x": "' + "y" * 227 + "…"),
    ],
)  # fmt: skip
def test_a_line_has_the_known_fields_of_an_event(kind: str, data: dict[str, Any], text: str | None):
    assert summary(kind, data) == (text or json.dumps(data))


def test_what_was_sent_cannot_steer_the_terminal():
    hostile = "\x1b[2J\x07\r\nfake \x9b31m \u202e \ud83d"
    sent = event("alert", NOW, session=hostile, data={"title": hostile})

    shown = line({**sent, "agent": hostile})

    assert shown.isprintable()
    assert shown.count("fake") == 3


class Tail:
    """The command as a program of its own, and the lines that it printed."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program
        self._out, self._err = self._lines(program.stdout), self._lines(program.stderr)

    @staticmethod
    def _lines(stream: IO[str] | None) -> queue.Queue[str]:
        assert stream is not None
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            for each in stream:
                lines.put(each.rstrip("\n"))

        threading.Thread(target=read, daemon=True).start()
        return lines

    def out(self) -> str:
        return self._out.get(timeout=processes.LIMIT)

    def err(self) -> str:
        return self._err.get(timeout=processes.LIMIT)

    def ended(self) -> int:
        return self.program.wait(timeout=processes.LIMIT)

    def has_more(self) -> bool:
        return not (self._out.empty() and self._err.empty())


@contextmanager
def tail(*arguments: str, **variables: str) -> Iterator[Tail]:
    """Has it run, from when it follows."""
    with processes.running(
        [sys.executable, "-W", "error", "-m", "agentpulse", "tail", *arguments],
        env={**os.environ, "TZ": "UTC", **variables},
    ) as program:
        running = Tail(program)
        assert "Following http://127.0.0.1:" in running.err()
        yield running


@posix
def test_it_prints_a_line_for_each_event_until_ctrl_c(server: LocalServer):
    with tail("--endpoint", server.url) as program:
        send(server, call(1.7e9, model="gpt-4o", tokens=15, session="email:1", cost_usd=0.5))
        send(server, event("alert", 1.7e9 + 1, data={"title": "Budget"}))

        assert program.out() == (
            "22:13:20 llm_call   gpt-4o success 15 tokens $0.500000  [mailer email:1]"
        )
        assert program.out() == "22:13:21 alert      Budget  [mailer]"
        program.program.send_signal(signal.SIGINT)
        assert program.ended() == 0
        assert not program.has_more()


@posix
def test_json_is_an_event_a_line_and_the_endpoint_may_be_the_environments(server: LocalServer):
    sent = event("alert", NOW, session="s", data={"title": "\x1b[2J ž\n"})

    with tail("--json", "--kind", "alert", AGENTPULSE_ENDPOINT=server.url) as program:
        send(server, call(), sent)
        printed = program.out()

    assert json.loads(printed) == {**sent, "agent": "mailer"}
    assert printed.isascii()
    assert "\x1b" not in printed


@posix
def test_a_pipe_that_nobody_reads_ends_it_though_nothing_arrives(server: LocalServer):
    command = [sys.executable, "-m", "agentpulse", "tail", "--endpoint", server.url]
    reading, writing = os.pipe()
    with processes.running(command, stdout=writing) as program:
        os.close(writing)
        assert program.stderr is not None
        assert "Following" in program.stderr.readline()
        os.close(reading)
        assert processes.ended(program)[1] == ""
    assert program.returncode == 0


@posix
def test_a_server_that_is_gone_for_a_while_is_waited_for():
    with (
        ports.kept() as port,
        LocalServer(port) as server,
        tail("--endpoint", server.url) as program,
    ):
        server.__exit__(None, None, None)
        assert "the connection is refused" in program.err()
        with LocalServer(port) as again:
            assert program.err() == f"agentpulse: {again.url} answers again."
            send(again, event("alert", NOW, data={"title": "back"}))
            assert "back" in program.out()


def test_where_nothing_listens_that_is_the_error(refusing: str, capsys: pytest.CaptureFixture[str]):
    assert main(["tail", "--endpoint", refusing]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"{refusing} can't be followed: the connection is refused: check AGENTPULSE_ENDPOINT, or "
        "the proxy.\n"
    )


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Looks for keys in another place, as another user does."""
    return lambda: monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("key", "words"), [("ap_other_0123456789", "(403)"), (None, "it takes no such API key (401)")]
)
def test_a_key_that_is_refused_is_reported_and_not_shown(
    key: str | None,
    words: str,
    elsewhere: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    if key:
        monkeypatch.setenv("AGENTPULSE_API_KEY", key)
    with LocalServer(key="ap_right_0123456789") as server:
        elsewhere()
        assert main(["tail", "--endpoint", server.url]) == 1

    err = capsys.readouterr().err
    assert words in err
    assert key is None or key not in err


def test_the_right_key_is_sent(elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch):
    key = "ap_right_0123456789"
    monkeypatch.setenv("AGENTPULSE_API_KEY", key)
    with LocalServer(key=key) as server:
        elsewhere()
        with tail("--endpoint", server.url) as program:
            assert program.program.poll() is None


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--endpoint", "nowhere"], {}, "The argument endpoint is 'nowhere'; expected"),
        (["--endpoint", "http://example.com"], {}, "http"),
        ([], {"AGENTPULSE_ENDPOINT": "nowhere"}, "AGENTPULSE_ENDPOINT is 'nowhere'; expected"),
    ],
)
def test_an_endpoint_that_makes_no_sense_is_explained(
    arguments: list[str],
    variables: dict[str, str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main(["tail", *arguments]) == 1

    assert words in capsys.readouterr().err


def test_a_server_without_our_api_is_reported(
    server: LocalServer, capsys: pytest.CaptureFixture[str]
):
    assert main(["tail", "--endpoint", f"{server.url}/elsewhere"]) == 1

    assert "there is no AgentPulse API at this address (404)" in capsys.readouterr().err


def test_it_needs_nothing_but_the_sdk_itself():
    code = """
import sys
import agentpulse.cli._tail
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"starlette", "uvicorn", "jinja2", "rich", "cronsim"}
"""
    processes.run([sys.executable, "-c", code], check=True)


@posix
def test_only_a_terminal_gets_colours(server: LocalServer):
    import pty

    for no_color, expected in (
        ("", "\x1b[33malert     \x1b[0m Budget"),
        ("1", " alert      Budget"),
    ):
        ours, theirs = pty.openpty()
        with (
            os.fdopen(ours, "rb", buffering=0) as screen,
            processes.running(
                [sys.executable, "-m", "agentpulse", "tail", "--endpoint", server.url],
                stdout=theirs,
                env={**os.environ, "NO_COLOR": no_color, "TERM": "xterm"},
            ) as program,
        ):
            os.close(theirs)
            assert program.stderr is not None
            assert "Following" in program.stderr.readline()
            send(server, event("alert", time.time(), data={"title": "Budget"}))
            shown = b""
            while b"\n" not in shown:
                shown += screen.read(4096)
            assert expected in shown.decode()
            assert ("\x1b" in shown.decode()) == (not no_color)
