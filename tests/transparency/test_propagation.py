"""No trace context travels to providers by our doing; what the user's own libraries send stays."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest
from agentpulse_instrumentation import instrument
from fakes.provider import FakeProvider
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider

SPOKEN: list[Any] = [{"role": "user", "content": "What is new?"}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": SPOKEN}
MESSAGE: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": SPOKEN}
HEADERS = {"traceparent", "tracestate", "baggage", "b3", "x-b3-traceid"}


def trace_headers(provider: FakeProvider) -> list[set[str]]:
    """Of each request, the headers that carry a trace context."""
    sent = [HEADERS & {name.lower() for name in request.headers} for request in provider.requests]
    provider.requests.clear()
    return sent


def make_calls(provider: FakeProvider) -> None:
    with (
        openai.OpenAI(api_key="x", base_url=provider.openai_url) as chat,
        anthropic.Anthropic(api_key="x", base_url=provider.anthropic_url) as messages,
    ):
        chat.chat.completions.create(**CHAT)
        list(chat.chat.completions.create(**CHAT, stream=True))
        chat.chat.completions.with_raw_response.create(**CHAT)
        messages.messages.create(**MESSAGE)
        list(messages.messages.create(**MESSAGE, stream=True))
        with messages.messages.stream(**MESSAGE) as stream:
            list(stream)


async def amake_calls(provider: FakeProvider) -> None:
    async with (
        openai.AsyncOpenAI(api_key="x", base_url=provider.openai_url) as chat,
        anthropic.AsyncAnthropic(api_key="x", base_url=provider.anthropic_url) as messages,
    ):
        await chat.chat.completions.create(**CHAT)
        await messages.messages.create(**MESSAGE)


@pytest.mark.parametrize("where", ["our provider alone", "the global provider"])
def test_no_trace_context_is_sent_to_a_provider(
    where: str, provider: FakeProvider, spans: Any
) -> None:
    if where == "the global provider":
        trace.set_tracer_provider(spans.provider)
        instrument()
    else:
        instrument(tracer_provider=spans.provider)
    token = context.attach(baggage.set_baggage("user", "ada"))
    try:
        with spans.provider.get_tracer("program").start_as_current_span("work"):
            make_calls(provider)
            asyncio.run(amake_calls(provider))
    finally:
        context.detach(token)
    assert len(spans) == 9
    assert trace_headers(provider) == [set()] * 8


@pytest.mark.skipif(
    not hasattr(anthropic._base_client.BaseClient, "_set_open_telemetry"),
    reason="anthropic makes spans of its own since 1.14",
)
def test_a_client_that_is_reported_to_trace_itself_sends_what_it_sends_without_us(
    provider: FakeProvider, spans: Any
) -> None:
    def call() -> list[set[str]]:
        theirs = TracerProvider(shutdown_on_exit=False)
        client = anthropic.Anthropic(
            api_key="x",
            base_url=provider.anthropic_url,
            open_telemetry={"tracer_provider": theirs},
        )
        with client:
            client.messages.create(**MESSAGE)
        return trace_headers(provider)

    without = call()
    instrument(tracer_provider=spans.provider)
    assert call() == without == [{"traceparent"}]
