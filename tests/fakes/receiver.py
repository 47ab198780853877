"""A receiver of events that holds to the limits of the protocol, or answers as the test wants."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from fakes.protocol import complaints

MAX_BODY = 256 * 1024
MAX_DATA = 16_384
HANG_UP = 0


def _not_a_number(name: str) -> None:
    message = f"{name} is no JSON"
    raise ValueError(message)


def _whole(digits: str) -> int:
    number = int(digits)
    if abs(number) >= 2**63:
        message = "no number of 64 bits"
        raise ValueError(message)
    return number


@dataclass
class Receiver:
    """Keeps the requests it got and the events it took; a context manager.

    `script` holds the answers to give first: a status, or a status and headers. With the status
    HANG_UP the connection ends without an answer. An event that `takes` is false for costs its
    batch, or only itself where `keeps_the_rest`.
    """

    reads_gzip: bool = True
    answer_to_gzip: int = 500
    """Of one that reads none."""
    fails_before_it_reads: bool = True
    """Whether `script` answers what it couldn't read, too."""
    port: int = 0
    max_events: int = 100
    takes: Callable[[dict[str, Any]], bool] = lambda event: True
    keeps_the_rest: bool = False
    script: deque[Any] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What came that the protocol doesn't allow. The test fails at the end if there is any."""

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body of an answer are two packets, the second of which would wait for 40 ms.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers = receiver.judge(dict(self.headers), self.path, raw)
                if status == HANG_UP:
                    self.close_connection = True
                    return
                reported = receiver.taken if status == 200 else {"error": "no"}
                body = json.dumps(reported).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Type": "application/json"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        assert not self.complaints, self.complaints

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]

    def judge(self, headers: dict[str, str], path: str, raw: bytes) -> tuple[int, dict[str, str]]:
        self.requests.append({"path": path, "headers": headers, "raw": raw})
        is_read = self.reads_gzip or headers.get("Content-Encoding") != "gzip"
        if self.script and (is_read or self.fails_before_it_reads):
            reported = self.script.popleft()
            status, more = reported if isinstance(reported, tuple) else (reported, {})
            if status != 200:
                return status, more
        if not is_read:
            return self.answer_to_gzip, {}
        if headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        if not headers.get("Authorization", "Bearer ap_").startswith("Bearer ap_"):
            return 401, {}
        try:
            body = json.loads(raw, parse_constant=_not_a_number, parse_int=_whole)
        except ValueError:
            return 400, {}
        self.requests[-1]["body"] = body
        self.complaints += complaints(body)
        problem = self._problem(raw, body["events"])
        if problem is None:
            taken = [event for event in body["events"] if self.takes(event)]
            self.events += taken
            self.taken = {"accepted": len(taken), "rejected": len(body["events"]) - len(taken)}
        return problem or 200, {}

    def _problem(self, raw: bytes, events: list[dict[str, Any]]) -> int | None:
        if len(raw) > MAX_BODY or len(events) > self.max_events:
            return 413
        if not events:
            return 400
        for event in events:
            text = json.dumps(event["data"], ensure_ascii=False)
            size = max(len(text.encode("utf-16-le")) // 2, len(json.dumps(event["data"])))
            if (
                not re.fullmatch(r"[A-Za-z0-9_]{1,64}", event["kind"])
                or not 1577836800 <= event["ts"] <= time.time() + 86400
                or size > MAX_DATA
                or len(event.get("session", "").encode("utf-16-le")) // 2 > 256
                or not (self.keeps_the_rest or self.takes(event))
            ):
                return 400
        return None
