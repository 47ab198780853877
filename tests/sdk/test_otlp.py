"""The same spans by OTLP, priced, beside our own upload."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from fakes.collector import Collector
from fakes.program import Init
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider

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
    collector = Collector()
    yield collector
    collector.close()


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
    strict_receiver: Receiver, provider: TracerProvider, started: Init, refusing: str
) -> None:
    started(otlp_endpoint=refusing, shutdown_timeout=0.5)
    story(provider)
    before = time.monotonic()
    assert agentpulse.shutdown()
    assert time.monotonic() - before < 10
    assert len(strict_receiver.of_kind("llm_call")) == 2


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
