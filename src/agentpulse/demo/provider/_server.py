"""`FakeProvider`: OpenAI and Anthropic over real HTTP on this machine, without a key."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast

from agentpulse.demo.provider import _anthropic as anthropic
from agentpulse.demo.provider import _openai as openai
from agentpulse.demo.provider._reply import Change, Charge, Reply, fails

_BEDROCK = re.compile(r"^/model/(?P<model>.+)/invoke(?P<stream>-with-response-stream)?$")
_VERTEX = re.compile(r"/publishers/anthropic/models/(?P<model>[^:]+):(?P<stream>stream)?[rR]aw")
_RESPONSE = re.compile(r"/responses/resp_\w+$")
_SECONDS_AT_A_GATE = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came; the body is None where it is no JSON object."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    raw: bytes = field(repr=False)
    body: Mapping[str, Any] | None


class FakeProvider:
    """A provider that answers, bills, and goes wrong as it is told; a context manager.

    Attributes:
        requests: What was asked, in order.
        bill: What a truthful provider would charge for what it sent whole.
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
        """What an OpenAI client takes as `base_url`."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """What an Anthropic client takes as `base_url`."""
        return self.url

    def script(self, *changes: Change) -> None:
        """The next answers, one for each change, are not what they would have been."""
        self._script.extend(changes)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop()

    def answer(self, request: Request) -> Reply:
        """The reply to a request, by the script if there is one."""
        self.requests.append(request)
        reply = _reply(request, next(self._numbers))
        return self._script.popleft()(reply) if self._script else reply


def _reply(request: Request, number: int) -> Reply:
    path, body = request.path.partition("?")[0], request.body or {}
    if (found := _BEDROCK.search(path)) is not None:
        return anthropic.bedrock(body, number, found["model"], stream=bool(found["stream"]))
    if (found := _VERTEX.search(path)) is not None:
        return anthropic.messages({**body, "model": found["model"]}, number)
    if request.method == "GET" and _RESPONSE.search(path):
        return openai.fetch(body, number)
    answer = anthropic.ROUTES.get((request.method, path))
    if answer is None:
        routes = openai.ROUTES.items()
        answer = next((a for (m, p), a in routes if m == request.method and path.endswith(p)), None)
    return answer(body, number) if answer else fails(404, "not_found_error")(Reply())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, provider: FakeProvider) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.provider = provider
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.01,), name="fake-provider", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in tuple(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, raw, _json_object(raw))
        provider = cast("_Server", self.server).provider
        reply = provider.answer(request)
        if self._send(reply) and reply.charge is not None:
            provider.bill.append(reply.charge)

    def _send(self, reply: Reply) -> bool:
        """Whether the answer was sent whole."""
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.events is None:
            body = reply.encoded()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return True
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for sent, event in enumerate(reply.events):
            if sent == reply.cut_after:
                self.close_connection = True
                return False
            if reply.gate is not None:
                reply.gate.acquire(timeout=_SECONDS_AT_A_GATE)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")
        return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
        """Nothing is logged."""


def _json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
