"""An application that records a call in each request, for a server whose workers gevent patches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable

from opentelemetry import trace

import agentpulse

if "INIT" in os.environ:
    agentpulse.init()
tracer = trace.get_tracer("program")


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/ask":
        tracer.start_span("chat", attributes={"gen_ai.operation.name": "chat"}).end()
    flushed = environ["PATH_INFO"] == "/flush" and agentpulse.flush(20)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "flushed": flushed}).encode()]
