"""`init` on a provider that has an exporter of ours: one pipeline, not two."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor
from fakes import processes
from fakes.pipe import CALL
from fakes.receiver import Receiver
from fakes.sdk import KEY
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

import agentpulse


def by_stock(exporter: AgentPulseSpanExporter) -> SpanProcessor:
    return BatchSpanProcessor(exporter, schedule_delay_millis=60_000)


def by_ours(exporter: AgentPulseSpanExporter) -> SpanProcessor:
    return AgentPulseSpanProcessor(exporter, flush_interval=60)


WAYS = pytest.mark.parametrize("behind", [by_stock, SimpleSpanProcessor, by_ours])


def call(provider: TracerProvider, name: str = "chat gpt-4o") -> None:
    provider.get_tracer("program").start_span(name, attributes=CALL).end()


def story(provider: TracerProvider) -> None:
    with agentpulse.session("day"), agentpulse.agent("clerk"):
        call(provider)


@pytest.fixture
def init(strict_receiver: Receiver, provider: TracerProvider) -> Callable[..., Any]:
    def init(**options: Any) -> Any:
        given = {"api_key": KEY, "endpoint": strict_receiver.url, "auto_patch": False, **options}
        return agentpulse.init(heartbeat_interval=0, tracer_provider=provider, **given)

    return init


@pytest.fixture
def others(strict_receiver: Receiver) -> Iterator[list[AgentPulseSpanExporter]]:
    """Two exporters with the destination of `init`."""
    exporters = [AgentPulseSpanExporter(KEY, strict_receiver.url) for _ in range(2)]
    yield exporters
    for exporter in exporters:
        exporter.shutdown()


def kinds(receiver: Receiver) -> list[str]:
    return sorted(event["kind"] for event in receiver.events)


EACH_ONCE = [
    *("cost", "llm_call", "sdk_init", "session", "session"),
    *("span_end", "span_start", "span_start"),
]


@WAYS
def test_an_exporter_that_was_there_before_stands_aside(
    behind: Any, init: Any, others: Any, provider: TracerProvider, strict_receiver: Receiver
) -> None:
    provider.add_span_processor(behind(others[0]))
    init()
    story(provider)
    assert provider.force_flush()
    assert kinds(strict_receiver) == EACH_ONCE
    assert others[0].stats().ended == 0
    # sdk_init, the start and the end of the session and of the agent, the call.
    assert agentpulse.stats().accepted == 6


@WAYS
def test_exporters_that_are_added_afterwards_stand_aside(
    behind: Any, init: Any, others: Any, provider: TracerProvider, strict_receiver: Receiver
) -> None:
    init()
    for exporter in others:
        provider.add_span_processor(behind(exporter))
    story(provider)
    assert provider.force_flush()
    assert kinds(strict_receiver) == EACH_ONCE
    assert [exporter.stats().ended for exporter in others] == [0, 0]


def test_what_waited_when_init_came_is_told_of_once(
    init: Any, others: Any, provider: TracerProvider, strict_receiver: Receiver
) -> None:
    provider.add_span_processor(by_stock(others[0]))
    call(provider, "before")
    open_meanwhile = provider.get_tracer("program").start_span("across", attributes=CALL)
    init()
    open_meanwhile.end()
    call(provider, "after")
    assert provider.force_flush()
    told = [event["data"]["name"] for event in strict_receiver.of_kind("llm_call")]
    assert sorted(told) == ["across", "after", "before"]
    assert others[0].stats().ended == 1


def test_after_shutdown_the_other_exporter_goes_on_and_repeats_nothing(
    init: Any, others: Any, provider: TracerProvider, strict_receiver: Receiver
) -> None:
    provider.add_span_processor(by_stock(others[0]))
    init()
    call(provider, "during")
    open_meanwhile = provider.get_tracer("program").start_span("across", attributes=CALL)
    assert agentpulse.shutdown()
    open_meanwhile.end()
    call(provider, "after")
    assert provider.force_flush()
    told = [event["data"]["name"] for event in strict_receiver.of_kind("llm_call")]
    assert sorted(told) == ["across", "after", "during"]
    assert others[0].stats().ended == 2


def test_a_second_init_is_again_the_one_that_tells(
    init: Any, others: Any, provider: TracerProvider, strict_receiver: Receiver
) -> None:
    provider.add_span_processor(by_stock(others[0]))
    for name in ("first", "second"):
        init()
        call(provider, name)
        assert agentpulse.shutdown()
    assert provider.force_flush()
    told = [event["data"]["name"] for event in strict_receiver.of_kind("llm_call")]
    assert told == ["first", "second"]


def test_what_ends_while_ours_stops_is_the_other_exporters(
    init: Any, others: Any, provider: TracerProvider, strict_receiver: Receiver
) -> None:
    provider.add_span_processor(by_stock(others[0]))
    client = init()
    client._pipeline.processor.stop(5)  # as `shutdown` does, before it leaves the provider
    call(provider, "meanwhile")
    assert agentpulse.shutdown()
    assert provider.force_flush()
    told = [event["data"]["name"] for event in strict_receiver.of_kind("llm_call")]
    assert told == ["meanwhile"]
    assert "after_shutdown" not in client.stats().dropped


def test_another_key_is_another_destination(
    init: Any, others: Any, provider: TracerProvider, strict_receiver: Receiver
) -> None:
    provider.add_span_processor(by_stock(others[0]))
    init(api_key="ap_another_0123456789")
    call(provider)
    assert provider.force_flush()
    assert len(strict_receiver.of_kind("llm_call")) == 2


def test_other_processors_see_the_session_when_a_span_starts(
    init: Any, provider: TracerProvider
) -> None:
    seen: list[object] = []

    class Looking(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append(span.attributes.get("session.id"))

    provider.add_span_processor(Looking())
    init()
    with agentpulse.session("day") as session:
        provider.get_tracer("program").start_span("GET /").end()
        assert seen[-1] == session.id
    agentpulse.shutdown()
    assert [type(each) for each in provider._active_span_processor._span_processors] == [Looking]


BY_VARIABLES = """
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure(auto_instrumentation_version="0.66b1")
import agentpulse
from opentelemetry import trace
agentpulse.init()
with agentpulse.session("day"):
    trace.get_tracer("program").start_span("chat", attributes={
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}).end()
"""


def test_the_exporter_that_opentelemetry_was_configured_with_stands_aside() -> None:
    with Receiver() as receiver:
        environ = {
            **os.environ,
            "OTEL_TRACES_EXPORTER": "agentpulse",
            "OTEL_METRICS_EXPORTER": "none",
            "AGENTPULSE_ENDPOINT": receiver.url,
            "AGENTPULSE_API_KEY": KEY,
        }
        done = processes.run([sys.executable, "-W", "error", "-c", BY_VARIABLES], env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert kinds(receiver).count("llm_call") == 1
    assert kinds(receiver).count("session") == 2
