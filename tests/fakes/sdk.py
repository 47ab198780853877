"""A receiver of events on this machine, programs run as children, a clean state for each test."""

from __future__ import annotations

import gzip
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fakes import processes
from fakes import receiver as receivers
from fakes.program import Init, start
from fakes.protocol import complaints
from opentelemetry.sdk.trace import TracerProvider

import agentpulse
from agentpulse import _output as logs

__all__ = (
    "clean_state",
    "provider",
    "receiver",
    "run_program",
    "silent",
    "speaks_no_http",
    "started",
    "strict_receiver",
)
"""The fixtures, which a conftest takes all of."""
KEY = "ap_0123456789abcdef"


@dataclass
class Receiver:
    """Speaks as much of the ingest protocol as a test needs, and keeps what it accepted."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": "as the test wants"}'
    """What is written where `status` isn't 200."""
    keys: list[str | None] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    """What came that the protocol doesn't allow. The test fails at the end if there is any."""
    requests: int = 0
    pause: threading.Event | None = None
    """Answers wait for it where there is one."""

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]

    def close(self) -> None:
        if self.pause is not None:
            self.pause.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, body: bytes, key: str | None) -> int:
        status = self.answer(key)
        if status == 200:
            batch = json.loads(body)
            self.complaints += complaints(batch)
            self.events += batch["events"]
            self.agents.add(batch["agent"])
        return status

    def answer(self, key: str | None) -> int:
        self.requests += 1
        self.keys.append(key)
        if self.pause is not None:
            self.pause.wait(20)
        return self.status

    def _handler(receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805  # the handler has the self
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                known = self.path == "/v1/stats"
                self._send(receiver.answer(self.headers["Authorization"]) if known else 404)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                self._send(receiver.take(body, self.headers["Authorization"]))

            def _send(self, status: int) -> None:
                body = b'{"accepted": 1}' if status == 200 else receiver.body
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                if "Content-Type" not in receiver.headers:
                    self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()
    assert not receiver.complaints


@pytest.fixture
def strict_receiver() -> Iterator[receivers.Receiver]:
    """A receiver that holds to the limits of the protocol."""
    with receivers.Receiver() as receiver:
        yield receiver


@pytest.fixture
def started(strict_receiver: receivers.Receiver, provider: TracerProvider) -> Init:
    """Switches AgentPulse on; what is returned gives the events that came."""
    return partial(start, strict_receiver, provider)


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def speaks_no_http() -> Iterator[str]:
    """The address of something that greets in another protocol."""

    class Greeter(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"+OK POP3 ready\r\n")
            while self.request.recv(65_536):  # closing on unread bytes would be a reset
                pass

    with socketserver.TCPServer(("127.0.0.1", 0), Greeter) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def provider() -> TracerProvider:
    """A provider of the user's, so that tests need not share the global one."""
    return TracerProvider(shutdown_on_exit=False)


@pytest.fixture(autouse=True)
def clean_state() -> Iterator[None]:
    logs._warned.clear()
    yield
    agentpulse.shutdown(timeout=0)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_program() -> Run:
    """Runs Python code as a program of its own, with these variables in a clean environment."""

    def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return processes.run(
            [sys.executable, "-W", "error", "-c", code], env={**os.environ, **variables}
        )

    return run
