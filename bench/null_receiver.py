"""A receiver that takes everything at once and keeps nothing but counts, or the bodies if asked.

    python bench/null_receiver.py     # prints its port; `GET /` returns what came, as JSON

It stands for a server that is never the bottleneck.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class NullReceiver:
    """Listens on 127.0.0.1 while it is entered."""

    def __init__(self, *, keeps: bool = False) -> None:
        self.keeps = keeps
        self.bodies: list[bytes] = []
        self.requests = self.bytes = 0

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests += 1
                receiver.bytes += len(body)
                if receiver.keeps:
                    receiver.bodies.append(body)
                # What OTLP wants to read as an answer is empty; our own protocol needs no more.
                self._answer(b"")

            def do_GET(self) -> None:
                counts = {"requests": receiver.requests, "bytes": receiver.bytes}
                self._answer(json.dumps(counts).encode())

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def in_a_process() -> Iterator[str]:
    """The address of one that takes no time of this process."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield f"http://127.0.0.1:{int(running.stdout.readline())}"
        running.kill()


def counts(url: str) -> dict[str, Any]:
    """What came there so far."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


if __name__ == "__main__":
    with NullReceiver() as receiver:
        print(receiver.port, flush=True)
        threading.Event().wait()
