"""The same spans by OTLP, priced, beside our own upload."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import processes
from fakes.collector import Collector
from fakes.pipe import becomes_true
from fakes.program import Init
from fakes.receiver import Receiver
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link

import agentpulse

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
    "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "canary"}]}]',
}
FOREIGN = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-4o",
    "llm.provider": "openai",
    "llm.token_count.prompt": 1000,
    "llm.token_count.completion": 100,
    "input.value": "canary",
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def story(provider: TracerProvider) -> None:
    with agentpulse.session("day") as session:
        session.log("by hand")
        tracer = provider.get_tracer("program")
        with tracer.start_as_current_span("web"):
            tracer.start_span("chat gpt-4o", attributes=CALL).end()
            with pytest.raises(ValueError, match="canary"), agentpulse.task("fail"):
                raise ValueError("canary")  # noqa: EM101  # its text is looked for
            foreign = provider.get_tracer("openinference.instrumentation.openai")
            foreign.start_span("ChatCompletion", attributes=FOREIGN).end()


def test_both_get_the_same_calls_at_the_same_cost(
    started: Init, provider: TracerProvider, collector: Collector
) -> None:
    events = started(otlp_endpoint=collector.url)
    story(provider)
    calls = {
        event["data"]["name"]: event["data"]["cost_usd"]
        for event in events()
        if event["kind"] == "llm_call"
    }
    assert agentpulse.shutdown()

    told = collector.attributes()
    assert {*told} == {"day", "chat gpt-4o", "fail", "ChatCompletion"}
    assert (
        {
            name: attributes["agentpulse.cost.total"]
            for name, attributes in told.items()
            if "agentpulse.cost.total" in attributes
        }
        == calls
        == {"chat gpt-4o": 0.0035, "ChatCompletion": 0.0035}
    )
    assert told["chat gpt-4o"]["session.id"].startswith("day:")
    assert told["ChatCompletion"]["gen_ai.usage.input_tokens"] == "1000"


def test_what_was_said_is_not_told(
    started: Init, provider: TracerProvider, collector: Collector
) -> None:
    started(otlp_endpoint=f"{collector.url}/v1/traces")
    story(provider)
    agentpulse.shutdown()

    assert "canary" not in json.dumps(collector.spans)
    assert "by hand" in json.dumps(collector.spans)


def test_links_and_the_resource_hold_no_content_either(started: Init, collector: Collector) -> None:
    resource = Resource({"process.command_line": "canary", "service.name": "clerk"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    started(otlp_endpoint=collector.url, tracer_provider=provider)
    tracer = provider.get_tracer("program")
    first = tracer.start_span("first")
    links = [Link(first.get_span_context(), {"input.value": "canary"})]
    tracer.start_span("chat gpt-4o", attributes=CALL, links=links).end()
    agentpulse.shutdown()

    assert "canary" not in json.dumps([collector.spans, collector.resources])
    assert "clerk" in json.dumps(collector.resources)
    (span,) = collector.spans
    assert [{*link} - {"flags"} for link in span["links"]] == [{"traceId", "spanId"}]


def test_half_a_character_in_a_name_costs_nothing(
    started: Init, provider: TracerProvider, collector: Collector
) -> None:
    started(otlp_endpoint=collector.url)
    for model in ("gpt-4o", "gpt-\ud83d"):
        provider.get_tracer("program").start_span(f"chat {model}", attributes=CALL).end()
    assert agentpulse.flush()
    assert [span["name"] for span in collector.spans] == ["chat gpt-4o", "chat gpt-?"]


def test_what_is_captured_is_told_as_redacted(
    started: Init, provider: TracerProvider, collector: Collector
) -> None:
    started(
        otlp_endpoint=collector.url,
        capture_messages=True,
        redact=lambda text: text.replace("canary", "hidden"),
    )
    story(provider)
    agentpulse.shutdown()

    assert "canary" not in json.dumps(collector.spans)
    assert json.dumps(collector.spans).count("hidden") >= 3


def test_a_collector_that_is_away_holds_nothing_up(
    strict_receiver: Receiver,
    provider: TracerProvider,
    started: Init,
    refusing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It may try for longer than this test may take.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    started(otlp_endpoint=refusing, shutdown_timeout=0.5, flush_interval=0.05)
    story(provider)
    assert becomes_true(lambda: len(strict_receiver.of_kind("llm_call")) == 2)
    assert not agentpulse.shutdown()


def test_afterwards_the_provider_is_as_before(
    started: Init, provider: TracerProvider, collector: Collector
) -> None:
    before = provider._active_span_processor._span_processors
    started(otlp_endpoint=collector.url)
    assert provider._active_span_processor._span_processors != before
    agentpulse.shutdown()
    assert provider._active_span_processor._span_processors == before


def test_arguments_that_alone_are_captured_are_redacted_too(
    started: Init, provider: TracerProvider, collector: Collector
) -> None:
    started(otlp_endpoint=collector.url, redact=lambda text: text.replace("canary", "hidden"))

    @agentpulse.task(capture_args=True)
    def send(result: str) -> None:
        del result

    send("canary")
    agentpulse.shutdown()
    told = json.dumps(collector.spans)
    assert "canary" not in told
    assert "hidden" in told


def test_a_flush_is_complete_when_both_have_accepted_everything(
    started: Init, provider: TracerProvider, collector: Collector
) -> None:
    started(otlp_endpoint=collector.url)
    story(provider)
    assert agentpulse.flush()
    assert {span["name"] for span in collector.spans} >= {"day", "chat gpt-4o"}


def test_a_flush_that_reaches_one_of_them_is_not_complete(
    started: Init, provider: TracerProvider, strict_receiver: Receiver, refusing: str
) -> None:
    started(otlp_endpoint=refusing, shutdown_timeout=0.1)
    story(provider)
    assert not agentpulse.flush()
    assert len(strict_receiver.of_kind("llm_call")) == 2


PROGRAM = """
from opentelemetry import trace
call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o",
    "gen_ai.provider.name": "openai", "gen_ai.usage.input_tokens": 1000}
tracer = trace.get_tracer("program")
with tracer.start_as_current_span("web"):
    tracer.start_span("chat gpt-4o", attributes=call).end()
"""


def run_instrumented(**variables: str) -> subprocess.CompletedProcess[str]:
    return processes.run(
        [
            str(Path(sys.executable).parent / "opentelemetry-instrument"),
            sys.executable,
            "-c",
            PROGRAM,
        ],
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize("protocol", ["http/protobuf", ""], ids=["HTTP", "no protocol"])
@pytest.mark.parametrize("exporters", ["agentpulse,otlp", "otlp"])
def test_the_spans_of_the_standard_exporter_have_their_cost(
    exporters: str, protocol: str, strict_receiver: Receiver, collector: Collector
) -> None:
    done = run_instrumented(
        AGENTPULSE_ENDPOINT=strict_receiver.url,
        OTEL_TRACES_EXPORTER=exporters,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = collector.attributes()
    # Beside the calls, all that this exporter gets without us.
    assert {*told} == {"web", "chat gpt-4o"}
    assert told["chat gpt-4o"]["agentpulse.cost.total"] == 0.0025
    costs = [event["data"]["cost_usd"] for event in strict_receiver.of_kind("llm_call")]
    assert costs == ([0.0025] if "agentpulse" in exporters else [])


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "agentpulse,nosuch,otlp"}, "the exporter 'nosuch'"),
        (
            {"OTEL_TRACES_EXPORTER": "agentpulse,otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"},
            "the exporter 'otlp'",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "agentpulse,otlp", "OTEL_LOGS_EXPORTER": "nosuch"},
            "OpenTelemetry could not be configured as its variables say",
        ),
    ],
    ids=["unknown", "of a wrong protocol", "of another signal"],
)
def test_an_exporter_that_cannot_be_had_takes_no_other_with_it(
    variables: dict[str, str], said: str, strict_receiver: Receiver, collector: Collector
) -> None:
    done = run_instrumented(
        AGENTPULSE_ENDPOINT=strict_receiver.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        **variables,
    )
    assert done.returncode == 0
    assert (done.stderr.count("\n"), said in done.stderr) == (1, True)
    assert len(strict_receiver.of_kind("llm_call")) == 1
    is_told = "OTEL_EXPORTER_OTLP_PROTOCOL" not in variables
    assert {*collector.attributes()} == ({"web", "chat gpt-4o"} if is_told else set())


@pytest.mark.parametrize("timeout", [None, "60", "soon", float("inf"), 10**400])
def test_a_timeout_that_is_no_number_of_seconds_is_no_error(
    timeout: Any, started: Init, provider: TracerProvider, collector: Collector
) -> None:
    started(otlp_endpoint=collector.url)
    story(provider)
    assert agentpulse.flush(timeout)
    assert asyncio.run(agentpulse.aflush(timeout))
    assert agentpulse.shutdown(timeout)
