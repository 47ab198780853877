"""`FakeProvider`: OpenAI and Anthropic over real HTTP on this machine, without a key."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from weakref import WeakSet

from agentpulse.demo._answers import ENDPOINTS, Body, Charge, Reply

__all__ = ["Change", "Charge", "FakeProvider", "Reply", "Request", "fails"]

Change = Callable[[Reply], Reply]
"""A script: from the usual reply to the one that is sent."""


def fails(status: int, kind: str = "server_error") -> Change:
    """An error in the shape that both providers' clients read."""
    error = {"type": kind, "code": kind, "message": f"This is a fake {kind}.", "param": None}
    body = {"type": "error", "error": error}
    return lambda _reply: Reply(body, status=status)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came; the body is None where it is no JSON."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    raw: bytes = field(repr=False)
    body: Body | None


class FakeProvider:
    """A provider that answers, bills, and fails by a script; a context manager.

    Attributes:
        requests: All requests, in order.
        bill: The charge of each answer that was sent whole.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bill: list[Charge] = []
        self._script: deque[Change] = deque()
        self._numbers = itertools.count(1)
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def openai_url(self) -> str:
        """The `base_url` of an OpenAI client."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The `base_url` of an Anthropic client."""
        return self.url

    def script(self, *changes: Change) -> None:
        """Changes the next answers, one each."""
        self._script.extend(changes)

    def __enter__(self) -> Self:
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.01,), name="fake-provider", daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: Request) -> Reply:
        """The reply to a request, by the script if there is one."""
        self.requests.append(request)
        reply = self.reply(request, next(self._numbers))
        return self._script.popleft()(reply) if self._script else reply

    def reply(self, request: Request, number: int) -> Reply:
        """The usual reply to the request of this number; 404 for an endpoint that isn't there."""
        path = request.path.partition("?")[0]
        endpoint = next((each for end, each in ENDPOINTS.items() if path.endswith(end)), None)
        if endpoint is None or request.method != "POST":
            return fails(404, "not_found_error")(Reply())
        return endpoint(request.body or {}, number)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, provider: FakeProvider) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.provider = provider
        self._connections = WeakSet[socket.socket]()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for connection in tuple(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(raw) if raw.startswith(b"{") else None
        request = Request(self.command, self.path, headers, raw, body)
        provider = cast("_Server", self.server).provider
        reply = provider.answer(request)
        self.send_response(reply.status)
        given = {"Content-Type": reply.content_type, "Transfer-Encoding": "chunked"}
        for name, value in {**given, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for part in (reply.encoded(),) if reply.events is None else reply.events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")
        if reply.charge is not None:
            provider.bill.append(reply.charge)

    do_POST = do_GET  # noqa: N815  # its name there

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
        """Nothing is logged."""
