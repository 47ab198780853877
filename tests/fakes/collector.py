"""A collector of log records by OTLP over HTTP."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


class LogCollector:
    """Decodes what comes; a context manager."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/logs":
                    collector.take(MessageToDict(ExportLogsServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, request: dict[str, Any]) -> None:
        """Keeps the records of a request, their attributes as what they stand for."""
        for resource in request["resourceLogs"]:
            for scope in resource["scopeLogs"]:
                for record in scope["logRecords"]:
                    attributes = {
                        each["key"]: value_of(each["value"]) for each in record["attributes"]
                    }
                    self.records.append({**record, "attributes": attributes})


def value_of(value: dict[str, Any]) -> Any:
    """What a value of OTLP stands for."""
    ((kind, held),) = value.items()
    if kind == "arrayValue":
        return [value_of(each) for each in held.get("values", ())]
    if kind == "kvlistValue":
        return {each["key"]: value_of(each["value"]) for each in held.get("values", ())}
    return int(held) if kind == "intValue" else held
