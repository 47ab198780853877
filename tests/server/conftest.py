"""A local server for each test, and requests as programs and browsers make them."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any, NamedTuple

import pytest

from agentpulse.server import LocalServer

NOW = time.time()


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def request(
    server: LocalServer,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """Requests with the server's key, unless the headers have another, or an empty one for none."""
    sent = {"Authorization": f"Bearer {server.key}"} | (headers or {})
    if not sent["Authorization"]:
        del sent["Authorization"]
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return Reply(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


def get(server: LocalServer, path: str, **headers: str) -> Any:
    """The JSON at a path, which has to be there."""
    reply = request(server, "GET", path, headers=headers)
    assert reply.status == 200, reply.text
    return reply.json


def post(server: LocalServer, body: object, **headers: str) -> Reply:
    """Posts a body, JSON unless it is bytes, to the ingest address."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return request(server, "POST", "/v1/ingest", encoded, sent)


def send(server: LocalServer, *events: dict[str, Any], agent: str = "mailer") -> None:
    """Sends events as the exporter does; all of them have to be taken."""
    body = gzip.compress(json.dumps(batch(*events, agent=agent)).encode())
    reply = post(server, body, Content_Encoding="gzip")
    assert (reply.status, reply.json) == (200, {"accepted": len(events)})


def batch(*events: dict[str, Any], agent: str = "mailer") -> dict[str, Any]:
    return {"agent": agent, "sdk_version": "2.0.0", "batch_id": "b1", "events": list(events)}


def event(kind: Any = "event", ts: Any = NOW, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "ts": ts, "data": {}, **fields}


def call(ts: float = NOW, *, session: str | None = None, **data: Any) -> dict[str, Any]:
    """An `llm_call` event. `id` may be among its data."""
    place = {"session": session} if session else {}
    if "id" in data:
        place["id"] = data.pop("id")
    known = {"provider": "openai", "model": "gpt-4o", "status": "success", **data}
    return event("llm_call", ts, data=known, **place)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="module")
def empty_server() -> Iterator[LocalServer]:
    """A server for tests that leave nothing in it."""
    with LocalServer() as server:
        yield server
        assert server.events() == []


class Clock:
    """What the server takes for the time; it stands still unless a test sets it."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(NOW)
    for module in ("_app", "_pages", "_storage"):
        monkeypatch.setattr(f"agentpulse.server.{module}.time", clock)
    return clock
