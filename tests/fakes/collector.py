"""What stands at the end of a pipeline by OTLP: it decodes with OpenTelemetry's own types."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_BY_PATH: dict[str, tuple[Any, Any]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}


class Collector:
    """Takes OTLP over HTTP, at paths that begin with `prefix`; a context manager.

    `spans` are as protobuf's JSON has them; of the log `records`, attributes are what they mean.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.spans: list[Any] = []
        self.resources: list[Any] = []
        self.records: list[dict[str, Any]] = []
        self.connections: set[int] = set()
        """The ports that requests came from."""
        self.bytes = 0
        """Of the requests, as they came."""

    def __enter__(self) -> Self:
        return self.start()

    def start(self) -> Self:
        """For those that take it for as long as the process lasts."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.bytes += len(body)
                collector.connections.add(self.client_address[1])
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request, response = _BY_PATH[self.path.removeprefix(collector.prefix)]
                collector.take(MessageToDict(request.FromString(body)))
                answer = response().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, request: dict[str, Any]) -> None:
        """Keeps what a request reports."""
        for resource in request.get("resourceSpans", ()):
            self.resources.append(resource["resource"])
            for scope in resource["scopeSpans"]:
                self.spans += scope["spans"]
        for resource in request.get("resourceLogs", ()):
            for scope in resource["scopeLogs"]:
                for record in scope["logRecords"]:
                    reported = record.get("attributes", ())
                    attributes = {each["key"]: value_of(each["value"]) for each in reported}
                    self.records.append({**record, "attributes": attributes})

    def attributes(self) -> dict[str, dict[str, Any]]:
        """By the name of a span, its attributes."""
        return {span["name"]: attributes_of(span) for span in self.spans}


def attributes_of(span: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a span, whole numbers as the texts that protobuf's JSON makes of them."""
    reported = span.get("attributes", ())
    return {each["key"]: next(iter(each["value"].values())) for each in reported}


def value_of(value: dict[str, Any]) -> Any:
    """What a value of OTLP stands for."""
    ((kind, held),) = value.items()
    if kind == "arrayValue":
        return [value_of(each) for each in held.get("values", ())]
    if kind == "kvlistValue":
        return {each["key"]: value_of(each["value"]) for each in held.get("values", ())}
    return int(held) if kind == "intValue" else held
