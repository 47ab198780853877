"""What stands at the end of a pipeline by OTLP: it decodes spans with OpenTelemetry's own types."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """Takes OTLP over HTTP; a context manager. `spans` are as protobuf's JSON has them."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.bytes = 0
        """Of the requests, as they came."""

    def __enter__(self) -> Self:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.bytes += len(body)
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                request = MessageToDict(ExportTraceServiceRequest.FromString(body))
                for resource in request["resourceSpans"]:
                    for scope in resource["scopeSpans"]:
                        collector.spans += scope["spans"]
                answer = ExportTraceServiceResponse().SerializeToString()
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
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def attributes(self) -> dict[str, dict[str, Any]]:
        """By the name of a span, its attributes."""
        return {span["name"]: attributes_of(span) for span in self.spans}


def attributes_of(span: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a span, whole numbers as the texts that protobuf's JSON makes of them."""
    told = span.get("attributes", ())
    return {each["key"]: next(iter(each["value"].values())) for each in told}
