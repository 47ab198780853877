"""Through a packaged collector: what goes in by OTLP comes out the same, priced, in its place."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from agentpulse_exporter import CostEnrichingExporter
from fakes import processes
from fakes.collector import Collector, attributes_of
from fakes.pipe import becomes_true
from fakes.receiver import Receiver
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import agentpulse
from agentpulse.demo._agent import NightShift
from agentpulse.demo.provider import FakeProvider

FOUND = find_spec("rotel")
pytestmark = pytest.mark.skipif(FOUND is None, reason="rotel is installed by `nox -s collector`")

PATIENCE = 20.0
"""Seconds; it is another process, on a machine that may have more to do."""
USAGE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
}


@pytest.fixture
def end() -> Iterator[Collector]:
    with Collector() as end:
        yield end


@pytest.fixture
def collector(end: Collector, port: int, tmp_path: Path) -> Iterator[str]:
    """The address of a collector of another make, which forwards all to `end`."""
    assert FOUND is not None
    assert FOUND.origin is not None
    command = [
        *(str(Path(FOUND.origin).parent / "rotel-agent"), "start"),
        *("--otlp-grpc-endpoint", "127.0.0.1:0"),
        *("--otlp-http-endpoint", f"127.0.0.1:{port}"),
        *("--exporter", "otlp", "--otlp-exporter-protocol", "http"),
        *("--otlp-exporter-endpoint", end.url),
        *("--pid-file", str(tmp_path / "pid"), "--log-file", str(tmp_path / "log")),
    ]
    # Its telemetry of its own is off unless a variable asks for it, so it gets none of them.
    environ = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    with processes.running(command, env=environ) as running:
        assert becomes_true(lambda: running.poll() is not None or listens(port), PATIENCE)
        assert running.poll() is None
        yield f"http://127.0.0.1:{port}"


def listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def by_upload(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What was recorded each span: its parent and, of a call of a model, tokens and cost."""
    reported: dict[str, Any] = {}
    for event in events:
        data = event["data"]
        if event["kind"] in ("sdk_init", "cost", "span_start") or data.get("action") == "start":
            continue
        figures = {}
        if event["kind"] == "llm_call":
            figures = {name: data.get(name) for name in (*USAGE, "cost_usd", "model", "name")}
        reported[event["span_id"]] = (event.get("parent_span_id"), figures)
    return reported


def by_otlp(spans: list[dict[str, Any]]) -> dict[str, Any]:
    """The same, of spans."""
    reported: dict[str, Any] = {}
    for span in spans:
        attributes = attributes_of(span)
        figures: dict[str, Any] = {}
        if "gen_ai.request.model" in attributes:
            figures = {
                name: None if attributes.get(key) is None else int(attributes[key])
                for name, key in USAGE.items()
            }
            figures["cost_usd"] = attributes.get("agentpulse.cost.total")
            figures["model"] = attributes.get(
                "gen_ai.response.model", attributes["gen_ai.request.model"]
            )
            figures["name"] = span["name"]
        parent = span.get("parentSpanId")
        reported[hexadecimal(span["spanId"])] = (parent and hexadecimal(parent), figures)
    return reported


def hexadecimal(encoded: str) -> str:
    return base64.b64decode(encoded).hex()


@pytest.mark.parametrize("way", ["otlp_endpoint", "CostEnrichingExporter"])
def test_what_comes_out_is_what_went_in(
    way: str, collector: str, end: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is lost by a time-out is no matter of this test.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(int(PATIENCE)))
    provider = TracerProvider(shutdown_on_exit=False)
    with Receiver() as receiver, FakeProvider() as model_provider:
        agentpulse.init(
            endpoint=receiver.url,
            otlp_endpoint=collector if way == "otlp_endpoint" else None,
            tracer_provider=provider,
            heartbeat_interval=0,
        )
        if way == "CostEnrichingExporter":
            exporter = CostEnrichingExporter(OTLPSpanExporter(f"{collector}/v1/traces"))
            provider.add_span_processor(BatchSpanProcessor(exporter))
        try:
            with NightShift(model_provider) as agent:
                agent.run()
            assert provider.force_flush()
        finally:
            assert agentpulse.shutdown()
            provider.shutdown()
        sent = by_upload(receiver.events)

    assert becomes_true(lambda: len(end.spans) >= len(sent), PATIENCE)
    assert by_otlp(end.spans) == sent
    calls = [figures for _, figures in sent.values() if figures]
    # One of them found the provider overloaded: it used nothing, and costs nothing.
    assert len(calls) == len(model_provider.requests) == 9
    assert len([call for call in calls if call["cost_usd"]]) == len(model_provider.bill) == 8
    assert "Is there any mail" not in json.dumps(end.spans)
